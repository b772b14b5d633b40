"""The end of a chunked body, found while its octets pass through unchanged (RFC 9112 §7.1)."""

from __future__ import annotations

from houseroom.session.proxy.http_head import HttpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

LONGEST_LINE: Final = 4096  # of a chunk's size with its extensions, and of one trailer field
LONGEST_TRAILER: Final = 1 << 16
_HEX = frozenset(b"0123456789abcdefABCDEF")
_PLAIN = frozenset({9, *range(0x20, 0x7F), *range(0x80, 0x100)})
_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
# A trailer that said these would be read as a head by some.
_NOT_AT_THE_END = frozenset((b"host", b"content-length", b"transfer-encoding", b"trailer", b"connection", b"authorization", b"cookie"))

_SIZE, _DATA, _AFTER_DATA, _TRAILER, _ENDED = range(5)


class Chunks:
    """One chunked body. Fed with what arrives, it says how much of that belongs to the body."""

    def __init__(self) -> None:
        self._state = _SIZE
        self._line = b""
        self._left = 0  # octets of the current chunk's data
        self._trailer = 0  # octets of the trailer so far

    @property
    def ended(self) -> bool:
        """Whether the body is complete."""
        return self._state == _ENDED

    def feed(self, data: bytes | memoryview) -> int:
        """How many octets at the front of ``data`` belong to the body: all of them, up to its end.

        Raises HttpError for a body that somebody else might see ending elsewhere.
        """
        at, size = 0, len(data)
        while at < size and self._state != _ENDED:
            if self._state == _DATA:
                taken = min(self._left, size - at)
                at += taken
                self._left -= taken
                if not self._left:
                    self._state = _AFTER_DATA
                continue
            at = self._take(data, at)
        return at

    def _take(self, data: bytes | memoryview, at: int) -> int:
        """Add to the current line; at its end act on it. Returns where to go on."""
        room = LONGEST_LINE + 2 - len(self._line)
        piece = bytes(data[at : at + room])
        end = piece.find(b"\n")
        self._line += piece if end < 0 else piece[: end + 1]
        if end < 0:
            self._check_unfinished()
            return at + len(piece)
        line, self._line = self._line, b""
        if line[-2:] != b"\r\n" or len(line) > LONGEST_LINE or set(line[:-2]) - _PLAIN:
            raise HttpError("a chunked body with a bare line feed or a control character in it")
        self._act(line[:-2])
        return at + end + 1

    def _check_unfinished(self) -> None:
        waiting = self._line[:-1] if self._line[-1:] == b"\r" else self._line
        if len(waiting) > LONGEST_LINE - 2 or set(waiting) - _PLAIN:
            raise HttpError("a chunked body with a line that is too long or has a control character in it")
        if self._state == _AFTER_DATA and waiting:
            raise HttpError("a chunk that is longer than it says")

    def _act(self, line: bytes) -> None:
        if self._state == _AFTER_DATA:
            if line:
                raise HttpError("a chunk that is longer than it says")
            self._state = _SIZE
        elif self._state == _SIZE:
            digits, _, _ = line.partition(b";")
            digits = digits.rstrip(b" \t") if b";" in line else digits
            if not digits or len(digits) > 15 or set(digits) - _HEX:
                raise HttpError("a chunk without a size")
            self._left = int(digits, 16)
            self._state = _DATA if self._left else _TRAILER
        elif not line:
            self._state = _ENDED
        else:
            self._trailer += len(line)
            name, colon, _ = line.partition(b":")
            if not colon or not name or set(name) - _TOKEN or name.lower() in _NOT_AT_THE_END or self._trailer > LONGEST_TRAILER:
                raise HttpError("a trailer that is none, or that tells where a message ends")
