"""One request for an ``http://`` address, carried to its server and its answer back, each read as strictly as it was written.

Nothing of what a client sends after its request reaches that server: the next request is judged by itself.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import asyncio
import socket
from collections.abc import Awaitable, Callable
from errno import ETIMEDOUT

from houseroom.policy.hosts import Address
from houseroom.session.proxy import http_head, tunnel
from houseroom.session.proxy.account import RECEIVED, SENT
from houseroom.session.proxy.chunks import Chunks
from houseroom.session.proxy.judgement import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.session.proxy.account import Counts

_CHUNK = 1 << 16
_ANSWERED_WITHIN = 600.0  # seconds
_OF_THE_CLIENT = (http_head.HttpError, ConnectionAbortedError)  # a body that is none, or that ends too early
_LINGERING = 5.0  # seconds for a client to take notice of a refusal


class Stream:
    """A connection and what was read of it in advance. ``counts``: where bytes to and from it are added to."""

    def __init__(self, sock: socket.socket, counts: Counts | None = None):
        self.sock, self.data, self.sent = sock, b"", 0
        self.counts: Counts = [0, 0, 0] if counts is None else counts
        self.loop = asyncio.get_running_loop()
        sock.setblocking(False)  # noqa: FBT003 — it takes no keyword

    async def fill(self, seconds: float | None = None) -> bool:
        """Read some more; False at the end. Raises OSError."""
        async with asyncio.timeout(seconds):
            part = await self.loop.sock_recv(self.sock, _CHUNK)
        self.data += part
        self.counts[RECEIVED] += len(part)
        return bool(part)

    async def need(self, seconds: float | None = None) -> None:
        """The same, and an end is an error."""
        if not await self.fill(seconds):
            raise ConnectionAbortedError("it ended in the middle")

    async def send(self, data: bytes) -> None:
        """Write all of it. Raises OSError."""
        self.sent += len(data)
        self.counts[SENT] += len(data)
        await self.loop.sock_sendall(self.sock, data)

    async def end(self, data: bytes) -> None:
        """Write all of it as the last word. What still comes is read first: a reset for it would take the word back (RFC 9112 §9.6)."""
        await self.send(data)
        self.sock.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(_LINGERING):
            while await self.fill():
                self.data = b""


async def forward(
    client: Stream, request: http_head.Request, reach: Callable[[str | Address, int], Awaitable[tuple[object, socket.socket, Counts]]]
) -> bool:
    """Carry one request out, whose head is the first of what was read. Returns whether another may follow."""
    client.data, sent = client.data[request.size :], client.sent
    try:
        _, outer, counts = await reach(request.host, request.port)
        server = Stream(outer, counts)
    except OSError as error:
        await client.end(refusal_of(error))
        return False
    sending = asyncio.ensure_future(_send(client, server, request))
    answering = asyncio.ensure_future(_answer(client, server, request, sending))
    try:
        await asyncio.wait((sending, answering), return_when=asyncio.FIRST_EXCEPTION)
        if not answering.done() and isinstance(sending.exception(), _OF_THE_CLIENT):
            sending.result()
        return await answering  # also of a server that does not want to hear all of it
    except http_head.HttpError as error:
        if client.sent > sent:
            raise  # an answer has begun, and a second one would be read as a part of it
        await client.end(refusal(error.status, error.words))
        return False
    finally:
        sending.cancel()
        answering.cancel()
        await asyncio.wait((sending, answering))
        server.sock.close()


async def _send(client: Stream, server: Stream, request: http_head.Request) -> None:
    await server.send(http_head.forwarded(request))
    await pass_body(client, server, request.body)


async def _answer(client: Stream, server: Stream, request: http_head.Request, sending: asyncio.Future[None]) -> bool:
    while True:
        while (response := http_head.read_response(server.data, request.method)) is None:
            if not await server.fill(_ANSWERED_WITHIN):
                raise http_head.HttpError("the server ended the connection without an answer", 502)
        server.data = server.data[response.size :]
        keep = request.keep and response.body.kind != http_head.UNTIL_CLOSE and response.status != 101
        await client.send(http_head.answered(response, keep=keep))
        if response.status == 101 and request.upgrade:
            await server.send(client.data)
            await client.send(server.data)
            await tunnel.join(client.sock, server.sock, counts=server.counts)
            return False
        if response.status >= 200:
            break
    await pass_body(server, client, response.body)
    return keep and sending.done() and sending.exception() is None


async def pass_body(source: Stream, sink: Stream, body: http_head.Body) -> None:
    """A body, up to its end and no further."""
    match body.kind:
        case http_head.LENGTH:
            left = body.length
            while left:
                if not source.data:
                    await source.need()
                part, source.data = source.data[:left], source.data[left:]
                left -= len(part)
                await sink.send(part)
        case http_head.CHUNKED:
            chunks = Chunks()
            while not chunks.ended:
                if not source.data:
                    await source.need()
                size = chunks.feed(source.data)
                part, source.data = source.data[:size], source.data[size:]
                await sink.send(part)
        case http_head.UNTIL_CLOSE:
            while source.data or await source.fill():
                part, source.data = source.data, b""
                await sink.send(part)


def refusal(status: int, words: str, grant: str = "", *, keep: bool = False, head: bool = False) -> bytes:
    """A response of the proxy's own: why, and what would let it through, for a person and for a program.

    ``keep``: the connection goes on. ``head``: it answers a HEAD, so that what follows its fields would be the next response.
    """
    plain = words.encode("ascii", "replace").decode()
    body = f"houseroom: {words}\n" + (f"To allow it: {grant}\n" if grant else "")
    fields = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Refused')}", "Content-Type: text/plain; charset=utf-8"]
    fields += [] if keep else ["Connection: close"]
    fields += [f"X-Houseroom-Reason: {''.join(char if char.isprintable() else ' ' for char in plain)}"]
    data = body.encode()
    return "\r\n".join((*fields, f"Content-Length: {len(data)}", "", "")).encode() + (b"" if head else data)


def refusal_of(error: OSError, *, keep: bool = False, head: bool = False) -> bytes:
    """The response to a request that can't be carried out."""
    if isinstance(error, Refused):
        return refusal(403, str(error.decision.why.sentence), _typed(error.decision.why.grant), keep=keep, head=head)
    return refusal(504 if error.errno == ETIMEDOUT else 502, error.strerror or str(error), keep=keep, head=head)


def _typed(words: tuple[str, ...]) -> str:
    """As a person types it in a shell: a rule on requests has a space in it, and perhaps a star."""
    return " ".join(word if _PLAIN.issuperset(word) else f"'{word}'" for word in words)


_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:/@%+=,")
_REASONS = {400: "Bad Request", 403: "Forbidden", 405: "Method Not Allowed", 414: "URI Too Long", 421: "Misdirected Request",
            431: "Header Fields Too Large", 501: "Not Implemented", 502: "Bad Gateway", 504: "Gateway Timeout",
            505: "HTTP Version Not Supported"}  # fmt: skip
