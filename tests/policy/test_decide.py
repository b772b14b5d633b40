from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_strategies import PATHS, PLACES, matches, name_matches, strata

from houseroom.policy import pattern
from houseroom.policy.decide import Allow, Deny, PlacedPolicy, PlacedStratum, Read, Run, Variable, Write, decide
from houseroom.policy.model import EXCEPT, LAYERS, PRECEDENCE, RANK, Origin, Policy, Rule, Stratum


def stratum(lists: dict[str, list[str]], layer: str = "preset", name: str = "test") -> Stratum:
    origin = Origin(layer, f"{layer}.toml", 1, 1)
    rules = tuple(Rule(key, subject, origin) for key, subjects in lists.items() for subject in subjects)
    return Stratum(name, rules, {}, frozenset(lists))


def placed(*voices: Stratum) -> PlacedPolicy:
    return PlacedPolicy(Policy("test", voices), PLACES)


def can(policy: PlacedPolicy, path: str) -> str:
    """``rw``, ``r``, ``w`` or nothing: what may be done at a path."""
    read, write = (isinstance(decide(policy, act(path)), Allow) for act in (Read, Write))
    return "r" * read + "w" * write


WORKSPACE = stratum({
    "files.read": ["/"],
    "files.write": ["{workspace}"],
    "files.protect": ["**/.git"],
    "files.hide": ["~/.ssh", "**/.env"],
    "files.private": ["/tmp"],
    "files.scratch": ["~/.cache"],
})  # fmt: skip


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/etc/passwd", "r"),
        ("/home/u/ws", "rw"),
        ("/home/u/ws/a/b", "rw"),
        ("/home/u/wsx", "r"),
        ("/home/u/ws/.git/config", "r"),
        ("/home/u/ws/sub/.git", "r"),
        ("/home/u/ws/.gitx", "rw"),
        ("/home/u/ws/.env", ""),
        ("/home/u/ws/a/.env/b", ""),
        ("/home/u/.ssh/id", ""),
        ("/home/u/.sshx", "r"),
        ("/tmp/x", "rw"),
        ("/home/u/.cache/x", "rw"),
        ("/", "r"),
    ],
)
def test_one_complete_voice(path: str, expected: str) -> None:
    assert can(placed(WORKSPACE), path) == expected


def test_nothing_said_means_nothing_granted() -> None:
    assert can(placed(stratum({"files.read": [], "files.write": []})), "/etc/passwd") == ""


def test_on_one_path_and_in_one_layer_the_narrower_word_wins() -> None:
    voice = stratum({"files.read": ["/", "~/x"], "files.write": ["~/x"], "files.protect": ["~/x"], "files.hide": ["~/x"]})
    assert can(placed(voice), "/home/u/x") == ""


def test_on_one_path_the_later_layer_wins_within_a_voice() -> None:
    later = stratum({"files.read": ["~/.ssh"]}, "session")
    joined = WORKSPACE.with_(rules=WORKSPACE.rules + later.rules)
    assert can(placed(joined), "/home/u/.ssh/id") == "r"


def test_the_more_specific_path_wins_whatever_its_layer() -> None:
    later = stratum({"files.write": ["~"]}, "session")
    joined = WORKSPACE.with_(rules=WORKSPACE.rules + later.rules)
    assert [can(placed(joined), path) for path in ("/home/u/x", "/home/u/.ssh/id")] == ["rw", ""]


