"""What is proposed: the smallest lines, and never what a person has to think about first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from houseroom.policy.decide import FILE_KEYS, PlacedPolicy
from houseroom.policy.denials import Ground, explain, is_broad
from houseroom.policy.model import Places, Policy
from houseroom.policy.observation import KINDS, Observation, Observed
from houseroom.policy.parse import check_path, parse
from houseroom.policy.pattern import components, join, place
from houseroom.policy.presets import preset
from houseroom.policy.propose import Proposal, propose
from houseroom.policy.toml_edit import add

HOME, WORK = "/home/me", "/home/me/work"
PLACES = Places(WORK, HOME)
PLACED = PlacedPolicy(Policy("workspace", (preset("workspace"),)), PLACES)
EROFS, EACCES, ENETUNREACH = 30, 13, 101


def ground(seen: list[Observation], *missing: str) -> Ground:
    """A host on which every directory of the observed paths exists, but some."""
    above = {join(components(one.path)[:depth]) for one in seen for depth in range(len(components(one.path)))}
    return Ground(frozenset(above - set(missing)))


def proposal(*seen: Observation, run_by_host: tuple[str, ...] = (), project: bool = False, missing: tuple[str, ...] = ()) -> Proposal:
    observed, facts = Observed(seen), ground(list(seen), *missing)
    return propose(PLACED, observed, explain(PLACED, observed, facts), facts, run_by_host=run_by_host, project=project)


def refused(path: str, kind: str = "create", errno: int = EROFS, program: str = "make") -> Observation:
    return Observation(kind, path, errno, program=program)


def test_what_was_refused_becomes_the_fewest_and_narrowest_lines() -> None:
    made = proposal(refused(f"{HOME}/lib/out/a"), refused(f"{HOME}/lib/out/b"), refused(f"{HOME}/.config/tool/x"), refused("/var/lib/db/t"))
    assert [(line.key, line.subject, line.said) for line in made.lines] == [
        ("files.write", "~/.config/tool", "learned: 1 file, by make"),
        ("files.write", "~/lib/out", "learned: 2 files, by make"),
        ("files.write", "/var/lib/db", "learned: 1 file, by make"),
    ]


def test_a_line_that_another_one_covers_is_left_out() -> None:
    made = proposal(refused(f"{HOME}/lib/a"), refused(f"{HOME}/lib/b"), refused(f"{HOME}/lib/out/deep/c", kind="remove"))
    assert [line.subject for line in made.lines] == ["~/lib"]


def test_in_the_projects_file_its_own_paths_are_relative() -> None:
    hidden = Observation("read", f"{WORK}/x", EACCES)
    assert proposal(hidden, project=True).lines == ()
    read_only = PlacedPolicy(Policy("read-only", (preset("read-only"),)), PLACES)
    seen = Observed((refused(f"{WORK}/build/a"),))
    facts = ground(list(seen.seen))
    assert propose(read_only, seen, explain(read_only, seen, facts), facts, project=True).lines[0].subject == "build"
    assert propose(read_only, seen, explain(read_only, seen, facts), facts, project=False).lines[0].subject == "~/work/build"


@pytest.mark.parametrize(
    "seen",
    [
        refused(f"{HOME}/.ssh/id", "read", EACCES),
        refused(f"{HOME}/.ssh/id", "write"),
        refused(f"{HOME}/.bashrc", "write"),
        refused(f"{HOME}/.local/bin/tool"),
        refused(f"{WORK}/.git/config", "write"),
        refused(f"{WORK}/.claude/settings.json"),
        refused(f"{WORK}/.env", "read", EACCES),
        refused("192.0.2.1:443", "connect", ENETUNREACH),
    ],
    ids=lambda seen: f"{seen.kind} {seen.path}",
)
def test_what_is_refused_on_purpose_is_never_proposed(seen: Observation) -> None:
    made = proposal(seen)
    assert (made.lines, made.missing) == ((), ())
    assert len(made.kept) == 1


def test_what_the_host_runs_by_name_is_never_proposed() -> None:
    for path in ("/usr/local/lib/tool/bin/x", "/usr/local/lib/tool/bin", "/usr/local/lib/tool/y"):
        made = proposal(refused(path), refused("/usr/local/lib/tool/z"), run_by_host=("/usr/local/lib/tool/bin",))
        assert made.lines == (), path
        assert made.kept


@pytest.mark.parametrize("path", ["/etc/new", f"{HOME}/new", "/usr/lib/new", "/home/you"])
def test_what_belongs_to_many_is_never_proposed(path: str) -> None:
    assert proposal(refused(path)).lines == ()


def test_what_does_not_exist_is_told_apart() -> None:
    made = proposal(refused(f"{HOME}/.tool"))
    assert made.lines == ()
    assert [line.subject for line in made.missing] == ["~/.tool"]


@pytest.mark.parametrize("name", ["a*", "b?", "{home}", "c\n]", "\x1b[2J", "d ", "e\udcff"])
def test_a_path_that_would_mean_something_else_is_never_proposed(name: str) -> None:
    made = proposal(refused(f"{HOME}/lib/{name}/x"), refused(f"{HOME}/lib/{name}/y"))
    assert (made.lines, made.missing) == ((), ())
    assert made.beyond


def test_what_was_not_used_is_told() -> None:
    assert [rule.subject for rule in proposal().unused] == ["{workspace}"]
    assert proposal(Observation("create", f"{WORK}/src")).unused == ()
    assert proposal(Observation("write", f"{HOME}/.cache/pip")).dropped == ("~/.cache",)
    made = proposal(
        Observation("read", "/usr/lib/x"),
        Observation("execute", "/usr/bin/make"),
        Observation("read", f"{WORK}/src"),
        Observation("read", f"{HOME}/.config/git"),
        Observation("read", f"{HOME}/.pyenv/a"),
        Observation("read", f"{HOME}/.pyenv/b"),
    )
    assert made.read == ("/usr", "~/.config/git", "~/.pyenv")


NAMES = st.sampled_from([".ssh", ".config", "a", "b*", "{c", ".git", ".env", "etc", "bin", "home", "me", "work", "lib"]) | st.text(
    st.characters(exclude_characters="/\0"), min_size=1, max_size=6
)
PATHS = st.tuples(st.sampled_from(["", HOME, WORK, "/usr"]), st.lists(NAMES, min_size=1, max_size=4)).map(
    lambda pair: join((*components(pair[0]), *components("/".join(pair[1]))))
)


@given(st.lists(st.tuples(st.sampled_from(KINDS), PATHS, st.text(max_size=30)), max_size=10))
def test_whatever_was_tried_the_proposal_is_a_policy_that_grants_what_it_says_and_no_secret(raw: list[tuple[str, str, str]]) -> None:
    seen = [Observation(kind, path, EROFS, program=program) for kind, path, program in raw if ".." not in components(path)]
    made = proposal(*seen)
    for line in made.lines:
        check_path(line.subject)
        assert place(line.subject, PLACES).parts == components(line.path), "it names exactly this path"
        assert not is_broad(line.path, HOME)
        access, rule = PLACED.access(components(line.path))
        assert rule is None or rule.key == "files.read", "nothing that another rule speaks about"
        assert access == "read"
        assert line.said.isprintable()
    if made.lines:
        text = add("[files]\n# mine\n", "files", "write", [(line.subject, line.said) for line in made.lines])
        document = parse(text, layer="user", file="policy.toml")
        assert [rule.subject for rule in document.rules] == [line.subject for line in made.lines]
        assert {rule.key for rule in document.rules} <= FILE_KEYS
        assert (document.settings, document.extends) == ({}, None)
