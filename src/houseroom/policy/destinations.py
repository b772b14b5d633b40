"""What a rule of ``network.allow`` and ``network.deny`` names.

    [METHOD[,METHOD…] ]HOST[:PORT|:LOW-HIGH][/PATH]

- HOST is a name; ``*.name``, which stands for one or more whole labels before the name and not for the name itself; an
  address; or a network such as ``10.0.0.0/8``. IPv6 stands in brackets where a port or path follows: ``[fd00::1]:443``,
  ``[fd00::/8]:443``.
- Without a port it is any port; without a method any method; without a path any path. ``GET`` stands for ``HEAD`` too.
- In PATH ``*`` stands for characters within one segment, a segment ``**`` for any number of segments, none included. The
  query is not looked at. A rule with a method or a path is one on HTTP, and what it is about has to be read: inside TLS too.
- A rule on no path but the root needs a method: ``GET example.org/``.
- There is no spelling for "every host": that is ``reach = "open"``.

Names are compared by labels, addresses by bits, paths by segments after decoding; never by string prefix.
"""

from __future__ import annotations

from houseroom.errors import PolicyError
from houseroom.policy import hosts, pattern
from houseroom.policy.hosts import Address, Network
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, NoReturn

LOWEST_PORT: Final = 1
HIGHEST_PORT: Final = 65535
LONGEST_PATH: Final = 8192  # characters of a request's path that are judged
_DIGITS = frozenset("0123456789")
_HEX = frozenset("0123456789abcdefABCDEF")
_UPPER = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ-")
_EXAMPLE: Final = "Write a host, such as pypi.org, *.example.org:443 or GET api.example.org/v1/**."


class Destination(Record):
    """One rule's meaning. ``host`` is a name, or a ``Network`` that may be a single address; ``wild``: what ends in that name.

    ``methods`` empty: any. ``path`` None: any; else segments, in which ``*`` and ``**`` are wildcards.
    """

    host: str | Network
    wild: bool = False
    low: int = LOWEST_PORT
    high: int = HIGHEST_PORT
    methods: tuple[str, ...] = ()
    path: tuple[str, ...] | None = None

    @property
    def inspects(self) -> bool:
        """Whether only the request itself tells if the rule applies."""
        return bool(self.methods) or self.path is not None

    @property
    def any_port(self) -> bool:
        """Whether the rule leaves the port open."""
        return (self.low, self.high) == (LOWEST_PORT, HIGHEST_PORT)

    def names(self, host: str | Address) -> bool:
        """Whether the rule's host is this canonical name or address."""
        if isinstance(self.host, Network):
            return isinstance(host, Address) and host.within(self.host)
        if isinstance(host, Address):
            return False
        if not self.wild:
            return host == self.host
        own, asked = self.host.split("."), host.split(".")
        return len(asked) > len(own) and asked[-len(own) :] == own

    def has_port(self, port: int) -> bool:
        """Whether the rule is about this port."""
        return self.low <= port <= self.high

    def has_method(self, method: str) -> bool:
        """Whether the rule is about this method."""
        return not self.methods or method in self.methods or (method == "HEAD" and "GET" in self.methods)

    def has_path(self, segments: tuple[str, ...]) -> bool:
        """Whether the rule is about the path of these segments, as ``segments_of`` makes them."""
        return self.path is None or pattern.Pattern(self.path).matches(segments)

    def __str__(self) -> str:
        """The rule in its plain spelling. What ``parse`` makes of that is equal to this one."""
        before_path = self.path is not None and isinstance(self.host, Network) and self.host.base.family == 4
        # Without a port 10.0.0.5/8 would be a network.
        ports = "" if self.any_port and not before_path else f":{self.low}" if self.low == self.high else f":{self.low}-{self.high}"
        path = "" if self.path is None else "/" + "/".join(map(_encode, self.path))
        text = f"*.{self.host}" if self.wild else str(self.host)
        if isinstance(self.host, Network) and self.host.base.family == 6 and (ports or path):
            text = f"[{text}]"
        return (",".join(self.methods) + " " if self.methods else "") + text + ports + path


