"""A control group of the sandbox's own: one ceiling of memory, and one of processes, over everything inside (cgroups(7)).

The supervisor makes it, puts init into it before init has its order, and removes it at the end. Version 2 where the wanted
controllers can be had below a directory that is ours to write: our own group, or the one above it where ours has processes,
since a group with processes can't hand controllers down. Version 1 hierarchy by hierarchy. What the kernel did in our name
(processes ended for memory, forks refused) is read from the group afterwards: ``Group.hits``.

A process inside can't leave the group: /sys/fs/cgroup is read-only there, and clone3(2), which could do without writing, is
refused by the filter. Where a policy grants writing there, ``plan.coverage`` says so.

A directory whose supervisor was killed stays behind, empty, and is removed by the next start: the lock on it (flock(2)) ends
with its holder.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import os
from errno import EBUSY, ENOENT, EOPNOTSUPP
from fcntl import LOCK_EX, LOCK_NB, flock
from time import monotonic, sleep

from houseroom.errors import SetupFailed
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MEMORY, PIDS = "memory", "pids"
V1, V2 = "v1", "v2"
ROOT = "/sys/fs/cgroup"  # hierarchies mounted elsewhere are not looked at: what a sandbox may write there nobody would notice
_PREFIX = "houseroom-"
_TOKEN = 8  # bytes of chance in a name
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PATIENCE = 3.0  # seconds for what was killed to be gone
_TRIES = 16  # a name that a sweep took meanwhile

# What is written for a limit, in this order; the second only where the kernel counts swap at all.
_CEILINGS = {
    (V2, MEMORY): ("memory.max", "memory.swap.max"),
    (V1, MEMORY): ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
    (V2, PIDS): ("pids.max",),
    (V1, PIDS): ("pids.max",),
}
# Limits of the group that we leave by going beside it: they hold for the sandbox too.
_CARRIED = ("memory.max", "memory.high", "memory.swap.max", "pids.max", "cpu.max", "io.max", "cpuset.cpus", "cpuset.mems")


class Place(Record):
    """Where a group of ours can be made, and by what version. ``beside``: our own group, whose limits are to hold there too."""

    version: str
    directory: str
    beside: str = ""


class Mount(Record):
    """One mounted hierarchy: what of it is mounted, where, and its controllers, none for version 2."""

    root: str
    point: str
    version: str
    controllers: frozenset[str]


def ask(*, memory: int, processes: int) -> dict[str, str]:
    """What a group with these limits (0: none) could hold here, tried by making one: fields of ``plan.facts.Host``."""
    found, reason = find(_wanted(memory, processes))
    swap = ""
    try:
        with make(memory if MEMORY in found else 0, processes if PIDS in found else 0) as group:
            if MEMORY in found and not group.counts_swap and _swaps():
                swap = "this kernel does not count swap by group"
    except SetupFailed as failure:
        found, reason = {}, failure.strerror or str(failure)
    versions = {controller: place.version for controller, place in found.items()}
    return {"cgroup_memory": versions.get(MEMORY, ""), "cgroup_pids": versions.get(PIDS, ""), "cgroup": reason, "cgroup_swap": swap}


def find(controllers: Iterable[str]) -> tuple[dict[str, Place], str]:
    """Where each controller can be used, and why one of them can't ("" where all can)."""
    own = own_groups(_read("/proc/self/cgroup"), mounts(_read("/proc/self/mountinfo")))
    modern, offered = _modern(own.get("", ()))
    found: dict[str, Place] = {}
    reason = ""
    for controller in controllers:
        if modern is not None and controller in offered and _handed_down(modern.directory, controller):
            found[controller] = modern
        elif controller in own and _writable(own[controller][0]):
            found[controller] = Place(V1, own[controller][0])
        elif controller in own:
            reason = "cgroup v1 is not ours to write"
        elif controller in offered:
            reason = "cgroup v2 is not delegated to us"
        else:
            reason = f"no hierarchy of control groups that is mounted below {ROOT} has {controller}"
    return found, reason


def mounts(mountinfo: str) -> list[Mount]:
    """The hierarchies in the text of /proc/self/mountinfo (proc_pid_mountinfo(5)) that are mounted below ``ROOT``."""
    out = []
    for line in mountinfo.splitlines():
        front, _, back = line.partition(" - ")
        root, point = front.split(" ")[3:5]
        kind, _, options = back.split(" ", 2)
        if kind not in ("cgroup", "cgroup2") or "\\" in root + point or not (point == ROOT or point.startswith(f"{ROOT}/")):
            continue
        version = V2 if kind == "cgroup2" else V1
        out.append(Mount(root, point, version, frozenset(options.split(",")) if version == V1 else frozenset()))
    return out


