"""What this host is and can do: asked once by ``enforce``, an argument to everything that decides.

An empty string as a reason means "works"; otherwise it says in words what the host answered.
"""

from __future__ import annotations

from houseroom.policy.record import Record

DIRECTORY, FILE, LINK, SOCKET, FIFO, DEVICE, MISSING = "dir", "file", "link", "socket", "fifo", "device", "missing"


class Entry(Record):
    """One path of the host as it was found. ``path`` has its parents resolved; ``real`` is where it leads in the end."""

    path: str
    kind: str
    real: str = ""


class Host(Record):
    """Mechanisms of the kernel and the system, each with the reason it does not work ("" where it does).

    Probed by doing, not by reading version numbers: containers and security modules change the answer.
    """

    release: str  # uname -r
    machine: str  # x86_64 | aarch64
    uid: int
    gid: int
    namespaces: str = ""  # user, mount, pid, network, ipc, uts and cgroup namespaces in one clone(2)
    mounts: str = ""  # open_tree(2), move_mount(2), mount_setattr(2): Linux 5.12
    proc: str = ""  # a fresh /proc in the new pid namespace; masked in many containers
    overlay: str = ""  # overlayfs in a user namespace: Linux 5.11
    landlock_abi: int = 0  # 0: none
    seccomp: str = ""  # seccomp(2) filters
    notify: str = ""  # seccomp user notification with a listener of our own: Linux 5.5 for CONTINUE, 5.9 for ADDFD
    sock_diag: str = ""  # unix_diag over NETLINK_SOCK_DIAG: tells a socket made inside from one made outside
    inotify_watches: int = 8192
    bubblewrap: str = ""  # path of a bwrap that starts, "" where there is none
    wsl: int = 0  # 0, 1 or 2
    cgroup_memory: str = ""  # v1 or v2: the control groups by which the memory of all inside can be limited; asked only where wanted
    cgroup_pids: str = ""  # the same for their number
    cgroup: str = "not asked"  # why one of the two can't be had
    cgroup_swap: str = ""  # why swap is not counted with the memory
    authorities: tuple[str, ...] = ()  # files of certificate authorities; asked only where connections are looked into
    terminal: bool = False  # standard output or error is one; asked only where output is limited


class Tree(Record):
    """What was found of the paths the policy speaks about.

    ``named``: for each literal path of a rule that exists, or that must, what is there now. ``found``: matches of patterns
    with wildcards inside the writable roots. ``watched``: literal paths outside them whose parent exists, so that they can
    appear. ``fifos``: FIFOs there, which no mount stops from being written. ``gitfiles``: files called .git. ``secrets``:
    device and inode of hidden files, by which a further name of them is known. ``aliases``: further paths of the same
    files: link targets, resolved parents, hard links. ``incomplete`` says where the search could not look.
    """

    named: dict[str, Entry] = {}
    found: tuple[Entry, ...] = ()
    watched: tuple[str, ...] = ()
    fifos: tuple[str, ...] = ()
    gitfiles: tuple[str, ...] = ()
    secrets: tuple[tuple[int, int], ...] = ()
    aliases: dict[tuple[str, ...], tuple[tuple[str, ...], ...]] = {}
    incomplete: tuple[str, ...] = ()


class Facts(Record):
    """All that a plan is made from, besides the policy."""

    host: Host
    tree: Tree
