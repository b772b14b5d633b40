"""Connections to the world, made to the egress proxy in the caller's place.

The caller's own socket is connected to the proxy, which is told where the caller wanted to go (``plan.egress``). So a program that
knows of no proxy reaches what is allowed, and what it reads and writes goes through no memory of ours. What the proxy is told
decides nothing here: it would judge the same said by the command itself, which can connect to it too.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _socket
import os
from errno import EAGAIN, EALREADY, EINPROGRESS, ENETUNREACH, ENOTCONN

from houseroom.enforce.linux.borrowed import Later
from houseroom.plan import egress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.enforce.linux.borrowed import Borrowed

_MAPPED = bytes(10) + b"\xff\xff"  # an IPv4 address as an IPv6 one, RFC 4291
_LATER = (EAGAIN, ENOTCONN)


class WayOut:
    """The proxy at ``address`` and ``port`` of this network namespace."""

    def __init__(self, address: str, port: int):
        self.own = _socket.inet_aton(address)
        number = port.to_bytes(2, "big")
        plain = _family(_socket.AF_INET) + number + self.own + bytes(8)
        mapped = _family(_socket.AF_INET6) + number + bytes(4) + _MAPPED + self.own + bytes(4)
        self.ends = {int(_socket.AF_INET): plain, int(_socket.AF_INET6): mapped}

    def __call__(self, borrowed: Borrowed, raw: bytes) -> None:
        """connect(2) as the caller asked for it. Raises Later while a blocking socket waits, and what the proxy says."""
        target = self._target(raw)
        if target is None:
            borrowed.connect(raw)
            return
        if borrowed.sock.type != _socket.SOCK_STREAM or borrowed.sock.proto != _socket.IPPROTO_TCP:
            raise OSError(ENETUNREACH, "the way out is for TCP")
        blocking = os.get_blocking(borrowed.fd)
        if not borrowed.waited:
            self._begin(borrowed, target, answered=blocking)
        if blocking:
            _hear(borrowed.sock)

    def _target(self, raw: bytes) -> tuple[int, bytes, int] | None:
        """Family, address and port of somewhere else; None for what is the sandbox's own, or no such address."""
        family = int.from_bytes(raw[:2], sys.byteorder)
        port = int.from_bytes(raw[2:4], "big")
        if family == _socket.AF_INET and len(raw) >= 16:
            address = raw[4:8]
        elif family == _socket.AF_INET6 and len(raw) >= 24:
            address = raw[8:24]
            if address[:12] == _MAPPED:
                address = address[12:]
        else:
            return None
        return None if self._is_own(address) else (4 if len(address) == 4 else 6, address, port)

    def _is_own(self, address: bytes) -> bool:
        """Whether it is the sandbox's: the loopback, "this host", and the proxy's own."""
        if len(address) == 4:
            return address[0] in (0, 127) or address == self.own
        return address[:15] == bytes(15) and address[15] in (0, 1)

    def _begin(self, borrowed: Borrowed, target: tuple[int, bytes, int], *, answered: bool) -> None:
        try:
            borrowed.connect(self.ends[borrowed.domain])
        except Later:
            pass  # over the loopback it has come about by now
        except OSError as error:
            if error.errno not in (EINPROGRESS, EALREADY):
                raise
        family, address, port = target
        # A new connection takes so few bytes whole, or none: one that the backlog had no room for.
        borrowed.sock.send(egress.preamble(family, address, port, answered=answered), _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)


def _hear(sock: _socket.socket) -> None:
    """The proxy's answer: one byte, which is an errno. Raises that, and Later where it is not there yet."""
    try:
        said = sock.recv(1, _socket.MSG_DONTWAIT)
    except OSError as error:
        if error.errno in _LATER:
            raise Later from None
        raise
    if said != b"\0":
        errno = said[0] if said else ENETUNREACH
        raise OSError(errno, os.strerror(errno))


def _family(number: int) -> bytes:
    return int(number).to_bytes(2, sys.byteorder)
