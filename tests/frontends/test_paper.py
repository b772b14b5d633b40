"""Text for people: it fits, it lines up, and it can't drive the terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from houseroom.frontends.cli.paper import Column, Paper, Text, clean, span, wrap

PLAIN = Paper(40, colour=False)


def test_columns_line_up_and_fit() -> None:
    table = PLAIN.table([("a", "one two three four five six seven eight"), ("long-name", "x")], (Column(wrap=False), Column()))
    assert table.split("\n") == [
        "  a          one two three four five six",
        "             seven eight",
        "  long-name  x",
    ]


def test_a_long_path_breaks_after_a_slash() -> None:
    assert wrap("/home/someone/projects/houseroom/src/houseroom", 24) == ["/home/someone/projects/", "houseroom/src/houseroom"]


def test_wide_characters_count_twice() -> None:
    assert span("日本") == 4
    assert span("e\u0301") == 1
    table = PLAIN.table([("日本", "x"), ("abcd", "y")], (Column(wrap=False), Column()))
    assert table.split("\n") == ["  日本  x", "  abcd  y"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("file\rname", "file\\rname"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("bytes\udcff", "bytes\\udcff"),
        ("two\nlines", "two\nlines"),
        ("größer 日本", "größer 日本"),
    ],
)
def test_what_would_drive_the_terminal_is_spelt_out(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_colour_adds_nothing_to_the_width() -> None:
    rows = [(Text("a", "31"), Text("b", "32")), (Text("long", "1"), Text("c"))]
    columns = (Column(wrap=False), Column(wrap=False))
    plain = Paper(40, colour=False).table(rows, columns)
    inked = Paper(40, colour=True).table(rows, columns)
    assert "\x1b[31ma\x1b[0m" in inked
    for code in ("\x1b[31m", "\x1b[32m", "\x1b[1m", "\x1b[0m"):
        inked = inked.replace(code, "")
    assert [line.rstrip() for line in inked.split("\n")] == plain.split("\n")


@given(st.text(max_size=200), st.integers(8, 60))
def test_wrapped_lines_fit_and_lose_nothing(text: str, width: int) -> None:
    text = clean(text)
    lines = wrap(text, width)
    assert all(span(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())
