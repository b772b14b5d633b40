"""Calls that the kernel can't judge by name are carried out by init on the caller's behalf.

Commands have no Landlock right to make directory entries in the host's writable roots, so letting such a call *continue*
can never make one: continuing is safe whatever the caller does to its memory meanwhile. What init itself does, it does
with its own copy of the arguments. Therefore:

* open(O_CREAT): init makes the file if its name may exist, and the caller gets init's descriptor of it. Were the call to continue, its
  O_TRUNC would cut a file that is there, for which ext4 writes to the disk at once (ext4(5), auto_da_alloc). What is there already the
  call opens itself.
* mkdir, rename, link, symlink, mknod: init does them and returns the result.
* connect, sendto with an address: init does them on a copy of the caller's socket (pidfd_getfd(2)), and for a socket on
  a path only if that socket was made inside the sandbox or the policy names it.

One call at a time: between a check and its act no other mediated call can slip in. seccomp_unotify(2), landlock(7).
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _socket
import os
from errno import EACCES, EADDRINUSE, EBADF, ECONNREFUSED, EEXIST, EINVAL, EMSGSIZE, ENOENT, ENOTDIR, EPERM, EXDEV
from stat import S_ISDIR, S_ISFIFO, S_ISLNK, S_ISSOCK

from houseroom.enforce.linux import seccomp_sys, socket_sys
from houseroom.enforce.linux.borrowed import Borrowed, Later, process_field, socket_path
from houseroom.enforce.linux.memory_sys import read_memory, read_string
from houseroom.enforce.linux.mount_sys import openat2, renameat2
from houseroom.enforce.linux.names import Names, Place, Refused
from houseroom.policy.pattern import components

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from houseroom.enforce.linux.host_sockets import HostSockets
    from houseroom.enforce.linux.observe import Observer
    from houseroom.enforce.linux.outward import WayOut
    from houseroom.plan.steps import Mediate

_AT_FDCWD = 0xFFFFFF9C
_AT_EMPTY_PATH, _AT_SYMLINK_FOLLOW = 0x1000, 0x400
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_LINKS = 16
_NO_MAGIC_LINKS = 0x02  # openat2(2)
_LONGEST_ADDRESS = 128  # sizeof(struct sockaddr_storage)


class Continue(Exception):
    """The kernel's own answer is the right one: nothing would be created, or it fails by itself."""


