"""Heads of HTTP/1.1 messages without a socket (RFC 9112): read strictly, so that no server reads them in another way than we do.

The reading functions return None where more octets are needed, and raise HttpError for what no one should forward. What is
forwarded is written anew from what was understood.
"""

from __future__ import annotations

from houseroom.policy import hosts
from houseroom.policy.hosts import Address
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    Fields = tuple[tuple[bytes, bytes], ...]

LONGEST_HEAD: Final = 1 << 16  # octets
MOST_FIELDS: Final = 100

# How the end of a body is known, RFC 9112 §6.3.
NOTHING: Final = "nothing"
LENGTH: Final = "length"
CHUNKED: Final = "chunked"
UNTIL_CLOSE: Final = "until close"  # of responses only

_END = b"\r\n\r\n"
_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGITS = frozenset(b"0123456789")
_VISIBLE = frozenset(range(0x21, 0x7F))
_VALUE = frozenset({9, *range(0x20, 0x7F), *range(0x80, 0x100)})
# About one connection and not about what is in it: RFC 9110 §7.6.1, with what older proxies are told.
_OF_ONE_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"proxy-authentication-info",
     b"te", b"upgrade", b"http2-settings")
)  # fmt: skip
# What tells where a message goes and ends. A client that has these taken out on the way wants it to be read in two ways.
_NEVER_OF_ONE_HOP = frozenset((b"host", b"content-length", b"transfer-encoding", b"trailer"))


# What a request may say besides its first line that makes some servers take it for another one: it would be judged for what it is not.
_SPEAKS_OTHERWISE = frozenset(
    (b"x-http-method-override", b"x-http-method", b"x-method-override", b"x-original-url", b"x-rewrite-url")
)  # fmt: skip


class HttpError(ValueError):
    """What is not forwarded. ``status``: what a client is told."""

    def __init__(self, words: str, status: int = 400):
        self.words, self.status = words, status
        super().__init__(words)


class Body(Record):
    """Where a body ends: one of NOTHING, LENGTH, CHUNKED, UNTIL_CLOSE, and the octets of LENGTH."""

    kind: str = NOTHING
    length: int = 0


class Request(Record):
    """A request. ``host`` and ``port``: where it goes. ``target``: path and query, or ``*``; empty for CONNECT.

    ``fields``: as they came, names in lower case. ``keep``: another request may follow. ``upgrade``: what the connection may become:
    ``websocket`` or nothing, other wishes are not passed on. ``size``: octets of the head.
    """

    method: str
    host: str | Address
    port: int
    target: str
    version: int  # 0 or 1, behind HTTP/1.
    fields: Fields
    body: Body
    keep: bool
    upgrade: bool
    size: int

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


class Response(Record):
    """A response's head, fields as of a request. ``keep``: the server takes another request on the connection."""

    status: int
    reason: bytes
    version: int
    fields: Fields
    body: Body
    keep: bool
    size: int


def read_proxied(data: bytes) -> Request | None:
    """A request as a proxy gets it: CONNECT with host and port, or a whole ``http://`` address."""
    return _read_request(data, proxied=True, port=80)


def read_direct(data: bytes, port: int = 80) -> Request | None:
    """A request as a server gets it: a path, and the host in its own field. ``port``: where none is named there."""
    return _read_request(data, proxied=False, port=port)


def _read_request(data: bytes, *, proxied: bool, port: int) -> Request | None:
    lines = _lines(data)
    if lines is None:
        return None
    method, target, version = _request_line(lines[0])
    fields = _fields(lines[1:])
    if version == 1 and b"host" not in dict(fields):
        raise HttpError("a request without a Host field")
    named = _single(fields, b"host")
    if method == "CONNECT":
        if not proxied:
            raise HttpError("CONNECT within a connection to a server", 405)
        host, port, path = _connect_target(target, named)
    elif proxied:
        host, port, path = _whole_target(target, method)
        if named is not None and _authority(named, 80) != (host, port):
            raise HttpError("a Host field that differs from the address asked for")
    else:
        if target[:1] != "/" and not (target == "*" and method == "OPTIONS"):
            raise HttpError("a target that is not a path")
        if "#" in target:
            raise HttpError("a target with a part of a page in it")  # which a server may leave out of the path
        if named is None:
            raise HttpError("a request without a Host field")
        (host, port), path = _authority(named, port), target
    body, connection = _request_body(fields, version), _connection(fields)
    if method == "CONNECT" and body != Body():
        raise HttpError("CONNECT with a body")
    keep = version == 1 and b"close" not in connection
    upgrade = version == 1 and b"upgrade" in connection and [value.lower() for value in _all(fields, b"upgrade")] == [b"websocket"]
    return Request(method, host, port, path, version, fields, body, keep, upgrade and method == "GET" and body == Body(), _size(lines))


