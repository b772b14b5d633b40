"""The user's terminal, while a command has a terminal of its own: what is typed goes in, what is printed comes out.

The command never gets the user's terminal itself. So it can't type into it, change it, or read it when its time is over; what it
prints is shown as it is, escape sequences included (THREATS.md).

What is typed is passed on raw, so Ctrl-C and Ctrl-Z are the inner terminal's. A command that Ctrl-Z has stopped there stops us with
our process group, as if it had been ours; when we are continued, so is it. A signal that somebody sends us is the command's.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import os
import termios
from select import POLLERR, POLLHUP, POLLIN, POLLOUT, poll
from time import monotonic

from houseroom.enforce.linux import terminal_sys
from houseroom.enforce.linux.launch import Ended
from houseroom.errors import SetupFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from houseroom.enforce.linux.launch import Cradle
    from houseroom.session.sandbox import Again, Command, Outcome, Prepared

    T = TypeVar("T")

FORWARDED = (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGUSR1, _signal.SIGUSR2, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTSTP)
_AT_ONCE = 1 << 16  # bytes read at once, and held back at most where the other side is slow
_LAST = 1 << 20  # bytes read at the end: what still prints then may never stop
_LOOK_AGAIN = 0.25  # seconds until the next look whether a shell has brought us to the foreground
_GRACE = 5.0  # seconds that a command has to end after its user's terminal has gone


def run(start: Callable[[Command], Prepared | Again], command: Command) -> Outcome:
    """Run one command in a terminal of its own if standard input and output are one terminal, else with the streams as they are."""
    from houseroom.session import sandbox

    shown = same_terminal(0, 1, 2)
    if shown[:2] != (0, 1):
        return sandbox.run(start(command), command)
    with Terminal(0) as terminal:
        own = command.with_(terminal=(*terminal.size, shown))
        return sandbox.run(start(own), own, terminal.wait)


def same_terminal(*streams: int) -> tuple[int, ...]:
    """Those of some descriptors that are the terminal which the first of them that is one is."""
    found: tuple[int, ...] = ()
    device = -1
    for fd in streams:
        try:
            if os.isatty(fd) and (not found or os.fstat(fd).st_rdev == device):
                device = os.fstat(fd).st_rdev
                found += (fd,)
        except OSError:
            continue
    return found


class Terminal:
    """The user's terminal at descriptor ``fd``, to be joined with the outer end of a command's own. A context manager.

    ``keyboard``: what is typed is the command's. ``whole``: so is the screen, and it has the keyboard; otherwise somebody else, a pager
    perhaps, may write to it too, and it goes on turning line ends into what it needs. Leaving the context puts everything back.
    """

    def __init__(self, fd: int, *, keyboard: bool = True, whole: bool = True):
        self.keyboard, self.whole = keyboard, whole and keyboard
        self.fd = _reopened(fd)
        self.outer = -1
        self.size = terminal_sys.size_of(fd)
        self.former: list[Any] | None = None  # the attributes to put back
        self.actions: dict[int, Any] = {}  # of signals
        self.typed, self.printed = bytearray(), bytearray()
        self.held = b""  # of what was printed: half a line end
        self.gone = False
        self.signal: Callable[[int], object] = lambda _number: None

    def join(self, outer: int, signal: Callable[[int], object]) -> None:
        """From now on the two terminals are one. ``signal`` passes a signal to the command's process group; ``outer`` is ours."""
        os.set_blocking(outer, False)
        self.outer, self.signal = outer, signal
        for number in FORWARDED:
            if _signal.getsignal(number) != _signal.SIG_IGN:
                self.actions[number] = _signal.signal(number, lambda which, _frame: signal(which))
        self.actions[_signal.SIGWINCH] = _signal.signal(_signal.SIGWINCH, lambda _which, _frame: self._resize())
        self.actions[_signal.SIGCONT] = _signal.signal(_signal.SIGCONT, lambda _which, _frame: self._take())
        self._take()

    def wait(self, cradle: Cradle, seconds: float | None) -> Ended:
        """Join the terminal of a cradle's command and attend to it until it has ended. Raises SetupFailed."""
        outer = cradle.descriptor()
        if outer < 0 or not terminal_sys.is_outer_end(outer):
            raise SetupFailed("open", "a terminal for the command", 0, "init gave none", "This is a bug of houseroom's.")
        self.join(outer, lambda number: cradle.signal(number, group=True))

        def hear() -> Ended | None:
            ended = cradle.hear()
            if ended and ended.kind == "stopped":
                self.suspend()
                return None
            return ended

        ended = self.attend(cradle.control, hear, seconds)
        return ended or Ended("hung-up" if self.gone else "timed-out", _signal.SIGHUP)

    def attend(self, news: int, hear: Callable[[], T | None], seconds: float | None = None) -> T | None:
        """Pass everything on until ``hear``, called when there is something to read at ``news``, has a result; that result.

        None where the time was up, or the user's terminal has gone and the command did not end for it.
        """
        waiting = poll()
        waiting.register(news, POLLIN)
        end = None if seconds is None else monotonic() + seconds
        result = None
        while result is None:
            self._expect(waiting)
            found = dict(waiting.poll(self._patience(end)))
            if end is not None and monotonic() >= end:
                break
            self._pass_on(found)
            if self.gone and self.outer >= 0:
                end = min(end or monotonic() + _GRACE, monotonic() + _GRACE)
                self._hang_up(waiting)
            if news in found:
                result = hear()
        self._finish()
        return result

    def suspend(self) -> None:
        """The command has stopped: stop too, with all who were started with us, and go on with it when we are continued.

        Where no shell could continue us the kernel does not stop us, and the command goes on at once.
        """
        self._give_back()
        former = _signal.signal(_signal.SIGTSTP, _signal.SIG_DFL)
        os.kill(0, _signal.SIGTSTP)
        _signal.signal(_signal.SIGTSTP, former)
        self._take()
        self.signal(_signal.SIGCONT)

    def _take(self) -> None:
        """Make the terminal raw where it is ours now, and tell the command its size."""
        self._resize()
        if self.former is None and self.keyboard and self._in_foreground():
            try:
                self.former = termios.tcgetattr(self.fd)
                termios.tcsetattr(self.fd, termios.TCSADRAIN, _raw(self.former, whole=self.whole))
            except termios.error:
                self.gone = True

    def _give_back(self) -> None:
        former, self.former = self.former, None
        if former is not None and self._in_foreground():
            try:
                termios.tcsetattr(self.fd, termios.TCSADRAIN, former)
            except termios.error:
                return  # it has gone

    def _in_foreground(self) -> bool:
        try:
            return os.tcgetpgrp(self.fd) == os.getpgrp()
        except OSError:
            return True  # it controls nobody here, so there is no background

    def _resize(self) -> None:
        try:
            terminal_sys.copy_size(self.fd, self.outer)
        except OSError:
            return  # one of the two has gone, which will be noticed

    def _expect(self, waiting: poll) -> None:
        if self.gone:
            return
        if self.former is None and self.keyboard:
            self._take()
        reading = self.former is not None and len(self.typed) < _AT_ONCE
        waiting.register(self.fd, POLLIN * reading | POLLOUT * bool(self.printed))
        if self.outer >= 0:
            waiting.register(self.outer, POLLIN * (len(self.printed) < _AT_ONCE) | POLLOUT * bool(self.typed))

    def _patience(self, end: float | None) -> float | None:
        """Milliseconds to wait at most."""
        left = None if end is None else max(0.0, end - monotonic())
        if self.keyboard and self.former is None:
            left = _LOOK_AGAIN if left is None else min(left, _LOOK_AGAIN)
        return None if left is None else left * 1000

    def _pass_on(self, found: dict[int, int]) -> None:
        ours, theirs = found.get(self.fd, 0), found.get(self.outer, 0)
        if theirs & (POLLIN | POLLHUP | POLLERR):
            self._print(_read(self.outer) or b"")
        if ours & POLLIN:
            typed = _read(self.fd)
            if typed is not None:
                self.typed += typed
            elif self._in_foreground():
                self.gone = True
            else:  # a shell has taken it back, with attributes of its own
                self.former = None
        elif ours & (POLLHUP | POLLERR):
            self.gone = True
        self._write()

    def _print(self, data: bytes) -> None:
        """Line ends as they were before the command's terminal had them, where the user's sees to them by itself."""
        if not self.whole:
            data = self.held + data
            self.held = data[-1:] if data[-1:] == b"\r" else b""
            data = data[: len(data) - len(self.held)].replace(b"\r\n", b"\n")
        self.printed += data

    def _write(self) -> None:
        if self.typed and self.outer >= 0:
            try:
                del self.typed[: _written(self.outer, self.typed)]
            except OSError:
                self.typed.clear()  # nobody is there to read it any more
        if self.printed:
            try:
                del self.printed[: _written(self.fd, self.printed)]
            except OSError:
                self.gone = True

    def _hang_up(self, waiting: poll) -> None:
        """The user's terminal has gone: so does the command's. Whoever ignores that is ended a little later."""
        self.signal(_signal.SIGHUP)
        self.signal(_signal.SIGCONT)
        waiting.unregister(self.outer)
        waiting.unregister(self.fd)
        os.close(self.outer)
        self.outer, self.keyboard = -1, False
        self.printed.clear()

    def _finish(self) -> None:
        """Show what was printed last. Of what was typed last, nobody will read anything."""
        last = _LAST
        while self.outer >= 0 and last > 0 and (data := _read(self.outer)):
            self._print(data)
            last -= len(data)
        self.printed += self.held
        waiting = poll()
        waiting.register(self.fd, POLLOUT)
        while self.printed and not self.gone:
            waiting.poll()
            self._write()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()
        for number, action in self.actions.items():
            _signal.signal(number, action)
        for fd in (self.outer, self.fd):
            if fd >= 0:
                os.close(fd)
        self.outer = self.fd = -1


def _reopened(fd: int) -> int:
    """A description of our own, which need not block; the user's is shared with shells and others. After su(1) it can't be had."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return os.dup(fd)


def _raw(attributes: list[Any], *, whole: bool) -> list[Any]:
    """As cfmakeraw(3), from the attributes that tcgetattr(3) gave; output as it is unless all of it is ours."""
    inwards, outwards, control, local, *speeds, characters = attributes
    inwards &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
    )
    local &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    control = control & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    if whole:
        outwards &= ~termios.OPOST
    characters = [*characters]
    characters[termios.VMIN], characters[termios.VTIME] = 1, 0
    return [inwards, outwards, control, local, *speeds, characters]


def _read(fd: int) -> bytes | None:
    """What there is, b"" where there is nothing now, None at the end or where the other side has gone."""
    try:
        return os.read(fd, _AT_ONCE) or None
    except BlockingIOError:
        return b""
    except OSError:
        return None


def _written(fd: int, data: bytearray) -> int:
    """How many bytes could be written now. Raises OSError where the other side has gone."""
    try:
        return os.write(fd, data[:_AT_ONCE])
    except BlockingIOError:
        return 0
