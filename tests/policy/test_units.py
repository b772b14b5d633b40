from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from houseroom.policy import units


@pytest.mark.parametrize(
    ("text", "size"), [("1B", 1), ("512M", 512 << 20), ("4G", 4 << 30), ("007K", 7168), ("1T", 1 << 40)]
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("8h", 28800), ("1h30m", 5400), ("2d", 172800), ("0.5s", 0.5), ("1m0.25s", 60.25)]
)
def test_durations(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "4", "4GB", "4 G", "-1G", "1.5G", "G", "0G", "9999999T", "४G", "1G\n", "1e3M", "inf"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(units.NotAUnitError) as caught:
        units.parse_size(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    "text", ["", "600", "10 m", "30m1h", "1h1h", "-5m", "1.5h", "0s", "0h0m", ".5s", "5.s", "1m1", "h", "nan", "inf", "१s", "1" * 13 + "s"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(units.NotAUnitError) as caught:
        units.parse_duration(text)
    assert caught.value.hint


def test_a_near_miss_is_told_what_to_write() -> None:
    with pytest.raises(units.NotAUnitError, match='Write "4G"'):
        units.parse_size("4GiB")
    with pytest.raises(units.NotAUnitError, match='"600s" for seconds or "600m" for minutes'):
        units.parse_duration("600")


@given(st.integers(1, units.LARGEST))
def test_a_size_comes_back_from_its_text(size: int) -> None:
    assert units.parse_size(units.size_text(size)) == size


@given(st.integers(1, 10**15).map(lambda millis: millis / 1000))
def test_a_duration_comes_back_from_its_text(seconds: float) -> None:
    assert units.parse_duration(units.duration_text(seconds)) == pytest.approx(seconds, rel=1e-12, abs=1e-9)


def test_the_shortest_text_is_chosen() -> None:
    assert [units.size_text(size) for size in (1, 1536, 4 << 30)] == ["1B", "1536B", "4G"]
    assert [units.duration_text(seconds) for seconds in (5400, 60, 0.25, 172801)] == ["1h30m", "1m", "0.25s", "2d1s"]
