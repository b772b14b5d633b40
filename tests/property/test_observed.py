"""What init noted, as bytes: what was written is read, and whatever else arrives is bounded and nothing worse than lost."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("fcntl")  # notes are Linux's, and so is what reads them

from houseroom.enforce.linux import observed
from houseroom.policy.observation import KINDS, Observation, Observed

TEXTS = st.binary(max_size=80).map(lambda raw: raw.replace(b"\0", b"x"))
NUMBERS = st.integers(0, 2**32 - 1)
RECORDS = st.tuples(
    st.sampled_from(KINDS), TEXTS, st.integers(0, 0xFFFF), TEXTS, TEXTS.map(lambda raw: raw[: observed.LONGEST_PROGRAM]), NUMBERS, NUMBERS
)


def written(records: list[tuple[str, bytes, int, bytes, bytes, int, int]], lost: int) -> bytes:
    return b"".join((*(observed.pack(*record) for record in records), observed.pack_lost(lost)))


@given(st.lists(RECORDS, max_size=8), NUMBERS)
def test_what_was_written_is_read(records: list[tuple[str, bytes, int, bytes, bytes, int, int]], lost: int) -> None:
    seen = tuple(
        Observation(kind, os.fsdecode(path), errno, os.fsdecode(words), os.fsdecode(program), count, last)
        for kind, path, errno, words, program, count, last in records
    )
    assert observed.read(written(records, lost)) == Observed(seen, lost)


@given(st.binary(max_size=400))
def test_any_bytes_are_read_as_something_bounded(data: bytes) -> None:
    found = observed.read(data)
    assert len(found.seen) <= observed.MOST
    assert sum(len(os.fsencode(text)) for seen in found.seen for text in (seen.path, seen.program, seen.words)) <= len(data)
    assert all(seen.kind in KINDS and "\0" not in seen.path + seen.program + seen.words for seen in found.seen)


@given(st.lists(RECORDS, min_size=1, max_size=4), st.data())
def test_bytes_that_were_changed_are_read_as_something_bounded(
    records: list[tuple[str, bytes, int, bytes, bytes, int, int]], data: st.DataObject
) -> None:
    raw = bytearray(written(records, 0))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    found = observed.read(bytes(raw))
    assert len(found.seen) <= len(raw)


@given(st.lists(RECORDS, min_size=1, max_size=4), st.data())
def test_what_is_cut_off_is_told_as_lost(records: list[tuple[str, bytes, int, bytes, bytes, int, int]], data: st.DataObject) -> None:
    raw = written(records, 0)
    cut = raw[: data.draw(st.integers(1, len(raw) - 1))]
    found = observed.read(cut)
    whole = observed.read(raw)
    assert found.seen == whole.seen[: len(found.seen)]
    assert found.lost or len(found.seen) == len(records)


def test_paths_longer_than_any_are_cut_and_too_many_are_counted() -> None:
    long = observed.pack("write", b"/" + b"n" * 9000, 30, b"w" * 300, b"p" * 300, 2**40, 2**40)
    (seen,) = observed.read(long + observed.pack_lost(2**40)).seen
    assert (len(seen.path), len(seen.words), len(seen.program)) == (4096, observed.LONGEST_WORDS, observed.LONGEST_PROGRAM)
    many = observed.read(observed.pack("write", b"/x", 30, b"", b"", 1, 1) * (observed.MOST + 10) + observed.pack_lost(0))
    assert len(many.seen) == observed.MOST
    assert many.lost


def test_no_notes_are_no_observations() -> None:
    assert observed.read(b"") == Observed()
