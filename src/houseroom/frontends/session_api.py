"""``Session``: one sandbox, many commands, in the manner of ``subprocess``."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import io
import os
import signal
from _thread import allocate_lock
from errno import EIO
from time import monotonic

from houseroom.enforce.linux import terminal_sys
from houseroom.enforce.linux.starters import Gone, readable
from houseroom.frontends.asked import SIZE, asked, completed, given, late
from houseroom.frontends.completed import Completed
from houseroom.frontends.known import Known
from houseroom.session import running
from houseroom.session.exchange import END_OF_FILE, Exchange, Plumbing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from threading import Timer
    from typing import Any, Self, Unpack

    from houseroom.frontends.api import Sandbox
    from houseroom.frontends.arguments import Description, Path, Stream, Words
    from houseroom.frontends.asked import Asked
    from houseroom.policy.model import Policy
    from houseroom.policy.traffic import Traffic
    from houseroom.session.course import Course
    from houseroom.session.exchange import Captured
    from houseroom.session.standing import Standing


class Session:
    """A sandbox that stands, and commands in it: one after the other or at once, from any thread.

    ``sandbox`` is a description of it, or a policy; without either the arguments are those of ``Sandbox``. ``env`` stands in
    for this process's environment, of which commands get what the policy lets through. Use it as a context manager, or close
    it: then everything inside has ended.

    Raises PolicyError, CannotEnforce and SetupFailed where it can't be built.
    """

    def __init__(
        self, sandbox: Sandbox | Policy | None = None, *, env: Mapping[str, str] | None = None, **description: Unpack[Description]
    ):
        from houseroom.frontends.api import described

        self.sandbox = described(sandbox, description)
        self._house: Standing = running.build(self.sandbox.request(given(env)))

    @property
    def workspace(self) -> str:
        """The directory that commands start in and may write."""
        return os.fsdecode(self._house.workspace)

    @property
    def withheld(self) -> tuple[str, ...]:
        """The environment variables that commands do not get."""
        return self._house.withheld

    @property
    def unwatched(self) -> bool:
        """Whether the host let not every directory be watched, so a hidden file that is made or replaced meanwhile may show.

        True from the first command on, or soon after (fs.inotify.max_user_watches and max_user_instances, inotify(7)).
        """
        return self._house.unwatched

    @property
    def reached(self) -> tuple[Traffic, ...]:
        """The listed hosts that were reached until now, or until the session was closed, with connections and bytes."""
        return self._house.reached()

    def run(
        self,
        argv: Words,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        input: str | bytes | None = None,  # noqa: A002 — the name that subprocess.run has for it
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        capture_output: bool = False,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        timeout: float | None = None,
        check: bool = False,
        output_limit: int | None = None,
        pty: bool = False,
        size: tuple[int, int] = SIZE,
        pass_fds: Sequence[int] = (),
    ) -> Completed:
        """Run one command and wait for it.

        Arguments mean what they mean for ``subprocess.run``. ``cwd`` is below the workspace unless it is absolute; ``env``
        replaces the session's environment before the policy withholds from it. ``output_limit`` is in bytes, of each stream: the
        command goes on, what is more is read and dropped, and ``Completed.cut`` says how much. With ``pty`` the command has
        a terminal of its own with ``size`` rows and columns; what it shows there is ``stdout``.

        Raises FileNotFoundError, PermissionError, NotADirectoryError or another OSError for a command or directory that can't
        be used, SessionEnded, ``subprocess.TimeoutExpired`` when ``timeout`` seconds have passed and everything that the command
        started was killed, and with ``check`` CalledProcessError.
        """
        how = asked(
            argv, cwd=cwd, env=env, input=input, stdin=stdin, stdout=stdout, stderr=stderr, capture_output=capture_output,
            text=text, encoding=encoding, errors=errors, pty=pty, size=size, pass_fds=pass_fds,
        )  # fmt: skip
        before = self._house.reached()
        try:
            done = running.run(self._house, how.call, data=how.data, seconds=timeout, limit=output_limit)
        except running.TimeIsUp as too_late:
            assert timeout is not None
            raise late(how.args, timeout, (too_late.stdout, too_late.stderr)) from None
        streams, denials = (done.stdout, done.stderr), self._house.denials(done.course)
        outcome = self._house.outcome(done.course, late=done.stopped)
        reached = self._house.reached_since(before)
        ended = completed(how.args, done.course, how.spelt, streams, done.withheld, outcome, denials, reached)
        if check:
            ended.check_returncode()
        return ended

    def popen(
        self,
        argv: Words,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        bufsize: int = -1,
        pty: bool = False,
        size: tuple[int, int] = SIZE,
        pass_fds: Sequence[int] = (),
    ) -> Process:
        """Start one command and go on. The arguments are those of ``run`` and of ``subprocess.Popen``; raises as ``run``."""
        how = asked(
            argv, cwd=cwd, env=env, stdin=stdin, stdout=stdout, stderr=stderr,
            text=text, encoding=encoding, errors=errors, pty=pty, size=size, pass_fds=pass_fds,
        )  # fmt: skip
        plumbing = Plumbing(stdin, stdout, stderr, how.call.more, terminal=pty)
        try:
            course, withheld = running.start(self._house, how.call, plumbing, quiet=False)
            return Process(self._house, how, course, plumbing, bufsize, withheld)
        finally:
            plumbing.close()

    def close(self) -> None:
        """End everything inside, and wait until nothing is alive. Once is enough; more does nothing."""
        running.close(self._house)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Session in {self.workspace}{', ' + self._house.over if self._house.over else ''}>"


class Process(Known):
    """A command that runs in a session, in the manner of ``subprocess.Popen``. From any thread.

    ``pid`` is its number inside. ``stdin``, ``stdout`` and ``stderr`` are file objects where they are pipes, else None. With a
    terminal of its own ``stdin`` and ``stdout`` are that terminal. As a context manager it waits for the end, and kills
    everything that the command started where the block is left by an exception.
    """

    def __init__(self, house: Standing, how: Asked, course: Course, plumbing: Plumbing, bufsize: int, withheld: tuple[str, ...]):
        super().__init__(house, course)
        self.args, self.withheld, self.pid, self._spelt = how.args, withheld, course.pid, how.spelt
        self._hearing = allocate_lock()
        self._ending = allocate_lock()  # held while all below the starter is ended: it must not have another command by then
        self._exchange: Exchange | None = None
        self._captured: tuple[Captured | None, Captured | None] = (None, None)
        self.stdin: Any = None
        self.stdout: Any = None
        self.stderr: Any = None
        self._screen: _Terminal | None = None
        if course.terminal >= 0:
            self._screen = _Terminal(course.terminal)
            self.stdin = self._opened(_Terminal(os.dup(course.terminal)), bufsize, writing=True)
            self.stdout = self._opened(self._screen, bufsize)
        if (fd := plumbing.take("stdin")) >= 0:
            self.stdin = self._opened(io.FileIO(fd, "w"), bufsize, writing=True)
        if (fd := plumbing.take("stdout")) >= 0:
            self.stdout = self._opened(io.FileIO(fd), bufsize)
        if (fd := plumbing.take("stderr")) >= 0:
            self.stderr = self._opened(io.FileIO(fd), bufsize)
        self._timer = None if house.time is None or course.over else _after(house.time, self._time_is_up)

    def _opened(self, raw: io.RawIOBase, bufsize: int, *, writing: bool = False) -> Any:
        """A stream in the form that was asked for; what is typed on a terminal goes at once."""
        kind = io.BufferedWriter if writing else io.BufferedReader
        size = bufsize if bufsize > 1 else io.DEFAULT_BUFFER_SIZE
        if not self._spelt.text:
            return raw if bufsize == 0 or (writing and raw.isatty()) else kind(raw, size)
        at_once = bufsize == 1 or raw.isatty()
        encoding, errors = self._spelt.encoding, self._spelt.errors
        return io.TextIOWrapper(kind(raw, size), encoding, errors, line_buffering=at_once, write_through=writing)

    def poll(self) -> int | None:
        """The return code if it has ended."""
        self._hear(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end. Raises ``subprocess.TimeoutExpired`` after ``timeout`` seconds, and the command goes on."""
        if not self._hear(timeout):
            raise late(self.args, timeout or 0, self._captured)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, input: str | bytes | None = None, timeout: float | None = None) -> tuple[Any, Any]:  # noqa: A002
        """Write ``input``, read all that comes, wait for the end. Raises as ``wait``; called again, it goes on where it was."""
        with self._hearing:
            if self._exchange is None:
                self._exchange = self._connect(self._spelt.encode(input))
            try:
                in_time = running.attend(self._house, self._course, self._exchange, timeout)
            except Gone:
                self._bury()
                running.drain(self._exchange)
                in_time = True
            else:
                self._finish()
        if not in_time:
            raise late(self.args, timeout or 0, self._captured)
        self._exchange.close()
        out, err = self._captured
        return self._spelt.decode(out), self._spelt.decode(err)

    def send_signal(self, number: int) -> None:
        """Send a signal to the command, if it has not ended."""
        if self.poll() is None:
            self._course.killed |= number == signal.SIGKILL
            self._house.starters.signal(self.pid, number)

    def terminate(self) -> None:
        """Ask the command to end (SIGTERM)."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the command with everything it ever started, and return when nothing of it is alive."""
        if self.poll() is None or self._course.left:
            with self._ending:
                if not self._course.over or self._course.left:
                    self._course.killed = True
                    self._house.starters.end(self._course.starter)
            self._hear(sum(running.TOLD_WITHIN))
            with self._hearing:
                if not self._course.over:
                    self._house.starters.abandon(self._course.starter)
                    self._course.lost()
                    self._finish()
                self._course.left = False

    def resize(self, rows: int, columns: int) -> None:
        """Tell its terminal another size. Raises ValueError where it has none."""
        if self._screen is None:
            raise ValueError("this command has no terminal of its own")
        terminal_sys.set_size(self._screen.fileno(), (rows, columns))

    def __iter__(self) -> Iterator[Any]:
        """The lines of its output, as they come."""
        return iter(self.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None:
                self.kill()
            self._close_streams()
        finally:
            self.wait()

    def __repr__(self) -> str:
        return f"<Process {self.pid}: {self.args!r}, {'running' if self.returncode is None else f'returncode {self.returncode}'}>"

    def _hear(self, seconds: float | None) -> bool:
        """Whether it is over, waiting so long to learn it. One thread reads what the starter says."""
        end = None if seconds is None else monotonic() + seconds
        if not self._hearing.acquire(blocking=seconds != 0, timeout=-1 if seconds is None or seconds <= 0 else seconds):
            return self._course.over
        try:
            silent = 0
            while not self._course.over:
                left = running.TICK if end is None else max(0, min(running.TICK, end - monotonic()))
                if not readable(self._course.starter.sock.fileno(), left):
                    if end is not None and monotonic() >= end:
                        return False
                    silent = self._house.wake(self._course.starter, silent + 1)
                    continue
                try:
                    self._course.hear()
                except Gone:
                    self._bury()
                else:
                    self._finish()
            return True
        finally:
            self._hearing.release()

    def _finish(self) -> None:
        if self._course.over:
            with self._ending:
                running.release(self._house, self._course)
            self._stop_timer()

    def _bury(self) -> None:
        """With its starter it has ended, or with the whole session."""
        running.bury(self._house, self._course)
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_is_up(self) -> None:
        with self._ending:
            if not self._course.over:
                self._stopped = True
                self._house.starters.end(self._course.starter)

    def _connect(self, data: bytes | None) -> Exchange:
        """From now on an exchange reads and writes, in the place of the streams."""
        exchange = Exchange()
        if self._screen is not None:
            if data is not None:
                exchange.feed(_taken(self.stdin), data + END_OF_FILE)
        elif self.stdin is not None and not self.stdin.closed:
            exchange.feed(_taken(self.stdin), data or b"")
        out, err = (
            exchange.capture(_taken(stream), None) if stream is not None and not stream.closed else None
            for stream in (self.stdout, self.stderr)
        )
        self._captured = (out, err)
        return exchange

    def _close_streams(self) -> None:
        for stream in (self.stdout, self.stderr, self.stdin):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:  # what was written last, nobody reads any more
                    continue


class _Terminal(io.RawIOBase):
    """The outer end of a terminal as a raw stream: reading ends where nobody inside holds it any more."""

    def __init__(self, fd: int):
        super().__init__()
        self._fd = fd

    def fileno(self) -> int:
        self._checkClosed()
        return self._fd

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            return os.readv(self.fileno(), [buffer])
        except OSError as error:
            if error.errno == EIO:  # pty(7)
                return 0
            raise

    def write(self, data: Any) -> int:
        return os.write(self.fileno(), data)

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()


def _taken(stream: Any) -> int:
    """A stream's descriptor, for others to read or write: the stream itself is closed."""
    fd = os.dup(stream.fileno())
    stream.close()
    return fd


def _after(seconds: float, act: Callable[[], None]) -> Timer:
    """Nobody may be waiting when the time is up, so somebody must."""
    from threading import Timer

    timer = Timer(seconds, act)
    timer.daemon = True
    timer.start()
    return timer
