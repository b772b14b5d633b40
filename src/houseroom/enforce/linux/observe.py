"""What commands try, noted by init: programs that start, attempts to write, and where it is asked for reading too.

A note and never a permission. Every call that is only observed *continues*, whatever was noted, and nothing that decides ever
looks here: files are guarded by mounts, Landlock and mediation, which don't ask the observer. What it reads of a caller's memory
the caller may have changed before the kernel reads it again (seccomp_unotify(2)), so what it says is as good as the caller's
word: enough to explain a failure, not to judge anything.

It tells what would be refused before the kernel says so: by the mount on which a path lies, as init sees it in the same mount
namespace, and where there are no mounts by the Landlock rules. For calls that init carries out it is told the errno.

It holds little and says nothing unless it is asked: the same thing is noted once and counted, and beyond ``MOST_DENIED`` and
``MOST_ALLOWED`` different things, or ``_MOST_BYTES`` of their paths, only their number is kept.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _socket
import os
from errno import EACCES, EBUSY, ECONNREFUSED, EHOSTUNREACH, ENETDOWN, ENETUNREACH, ENOENT, EPERM, EROFS
from stat import S_IMODE, S_ISDIR, S_ISREG

from houseroom.enforce.linux import observed
from houseroom.enforce.linux.borrowed import process_field
from houseroom.enforce.linux.memory_sys import read_memory, read_string
from houseroom.enforce.linux.names import Refused
from houseroom.plan import steps as plan
from houseroom.policy.observation import CONNECT, CREATE, EXECUTE, READ, REMOVE, WRITE, WRITING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Look = tuple[str, int, int, int]  # kind, directory descriptor, address of the path, which of the ways below

MOST_DENIED, MOST_ALLOWED = 1000, 4000  # different things, of all running commands
_MOST_BYTES = 1 << 20
_MOST_KNOWN = 20_000  # paths by which something allowed was reached

_AT_FDCWD = 0xFFFFFF9C
_PATH_ONLY = os.O_PATH | os.O_CLOEXEC
_LONGEST_ADDRESS = 128
_UNREACHABLE = (ENETUNREACH, EHOSTUNREACH, ENETDOWN)
_NOT_THERE = (ENOENT, EACCES, ECONNREFUSED)  # where a socket of the host is masked, or its directory is the sandbox's own
_OF_THE_POLICY = (EROFS, EACCES, EPERM)

# Ways to a file: what its path leads to; the same, made where it is missing; a name that is made and must be new; the name itself;
# mode, owner, times and attributes of what its path leads to, which Landlock does not govern.
_THERE, _MADE, _NEW, _NAME, _ABOUT = range(5)


class _Note:
    """One thing that was tried."""

    __slots__ = ("count", "errno", "last", "program", "words")

    def __init__(self, errno: int, words: bytes, program: bytes, last: int):
        self.errno, self.words, self.program, self.count, self.last = errno, words, program, 1, last


class Observer:
    """Takes notes for one sandbox. Lives in init.

    ``reach`` makes of a process, a directory descriptor and a path of its memory a path by which init reaches the same.
    ``whose`` says which command a process belongs to.
    """

    def __init__(
        self,
        steps: Sequence[plan.Step],
        numbers: dict[str, int],
        reach: Callable[[int, int, bytes], bytes],
        whose: Callable[[int], int] = lambda _pid: 0,
    ):
        filters = next(step for step in steps if isinstance(step, plan.Seccomp) and step.program == "command")
        self.everything, self.closed = filters.observe == "all", filters.network != "open"
        self.reach, self.whose = reach, whose
        self.notes: dict[tuple[int, str, bool, bytes], _Note] = {}  # command, kind, whether it was refused, path
        self.denied = self.bytes = self.turn = 0
        self.lost: dict[int, int] = {}
        self.known: dict[tuple[str, bytes], _Note] = {}  # by which paths something allowed was reached
        root = next((step for step in steps if isinstance(step, plan.Root)), None)
        self.bare = root is not None and root.base == "empty"
        self.writable = None if root else _landlocked(steps)
        self.looks = {numbers[name]: looks for name, looks in _LOOKS.items() if name in numbers}
        self.connects = {numbers[name]: at for name, at in (("connect", 1), ("sendto", 4)) if name in numbers}

    def note(self, pid: int, number: int, arguments: tuple[int, ...], error: OSError | None = None, *, done: bool = False) -> None:
        """A call, before it is answered. ``error``: what init will answer; ``done``: init has carried it out; else it continues."""
        try:
            if number in self.connects:
                self._connect(pid, arguments, self.connects[number], error, done=done)
                return
            if done and not self.everything:
                return
            if isinstance(error, Refused) and error.filename:
                self._keep(pid, CREATE, error.filename, error.errno or EPERM, error.strerror or "")
                return
            for kind, dirfd, address, way in self.looks[number](pid, arguments):
                path = read_string(pid, address)
                if path:
                    self._file(pid, kind, self.reach(pid, dirfd, path), way, error, done=done)
        except (OSError, KeyError):
            return  # the caller is gone, or what it wanted is nothing that could be said

    def take(self, command: int = 0) -> bytes:
        """What one command tried, for ``observed.read``, b"" where nothing was noted; it is forgotten here."""
        mine = [key for key in self.notes if key[0] == command]
        out = []
        for key in mine:
            _, kind, refused, path = key
            note = self.notes.pop(key)
            self.denied -= refused
            self.bytes -= len(path)
            out.append(observed.pack(kind, path, note.errno, note.words, note.program, note.count, note.last))
        self.known.clear()
        lost = self.lost.pop(command, 0)
        return b"".join((*out, observed.pack_lost(lost))) if out or lost else b""

    # Files

    def _file(self, pid: int, kind: str, full: bytes, way: int, error: OSError | None, *, done: bool) -> None:
        known = self.known.get((kind, full))
        if known is not None:
            self._count(known)
            return
        errno = self._foresee(kind, full, way) if error or not done else 0
        if error is not None and errno:
            errno = error.errno if error.errno in _OF_THE_POLICY else None
        writes = kind in WRITING
        governed = self.writable is not None and writes and way != _ABOUT
        if errno is None or (errno == 0 and writes and not governed and not self.everything):
            return
        real, words = _real(full, follow=way in (_THERE, _MADE, _ABOUT)), ""
        if errno == 0 and governed and not _is_below(real, self.writable or ()):
            errno, words = EACCES, "without mounts, Landlock lets nothing be written there"
        if errno or kind == EXECUTE:
            note = self._keep(pid, kind, real, errno, words)
        elif self.everything:
            note = self._keep(pid, kind, b"/proc" if real[:6] == b"/proc/" else real.rpartition(b"/")[0] or b"/", 0)
        else:
            return
        if note and not errno and not writes and not full.startswith(b"/proc/"):
            if len(self.known) >= _MOST_KNOWN:
                self.known.clear()
            self.known[kind, full] = note

    def _foresee(self, kind: str, full: bytes, way: int) -> int | None:
        """With which errno the kernel will refuse; 0 where no mount of ours does, None where it is not about access at all."""
        try:
            if kind in (READ, EXECUTE):
                return _foresee_reading(kind, os.stat(full).st_mode)
            if way in (_THERE, _ABOUT, _MADE):
                try:
                    return EROFS if _on_read_only(full) and _is_plain(full) else 0
                except FileNotFoundError:
                    if way != _MADE:
                        return None
            if way == _NEW and os.path.lexists(full):
                return None
            if _on_read_only(full.rpartition(b"/")[0] + b"/"):
                return EROFS
            replaces = way == _NAME and (kind != CREATE or os.path.lexists(full))
            return EBUSY if replaces and _is_mounted_on(full) else 0
        except PermissionError:
            return EACCES
        except FileNotFoundError:
            return ENOENT if self.bare and kind in (READ, EXECUTE) else None
        except OSError:
            return None

    # Connections

    def _connect(self, pid: int, arguments: tuple[int, ...], at: int, error: OSError | None, *, done: bool) -> None:
        raw = read_memory(pid, arguments[at], min(arguments[at + 1] & 0xFFFFFFFF, _LONGEST_ADDRESS))
        family = int.from_bytes(raw[:2], sys.byteorder)
        if family == _socket.AF_UNIX:
            if isinstance(error, Refused) or (error is not None and error.errno in _NOT_THERE):
                path = raw[2:].partition(b"\0")[0]
                full = _real(self.reach(pid, _AT_FDCWD, path)) if path else b"@" + raw[3:].rstrip(b"\0")
                self._keep(pid, CONNECT, full, error.errno or EACCES, error.strerror or "" if isinstance(error, Refused) else "")
            return
        address, port = _internet(family, raw)
        if not address:
            return
        errno = error.errno or 0 if error and error.errno in _UNREACHABLE else 0
        if self.closed and port == 53 and not errno:
            errno = ECONNREFUSED  # a name server on the host's loopback; nobody may listen on ours, which UDP learns too late
        if errno or (self.everything and done):
            self._keep(pid, CONNECT, address, errno)

    # Keeping

    def _keep(self, pid: int, kind: str, path: bytes, errno: int, words: str = "") -> _Note | None:
        """Note something new, count what is noted; None where there is no room for it."""
        if path[:1] not in (b"/", b"@") and kind != CONNECT:
            return None  # a pipe, or a file that has no name any more
        command, refused = self.whose(pid), bool(errno)
        key = (command, kind, refused, path)
        note = self.notes.get(key)
        if note is not None:
            self._count(note)
            return note
        room = self.denied < MOST_DENIED if refused else len(self.notes) - self.denied < MOST_ALLOWED
        if not room or self.bytes + len(path) > _MOST_BYTES:
            if command in self.lost or len(self.lost) < MOST_DENIED:
                self.lost[command] = self.lost.get(command, 0) + 1
            return None
        self.turn += 1
        self.denied += refused
        self.bytes += len(path)
        note = self.notes[key] = _Note(errno, words.encode(), _name(pid), self.turn)
        return note

    def _count(self, note: _Note) -> None:
        self.turn += 1
        note.count += 1
        note.last = self.turn


def _foresee_reading(kind: str, mode: int) -> int | None:
    if S_IMODE(mode) == 0:
        return EACCES  # a mask, or as good as one
    return None if kind == EXECUTE and not (S_ISREG(mode) and mode & 0o111) else 0


def _on_read_only(path: bytes) -> bool:
    """Whether the mount that a path leads to is read-only: the kernel's own word, in the mount namespace of the commands."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _is_plain(path: bytes) -> bool:
    """Whether writing it changes a file system: a device or a FIFO is written on a read-only one too."""
    mode = os.stat(path).st_mode
    return S_ISREG(mode) or S_ISDIR(mode)