def parse(text: str) -> Destination:
    """The destination of a rule's text.

    Raises PolicyError with the column within the text (from 1) for what names no host, or another one than its author thinks.
    """
    if not text or text != text.strip() or not text.isprintable():
        _wrong(text, 1, "is not a host", _EXAMPLE)
    words, blank, rest = text.partition(" ")
    words, rest = (words, rest) if blank else ("", text)
    methods = _methods(text, words) if blank else ()
    at = len(words) + 2 if blank else 1
    _common_mistakes(text, rest, at)
    host_text, wild, ports, path_text = _split(text, rest, at)
    host = _host(text, host_text, at + (2 if wild else 0))
    low, high = _ports(text, ports, at + rest.index(host_text) + len(host_text)) if ports is not None else (LOWEST_PORT, HIGHEST_PORT)
    root = path_text == "/" and bool(methods)  # a page can be at the root; without a method this is a host with a slash too many
    path = () if root else _path(text, path_text, len(text) - len(path_text) + 1) if path_text else None
    if isinstance(host, Network):
        if wild:
            _wrong(text, at, "puts a wildcard before an address", "Write a network, such as 10.0.0.0/8.")
        if (methods or path is not None) and host.length != 8 * len(host.base.packed):
            _wrong(text, at, "has a method or a path for a network", "Those are for single hosts: leave them out.")
    return Destination(host, wild, low, high, methods, path)


def of(host: str | Address, port: int, method: str = "", path: tuple[str, ...] | None = None) -> Destination:
    """The smallest destination that holds a host, a port (0: any), and a request where there is one."""
    where = Network(host, 8 * len(host.packed)) if isinstance(host, Address) else host
    low, high = (port, port) if port else (LOWEST_PORT, HIGHEST_PORT)
    return Destination(where, low=low, high=high, methods=(method,) if method else (), path=path)


def _wrong(text: str, column: int, message: str, hint: str) -> NoReturn:
    raise PolicyError(f"{text!r} {message}", column=column, hint=hint)


def _common_mistakes(text: str, rest: str, at: int) -> None:
    if "://" in rest:
        _wrong(text, at, "is an address of a page, not a host", _page_hint(rest))
    for char, message, hint in (
        (" ", "has more than one space in it", _EXAMPLE),
        ("@", "names a user, and users can't be told apart by a rule", "Write only what stands behind the @."),
        ("?", "has a query in it, and rules don't look at queries", "Leave out what begins with the question mark."),
        ("#", "has a part of a page in it", "Leave out what begins with the #."),
        ("\\", "has a backslash in it", _EXAMPLE),
    ):
        where = rest.partition("/")[0] if char == "@" else rest
        if char in where:
            _wrong(text, at + rest.index(char), message, hint)
    if rest == "*":
        _wrong(text, at, "would be every host", 'That is spelt reach = "open"; here stand the hosts it should be.')


def _page_hint(rest: str) -> str:
    """The rule that an address of a page was probably meant to be."""
    inside = rest.partition("://")[2].rpartition("@")[2].partition("?")[0].partition("#")[0].rstrip("/")
    try:
        return f'Write "{parse(inside)}".'
    except PolicyError:
        return "Write the host, such as pypi.org or *.example.org:443."


def _methods(text: str, words: str) -> tuple[str, ...]:
    methods = tuple(words.split(","))
    for method in methods:
        if not method or set(method) - _UPPER or method[0] == "-" or len(method) > 24:
            meant = words.upper()
            hint = f'Write "{meant}{text[len(words) :]}".' if words != meant and not set(meant) - _UPPER - {","} else _EXAMPLE
            _wrong(text, 1, "begins with something that is not a method of HTTP", hint)
        if method == "CONNECT":
            _wrong(text, 1, "has CONNECT for a method, which is how any tunnel begins", "Leave the method out.")
    return tuple(dict.fromkeys(methods))


def _split(text: str, rest: str, at: int) -> tuple[str, bool, str | None, str]:
    """Host, whether ``*.`` stood before it, ports (None: no colon) and path, as they are written."""
    wild = rest[:2] == "*."
    body = rest[2:] if wild else rest
    if body[:1] == "[":
        inside, bracket, behind = body[1:].partition("]")
        if not bracket or ":" not in inside or (behind and behind[0] not in ":/"):
            _wrong(text, at, "has a bracket that doesn't close around an IPv6 address", "Write [fd00::1]:443.")
        ports, slash, path = behind.partition("/")
        return inside, wild, (ports[1:] if ports else None), slash + path
    before, slash, behind = body.partition("/")
    if slash and _is_address(before):  # a network: what follows is its length
        length, colon, ports = behind.partition(":")
        if not length or not set(length) - _DIGITS:
            return f"{before}/{length}", wild, (ports if colon else None), ""
    if before.count(":") > 1:
        return before, wild, None, slash + behind
    name, colon, ports = before.partition(":")
    return name, wild, (ports if colon else None), slash + behind


def _is_address(text: str) -> bool:
    try:
        hosts.address(text)
    except ValueError:
        return False
    return True


