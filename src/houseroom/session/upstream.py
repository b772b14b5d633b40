"""The host's own proxy, as its variables name it: in some networks there is no other way out.

It resolves names itself, so behind it no address can be judged; it is used only where the policy says so (``network.upstream``). What its
variables hold, a password perhaps, is given to the egress proxy when that is forked, and kept nowhere.
"""

from __future__ import annotations

from houseroom.errors import SetupFailed
from houseroom.policy import hosts
from houseroom.policy.hosts import Address
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy")
DIRECT: Final = "no_proxy"
_PORT = 80  # of an address without one (RFC 9110, section 4.2.1)
_HEX = frozenset("0123456789abcdefABCDEF")
_DIGITS = frozenset("0123456789")


class Proxy(Record):
    """Where it listens, and what it is told of who asks: the value of a Proxy-Authorization field, or nothing."""

    variable: str
    host: str | Address
    port: int
    authorization: bytes = b""


def given(environ: Mapping[bytes, bytes], *, used: bool) -> dict[str, str]:
    """What the host's variables say of proxies, by their names in lower case, which win over those in upper case.

    Raises SetupFailed where they are to be ``used`` and name one that can't be.
    """
    found = {}
    for name in (*PROXIES, DIRECT):
        value = environ.get(name.encode()) or environ.get(name.upper().encode(), b"")
        if value:
            found[name] = value.decode("utf-8", "replace")
    for name in PROXIES if used else ():
        if name in found:
            try:
                read(name, found[name])
            except ValueError as error:
                hint = f"Set {name} to http://HOST:PORT, or run without it: --upstream none"
                raise SetupFailed("use", f"the host's proxy ({name})", 0, str(error), hint) from None
    return found


def read(variable: str, url: str) -> Proxy:
    """The proxy that a variable names. Raises ValueError in words that tell nothing of what the variable holds."""
    scheme, mark, rest = url.strip().rpartition("://")
    if mark and scheme.lower() != "http":
        raise ValueError("only a proxy with an address of http:// can be spoken to")
    user, at, place = rest.partition("/")[0].rpartition("@")
    name, colon, port = place.rpartition(":")
    if not colon or place[-1:] == "]":
        name, port = place, str(_PORT)
    if not port or len(port) > 5 or set(port) - _DIGITS or not 0 < int(port) < 1 << 16:
        raise ValueError("its port is none")
    try:
        host = hosts.host(name)
    except ValueError:
        raise ValueError("its host is none") from None
    return Proxy(variable, host, int(port), _basic(user) if at else b"")


def _basic(user: str) -> bytes:
    """RFC 7617, of what stands before the @ of an address."""
    from binascii import b2a_base64

    name, _, password = user.partition(":")
    return b"Basic " + b2a_base64(_decoded(name) + b":" + _decoded(password), newline=False)


def _decoded(text: str) -> bytes:
    parts = text.split("%")
    out = parts[0].encode()
    for part in parts[1:]:
        if len(part) < 2 or set(part[:2]) - _HEX:
            raise ValueError("its user or password has a percent sign that encodes nothing")
        out += bytes.fromhex(part[:2]) + part[2:].encode()
    return out
