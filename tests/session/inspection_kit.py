"""Connections that are looked into, without a sandbox: a client's bytes in, what servers heard and what the client was told out."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from houseroom.policy import hosts
from houseroom.policy.destinations import parse
from houseroom.policy.hosts import Address
from houseroom.policy.model import Origin, Policy, Rule, Setting, Stratum
from houseroom.session import egress, ledger
from houseroom.session.proxy import outside, tunnel
from houseroom.session.proxy.authority import Authority, outward
from houseroom.session.proxy.forward import Stream
from houseroom.session.proxy.inspecting import Inspector
from houseroom.session.proxy.judgement import Judge

HOST, PORT = "api.example.org", 8080
RULES = (f"GET {HOST}/v1/**", f"POST {HOST}/v1/items")
_WHERE = Origin("session", "a test")
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Heard:
    """What each connection to the server carried, and what the client got."""

    def __init__(self) -> None:
        self.servers: list[bytearray] = []
        self.client = b""
        self.told: list[str] = []
        self.broken = ""

    @property
    def asked(self) -> bytes:
        return b"".join(map(bytes, self.servers))


def policy(allow: tuple[str, ...] = RULES, deny: tuple[str, ...] = ()) -> Policy:
    rules = [Rule("network.allow", each, _WHERE, "") for each in allow] + [Rule("network.deny", each, _WHERE, "") for each in deny]
    return Policy("test", (Stratum("workspace", tuple(rules), {"network.reach": Setting("listed", _WHERE)}, frozenset()),))


def judge_of(allow: tuple[str, ...] = RULES, deny: tuple[str, ...] = ()) -> tuple[Judge, int]:
    """A judge, and the ledger in which it tells."""
    told = ledger.make()
    return Judge(egress.policy_of(egress.rules_of(policy(allow, deny))), told), told


def inspector(trusted: str = "", named: tuple[str, ...] = RULES) -> Inspector:
    authority = Authority(map(parse, named))
    return Inspector(authority, outward(trusted or authority.certificate.decode()))


def talk(
    monkeypatch: pytest.MonkeyPatch,
    serve: Serve,
    speak: Callable[[socket.socket], Awaitable[None]],
    *,
    allow: tuple[str, ...] = RULES,
    deny: tuple[str, ...] = (),
    host: str = HOST,
    port: int = PORT,
    looking: Inspector | None = None,
    server_side: ssl.SSLContext | None = None,
) -> Heard:
    """One connection to ``host``. ``serve`` is each of its servers; ``speak`` is the client, given its socket."""
    heard = Heard()
    judge, told = judge_of(allow, deny)

    async def addresses(_name: str) -> tuple[Address, ...]:
        return (hosts.address("192.0.2.1"),)

    async def connect(_where: object, _port: int) -> socket.socket:
        inner, outer = socket.socketpair()
        task = asyncio.ensure_future(_server(outer, serve, heard, server_side))
        serving.append(task)
        inner.setblocking(False)
        return inner

    serving: list[asyncio.Task[None]] = []
    monkeypatch.setattr(outside, "addresses", addresses)
    monkeypatch.setattr(outside, "connect", connect)
    monkeypatch.setattr(hosts, "judge", lambda _found, _own=frozenset(): "")

    async def both() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        speaking = asyncio.ensure_future(speak(ours))
        stream = Stream(theirs)
        outer = await judge.reach(host, port)
        try:
            await (looking or inspector()).serve(stream, outer, host, port, judge)
        except (OSError, ValueError, tunnel.Broken) as error:
            heard.broken = str(error) or type(error).__name__
            tunnel.reset(theirs)
        finally:
            theirs.close()
        await speaking
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    try:
        asyncio.run(asyncio.wait_for(both(), 30))
        heard.told = list(ledger.refusals(told))
    finally:
        os.close(told)
    return heard


async def _server(sock: socket.socket, serve: Serve, heard: Heard, context: ssl.SSLContext | None) -> None:
    record = bytearray()
    heard.servers.append(record)

    class Recorded(asyncio.StreamReader):
        def feed_data(self, data: bytes) -> None:
            record.extend(data)
            super().feed_data(data)

    loop = asyncio.get_running_loop()
    reader = Recorded()
    done = loop.create_future()

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()
            done.set_result(None)

    protocol = asyncio.StreamReaderProtocol(reader, begin)
    try:
        await loop.connect_accepted_socket(lambda: protocol, sock, ssl=context)
    except OSError:  # the client does not believe us
        return
    await done


def plainly(data: bytes, heard: list[bytes], *, ends: bool = True) -> Callable[[socket.socket], Awaitable[None]]:
    """A client that says these bytes, perhaps that they are all, and keeps what comes back."""

    async def speak(sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            with suppress(OSError):
                await loop.sock_sendall(sock, data)
                if ends:
                    sock.shutdown(socket.SHUT_WR)
            while part := await loop.sock_recv(sock, 1 << 16):
                heard.append(part)
        except OSError:
            return
        finally:
            sock.close()

    return speak


async def head_of(reader: asyncio.StreamReader) -> bytes:
    """A request's head, nothing where there is none any more."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


async def obliging(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that answers each request it understands with its first line, and takes bodies as they are framed."""
    while head := await head_of(reader):
        lines = head.split(b"\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
        if b"chunked" in fields.get(b"transfer-encoding", b""):
            while size := int((await reader.readline()).split(b";")[0], 16):
                await reader.readexactly(size + 2)
            await reader.readuntil(b"\r\n")
        elif b"content-length" in fields:
            await reader.readexactly(int(fields[b"content-length"]))
        body = lines[0]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + (b"" if lines[0].startswith(b"HEAD") else body))
        with suppress(ConnectionError):
            await writer.drain()
