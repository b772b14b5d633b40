"""The mechanisms of a host as it answered for them, and for each missing one what a person types to get it."""

from __future__ import annotations

import os

from houseroom.plan import landlock
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from houseroom.plan.facts import Host

WORKS: Final = "works"
MISSING: Final = "missing"
UNUSED: Final = "unused"

_KINDS = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
_USERNS_SWITCH = "kernel.unprivileged_userns_clone"  # Debian's and Arch's patch
_APPARMOR_SWITCH = "kernel.apparmor_restrict_unprivileged_userns"  # Ubuntu from 23.10 on
_WATCHES, _QUEUES = "fs.inotify.max_user_watches", "fs.inotify.max_user_instances"
_SETTINGS = (_USERNS_SWITCH, _APPARMOR_SWITCH, _WATCHES, _QUEUES, *(f"user.max_{kind}_namespaces" for kind in _KINDS))
_FEW_WATCHES = 8192  # the kernel's default up to 5.10: fewer directories than many a repository has
_MANY_WATCHES = 524288

_CONTAINERS = (("/.dockerenv", "Docker"), ("/run/.containerenv", "Podman"), ("/var/run/secrets/kubernetes.io", "Kubernetes"))
_INSTALLERS = (
    ("apt-get", "sudo apt install bubblewrap"),
    ("dnf", "sudo dnf install bubblewrap"),
    ("pacman", "sudo pacman -S bubblewrap"),
    ("zypper", "sudo zypper install bubblewrap"),
    ("apk", "sudo apk add bubblewrap"),
)

_CONTAINER_NAMESPACES = """\
# This is a container; its engine decides. Start it with:
docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined …
# Podman: --security-opt seccomp=unconfined --security-opt unmask=ALL
# Kubernetes: securityContext with seccompProfile.type: Unconfined and procMount: Unmasked"""

_SCOPE = """\
# Where systemd runs your session, in a scope whose control groups are yours:
systemd-run --user --scope -p Delegate=yes houseroom run …"""

_UNFILTERED = "docker run --security-opt seccomp=unconfined …"

_APPARMOR = """\
# AppArmor keeps ordinary users from making namespaces. One of these is enough.
# Let the system's bubblewrap do it, where AppArmor has a profile for it:
{bubblewrap}
# Or let this interpreter do it, which lets every program written in it:
sudo tee /etc/apparmor.d/houseroom <<'END'
abi <abi/4.0>,
include <tunables/global>
profile houseroom {python} flags=(unconfined) {{
  userns,
}}
END
sudo apparmor_parser -r /etc/apparmor.d/houseroom
# Or lift the restriction for everybody:
{sysctl}"""


class Check(Record):
    """One finding. ``state``: works | missing | unused (nothing to try, not needed, or opened by the policy).

    ``said`` is one line in words. ``fix`` is for a person's shell: commands, and remarks that start with ``#``.
    """

    name: str
    state: str
    said: str
    fix: str = ""


class Surroundings(Record):
    """What a host says about itself that explains a refusal. ``settings``: sysctl name → its text, where it exists."""

    settings: dict[str, str] = {}
    container: str = ""  # the engine's name, "" outside of one
    modules: tuple[str, ...] | None = None  # active security modules, None where that can't be read
    bubblewrap: str = ""  # path of an installed bwrap, whether it starts or not
    install: str = ""  # the command that installs it here
    python: str = "/usr/bin/python3"


def look_around() -> Surroundings:
    """Read a few small files; nothing is tried."""
    import shutil
    import sys

    modules = _text("/sys/kernel/security/lsm")
    return Surroundings(
        settings={name: text for name in _SETTINGS if (text := _text(f"/proc/sys/{name.replace('.', '/')}")) is not None},
        container=next((name for path, name in _CONTAINERS if os.path.exists(path)), ""),
        modules=None if modules is None else tuple(modules.split(",")),
        bubblewrap=shutil.which("bwrap") or "",
        install=next((command for tool, command in _INSTALLERS if shutil.which(tool)), ""),
        python=os.path.realpath(sys.executable or "/usr/bin/python3"),
    )


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def mechanisms(host: Host, around: Surroundings) -> tuple[Check, ...]:
    """One check a mechanism, in the order in which a sandbox needs them. Pure: says what ``host`` answered, tries nothing."""
    return (
        _namespaces(host, around),
        _mounts(host, around),
        _proc(host, around),
        _overlay(host),
        _landlock(host, around),
        _plain("seccomp", host.seccomp, "system call filters", _seccomp_fix(around)),
        _plain("notify", host.notify, "a filter hands calls to init, which carries them out", _notify_fix(host, around)),
        _plain("unix_diag", host.sock_diag, "tells sockets made inside from sockets made outside", "sudo modprobe unix_diag"),
        _inotify(host, around),
        _bubblewrap(host, around),
        *_wsl(host),
    )


