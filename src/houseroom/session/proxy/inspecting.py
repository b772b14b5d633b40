"""Connections whose requests decide: read, judged one by one, and each written anew to its server from what was understood.

A client that speaks TLS is answered with a certificate of the sandbox's own authority, and its requests go on by a connection whose
server has proved who it is; a client that speaks plain HTTP is served the same way without either. What is neither is refused: nobody
could judge it. Nothing of a request reaches a server before the request was allowed, and no answer decides anything.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import asyncio
import base64
import hashlib
import socket
import ssl
from contextlib import suppress
from errno import ETIMEDOUT

from houseroom.policy.credentials import filled, scrubbed
from houseroom.policy.hosts import Address
from houseroom.session.proxy import client_hello, http_head, tunnel
from houseroom.session.proxy.forward import Stream, pass_body, refusal, refusal_of
from houseroom.session.proxy.judgement import Judge, Refused
from houseroom.session.proxy.secure import Secure, relay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from houseroom.policy.credentials import Swap
    from houseroom.session.proxy.account import Counts
    from houseroom.session.proxy.authority import Authority

_TLS: Final = 22  # the first byte of a record with a handshake
_WITHIN, _SHAKEN_WITHIN, _ANSWERED_WITHIN = 60.0, 30.0, 600.0  # seconds: for what the client says, a handshake, an answer
_OF_THE_CLIENT = (http_head.HttpError, ConnectionAbortedError)  # a body that is none, or that ends too early
_WEBSOCKET: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
_REPEATABLE: Final = frozenset(("GET", "HEAD", "OPTIONS"))  # may be sent again by a server's next connection (RFC 9110 §9.2.2)


class Inspector:
    """What inspected connections share: the sandbox's authority, how servers are verified, the credentials that are put in."""

    def __init__(self, authority: Authority, outward: ssl.SSLContext, swaps: tuple[Swap, ...] = ()):
        self.authority, self.outward, self.swaps = authority, outward, swaps

    async def serve(
        self, client: Stream, outer: socket.socket, host: str | Address, port: int, judge: Judge, counts: Counts | None = None
    ) -> None:
        """One connection, which the policy lets reach ``host`` and that ``outer`` has been made for. Raises tunnel.Broken, OSError.

        ``counts``: where what goes to its servers and comes from them is added.
        """
        conversation = Conversation(self, client, outer, host, port, judge, counts)
        try:
            while not client.data:
                if not await client.fill(_WITHIN):
                    return
            if client.data[0] == _TLS:
                client = await self._answered(client, host, judge)
                conversation.client, conversation.secure = client, True
            await conversation.hold()
        finally:
            conversation.close()
        with suppress(OSError):
            await conversation.client.end(b"")  # a client may have to know that this is a proper end

    async def _answered(self, client: Stream, host: str | Address, judge: Judge) -> Secure:
        """The connection's inside, as the server that it was to reach."""
        try:
            while (hello := client_hello.read_hello(client.data)) is None:
                await client.need(_WITHIN)
        except ValueError as error:
            raise tunnel.Broken(str(error)) from None
        if hello.server_name not in ("", str(host)):
            why = "the name asked for in TLS is another one"
            judge.note(f"{hello.server_name} by way of {host}", why)
            raise tunnel.Broken(why)
        inside = Secure(client.sock, self.authority.context(host), client.data)
        client.data = b""
        await inside.shake_hands(_SHAKEN_WITHIN)
        return inside


