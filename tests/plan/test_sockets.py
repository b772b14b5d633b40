"""Sockets of the host in a plan: what is kept of each, and what stops the start."""

from __future__ import annotations

import pytest
from facts_kit import HOST, PLAIN, Files, on_host, ordinary, stratum, with_rules

from houseroom.errors import CannotEnforce, PolicyError
from houseroom.plan import steps
from houseroom.plan.compile import compile_plan
from houseroom.plan.coverage import require
from houseroom.policy.model import Origin, Policy, Rule, Stratum

KEY = "network.sockets"
FILES: Files = {
    **PLAIN,
    **dict.fromkeys(("/run", "/run/pg", "/srv", "/home/me/work/d", "/home/me/work/d/kept", "/home/me/.db"), "dir"),
    **dict.fromkeys(("/run/pg/s", "/run/s", "/srv/s", "/home/me/work/s", "/home/me/work/d/kept/s", "/home/me/.db/s", "/dev/s"), "socket"),
    "/srv/docker.sock": "socket",
    "/srv/file": "file",
}


def plan(*paths: str, more: tuple[tuple[str, str], ...] = (), others: tuple[Stratum, ...] = (), rung: str = "") -> steps.Plan:
    base = with_rules(ordinary(("private", "/run"), *more), KEY, *paths)
    return compile_plan(*on_host(base.with_(strata=(*base.strata, *others)), FILES, HOST), rung=rung)


def kept(*paths: str, **how: object) -> dict[str, str]:
    return {step.path: step.kept for step in plan(*paths, **how).steps if isinstance(step, steps.Socket)}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "real", "directory"),
    [
        ("/run/pg/s", "/run/pg/s", "/run"),  # its server may begin again, and make its directory anew
        ("/run/s", "/run/s", "/run"),
        ("/srv/s", "/srv/s", "/srv"),
        ("~/.db/s", "/home/me/.db/s", "/home/me"),
        ("s", "/home/me/work/s", "/home/me/work/s"),  # what a command could replace is that one alone
        ("d/kept/s", "/home/me/work/d/kept/s", "/home/me/work/d/kept/s"),
    ],
)
def test_what_is_kept(path: str, real: str, directory: str) -> None:
    assert kept(path) == {real: directory}


def test_below_a_directory_that_commands_may_write_only_its_own_is_kept() -> None:
    """They could move another one into the place of what is above it."""
    assert kept("d/kept/s", more=(("read", "d/kept"),)) == {"/home/me/work/d/kept/s": "/home/me/work/d/kept"}


def test_it_shows_in_private_and_hidden_directories_and_stays_in_writable_ones() -> None:
    made = plan("/run/pg/s", "~/.db/s", "s", "/srv/s", more=(("hide", "~/.db"),))
    binds = {step.path: (step.write, step.covered) for step in made.steps if isinstance(step, steps.Bind)}
    assert binds.pop("/home/me/work") == (True, False)
    assert binds == {"/run/pg/s": (False, True), "/home/me/.db/s": (False, True), "/home/me/work/s": (False, False)}
    assert [step.hollow for step in made.steps if isinstance(step, steps.Mask)] == [True]


@pytest.mark.parametrize(
    ("path", "more", "words"),
    [
        ("/run/no", (), "does not exist"),
        ("/srv/file", (), "is no socket"),
        ("/srv", (), "is no socket"),
        ("/srv/*", (), "more than one"),
        ("**/s", (), "more than one"),
        ("/dev/s", (), "/dev is the sandbox's own"),
        ("/srv/s", (("hide", "/srv/s"),), "files.hide /srv/s"),
        ("s", (("write", "s"),), "files.write s"),
    ],
)
def test_what_can_not_be_let_through_stops_the_start(path: str, more: tuple[tuple[str, str], ...], words: str) -> None:
    with pytest.raises(PolicyError, match=r"^user\.toml:1:1: ") as caught:
        plan(path, more=more)
    assert words in caught.value.message


@pytest.mark.parametrize("rung", ["bubblewrap", "landlock"])
def test_below_namespaces_it_is_refused_by_name(rung: str) -> None:
    with pytest.raises(CannotEnforce) as caught:
        plan("/srv/s", rung=rung)
    assert caught.value.missing == (KEY,)
    assert kept(rung=rung) == {}


def voice(*paths: str, closed: bool = False) -> Stratum:
    rules = tuple(Rule(KEY, path, Origin("project", "project.toml", 2, 1)) for path in paths)
    return Stratum("project", rules, {}, frozenset({KEY}) if paths or closed else frozenset())


def test_another_voice_only_narrows() -> None:
    assert kept(others=(voice("/srv/s"),)) == {}
    assert set(kept("/srv/s", "/run/s", others=(voice("/srv/s", "~/.db/s"),))) == {"/srv/s"}
    assert kept("/srv/s", others=(voice(closed=True),)) == {}
    assert set(kept("/srv/s", others=(voice(),))) == {"/srv/s"}
    assert set(kept("~/.db/s", others=(voice("/home/me/.db/./s"),))) == {"/home/me/.db/s"}  # places are compared, not spellings


def test_what_another_voice_hides_is_not_let_through() -> None:
    hides = stratum(("hide", "/srv"), layer="organisation", closed=frozenset())
    with pytest.raises(PolicyError, match=r"files\.hide /srv"):
        plan("/srv/s", others=(hides,))


def test_a_door_round_the_policy_falls_short_of_the_floor() -> None:
    floor = (Rule("floor.require", "network", Origin("preset", "built in")),)
    assert require(plan("/srv/s").coverage, floor, ())
    with pytest.raises(CannotEnforce, match=r"/srv/docker\.sock is let through: Docker") as caught:
        require(plan("/srv/docker.sock").coverage, floor, ())
    assert caught.value.missing == ("sockets",)
    assert require(plan("/srv/docker.sock").coverage, floor, ("sockets",))


def test_a_policy_without_them_asks_nothing_and_keeps_nothing() -> None:
    placed, _facts = on_host(Policy("p", ordinary().strata), FILES)
    assert kept() == {}
    assert not any(parts[:1] == ("run",) for parts in placed.literals())
