"""SOCKS5 without a socket (RFC 1928): no authentication, CONNECT only.

The reading functions return None where more octets are needed, and raise SocksError for what can't become a request.
"""

from __future__ import annotations

from houseroom.policy import hosts
from houseroom.policy.hosts import Address
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

CHOSEN: Final = b"\5\0"  # no authentication
NOTHING_CHOSEN: Final = b"\5\xff"

SUCCEEDED: Final = 0
FAILED: Final = 1
NOT_ALLOWED: Final = 2  # by the rules
NETWORK_UNREACHABLE: Final = 3
HOST_UNREACHABLE: Final = 4
CONNECTION_REFUSED: Final = 5
COMMAND_NOT_SUPPORTED: Final = 7
ADDRESS_NOT_SUPPORTED: Final = 8

_CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_LENGTHS = {_IPV4: 4, _IPV6: 16}
_SOCKS4_REFUSED = b"\0\x5b\0\0\0\0\0\0"


class SocksError(ValueError):
    """What is not a request for a connection. ``answer``: what to send before closing, empty for what speaks no SOCKS."""

    def __init__(self, words: str, answer: bytes = b""):
        self.words, self.answer = words, answer
        super().__init__(words)


class Request(Record):
    """Connect to ``port`` of ``host``, a canonical name or an address. ``size``: octets that it took."""

    host: str | Address
    port: int
    size: int


def read_greeting(data: bytes) -> int | None:
    """How many octets the greeting took; answer CHOSEN."""
    if data[:1] == b"\4":
        raise SocksError("SOCKS4 is not spoken here: use SOCKS5 (socks5h://)", _SOCKS4_REFUSED)
    if data[:1] not in (b"", b"\5"):
        raise SocksError("this is not SOCKS5; HTTP has a proxy of its own")
    if len(data) < 2 or len(data) < 2 + data[1]:
        return None
    if 0 not in data[2 : 2 + data[1]]:
        raise SocksError("a client that insists on authentication, which is not asked for here", NOTHING_CHOSEN)
    return 2 + data[1]


def read_request(data: bytes) -> Request | None:
    """The request that follows the greeting."""
    for at, wanted, words, code in (
        (0, 5, "a request of another version", FAILED),
        (1, _CONNECT, "only CONNECT is spoken here: no BIND, no UDP", COMMAND_NOT_SUPPORTED),
        (2, 0, "a request with a reserved octet set", FAILED),
    ):
        if len(data) > at and data[at] != wanted:
            raise SocksError(words, reply(code))
    if len(data) < 5:
        return None
    kind = data[3]
    if kind == _NAME:
        start, length = 5, data[4]
    elif kind in _LENGTHS:
        start, length = 4, _LENGTHS[kind]
    else:
        raise SocksError("an address of an unknown type", reply(ADDRESS_NOT_SUPPORTED))
    end = start + length
    if len(data) < end + 2:
        return None
    port = data[end] << 8 | data[end + 1]
    if not port:
        raise SocksError("port 0", reply(FAILED))
    return Request(_host(data[start:end]) if kind == _NAME else Address(data[start:end]), port, end + 2)


def _host(raw: bytes) -> str | Address:
    try:
        return hosts.host(raw.decode("ascii"))
    except UnicodeDecodeError:
        raise SocksError("a host name outside ASCII", reply(FAILED)) from None
    except ValueError as error:
        raise SocksError(f"a host name that {error}", reply(FAILED)) from None


def reply(code: int, bound: Address | None = None, port: int = 0) -> bytes:
    """The answer to a request. ``bound``: the address we connected from, 0.0.0.0 where that is nobody's business."""
    packed = bound.packed if bound is not None else bytes(4)
    return bytes((5, code, 0, _IPV4 if len(packed) == 4 else _IPV6)) + packed + port.to_bytes(2, "big")
