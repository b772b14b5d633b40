"""DNS messages without a socket: one question in, one answer out (RFC 1035, RFC 6891).

Questions come from inside the sandbox and are as hostile as they like. The answers are those of a resolver that knows addresses
and nothing else: what we don't answer is said at once, because a question without an answer is a program that hangs.
"""

from __future__ import annotations

from houseroom.policy import hosts
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final, NoReturn

A: Final = 1
AAAA: Final = 28
OPT: Final = 41
SVCB: Final = 64
HTTPS: Final = 65
INTERNET: Final = 1

NO_ERROR: Final = 0
FORMAT_ERROR: Final = 1
SERVER_FAILURE: Final = 2
NO_SUCH_NAME: Final = 3
NOT_IMPLEMENTED: Final = 4
REFUSED: Final = 5
BAD_VERSION: Final = 16

SMALLEST: Final = 512  # octets that any resolver takes over UDP, RFC 1035 §4.2.1
LARGEST: Final = 1232  # octets over UDP that no usual path has to fragment
LONGEST: Final = 4096  # octets of a question that we read: a name has 255, options are short
LONGEST_TTL: Final = 0x7FFFFFFF  # RFC 2181 §8

_HEADER = 12
_RESPONSE, _TRUNCATED, _RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x8000, 0x0200, 0x0100, 0x0080
_PROHIBITED = 18  # an extended error, RFC 8914 §4.19
_MOST_ADDITIONAL = 8


class DnsError(ValueError):
    """A message that is no question of ours. ``answer``: what to send back, empty where nothing should be."""

    def __init__(self, words: str, answer: bytes = b""):
        self.words, self.answer = words, answer
        super().__init__(words)


class Query(Record):
    """One question.

    ``question``: as it stood on the wire, letters in the case they had. ``host``: the canonical name, empty where what is asked for
    is no name of a host (``_dmarc.example.org``, the root). ``edns``: the octets that the sender takes over UDP, 0 where it doesn't
    say.
    """

    id: int
    flags: int
    question: bytes
    host: str
    kind: int
    klass: int
    edns: int = 0

    @property
    def wants_addresses(self) -> bool:
        """Whether it asks for what we know: addresses in the internet's class."""
        return self.klass == INTERNET and self.kind in (A, AAAA)


def read_query(message: bytes) -> Query:
    """The question of a whole message. Raises DnsError."""
    if len(message) < _HEADER:
        raise DnsError("a message shorter than its header")
    number, flags, questions, answers, authorities, additional = (_short(message, at) for at in range(0, _HEADER, 2))
    if flags & _RESPONSE:
        raise DnsError("an answer where a question was expected")  # never answered: two servers would talk for ever
    if len(message) > LONGEST:
        _malformed(number, flags, "a question that is far too long")
    if flags >> 11 & 0xF:
        raise DnsError("an operation other than a query", _head(number, flags, NOT_IMPLEMENTED, 0, 0, 0))
    if questions != 1 or answers or authorities or additional > _MOST_ADDITIONAL:
        _malformed(number, flags, "a query that is not one question")
    labels, at = _name(message, _HEADER, number, flags)
    if at + 4 > len(message):
        _malformed(number, flags, "a question without its type")
    kind, klass = _short(message, at), _short(message, at + 2)
    question = message[_HEADER : at + 4]
    query = Query(number, flags, question, _host(labels), kind, klass)
    return query.with_(edns=_options(message, at + 4, additional, query))


def _options(message: bytes, at: int, count: int, query: Query) -> int:
    """The octets that an OPT record says the sender takes, 0 without one. Nothing else may be there, and nothing behind it."""
    size = 0
    for _ in range(count):
        if message[at : at + 1] != b"\0" or at + 11 > len(message) or _short(message, at + 1) != OPT or size:
            _malformed(query.id, query.flags, "an additional record that is not the one of EDNS")
        if message[at + 6]:
            raise DnsError("a version of EDNS that nobody has", _answer(query.with_(edns=SMALLEST), BAD_VERSION))
        size = max(_short(message, at + 3), SMALLEST)
        at += 11 + _short(message, at + 9)
    if at != len(message):
        _malformed(query.id, query.flags, "a message that does not end where it says")
    return size


def _name(message: bytes, at: int, number: int, flags: int) -> tuple[list[bytes], int]:
    """The labels of the name at a place, and where it ends. A question has no other name that a pointer could lead to."""
    labels: list[bytes] = []
    total = 1
    while True:
        length = message[at] if at < len(message) else 256
        if length == 0:
            return labels, at + 1
        total += length + 1
        if length > 63 or total > 255 or at + 1 + length > len(message):
            _malformed(number, flags, "a name that is cut, compressed or too long")
        labels.append(message[at + 1 : at + 1 + length])
        at += 1 + length


