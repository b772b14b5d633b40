from __future__ import annotations

import sys
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_strategies import matches, name_matches

from houseroom.errors import PolicyError
from houseroom.policy import pattern
from houseroom.policy.model import Places

PLACES = Places(workspace="/home/u/ws", home="/home/u", tmp="/private", user=7)


@pytest.mark.parametrize(
    ("text", "placed"),
    [
        ("src", "/home/u/ws/src"),
        (".", "/home/u/ws"),
        ("./src/", "/home/u/ws/src"),
        ("{workspace}", "/home/u/ws"),
        ("~", "/home/u"),
        ("~/.ssh", "/home/u/.ssh"),
        ("{home}/x", "/home/u/x"),
        ("{tmp}", "/private"),
        ("{user}/bus", "/run/user/7/bus"),
        ("/", "/"),
        ("//etc//./passwd", "/etc/passwd"),
        ("**/.env", "/home/u/ws/**/.env"),
        ("/**/.env", "/**/.env"),
    ],
)
def test_a_text_stands_for_an_absolute_pattern(text: str, placed: str) -> None:
    assert str(pattern.place(text, PLACES)) == placed


@pytest.mark.parametrize("text", ["", "a\0b", "..", "a/../b", "~/../x", "{tmp}evil", "{nowhere}/x", "{workspace", "{}"])
def test_a_text_that_names_no_path_is_refused(text: str) -> None:
    with pytest.raises(PolicyError):
        pattern.place(text, PLACES)


@pytest.mark.parametrize(
    ("subject", "path", "expected"),
    [
        ("/a/**", "/a", True),
        ("/a/**", "/a/b/c", True),
        ("/a/**", "/ab", False),
        ("/**/b", "/b", True),
        ("/**/b", "/a/b", True),
        ("/**/b", "/a/b/c", False),
        ("/**/a/**/b", "/a/b", True),
        ("/**/a/**/b", "/a", False),
        ("/**/a/**/a", "/a", False),
        ("/x/**/a/b/**/b", "/x/a/b", False),
        ("/x/**/a/b/**/b", "/x/a/a/b/b", True),
        ("/**/a?/**/*.pem", "/q/ab/z/k.pem", True),
        ("/**/**", "/", True),
        ("/a*b", "/ab", True),
        ("/a*a", "/a", False),
        ("/*", "/.hidden", True),
        ("/[ab]", "/a", False),
        ("/A", "/a", False),
    ],
)
def test_matching(subject: str, path: str, expected: bool) -> None:
    assert pattern.place(subject, PLACES).matches(pattern.components(path)) is expected


LETTERS = st.text("ab", max_size=4)
GLOBS = st.one_of(st.just("**"), st.text("ab*?", min_size=1, max_size=5))


@given(st.lists(GLOBS, max_size=7).map(tuple), st.lists(st.text("ab", min_size=1, max_size=4), max_size=7).map(tuple))
def test_the_matcher_agrees_with_a_naive_one(parts: tuple[str, ...], path: tuple[str, ...]) -> None:
    assert pattern.Pattern(parts).matches(path) is matches(parts, path)


@given(st.text("ab*?", max_size=12), st.text("ab", max_size=12))
def test_one_component_agrees_with_a_naive_one(glob: str, name: str) -> None:
    assert pattern.matches_name(glob, name) is name_matches(glob, name)


def steps(parts: tuple[str, ...], path: tuple[str, ...]) -> int:
    """Lines of the matcher that run: a measure that does not depend on the machine."""
    count = 0

    def trace(frame: FrameType, event: str, _value: object) -> object:
        nonlocal count
        if frame.f_code.co_filename != pattern.__file__:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        pattern.Pattern(parts).matches(path)
    finally:
        sys.settrace(before)
    return count


HOSTILE = {
    "many double stars": lambda size: (("**", "a") * 8 + ("**", "b"), ("a",) * size),
    "runs of two": lambda size: (("**", "a", "a") * 5 + ("**", "b", "a"), ("a",) * size),
    "stars in a name": lambda size: (("*a" * 8 + "b",), ("a" * size,)),
    "stars in every name": lambda size: (("**", "*a*a*b") * 4 + ("c",), ("aaaa",) * size),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_glob_costs_in_proportion(kind: str) -> None:
    short, long = steps(*HOSTILE[kind](64)), steps(*HOSTILE[kind](256))
    assert long < 5 * short, f"four times the length took {long / short:.1f} times the steps"


def test_the_more_specific_of_two_patterns_is_heavier() -> None:
    order = ["/home/u/ws/**", "**/*", "**/*.pem", "**/.env", "sub/**/.env", "sub/.env"]
    placed = [pattern.place(text, PLACES) for text in order]
    assert sorted(placed, key=lambda each: each.weight) == placed
