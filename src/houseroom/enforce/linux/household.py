"""The init of a session: many commands, one after the other and at once, each below a starter of its own.

The supervisor talks to the starters itself. init is asked only for what they must not decide: to signal a process of a command, to
end a command with everything below its starter, and to clear the house where a command has ended the first starter.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import _socket
import os

from houseroom.enforce.linux import descendants, landlock_sys, process_sys, wire
from houseroom.enforce.linux.borrowed import process_field
from houseroom.enforce.linux.command import lock, restore_signals
from houseroom.enforce.linux.init import Init
from houseroom.enforce.linux.starter import keep_starting
from houseroom.plan import landlock
from houseroom.plan import steps as plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from houseroom.enforce.linux.command import Order


_DEEPEST = 64  # generations between a process and the starter of its command


class Household(Init):
    """One sandbox with its starters."""

    def __init__(self, control: int, umask: int, ignored: tuple[int, ...], order: Order):
        super().__init__(control, umask, ignored, order)
        self.watching = False  # an idle sandbox holds none of the few queues that a user may have

    def _bear(self) -> _socket.socket:
        descendants.require()
        self.outside, self.inside = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self.line = super()._bear()
        self.inside.close()
        return self.line

    def _begin(self, line: _socket.socket) -> NoReturn:
        process_sys.prctl(process_sys.PR_SET_DUMPABLE, 0)
        os.setsid()  # no terminal of the supervisor's controls a command
        process_sys.empty_streams()
        process_sys.close_except(3, line.fileno(), self.inside.fileno())
        lock(self.order, self.steps, line, umask=self.umask, cwd=b"/")
        restore_signals(self.ignored)
        network = any(isinstance(step, plan.Seccomp) and step.network == "open" for step in self.steps)
        keep_starting(self.inside, line, self._scope, network=network)

    def _scope(self) -> None:
        """One more Landlock domain, which all commands share and the process that can start again is not in: they can't signal it."""
        for step in self.steps:
            if isinstance(step, plan.Landlock) and (scopes := landlock.handled(step.abi)[2]):
                ruleset = landlock_sys.create_ruleset((0, 0, scopes), step.abi)
                landlock_sys.restrict_self(ruleset)
                os.close(ruleset)

    def _pass_on(self) -> None:
        wire.send_descriptor(self.control, self.outside.fileno())
        self.outside.close()

    def _sources(self) -> list[int]:
        return [self.line.fileno(), *super()._sources()]

    def _act(self, fd: int, events: int) -> None:
        if fd != self.line.fileno():
            super()._act(fd, events)
        elif self.line.recv(1):
            self._end_everything_below()
            self.line.send(b"g")
        else:  # nothing can be started any more
            self._leave()

    def _over(self) -> bool:
        return False  # until the supervisor goes

    def _obey(self, kind: int, number: int, more: int) -> None:
        if kind == wire.SIGNAL:
            self._signal(more, number)
        elif kind == wire.SIGNAL_GROUP:
            self._signal(more, number, group=True)
        elif kind == wire.END:
            self._end(number, gone=bool(more))
            wire.send_status(self.control, wire.ENDED, number)
        elif kind == wire.NOTES:
            self._tell_notes(number)
        elif kind == wire.WATCH:
            self.watching = True

    def _signal(self, pid: int, number: int, *, group: bool = False) -> None:
        if pid in descendants.below(self.child):  # it may have ended, and its number be another's
            try:
                os.kill(-pid if group else pid, number)
            except OSError:
                return  # it has ended meanwhile, or there is no such signal

    def _whose(self, pid: int) -> int:
        """The starter that a process is below: of those above it the second below the ancestor of all. 0 for what has left it."""
        above: list[int] = []
        while pid > 1 and pid != self.child and len(above) < _DEEPEST:
            above.append(pid)
            pid = int(process_field(pid, b"PPid:") or b"0")
        return above[-2] if pid == self.child and len(above) > 1 else 0

    def _end(self, starter: int, *, gone: bool) -> None:
        """Everything that a starter started; and if it is gone itself, all that fell to us."""
        if gone:
            # Its socket closes before its children are given to us (exit(2) does one after the other).
            descendants.await_death(starter)
            self._end_orphans()
        elif starter in descendants.below(self.child):
            os.kill(starter, _signal.SIGCONT)  # a command may have stopped it
            descendants.end_below(starter)
        else:  # what its command left running has ended it
            self._end_orphans()

    def _end_orphans(self) -> None:
        descendants.end_below(os.getpid(), spared=self.child)  # what one of them starts meanwhile falls to us too

    def _end_everything_below(self) -> None:
        descendants.end_below(self.child)
        self._end_orphans()

    def _ended(self, pid: int, status: int) -> None:
        """An orphan."""