def _host(text: str, written: str, at: int) -> str | Network:
    if "*" in written:
        what = written.rpartition("*")[2].strip(".")
        hint = f"A wildcard stands for whole labels, at the front: *.{what}" if what else _EXAMPLE
        _wrong(text, at + written.index("*"), "has a wildcard where none may be", hint)
    try:
        if "/" in written:
            return _plain_network(text, written, at)
        found = hosts.host(written)
    except PolicyError:
        raise
    except ValueError as error:
        _wrong(text, at, str(error) if written else "names no host", _EXAMPLE)
    if isinstance(found, str):
        return found
    plain = found.reached
    if str(plain) != written.lower():
        _wrong(text, at, f"is an unusual spelling of {plain}", f'Write "{plain}".')
    return Network(plain, 8 * len(plain.packed))


def _plain_network(text: str, written: str, at: int) -> Network:
    found = hosts.network(written)
    if not found.length:
        _wrong(text, at, "would be every address", 'Everything is spelt reach = "open", nothing reach = "none".')
    if found.base.reached != found.base:
        _wrong(text, at, "is a network of IPv4 addresses in IPv6", f"Write {found.base.reached}/{max(found.length - 96, 0)}.")
    if str(found) != written.lower() and found.length != 8 * len(found.base.packed):
        _wrong(text, at, f"is an unusual spelling of {found}", f'Write "{found}".')
    return found


def _ports(text: str, written: str, at: int) -> tuple[int, int]:
    low_text, dash, high_text = written.partition("-")
    numbers = [_port(each) for each in ((low_text, high_text) if dash else (low_text, low_text))]
    if not all(numbers) or numbers[0] > numbers[1]:
        hint = "Leave the colon out for any port." if written in ("", "*") else "A port is a number from 1 to 65535, or a range: 8000-8080."
        _wrong(text, min(at + 1, len(text)), f"has {written!r} where its port should be", hint)
    return numbers[0], numbers[1]


def _port(text: str) -> int:
    """A port's number, 0 where it is none."""
    fits = 0 < len(text) <= 5 and not set(text) - _DIGITS and text[0] != "0"
    return int(text) if fits and int(text) <= HIGHEST_PORT else 0


def _path(text: str, written: str, at: int) -> tuple[str, ...] | None:
    if written == "/":
        _wrong(text, at, "ends in a slash", "Leave it out for any path; write /** for the same by name.")
    if "%2a" in written.lower() or "%3f" in written.lower():
        _wrong(text, at, "has an encoded star or question mark in it", "No rule can name those; * stands for any characters in a segment.")
    try:
        segments = segments_of(written)
    except ValueError as error:
        _wrong(text, at, f"has a path that {error}", "Write the path as a server would know it, such as /v1/**.")
    if written[-1] == "/":
        _wrong(text, len(text), "ends in a slash", f'Write "{text.rstrip("/")}", or "{text}**" for what is below it too.')
    for segment in segments:
        if "**" in segment and segment != pattern.ANY:
            _wrong(text, at, "has ** beside other characters", "It stands alone between two slashes; * is for within a segment.")
    return None if set(segments) == {pattern.ANY} else segments


def segments_of(path: str) -> tuple[str, ...]:
    """The decoded segments of a request's path without its query. A slash at the end makes no difference.

    Raises ValueError, as words that follow "path that", for every path that two servers may read in two ways: dot segments and
    empty ones, slashes and percent signs that are encoded, backslashes, parameters behind a semicolon, control characters,
    anything that is not UTF-8 when decoded, and whatever does not begin with a slash (RFC 3986 §3.3, §6.2).
    """
    if path[:1] != "/":
        raise ValueError("does not begin with a slash")
    if len(path) > LONGEST_PATH:
        raise ValueError(f"is longer than {LONGEST_PATH} characters")
    raw = path[1:].split("/")
    if raw[-1] == "":
        raw.pop()
    return tuple(map(_decode, raw))


def _decode(segment: str) -> str:
    if not segment:
        raise ValueError("has two slashes in a row")
    if not segment.isascii() or not segment.isprintable() or " " in segment:
        raise ValueError("has a character in it that has to be encoded")
    parts = segment.split("%")
    out = bytearray(parts[0], "ascii")
    for part in parts[1:]:
        if len(part) < 2 or set(part[:2]) - _HEX:
            raise ValueError("has a percent sign that encodes nothing")
        out += bytes.fromhex(part[:2])
        out += part[2:].encode()
    try:
        plain = out.decode()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 when it is decoded") from None
    if plain in (".", ".."):
        raise ValueError("has a dot segment")
    for char, words in (("/", "an encoded slash"), ("\\", "a backslash"), ("%", "an encoded percent sign"), (";", "a semicolon")):
        if char in plain:
            raise ValueError(f"has {words} in it")
    if not plain.isprintable() and any(ord(char) < 32 or 127 <= ord(char) < 160 for char in plain):
        raise ValueError("has a control character in it")
    return plain


_UNENCODED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,=:@")


def _encode(segment: str) -> str:
    return "".join(char if char in _UNENCODED else "".join(f"%{octet:02X}" for octet in char.encode()) for char in segment)
