from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from houseroom.policy.toml_places import find_places

# QQQ stands for three single quotes, which would end the literal here.
TRICKY = r'''# [files] in a comment
top = "a # [no] comment"   # but this is
"quoted \u0041.key" = 'lite\ral'
"ünï" = "ü"

[ files . "write" ]
a.b . c = 1979-05-27 07:32:00
many = [ # comment ] here
  "one", 'tw]o', # ,
  """three
  [still] three \""" """, QQQfourQQQQ,
  { path = "x", nested = [1, {y = 2}] },
	-1,
]
empty = []

[[rows]]
id = 1
[rows.inner]
x = true
[[rows]]
id = 2
inner.x = false
'''.replace("Q", "'")


def at(text: str, path: tuple[str | int, ...], what: str) -> str:
    """The text at a place, to its end."""
    places = find_places(text)
    line, column = places.of_key(path) if what == "key" else places.of_value(path)
    return places.line(line)[column - 1 :]


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("path", "what", "begins"),
    [
        (("top",), "key", "top ="),
        (("top",), "value", '"a # [no]'),
        (("quoted A.key",), "key", '"quoted'),
        (("ünï",), "value", '"ü"'),
        (("files",), "key", "files ."),
        (("files", "write"), "key", '"write"'),
        (("files", "write", "a", "b", "c"), "key", "c ="),
        (("files", "write", "a", "b", "c"), "value", "1979"),
        (("files", "write", "many", 0), "value", '"one"'),
        (("files", "write", "many", 1), "value", "'tw]o'"),
        (("files", "write", "many", 2), "value", '"""three'),
        (("files", "write", "many", 3), "value", "'''four"),
        (("files", "write", "many", 4), "value", "{ path"),
        (("files", "write", "many", 4, "path"), "key", "path"),
        (("files", "write", "many", 4, "path"), "value", '"x"'),
        (("files", "write", "many", 4, "nested", 1, "y"), "value", "2}"),
        (("files", "write", "many", 5), "value", "-1,"),
        (("files", "write", "empty"), "value", "[]"),
        (("rows", 0, "id"), "value", "1"),
        (("rows", 0, "inner", "x"), "value", "true"),
        (("rows", 1, "id"), "value", "2"),
        (("rows", 1, "inner", "x"), "value", "false"),
        (("files", "write", "many", 99), "value", "[ # comment"),
    ],
)
def test_a_place_is_where_it_stands(path: tuple[str | int, ...], what: str, begins: str, ends: str) -> None:
    text = TRICKY.replace("\n", ends)
    tomllib.loads(text)
    assert at(text, path, what).startswith(begins)


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=6)


def basic(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[tuple[str | int, ...], str]]:
    """A document and, for each of its values, the source text that must stand at its place."""
    expected: dict[tuple[str | int, ...], str] = {}
    ends = draw(st.sampled_from(["\n", "\r\n"]))
    blank = st.sampled_from(["", " ", "\t ", f" # a ] comment = [{ends}", ends])
    space = st.sampled_from(["", " ", "\t"])

    def value(path: tuple[str | int, ...], depth: int) -> str:
        kind = draw(st.sampled_from(["basic", "literal", "many", "raw many", "number", "array", "table"][: 7 if depth else 5]))
        word = draw(WORDS)
        match kind:
            case "basic":
                source = basic(word)
            case "literal":
                source = "'" + word.replace("'", "") + "'"
            case "many":
                source = '"""' + basic(word)[1:-1] + ends + "a = [ #" + '"' * draw(st.integers(0, 2)) + '"""'
            case "raw many":
                source = "'''" + word.replace("'", "") + ends + "]" + "'" * draw(st.integers(0, 2)) + "'''"
            case "number":
                source = draw(st.sampled_from(["1", "-2.5e3", "true", "1979-05-27 07:32:00", "0xff", "inf"]))
            case "array":
                source = "["
                for index in range(draw(st.integers(0, 3))):
                    source += draw(blank) + value((*path, index), depth - 1) + draw(blank) + ","
                source += draw(blank) + "]"
            case _:
                keys = draw(st.lists(st.sampled_from(["p", "q", '"r s"']), max_size=2, unique=True))
                inner = [f"{key}{draw(space)}={draw(space)}{flat((*path, key.strip(chr(34))))}" for key in keys]
                source = "{" + ", ".join(inner) + "}"
        expected[path] = source
        return source

    def flat(path: tuple[str | int, ...]) -> str:
        expected[path] = basic(draw(WORDS))
        return expected[path]

    text = draw(blank)
    for section in draw(st.lists(st.sampled_from(["a", "b", '"c.d"', "ü"]).filter(lambda name: name != "ü"), max_size=3, unique=True)):
        text += f"[{draw(space)}{section}{draw(space)}]{draw(space)}# x{ends}"
        for leaf in draw(st.lists(st.sampled_from(["x", "y.z", "'w'"]), max_size=3, unique=True)):
            path = (section.strip('"'), *leaf.strip("'").split("."))
            text += f"{leaf}{draw(space)}={draw(space)}{value(path, 2)}{draw(space)}{ends}{draw(blank)}"
            text += ends
    return text, expected


@given(documents())
def test_places_are_right_on_generated_documents(generated: tuple[str, dict[tuple[str | int, ...], str]]) -> None:
    text, expected = generated
    tomllib.loads(text)
    places = find_places(text)
    assert set(places.values) == set(expected)
    for path, source in expected.items():
        line, column = places.of_value(path)
        start = sum(len(each) + 1 for each in text.split("\n")[: line - 1]) + column - 1
        assert text.startswith(source, start)
