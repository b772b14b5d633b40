"""The keeper of an application's sandboxes: ``python -I -S keeper.py APPLICATION``, its door at descriptor 3.

An application may be large and threaded, and such a process must not fork: locks that its other threads hold stay held for ever
in the copy. So one small process with one thread bears all its sandboxes. It hands over what leads into each, and from then on the
application talks to its starters itself; the keeper only waits for the ends: of a sandbox, to reap its init; of the application,
to end with everything. Killed, it takes its sandboxes along (PR_SET_PDEATHSIG).

It is nobody's child, so an application that waits for all of its children does not wait for it, and of no terminal's session:
what is typed there is the application's.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

if __name__ == "__main__":
    _DOOR = 3
    # While the application is still our parent its number is its own; a descriptor of it stays so (pidfd_open(2)).
    _APPLICATION = os.pidfd_open(os.getppid())
    if os.getppid() != int(sys.argv[1]) or os.fork():
        os._exit(0)
    _PACKAGE = __file__.rsplit("/", 3)[0]  # looked at last, so nothing there stands in for the standard library
    sys.path[:] = [*(entry for entry in sys.path if entry != os.path.dirname(__file__)), _PACKAGE]

import _socket
import gc
from select import POLLIN, POLLPRI, poll
from time import monotonic

# What an init needs is imported here, once for all.
from houseroom.enforce.linux import asking, attending, household, lending, process_sys
from houseroom.enforce.linux import starters as outside
from houseroom.enforce.linux.launch import Cradle
from houseroom.errors import CannotEnforce, PolicyError, SetupFailed
from houseroom.session import request, sandbox
from houseroom.session.message import receive, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_IMPORTED_EARLY = (asking, attending, household, outside)
_UNTIL_IDLE = 10  # milliseconds without a request after which the next init is born


class _Kept:
    """A sandbox of the application, from its cradle's side. ``expires``: when it ends by itself, by ``monotonic``."""

    def __init__(self, cradle: Cradle, expires: float | None):
        self.cradle, self.expires = cradle, expires


