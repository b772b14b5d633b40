"""Adding to a list of a policy's text: as little as possible changes, and what it says is what it said and the new values."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from houseroom.policy.toml_edit import NotEditable, add

ONE = [("~/notes", "2 files by make")]

CASES = {
    "nothing": ("", '[files]\nwrite = [\n    "~/notes",  # 2 files by make\n]\n'),
    "another section": (
        '# mine\n[limits]\ntime = "1h"\n',
        '# mine\n[limits]\ntime = "1h"\n\n[files]\nwrite = [\n    "~/notes",  # 2 files by make\n]\n',
    ),
    "no line end": ('extends = "read-only"', 'extends = "read-only"\n\n[files]\nwrite = [\n    "~/notes",  # 2 files by make\n]\n'),
    "another key": (
        '[files]  # what\nhide = ["a"]  # why\n\n[limits]\n',
        '[files]  # what\nwrite = [\n    "~/notes",  # 2 files by make\n]\nhide = ["a"]  # why\n\n[limits]\n',
    ),
    "only a header": ("[files]", '[files]\nwrite = [\n    "~/notes",  # 2 files by make\n]\n'),
    "one line": ('[files]\nwrite = ["a"]  # mine\n', '[files]\n# 2 files by make: "~/notes"\nwrite = ["a", "~/notes"]  # mine\n'),
    "one line, comma": ("[files]\nwrite = [ 'a' , ]", '[files]\n# 2 files by make: "~/notes"\nwrite = [ \'a\', "~/notes", ]'),
    "lines": (
        '[files]\nwrite = [\n  "a", # the first\n  "b", # the second\n]\nread = []\n',
        '[files]\nwrite = [\n  "a", # the first\n  "b", # the second\n  "~/notes",  # 2 files by make\n]\nread = []\n',
    ),
    "lines, no comma": (
        '[files]\nwrite = [\n  "a",\n  "b" # , the second\n]\n',
        '[files]\nwrite = [\n  "a",\n  "b", # , the second\n  "~/notes",  # 2 files by make\n]\n',
    ),
    "bracket behind": ('[files]\nwrite = ["a",\n  "b"]\n', '[files]\nwrite = ["a",\n  "b",\n  "~/notes",  # 2 files by make\n]\n'),
    "tables in it": (
        '[files]\nwrite = [\n    { path = "x]", reason = "y" },\n]\n',
        '[files]\nwrite = [\n    { path = "x]", reason = "y" },\n    "~/notes",  # 2 files by make\n]\n',
    ),
    "dotted": ('files.hide = ["a"]\n', 'files.write = [\n    "~/notes",  # 2 files by make\n]\nfiles.hide = ["a"]\n'),
    "inline": ('files = { write = ["a"] }\n', 'files = { write = ["a", "~/notes"] }\n'),
    "carriage returns": (
        '[files]\r\nwrite = [\r\n  "a",\r\n]\r\n',
        '[files]\r\nwrite = [\r\n  "a",\r\n  "~/notes",  # 2 files by make\n]\r\n',
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_as_little_as_possible_changes(name: str) -> None:
    before, after = CASES[name]
    assert add(before, "files", "write", ONE) == after


def test_several_values_keep_their_order_and_a_value_is_escaped() -> None:
    text = add("[files]\nwrite = [\n]\nread = ['x']\n".replace("[\n]", '["a"]'), "files", "write", [('b\\"', ""), ("c # d", "")])
    assert tomllib.loads(text)["files"]["write"] == ["a", 'b\\"', "c # d"]


@pytest.mark.parametrize(
    "text",
    [
        "[files]\nwrite = []\n",  # an empty list takes back what other layers grant: a value in it would give that again
        'files = { hide = ["a"] }\n',
        'files = "none"\n',
        "[[files]]\nhide = []\n",
        "[files]\nwrite = 3\n",
    ],
)
def test_what_a_person_must_change_is_left_alone(text: str) -> None:
    with pytest.raises(NotEditable):
        add(text, "files", "write", ONE)


blanks = st.sampled_from(["", " ", "  ", "\t"])
comments = st.sampled_from(["", " # a", ' # "quoted", [x]', "\t#]"])
breaks = st.sampled_from(["", "\n", "\r\n", "\n\n", "\n  ", " # c ] ,\n"])
elements = st.sampled_from(['"a"', "'b]'", '"""c\nd"""', "'''e'''", "1", '{ path = "f,g" }', '"#"'])


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Policies as people write them, and as nobody does."""
    items = draw(st.lists(elements, max_size=4))
    body = draw(breaks)
    for place, item in enumerate(items):
        last = place == len(items) - 1
        comma = "," if not last or draw(st.booleans()) else ""
        body += item + draw(breaks) + draw(blanks) + comma + draw(breaks)
    key = draw(st.sampled_from(["write", "write ", '"write"', "hide"]))
    head = draw(st.sampled_from(["[files]", " [ files ] # x", "", '["files"]']))
    if not head:
        key = f"files.{key}"
    more = draw(st.sampled_from(["", '\n[limits]\ntime = "1h"\n', "\nread = ['/']\n" if head else ""]))
    return f"{draw(comments).strip()}\n{head}\n{key} = [{body}]{draw(comments)}{more}"


@given(texts(), st.lists(st.tuples(st.text(min_size=1, max_size=6), st.sampled_from(["", "said"])), min_size=1, max_size=3))
@example('\n[files]\nwrite = [ "a" # c ] ,\n,]', [("b", "said")])
def test_it_says_what_it_said_and_the_new_values(text: str, lines: list[tuple[str, str]]) -> None:
    before = tomllib.loads(text)
    try:
        new = add(text, "files", "write", lines)
    except NotEditable:
        assert before["files"].get("write") == []
        return
    after = tomllib.loads(new)
    assert after["files"]["write"] == [*before["files"].get("write", []), *(value for value, _ in lines)]
    after["files"].pop("write")
    before["files"].pop("write", None)
    assert after == before
    kept = iter(new)
    assert all(char in kept for char in text.replace(",", "").replace(" ", "").replace("\t", "")), "only commas and blanks may go"