class Conversation:
    """The requests of one connection. ``server``: the connection that the last one went by, where another may follow."""

    def __init__(
        self,
        inspector: Inspector,
        client: Stream,
        outer: socket.socket,
        host: str | Address,
        port: int,
        judge: Judge,
        counts: Counts | None,
    ):
        self.inspector, self.client, self.host, self.port, self.judge, self.counts = inspector, client, host, port, judge, counts
        self.spare: socket.socket | None = outer
        self.server: Stream | None = None
        self.secure = False
        self.swaps = tuple(swap for swap in inspector.swaps if swap.where.names(host) and swap.where.has_port(port))

    def close(self) -> None:
        """Let go of servers."""
        if self.spare is not None:
            self.spare.close()
        self._leave()

    def _leave(self) -> None:
        server, self.server = self.server, None
        if server is not None:
            server.sock.close()

    async def hold(self) -> None:
        """Until the client has no more to ask, or something is said that nobody should pass on."""
        while (request := await self._next()) is not None:
            if not await self._carry(request):
                return

    async def _next(self) -> http_head.Request | None:
        """The next request. None at the end, and where what came is none: then the client has been told."""
        while True:
            try:
                request = http_head.read_direct(self.client.data, self.port)
                if request is not None:
                    self._check(request)
                    return request
            except http_head.HttpError as error:
                self.judge.note(f"{self.host}:{self.port}, a request", error.words)
                await self.client.end(refusal(error.status, error.words))
                return None
            try:
                if not await self.client.fill(_WITHIN):
                    return None
            except TimeoutError:
                if self.client.data:
                    raise
                return None

    def _check(self, request: http_head.Request) -> None:
        if (request.host, request.port) != (self.host, self.port):
            self.judge.note(f"{request.host} by way of {self.host}", "the Host asked for is another one")
            raise http_head.HttpError("the Host asked for is another one than the connection is for", 421)
        http_head.check_fields(request)
        if self.swaps and request.method == "TRACE":
            raise http_head.HttpError("TRACE, whose answer would repeat a credential", 405)

    async def _carry(self, request: http_head.Request) -> bool:
        """One request to its server and the answer back. Returns whether another may follow."""
        client = self.client
        client.data, sent = client.data[request.size :], client.sent
        try:
            self.judge.check(self.host, self.port, request.method, request.path)
            again = await self._connect(request)
            try:
                return await self._exchange(request)
            except ConnectionAbortedError:
                if not again or client.sent > sent:
                    raise
                self._leave()  # it had been closed meanwhile
                await self._connect(request)
                return await self._exchange(request)
        except http_head.HttpError as error:
            if client.sent > sent:
                raise  # an answer has begun, and a second one would be read as a part of it
            await client.end(refusal(error.status, error.words, head=request.method == "HEAD"))
            return False
        except Refused as error:
            return await self._refuse(request, error)
        except OSError as error:
            if client.sent > sent:
                raise
            await client.end(refusal_of(self._named(error), head=request.method == "HEAD"))
            return False

    async def _refuse(self, request: http_head.Request, error: OSError) -> bool:
        """A refusal. The connection goes on where the next request begins at once."""
        keep = request.keep and request.body == http_head.Body()
        answer = refusal_of(error, keep=keep, head=request.method == "HEAD")
        await (self.client.send(answer) if keep else self.client.end(answer))
        return keep

    def _named(self, error: OSError) -> OSError:
        """The same error with words for a person, told of where it is a server that does not prove who it is."""
        where = f"{self.host}:{self.port}"
        if isinstance(error, ssl.SSLCertVerificationError):
            why = f"its certificate is not accepted: {error.verify_message}"
            self.judge.note(where, why)
            return OSError(error.errno, f"{where}: {why}")
        if isinstance(error, ssl.SSLError):
            return OSError(error.errno, f"{where}: it does not speak TLS as it should: {error.reason or error.strerror}")
        return error if error.strerror or str(error) else OSError(ETIMEDOUT, f"{where}: nobody answers")

    async def _connect(self, request: http_head.Request) -> bool:
        """A connection to the server, for one request. Returns whether it had carried another one before."""
        reusable = request.method in _REPEATABLE and request.body == http_head.Body() and not self.judge.by_address
        if self.server is not None and reusable and _clean(self.server) and _quiet(self.server.sock):
            return True
        self._leave()
        outer, self.spare = self.spare, None
        if outer is not None and (self.judge.by_address or not _quiet(outer)):
            outer.close()  # it has ended meanwhile, or its address may be one that this request must not go to
            outer = None
        if outer is None:
            outer = await self.judge.reach(self.host, self.port, request.method, request.path)
        if not self.secure:
            self.server = Stream(outer, self.counts)
            return False
        outer.setblocking(False)  # noqa: FBT003 — it takes no keyword
        inside = Secure(outer, self.inspector.outward, server_name=str(self.host), counts=self.counts)
        self.server = inside
        try:
            await inside.shake_hands(_SHAKEN_WITHIN)
        except BaseException:
            self._leave()
            raise
        return False

    async def _exchange(self, request: http_head.Request) -> bool:
        server = self.server
        assert server is not None
        sending = asyncio.ensure_future(self._send(server, request))
        answering = asyncio.ensure_future(self._answer(server, request, sending))
        kept = False
        try:
            await asyncio.wait((sending, answering), return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() and isinstance(sending.exception(), _OF_THE_CLIENT):
                sending.result()
            response = await answering  # also of a server that does not want to hear all of it
            whole = sending.done() and sending.exception() is None
            kept = response is not None and response.keep and whole and not server.data
            return response is not None and request.keep and whole and response.body.kind != http_head.UNTIL_CLOSE
        finally:
            sending.cancel()
            answering.cancel()
            await asyncio.wait((sending, answering))
            if not kept:
                self._leave()

    async def _send(self, server: Stream, request: http_head.Request) -> None:
        if self.secure:  # and so to a server that has proved its name
            request = request.with_(fields=filled(request.fields, self.swaps))
        await server.send(http_head.forwarded(request, port=443 if self.secure else 80))
        await pass_body(self.client, server, request.body)

    async def _answer(self, server: Stream, request: http_head.Request, sending: asyncio.Future[None]) -> http_head.Response | None:
        """The answer, passed on; None where the connection became something else and has ended."""
        client = self.client
        while True:
            while (response := http_head.read_response(server.data, request.method)) is None:
                if not await _more(server):
                    if not server.data:
                        raise ConnectionAbortedError("the server ended the connection without an answer")
                    raise http_head.HttpError("the server ended the connection within an answer", 502)
            server.data = server.data[response.size :]
            if response.status == 101 and not _is_upgrade(request, response):
                raise http_head.HttpError("the server changes to a protocol that nobody asked for", 502)
            keep = request.keep and response.body.kind != http_head.UNTIL_CLOSE
            told = response.with_(fields=scrubbed(response.fields, self.swaps))
            await client.send(http_head.answered(told, keep=keep))
            if response.status == 101:
                await sending
                await relay(client, server)
                return None
            if response.status >= 200:
                break
        await pass_body(server, client, response.body)
        return response


async def _more(server: Stream) -> bool:
    try:
        return await server.fill(_ANSWERED_WITHIN)
    except (ConnectionError, ssl.SSLEOFError):
        return False


def _clean(server: Stream) -> bool:
    """Whether nothing was read of what nobody asked for: it would be taken for the next answer."""
    return not server.data and not (isinstance(server, Secure) and (server.coming.pending or server.tls.pending()))


def _quiet(sock: socket.socket) -> bool:
    """Whether a connection still stands, and nothing waits to be read."""
    try:
        sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _is_upgrade(request: http_head.Request, response: http_head.Response) -> bool:
    """Whether a server has become a WebSocket because it was asked to: it has to have understood that (RFC 6455 §4.2.2).

    From here on nothing is read any more, so a server that only repeats words would be open to requests that nobody judges.
    """
    keys = [value for name, value in request.fields if name == b"sec-websocket-key"]
    said = [value for name, value in response.fields if name == b"sec-websocket-accept"]
    if not request.upgrade or len(keys) != 1 or len(said) != 1:
        return False
    return base64.b64encode(hashlib.sha1(keys[0] + _WEBSOCKET, usedforsecurity=False).digest()) == said[0]
