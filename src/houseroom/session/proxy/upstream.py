"""Connections by way of the host's own proxy, where the policy lets them take it: CONNECT, by the name that was judged."""

from __future__ import annotations

import asyncio
import socket
from errno import EHOSTUNREACH

from houseroom.policy import hosts
from houseroom.policy.hosts import Address
from houseroom.session import upstream
from houseroom.session.proxy import http_head, outside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from houseroom.session.upstream import Proxy

_CHUNK = 4096
_LOOPBACK = (hosts.network("127.0.0.0/8"), hosts.network("::1/128"))
_PLAIN = 80  # connections to this port are those that http_proxy is for


class Upstream:
    """What the host's variables say of which connection. ``used``: the policy lets them be followed."""

    def __init__(self, variables: Mapping[str, str], *, used: bool):
        self.used = used
        self.proxies = {name: variables[name] for name in upstream.PROXIES if name in variables}
        self.found: dict[str, tuple[Address, ...]] = {}  # where a proxy was reached by its name
        self.direct = [word for word in variables.get(upstream.DIRECT, "").replace(",", " ").split() if word]

    def of(self, host: str | Address, port: int) -> str:
        """The variable that names the proxy for a connection, "" for a direct one. Port 0: for any port."""
        if not self.proxies or self._is_direct(host, port):
            return ""
        wanted = ("http_proxy", "all_proxy") if port == _PLAIN else ("https_proxy", "all_proxy", *(("http_proxy",) if not port else ()))
        return next((name for name in wanted if name in self.proxies), "")

    def _is_direct(self, host: str | Address, port: int) -> bool:
        """The host itself, and what no_proxy lists: names with all below them, addresses, networks, each perhaps with a port."""
        if isinstance(host, str) and host.rpartition(".")[2] == "localhost":
            return True
        if isinstance(host, Address) and any(host.reached.within(each) for each in _LOOPBACK):
            return True
        return any(_covers(word, host, port) for word in self.direct)

    async def connect(self, host: str | Address, port: int) -> socket.socket:
        """A connection that the host's proxy makes. Raises OSError, in words that tell nothing of where that proxy is."""
        variable = self.of(host, port)
        proxy = upstream.read(variable, self.proxies[variable])
        try:
            sock = await self._reach(proxy)
        except OSError:
            raise OSError(EHOSTUNREACH, f"the host's proxy ({variable}) can't be reached") from None
        try:
            async with asyncio.timeout(outside.CONNECTED_WITHIN):
                await asyncio.get_running_loop().sock_sendall(sock, _request(host, port, proxy))
                status = await _answer(sock)
        except (OSError, ValueError):  # TimeoutError too
            sock.close()
            raise OSError(EHOSTUNREACH, f"the host's proxy ({variable}) gave no answer") from None
        except BaseException:
            sock.close()
            raise
        if not 200 <= status < 300:
            sock.close()
            raise OSError(EHOSTUNREACH, f"the host's proxy ({variable}) answered {status}")
        return sock

    async def _reach(self, proxy: Proxy) -> socket.socket:
        """A connection to the proxy itself. Where it was found stays known: its name must not wait behind those that nobody answers."""
        if isinstance(proxy.host, Address):
            return await outside.connect((proxy.host,), proxy.port)
        where = self.found.pop(proxy.host, ()) or await outside.addresses(proxy.host)
        sock = await outside.connect(where, proxy.port)
        self.found[proxy.host] = where
        return sock


def _covers(word: str, host: str | Address, port: int) -> bool:
    """Whether one word of no_proxy is about a host."""
    if word == "*":
        return True
    name, colon, wanted = word.rpartition(":")
    if colon and name and wanted.isdigit() and (":" not in name or name[-1] == "]"):
        if port and int(wanted) != port:
            return False
        word = name
    word = word.strip("[]")
    if isinstance(host, Address):
        try:
            return host.reached.within(hosts.network(word) if "/" in word else hosts.network(f"{word}/{128 if ':' in word else 32}"))
        except ValueError:
            return False
    labels, below = host.split("."), word.lower().removeprefix("*").strip(".").split(".")
    return labels[-len(below) :] == below


def _request(host: str | Address, port: int, proxy: Proxy) -> bytes:
    name = f"[{host}]" if isinstance(host, Address) and host.family == 6 else str(host)
    head = f"CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n".encode()
    return head + (b"Proxy-Authorization: " + proxy.authorization + b"\r\n" if proxy.authorization else b"") + b"\r\n"


async def _answer(sock: socket.socket) -> int:
    """The status of the answer, of which nothing more is read: what follows is said by the host that was asked for."""
    loop, head = asyncio.get_running_loop(), b""
    while True:
        ready = asyncio.Event()
        loop.add_reader(sock, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(sock)
        more = sock.recv(_CHUNK, socket.MSG_PEEK)
        if not more:
            raise ConnectionAbortedError("it ended without an answer")
        end = (head + more).find(b"\r\n\r\n")
        head += sock.recv(end + 4 - len(head) if end >= 0 else len(more))
        response = http_head.read_response(head, "CONNECT")
        if response is not None:
            return response.status
