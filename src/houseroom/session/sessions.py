"""Sessions by name: where they are found, who made them, and that nobody finds one that has ended.

A session is a directory of ours with the socket of its holder in it. Nothing else is kept there: what there is to know of a session
is asked of its holder, so it is never out of date. A socket that nobody listens at is what a killed holder left; whoever comes
next removes it. Making and removing happen under one lock, so a session that is just beginning is never taken for one that ended.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _socket
import os
from errno import EAGAIN
from fcntl import LOCK_EX, LOCK_NB, flock
from time import monotonic, sleep

from houseroom.errors import SetupFailed
from houseroom.session import errands
from houseroom.session.private_directory import FLAGS, open_private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HOME = ".local/state/houseroom/sessions"
SOCKET = "socket"
LONGEST_NAME = 64
_SIGNS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_LOCK = ".lock"
BACKLOG = 128
_PATIENCE = 5.0  # seconds for an answer, or for the lock, which is held for less than a millisecond
_CREDENTIALS = 12  # bytes of struct ucred: pid, uid, gid (unix(7), SO_PEERCRED)


class NoSession(Exception):
    """There is no session of this name."""


class Taken(Exception):
    """A session of this name runs already."""


def why_no_name(name: str) -> str:
    """What keeps a text from being the name of a session, "" where nothing does."""
    if not name or len(name) > LONGEST_NAME:
        return f"it has {len(name)} characters; up to {LONGEST_NAME} can be used" if name else "it is empty"
    if not _SIGNS.issuperset(name):
        return "only letters, digits, dots, dashes and underscores of ASCII can be used"
    return "" if name[0].isalnum() else "it must begin with a letter or a digit"


def name_of(directory: str) -> str:
    """A name for a session in a workspace: its last component, with what can't be used left out."""
    kept = "".join(sign if sign in _SIGNS else "-" for sign in os.path.basename(directory))
    return kept.lstrip("._-")[:LONGEST_NAME] or "session"


class Seat:
    """The directory and socket of a session that is ours, until it is left."""

    def __init__(self, home: str, name: str, directory: int, listener: _socket.socket):
        self.home, self.name, self.directory, self.listener = home, name, directory, listener

    def leave(self) -> None:
        """Remove it, unless somebody else has and made another in its place. Whatever can't be removed, the next who looks will."""
        self.listener.close()
        try:
            base = _open_base(self.home, create=False)
        except SetupFailed:
            return
        try:
            with _Lock(base):
                there, own = os.stat(self.name, dir_fd=base, follow_symlinks=False), os.fstat(self.directory)
                if (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino):
                    _remove(base, self.name)
        except (OSError, SetupFailed):
            return
        finally:
            os.close(base)


def take_seat(home: str, name: str) -> Seat:
    """A directory and a listening socket for a new session. Raises Taken, SetupFailed."""
    base = _open_base(home, create=True)
    try:
        with _Lock(base):
            if _lives(base, name):
                raise Taken(name)
            _remove(base, name)
            os.mkdir(name, 0o700, dir_fd=base)
            directory = os.open(name, FLAGS, dir_fd=base)
            listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
            listener.bind(f"/proc/self/fd/{directory}/{SOCKET}")  # the path itself may be longer than an address can be
            listener.listen(BACKLOG)
            return Seat(home, name, directory, listener)
    except SetupFailed:
        raise
    except OSError as error:
        raise SetupFailed("make the session", name, error.errno or 0, error.strerror or str(error)) from None
    finally:
        os.close(base)


def names(home: str) -> list[str]:
    """The sessions that run, in order; what ended ones left is removed. Raises SetupFailed."""
    try:
        base = _open_base(home, create=False)
    except SetupFailed as error:
        if isinstance(error, FileNotFoundError) or error.errno == 2:
            return []
        raise
    try:
        with _Lock(base):
            alive = []
            for name in sorted(entry for entry in os.listdir(base) if not why_no_name(entry)):
                if _lives(base, name):
                    alive.append(name)
                    continue
                try:
                    _remove(base, name)
                except OSError:
                    continue  # it holds something that no session made
            return alive
    except OSError as error:
        raise SetupFailed("look for sessions in", f"{home}/{HOME}", error.errno or 0, error.strerror or str(error)) from None
    finally:
        os.close(base)