def groups(host: Host, around: Surroundings, *, wanted: bool) -> Check:
    """Whether the kernel counts for all that is inside. ``wanted``: the policy limits memory or processes."""
    had = {"memory": host.cgroup_memory, "processes": host.cgroup_pids}
    if all(had.values()):
        return Check("cgroup", WORKS, "; ".join(f"{what} of all together: version {version[1:]}" for what, version in had.items()))
    if not wanted:
        return Check("cgroup", UNUSED, f"not needed: the policy limits neither memory nor processes ({host.cgroup})")
    return Check("cgroup", MISSING, f"{host.cgroup}, so init counts itself", _groups_fix(host, around))


def _groups_fix(host: Host, around: Surroundings) -> str:
    if around.container:
        return "# A container's engine keeps control groups to itself. Limit the container:\ndocker run --memory 4g --pids-limit 512 …"
    if "v1" in host.cgroup:
        boot = "systemd.unified_cgroup_hierarchy=1"
        return f"# Version 1 lets only root limit memory. Version 2 comes with this on the kernel's command line:\n{boot}\n{_SCOPE}"
    return _SCOPE if host.uid else "# This group has processes of its own, so none can be made below it. Start houseroom in another one."


def _plain(name: str, reason: str, said: str, fix: str) -> Check:
    return Check(name, MISSING, reason, fix) if reason else Check(name, WORKS, said)


def _namespaces(host: Host, around: Surroundings) -> Check:
    said = "user, mount, pid, network, ipc, uts and cgroup in one call"
    return _plain("namespaces", host.namespaces, said, namespace_fix(host, around))


def namespace_fix(host: Host, around: Surroundings) -> str:
    """What to type where namespaces are refused: every cause that is seen, or where to look."""
    settings = around.settings
    causes = []
    if settings.get(_USERNS_SWITCH) == "0" and host.uid:
        causes.append(set_and_keep(_USERNS_SWITCH, "1"))
    causes += [set_and_keep(name, "15000") for kind in _KINDS if settings.get(name := f"user.max_{kind}_namespaces") == "0"]
    if settings.get(_APPARMOR_SWITCH) not in (None, "0") and host.uid:
        bubblewrap = around.install or "# install bubblewrap"
        causes.append(_APPARMOR.format(bubblewrap=bubblewrap, python=around.python, sysctl=set_and_keep(_APPARMOR_SWITCH, "0")))
    if around.container:
        where = ["# These belong to the machine that runs this container:"] if causes else []
        causes = [*where, *causes, _CONTAINER_NAMESPACES]
    if causes:
        return "\n".join(causes)
    return (
        "# No switch that we know of is off. The kernel may be built without user namespaces (this should say =y):\n"
        "grep CONFIG_USER_NS= /boot/config-$(uname -r)\n"
        "# Or a filter or security module above us refuses them: a container, a service manager's RestrictNamespaces=, a chroot."
    )


def set_and_keep(name: str, value: str) -> str:
    """Set a sysctl now and for every later boot."""
    file = f"/etc/sysctl.d/60-houseroom-{name.rpartition('.')[2].replace('_', '-')}.conf"
    return f"sudo sysctl -w {name}={value}\necho '{name} = {value}' | sudo tee {file}"


def _mounts(host: Host, around: Surroundings) -> Check:
    if host.namespaces:
        return Check("mounts", UNUSED, "can't be tried without namespaces")
    old = "# open_tree, move_mount and mount_setattr came with Linux 5.12. This is " + host.release
    fix = old if "implemented" in host.mounts else namespace_fix(host, around)
    return _plain("mounts", host.mounts, "a file tree of its own, by the mount API of Linux 5.12", fix)


