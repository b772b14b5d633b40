"""The egress proxy: what it hears inside a sandbox, and what it does about it outside.

Four roads lead to one decision (``judgement``): a plain connection that init has handed over, SOCKS5, HTTP's CONNECT, and a request
for a whole ``http://`` address. Host names are answered where they may be reached at some port, and by nothing of the world.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import asyncio
import gc
import os
import socket
from errno import EACCES, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT
from functools import partial

from houseroom.plan import egress
from houseroom.policy.connect import Connect
from houseroom.policy.hosts import Address
from houseroom.policy.model import Policy
from houseroom.session.proxy import dns_message, http_head, outside, socks, tunnel
from houseroom.session.proxy.accepting import Accepting
from houseroom.session.proxy.agreement import Agreement
from houseroom.session.proxy.forward import Stream, forward, refusal, refusal_of
from houseroom.session.proxy.judgement import Judge
from houseroom.session.proxy.names import Names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.session.proxy.account import Counts
    from houseroom.session.proxy.inspecting import Inspector

_FIRST_WITHIN = 60.0  # seconds until a connection has said what it wants
_MOST = 1024  # connections at one time; more wait to be accepted
_TTL = 60  # seconds
_MOST_QUESTIONS = 256  # that the host's resolver is asked at one time
_LOOPBACK = {dns_message.A: bytes((127, 0, 0, 1)), dns_message.AAAA: bytes(15) + b"\1"}
_SOCKS_CODES = {
    EACCES: socks.NOT_ALLOWED,
    ENETUNREACH: socks.NETWORK_UNREACHABLE,
    EHOSTUNREACH: socks.HOST_UNREACHABLE,
    ECONNREFUSED: socks.CONNECTION_REFUSED,
    ETIMEDOUT: socks.HOST_UNREACHABLE,
}


def serve(
    policy: Policy,
    proxies: dict[str, str],
    listeners: tuple[int, ...],
    ends: tuple[int, ...],
    tell: int,
    inspector: Inspector | None = None,
) -> None:
    """Serve until one of ``ends``, descriptors of processes, is ready. ``listeners``: names by UDP and TCP, everything else.

    ``inspector``: who looks into connections, where a rule is on requests.
    """
    gc.enable()
    asyncio.run(_live(Server(Judge(policy, tell, proxies), inspector), listeners, ends))


async def _live(server: Server, listeners: tuple[int, ...], ends: tuple[int, ...]) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for fd in ends:
        loop.add_reader(fd, over.set)
    questions, dns, everything = (socket.socket(fileno=fd) for fd in listeners)
    questions.setblocking(False)  # noqa: FBT003 — it takes no keyword
    loop.add_reader(questions, lambda: server.hear_question(questions))
    tasks = [
        asyncio.ensure_future(server.connections.accept(dns, server.answer_stream)),
        asyncio.ensure_future(server.connections.accept(everything, server.carry)),
    ]
    await over.wait()
    for task in tasks:
        task.cancel()
    await tunnel.outlast(server.reached, server.connections.running)
    os._exit(0)  # whatever is open ends with us


class Server:
    """One sandbox's way out."""

    def __init__(self, judge: Judge, inspector: Inspector | None = None):
        self.judge, self.names, self.inspector = judge, Names(), inspector
        self.connections = Accepting(_MOST, judge.buffers)
        self.reached: set[socket.socket] = set()  # what connections lead to that are passed on as they are
        self.asking = 0  # questions that wait for the host's resolver

    # -- host names --

    def hear_question(self, sock: socket.socket) -> None:
        """One question by UDP."""
        try:
            message, where = sock.recvfrom(dns_message.LONGEST + 1)
        except OSError:
            return

        async def reply() -> None:
            answer = await self.answer(message, limit=0)
            if answer:
                try:
                    sock.sendto(answer, where)
                except OSError:
                    return  # nobody hears it any more

        self.connections.start(reply())

    async def answer_stream(self, sock: socket.socket) -> None:
        """Questions by TCP, one after the other."""
        stream = Stream(sock)
        while True:
            found = dns_message.unframed(stream.data)
            if found is None:
                if not await stream.fill(_FIRST_WITHIN):
                    return
                continue
            message, size = found
            stream.data = stream.data[size:]
            answer = await self.answer(message, limit=1 << 16)
            if answer:
                await stream.send(dns_message.framed(answer))

    async def answer(self, message: bytes, *, limit: int) -> bytes:
        """The answer to one message, empty for none."""
        try:
            query = dns_message.read_query(message)
        except dns_message.DnsError as error:
            return error.answer
        name = query.host
        if name == "localhost" or name.endswith(".localhost"):
            return dns_message.addresses(query, list(_LOOPBACK.values()), _TTL, limit=limit)
        if not name or not self.judge.answers(name):
            self.judge.account.refuse_name(name or "a name that is no host's", "no rule allows it", "", "", name and f"--allow {name}")
            return dns_message.no_such_name(query, "the policy does not allow this name")
        if query.kind != dns_message.A or not query.wants_addresses:
            return dns_message.no_data(query)
        if self.judge.by_upstream(name, 0):  # which alone may know it
            return dns_message.addresses(query, [self.names.address(name)], _TTL, limit=limit)
        if self.asking >= _MOST_QUESTIONS:
            return dns_message.failed(query)  # rather than a heap of questions that grows as fast as they can be asked
        self.asking += 1
        try:
            await outside.addresses(name)
        except OSError as error:
            self.judge.missed(Connect(name, 0), error)
            return dns_message.no_such_name(query) if isinstance(error, outside.NoSuchName) else dns_message.failed(query)
        finally:
            self.asking -= 1
        return dns_message.addresses(query, [self.names.address(name)], _TTL, limit=limit)

    # -- connections --

    async def carry(self, sock: socket.socket) -> None:
        """One connection, by whichever road it came."""
        stream = Stream(sock)
        if not await stream.fill(_FIRST_WITHIN):
            return
        match stream.data[0]:
            case 0:
                await self._plain(stream)
            case 4 | 5:
                await self._socks(stream)
            case _:
                await self._http(stream)

    async def _plain(self, stream: Stream) -> None:
        while (found := egress.read_preamble(stream.data)) is None:
            await stream.need(_FIRST_WITHIN)
        size, answered, _family, packed, port = found
        stream.data = stream.data[size:]
        try:
            host, outer, counts = await self._reach(Address(packed), port)
        except OSError as error:
            if not answered:
                raise
            await stream.send(bytes((_errno(error),)))
            return
        if answered:
            await stream.send(b"\0")
        await self._join(stream, outer, host, port, counts)

    def _meant(self, host: str | Address) -> str | Address:
        """The name that an address of ours stands for, anything else as it is. Raises OSError for one that stands for nothing."""
        if isinstance(host, str) or host.family != 4:
            return host
        try:
            name = self.names.name(host.packed)
        except ValueError:
            return host
        if not name:
            raise OSError(EHOSTUNREACH, "an address that stands for no name")
        return name

    async def _socks(self, stream: Stream) -> None:
        try:
            while (size := socks.read_greeting(stream.data)) is None:
                await stream.need(_FIRST_WITHIN)
            stream.data = stream.data[size:]
            await stream.send(socks.CHOSEN)
            while (request := socks.read_request(stream.data)) is None:
                await stream.need(_FIRST_WITHIN)
        except socks.SocksError as error:
            await stream.send(error.answer)
            return
        stream.data = stream.data[request.size :]
        try:
            host, outer, counts = await self._reach(request.host, request.port)
        except OSError as error:
            await stream.send(socks.reply(_SOCKS_CODES.get(_errno(error), socks.FAILED)))
            return
        await stream.send(socks.reply(socks.SUCCEEDED))
        await self._join(stream, outer, host, request.port, counts)

    async def _http(self, stream: Stream) -> None:
        while True:
            try:
                while (request := http_head.read_proxied(stream.data)) is None:
                    if not await stream.fill(_FIRST_WITHIN):
                        return
                request = self._fit(request)
            except http_head.HttpError as error:
                await stream.end(refusal(error.status, error.words))
                return
            if request.method == "CONNECT":
                stream.data = stream.data[request.size :]
                await self._connect(stream, request)
                return
            if not await forward(stream, request, partial(self._reach_for, request)):
                return

    async def _connect(self, stream: Stream, request: http_head.Request) -> None:
        try:
            host, outer, counts = await self._reach(request.host, request.port)
        except OSError as error:
            await stream.end(refusal_of(error))
            return
        await stream.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await self._join(stream, outer, host, request.port, counts)

    async def _reach(self, host: str | Address, port: int) -> tuple[str | Address, socket.socket, Counts]:
        """What was meant, a connection to it, and where what that carries is counted. Raises Refused and OSError."""
        if not port:  # which nobody listens at; it would be decided as a question for a name is: for any port
            raise OSError(ECONNREFUSED, "port 0")
        meant = self._meant(host)
        outer = await self.judge.reach(meant, port)
        return meant, outer, self.judge.account.connected(str(Connect(meant, port)))

    async def _reach_for(self, request: http_head.Request, host: str | Address, port: int) -> tuple[str | Address, socket.socket, Counts]:
        """The same for one request, which decides where there are rules on requests."""
        meant = self._meant(host)
        if not self._decides(meant, port):
            return await self._reach(host, port)
        outer = await self.judge.reach(meant, port, request.method, request.path)
        return meant, outer, self.judge.account.connected(str(Connect(meant, port)))

    def _decides(self, meant: str | Address, port: int) -> bool:
        return self.judge.by_address or self.judge.inspects(meant, port)

    def _fit(self, request: http_head.Request) -> http_head.Request:
        """A request for an ``http://`` address as it can be judged. Raises http_head.HttpError."""
        try:
            meant = self._meant(request.host)
        except OSError:
            return request  # it leads nowhere, as its sender will be told
        if request.method == "CONNECT" or not self._decides(meant, request.port):
            return request
        http_head.check_fields(request)
        return request.with_(upgrade=False)  # behind one nothing is judged any more, and programs CONNECT for those

    async def _join(self, stream: Stream, outer: socket.socket, host: str | Address, port: int, counts: Counts) -> None:
        if self.judge.inspects(host, port):
            await self._inspect(stream, outer, host, port, counts)
            return
        look = None if isinstance(host, Address) else Agreement(host, port, self.judge.note)
        self.reached.add(outer)
        try:
            await tunnel.join(stream.sock, outer, stream.data, look, counts)
        except BaseException:
            tunnel.reset(outer)
            raise
        finally:
            self.reached.discard(outer)
            outer.close()

    async def _inspect(self, stream: Stream, outer: socket.socket, host: str | Address, port: int, counts: Counts) -> None:
        if self.inspector is None:  # whoever started us did not know of such a rule: nothing passes unjudged
            outer.close()
            raise tunnel.Broken("nobody can look into it")
        await self.inspector.serve(stream, outer, host, port, self.judge, counts)


def _errno(error: OSError) -> int:
    return error.errno if error.errno and 0 < error.errno < 256 else EHOSTUNREACH
