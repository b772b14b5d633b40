"""What a TLS client says before anything is encrypted: the name it wants, read without answering (RFC 8446 §4.1.2, RFC 6066 §3).

The name is what has to agree with the host that was asked for. A hello is read as strictly as it was specified: what a server
could read in another way than we do is refused.
"""

from __future__ import annotations

from houseroom.policy import hosts
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

LONGEST: Final = 1 << 16  # octets of a hello: with keys that resist quantum computers and long tickets they have some 2,000 to 6,000
MOST_RECORDS: Final = 64  # some clients cut a hello into small records; nobody needs more

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_LONGEST_RECORD = 1 << 14
_SERVER_NAME, _ALPN = 0, 16
_ENCRYPTED_HELLO = frozenset((0xFE0D, 0xFE0C, 0xFE0B, 0xFE0A, 0xFE09, 0xFE08, 0xFFCE))  # RFC 9849, its drafts, and encrypted SNI before


class Hello(Record):
    """A whole hello.

    ``server_name``: canonical, empty where the client names none. ``encrypted``: another hello is hidden in it, or what looks so:
    some clients always send noise of that form. ``protocols``: the names of ALPN. ``size``: octets on the wire.
    """

    server_name: str
    encrypted: bool
    protocols: tuple[bytes, ...]
    size: int


def read_hello(data: bytes) -> Hello | None:
    """The hello at the beginning of a stream, None where more octets are needed. Raises ValueError for what is none."""
    body, at, records = b"", 0, 0
    while True:
        if (kind := data[at : at + 1]) and kind[0] != _HANDSHAKE:
            raise ValueError("this is not TLS: it does not begin with a handshake")
        if len(data) > at + 1 and data[at + 1] != 3:
            raise ValueError("a record of a version of TLS that there is not")
        if len(data) < at + 5:
            return None
        length = data[at + 3] << 8 | data[at + 4]
        records += 1
        if not 0 < length <= _LONGEST_RECORD or records > MOST_RECORDS:
            raise ValueError("a record of an impossible length, or too many of them")
        # What is there of a record that is not whole yet is judged as well: a client need not be waited for in vain.
        body += data[at + 5 : at + 5 + length]
        _check_start(body)
        at += 5 + length
        whole = 4 + int.from_bytes(body[1:4], "big") if len(body) >= 4 else 0
        if whole and len(body) > whole:
            raise ValueError("a hello with something behind it in its record")
        if len(data) < at:
            return None
        if whole and len(body) == whole:
            return _hello(body[4:], at)


def _check_start(body: bytes) -> None:
    if body[:1] and body[0] != _CLIENT_HELLO:
        raise ValueError("a handshake that does not begin with a client's hello")
    if len(body) >= 4 and int.from_bytes(body[1:4], "big") > LONGEST:
        raise ValueError("a hello that is far too long")


def _hello(body: bytes, size: int) -> Hello:
    fields = _Reader(body)
    if fields.take(2)[0] != 3:
        raise ValueError("a hello of a version of TLS that there is not")
    fields.take(32)  # random
    if len(fields.vector(1)) > 32:
        raise ValueError("a session's name that is too long")
    suites, compressions = fields.vector(2), fields.vector(1)
    if not suites or len(suites) % 2 or not compressions:
        raise ValueError("a hello without cipher suites or compression methods")
    found = _extensions(fields.vector(2)) if fields.rest() else {}
    if fields.rest():
        raise ValueError("a hello that does not end where it says")
    name = _server_name(found[_SERVER_NAME]) if _SERVER_NAME in found else ""
    return Hello(name, bool(_ENCRYPTED_HELLO & found.keys()), _protocols(found[_ALPN]) if _ALPN in found else (), size)


def _extensions(raw: bytes) -> dict[int, bytes]:
    fields, found = _Reader(raw), dict[int, bytes]()
    while fields.rest():
        kind = int.from_bytes(fields.take(2), "big")
        if kind in found:
            raise ValueError("a hello with the same extension twice")
        found[kind] = fields.vector(2)
    return found


def _server_name(raw: bytes) -> str:
    outer = _Reader(raw)
    fields = _Reader(outer.vector(2))
    if outer.rest() or fields.take(1) != b"\0":
        raise ValueError("a server name of an unknown type")
    name = fields.vector(2)
    if fields.rest():
        raise ValueError("more than one server name")
    try:
        return hosts.name(name.decode("ascii"))
    except UnicodeDecodeError:
        raise ValueError("a server name outside ASCII") from None
    except ValueError as error:
        raise ValueError(f"a server name that {error}") from None


def _protocols(raw: bytes) -> tuple[bytes, ...]:
    outer = _Reader(raw)
    fields, names = _Reader(outer.vector(2)), []
    while fields.rest():
        names.append(fields.vector(1))
    if outer.rest() or not names or b"" in names:
        raise ValueError("a list of protocols that is none")
    return tuple(names)


class _Reader:
    """Octets taken from the front. Raises ValueError where there are not enough."""

    def __init__(self, raw: bytes):
        self.raw, self.at = raw, 0

    def rest(self) -> int:
        return len(self.raw) - self.at

    def take(self, count: int) -> bytes:
        if self.rest() < count:
            raise ValueError("a hello that ends in the middle of a field")
        self.at += count
        return self.raw[self.at - count : self.at]

    def vector(self, width: int) -> bytes:
        """A field behind its own length, which has ``width`` octets."""
        return self.take(int.from_bytes(self.take(width), "big"))