def connect(home: str, name: str) -> _socket.socket:
    """A stream to the holder of a session. Raises NoSession, SetupFailed."""
    if why_no_name(name):
        raise NoSession(name)
    try:
        base = _open_base(home, create=False)
    except SetupFailed as error:
        if error.errno == 2:
            raise NoSession(name) from None
        raise
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.settimeout(_PATIENCE)
        sock.connect(f"/proc/self/fd/{base}/{name}/{SOCKET}")
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        sock.close()
        raise NoSession(name) from None
    except OSError as error:
        sock.close()
        raise SetupFailed("reach the session", name, error.errno or 0, error.strerror or str(error)) from None
    finally:
        os.close(base)
    if peer(sock) != os.geteuid():
        sock.close()
        raise SetupFailed("use the session", name, 1, "its socket is another user's", "Look at it, then remove it.")
    return sock


def peer(sock: _socket.socket) -> int:
    """The user at the other end of a connection."""
    return _peer(sock)[1]


def holder(sock: _socket.socket) -> int:
    """The process that made the listening end of a connection."""
    return _peer(sock)[0]


def _peer(sock: _socket.socket) -> tuple[int, int]:
    credentials = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _CREDENTIALS)
    return int.from_bytes(credentials[:4], sys.byteorder), int.from_bytes(credentials[4:8], sys.byteorder)


def facts(home: str, name: str) -> dict[str, Any]:
    """What the holder tells of its session. Raises NoSession, SetupFailed where it does not answer in time."""
    import json

    sock = connect(home, name)
    try:
        sock.sendall(errands.message(errands.LOOK))
        kind, body = receive(sock)
        found: dict[str, Any] = json.loads(body) if kind == errands.FACTS else {}
        return found
    except TimeoutError:
        raise SetupFailed("hear from the session", name, 0, "its holder does not answer", "It may be stopped, or very busy.") from None
    except (OSError, ValueError):
        raise NoSession(name) from None  # it has just ended
    finally:
        sock.close()


def receive(sock: _socket.socket) -> tuple[int, bytes]:
    """The next message: kind and body. Raises ValueError at the end of the stream and for what is none, TimeoutError."""
    kind, length = errands.read_head(exactly(sock, errands.HEAD))
    return kind, exactly(sock, length)


def exactly(sock: _socket.socket, count: int) -> bytes:
    """So many bytes. Raises ValueError where the stream ends before, TimeoutError."""
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            raise ValueError("the stream has ended")
        data += part
    return data


def _open_base(home: str, *, create: bool) -> int:
    return open_private(f"{home.rstrip('/')}/{HOME}", create=create)


def _lives(base: int, name: str) -> bool:
    """Whether somebody listens."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.setblocking(False)  # noqa: FBT003 — it takes no keyword
        error = sock.connect_ex(f"/proc/self/fd/{base}/{name}/{SOCKET}")
    finally:
        sock.close()
    return error in (0, EAGAIN)


def _remove(base: int, name: str) -> None:
    """What a session has made, and only that: anything else in its place stays, and the error says so. Raises OSError."""
    try:
        directory = os.open(name, FLAGS, dir_fd=base)
    except OSError:
        return  # nothing, or a file or a link: no session's
    try:
        os.unlink(SOCKET, dir_fd=directory)
    except FileNotFoundError:
        pass
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=base)


class _Lock:
    """Whoever makes or removes sessions does so alone. Raises SetupFailed where it can't be had in time."""

    def __init__(self, base: int):
        self.fd = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=base)

    def __enter__(self) -> None:
        end = monotonic() + _PATIENCE
        while True:
            try:
                flock(self.fd, LOCK_EX | LOCK_NB)
                return
            except BlockingIOError:
                if monotonic() > end:
                    os.close(self.fd)
                    raise SetupFailed("look after", "the sessions", EAGAIN, "somebody else does and does not end") from None
            sleep(0.005)

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