def check_fields(request: Request) -> None:
    """Raises HttpError for a request that some servers would take for another one than its first line says."""
    for name, _ in request.fields:
        if name in _SPEAKS_OTHERWISE:
            raise HttpError(f"a request with {name.decode()}, which makes servers take it for another one", 403)


def read_response(data: bytes, method: str) -> Response | None:
    """A response to a request with ``method``. One of status 100 to 199 but 101 is followed by another."""
    try:
        lines = _lines(data)
    except HttpError as error:
        raise HttpError(error.words, 502) from None
    if lines is None:
        return None
    version, code, reason = lines[0][:9], lines[0][9:12], lines[0][12:]
    if version not in (b"HTTP/1.0 ", b"HTTP/1.1 ") or len(code) != 3 or set(code) - _DIGITS or not 100 <= int(code) <= 599:
        raise HttpError("a response whose first line is none", 502)
    if (reason and reason[0] != 0x20) or set(reason) - _VALUE:
        raise HttpError("a response whose first line is none", 502)
    minor, status = version[7] - 0x30, int(code)
    try:
        fields = _fields(lines[1:])
        body, connection = _response_body(fields, minor, status, method), _connection(fields)
    except HttpError as error:
        raise HttpError(error.words, 502) from None
    keep = minor == 1 and b"close" not in connection and body.kind != UNTIL_CLOSE
    return Response(status, reason[1:], minor, fields, body, keep, _size(lines))


