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
from errno import ETIMEDOUT
from select import POLLIN, poll

from houseroom.enforce.linux import frames, wire
from houseroom.errors import SetupFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TRIES = 6  # a command may have ended the first starter when it is asked, perhaps twice; what it answered before is read too
PATIENCE = 20  # seconds: a starter that is asked for takes milliseconds, and a sandbox that ends not many more
_WAKES = 5
_STOPPED = "A command may have stopped it: begin a new session."
_MSG_CMSG_CLOEXEC = 0x40000000
_ONE_DESCRIPTOR = _socket.CMSG_SPACE(4)
_CARRIER = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS)


class Gone(OSError):
    """A process inside that should answer has ended."""


class Starter:
    """One starter inside: ``number`` is its process id there. Used by one thread at a time."""

    def __init__(self, number: int, sock: _socket.socket):
        self.number, self.sock = number, sock

    def ask(self, request: bytes, descriptors: Sequence[int] = (), wake: Callable[[], object] = lambda: None) -> None:
        """Send a request of ``frames.start`` with the descriptors that it names. Raises Gone.

        ``wake`` is called where the socket has a limit for sending (SO_SNDTIMEO) and it has passed: a command may have stopped the
        starter. After a few times it is given up.
        """
        sent, left = 0, _WAKES
        while sent < len(request):
            try:
                sent += self.send(request[sent:], () if sent else descriptors)
            except BlockingIOError:
                if not left:
                    raise Gone(ETIMEDOUT, "a starter does not read") from None
                left -= 1
                wake()

    def send(self, request: bytes, descriptors: Sequence[int] = ()) -> int:
        """Send what goes at once; how much that was. Raises Gone, and BlockingIOError on a socket that does not block."""
        ancillary = [(*_CARRIER, b"".join(fd.to_bytes(4, sys.byteorder) for fd in descriptors))] if descriptors else []
        try:
            return self.sock.sendmsg([request], ancillary)
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

    ``control`` leads to init and ``first`` to the first starter, both as descriptors, which are ours from here on. ``told`` is where an
    egress proxy tells what it refused, -1 for none.
    """

    def __init__(self, control: int, first: int, *, asked: bool = False, told: int = -1):
        self.line = _socket.socket(fileno=control)
        self.control, self.first = control, Starter(0, _socket.socket(fileno=first))
        self.told = told
        self.asked = asked  # for one more already, and it has not been heard of
        self.turn = int(asked)  # of the last request for one more
        self.watched = False
        self.notices: set[int] = set()
        self.limited: dict[tuple[str, str], int] = {}  # how often init has ended processes because of a limit: (key, "ended")
        self._asking, self._telling = allocate_lock(), allocate_lock()

    def another(self) -> Starter:
        """One more starter. Raises SetupFailed where the sandbox has ended, or does not answer."""
        with self._asking:
            for _ in range(TRIES):
                self.ask_for_another()
                if not readable(self.first.sock.fileno(), PATIENCE):
                    raise self.stopped()
                starter = self.hear_of_another()
                if starter is not None:
                    return starter
        raise self.over()

    def ask_for_another(self) -> None:
        """Ask for one more starter; ``hear_of_another`` reads what comes. Raises SetupFailed where the sandbox has ended."""
        if not self.asked:
            self.turn = self.turn + 1 & 0xFFFFFFFF
            try:
                self.first.ask(frames.another(self.turn))
            except Gone:
                raise self.over() from None
        self.asked = True

    def hear_of_another(self) -> Starter | None:
        """The starter that was asked for; None where a command has ended the one that was asked: ask again.

        Raises SetupFailed where there can be none, and BlockingIOError on a socket that does not block.
        """
        try:
            kind, numbers, descriptor = self.first.answer()
        except Gone:
            raise self.over() from None
        failed, turn = (numbers[0] if kind == frames.FAILED else 0), numbers[1]
        if turn == self.turn or (kind == frames.FAILED and not failed):
            self.asked = False
        if kind == frames.STARTER and descriptor >= 0:
            starter = Starter(numbers[0], _socket.socket(fileno=descriptor))
            if turn == self.turn:
                return starter
            starter.close()  # asked for before the first one was ended, and perhaps ended with it
        elif failed and turn == self.turn:
            what = "The commands in it may have used up limits.processes."
            raise SetupFailed("start a command in", "the sandbox", numbers[0], os.strerror(numbers[0]), what)
        return None

    @staticmethod
    def stopped() -> SetupFailed:
        """The error of a sandbox that does not answer."""
        return SetupFailed("start a command in", "the sandbox", ETIMEDOUT, os.strerror(ETIMEDOUT), _STOPPED)

    @staticmethod
    def over() -> SetupFailed:
        """The error of a sandbox that has ended."""
        return SetupFailed("start a command in", "the sandbox", 0, "it has ended", "A command may have ended it: begin a new session.")

    def signal(self, pid: int, number: int, *, group: bool = False) -> None:
        """Send a signal to a process inside that a starter started, or to the process group that it leads."""
        with self._telling:
            self._tell(wire.SIGNAL_GROUP if group else wire.SIGNAL, number, pid)

    def end(self, starter: Starter, *, gone: bool = False) -> bool:
        """Kill everything that a starter's command ever started, and wait until nothing of it is alive. ``gone``: with the starter.

        Returns False where the whole sandbox has ended.
        """
        with self._telling:
            if not self.tell_to_end(starter, gone=gone):
                return False
            while (said := self.hear()) != (wire.ENDED, starter.number):
                if said is None:
                    return False
                self.heed(*said)
            return True

    def listen(self) -> None:
        """Hear what init has said meanwhile without being asked."""
        with self._telling:
            while self.control >= 0 and readable(self.control, 0) and (said := self.hear()) is not None:
                self.heed(*said)

    def hear(self) -> tuple[int, int] | None:
        """What init says next, as ``wire.receive_status`` has it; None where it is gone."""
        try:
            return wire.receive_status(self.control)
        except ConnectionResetError:
            return None  # it was killed before it had read all that it was told (unix(7))

    def heed(self, kind: int, number: int) -> None:
        """Remember what init says without being asked."""
        if kind != wire.LIMIT:
            self.notices.add(kind)
            return
        from houseroom.enforce.linux.tally import KINDS

        for key in KINDS[number : number + 1]:
            self.limited[key, "ended"] = self.limited.get((key, "ended"), 0) + 1

    def tell_to_watch(self) -> None:
        """Tell init that commands come from now on, which hidden files must be kept from. Said once."""
        if not self.watched:
            self.watched = True
            self._tell(wire.WATCH, 0, 0)

    def tell_to_end(self, starter: Starter, *, gone: bool = False) -> bool:
        """Tell init the same without waiting; it says (``wire.ENDED``, the starter's number) on ``control`` when it is done."""
        return self._tell(wire.END, starter.number, int(gone))

    def abandon(self, starter: Starter) -> bool:
        """Kill a starter, which may be about to start its command, with all that it started. Returns as ``end``."""
        self.signal(starter.number, _signal.SIGKILL)
        return self.end(starter, gone=True)

    def tell_to_abandon(self, starter: Starter) -> bool:
        """Tell init the same without waiting."""
        return self._tell(wire.SIGNAL, _signal.SIGKILL, starter.number) and self.tell_to_end(starter, gone=True)

    def notes(self, starter: Starter) -> bytes:
        """What init noted of a starter's command, for ``observed.read``; it forgets it."""
        with self._telling:
            if not self.tell_notes(starter):
                return b""
            while (said := self.hear()) is not None:
                if said[0] == wire.OBSERVED:
                    return wire.receive_notes(self.control, said[1])
                self.heed(*said)
        return b""

    def tell_notes(self, starter: Starter) -> bool:
        """Tell init the same without waiting; it says (``wire.OBSERVED``, a length) on ``control``, with so many bytes behind it."""
        return self._tell(wire.NOTES, starter.number, 0)

    def _tell(self, kind: int, number: int, more: int) -> bool:
        try:
            wire.tell(self.control, kind, number, more)
        except OSError:
            return False  # init is gone, and with it everything inside
        return True

    def leave(self) -> None:
        """Tell init to end the sandbox; the stream of ``control`` ends when nothing inside is alive any more."""
        self.first.close()
        try:
            self.line.shutdown(_socket.SHUT_WR)
        except OSError:
            return  # it is gone already

    def close(self) -> None:
        """End the sandbox, and wait until nothing inside is alive."""
        with self._telling:
            if self.control < 0:
                return
            self.leave()
            while readable(self.control, PATIENCE) and self.hear() is not None:
                pass
            self.let_go()

    def let_go(self) -> None:
        """Close what leads inside; init ends the sandbox when it hears that nobody holds any of it."""
        self.first.close()
        self.line.close()
        if self.told >= 0:
            os.close(self.told)
        self.control = self.told = -1

    def hand_over(self) -> tuple[int, ...]:
        """Our descriptors, with one more starter asked for already, for another process to make the same of them."""
        self.ask_for_another()
        return (self.line.detach(), self.first.sock.detach(), *((self.told,) if self.told >= 0 else ()))


def readable(fd: int, seconds: float | None) -> bool:
    """Whether there is something to read, or the end, within that time; None waits for ever."""
    waiting = poll()
    waiting.register(fd, POLLIN)
    return bool(waiting.poll(None if seconds is None else seconds * 1000))


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
