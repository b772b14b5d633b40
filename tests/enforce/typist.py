"""A person at a terminal: a program runs in a new pseudo-terminal, keys are typed when something was read, all is written down."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Iterable, Sequence

import pytest
from runner import CONTROLS_ONLY, PATIENCE, Bench

SIZE = (24, 80)
Flags = list[object]


class Typist:
    """``argv`` runs as the leader of the terminal's session, as a terminal emulator starts a shell. A context manager."""

    def __init__(self, bench: Bench, argv: Sequence[str], *, size: tuple[int, int] = SIZE, **environment: str):
        if CONTROLS_ONLY:
            pytest.skip("only controls were asked for")
        self.text = b""
        self.at = 0  # what was read before was waited for already
        self.status: int | None = None
        variables = {**bench.ordinary_environment(), "PYTHONPATH": str(bench.identity.base / "src"), "PS1": "ready> ", **environment}
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            self._become(bench, argv, variables, size)
        self.attributes = termios.tcgetattr(self.master)  # the master tells those of the terminal that the program has

    @staticmethod
    def _become(bench: Bench, argv: Sequence[str], variables: dict[str, str], size: tuple[int, int]) -> None:
        try:
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP):  # whoever runs the tests may ignore them, which is inherited
                signal.signal(number, signal.SIG_DFL)
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", *size, 0, 0))
            os.chdir(bench.stage.workspace)
            if os.geteuid() == 0 and bench.identity.uid != 0:
                os.fchown(0, bench.identity.uid, -1)
                os.setgroups([])
                os.setgid(bench.identity.gid)
                os.setuid(bench.identity.uid)
            os.execvpe(argv[0], list(argv), variables)
        finally:
            os._exit(99)

    def read(self, seconds: float = 0.1) -> bool:
        """Read what comes within so many seconds; False at the end of it."""
        if not select.select([self.master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.master, 1 << 16)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        self.text += data
        return bool(data)

    def wait_for(self, text: str | bytes) -> None:
        """Until the program has printed this since the last time."""
        wanted = text.encode() if isinstance(text, str) else text
        until = time.monotonic() + PATIENCE
        while wanted not in self.text[self.at :]:
            assert time.monotonic() < until, f"{wanted!r} never came\n{self}"
            assert self.read() or wanted in self.text[self.at :], f"it ended without {wanted!r}\n{self}"
        self.at += self.text[self.at :].index(wanted) + len(wanted)

    def until(self, look: Callable[[], bool], what: str = "it") -> None:
        """Until something is so, reading meanwhile."""
        end = time.monotonic() + PATIENCE
        while not look():
            assert time.monotonic() < end, f"{what} never came to be\n{self}"
            self.read(0.02)

    def type(self, keys: str | bytes) -> None:
        """Type; reading meanwhile, for nobody types into a terminal that has no room."""
        data = keys.encode() if isinstance(keys, str) else keys
        os.set_blocking(self.master, False)
        until = time.monotonic() + PATIENCE
        while data:
            assert time.monotonic() < until, f"{len(data)} bytes could not be typed\n{self}"
            try:
                data = data[os.write(self.master, data[:4096]) :]
            except BlockingIOError:
                self.read(0.01)
            if select.select([self.master], [], [], 0)[0]:
                self.read(0)
        os.set_blocking(self.master, True)

    def say(self, steps: Iterable[tuple[str, str | bytes]]) -> None:
        """Wait for each text, then type each answer."""
        for text, keys in steps:
            self.wait_for(text)
            self.type(keys)

    def resize(self, rows: int, columns: int) -> None:
        """As when somebody pulls at the window's corner."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def raw(self) -> bool:
        """Whether keys are passed on one by one at this moment."""
        return not termios.tcgetattr(self.master)[3] & termios.ICANON

    def as_before(self) -> bool:
        """Whether the terminal is as it was at the start."""
        return termios.tcgetattr(self.master) == self.attributes

    def end(self) -> int:
        """Read to the end; the exit status as ``subprocess`` gives it."""
        until = time.monotonic() + PATIENCE
        while self.read():
            assert time.monotonic() < until, f"it does not end\n{self}"
        return self.reap()

    def reap(self) -> int:
        """Wait for the program; its exit status."""
        if self.status is None:
            until = time.monotonic() + PATIENCE
            while (found := os.waitpid(self.pid, os.WNOHANG))[0] == 0:
                assert time.monotonic() < until, f"it does not end\n{self}"
                time.sleep(0.01)
            self.status = os.waitstatus_to_exitcode(found[1])
        return self.status

    def close(self) -> None:
        """Close the window."""
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def __enter__(self) -> Typist:
        return self

    def __exit__(self, *_: object) -> None:
        if self.status is None and os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            os.kill(self.pid, signal.SIGKILL)  # its own child only: what it started ends with it or hears the window close
            os.waitpid(self.pid, 0)
        self.close()

    def __str__(self) -> str:
        return "--- the screen\n" + self.text[-3000:].decode(errors="replace")
