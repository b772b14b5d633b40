"""The application's side of its keeper: started when the first sandbox is wanted, one for the whole process.

Many threads and event loops may ask at once. Each question goes with a socket of its own for the answer, so nobody waits for a
lock, and whoever does not want the answer any more closes that socket.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _socket
import os
from _thread import allocate_lock
from weakref import WeakSet

from houseroom.enforce.linux import process_sys
from houseroom.errors import SetupFailed
from houseroom.session.message import receive, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.session.standing import Standing

_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "keeper.py")
_DOOR = 3
# What the interpreter, and the search for the system's bwrap, need. The application's other variables come with each request.
_VARIABLES = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH")


class Keepers:
    """The keeper of this process: another one in a forked child, and after the process has become another user.

    ``sandboxes`` are those that stand; a forked child lets go of them, for they are its parent's.
    """

    def __init__(self) -> None:
        self.sandboxes: WeakSet[Standing] = WeakSet()
        self._begin()
        os.register_at_fork(after_in_child=self._forked)

    def _begin(self) -> None:
        self._lock = allocate_lock()
        self._doors: dict[tuple[object, ...], _socket.socket] = {}  # the last one is used; those before hold sandboxes alive

    def ask(self, letter: bytes, *descriptors: int) -> _socket.socket:
        """Ask the keeper; what is returned becomes readable with the answer, or ends. Raises SetupFailed."""
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        try:
            for _ in range(2):  # it may have been killed, and so have been its sandboxes
                door = self._door()
                if send(door, letter, theirs.fileno(), *descriptors):
                    return ours
                self._forget(door)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.close()
        raise SetupFailed("start", "the keeper of sandboxes", 0, "it ended at once", "Run `houseroom doctor`.")

    def _door(self) -> _socket.socket:
        us = (os.getpid(), os.getuid(), os.geteuid(), os.getgid(), os.getegid())
        with self._lock:
            if us not in self._doors:
                self._doors[us] = _start()
            return self._doors[us]

    def _forget(self, door: _socket.socket) -> None:
        with self._lock:
            self._doors = {us: kept for us, kept in self._doors.items() if kept is not door}
        door.close()

    def _forked(self) -> None:
        for sandbox in list(self.sandboxes):
            sandbox.forget()
        self.sandboxes.clear()
        for door in self._doors.values():
            door.close()
        self._begin()


def _start() -> _socket.socket:
    """A new keeper. What we start forks it and ends, so it is no child of ours that ``os.wait`` would wait for."""
    if not sys.executable:
        raise SetupFailed("start", "the keeper of sandboxes", 0, "sys.executable does not say where the interpreter is")
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    environment = {name: value for name in _VARIABLES if (value := os.environ.get(name)) is not None}
    actions = [
        (os.POSIX_SPAWN_DUP2, theirs.fileno(), _DOOR),
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
    ]
    argv = [sys.executable, "-I", "-S", _PROGRAM, str(os.getpid())]
    try:
        pid = os.posix_spawn(sys.executable, argv, environment, file_actions=actions, setsid=True, setsigmask=())
    except OSError as error:
        ours.close()
        raise SetupFailed("start", "the keeper of sandboxes", error.errno or 0, error.strerror or str(error)) from None
    finally:
        theirs.close()
    process_sys.reap(pid)
    return ours


KEEPERS = Keepers()  # one for the process, as the sandboxes' lives depend on it


def answer(sock: _socket.socket) -> tuple[bytes, list[int]]:
    """The words of the answer that has come, or comes, and its descriptors; no words where the keeper has ended."""
    try:
        _letter, descriptors = receive(sock)
    finally:
        sock.close()
    if not descriptors:
        return b"", []
    with open(descriptors[0], "rb") as file:
        return file.read(), descriptors[1:]
