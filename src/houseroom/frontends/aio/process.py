"""``AsyncProcess``: a command that runs in a session, for an event loop."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import asyncio
import os
import signal

from houseroom.enforce.linux import terminal_sys
from houseroom.enforce.linux.starters import Gone
from houseroom.frontends.aio.waiting import Source, Waking, sink
from houseroom.frontends.asked import late
from houseroom.frontends.known import Known
from houseroom.session.running import TOLD_WITHIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from houseroom.frontends.aio.session import AsyncSession
    from houseroom.frontends.asked import Asked
    from houseroom.session.course import Course
    from houseroom.session.exchange import Plumbing


class AsyncProcess(Known):
    """A command that runs in a session, in the manner of ``asyncio.subprocess.Process``.

    ``stdin`` is a StreamWriter, ``stdout`` and ``stderr`` are StreamReaders where they are pipes, else None. With a terminal of
    its own ``stdin`` and ``stdout`` are that terminal.
    """

    def __init__(self, session: AsyncSession, what: Asked, course: Course, withheld: tuple[str, ...]):
        super().__init__(session._standing(), course)
        self.args, self.withheld, self.pid, self._session = what.args, withheld, course.pid, session
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._listened = course.starter.sock.fileno()
        self._killed: asyncio.Future[bool] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._sources: list[Source] = []
        self._screen = -1
        self._timer: asyncio.TimerHandle | None = None
        self._waking: Waking | None = None
        session._processes.add(self)

    async def _open(self, plumbing: Plumbing) -> None:
        course, time = self._course, self._house.time
        if course.over:
            self._conclude()
        else:
            self._loop.add_reader(self._listened, self._hear)
            self._timer = None if time is None else self._loop.call_later(time, self._time_is_up)
            self._waking = Waking(self._house, course.starter)
        self._screen = course.terminal
        if self._screen >= 0:
            self.stdout = self._source(os.dup(self._screen))
            self.stdin = await sink(os.dup(self._screen))
        if (fd := plumbing.take("stdout")) >= 0:
            self.stdout = self._source(fd)
        if (fd := plumbing.take("stderr")) >= 0:
            self.stderr = self._source(fd)
        if (fd := plumbing.take("stdin")) >= 0:
            self.stdin = await sink(fd)

    def _source(self, fd: int) -> asyncio.StreamReader:
        source = Source(fd)
        self._sources.append(source)
        return source.reader

    async def wait(self, timeout: float | None = None) -> int:  # noqa: ASYNC109 — as in subprocess; a timeout of asyncio's kills, see below
        """Wait for the end. Raises ``subprocess.TimeoutExpired`` after ``timeout`` seconds, and the command goes on.

        Cancelled, also by ``asyncio.timeout`` and ``wait_for``, it kills everything that the command ever started.
        """
        try:
            await asyncio.wait([self._over], timeout=timeout)
        except asyncio.CancelledError:
            await self.end()
            raise
        if not self._over.done():
            raise late(self.args, timeout or 0, (None, None))
        if self._killed is not None:
            await self._killed
        assert self.returncode is not None
        return self.returncode

    async def communicate(self, input: bytes | None = None) -> tuple[bytes | None, bytes | None]:  # noqa: A002
        """Write ``input``, read all that comes, wait for the end. Cancelled, it kills as ``wait`` does."""
        try:
            out, err, _ = await asyncio.gather(all_of(self.stdout), all_of(self.stderr), self._feed(input))
        except asyncio.CancelledError:
            await self.end()
            raise
        await self.wait()
        return out, err

    async def _feed(self, data: bytes | None) -> None:
        if self.stdin is None:
            return
        try:
            self.stdin.write(data or b"")
            await self.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            pass  # it does not want all of it
        self.stdin.close()

    def send_signal(self, number: int) -> None:
        """Send a signal to the command, if it has not ended."""
        if self.returncode is None:
            self._course.killed |= number == signal.SIGKILL
            self._house.starters.signal(self.pid, number)

    def terminate(self) -> None:
        """Ask the command to end (SIGTERM)."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the command with everything it ever started; ``wait`` returns when nothing of it is alive."""
        if self._killed is None and (not self._over.done() or self._course.left):
            self._course.killed = True
            self._killed = self._session._tell_to_end(self._course.starter)
            self._course.left = False
            if not self._over.done():
                self._loop.call_later(sum(TOLD_WITHIN), self._give_up)

    async def end(self) -> None:
        """``kill``, wait, and close the streams."""
        self.kill()
        try:
            if self._killed is not None:
                await self._killed
            await asyncio.wait([self._over])
        finally:
            self._close()

    def resize(self, rows: int, columns: int) -> None:
        """Tell its terminal another size. Raises ValueError where it has none."""
        if self._screen < 0:
            raise ValueError("this command has no terminal of its own")
        terminal_sys.set_size(self._screen, (rows, columns))

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The lines of its output, as they come."""
        if self.stdout is None:
            raise ValueError("its output is no pipe")
        return self.stdout.__aiter__()

    def __repr__(self) -> str:
        return f"<AsyncProcess {self.pid}: {self.args!r}, {'running' if self.returncode is None else f'returncode {self.returncode}'}>"

    def _hear(self) -> None:
        try:
            over = self._course.hear()
        except BlockingIOError:
            return
        except Gone:
            self._house.drop_idle()
            self._killed = self._session._tell_to_end(self._course.starter, gone=True)
            over = True
        if over:
            self._conclude()

    def _conclude(self) -> None:
        """It is over. Where more is to be heard of it, its end is told when that has come."""
        self._loop.remove_reader(self._listened)
        if self._timer is not None:
            self._timer.cancel()
        if self._course.counting or self._house.to_be_heard:
            self._ending = self._loop.create_task(self._learn())
        else:
            self._finish()

    async def _learn(self) -> None:
        try:
            await self._session._take_notes(self._course)
        finally:
            self._finish()

    def _finish(self) -> None:
        """It is over, whatever has become of its starter."""
        course = self._course
        if self._over.done():
            return
        self._over.set_result(None)
        self._loop.remove_reader(self._listened)
        course.lost()
        self._house.conclude(course)
        self._house.keep(course.starter, reusable=course.reusable and self._killed is None)
        if self._timer is not None:
            self._timer.cancel()
        if self._waking is not None:
            self._waking.stop()
        if self._screen < 0 and not self._sources:
            self._session._processes.discard(self)

    def _give_up(self) -> None:
        """It was killed and its starter has not told."""
        if not self._over.done():
            self._loop.remove_reader(self._listened)
            self._session._abandon(self._course.starter)
            self._finish()

    def _time_is_up(self) -> None:
        self._stopped = True
        self.kill()

    def _lost(self) -> None:
        """The session is over."""
        self._finish()
        self._close()

    def _close(self) -> None:
        for source in self._sources:
            source.close()
        if self.stdin is not None:
            self.stdin.close()
        if self._screen >= 0:
            os.close(self._screen)
            self._screen = -1
        self._session._processes.discard(self)


async def all_of(reader: asyncio.StreamReader | None) -> bytes | None:
    return None if reader is None else await reader.read()