def _is_mounted_on(path: bytes) -> bool:
    """Whether a name in a writable directory is a mask's or a protected file's."""
    fd = os.open(path, _PATH_ONLY | os.O_NOFOLLOW)
    try:
        return bool(os.fstatvfs(fd).f_flag & os.ST_RDONLY)
    finally:
        os.close(fd)


def _real(path: bytes, *, follow: bool = True) -> bytes:
    """Where a path leads by the kernel's own account; what can't be opened, or is not there, is kept as it is spelt."""
    rest = b""
    if not follow:
        path, _, rest = path.rstrip(b"/").rpartition(b"/")
    while path:
        try:
            fd = os.open(path, _PATH_ONLY)
        except OSError:
            path, _, name = path.rstrip(b"/").rpartition(b"/")
            rest = name + b"/" + rest if rest else name
            continue
        try:
            found = os.readlink(b"/proc/self/fd/%d" % fd)
        finally:
            os.close(fd)
        return found.rstrip(b"/") + b"/" + rest if rest else found
    return b"/" + rest


def _is_below(path: bytes, roots: tuple[bytes, ...]) -> bool:
    return any(path == root or path.startswith(root.rstrip(b"/") + b"/") for root in roots)


def _landlocked(steps: Sequence[plan.Step]) -> tuple[bytes, ...] | None:
    """Where Landlock lets files be written, None where it governs nothing."""
    rules = [step.rules for step in steps if isinstance(step, plan.Landlock)]
    return tuple(os.fsencode(path) for allowed in rules for path, rights in allowed if "write_file" in rights) if rules else None


