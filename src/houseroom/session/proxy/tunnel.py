"""Bytes between two connections until both directions have ended.

The first of them are looked at by who owns the tunnel and pass through our memory; what a connection carries beyond that is moved by
the kernel from one socket to the other (splice(2)), which never holds more than a pipe is filled with: who reads slowly slows the
sender, and nothing piles up.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress

from houseroom.session.proxy.account import RECEIVED, SENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.session.proxy.account import Counts

_CHUNK = 1 << 16  # bytes read at once, and what a pipe holds
_SMALL = 1 << 18  # bytes of one direction after which its pipe is worth having
_PIPE = 1 << 18
_F_SETPIPE_SZ = 1031
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Broken(Exception):
    """What was sent must not go on: both connections are to be reset."""


async def join(
    inner: socket.socket,
    outer: socket.socket,
    first: bytes = b"",
    look: Callable[[bytes], bytes | None] | None = None,
    counts: Counts | None = None,
) -> None:
    """Pass on both ways until both have ended. How many bytes went out and came in is added to ``counts`` before they are passed on.

    ``first`` has been read from ``inner`` already. ``look`` is shown what ``inner`` sends, all of it so far, until it returns what is to be
    passed on of it; None while it wants more, and it raises Broken for what must not go on.
    """
    counts = [0, 0, 0] if counts is None else counts
    out, back = _Way(inner, outer, counts, SENT), _Way(outer, inner, counts, RECEIVED)
    tasks = [asyncio.ensure_future(out.begin(first, look)), asyncio.ensure_future(back.begin(b"", None))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def reset(sock: socket.socket) -> None:
    """Close with a reset, so that the other side knows that this was no proper end (socket(7), SO_LINGER)."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


class _Way:
    """One direction."""

    def __init__(self, source: socket.socket, sink: socket.socket, counts: Counts, which: int):
        self.source, self.sink, self.count = source, sink, 0
        self.counts, self.which = counts, which
        self.loop = asyncio.get_running_loop()

    async def begin(self, first: bytes, look: Callable[[bytes], bytes | None] | None) -> None:
        try:
            if look is not None:
                first = await self._looked_at(first, look)
            while first or await self._more():
                self._add(len(first or self.data))
                await self.loop.sock_sendall(self.sink, first or self.data)
                first = b""
                if self.count > _SMALL and (pipe := _pipe()):
                    await self._move(*pipe)
                    break
            self.sink.shutdown(socket.SHUT_WR)
        except (ConnectionError, TimeoutError) as error:
            raise Broken(str(error)) from error
        except OSError as error:
            if error.errno != 107:  # ENOTCONN: the other side has gone already
                raise Broken(str(error)) from error

    def _add(self, size: int) -> None:
        self.count += size
        self.counts[self.which] += size

    async def _more(self) -> bool:
        self.data = await self.loop.sock_recv(self.source, _CHUNK)
        return bool(self.data)

    async def _looked_at(self, data: bytes, look: Callable[[bytes], bytes | None]) -> bytes:
        while True:
            passed = look(data) if data else None
            if passed is not None:
                return passed
            if not await self._more():
                return data
            data += self.data

    async def _move(self, reading: int, writing: int) -> None:
        """The rest, moved by the kernel. Closes both ends of the pipe."""
        try:
            size = _enlarged(writing)
            source, sink = self.source.fileno(), self.sink.fileno()
            while True:
                try:
                    held = os.splice(source, writing, size, flags=_FLAGS)
                except BlockingIOError:
                    await self._ready(self.loop.add_reader, self.loop.remove_reader, source)
                    continue
                if not held:
                    return
                self._add(held)
                while held:
                    try:
                        moved = os.splice(reading, sink, held, flags=_FLAGS)
                    except BlockingIOError:
                        await self._ready(self.loop.add_writer, self.loop.remove_writer, sink)
                        continue
                    held -= moved
        finally:
            os.close(reading)
            os.close(writing)

    async def _ready(self, add: Callable[..., object], remove: Callable[[int], object], fd: int) -> None:
        ready = self.loop.create_future()
        add(fd, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            remove(fd)


def _pipe() -> tuple[int, int] | None:
    """A pipe, where descriptors are left for one."""
    try:
        return os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None


def _enlarged(pipe: int) -> int:
    """A larger pipe where the user may still have one (pipe(7), pipe-user-pages-soft)."""
    import fcntl

    try:
        return fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE)
    except OSError:
        return _CHUNK
