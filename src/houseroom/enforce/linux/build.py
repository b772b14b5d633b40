"""Carry out the mount steps of a plan, inside the new namespaces and before any command exists.

Everything is attached to the sandbox's own mount namespace, by descriptor or by a single name from inside its directory: no symbolic
link that somebody put in the way leads a mount elsewhere. Nothing is created on the host's file systems; a mount point that is
missing is made only on the private tmpfs.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from stat import S_ISDIR

from houseroom.enforce.linux import mount_sys as mount
from houseroom.enforce.linux import process_sys
from houseroom.enforce.linux.limits_sys import raise_open_files, restore_open_files
from houseroom.enforce.linux.socket_sys import add_address, listening, loopback_up
from houseroom.errors import SetupFailed
from houseroom.plan import steps as plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from houseroom.enforce.linux.host_sockets import HostSockets

_PLAIN = mount.NOSUID | mount.NODEV
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_DEVICES = (b"null", b"zero", b"full", b"random", b"urandom", b"tty")
_DEVICE_LINKS = {b"fd": b"/proc/self/fd", b"stdin": b"fd/0", b"stdout": b"fd/1", b"stderr": b"fd/2", b"ptmx": b"pts/ptmx"}


class Build:
    """The state between mount steps: opened sources, the private tmpfs, what is sealed at the end."""

    def __init__(self, steps: Sequence[plan.Step], authorities: bytes = b""):
        self.steps, self.authorities = steps, authorities
        self.sources: dict[str, int] = {}
        self.area = ""
        self.count = 0
        self.sealed: list[bytes] = []
        self.area_device = 0
        self.own_devices: set[int] = set()  # file systems on which nothing of the host shows
        self.attic = self.proc = self.masks = -1
        self.devices: dict[bytes, int] = {}
        self.host_sockets: HostSockets | None = None  # that may be connected to
        self.listeners: tuple[int, ...] = ()  # passed out: the egress proxy's for host names by UDP and TCP, for all else; the network
        self.actions: dict[type[plan.Step], tuple[str, Callable[..., None]]] = {
            plan.Namespaces: ("enter a network namespace for", enter_network),
            plan.Root: ("build the root from", self._root),
            plan.Area: ("make the private tmpfs", self._area),
            plan.Loopback: ("bring up", loopback),
            plan.Egress: ("listen for", self._egress),
            plan.Publish: ("pass out the network for", self._publish),
            plan.Resolver: ("put a file over", self._resolver),
            plan.Trust: ("put the authorities over", self._trust),
            plan.Devices: ("build", self._devices),
            plan.Proc: ("mount", self._proc),
            plan.Private: ("make private", self._private),
            plan.Scratch: ("lay a scratch layer over", self._scratch),
            plan.Bind: ("bind", self._bind),
            plan.Mask: ("mask", self._mask),
            plan.Siblings: ("mask and bind names in", self._siblings),
        }

    def run(self) -> None:
        """All mount steps in the plan's order. Raises SetupFailed naming the step that the kernel refused."""
        former = raise_open_files()
        for step in self.steps:
            self._carry_out(step)
        for path in reversed(self.sealed):
            mount.set_read_only(path)
        self._retire_area()
        restore_open_files(former)

    def _carry_out(self, step: plan.Step) -> None:
        if type(step) not in self.actions:
            return
        doing, action = self.actions[type(step)]
        try:
            action(step)
        except SetupFailed:
            raise
        except OSError as error:
            raise SetupFailed(doing, subject_of(step), error.errno or 0, error.strerror or str(error)) from error

    def _retire_area(self) -> None:
        """From now on init itself reaches only the masks, read-only: /proc/1 leads nowhere that is writable."""
        os.close(self.attic)

    def _root(self, step: plan.Root) -> None:
        mount.make_private()
        tree = mount.open_tree(b"/")
        mount.mount_setattr(tree, on=mount.RDONLY | _PLAIN)
        _enter(tree)
        # The kernel makes a new /proc only where one is in sight already, and an empty root has none. The outer one, cloned
        # here, is read-only as the whole root is.
        fresh = any(isinstance(later, plan.Proc) and later.fresh for later in self.steps)
        self.proc = mount.new_mount("proc", {}, _PLAIN | mount.NOEXEC) if fresh else mount.open_tree(b"/proc")
        self.devices = {name: mount.open_tree(b"/dev/" + name) for name in _DEVICES if os.path.exists(b"/dev/" + name)}
        for later in self.steps:
            if isinstance(later, plan.Socket):
                self._keep_socket(later)
            if isinstance(later, plan.Bind) and later.covered:
                self.sources[later.path] = mount.clone(os.fsencode(later.path), link=later.link)
        if step.base == "empty":
            _enter(mount.new_mount("tmpfs", {"mode": "0755"}, _PLAIN))
            self.own_devices.add(os.stat("/").st_dev)
            for name in ("proc", "dev"):
                os.mkdir(f"/{name}", 0o755)
            self.sealed.append(b"/")

    def _keep_socket(self, step: plan.Socket) -> None:
        from houseroom.enforce.linux.host_sockets import HostSockets  # few policies let any through

        self.host_sockets = self.host_sockets or HostSockets()
        try:
            self.host_sockets.keep(step)
        except OSError as error:
            hint = "It was there a moment ago: begin again."
            raise SetupFailed("let through", step.path, error.errno or 0, error.strerror or str(error), hint) from None

    def _area(self, step: plan.Area) -> None:
        options = {"mode": "0755", **({"size": str(step.size)} if step.size else {})}
        tree = mount.new_mount("tmpfs", options, _PLAIN)
        # /proc is there on every Linux and gets its own mount later: until then it holds the private area.
        mount.move_mount(tree, b"/proc")
        os.close(tree)
        self.area = "/proc"
        self.area_device = os.stat("/proc").st_dev
        self.own_devices.add(self.area_device)
        os.mkdir("/proc/kept")
        os.mkdir("/proc/masks")
        os.mkdir("/proc/masks/dir", 0o000)
        os.close(os.open("/proc/masks/file", os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o000))
        tree = mount.open_tree(b"/proc/masks", recursive=False)
        mount.mount_setattr(tree, on=_PLAIN | mount.NOEXEC | mount.RDONLY)
        mount.move_mount(tree, b"/proc/masks")
        os.close(tree)
        self.masks = os.open("/proc/masks", _DIRECTORY)

    def _fresh(self, mode: int) -> int:
        """A new directory of the private area as a detached, writable mount."""
        self.count += 1
        path = f"{self.area}/{self.count}"
        os.mkdir(path)
        os.chmod(path, mode)
        return mount.open_tree(os.fsencode(path), recursive=False)

    def _attach(self, tree: int, path: str, *, directory: bool = True, link: bool = False) -> None:
        raw = os.fsencode(path)
        try:
            mount.move_mount(tree, raw, link=link)
        except FileNotFoundError:
            _make_mount_point(raw, directory=directory)
            mount.move_mount(tree, raw, link=link)
        os.close(tree)

    def _egress(self, step: plan.Egress) -> None:
        add_address(step.address)
        self.listeners = (
            listening(step.address, step.dns, datagrams=True),
            listening(step.address, step.dns),
            listening(step.address, step.port),
        )

    def _publish(self, _step: plan.Publish) -> None:
        self.listeners += (os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC),)

    def _resolver(self, step: plan.Resolver) -> None:
        """Over the file itself: its name may be a link into a directory that is empty here."""
        self._lay(step.content.encode(), os.path.realpath(step.path))

    def _trust(self, step: plan.Trust) -> None:
        self._lay(self.authorities, *step.paths)

    def _lay(self, content: bytes, *paths: str) -> None:
        """A file of our own over these, read-only."""
        self.count += 1
        path = f"{self.area}/{self.count}"
        with open(path, "xb") as file:
            file.write(content)
        for each in paths:
            tree = mount.open_tree(os.fsencode(path), recursive=False)
            mount.mount_setattr(tree, on=_PLAIN | mount.NOEXEC | mount.RDONLY)
            self._attach(tree, each, directory=False)

    def _private(self, step: plan.Private) -> None:
        self._attach(self._fresh(step.mode), step.path)

    def _scratch(self, step: plan.Scratch) -> None:
        self.count += 1
        work = f"{self.area}/{self.count}"
        os.mkdir(work)
        os.mkdir(work + "/upper", 0o755)
        os.mkdir(work + "/work", 0o755)
        found = os.stat(step.path)
        os.chmod(work + "/upper", found.st_mode & 0o7777)
        os.chdir(step.path)  # a colon in the path would end it as an option; "." has none
        try:
            options = {"lowerdir": ".", "upperdir": work + "/upper", "workdir": work + "/work", "userxattr": ""}
            tree = mount.new_mount("overlay", options, _PLAIN)
        finally:
            os.chdir("/")
        self._attach(tree, step.path)

    def _bind(self, step: plan.Bind) -> None:
        tree = self.sources.pop(step.path, -1)
        place = mount.open_path(os.fsencode(step.path), link=step.link) if tree < 0 else -1
        if place >= 0:
            tree = mount.open_tree_at(place, recursive=True)
        if step.write:
            mount.mount_setattr(tree, on=_PLAIN, off=mount.RDONLY)
        else:
            mount.mount_setattr(tree, on=_PLAIN | mount.RDONLY)
        if place < 0:
            self._attach(tree, step.path, directory=S_ISDIR(os.fstat(tree).st_mode), link=step.link)
            return
        mount.attach(tree, place)  # over the very thing that was cloned
        os.close(tree)
        os.close(place)

    def _mask(self, step: plan.Mask) -> None:
        if step.kind == "dir" and step.hollow:
            self._attach(self._fresh(0o711), step.path)
            self.sealed.append(os.fsencode(step.path))
            return
        tree = self.new_mask(step.kind)
        try:
            mount.move_mount(tree, os.fsencode(step.path))
        except FileNotFoundError:
            # Gone since the host was asked; below a directory of our own it was never there, and must not come into being.
            roots = [f"{other.path}/" for other in self.steps if isinstance(other, plan.Bind) and other.write]
            if any(step.path.startswith(root) for root in roots):
                raise  # another sandbox may have moved it: where it is now, it would show
            parent = os.path.dirname(step.path)
            if self._is_own(parent):
                _make_mount_point(os.fsencode(step.path), directory=step.kind == "dir")
                mount.move_mount(tree, os.fsencode(step.path))
            elif not os.path.exists(parent):
                raise
        os.close(tree)

    def _is_own(self, path: str) -> bool:
        """Whether a directory, which need not exist, is in the private area."""
        while not os.path.exists(path):
            path = os.path.dirname(path)
        return os.stat(path).st_dev == self.area_device

    def _siblings(self, step: plan.Siblings) -> None:
        """All masks and read-only binds in one directory. What can't be done in a row is done, or refused, by itself."""
        files, directories, kept = self._in_a_row(step)
        for name in files:
            self._carry_out(plan.Mask(_child(step.directory, name), "file", ""))
        for name in directories:
            self._carry_out(plan.Mask(_child(step.directory, name), "dir", ""))
        for name in kept:
            self._carry_out(plan.Bind(_child(step.directory, name), write=False, why=""))

    def _in_a_row(self, step: plan.Siblings) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
        """One call a name: what is mounted comes from the current directory, and where it goes is below the root, which is the
        siblings' own directory meanwhile. So paths are single names, and one that has become a link leads nowhere outside.

        Returns what could not be mounted: everything, where the directory is gone or chroot(2) is refused.
        """
        left: tuple[Sequence[str], Sequence[str], Sequence[str]] = (step.files, step.directories, step.kept)
        try:
            directory = mount.open_path(os.fsencode(step.directory))
        except OSError:
            return left
        root = os.open("/", _DIRECTORY)
        if _become_root(directory):
            try:
                kept = self._keep(directory, step.kept) if step.kept else ()  # first: the clone holds what is mounted there
                os.fchdir(self.masks)
                left = (_bind_all(step.files, b"file"), _bind_all(step.directories, b"dir"), kept)
            finally:
                os.fchdir(root)
                os.chroot(b".")
        os.close(root)
        os.close(directory)
        return left

    def _keep(self, directory: int, names: Sequence[str]) -> list[str]:
        """Bind names in a directory that is the root. They come from a read-only clone of it, so they are read-only from the start."""
        tree = mount.open_tree_at(directory, recursive=True)
        mount.mount_setattr(tree, on=_PLAIN | mount.RDONLY)
        mount.attach(tree, self.attic, b"kept")  # only what is attached can be bound
        os.fchdir(tree)
        os.close(tree)
        failed = _bind_all(names)
        os.fchdir(self.attic)
        mount.detach(b"kept")
        return failed

    def new_mask(self, kind: str) -> int:
        """A detached clone of the empty, unreadable, read-only directory or file."""
        return mount.open_tree_at(self.masks, kind.encode())

    def _devices(self, _step: plan.Devices) -> None:
        self._attach(self._fresh(0o755), "/dev")
        for name, tree in self.devices.items():
            path = b"/dev/" + name
            os.close(os.open(path, os.O_CREAT | os.O_CLOEXEC, 0o666))
            mount.mount_setattr(tree, on=mount.NOSUID | mount.NOEXEC, off=mount.RDONLY | mount.NODEV)
            mount.move_mount(tree, path)
            os.close(tree)
        for name, target in _DEVICE_LINKS.items():
            os.symlink(target, b"/dev/" + name)
        for name in (b"pts", b"shm", b"mqueue"):
            os.mkdir(b"/dev/" + name)
        os.chmod("/dev/shm", 0o1777)  # noqa: S103 — as on any system, and on a private tmpfs
        terminals = mount.new_mount("devpts", {"newinstance": "", "ptmxmode": "0666", "mode": "0620"}, mount.NOSUID | mount.NOEXEC)
        mount.move_mount(terminals, b"/dev/pts")
        os.close(terminals)
        try:
            queues = mount.new_mount("mqueue", {}, _PLAIN | mount.NOEXEC)
        except OSError:
            os.rmdir("/dev/mqueue")  # a kernel without POSIX message queues
            return
        mount.move_mount(queues, b"/dev/mqueue")
        os.close(queues)

    def _proc(self, step: plan.Proc) -> None:
        self.attic = os.open(self.area, _DIRECTORY)
        mount.move_mount(self.proc, b"/proc")
        os.close(self.proc)
        # From here on the private area is reached through its descriptor; its mount lies under /proc for good.
        self.area = f"/proc/self/fd/{self.attic}"
        if step.fresh:
            _forbid_namespaces()  # in the outer /proc it can't be written; the filter remains
        for name in step.read_only:
            raw = b"/proc/" + name.encode()
            if os.path.exists(raw):
                tree = mount.open_tree(raw)
                mount.mount_setattr(tree, on=mount.RDONLY)
                mount.move_mount(tree, raw)
                os.close(tree)
        if step.fresh:  # root inside could write what is ours: how the kernel ranks us when memory ends
            own = mount.open_tree(b"/proc/1", recursive=False)
            mount.mount_setattr(own, on=mount.RDONLY)
            mount.move_mount(own, b"/proc/1")
            os.close(own)
        for name in step.masked:
            path = f"/proc/{name}"
            if os.path.exists(path):
                self._attach(self.new_mask("file"), path)