def own_groups(cgroup: str, mounted: list[Mount]) -> dict[str, tuple[str, str]]:
    """Our directory and its hierarchy's mount point by controller, "" for version 2, from the text of /proc/self/cgroup."""
    out: dict[str, tuple[str, str]] = {}
    for line in cgroup.splitlines():
        number, names, path = line.split(":", 2)
        for controller in names.split(","):
            version = V1 if controller else V2
            if number != "0" and not controller:
                continue
            for mount in mounted:
                below = _below(path, mount.root)
                if mount.version == version and (version == V2 or controller in mount.controllers) and below is not None:
                    out[controller] = (f"{mount.point}{below}", mount.point)
    return out


def _below(path: str, root: str) -> str | None:
    """The rest of a group's path under the group that is mounted; None for one outside, as seen from another cgroup namespace."""
    root = root.rstrip("/")
    if ".." in path.split("/") or not (path == root or path.startswith(f"{root}/")):
        return None
    return path[len(root) :].rstrip("/")


def _modern(own: tuple[str, ...]) -> tuple[Place | None, list[str]]:
    """Where a group of version 2 can be made, with the controllers that are there in principle.

    A group with processes, such as ours, hands no controllers down, and to make it hand down what it may (pids) would change
    its type for all who are in it. Only the first group of all, which has no type, is free of that.
    """
    if not own:
        return None, []
    directory, top = own
    place = Place(V2, directory)
    if os.path.exists(f"{directory}/cgroup.type"):
        place = Place(V2, os.path.dirname(directory), directory)
    offered = _read(f"{place.directory}/cgroup.controllers").split()
    outside = place.beside == top  # above it there is nothing that we could see
    populated = os.path.exists(f"{place.directory}/cgroup.type") and bool(_read(f"{place.directory}/cgroup.procs"))
    return (None if outside or populated or not _writable(place.directory) else place), offered


def _writable(directory: str) -> bool:
    """Whether groups can be made in it and processes moved below it; a read-only mount says no to root too."""
    return all(os.access(path, os.W_OK, effective_ids=True) for path in (directory, f"{directory}/cgroup.procs"))


def _handed_down(directory: str, controller: str) -> bool:
    """Whether groups below have the controller, after asking for it where it was not on."""
    switch = f"{directory}/cgroup.subtree_control"
    if controller not in _read(switch).split():
        try:
            _write(switch, f"+{controller}")
        except OSError:
            return False
    return True


def make(memory: int, processes: int) -> Group:
    """A new group with these limits, bytes and a number, 0 for none. Raises SetupFailed where one of them can't be had."""
    wanted = _wanted(memory, processes)
    found, reason = find(wanted)
    if len(found) < len(wanted):
        raise SetupFailed("make", "a control group", 0, reason, "Run `houseroom doctor`.")
    group = Group()
    try:
        for directory in dict.fromkeys(place.directory for place in found.values()):
            _sweep(directory)
            group.add(directory)
        for controller, place in found.items():
            group.limit(controller, place, wanted[controller])
    except OSError as error:
        group.remove()
        raise SetupFailed("make", "a control group", error.errno or 0, error.strerror or str(error), "Run `houseroom doctor`.") from None
    except BaseException:
        group.remove()
        raise
    return group