def forwarded(request: Request, *, port: int = 80) -> bytes:
    """A request's head as a server gets it: a path, one Host field of ours, nothing that was about the way to the proxy.

    ``port``: the scheme's own, which is not written.
    """
    host = f"[{request.host}]" if isinstance(request.host, Address) and request.host.family == 6 else str(request.host)
    where = host if request.port == port else f"{host}:{request.port}"
    kept = [(name, value) for name, value in _passed_on(request.fields) if name != b"host"]
    if request.upgrade:
        kept += [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
    return _head(f"{request.method} {request.target} HTTP/1.{request.version}".encode(), [(b"host", where.encode()), *kept])


def answered(response: Response, *, keep: bool) -> bytes:
    """A response's head as the client gets it. ``keep``: our connection to the client goes on after it."""
    kept = list(_passed_on(response.fields))
    if response.status == 101:
        kept += [(b"connection", b"Upgrade"), *((b"upgrade", value) for value in _all(response.fields, b"upgrade"))]
    elif not keep and response.status >= 200:
        kept.append((b"connection", b"close"))
    return _head(b"HTTP/1.1 %d %s" % (response.status, response.reason), kept)


def _head(first: bytes, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"\r\n".join((first, *(name + b": " + value for name, value in fields))) + _END


def _passed_on(fields: Fields) -> Iterable[tuple[bytes, bytes]]:
    dropped = _OF_ONE_HOP | frozenset(_connection(fields))
    return ((name, value) for name, value in fields if name not in dropped)


def _lines(data: bytes) -> list[bytes] | None:
    """The lines of a head without their ends. Bare CR, bare LF and NUL are refused as soon as they are seen (RFC 9112 §2.2)."""
    end = data.find(_END, 0, LONGEST_HEAD)
    head = data[: end if end >= 0 else LONGEST_HEAD]
    if end < 0 and len(data) >= LONGEST_HEAD:
        raise HttpError(f"a head longer than {LONGEST_HEAD} octets", 431)
    lines = head.split(b"\r\n")
    if end < 0 and lines[-1][-1:] == b"\r":
        lines[-1] = lines[-1][:-1]  # its other half may follow
    if any(b"\n" in line or b"\r" in line or b"\0" in line for line in lines):
        raise HttpError("a head with a bare line feed, a bare carriage return or a NUL in it")
    if len(lines) > MOST_FIELDS + 2:
        raise HttpError(f"a head of more than {MOST_FIELDS} fields", 431)
    return lines if end >= 0 else None


def _size(lines: list[bytes]) -> int:
    return sum(map(len, lines)) + 2 * len(lines) + 2


def _request_line(line: bytes) -> tuple[str, str, int]:
    parts = line.split(b" ")
    if len(parts) != 3 or not parts[0] or len(parts[0]) > 32 or set(parts[0]) - _TOKEN or not parts[1] or set(parts[1]) - _VISIBLE:
        raise HttpError("a request whose first line is none")
    if parts[2] not in (b"HTTP/1.0", b"HTTP/1.1"):
        raise HttpError("a request of another version of HTTP", 505)
    return parts[0].decode(), parts[1].decode(), parts[2][7] - 0x30


def _fields(lines: list[bytes]) -> Fields:
    if len(lines) > MOST_FIELDS:
        raise HttpError(f"a head of more than {MOST_FIELDS} fields", 431)
    return tuple(map(_field, lines))


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not name or set(name) - _TOKEN:  # so blanks before the colon and folded lines (RFC 9112 §5.1, §5.2)
        raise HttpError("a field whose name is none")
    value = value.strip(b" \t")
    if set(value) - _VALUE:
        raise HttpError("a field with a control character in it")
    return name.lower(), value


def _all(fields: Fields, wanted: bytes) -> list[bytes]:
    return [value for name, value in fields if name == wanted]


def _single(fields: Fields, wanted: bytes) -> str | None:
    values = _all(fields, wanted)
    if len(values) > 1:
        raise HttpError(f"more than one field {wanted.decode()}")
    return values[0].decode("latin-1") if values else None


def _connect_target(target: str, named: str | None) -> tuple[str | Address, int, str]:
    host, port = _authority(target, 0)
    if not port:
        raise HttpError("CONNECT without a port")
    # Some clients leave the port out of the field: then it says nothing on the port.
    if named is not None and _authority(named, port) != (host, port):
        raise HttpError("a Host field that differs from the address asked for")
    return host, port, ""


def _whole_target(target: str, method: str) -> tuple[str | Address, int, str]:
    scheme, colon, rest = target.partition("://")
    if not colon:
        raise HttpError("a request without a whole address: this is a proxy")
    if scheme.lower() != "http":
        raise HttpError("an address that is not http://; for https:// a proxy is asked to CONNECT")
    if "#" in rest:
        raise HttpError("an address with a part of a page in it")
    ends = [at for at in (rest.find("/"), rest.find("?")) if at >= 0]
    at = min(ends, default=len(rest))
    host, port = _authority(rest[:at], 80)
    path = rest[at:]
    if path[:1] != "/":
        path = "*" if not path and method == "OPTIONS" else f"/{path}"
    return host, port, path


def _authority(text: str, port: int) -> tuple[str | Address, int]:
    """Host and port of ``host:port``; ``port`` where none is written. Nobody is named before it: no ``user@``."""
    if text[:1] == "[":
        host_text, bracket, behind = text.partition("]")
        host_text += bracket
        colon, port_text = behind[:1], behind[1:]
        if colon not in ("", ":"):
            raise HttpError("an address whose bracket is followed by something else")
    else:
        host_text, colon, port_text = text.partition(":")
    if colon:
        if not port_text or len(port_text) > 5 or not port_text.isascii() or not port_text.isdigit() or not 0 < int(port_text) < 65536:
            raise HttpError("an address with a port that is none")
        port = int(port_text)
    try:
        return hosts.host(host_text), port
    except ValueError as error:
        raise HttpError(f"a host that {error}") from None


def _connection(fields: Fields) -> list[bytes]:
    """The words of the Connection fields, which name other fields as well."""
    words = [word.strip(b" \t").lower() for value in _all(fields, b"connection") for word in value.split(b",")]
    words = [word for word in words if word]
    if _NEVER_OF_ONE_HOP & set(words):
        raise HttpError("a Connection field that would take out what tells where a message ends")
    return words


def _request_body(fields: Fields, version: int) -> Body:
    body = _framing(fields, version)
    return body if body is not None else Body()


def _response_body(fields: Fields, version: int, status: int, method: str) -> Body:
    body = _framing(fields, version)
    if method == "HEAD" or status < 200 or status in (204, 304) or (method == "CONNECT" and status < 300):
        return Body()
    return body if body is not None else Body(UNTIL_CLOSE)


def _framing(fields: Fields, version: int) -> Body | None:
    """What the fields say of the body's end, None where they say nothing. Anything in two ways is refused (RFC 9112 §6.1, §6.3)."""
    codings, length = _all(fields, b"transfer-encoding"), _single(fields, b"content-length")
    if codings:
        if length is not None:
            raise HttpError("a body with a length and a transfer coding")
        if version == 0 or [coding.lower() for coding in codings] != [b"chunked"]:
            raise HttpError("a transfer coding other than chunked", 501)
        return Body(CHUNKED)
    if length is None:
        return None
    if not length or len(length) > 18 or not length.isascii() or not length.isdigit():
        raise HttpError("a length that is none")
    return Body(LENGTH, int(length)) if int(length) else Body()
