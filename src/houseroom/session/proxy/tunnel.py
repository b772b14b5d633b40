"""Bytes between two connections until both directions have ended.

Nothing is held here: what the sink does not take yet stays in the source's own socket, where it was only looked at (recv(2),
MSG_PEEK), and is taken out of it when it has been passed on. So who reads slowly slows the sender, and a connection that nobody reads
costs what its sockets may hold (``buffers``). Moving large pieces by two copies takes less of the processor than moving their pages
through a pipe (splice(2)), and needs no pipe.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import asyncio
import socket
from collections.abc import Callable, Collection, Coroutine, Iterable
from contextlib import suppress
from typing import Any

from houseroom.session.proxy.account import RECEIVED, SENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.session.proxy.account import Counts

LINGER = 10.0  # seconds in which what was sent before a sandbox's end may still be fetched
_CHUNK = 1 << 16  # bytes looked at in the beginning
_LEAST, _MOST = 1 << 14, 1 << 20  # bytes of one piece; after each it is other connections' turn
_SCRATCH = memoryview(bytearray(_MOST))  # used within one turn, and nothing in it is needed after


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
    await both(out.begin(first, look), back.begin(b"", None))


async def both(*ways: Coroutine[Any, Any, None]) -> None:
    """Until both directions have ended, or one of them is broken: then the other one ends too."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def outlast(readers: Iterable[socket.socket], running: Collection[asyncio.Task[None]]) -> None:
    """The sandbox has ended. What was sent before is still on its way, as it is when a program on the host ends; nothing more is.

    ``readers``: the sockets of those to whom it goes, from whom nothing is wanted any more. ``running`` ends with the last of it.
    """
    for sock in readers:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RD)
    if running:
        await asyncio.wait(running, timeout=LINGER)


def reset(sock: socket.socket) -> None:
    """Close with a reset, so that the other side knows that this was no proper end (socket(7), SO_LINGER)."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


class _Way:
    """One direction. ``size``: how much the next piece may be."""

    def __init__(self, source: socket.socket, sink: socket.socket, counts: Counts, which: int):
        self.source, self.sink, self.counts, self.which = source, sink, counts, which
        self.size, self.full = _LEAST, False
        self.loop = asyncio.get_running_loop()

    async def begin(self, first: bytes, look: Callable[[bytes], bytes | None] | None) -> None:
        try:
            if look is not None:
                first = await self._looked_at(first, look)
            if first:
                self._add(len(first))
                await self.loop.sock_sendall(self.sink, first)
            await self._flow()
            self.sink.shutdown(socket.SHUT_WR)
        except (ConnectionError, TimeoutError) as error:
            raise Broken(str(error)) from error
        except OSError as error:
            if error.errno != 107:  # ENOTCONN: the other side has gone already
                raise Broken(str(error)) from error

    def _add(self, size: int) -> None:
        """Counted before it is passed on, so that nothing is missing when a command that has read it has ended."""
        self.counts[self.which] += size

    async def _looked_at(self, data: bytes, look: Callable[[bytes], bytes | None]) -> bytes:
        while True:
            passed = look(data) if data else None
            if passed is not None:
                return passed
            part = await self.loop.sock_recv(self.source, _CHUNK)
            if not part:
                return data
            data += part

    async def _flow(self) -> None:
        """Piece by piece until the source ends. The two sockets are watched by turns, and each turn is a call, not a task."""
        self.ended = self.loop.create_future()
        self.loop.add_reader(self.source, self._turn)
        try:
            await self.ended
        finally:
            self.loop.remove_reader(self.source)
            self.loop.remove_writer(self.sink)

    def _turn(self) -> None:
        if self.ended.done():
            return  # both were ready at once
        try:
            self._watch(full=self._pass_piece())
        except OSError as error:
            self.ended.set_exception(error)

    def _pass_piece(self) -> bool:
        """As much as there is and the sink takes, but no more than a piece. Returns whether the sink is full."""
        try:
            found = self.source.recv_into(_SCRATCH, self.size, socket.MSG_PEEK)
            if not found:
                self.ended.set_result(None)
                return False
        except BlockingIOError:
            return False
        passed = 0
        self._add(found)
        try:
            passed = self.sink.send(_SCRATCH[:found])
        except BlockingIOError:
            return True
        finally:
            self._add(passed - found)
        if self.source.recv_into(_SCRATCH, passed, socket.MSG_TRUNC) != passed:  # taken out, without another copy (tcp(7))
            raise ConnectionError("urgent data has come in between")  # never twice the same
        full = passed < found
        self.size = max(passed, _LEAST) if full else min(2 * self.size, _MOST) if passed == self.size else self.size
        return full

    def _watch(self, *, full: bool) -> None:
        """Wait for the source, or for the sink where that is full."""
        if full and not self.full:
            self.loop.remove_reader(self.source)
            self.loop.add_writer(self.sink, self._turn)
        elif self.full and not full:
            self.loop.remove_writer(self.sink)
            self.loop.add_reader(self.source, self._turn)
        self.full = full
