"""Who publishes a sandbox's ports: it takes connections on the host's loopback, and makes each to the same port of the sandbox's.

It is in the sandbox's network when it runs, and what it was given to listen at is not. What is said is looked at by nobody.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import asyncio
import gc
import os
import socket
from functools import partial

from houseroom.session.proxy import tunnel
from houseroom.session.proxy.accepting import Accepting
from houseroom.session.proxy.buffers import Buffers

_MOST = 1024  # connections at one time; more wait to be accepted
_LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def serve(doors: tuple[tuple[int, int], ...], ends: tuple[int, ...]) -> None:
    """Serve until one of ``ends``, descriptors of processes, is ready. ``doors``: sockets that listen, each with its port."""
    gc.enable()
    asyncio.run(_live(Publisher(len(doors)), doors, ends))


async def _live(publisher: Publisher, doors: tuple[tuple[int, int], ...], ends: tuple[int, ...]) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for fd in ends:
        loop.add_reader(fd, over.set)
    listeners = [(socket.socket(fileno=fd), port) for fd, port in doors]
    tasks = [asyncio.ensure_future(publisher.connections.accept(sock, partial(publisher.carry, port))) for sock, port in listeners]
    await over.wait()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for sock, _port in listeners:
        sock.close()  # first of all: the next sandbox may wait for its port
    await tunnel.outlast(publisher.clients, publisher.connections.running)
    os._exit(0)


class Publisher:
    """One sandbox's ways in. ``doors``: at how many sockets it listens."""

    def __init__(self, doors: int):
        self.connections = Accepting(_MOST + doors, Buffers())
        self.clients: set[socket.socket] = set()

    async def carry(self, port: int, client: socket.socket) -> None:
        """One connection, by which the host reaches a port of the sandbox."""
        self.clients.add(client)
        try:
            await _carry(client, port, self.connections.buffers)
        finally:
            self.clients.discard(client)


async def _carry(client: socket.socket, port: int, buffers: Buffers) -> None:
    inside = await _connected(client.family, port)
    try:
        buffers.near(inside)
        inside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await tunnel.join(client, inside)
    except BaseException:
        tunnel.reset(inside)
        raise
    finally:
        inside.close()


async def _connected(preferred: int, port: int) -> socket.socket:
    """A connection to a port of the sandbox's loopback, by the family that the host's client has used, or the other. Raises OSError."""
    refused = OSError()
    for family in sorted(_LOOPBACK, key=lambda family: family != preferred):
        try:
            return await _connect(family, port)
        except OSError as error:
            refused = error
    raise refused


async def _connect(family: socket.AddressFamily, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)  # noqa: FBT003 — it takes no keyword
        await asyncio.get_running_loop().sock_connect(sock, (_LOOPBACK[family], port))
        if sock.getsockname() == sock.getpeername():  # where nobody listens it may meet itself (RFC 9293, simultaneous open)
            raise ConnectionRefusedError
    except BaseException:
        sock.close()
        raise
    return sock