class Mediator:
    """Answers the notifications of one sandbox. Lives in init, which shares the sandbox's root and process ids."""

    def __init__(self, step: Mediate, numbers: dict[str, int], umask: int, listener: int, made_fifos: set[tuple[int, int]]):
        self.listener, self.step, self.umask, self.made_fifos = listener, step, umask, made_fifos
        self.observer: Observer | None = None
        self._names: Names | None = None
        self._way_out: WayOut | None = None
        self.host_sockets: HostSockets | None = None  # that the policy lets through
        self.masks_differ = self.retrying = False
        self.waiting: list[tuple[int, int, int, tuple[int, ...]]] = []
        self.diag = socket_sys.open_diag()
        table: dict[str, Callable[[int, tuple[int, ...]], tuple[int, ...]]] = {
            "open": lambda pid, a: self._open(pid, _AT_FDCWD, a[0], a[1], a[2]),
            "creat": lambda pid, a: self._open(pid, _AT_FDCWD, a[0], os.O_CREAT | os.O_WRONLY | os.O_TRUNC, a[1]),
            "openat": lambda pid, a: self._open(pid, a[0], a[1], a[2], a[3]),
            "openat2": self._openat2,
            "mkdir": lambda pid, a: self._mkdir(pid, _AT_FDCWD, a[0], a[1]),
            "mkdirat": lambda pid, a: self._mkdir(pid, a[0], a[1], a[2]),
            "mknod": lambda pid, a: self._mknod(pid, _AT_FDCWD, a[0], a[1]),
            "mknodat": lambda pid, a: self._mknod(pid, a[0], a[1], a[2]),
            "symlink": lambda pid, a: self._symlink(pid, a[0], _AT_FDCWD, a[1]),
            "symlinkat": lambda pid, a: self._symlink(pid, a[0], a[1], a[2]),
            "link": lambda pid, a: self._link(pid, _AT_FDCWD, a[0], _AT_FDCWD, a[1], 0),
            "linkat": lambda pid, a: self._link(pid, a[0], a[1], a[2], a[3], a[4]),
            "rename": lambda pid, a: self._rename(pid, _AT_FDCWD, a[0], _AT_FDCWD, a[1], 0),
            "renameat": lambda pid, a: self._rename(pid, a[0], a[1], a[2], a[3], 0),
            "renameat2": lambda pid, a: self._rename(pid, a[0], a[1], a[2], a[3], a[4]),
            "bind": lambda pid, a: self._bind(pid, a[0], a[1], a[2]),
            "connect": lambda pid, a: self._connect(pid, a[0], a[1], a[2]),
            "sendto": self._sendto,
            "umask": self._umask,
        }
        self.table = {numbers[name]: action for name, action in table.items() if name in numbers}

    @property
    def names(self) -> Names:
        """Made when the first name is asked for: many a command creates none."""
        if self._names is None:
            self._names = Names(self.step)
        return self._names

    def serve(self) -> None:
        """Answer one waiting notification."""
        try:
            id_, pid, _flags, number, _arch, _ip, *arguments = seccomp_sys.receive(self.listener)
        except OSError:
            return  # the caller died, or a signal came in between
        self._answer(id_, pid, number, tuple(arguments))

    def retry(self) -> None:
        """Try again what would have blocked, for callers that still wait."""
        waiting, self.waiting, self.retrying = self.waiting, [], True
        for id_, pid, number, arguments in waiting:
            if seccomp_sys.still_waiting(self.listener, id_):
                self._answer(id_, pid, number, arguments)
        self.retrying = False

    def _answer(self, id_: int, pid: int, number: int, arguments: tuple[int, ...]) -> None:
        if self.observer is not None and number not in self.table:
            self.observer.note(pid, number, arguments)
            seccomp_sys.let_continue(self.listener, id_)
            return
        try:
            value = self._carry_out(pid, number, arguments)
        except Continue:
            seccomp_sys.let_continue(self.listener, id_)
        except Later:
            self.waiting.append((id_, pid, number, arguments))
        except OSError as error:
            seccomp_sys.answer(self.listener, id_, errno=error.errno or EPERM)
        except (KeyError, ValueError, OverflowError):
            seccomp_sys.answer(self.listener, id_, errno=EINVAL)
        else:
            if len(value) == 2:
                fd, flags = value
                seccomp_sys.answer_with_descriptor(self.listener, id_, fd, flags=flags)
                os.close(fd)
            else:
                seccomp_sys.answer(self.listener, id_, value=value[0])

    def _carry_out(self, pid: int, number: int, arguments: tuple[int, ...]) -> tuple[int, ...]:
        """Do it, and let the observer note what comes of it: never what is to come of it."""
        observer = self.observer
        if observer is None:
            return self.table[number](pid, arguments)
        try:
            value = self.table[number](pid, arguments)
        except Continue:
            observer.note(pid, number, arguments)
            raise
        except OSError as error:
            observer.note(pid, number, arguments, error)
            raise
        observer.note(pid, number, arguments, done=True)
        return value

    # Paths

    def _place(self, pid: int, dirfd: int, address: int, *, directory: bool = False) -> Place:
        """Parent and name of a path to be created; a trailing slash is for directories only. Raises OSError, Continue."""
        path = read_string(pid, address)
        if not path:
            raise OSError(ENOENT, "empty path")
        bare = path.rstrip(b"/") if directory else path
        try:
            return self._place_of(reach(pid, dirfd, bare), slash=bare != path)
        except FileNotFoundError:
            if path[:1] != b"/" and not os.path.lexists(_prefixed(pid, dirfd, b"")[:-1]):
                raise OSError(EBADF, "no such descriptor") from None
            raise

    def _place_of(self, path: bytes, *, slash: bool = False) -> Place:
        parent, _, name = path.rpartition(b"/")
        if name in (b"", b".", b".."):
            raise Continue
        return Place(os.open(parent + b"/" if parent or path[:1] == b"/" else b".", _DIRECTORY), name, slash=slash)

    def _checked(self, place: Place) -> Place:
        try:
            if self.names.suspicious(place.name):
                self.names.check_created(place)
        except Refused:
            # What is there may be gone in an instant, so it is never a reason to go on; only to say what the kernel would.
            there = place.has(place.name)
            place.close()
            if there:
                raise FileExistsError(EEXIST, "exists") from None
            raise
        except OSError:
            place.close()
            raise
        return place

    def _mode(self, pid: int, mode: int) -> int:
        return mode & 0o3777 & ~(_umask_of(pid) if self.masks_differ else self.umask)

    # Creating

    def _open(self, pid: int, dirfd: int, address: int, flags: int, mode: int) -> tuple[int, ...]:
        flags &= 0xFFFFFFFF
        if not flags & os.O_CREAT:
            raise Continue  # it is only observed
        path = read_string(pid, address)
        full = reach(pid, dirfd, path)
        for _ in range(_LINKS):
            parent, _, name = full.rpartition(b"/")
            if name in (b"", b".", b"..") or len(name) > 255:
                raise Continue
            if self.names.suspicious(name):
                return self._open_suspicious(pid, parent, name, flags, mode)
            made = self._make(full, flags, self._mode(pid, mode))
            if made is not None:
                return made
            # Something is there: only a dangling symbolic link still has anything to create.
            target = _link_target(full) if not flags & (os.O_EXCL | os.O_NOFOLLOW) else b""
            if not target:
                raise Continue
            full = target if target[:1] == b"/" else parent + b"/" + target
        raise Continue

    def _open_suspicious(self, pid: int, parent: bytes, name: bytes, flags: int, mode: int) -> tuple[int, ...]:
        try:
            place = Place(os.open(parent + b"/", _DIRECTORY), name)
        except OSError:
            raise Continue from None
        return self._open_in(pid, place, flags, mode)

    def _open_in(self, pid: int, place: Place, flags: int, mode: int) -> tuple[int, ...]:
        """Create a file in a directory held by descriptor, after looking at where that is."""
        try:
            inside = b"/proc/self/fd/%d/%s" % (place.parent, place.name)
            if place.has(place.name):
                raise Continue
            self.names.check_created(place)
            made = self._make(inside, flags, self._mode(pid, mode))
            if made is None:
                raise Continue
            return made
        finally:
            place.close()

    def _make(self, path: bytes, flags: int, mode: int) -> tuple[int, ...] | None:
        """Create a regular file, as a descriptor and its flag for the caller; None where something is already there."""
        if flags & (os.O_DIRECTORY | os.O_PATH):
            raise Continue
        try:
            fd = os.open(path, flags & ~os.O_TRUNC | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        except FileExistsError:
            return None
        except OSError:
            raise Continue from None  # the kernel gives the caller the same answer, or a better one
        return fd, flags & os.O_CLOEXEC

    def _openat2(self, pid: int, arguments: tuple[int, ...]) -> tuple[int, ...]:
        dirfd, address, how, size = arguments[:4]
        if size < 24:
            raise Continue
        raw = read_memory(pid, how, 24)
        flags, mode, resolve = (int.from_bytes(raw[at : at + 8], "little") for at in (0, 8, 16))
        if not flags & os.O_CREAT:
            raise Continue
        # The caller may have restricted how its path is resolved (RESOLVE_BENEATH …): so is ours, up to the last name.
        path = read_string(pid, address)
        parent, slash, name = path.rpartition(b"/")
        if name in (b"", b".", b".."):
            raise Continue
        try:
            base = os.open(_prefixed(pid, dirfd, b""), _DIRECTORY)
            try:
                place = Place(openat2(base, parent or slash or b".", _DIRECTORY, resolve), name)
            finally:
                os.close(base)
        except OSError:
            raise Continue from None
        return self._open_in(pid, place, flags & 0xFFFFFFFF, mode)

    def _mkdir(self, pid: int, dirfd: int, address: int, mode: int) -> tuple[int, ...]:
        place = self._checked(self._place(pid, dirfd, address, directory=True))
        try:
            os.mkdir(place.name, self._mode(pid, mode) | mode & 0o1000, dir_fd=place.parent)
        finally:
            place.close()
        return (0,)

    def _mknod(self, pid: int, dirfd: int, address: int, mode: int) -> tuple[int, ...]:
        if mode & 0o170000 not in (0, 0o100000, 0o010000, 0o140000):
            raise OSError(EPERM, "devices")
        place = self._checked(self._place(pid, dirfd, address))
        try:
            os.mknod(place.name, mode & 0o170000 | self._mode(pid, mode), dir_fd=place.parent)
            if S_ISFIFO(mode):
                made = os.lstat(place.name, dir_fd=place.parent)
                self.made_fifos.add((made.st_dev, made.st_ino))
        finally:
            place.close()
        return (0,)

    def _symlink(self, pid: int, target: int, dirfd: int, address: int) -> tuple[int, ...]:
        text = read_string(pid, target)
        place = self._checked(self._place(pid, dirfd, address))
        try:
            path = place.path()
            self.names.check_led(path)
            self.names.check_brought(path, os.path.normpath(os.path.join(os.path.dirname(path), text)))
            os.symlink(text, place.name, dir_fd=place.parent)
        finally:
            place.close()
        return (0,)

    def _link(self, pid: int, from_fd: int, source: int, to_fd: int, target: int, flags: int) -> tuple[int, ...]:
        if flags & ~(_AT_EMPTY_PATH | _AT_SYMLINK_FOLLOW):
            raise OSError(EINVAL, "flags")
        path = read_string(pid, source)
        full = reach(pid, from_fd, path) if path or not flags & _AT_EMPTY_PATH else b"/proc/%d/fd/%d" % (pid, from_fd)
        follow = bool(flags & _AT_SYMLINK_FOLLOW) or not path
        place = self._checked(self._place(pid, to_fd, target))
        try:
            self.names.check_led(place.path())
            os.link(full, place.name, dst_dir_fd=place.parent, follow_symlinks=follow)
        finally:
            place.close()
        return (0,)

    def _rename(self, pid: int, from_fd: int, source: int, to_fd: int, target: int, flags: int) -> tuple[int, ...]:
        if flags & ~(_RENAME_NOREPLACE | _RENAME_EXCHANGE):
            raise OSError(EINVAL, "flags")
        old = self._place(pid, from_fd, source, directory=True)
        try:
            new = self._place(pid, to_fd, target, directory=True)
            try:
                self._check_rename(old, new, exchange=bool(flags & _RENAME_EXCHANGE))
                renameat2(old.parent, old.name, new.parent, new.name, flags)
            finally:
                new.close()
        finally:
            old.close()
        return (0,)

    def _check_rename(self, old: Place, new: Place, *, exchange: bool) -> None:
        source, target = old.path(), new.path()
        if (old.slash or new.slash) and not S_ISDIR(os.lstat(old.name, dir_fd=old.parent).st_mode):
            raise OSError(ENOTDIR, "a slash behind what is no directory")
        for path in (source, target):
            self.names.check_led(path)
        if exchange or S_ISDIR(os.lstat(old.name, dir_fd=old.parent).st_mode):
            self.names.check_brought(target, source)
            if self.names.verdicts.crosses(components(os.fsdecode(target)), components(os.fsdecode(source))):
                raise OSError(EXDEV, "copy it instead: each name is looked at")
        if exchange:
            self.names.check_brought(source, target)
        if self.names.suspicious(new.name):
            self.names.check_created(new)
        if exchange and self.names.suspicious(old.name):
            self.names.check_created(old)

    def _umask(self, _pid: int, _arguments: tuple[int, ...]) -> tuple[int, ...]:
        self.masks_differ = True
        raise Continue

    # Sockets

    def _bind(self, pid: int, fd: int, address: int, length: int) -> tuple[int, ...]:
        """bind(2) with the caller's own bytes, so that its name reads as it was given; unix(7)."""
        raw = read_memory(pid, address, length & 0xFFFFFFFF) if length & 0xFFFFFFFF <= _LONGEST_ADDRESS else b""
        borrowed = Borrowed(pid, fd)
        try:
            path = socket_path(borrowed, raw)
            if not path:
                borrowed.bind(raw)
                return (0,)
            self._bind_path(pid, borrowed, path, raw)
        finally:
            borrowed.close()
        return (0,)

    def _bind_path(self, pid: int, borrowed: Borrowed, path: bytes, raw: bytes) -> None:
        """The kernel will resolve the path again. No magic link may be on it: where that leads, another process could change
        meanwhile (``/proc/PID/cwd``); links and directories only init can make or move."""
        parent, slash, name = path.rpartition(b"/")
        if name in (b"", b".", b".."):
            raise OSError(EADDRINUSE, "a directory")
        cwd = os.open(b"/proc/%d/cwd" % pid, _DIRECTORY)
        try:
            place = self._checked(Place(openat2(cwd, parent or slash or b".", _DIRECTORY, _NO_MAGIC_LINKS), name))
            place.close()
            os.fchdir(cwd)
            os.umask(_umask_of(pid) if self.masks_differ else self.umask)
            borrowed.bind(raw)
        except FileExistsError:
            raise OSError(EADDRINUSE, "exists") from None
        finally:
            os.umask(0)
            os.chdir("/")
            os.close(cwd)

    def _connect(self, pid: int, fd: int, address: int, length: int) -> tuple[int, ...]:
        length &= 0xFFFFFFFF
        if length > _LONGEST_ADDRESS:
            raise OSError(EINVAL, "address too long")
        borrowed = Borrowed(pid, fd, waited=self.retrying)
        try:
            raw = read_memory(pid, address, length)
            if self.step.proxy and borrowed.domain in (_socket.AF_INET, _socket.AF_INET6):
                self.way_out(borrowed, raw)
            else:
                borrowed.connect(self._socket_address(pid, borrowed, raw))
        finally:
            borrowed.close()
        return (0,)

    @property
    def way_out(self) -> WayOut:
        """Who hands connections to the egress proxy, made for the first one."""
        if self._way_out is None:
            from houseroom.enforce.linux.outward import WayOut

            assert self.step.proxy
            self._way_out = WayOut(*self.step.proxy)
        return self._way_out

    def _sendto(self, pid: int, arguments: tuple[int, ...]) -> tuple[int, ...]:
        fd, buffer, size, flags, address, length = arguments
        if size > 1 << 20 or length & 0xFFFFFFFF > _LONGEST_ADDRESS:
            raise OSError(EMSGSIZE, "message too long")
        borrowed = Borrowed(pid, fd)
        try:
            target = self._socket_address(pid, borrowed, read_memory(pid, address, length & 0xFFFFFFFF))
            return (borrowed.sendto(read_memory(pid, buffer, size), flags & 0xFFFFFFFF, target),)
        finally:
            borrowed.close()

    def _socket_address(self, pid: int, borrowed: Borrowed, raw: bytes) -> bytes:
        """The address to use in the caller's place. Raises Refused for a path socket that was made outside."""
        path = socket_path(borrowed, raw)
        if not path:
            return raw
        held = os.open(reach(pid, _AT_FDCWD, path), os.O_PATH | os.O_CLOEXEC)
        borrowed.held = held
        found = os.fstat(held)
        if not S_ISSOCK(found.st_mode):
            raise OSError(ECONNREFUSED, "not a socket")
        allowed = self.host_sockets.opened(borrowed.sock.type, found) if self.host_sockets else -1
        if allowed >= 0:
            os.close(held)
            borrowed.held = allowed
        else:
            self._check_inside(found)
        return raw[:2] + b"/proc/self/fd/%d\0" % borrowed.held

    def _check_inside(self, found: os.stat_result) -> None:
        """Raises Refused for a path socket that was made outside."""
        if not socket_sys.bound_inside(self.diag, found.st_dev, found.st_ino):
            raise Refused(EACCES, "a socket of the host")


def reach(pid: int, dirfd: int, path: bytes) -> bytes:
    """A path by which init comes to where a path of the caller's leads it, as openat(2) would take both."""
    path = _prefixed(pid, dirfd, path)
    for own, theirs in (  # the caller's /proc/self is not ours
        (b"/proc/self/", b"/proc/%d/" % pid),
        (b"/proc/thread-self/", b"/proc/%d/" % pid),
        (b"/dev/fd/", b"/proc/%d/fd/" % pid),
    ):
        if path[: len(own)] == own:
            return theirs + path[len(own) :]
    return path


def _prefixed(pid: int, dirfd: int, path: bytes) -> bytes:
    if path[:1] == b"/":
        return path
    dirfd &= 0xFFFFFFFF
    return (b"/proc/%d/cwd/" % pid if dirfd == _AT_FDCWD else b"/proc/%d/fd/%d/" % (pid, dirfd)) + path


def _link_target(path: bytes) -> bytes:
    """Where a dangling symbolic link points, empty for anything else."""
    try:
        if not S_ISLNK(os.lstat(path).st_mode) or os.path.exists(path):
            return b""
        return os.readlink(path)
    except OSError:
        return b""


def _umask_of(pid: int) -> int:
    return int(process_field(pid, b"Umask:") or b"077", 8)
