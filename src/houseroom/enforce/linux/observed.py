"""What init noted, as bytes: written when the supervisor asks, or the command has ended.

Whoever reads them believes nothing: init is our own code, but it has listened to commands for as long as they liked. What is
not a record ends the reading, size and number are bounded, and whoever prints cleans what is unprintable.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from _struct import Struct

from houseroom.policy.observation import KINDS, Observation, Observed

_HEAD = Struct("<BxHIIHBB")  # kind, errno, count, last, lengths of path, program and words
_TAIL = Struct("<BxxxI")  # ends what is said of a command: no kind, and how much more there was
_NO_KIND = 0xFF
LONGEST_PATH, LONGEST_PROGRAM, LONGEST_WORDS = 4096, 64, 120
MOST = 8192  # records of one command, whatever init says
_UINT = 0xFFFFFFFF


def pack(kind: str, path: bytes, errno: int, words: bytes, program: bytes, count: int, last: int) -> bytes:
    """One record; what is too long is cut."""
    path, program, words = path[:LONGEST_PATH], program[:LONGEST_PROGRAM], words[:LONGEST_WORDS]
    numbers = (errno & 0xFFFF, min(count, _UINT), last & _UINT)
    return _HEAD.pack(KINDS.index(kind), *numbers, len(path), len(program), len(words)) + path + program + words


def pack_lost(count: int) -> bytes:
    """The end of what is said of a command."""
    return _TAIL.pack(_NO_KIND, min(count, _UINT))


def read(data: bytes) -> Observed:
    """All that was said of a command. What is cut off, or never was a record, is one more that was lost."""
    seen: list[Observation] = []
    at = 0
    while at < len(data) and len(seen) < MOST:
        if data[at] == _NO_KIND and len(data) - at == _TAIL.size:
            return Observed(tuple(seen), _TAIL.unpack_from(data, at)[1])
        try:
            one, at = _read_one(data, at)
        except ValueError:
            break
        seen.append(one)
    return Observed(tuple(seen), int(bool(data)))


def _read_one(data: bytes, at: int) -> tuple[Observation, int]:
    """The record that begins here and where the next one does. Raises ValueError for what is none."""
    if len(data) - at < _HEAD.size:
        raise ValueError("cut off")
    kind, errno, count, last, *lengths = _HEAD.unpack_from(data, at)
    if kind >= len(KINDS) or lengths[0] > LONGEST_PATH or lengths[1] > LONGEST_PROGRAM or lengths[2] > LONGEST_WORDS:
        raise ValueError("not a record")
    at += _HEAD.size
    texts = []
    for length in lengths:
        texts.append(data[at : at + length])
        at += length
    if at > len(data) or any(b"\0" in text for text in texts):
        raise ValueError("not a record")
    path, program, words = map(os.fsdecode, texts)
    return Observation(KINDS[kind], path, errno, words, program, count, last), at
