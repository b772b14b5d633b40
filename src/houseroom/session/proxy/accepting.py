"""Connections that are accepted on this host: each is served by a task of its own, and only so many at one time."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from houseroom.session.proxy import tunnel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.session.proxy.buffers import Buffers

_PAUSE = 0.1  # seconds, where descriptors have run out


class Accepting:
    """``running``: tasks at work. ``most``: connections at one time, with one that each listener waits for; more wait to be accepted.

    ``buffers``: how much they may hold.
    """

    def __init__(self, most: int, buffers: Buffers):
        self.running: set[asyncio.Task[None]] = set()
        self.room, self.buffers = asyncio.Semaphore(most), buffers

    async def accept(self, listener: socket.socket, serve: Callable[[socket.socket], Awaitable[None]]) -> None:
        """Have each connection served, for ever. Where ``serve`` raises what the world does, the connection is reset."""
        listener.setblocking(False)  # noqa: FBT003 — it takes no keyword
        loop = asyncio.get_running_loop()
        while True:
            await self.room.acquire()
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError:  # too many descriptors; those that wait are not lost
                self.room.release()
                await asyncio.sleep(_PAUSE)
                continue
            self.start(self._served(sock, serve))

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Something else to be done beside them."""
        task = asyncio.ensure_future(work)
        self.running.add(task)
        task.add_done_callback(self.running.discard)

    async def _served(self, sock: socket.socket, serve: Callable[[socket.socket], Awaitable[None]]) -> None:
        try:
            self.buffers.enter(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await serve(sock)
        except (OSError, ValueError, tunnel.Broken):
            tunnel.reset(sock)
        finally:
            sock.close()
            self.buffers.leave()
            self.room.release()
