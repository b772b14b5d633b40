"""What a plan is made of: steps in the order in which they are carried out, each with its reason.

The steps are data. ``enforce`` carries them out, ``--dry-run`` prints them, golden tests compare them. All paths are
absolute and mean the same inside and outside.
"""

from __future__ import annotations

from houseroom.policy.record import Record


class Step(Record):
    """One thing to do. ``why`` is the reason shown to a person; ``rule`` the policy rule it enforces, if one."""


class Cgroup(Step):
    """A control group of the sandbox's own that init is put into before it begins. Bytes and a number; 0: not limited by it."""

    memory: int
    processes: int
    why: str


class Namespaces(Step):
    """clone(2) with new namespaces; uid and gid map to themselves.

    ``network`` False shares the host's network; ``pid`` False its process ids (where a fresh /proc can't be had).
    """

    network: bool
    pid: bool
    why: str


class Root(Step):
    """The new root: ``host`` is a recursive read-only, nosuid, nodev clone of ``/``; ``empty`` a tmpfs skeleton."""

    base: str
    why: str


class Area(Step):
    """The private tmpfs that holds every private and scratch directory. ``size`` in bytes, 0: half of the memory."""

    size: int
    why: str


class Private(Step):
    """A directory of the sandbox's own on its private tmpfs, created if missing in a private parent."""

    path: str
    mode: int
    why: str
    rule: str = ""


class Scratch(Step):
    """An overlay: the host's directory below, writes on the private tmpfs."""

    path: str
    why: str
    rule: str = ""


class Bind(Step):
    """The host's own file or directory at its own path, writable or read-only.

    ``link`` True: the path is a symbolic link and the link itself is pinned, so that it can't be replaced.
    ``covered`` True: an earlier step hides the source, so it must be opened before the first mount.
    """

    path: str
    write: bool
    why: str
    rule: str = ""
    link: bool = False
    covered: bool = False


class Mask(Step):
    """An empty, unreadable file or directory over a path. ``hollow`` True: a later step mounts something inside it."""

    path: str
    kind: str  # dir | file
    why: str
    rule: str = ""
    hollow: bool = False


class Siblings(Step):
    """How many masks and read-only binds of names in one directory travel to init: in no plan, made by ``siblings.gather``.

    ``files`` and ``directories`` are names to mask, ``kept`` names to bind read-only. None is hollow, a link or covered.
    """

    directory: str
    files: tuple[str, ...]
    directories: tuple[str, ...]
    kept: tuple[str, ...]


class Devices(Step):
    """A minimal /dev: null, zero, full, random, urandom, tty, its own devpts and /dev/shm."""

    why: str


class Proc(Step):
    """A /proc of the new pid namespace, or the outer one where ``fresh`` is False. The others are paths below it."""

    fresh: bool
    read_only: tuple[str, ...]
    masked: tuple[str, ...]
    why: str


class Loopback(Step):
    """Bring the new network namespace's loopback up."""

    why: str


class Egress(Step):
    """The way out through the egress proxy: sockets that listen in the sandbox's own network, and are accepted outside.

    ``address`` is put on the loopback, where ``dns`` (UDP and TCP) and ``port`` (everything else, ``egress.PREAMBLE``) listen.
    """

    address: str
    dns: int
    port: int
    why: str


class Publish(Step):
    """A process of ours on the host takes connections to ``ports`` of its loopback and makes them to the same ones of the sandbox's.

    init passes its network out; nothing listens inside for it, and nothing of it is inside.
    """

    ports: tuple[int, ...]
    why: str


class Socket(Step):
    """A socket of the host at ``path`` that commands may connect to; init connects them.

    ``kept``: the directory from which init looks its path up anew for each connection, or the path itself: the very socket alone.
    """

    path: str
    kept: str
    why: str
    rule: str = ""


class Resolver(Step):
    """A file of the sandbox's own over ``path`` that names the one server that answers for host names."""

    path: str
    content: str
    why: str


class Trust(Step):
    """The authorities that programs inside trust: one file over all these ``paths``. Its content is each sandbox's own, and comes with
    the order to build: among them is the authority of the proxy that looks into connections."""

    paths: tuple[str, ...]
    why: str


class Tally(Step):
    """init adds up what all processes hold, and how many they are. Over ``memory`` bytes it ends the largest, over so many
    ``processes`` all; 0: not limited by it.

    ``areas``: directories on file systems that live in memory and are the sandbox's own.
    """

    memory: int
    processes: int
    areas: tuple[str, ...]
    why: str


class Lock(Step):
    """Per-process locks in their order: rlimits, capabilities, securebits, no_new_privs."""

    rlimits: dict[str, int]
    why: str


class Landlock(Step):
    """Allowed rights by path, of those that are handled; scopes always are, TCP only where ``network`` is False.

    Landlock can't allow all ports, so where the sandbox has a network namespace of its own TCP is left to that.
    """

    rules: tuple[tuple[str, tuple[str, ...]], ...]  # (path, names of rights in plan.landlock)
    handled: tuple[str, ...]
    abi: int
    network: bool
    why: str


class Seccomp(Step):
    """A filter program assembled by ``plan.seccomp``. ``mediated`` calls are carried out by init on the caller's behalf.

    ``observe``: what init takes note of besides, and lets continue.
    """

    program: str  # command | init
    network: str  # none | open | refused
    mediated: bool
    why: str
    observe: str = "off"  # off | denials | executions | all


class Mediate(Step):
    """What init checks when it creates a directory entry or connects a Unix socket for a command.

    ``roots``: writable roots of the host. ``rules``: for each stratum (pattern, access) pairs, the deciding one first.
    ``pinned``: protected paths, existing or not, whose ancestors must stay where they are. ``proxy``: address and port that connections
    to anywhere else are handed to, where there is a way out.
    """

    roots: tuple[str, ...]
    rules: tuple[tuple[tuple[str, str], ...], ...]
    pinned: tuple[str, ...]
    why: str
    proxy: tuple[str, int] | None = None


class Watch(Step):
    """What init watches, and masks or pins again when the host replaces or creates it.

    ``rules`` as in Mediate, for the writable ``roots``, every directory of which is watched; ``hidden`` are single paths
    elsewhere; ``secrets`` are device and inode of hidden files, which the host may give a further name.
    """

    roots: tuple[str, ...]
    rules: tuple[tuple[tuple[str, str], ...], ...]
    hidden: tuple[str, ...]
    secrets: tuple[tuple[int, int], ...]
    why: str


class Covered(Record):
    """Coverage of one rule: ``state`` is enforced, partly or missing; ``by`` names mechanisms; ``loses`` what is not stopped."""

    rule: str  # files.read, files.write, files.protect, files.hide, environment, network, processes, limits.time …
    state: str
    by: tuple[str, ...] = ()
    loses: tuple[str, ...] = ()


class Plan(Record):
    """Steps in order, what they cover, and the rung of the ladder they stand on."""

    rung: str  # namespaces | bubblewrap | landlock
    steps: tuple[Step, ...]
    coverage: tuple[Covered, ...]