def enter_network(step: plan.Namespaces) -> None:
    """The last of the namespaces: init was born into that of users and processes, and entered the others when it asked the kernel."""
    if step.network:
        process_sys.unshare(process_sys.CLONE_NEWNET)


def loopback(_step: plan.Loopback) -> None:
    """Bring the new network namespace's only interface up."""
    loopback_up()


def subject_of(step: plan.Step) -> str:
    """What a step is about, in an error."""
    return str(getattr(step, "path", "") or getattr(step, "directory", "") or type(step).__name__.lower())


def _become_root(directory: int) -> bool:
    try:
        os.fchdir(directory)
        os.chroot(b".")
    except OSError:
        os.chdir("/")
        return False
    return True


def _child(directory: str, name: str) -> str:
    return f"{'' if directory == '/' else directory}/{name}"


def _bind_all(names: Sequence[str], source: bytes = b"") -> list[str]:
    """Bind one source, or what has the same name in the current directory, to each name in the root; returns what failed."""
    failed = []
    for name, raw in zip(names, os.fsencode("\0".join(names)).split(b"\0")):
        try:
            mount.bind(source or raw, b"/" + raw)
        except OSError:
            failed.append(name)
    return failed


def _enter(tree: int) -> None:
    """A detached mount becomes the root."""
    mount.move_mount(tree, b"/")
    os.fchdir(tree)
    mount.pivot_into_cwd()
    os.close(tree)


def _make_mount_point(path: bytes, *, directory: bool) -> None:
    """Make a missing mount point; only on the private tmpfs is anything writable by then."""
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    if directory:
        os.mkdir(path, 0o755)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))


def _forbid_namespaces() -> None:
    """No user namespace below ours (user_namespaces(7)): a second answer besides the system call filter.

    Mount namespaces can't be forbidden so: every open_tree(2) clone, which init needs, counts as one.
    """
    try:
        fd = os.open("/proc/sys/user/max_user_namespaces", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # a kernel without the sysctl; the filter remains
    try:
        os.write(fd, b"0")
    finally:
        os.close(fd)
