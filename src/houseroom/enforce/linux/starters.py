"""The supervisor's side of a session: asking its starters for commands, and its init to signal and end them.

Whatever a starter answers is 48 bytes and perhaps one descriptor; whatever init says is eight. Nothing else is ever read from inside.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import _socket
import os
from _thread import allocate_lock

from houseroom.enforce.linux import frames, wire
from houseroom.errors import SetupFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_MSG_CMSG_CLOEXEC = 0x40000000
_ONE_DESCRIPTOR = _socket.CMSG_SPACE(4)
_CARRIER = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS)


class Gone(OSError):
    """A process inside that should answer has ended."""


class Starter:
    """One starter inside: ``number`` is its process id there. Used by one thread at a time."""

    def __init__(self, number: int, sock: _socket.socket):
        self.number, self.sock = number, sock

    def ask(self, request: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a request of ``frames.start`` with the descriptors that it names. Raises Gone."""
        ancillary = [(*_CARRIER, b"".join(fd.to_bytes(4, sys.byteorder) for fd in descriptors))] if descriptors else []
        try:
            sent = self.sock.sendmsg([request], ancillary)
            while sent < len(request):
                sent += self.sock.send(request[sent:])
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Gone(error.errno, "a starter has ended") from None

    def answer(self) -> tuple[int, tuple[int, ...], int]:
        """The next answer: its kind, its numbers, and the descriptor that came along, -1 for none.

        Raises Gone, and BlockingIOError on a socket that does not block.
        """
        try:
            data, ancillary, _flags, _address = self.sock.recvmsg(frames.ANSWER, _ONE_DESCRIPTOR, _MSG_CMSG_CLOEXEC)
        except ConnectionResetError as error:
            raise Gone(error.errno, "a starter has ended") from None
        descriptors = [int.from_bytes(content[:4], sys.byteorder) for level, kind, content in ancillary if (level, kind) == _CARRIER]
        try:
            return (*frames.read_answer(data), descriptors[0] if descriptors else -1)
        except ValueError:
            for fd in descriptors:
                os.close(fd)
            raise Gone(0, "a starter has ended") from None

    def close(self) -> None:
        """Let it go; it ends when nothing that it started is alive."""
        self.sock.close()


class Starters:
    """A session's init and its starters, from outside. May be used by many threads.

    ``control`` leads to init and ``first`` to the first starter, both as descriptors, which are ours from here on.
    """

    def __init__(self, control: int, first: int):
        self.control, self.first = control, Starter(0, _socket.socket(fileno=first))
        self.notices: set[int] = set()
        self._asking, self._telling = allocate_lock(), allocate_lock()

    def another(self) -> Starter:
        """One more starter. Raises SetupFailed where the sandbox has ended."""
        with self._asking:
            for _ in range(3):  # a command may have ended the one that we asked, perhaps twice
                try:
                    self.first.ask(frames.another())
                    kind, numbers, descriptor = self.first.answer()
                except Gone:
                    break
                if kind == frames.STARTER and descriptor >= 0:
                    return Starter(numbers[0], _socket.socket(fileno=descriptor))
                if kind == frames.FAILED and numbers[0]:
                    what = "The commands in it may have used up limits.processes."
                    raise SetupFailed("start a command in", "the sandbox", numbers[0], os.strerror(numbers[0]), what)
        raise SetupFailed("start a command in", "the sandbox", 0, "it has ended", "A command may have ended it: begin a new session.")

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a process inside that a starter started."""
        self._tell(wire.SIGNAL, number, pid)

    def end(self, starter: Starter, *, gone: bool = False) -> None:
        """Kill everything that a starter's command ever started, and wait until nothing of it is alive. ``gone``: with the starter."""
        with self._telling:
            if not self._tell(wire.END, starter.number, int(gone)):
                return
            while (said := wire.receive_status(self.control)) is not None and said != (wire.ENDED, starter.number):
                self.notices.add(said[0])

    def _tell(self, kind: int, number: int, more: int) -> bool:
        try:
            wire.tell(self.control, kind, number, more)
        except OSError:
            return False  # init is gone, and with it everything inside
        return True

    def close(self) -> None:
        """End the sandbox: everything inside is killed when init hears that we are gone."""
        self.first.close()
        if self.control >= 0:
            os.close(self.control)
            self.control = -1


def usage(numbers: tuple[int, ...]) -> tuple[int, float, float, int]:
    """What an EXITED answer says: wait status, user and system time in seconds, largest resident set in bytes."""
    status, _alone, user, system, largest = numbers
    return status, user / 1_000_000, system / 1_000_000, largest * 1024


def exit_code(status: int) -> int:
    """The exit status of a wait status, minus the signal for a death by one; a wait status that can't be is a kill."""
    try:
        return os.waitstatus_to_exitcode(status)
    except ValueError:
        return -_signal.SIGKILL
