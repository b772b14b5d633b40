"""Waiting for descriptors in an event loop, and streams that are fed from them. Without threads, and without a task for each."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import asyncio
import os
from errno import EIO
from io import FileIO
from time import monotonic

from houseroom.enforce.linux.starters import Gone, readable
from houseroom.session import standing
from houseroom.session.exchange import LINGER, LINGER_AT_MOST, Exchange
from houseroom.session.running import TICK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.enforce.linux.starters import Starter
    from houseroom.session.course import Course
    from houseroom.session.standing import Standing

_AT_ONCE = 1 << 16
_LIMIT = 1 << 16  # of a line, as asyncio has it


class Source:
    """A descriptor that a StreamReader is fed from, in the place of its transport."""

    def __init__(self, fd: int):
        self._fd, self._loop = fd, asyncio.get_running_loop()
        self.reader = asyncio.StreamReader(limit=_LIMIT)
        self.reader.set_transport(self)  # type: ignore[arg-type]  # of which it uses only pausing and resuming
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _AT_ONCE)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != EIO:  # what a terminal says whose other side nobody holds any more, pty(7)
                self.reader.set_exception(error)
            data = b""
        if data:
            self.reader.feed_data(data)
        else:
            self._stop()

    def pause_reading(self) -> None:
        """The reader has more than enough."""
        self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        """It takes some again."""
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._read)

    def is_closing(self) -> bool:
        """Whether nothing comes any more."""
        return self._fd < 0

    def close(self) -> None:
        """Nobody holds the other end for long any more: the reader gets what is there, and meets the end."""
        while self._fd >= 0 and readable(self._fd, 0):
            self._read()
        self._stop()

    def _stop(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
            self.reader.feed_eof()


async def sink(fd: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader(), loop=loop)
    transport, _ = await loop.connect_write_pipe(lambda: protocol, FileIO(fd, "w"))
    return asyncio.StreamWriter(transport, protocol, None, loop)


async def ready(fd: int, *, write: bool = False) -> None:
    """Until a descriptor can be read or written."""
    loop = asyncio.get_running_loop()
    came: asyncio.Future[None] = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    add(fd, settle, came)
    try:
        await came
    finally:
        remove(fd)


def settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def lent(fd: int) -> int:
    sock = standing.ask_to_lend(fd)
    try:
        await ready(sock.fileno())
        return standing.lent(sock, fd)
    finally:
        sock.close()


class Waking:
    """While a starter is silent it is woken after 1, 2, 4 … seconds: a command may have stopped it."""

    def __init__(self, house: Standing, starter: Starter):
        self.house, self.starter, self.loop = house, starter, asyncio.get_running_loop()
        self.silent = TICK
        self.timer = self.loop.call_later(TICK, self._wake)

    def _wake(self) -> None:
        self.house.wake(self.starter, TICK)
        self.timer = self.loop.call_later(self.silent, self._wake)
        self.silent *= 2

    def stop(self) -> None:
        """It has spoken."""
        self.timer.cancel()


async def attend(house: Standing, course: Course, exchange: Exchange, seconds: float | None) -> bool:
    """Move bytes until the command is over; False where the time was up before. Raises Gone."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[bool] = loop.create_future()
    sock = course.starter.sock.fileno()

    def hear() -> None:
        try:
            if course.hear() and not over.done():
                over.set_result(True)
        except BlockingIOError:
            return
        except Gone as gone:
            loop.remove_reader(sock)
            if not over.done():
                over.set_exception(gone)

    def give_up() -> None:
        if not over.done():
            over.set_result(False)

    timer = None if seconds is None else loop.call_later(seconds, give_up)
    flow, waking = Flow(exchange), Waking(house, course.starter)
    loop.add_reader(sock, hear)
    try:
        in_time = await over
        loop.remove_reader(sock)
        if in_time:
            await flow.linger()
        return in_time
    finally:
        loop.remove_reader(sock)
        flow.stop()
        waking.stop()
        if timer is not None:
            timer.cancel()


class Flow:
    """An exchange that the loop drives."""

    def __init__(self, exchange: Exchange):
        self.exchange, self.loop = exchange, asyncio.get_running_loop()
        self.moved: asyncio.Future[None] | None = None
        for fd in exchange.reading:
            os.set_blocking(fd, False)
            self.loop.add_reader(fd, self._read, fd)
        if exchange.writing >= 0:
            self.loop.add_writer(exchange.writing, self._write)

    def _read(self, fd: int) -> None:
        if not self.exchange.read(fd):
            self.loop.remove_reader(fd)
            self.exchange.stop_reading(fd)
        if self.moved is not None:
            settle(self.moved)

    def _write(self) -> None:
        if not self.exchange.write():
            self._stop_writing()

    def _stop_writing(self) -> None:
        if self.exchange.writing >= 0:
            self.loop.remove_writer(self.exchange.writing)
            self.exchange.stop_writing()

    async def linger(self) -> None:
        """What is still to be read of a command that is over: to the end, unless something that it left running holds the pipe."""
        self._stop_writing()
        end = monotonic() + LINGER_AT_MOST
        while self.exchange.reading:
            self.moved = self.loop.create_future()
            await asyncio.wait([self.moved], timeout=max(0, min(LINGER, end - monotonic())))
            if not self.moved.done():
                return

    def stop(self) -> None:
        """The loop lets go of the descriptors."""
        for fd in self.exchange.reading:
            self.loop.remove_reader(fd)
        self._stop_writing()
