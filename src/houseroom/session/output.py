"""What a command prints passes through the supervisor, which counts it: only where ``limits.output`` is set.

The command gets pipes in place of standard output and standard error; what comes out of them is written on, byte for byte, to
where the caller wanted it. Where both lead to one file one pipe serves both, so their order stays. A terminal is left as it is:
a program that sees none behaves differently.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from select import POLLIN, POLLOUT, poll
from stat import S_ISFIFO
from time import monotonic

from houseroom.enforce.linux.launch import Ended
from houseroom.session.budget import Budget

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from houseroom.enforce.linux.launch import Cradle

_AT_ONCE = 1 << 16
_PIPE_BUF = 4096  # a pipe that says it is ready takes so much without waiting (pipe(7))
STREAMS = (1, 2)


class Relay:
    """The pipes of one command, from its start until all it printed has been passed on. Close it, or use it as a context manager.

    ``theirs`` are the ends for the command, by the numbers they are to have inside; ``handed_over`` closes ours of them.
    ``streams`` says where what is printed at each number is to go: else to our own streams that are no terminals.
    """

    def __init__(self, most: int, streams: Mapping[int, int] | None = None):
        self.budget = Budget(most)
        self.theirs: dict[int, int] = {}
        self.pipes: list[_Pipe] = []
        same: dict[tuple[int, int, int], int] = {}
        for number, target in ({own: own for own in STREAMS if not os.isatty(own)} if streams is None else streams).items():
            try:
                found = os.fstat(target)
            except OSError:
                continue  # closed: the command will find it so
            what = (found.st_dev, found.st_ino, found.st_rdev)
            if what not in same:
                ours, same[what] = os.pipe2(os.O_CLOEXEC)
                os.set_blocking(ours, False)
                self.pipes.append(_Pipe(ours, os.dup(target), _PIPE_BUF if S_ISFIFO(found.st_mode) else _AT_ONCE))
            self.theirs[number] = same[what]

    def handed_over(self) -> None:
        """The command has its ends."""
        for descriptor in {*self.theirs.values()}:
            os.close(descriptor)
        self.theirs = {}

    def attend(self, cradle: Cradle, seconds: float | None) -> Ended:
        """Pass on what a cradle's command prints until it has ended, its time is up, or it is "enough"."""
        self.handed_over()
        end = None if seconds is None else monotonic() + seconds
        while True:
            how = self.until(cradle.control, None if end is None else max(0, int((end - monotonic()) * 1000)))
            ended = Ended(how, 0) if how else cradle.hear()
            if ended:
                return ended

    def until(self, control: int, patience: int | None) -> str:
        """Pass on until ``control`` can be read: "" then; "timed-out" after so many milliseconds, "enough" where the limit is reached."""
        end = None if patience is None else monotonic() + patience / 1000
        while not self._done():
            ready = self._turn((control,), end)
            if control in ready:
                return ""
            if not ready:
                return "timed-out"
        return "enough"

    def finish(self, seconds: float | None) -> bool:
        """Pass on what is left, once nobody is there to print more, as long as the caller takes it. False where the time is up."""
        end = None if seconds is None else monotonic() + seconds
        while self.pipes and not self._done():
            if not self._turn((), end):
                return False
        return True

    def _done(self) -> bool:
        """Whether the limit is reached, and all up to it has been passed on."""
        return self.budget.over and not any(pipe.rest for pipe in self.pipes)

    def _turn(self, others: tuple[int, ...], end: float | None) -> dict[int, int]:
        """Wait for what comes first and do it. What was ready, nothing where the time is up."""
        waiting = poll()
        for fd in others:
            waiting.register(fd, POLLIN)
        for pipe in self.pipes:
            if pipe.rest or not self.budget.over:
                waiting.register(*pipe.waits_for())
        ready = dict(waiting.poll(None if end is None else max(0, int((end - monotonic()) * 1000))))
        self._serve(ready)
        return ready

    def _serve(self, ready: dict[int, int]) -> None:
        for pipe in [pipe for pipe in self.pipes if ready.get(pipe.waits_for()[0])]:
            if not pipe.move(self.budget):
                pipe.close()
                self.pipes.remove(pipe)

    def close(self) -> None:
        """Take nothing more: who prints on meets a broken pipe."""
        self.handed_over()
        for pipe in self.pipes:
            pipe.close()
        self.pipes = []

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Pipe:
    """One pipe: read when nothing is left to write, written when the other side has room. Both ends are ours to close."""

    def __init__(self, ours: int, target: int, at_once: int):
        self.ours, self.target, self.at_once = ours, target, at_once
        self.rest = b""

    def waits_for(self) -> tuple[int, int]:
        return (self.target, POLLOUT) if self.rest else (self.ours, POLLIN)

    def move(self, budget: Budget) -> bool:
        """One read or one write. False at the end of the stream, or where nobody reads any more."""
        try:
            if self.rest:
                self.rest = self.rest[os.write(self.target, self.rest[: self.at_once]) :]
                return True
            data = os.read(self.ours, min(_AT_ONCE, budget.left + 1))
            self.rest = budget.take(data)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return bool(data)

    def close(self) -> None:
        os.close(self.ours)
        os.close(self.target)  # who reads there meets the end
