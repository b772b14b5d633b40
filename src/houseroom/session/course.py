"""The course of one command: what was asked for, and what has become of it by what its starter answers. Nothing here waits."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import os

from houseroom.enforce.linux import frames, starters, terminal_sys
from houseroom.errors import SetupFailed
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from houseroom.enforce.linux.starters import Starter
    from houseroom.policy.denials import Denial
    from houseroom.session.counting import Counting
    from houseroom.session.exchange import Stream
    from houseroom.session.limits import Hits

NO_TERMINAL = (0, 0)
_NOTHING: Hits = {}
_WAY_OUT = "a directory of the host, or a socket of its network, can't be passed to a command; pass the data through a pipe"


class Call(Record):
    """What is asked for: argv as bytes, the directory below the workspace, streams as for ``subprocess``, and further descriptors.

    ``environment`` stands in for the caller's at the session's start. ``size`` is that of a terminal of the command's own.
    """

    argv: list[bytes]
    cwd: bytes = b""
    environment: Mapping[bytes, bytes] | None = None
    stdin: Stream = None
    stdout: Stream = None
    stderr: Stream = None
    more: tuple[int, ...] = ()
    size: tuple[int, int] = NO_TERMINAL


class Course:
    """One command at its starter.

    ``returncode`` is None until it has ended, then as ``subprocess`` gives it. ``failure`` is the error where it could not be
    started. ``left``: something that it started is still alive. ``reusable``: its starter serves another. ``terminal`` is the
    outer end of its own terminal, the reader's from then on, -1 for none. ``notes``: what was observed of it; ``denials`` what that
    means, None until somebody asks.

    ``before`` is what limits had done when it was asked for, ``hits`` what they did until its end; ``counting`` its output, where
    that is limited. ``killed``: who asked for it has had it killed.
    """

    __slots__ = (
        *("argv", "before", "counting", "cwd", "denials", "failure", "hits", "killed", "largest", "left", "notes", "pid", "returncode"),
        *("reusable", "starter", "system", "terminal", "user"),
    )

    def __init__(self, starter: Starter, argv: list[bytes], cwd: bytes, before: Hits = _NOTHING, counting: Counting | None = None):
        self.starter, self.argv, self.cwd, self.before, self.counting = starter, argv, cwd, before, counting
        self.hits: Hits = _NOTHING
        self.denials: tuple[Denial, ...] | None = None
        self.killed = False
        self.pid = 0
        self.returncode: int | None = None
        self.failure: OSError | None = None
        self.left = self.reusable = False
        self.user = self.system = 0.0
        self.largest = 0
        self.notes = b""
        self.terminal = -1

    @property
    def over(self) -> bool:
        """Whether it has ended, or was never started."""
        return self.returncode is not None or self.failure is not None

    def hear(self) -> bool:
        """Read one answer; whether it is over. Raises Gone where its starter has ended, BlockingIOError on a socket that does not block."""
        kind, numbers, descriptor = self.starter.answer()
        if kind == frames.EXITED:
            status, self.user, self.system, self.largest = starters.usage(numbers)
            self.returncode = starters.exit_code(status)
            self.reusable, self.left = bool(numbers[1]), not numbers[1]
        elif kind == frames.STARTED:
            self.pid = numbers[0]
            self._take_terminal(descriptor)
            descriptor = -1
        elif kind == frames.FAILED:
            self.failure, self.reusable = self._failure(*numbers[:2]), True
        if descriptor >= 0:
            os.close(descriptor)
        return self.over

    def lost(self) -> None:
        """Its starter is gone, and the command with it."""
        if not self.over:
            self.returncode = -_signal.SIGKILL

    def _take_terminal(self, descriptor: int) -> None:
        """Whatever comes out of the sandbox is looked at before it is used."""
        if descriptor >= 0 and not terminal_sys.is_outer_end(descriptor):
            os.close(descriptor)
            descriptor = -1
        self.terminal = descriptor

    def _failure(self, errno: int, what: int) -> OSError:
        words = os.strerror(errno)
        match what:
            case frames.IN_DIRECTORY:
                return OSError(errno, words, os.fsdecode(self.cwd))
            case frames.IN_STREAMS if errno == 1:
                return PermissionError(errno, _WAY_OUT)
            case frames.IN_STREAMS:
                return OSError(errno, f"can't pass on the descriptors: {words}")
            case frames.IN_TERMINAL:
                return SetupFailed("open", "a terminal for the command", errno, words)
        return OSError(errno, words, os.fsdecode(self.argv[0]))
