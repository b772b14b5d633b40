"""Generated policies and paths for the property tests, and a naive reference of the matcher."""

from __future__ import annotations

from functools import cache

from hypothesis import strategies as st

from houseroom.policy.model import ACCESSES, EXCEPT, Origin, Places, Rule, Stratum

PLACES = Places(workspace="/home/u/ws", home="/home/u", tmp="/tmp", user=1000)
NAMES = st.sampled_from(["a", "b", "ab", ".git", ".env", "x.pem"])
PATHS = st.one_of(
    st.lists(NAMES, max_size=4).map(lambda parts: "/home/u/ws/" + "/".join(parts)),
    st.lists(NAMES, max_size=4).map(lambda parts: "/home/u/" + "/".join(parts)),
    st.lists(NAMES, max_size=4).map(lambda parts: "/" + "/".join(parts)),
)
PARTS = st.one_of(NAMES, st.sampled_from(["**", "*", "a*", "?", "*.pem", "*b"]))
SUBJECTS = st.builds(
    lambda root, parts: root + "/".join(parts) or "a",
    st.sampled_from(["", "/", "~/", "{workspace}/", "/home/u/ws/"]),
    st.lists(PARTS, max_size=4),
)
FILE_KEYS = [f"files.{access}" for access in (*ACCESSES, EXCEPT)]


def rules(layers: list[str], keys: list[str] = FILE_KEYS) -> st.SearchStrategy[list[Rule]]:
    rule = st.builds(
        lambda key, subject, layer, line: Rule(key, subject, Origin(layer, f"{layer}.toml", line, 1)),
        st.sampled_from(keys),
        SUBJECTS,
        st.sampled_from(layers),
        st.integers(1, 99),
    )
    return st.lists(rule, max_size=8)


@st.composite
def strata(draw: st.DrawFn, layers: tuple[str, ...] = ("preset", "user", "session")) -> Stratum:
    written = tuple(draw(rules(list(layers))))
    closed = frozenset(rule.key for rule in written) | frozenset(draw(st.lists(st.sampled_from(FILE_KEYS), max_size=3)))
    return Stratum("generated", written, {}, closed)


def matches(parts: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """What a pattern means, written so that nobody can doubt it."""

    @cache
    def below(at: int, on: int) -> bool:
        if at == len(parts):
            return on == len(path)
        if parts[at] == "**":
            return below(at + 1, on) or (on < len(path) and below(at, on + 1))
        return on < len(path) and name_matches(parts[at], path[on]) and below(at + 1, on + 1)

    return below(0, 0)


def name_matches(glob: str, name: str) -> bool:
    @cache
    def below(at: int, on: int) -> bool:
        if at == len(glob):
            return on == len(name)
        if glob[at] == "*":
            return below(at + 1, on) or (on < len(name) and below(at, on + 1))
        return on < len(name) and glob[at] in ("?", name[on]) and below(at + 1, on + 1)

    return below(0, 0)
