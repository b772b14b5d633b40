"""Names to addresses, and connections to the addresses that were judged, never to a name again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from houseroom.policy import hosts
from houseroom.policy.hosts import Address

RESOLVED_WITHIN, CONNECTED_WITHIN = 10.0, 30.0  # seconds
_LOOPBACK = (Address(bytes((127, 0, 0, 1))), Address(bytes(15) + b"\1"))  # and no name server is asked (RFC 6761, section 6.3)
_STAGGER = 0.25  # seconds until the next address is tried beside the one before (RFC 8305)


class NoSuchName(OSError):
    """The name does not exist."""


async def addresses(name: str) -> tuple[Address, ...]:
    """What the host's resolver says of a name, IPv6 and IPv4 in its order. Raises NoSuchName, and OSError where it can't say."""
    own = _in_hosts_file(name) or (_LOOPBACK if name.rpartition(".")[2] == "localhost" else ())
    if own:
        return own
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVED_WITHIN):
            # The dot at the end keeps the host's search domains out of it: the name is the one that was allowed.
            found = await loop.getaddrinfo(f"{name}.", None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            raise NoSuchName(error.errno, error.strerror) from None
        raise OSError(0, error.strerror) from None
    except TimeoutError:
        raise OSError(110, "the host's resolver does not answer") from None
    packed = dict.fromkeys((family, socket.inet_pton(family, str(where[0]).partition("%")[0])) for family, _, _, _, where in found)
    return tuple(Address(data) for _family, data in packed)


def _in_hosts_file(name: str) -> tuple[Address, ...]:
    """What the host's own table says of a name (hosts(5)): a resolver is not asked for it with the dot that ends our questions."""
    found = []
    try:
        with open("/etc/hosts", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                address, *names = line.partition("#")[0].split() or [""]
                if name in (each.lower() for each in names):
                    found.append(hosts.address(address))
    except (OSError, ValueError):
        return ()
    return tuple(found)


async def connect(where: Sequence[Address], port: int) -> socket.socket:
    """A connection to the first of these addresses that takes one, each tried a little after the one before. Raises OSError."""
    tries: set[asyncio.Task[socket.socket]] = set()
    left = list(_alternating(where))
    failure = OSError(113, "no address")
    try:
        async with asyncio.timeout(CONNECTED_WITHIN):
            while left or tries:
                if left:
                    tries.add(asyncio.ensure_future(_one(left.pop(0), port)))
                done, tries = await asyncio.wait(tries, timeout=_STAGGER if left else None, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if task.exception() is None:
                        return task.result()
                    error = task.exception()
                    failure = error if isinstance(error, OSError) else OSError(113, str(error))
    except TimeoutError:
        failure = OSError(110, "nobody answers")
    finally:
        for task in tries:
            task.cancel()
            task.add_done_callback(_forget)
    raise failure


def _forget(task: asyncio.Task[socket.socket]) -> None:
    """One that came too late."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _one(address: Address, port: int) -> socket.socket:
    family = socket.AF_INET6 if address.family == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)  # noqa: FBT003 — it takes no keyword
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await asyncio.get_running_loop().sock_connect(sock, (socket.inet_ntop(family, address.packed), port))
    except BaseException:
        sock.close()
        raise
    return sock


def _alternating(where: Sequence[Address]) -> list[Address]:
    """The families by turns, the resolver's first one first (RFC 8305, section 4)."""
    if not where:
        return []
    first = [each for each in where if each.family == where[0].family]
    other = [each for each in where if each.family != where[0].family]
    out: list[Address] = []
    while first or other:
        out += first[:1] + other[:1]
        first, other = first[1:], other[1:]
    return out