class Keeper:
    """All sandboxes of one application."""

    def __init__(self, door: _socket.socket, application: int):
        self.door, self.application = door, application
        self.mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self.kept: dict[int, _Kept] = {}  # by a descriptor of the process that ends with the sandbox
        self.spare: Cradle | None = None  # born before it is wanted
        self.lender: lending.Lender | None = None
        self.waiting = poll()
        self.waiting.register(door, POLLIN)
        self.waiting.register(application, POLLIN)
        self.waiting.register(self.mounts, POLLPRI)

    def live(self) -> NoReturn:
        """Until the application ends."""
        self._bear()
        while True:
            ready = self.waiting.poll(self._patience())
            for fd, _events in ready:
                if fd == self.door.fileno():
                    self._hear()
                elif fd == self.application:
                    self._end()
                elif fd == self.mounts:
                    self._let_go_of_spare()  # its view of the host is no longer the host's
                elif fd in self.kept:
                    self._ended(fd)
            self._expire()
            if not ready and self.spare is None:
                self._bear()

    def _patience(self) -> int | None:
        times = [] if self.spare else [_UNTIL_IDLE]
        now = monotonic()
        times += [max(0, int((kept.expires - now) * 1000) + 1) for kept in self.kept.values() if kept.expires is not None]
        return min(times, default=None)

    def _bear(self) -> None:
        gc.collect()
        gc.freeze()  # what an init inherits is not copied by its collector
        self.spare = Cradle()

    def _let_go_of_spare(self) -> None:
        if self.spare:
            self.spare.end()
            self.spare = None

    def _cradle(self) -> Cradle:
        """An init that knows the host's mounts as they are now."""
        poll_now = poll()
        poll_now.register(self.mounts, POLLPRI)
        if poll_now.poll(0):
            self._let_go_of_spare()
        cradle, self.spare = self.spare, None
        if cradle is None or cradle.pid < 0 or os.waitpid(cradle.pid, os.WNOHANG)[0]:
            return Cradle()
        return cradle

    def _hear(self) -> None:
        """One request: a letter, the socket for its answer, and what it is about."""
        kind, descriptors = receive(self.door)
        if not kind:
            self._end()
        try:
            answer = _socket.socket(fileno=descriptors.pop(0)) if descriptors else None
            if answer is not None and kind == b"b":
                self._build(answer, descriptors)
            elif answer is not None and kind == b"l":
                self._lend(answer, descriptors)
        finally:
            for fd in descriptors:
                os.close(fd)

    def _build(self, answer: _socket.socket, descriptors: list[int]) -> None:
        cradle = self._cradle()
        passed: tuple[int, ...] = ()
        try:
            with open(descriptors.pop(), "rb") as file:
                wanted = request.load(file.read())
            said, passed = self._stand(wanted, cradle)
        except (PolicyError, CannotEnforce, SetupFailed) as error:
            cradle.end()
            said = request.dump_answer(error)
        except Exception as error:
            cradle.end()
            said = request.dump_answer(error)
        words = os.memfd_create("answer", os.MFD_CLOEXEC)
        os.write(words, said)
        os.lseek(words, 0, os.SEEK_SET)
        send(answer, b"b", words, *passed)
        answer.close()
        for fd in (words, *passed):
            os.close(fd)

    def _stand(self, wanted: request.Request, cradle: Cradle) -> tuple[bytes, tuple[int, ...]]:
        """Build one sandbox; the answer, and the descriptors that lead to its init and its first starter."""
        if wanted.policy is None:
            wish = sandbox.Wish(wanted.profile, wanted.rules, wanted.settings, wanted.accept, observe=wanted.observe)
            start = sandbox.ready(wanted.places, wish, wanted.environment, cradle, None)
        else:
            accept, observe, environ = wanted.accept, wanted.observe, wanted.environment
            start = sandbox.prepare(wanted.policy, wanted.places, accept=accept, observe=observe, environ=environ, cradle=cradle)
        inside = sandbox.begin(start)
        own_mounts = isinstance(start, sandbox.Again) or start.plan.rung == "namespaces"
        moved = start.cradle.moved({}).get(b"TMPDIR", b"")
        choice = start.choice.moved(os.fsdecode(moved)) if moved else start.choice
        built = request.Built(start.environment, start.withheld, choice, start.ceilings.given, sandbox.counted(start), own_mounts)
        seconds = start.limits.get("session.expires")
        end = process_sys.pidfd_open(start.cradle.pid)
        self.kept[end] = _Kept(start.cradle, None if seconds is None else monotonic() + seconds)
        self.waiting.register(end, POLLIN)
        return request.dump_answer(built), inside.hand_over()

    def _lend(self, answer: _socket.socket, descriptors: list[int]) -> None:
        """A descriptor of the same file that can't be used to change it; none where that can't be had."""
        if self.lender is None:
            self.lender = lending.Lender()
        lent = self.lender.lend(descriptors[0]) if descriptors else -1
        send(answer, b"l", *([lent] if lent >= 0 else []))
        answer.close()
        if lent >= 0:
            os.close(lent)

    def _ended(self, fd: int) -> None:
        self.waiting.unregister(fd)
        os.close(fd)
        self.kept.pop(fd).cradle.end()

    def _expire(self) -> None:
        now = monotonic()
        for fd in [fd for fd, kept in self.kept.items() if kept.expires is not None and kept.expires <= now]:
            self._ended(fd)

    def _end(self) -> NoReturn:
        """The application is gone."""
        self._let_go_of_spare()
        for fd in list(self.kept):
            self._ended(fd)
        os._exit(0)


if __name__ == "__main__":
    gc.disable()  # an init is a copy of this: what is collected is what was made for one request, before the next init is born
    process_sys.close_except(_DOOR, _DOOR, _APPLICATION)
    Keeper(_socket.socket(fileno=_DOOR), _APPLICATION).live()