# What a voice means that speaks about some lists only: it restricts what it speaks about and nothing else.
PARTIAL = {
    "only writing: elsewhere reading stays": ({"files.write": ["src"]}, {"src/a": "rw", "docs": "r", "/etc/x": "r"}),
    "no writing at all": ({"files.write": []}, {"src": "r", "/etc": "r"}),
    "only reading: what it names may be written": ({"files.read": ["src"]}, {"src/a": "rw", "docs": "", "/etc": ""}),
    "no reading at all": ({"files.read": []}, {"src": "", "/etc": ""}),
    "reading and writing": ({"files.read": ["."], "files.write": ["src"]}, {"src": "rw", "docs": "r", "/etc": ""}),
    "only hiding": ({"files.hide": ["/secret"]}, {"/secret/x": "", "src": "rw", "/etc": "rw"}),
    "only protecting": ({"files.protect": ["**/.git"]}, {".git/x": "r", "src": "rw", "/etc": "rw"}),
    "a hole for reading in what is hidden": (
        {"files.hide": ["/s"], "files.read": ["/", "/s/pub"]},
        {"/s/key": "", "/s/pub": "r", "src": "rw"},
    ),
    "a hole for writing in what is hidden": (
        {"files.hide": ["/s"], "files.write": ["/s/log"]},
        {"/s/key": "", "/s/log": "rw", "/etc": "r"},
    ),
    "reading below what is protected": ({"files.protect": ["/p"], "files.read": ["/", "/p/q"]}, {"/p/q": "r", "/p": "r", "/etc": "rw"}),
    "reading below scratch": ({"files.scratch": ["/c"], "files.read": ["/", "/c/q"]}, {"/c/q": "rw", "/c": "rw"}),
    "only scratch": ({"files.scratch": ["/c"]}, {"/c": "rw", "/etc": "rw"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", PARTIAL)
def test_a_partial_voice_restricts_what_it_speaks_about(kind: str) -> None:
    lists, expected = PARTIAL[kind]
    everything = stratum({"files.read": ["/"], "files.write": ["/"]})
    narrowed = placed(everything, stratum(lists, "project"))
    paths = {path: path if path.startswith("/") else f"/home/u/ws/{path}" for path in expected}
    assert {path: can(placed(everything), full) for path, full in paths.items()} == dict.fromkeys(expected, "rw")
    assert {path: can(narrowed, full) for path, full in paths.items()} == expected


def test_scratch_stays_scratch_below_a_reading_rule_of_a_partial_voice() -> None:
    everything = stratum({"files.read": ["/"], "files.write": ["/"]})
    narrowed = placed(everything, stratum({"files.scratch": ["/c"], "files.read": ["/", "/c/q"]}, "project"))
    decision = decide(narrowed, Write("/c/q/x"))
    assert isinstance(decision, Allow)
    assert decision.access == "scratch"


@given(strata(), strata(("project",)), PATHS)
def test_two_voices_together_are_never_wider_than_either(one: Stratum, other: Stratum, path: str) -> None:
    parts = pattern.components(path)
    both = RANK[placed(one, other).access(parts)[0]]
    assert both == min(RANK[placed(one).access(parts)[0]], RANK[placed(other).access(parts)[0]])
    for act in (Read, Run):
        if isinstance(decide(placed(one, other), act(path)), Allow):
            assert isinstance(decide(placed(one), act(path)), Allow)
            assert isinstance(decide(placed(other), act(path)), Allow)
    together = decide(placed(one, other), Write(path))
    if isinstance(together, Allow) and together.access in ("write", "scratch"):  # what touches or shows the host's own
        assert isinstance(decide(placed(one), Write(path)), Allow)
        assert isinstance(decide(placed(other), Write(path)), Allow)


@given(strata(("project",)), PATHS)
def test_a_voice_without_opinion_on_writing_takes_no_reader_the_right_to_write(voice: Stratum, path: str) -> None:
    """Reading rules of a voice that says nothing on writing change nothing for who may read there."""
    rules = tuple(rule for rule in voice.rules if rule.key in ("files.read", "files.hide"))
    silent = voice.with_(rules=rules, closed=voice.closed - {"files.write"})
    without = silent.with_(rules=tuple(rule for rule in rules if rule.key == "files.hide"), closed=frozenset())
    if "r" in can(placed(silent), path):
        hidden = "w" not in can(placed(without), path)
        assert can(placed(silent), path) == ("r" if hidden else "rw")


def governs(voice: Stratum, path: tuple[str, ...]) -> str | None:
    """The access of the rule that governs a path, written so that nobody can doubt it."""
    for depth in range(len(path), -1, -1):
        fitting = [(pattern.place(rule.subject, PLACES), rule) for rule in voice.rules]
        fitting = [(where, rule) for where, rule in fitting if matches(where.parts, path[:depth])]
        if fitting:
            _, rule = max(fitting, key=lambda each: (each[0].weight, LAYERS.index(each[1].origin.layer), PRECEDENCE[each[1].access]))
            if rule.access != EXCEPT:
                return rule.access
    return None


@given(strata(), PATHS)
def test_the_governing_rule_agrees_with_a_naive_search(voice: Stratum, path: str) -> None:
    parts = pattern.components(path)
    found = PlacedStratum(voice, PLACES).governing(parts)
    assert (found.access if found else None) == governs(voice, parts)


VARIABLE_GLOBS = st.lists(st.one_of(st.just("A_B"), st.text("aB_*?", min_size=1, max_size=5)), max_size=6)


@given(VARIABLE_GLOBS, VARIABLE_GLOBS, st.text("AbB_", min_size=1, max_size=5))
def test_variables_agree_with_a_naive_search(passed: list[str], withheld: list[str], name: str) -> None:
    def best(globs: list[str]) -> tuple[bool, int] | None:
        fitting = [glob for glob in globs if name_matches(glob.upper(), name.upper())]
        return max(((not pattern.is_glob(glob), len(glob) - glob.count("*")) for glob in fitting), default=None)

    grant, held = best(passed), best(withheld)
    expected = held is None or (grant is not None and grant > held)
    assert sees(placed(names({"pass": passed, "withhold": withheld})), name) is expected


def names(lists: dict[str, list[str]], layer: str = "preset") -> Stratum:
    return stratum({f"environment.{key}": subjects for key, subjects in lists.items()}, layer)


def sees(policy: PlacedPolicy, name: str) -> bool:
    return isinstance(decide(policy, Variable(name)), Allow)


SECRETS = names({"withhold": ["*_TOKEN", "*SECRET*"], "pass": ["CI_TOKEN"]})


@pytest.mark.parametrize(
    ("name", "expected"), [("PATH", True), ("HF_TOKEN", False), ("hf_token", False), ("CI_TOKEN", True), ("MY_SECRET_X", False)]
)
def test_variables(name: str, expected: bool) -> None:
    assert sees(placed(SECRETS), name) is expected


@pytest.mark.parametrize(
    ("later", "name", "expected"),
    [
        ({"pass": ["HF_TOKEN"]}, "HF_TOKEN", True),
        ({"pass": ["*"]}, "HF_TOKEN", True),
        ({"withhold": ["CI_TOKEN"]}, "CI_TOKEN", False),
        ({"withhold": ["CI_*"]}, "CI_TOKEN", False),
        ({"withhold": ["*"], "pass": ["PATH"]}, "PATH", True),
        ({"withhold": ["*"], "pass": ["PATH"]}, "CI_TOKEN", False),
        ({"withhold": ["A"], "pass": ["A"]}, "A", False),
    ],
)
def test_a_later_layer_decides_over_variables_and_the_more_specific_within_one(
    later: dict[str, list[str]], name: str, expected: bool
) -> None:
    joined = SECRETS.with_(rules=SECRETS.rules + names(later, "user").rules)
    assert sees(placed(joined), name) is expected


def test_another_voice_can_only_withhold_variables() -> None:
    assert not sees(placed(SECRETS, names({"pass": ["*"]}, "project")), "HF_TOKEN")
    assert not sees(placed(SECRETS, names({"withhold": ["CI_*"]}, "project")), "CI_TOKEN")


def test_a_denial_explains_itself() -> None:
    decision = decide(placed(WORKSPACE), Write("/home/u/.ssh/id"))
    assert isinstance(decision, Deny)
    assert decision.why.rule is not None
    assert str(decision.why.rule) == "files.hide ~/.ssh"
    assert decision.why.grant == ("houseroom", "run", "--write", "/home/u/.ssh/id")


def test_a_denial_of_another_voice_offers_no_grant_that_would_not_help() -> None:
    narrowed = placed(stratum({"files.read": ["/"], "files.write": ["/"]}), stratum({"files.hide": ["/s"]}, "organisation"))
    decision = decide(narrowed, Read("/s/x"))
    assert isinstance(decision, Deny)
    assert decision.why.grant == ()