def _host(labels: list[bytes]) -> str:
    if any(b"." in label for label in labels):
        return ""
    try:
        return hosts.name(b".".join(labels).decode("ascii"))
    except ValueError:
        return ""


def addresses(query: Query, found: Sequence[bytes], ttl: int, *, limit: int = 0) -> bytes:
    """The answer with these packed addresses, as many of them as are of the kind that was asked for: none is "no data".

    ``ttl`` in seconds. ``limit``: octets, 0 for what the sender takes over UDP; what doesn't fit is cut off and marked, so that
    the sender asks again over TCP (RFC 2181 §9).
    """
    length = {A: 4, AAAA: 16}.get(query.kind, 0) if query.klass == INTERNET else 0
    head = b"\xc0\x0c" + _shorts(query.kind, INTERNET) + ttl.to_bytes(4, "big") + _shorts(length)  # the name is that of the question
    rest = [head + each for each in found if len(each) == length]
    room = (limit or min(max(query.edns, SMALLEST), LARGEST)) - len(_answer(query, NO_ERROR))
    fits = max(room // (12 + length), 0) if length else 0
    return _answer(query, NO_ERROR, tuple(rest[:fits]), truncated=len(rest) > fits)


def no_data(query: Query) -> bytes:
    """The name is there and has nothing of that kind. So for SVCB and HTTPS: they would offer keys that hide a host's name."""
    return _answer(query, NO_ERROR)


def no_such_name(query: Query, why: str = "") -> bytes:
    """There is no such name, or none that may be known: ``why`` goes to whoever reads extended errors (RFC 8914).

    Said of a name that is refused too: at REFUSED some resolvers ask again until their time is up.
    """
    return _answer(query, NO_SUCH_NAME, why=why)


def refused(query: Query, why: str = "") -> bytes:
    """The policy refuses. ``why`` goes to whoever reads extended errors (RFC 8914)."""
    return _answer(query, REFUSED, why=why)


def failed(query: Query) -> bytes:
    """The answer could not be found out."""
    return _answer(query, SERVER_FAILURE)


def not_implemented(query: Query) -> bytes:
    """A question of a kind that is not answered here."""
    return _answer(query, NOT_IMPLEMENTED)


def truncated(query: Query) -> bytes:
    """Ask again over TCP."""
    return _answer(query, NO_ERROR, truncated=True)


def framed(message: bytes) -> bytes:
    """A message as it goes over TCP, RFC 1035 §4.2.2."""
    return _shorts(len(message)) + message


def unframed(data: bytes) -> tuple[bytes, int] | None:
    """The first message of a TCP stream and how many octets it took; None where more is needed. Raises DnsError."""
    if len(data) < 2:
        return None
    length = _short(data, 0)
    if not _HEADER <= length <= LONGEST:
        raise DnsError("a message of an impossible length")
    return (data[2 : 2 + length], 2 + length) if len(data) >= 2 + length else None


def _answer(query: Query, code: int, records: tuple[bytes, ...] = (), *, truncated: bool = False, why: str = "") -> bytes:
    option = b""
    if query.edns:
        text = why.encode("ascii", "replace")[:200]
        extended = _shorts(15, len(text) + 2, _PROHIBITED) + text if why else b""
        option = b"\0" + _shorts(OPT, LARGEST) + bytes((code >> 4, 0, 0, 0)) + _shorts(len(extended)) + extended
    head = _head(query.id, query.flags, code & 0xF, 1, len(records), 1 if option else 0, cut=truncated)
    return head + query.question + b"".join(records) + option


def _head(number: int, flags: int, code: int, questions: int, answers: int, additional: int, *, cut: bool = False) -> bytes:
    """A response's header: the operation and the wish for recursion are the question's."""
    said = _RESPONSE | flags & 0x7800 | flags & _RECURSION_DESIRED | _RECURSION_AVAILABLE | (_TRUNCATED if cut else 0) | code
    return _shorts(number, said, questions, answers, 0, additional)


def _malformed(number: int, flags: int, words: str) -> NoReturn:
    raise DnsError(words, _head(number, flags, FORMAT_ERROR, 0, 0, 0))


def _short(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]


def _shorts(*values: int) -> bytes:
    return b"".join(value.to_bytes(2, "big") for value in values)