def _proc(host: Host, around: Surroundings) -> Check:
    if host.namespaces:
        return Check("proc", UNUSED, "can't be tried without namespaces")
    fix = (
        "# Parts of /proc are covered, so the kernel gives out no whole one. Start the container with:\n"
        "docker run --security-opt systempaths=unconfined …\n"
        "# Podman: --security-opt unmask=ALL. Kubernetes: securityContext with procMount: Unmasked"
    )
    if not around.container:
        fix = "# Something is mounted over parts of /proc, so the kernel gives out no whole one. This shows what:\nfindmnt -R /proc"
    return _plain("proc", host.proc, "a fresh /proc that shows only the sandbox's processes", fix)


def _overlay(host: Host) -> Check:
    if host.namespaces:
        return Check("overlay", UNUSED, "can't be tried without namespaces")
    fix = "sudo modprobe overlay\n# For ordinary users it needs Linux 5.11. Without it caches are read-only inside."
    return _plain("overlay", host.overlay, "overlayfs: caches are seen, writes to them dropped", fix)


def _landlock(host: Host, around: Surroundings) -> Check:
    if host.landlock_abi > 0:
        lost = landlock.lacks(host.landlock_abi)
        return Check("landlock", WORKS, f"ABI {host.landlock_abi}" + (f", which lacks: {'; '.join(lost)}" if lost else ""))
    if around.modules is not None and "landlock" not in around.modules:
        others = ",".join(around.modules)
        fix = (
            "# If the kernel has it (this should say =y) it is only not switched on:\n"
            "grep CONFIG_SECURITY_LANDLOCK= /boot/config-$(uname -r)\n"
            "# Then put this on the kernel's command line (GRUB_CMDLINE_LINUX in /etc/default/grub, then sudo update-grub) and reboot:\n"
            f"lsm=landlock,{others}"
        )
    else:
        fix = f"# It came with Linux 5.13. This is {host.release}."
        if around.container:
            fix += f"\n# An old container engine refuses its calls. Start the container with:\n{_UNFILTERED}"
    return Check("landlock", MISSING, "this kernel has none, or it is not switched on", fix)


def _seccomp_fix(around: Surroundings) -> str:
    if around.container:
        return f"# The container's own filter refuses ours. Start it with:\n{_UNFILTERED}"
    return "# The kernel needs CONFIG_SECCOMP_FILTER (this should say =y):\ngrep CONFIG_SECCOMP /boot/config-$(uname -r)"


def _notify_fix(host: Host, around: Surroundings) -> str:
    if "ptrace_scope" in host.notify:
        return set_and_keep("kernel.yama.ptrace_scope", "1")
    if around.container:
        return _seccomp_fix(around)
    return (
        f"# It came with Linux 5.5 to 5.9 (this is {host.release}), and a task can have only one listener: "
        "not below a program that uses it too."
    )


def _inotify(host: Host, around: Surroundings) -> Check:
    found = around.settings.get(_WATCHES, "")
    watches = int(found) if found.isdecimal() else host.inotify_watches
    if around.settings.get(_QUEUES) == "0":
        return Check("inotify", MISSING, f"{_QUEUES} is 0", set_and_keep(_QUEUES, "128"))
    if watches < _FEW_WATCHES:
        said = f"{watches} watches: not every directory of a larger workspace can be watched"
        return Check("inotify", MISSING, said, set_and_keep(_WATCHES, str(_MANY_WATCHES)))
    return Check("inotify", WORKS, f"{watches} watches, one for each directory of the workspace")


def _bubblewrap(host: Host, around: Surroundings) -> Check:
    if host.bubblewrap:
        return Check("bubblewrap", WORKS, f"{host.bubblewrap} starts")
    if not host.namespaces and not host.mounts:
        return Check("bubblewrap", UNUSED, "not needed: own namespaces work")
    if around.bubblewrap:
        fix = "# What helps namespaces helps it: see there."
        return Check("bubblewrap", MISSING, f"{around.bubblewrap} can't make namespaces either", fix)
    return Check("bubblewrap", MISSING, "not installed", around.install or "# Install the package bubblewrap.")


def _wsl(host: Host) -> tuple[Check, ...]:
    match host.wsl:
        case 1:
            fix = "# In PowerShell; DISTRO as `wsl --list` spells it:\nwsl --set-version DISTRO 2"
            return (Check("wsl", MISSING, "WSL 1 has no Linux kernel to enforce anything", fix),)
        case 2:
            return (Check("wsl", WORKS, "WSL 2, a Linux kernel of its own"),)
    return ()