def _internet(family: int, raw: bytes) -> tuple[bytes, int]:
    """An address as ``host:port``, and its port; empty for other families (ip(7), ipv6(7))."""
    port = int.from_bytes(raw[2:4], "big")
    if family == _socket.AF_INET and len(raw) >= 8:
        return b"%s:%d" % (_socket.inet_ntop(family, raw[4:8]).encode(), port), port
    if family == _socket.AF_INET6 and len(raw) >= 24:
        return b"[%s]:%d" % (_socket.inet_ntop(family, raw[8:24]).encode(), port), port
    return b"", 0


def _name(pid: int) -> bytes:
    """The name of the process that a thread belongs to (proc_pid_comm(5))."""
    try:
        with open(b"/proc/%d/comm" % int(process_field(pid, b"Tgid:") or b"%d" % pid), "rb") as comm:
            return comm.read(64).rstrip(b"\n")
    except (OSError, ValueError):
        return b""


# Calls: what each one looks at. The arguments are as the manual has them.


def _opened(dirfd: int, address: int, flags: int) -> tuple[Look, ...]:
    if flags & os.O_PATH:
        return ()
    if flags & os.O_CREAT:
        return ((CREATE, dirfd, address, _NEW if flags & os.O_EXCL else _MADE),)
    return ((WRITE if flags & (os.O_ACCMODE | os.O_TRUNC) else READ, dirfd, address, _THERE),)


