"""Publishing a sandbox's ports: a process of ours beside it, which listens on the host's loopback and connects inside.

The sockets are opened while nothing has begun, so that a port that is taken stops the start. The process joins the network of the
sandbox and nothing else of it: it is not among its processes, sees the host's files, and keeps no right to write, nor any capability.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _socket
import os
from errno import EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EIO
from time import monotonic, sleep

from houseroom.enforce.linux import process_sys
from houseroom.errors import SetupFailed
from houseroom.session import apart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn

    from houseroom.enforce.linux.launch import Cradle

    Doors = tuple[tuple[int, int], ...]  # descriptors of sockets that listen, each with its port

_ADDRESSES = ((_socket.AF_INET, "127.0.0.1"), (_socket.AF_INET6, "::1"))
_PATIENCE, _PAUSE = 0.5, 0.01  # seconds: whoever publishes a port for a sandbox that has just ended lets go of it by itself
_BACKLOG = 1024


def listen(ports: Iterable[int]) -> Doors:
    """Sockets that listen at these ports of the host's loopback. Raises SetupFailed for a port that can't be had."""
    doors: list[tuple[int, int]] = []
    end = monotonic() + _PATIENCE
    try:
        for port in ports:
            for family, address in _ADDRESSES:
                fd = _listening(family, address, port, end)
                doors += [(fd, port)] if fd >= 0 else []
    except BaseException:
        close(doors)
        raise
    return tuple(doors)


def close(doors: Iterable[tuple[int, int]]) -> None:
    """Let go of them."""
    for fd, _port in doors:
        os.close(fd)


def start(cradle: Cradle, doors: Doors) -> None:
    """Publish for a sandbox that stands. The caller's copies of the sockets are still its own to close. Raises SetupFailed."""
    network = cradle.descriptor()
    hear, tell = os.pipe2(os.O_CLOEXEC)
    ends = apart.ends_of(cradle)
    try:
        pid = os.fork()
        if pid == 0:
            try:
                _become_publisher(network, doors, ends, tell)
            finally:
                os._exit(1)
        process_sys.reap(pid)
        os.close(tell)
        tell = -1
        said = os.read(hear, 1)
    finally:
        for fd in (network, hear, *ends, *((tell,) if tell >= 0 else ())):
            os.close(fd)
    if said != b"\0":
        errno = said[0] if said else EIO
        raise SetupFailed("join", "the sandbox's network, to publish its ports", errno, os.strerror(errno), "Run `houseroom doctor`.")


def _listening(family: int, address: str, port: int, end: float) -> int:
    """A socket that listens, -1 where the host has no such address. Raises SetupFailed."""
    while True:
        try:
            return _try_to_listen(family, address, port)
        except OSError as error:
            if family == _socket.AF_INET6 and error.errno in (EAFNOSUPPORT, EADDRNOTAVAIL):
                return -1
            if error.errno == EADDRINUSE and monotonic() < end:
                sleep(_PAUSE)
                continue
            hint = f"Another program or sandbox listens there. End it (`ss -ltnp sport = :{port}` tells who), or publish another port."
            raise SetupFailed(
                "publish", f"port {port}", error.errno or 0, error.strerror or str(error), hint if error.errno == EADDRINUSE else ""
            ) from None


def _try_to_listen(family: int, address: str, port: int) -> int:
    sock = _socket.socket(family, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)  # connections that have ended keep no port
        if family == _socket.AF_INET6:
            sock.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(_BACKLOG)
        return sock.detach()
    finally:
        sock.close()


def _become_publisher(network: int, doors: Doors, ends: tuple[int, int], tell: int) -> NoReturn:
    if os.fork():
        os.write(tell, bytes((_try_to_join(network),)))  # what the other one does later, as nobody would hear of it then
        os._exit(0)
    apart.settle(network, *(fd for fd, _port in doors), *ends)
    from houseroom.session.proxy.publisher import serve  # while root may still read what is only others'

    process_sys.enter_network(network)
    os.close(network)
    apart.drop_rights()
    serve(doors, ends)
    os._exit(0)


def _try_to_join(network: int) -> int:
    try:
        process_sys.enter_network(network)
    except OSError as error:
        return error.errno or EIO
    return 0
