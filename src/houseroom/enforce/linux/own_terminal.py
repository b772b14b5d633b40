"""A starter's side of a command with a terminal of its own.

The starter leads the terminal's session meanwhile. Were the command to lead it, as after a plain setsid(2), its process group would be an
orphan: Ctrl-Z would be dropped, and a program that stops itself would leave the user before a dead screen.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import os

from houseroom.enforce.linux import terminal_sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# What a terminal sends to its foreground, where the starter is until the command takes its place, and to its session's leader.
_FROM_TERMINAL = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU)
_STREAMS = (0, 1, 2)


class OwnTerminal:
    """A terminal that is our session's: a new pair of this size, or the ``given`` inner end, ours from here on. Raises OSError.

    ``outer`` is for the other side, -1 where that has it already. ``inner`` stays open here until ``close``, so that reading at the
    outer end goes on whatever the command closes.
    """

    def __init__(self, size: tuple[int, int], given: int = -1):
        self.outer, self.inner = -1, given
        self.former = {number: _signal.signal(number, _signal.SIG_IGN) for number in _FROM_TERMINAL}
        try:
            if given < 0:
                self.outer, path = terminal_sys.open_pair(size)
                self.inner = terminal_sys.open_inner(path)
            terminal_sys.take_control(self.inner)
        except OSError:
            self._restore()
            for fd in (self.outer, self.inner):
                if fd >= 0:
                    os.close(fd)
            raise

    def spawn(self, moves: list[tuple[int, int]], execute: Callable[[], object]) -> int:
        """Fork a process, with the terminal at each standard stream that no move (from, to) is for, and execute in it. Raises OSError.

        Not posix_spawn(3): who takes the foreground is a step between fork and exec that it does not have in Python.
        """
        told, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                terminal_sys.step_forward(self.inner, tuple(set(_STREAMS) - {to for _, to in moves}))
                for fd, to in moves:
                    os.dup2(fd, to)
                self._restore()
                execute()
            except OSError as error:
                os.write(tell, b"%d" % (error.errno or 5))
            finally:
                os._exit(127)
        os.close(tell)
        failure = os.read(told, 16)  # the end of the stream once the program has started
        os.close(told)
        if failure:
            os.waitpid(pid, 0)
            raise OSError(int(failure), os.strerror(int(failure)))
        return pid

    def pass_on(self) -> int:
        """The outer end, which is the caller's to close from here on."""
        outer, self.outer = self.outer, -1
        return outer

    def close(self) -> None:
        """The command has ended: we have no terminal any more."""
        if self.outer >= 0:
            os.close(self.outer)
        terminal_sys.let_go(self.inner)
        self._restore()

    def _restore(self) -> None:
        for number, action in self.former.items():
            _signal.signal(number, action)