class Group:
    """Groups of one name, one for each hierarchy in use; ``with`` it they are removed in the end."""

    def __init__(self) -> None:
        self.directories: dict[str, tuple[str, int]] = {}  # by parent, with the descriptor whose lock says that we are alive
        self.counted: dict[str, tuple[str, str]] = {}  # by controller: version, directory
        self.counts_swap = True
        self._last: dict[tuple[str, str], int] = {}

    def add(self, parent: str) -> None:
        """Make our directory in another one. Raises OSError."""
        for _ in range(_TRIES):
            path = f"{parent}/{_PREFIX}{os.urandom(_TOKEN).hex()}"
            os.mkdir(path, 0o700)
            try:
                descriptor = _hold(path)
            except FileNotFoundError:
                continue
            if descriptor >= 0:
                self.directories[parent] = path, descriptor
                return
        raise OSError(EBUSY, os.strerror(EBUSY))

    def limit(self, controller: str, place: Place, value: int) -> None:
        """Set a ceiling, or a lower one that held where we come from. Raises OSError."""
        path, _ = self.directories[place.directory]
        if place.beside:
            for name in _CARRIED:
                _carry(f"{place.beside}/{name}", f"{path}/{name}")
        first, *swap = _CEILINGS[place.version, controller]
        present = _read(f"{path}/{first}").strip()
        if not present.isdecimal() or int(present) > value:
            _write(f"{path}/{first}", str(value))
        if place.version == V2 and _read(f"{path}/cgroup.type").strip() != "domain":
            raise OSError(EOPNOTSUPP, os.strerror(EOPNOTSUPP))  # of threads only: no process could be put into it
        for name in swap:
            self.counts_swap = os.path.exists(f"{path}/{name}")
            if self.counts_swap:
                _write(f"{path}/{name}", "0" if place.version == V2 else str(value))
        self.counted[controller] = place.version, path

    def place(self, pid: int) -> None:
        """Put a process, and with it all that it will ever start, into the group. Raises SetupFailed."""
        for path, _ in self.directories.values():
            try:
                _write(f"{path}/cgroup.procs", str(pid))
            except OSError as error:
                raise SetupFailed("put the sandbox into", "its control group", error.errno or 0, error.strerror or str(error)) from None

    def hits(self) -> dict[tuple[str, str], int]:
        """What ``hits`` says of this group; also after its end."""
        if self.directories:
            self._last = hits(self.counted)
        return self._last

    def kill(self) -> None:
        """Kill every process in the group; they may take a moment to be gone."""
        for path, _ in self.directories.values():
            try:
                _write(f"{path}/cgroup.kill", "1")  # version 2, Linux 5.14
            except OSError:
                _kill_each(path)

    def remove(self) -> None:
        """Read the last hits and remove the group, with whatever is left in it. What can't be removed yet, the next start removes."""
        self.hits()
        end = monotonic() + _PATIENCE
        for path, descriptor in self.directories.values():
            pause = 0.0005
            while not _gone(path) and monotonic() < end:
                self.kill()
                sleep(pause)
                pause = min(2 * pause, 0.05)
            os.close(descriptor)
        self.directories = {}

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def hits(counted: Mapping[str, tuple[str, str]]) -> dict[tuple[str, str], int]:
    """What the kernel did because of which limit, and how often: ("limits.memory", "ended"), ("limits.processes", "refused").

    ``counted`` as a group has it: by controller, version and directory. Any process of ours may ask.
    """
    found = {}
    if MEMORY in counted:
        found["limits.memory", "ended"] = _ended(*counted[MEMORY])
    if PIDS in counted:
        found["limits.processes", "refused"] = _table(f"{counted[PIDS][1]}/pids.events").get("max", 0)
    return found


def _ended(version: str, path: str) -> int:
    """None where our limit was never near: the whole host's want of memory ends processes too."""
    if version == V2:
        events = _table(f"{path}/memory.events")
        return events.get("oom_kill", 0) if events.get("max", 0) else 0
    limit, most = (int(_read(f"{path}/memory.{name}") or 0) for name in ("limit_in_bytes", "max_usage_in_bytes"))
    return _table(f"{path}/memory.oom_control").get("oom_kill", 0) if most > limit * 0.9 else 0  # failcnt stays 0 in Linux 6.18


def _wanted(memory: int, processes: int) -> dict[str, int]:
    return {controller: value for controller, value in ((MEMORY, memory), (PIDS, processes)) if value}


def _hold(path: str) -> int:
    """Take the lock that says whose a group is; -1 where a sweep was faster. Raises FileNotFoundError where it has removed it."""
    descriptor = os.open(path, _DIRECTORY)
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
        if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except BlockingIOError:
        os.close(descriptor)
        return -1
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return -1


def _sweep(parent: str) -> None:
    """Remove groups of ours whose supervisor is gone. One that still has processes stays: rmdir(2) refuses it."""
    for name in os.listdir(parent):
        path = f"{parent}/{name}"
        if len(name.removeprefix(_PREFIX)) != 2 * _TOKEN or len(name) != len(_PREFIX) + 2 * _TOKEN:
            continue
        try:
            descriptor = _hold(path) if os.lstat(path).st_uid == os.geteuid() else -1
        except OSError:
            continue  # another sweep's
        if descriptor >= 0:
            _gone(path)
            os.close(descriptor)


def _gone(path: str) -> bool:
    """Whether a group is removed now."""
    try:
        os.rmdir(path)
    except OSError as error:
        return error.errno == ENOENT
    return True


def _kill_each(path: str) -> None:
    """For kernels without cgroup.kill. A number may pass to another process meanwhile, so it is held first and looked up again."""
    for pid in _read(f"{path}/cgroup.procs").split():
        try:
            held = os.pidfd_open(int(pid))
        except OSError:
            continue
        try:
            if pid in _read(f"{path}/cgroup.procs").split():
                _signal.pidfd_send_signal(held, _signal.SIGKILL)
        except OSError:
            continue
        finally:
            os.close(held)


def _carry(source: str, target: str) -> None:
    for line in _read(source).splitlines():
        if line and not line.startswith("max"):
            _write(target, line)


def _swaps() -> bool:
    return len(_read("/proc/swaps").splitlines()) > 1


def _table(path: str) -> dict[str, int]:
    """A flat keyed file: "name number" a line."""
    pairs = (line.split(" ") for line in _read(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _read(path: str) -> str:
    """A file's text; "" where there is none to be had."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _write(path: str, text: str) -> None:
    """One write(2), as these files want it. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