def _opened2(pid: int, arguments: tuple[int, ...]) -> tuple[Look, ...]:
    return _opened(arguments[0], arguments[1], int.from_bytes(read_memory(pid, arguments[2], 8), "little"))


def _bound(pid: int, arguments: tuple[int, ...]) -> tuple[Look, ...]:
    """A socket's name is made; its path lies two bytes into the address (unix(7))."""
    is_unix = read_memory(pid, arguments[1], 2) == _socket.AF_UNIX.to_bytes(2, sys.byteorder)
    return ((CREATE, _AT_FDCWD, arguments[1] + 2, _NEW),) if is_unix else ()


def _moved(from_fd: int, source: int, to_fd: int, target: int) -> tuple[Look, ...]:
    return (REMOVE, from_fd, source, _NAME), (CREATE, to_fd, target, _NAME)


_LOOKS: dict[str, Callable[[int, tuple[int, ...]], tuple[Look, ...]]] = {
    "open": lambda _pid, a: _opened(_AT_FDCWD, a[0], a[1]),
    "openat": lambda _pid, a: _opened(a[0], a[1], a[2]),
    "openat2": _opened2,
    "creat": lambda _pid, a: ((CREATE, _AT_FDCWD, a[0], _MADE),),
    "mkdir": lambda _pid, a: ((CREATE, _AT_FDCWD, a[0], _NEW),),
    "mkdirat": lambda _pid, a: ((CREATE, a[0], a[1], _NEW),),
    "mknod": lambda _pid, a: ((CREATE, _AT_FDCWD, a[0], _NEW),),
    "mknodat": lambda _pid, a: ((CREATE, a[0], a[1], _NEW),),
    "symlink": lambda _pid, a: ((CREATE, _AT_FDCWD, a[1], _NEW),),
    "symlinkat": lambda _pid, a: ((CREATE, a[1], a[2], _NEW),),
    "link": lambda _pid, a: ((CREATE, _AT_FDCWD, a[1], _NEW),),
    "linkat": lambda _pid, a: ((CREATE, a[2], a[3], _NEW),),
    "rename": lambda _pid, a: _moved(_AT_FDCWD, a[0], _AT_FDCWD, a[1]),
    "renameat": lambda _pid, a: _moved(a[0], a[1], a[2], a[3]),
    "renameat2": lambda _pid, a: _moved(a[0], a[1], a[2], a[3]),
    "bind": _bound,
    "truncate": lambda _pid, a: ((WRITE, _AT_FDCWD, a[0], _THERE),),
    "unlink": lambda _pid, a: ((REMOVE, _AT_FDCWD, a[0], _NAME),),
    "unlinkat": lambda _pid, a: ((REMOVE, a[0], a[1], _NAME),),
    "rmdir": lambda _pid, a: ((REMOVE, _AT_FDCWD, a[0], _NAME),),
    "chmod": lambda _pid, a: ((WRITE, _AT_FDCWD, a[0], _ABOUT),),
    "fchmodat": lambda _pid, a: ((WRITE, a[0], a[1], _ABOUT),),
    "fchmodat2": lambda _pid, a: ((WRITE, a[0], a[1], _ABOUT),),
    "chown": lambda _pid, a: ((WRITE, _AT_FDCWD, a[0], _ABOUT),),
    "lchown": lambda _pid, a: ((WRITE, _AT_FDCWD, a[0], _NAME),),
    "fchownat": lambda _pid, a: ((WRITE, a[0], a[1], _ABOUT),),
    "utimes": lambda _pid, a: ((WRITE, _AT_FDCWD, a[0], _ABOUT),),
    "utimensat": lambda _pid, a: ((WRITE, a[0], a[1], _ABOUT),),
    "setxattr": lambda _pid, a: ((WRITE, _AT_FDCWD, a[0], _ABOUT),),
    "lsetxattr": lambda _pid, a: ((WRITE, _AT_FDCWD, a[0], _NAME),),
    "execve": lambda _pid, a: ((EXECUTE, _AT_FDCWD, a[0], _THERE),),
    "execveat": lambda _pid, a: ((EXECUTE, a[0], a[1], _THERE),),
}
