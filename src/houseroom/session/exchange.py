"""What goes into a command and comes out of it: pipes, and bytes through them. Nothing here waits; who drives it says when.

The names PIPE, STDOUT and DEVNULL are those of ``subprocess``, and so are their values.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from errno import EIO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

    Stream = int | IO[Any] | None

PIPE, STDOUT, DEVNULL = -1, -2, -3
LINGER, LINGER_AT_MOST = 0.25, 2.0  # seconds, of silence and in all, to wait for output of what an ended command left running
_AT_ONCE = 1 << 16  # what a pipe holds, pipe(7)
END_OF_FILE = b"\x04"  # typed on a terminal, termios(3): VEOF


class Plumbing:
    """The descriptors that a command gets, in ``passed`` for the numbers in ``targets``, and our ends of its pipes in ``ours``.

    ``ours`` is by name: stdin, stdout, stderr. With a terminal of the command's own, what is not said is the terminal.
    Raises OSError and ValueError for a stream that is none.
    """

    def __init__(self, stdin: Stream, stdout: Stream, stderr: Stream, more: tuple[int, ...] = (), *, terminal: bool = False):
        self.passed: list[int] = []
        self.targets: tuple[int, ...] = ()
        self.ours: dict[str, int] = {}
        self.theirs: list[int] = []  # to be closed when they have been passed
        try:
            for number, name, stream in ((0, "stdin", stdin), (1, "stdout", stdout), (2, "stderr", stderr)):
                if not terminal or (stream is not None and not (stream == STDOUT and stdout is None)):
                    self._add(number, self._choose(number, name, stream))
            for fd in more:
                self._add(fd, fd)
        except BaseException:
            self.close()
            raise

    def _add(self, target: int, fd: int) -> None:
        if target in self.targets:
            raise ValueError(f"descriptor {target} is passed twice")
        self.passed.append(fd)
        self.targets = (*self.targets, target)

    def _choose(self, number: int, name: str, stream: Stream) -> int:
        if stream is None and _is_a_stream(number):
            return number
        if stream == PIPE:
            reading, writing = os.pipe2(os.O_CLOEXEC)
            ours, theirs = (writing, reading) if number == 0 else (reading, writing)
            self.ours[name] = ours
            self.theirs.append(theirs)
            return theirs
        if stream in (None, DEVNULL):
            self.theirs.append(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
            return self.theirs[-1]
        if stream == STDOUT:
            if number != 2:
                raise ValueError("only stderr can be STDOUT")
            return self.passed[self.targets.index(1)] if 1 in self.targets else 1
        fd = stream if isinstance(stream, int) else stream.fileno()
        if fd < 0:
            raise ValueError(f"no descriptor: {fd}")
        return fd

    def replace(self, at: int, fd: int) -> None:
        """Pass another descriptor, which is ours to close, in the place of one."""
        self.theirs.append(fd)
        self.passed[at] = fd

    def close_theirs(self) -> None:
        """They have been passed: only the command holds them now."""
        while self.theirs:
            os.close(self.theirs.pop())

    def take(self, name: str) -> int:
        """Our end of a stream, which is the caller's from here on; -1 where it is no pipe of ours."""
        return self.ours.pop(name, -1)

    def close(self) -> None:
        """Close what nobody has taken."""
        self.close_theirs()
        while self.ours:
            os.close(self.ours.popitem()[1])


def _is_a_stream(number: int) -> bool:
    """Whether a standard stream is one that programs inherit.

    Where it was closed, the number may be that of anything opened since, by whatever library; what Python opens is not inherited.
    """
    try:
        return os.get_inheritable(number)
    except OSError:
        return False


class Captured:
    """What was read of one stream: at most ``limit`` bytes, and how many more there were."""

    def __init__(self, limit: int | None):
        self.parts: list[bytes] = []
        self.room = limit
        self.cut = 0

    def add(self, data: bytes) -> None:
        """Keep what there is room for."""
        if self.room is None:
            self.parts.append(data)
            return
        kept = data[: self.room]
        self.room -= len(kept)
        self.cut += len(data) - len(kept)
        if kept:
            self.parts.append(kept)

    def bytes(self) -> bytes:
        """All that was kept."""
        return b"".join(self.parts)


class Exchange:
    """Bytes through our ends of a command's pipes, which are closed as each comes to its end.

    ``reading`` are the descriptors that something may still come from, ``writing`` the one that ``waits to be written``, -1
    for none.
    """

    def __init__(self) -> None:
        self.reading: dict[int, Captured] = {}
        self.writing = -1
        self._input = memoryview(b"")

    @property
    def busy(self) -> bool:
        """Whether there is anything left to read or write."""
        return bool(self.reading) or self.writing >= 0

    def connect(self, terminal: int, plumbing: Plumbing, data: bytes | None, limit: int | None) -> tuple[Captured | None, Captured | None]:
        """Our ends of a command's pipes, or of its terminal, become the exchange's. Returns what will be captured of its output."""
        if terminal >= 0:
            if data is not None:
                self.feed(os.dup(terminal), data + END_OF_FILE)
            return self.capture(terminal, limit), None
        if (fd := plumbing.take("stdin")) >= 0:
            self.feed(fd, data or b"")
        out, err = plumbing.take("stdout"), plumbing.take("stderr")
        return (self.capture(out, limit) if out >= 0 else None, self.capture(err, limit) if err >= 0 else None)

    def capture(self, fd: int, limit: int | None) -> Captured:
        """Read a descriptor, which is ours to close from here on, to its end."""
        self.reading[fd] = Captured(limit)
        return self.reading[fd]

    def feed(self, fd: int, data: bytes | memoryview) -> None:
        """Write to a descriptor, which is ours to close from here on, and close it."""
        os.set_blocking(fd, False)
        self.writing, self._input = fd, memoryview(data).cast("B")
        if not self._input:
            self.stop_writing()

    def read(self, fd: int) -> bool:
        """Read once from a descriptor that has something, or its end. False at the end: then ``stop_reading``."""
        try:
            data = os.read(fd, _AT_ONCE)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno != EIO:  # what a terminal says whose other side nobody holds any more, pty(7)
                raise
            data = b""
        if data:
            self.reading[fd].add(data)
        return bool(data)

    def write(self) -> bool:
        """Write once to a descriptor that takes something. False where that was all: then ``stop_writing``."""
        try:
            self._input = self._input[os.write(self.writing, self._input[:_AT_ONCE]) :]
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno not in (EIO, 32):  # nobody reads it any more: EPIPE
                raise
            self._input = self._input[:0]
        return bool(self._input)

    def stop_reading(self, fd: int) -> None:
        """Close one."""
        del self.reading[fd]
        os.close(fd)

    def stop_writing(self) -> None:
        """Close it: the reader meets the end."""
        self._input = memoryview(b"")
        fd, self.writing = self.writing, -1
        if fd >= 0:
            os.close(fd)

    def close(self) -> None:
        """Close all that is left."""
        self.stop_writing()
        for fd in list(self.reading):
            self.stop_reading(fd)
