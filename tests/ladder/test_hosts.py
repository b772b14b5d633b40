"""The ladder as a function of the host's facts: every Landlock ABI, WSL, and what each rung claims. Nothing is started."""

from __future__ import annotations

import pytest

from houseroom.errors import CannotEnforce
from houseroom.plan.compile import choose_rung, compile_plan, why_not_higher
from houseroom.plan.coverage import require
from houseroom.plan.facts import DIRECTORY, Entry, Facts, Host, Tree
from houseroom.plan.steps import Landlock, Mask, Mediate, Namespaces, Plan, Proc, Seccomp, Watch
from houseroom.policy.decide import PlacedPolicy
from houseroom.policy.model import Origin, Places, Policy, Rule, Setting, Stratum

PLACES = Places("/work", "/home/me", "/tmp", 1000)
ORIGIN = Origin("user", "policy.toml", 1, 1)
PATHS = (("read", "/"), ("write", "/work"), ("private", "/tmp"), ("protect", "**/.git"), ("hide", "**/.env"))
HOST = Host("6.18.0", "x86_64", 1000, 1000, landlock_abi=7, bubblewrap="/usr/bin/bwrap")
CLOSED = frozenset({"files.read", "files.write"})
ALL = ("files.write", "files.protect", "files.hide", "network", "processes")


def plan(rung: str = "", paths: tuple[tuple[str, str], ...] = PATHS, **facts: object) -> Plan:
    rules = tuple(Rule(f"files.{leaf}", subject, ORIGIN) for leaf, subject in paths)
    placed = PlacedPolicy(Policy("test", (Stratum("user", rules, {"network.reach": Setting("none", ORIGIN)}, CLOSED),)), PLACES)
    found = {path: Entry(path, DIRECTORY, path) for path in ("/", "/work", "/tmp", "/home/me", "/run")}
    return compile_plan(placed, Facts(HOST.with_(**facts), Tree(found)), rung=rung)


def short(made: Plan) -> set[str]:
    return {row.rule for row in made.coverage if row.state != "enforced"}


def step(made: Plan, kind: type) -> object:
    return next((step for step in made.steps if isinstance(step, kind)), None)


@pytest.mark.parametrize("abi", range(1, 8))
def test_with_namespaces_every_abi_enforces_the_whole_floor(abi: int) -> None:
    """Mounts and namespaces hold what an old Landlock does not know; creating names is governed since the first."""
    made = plan(landlock_abi=abi)
    assert made.rung == "namespaces"
    assert short(made) == set()


def test_without_landlock_names_can_be_won_by_a_race() -> None:
    made = plan(landlock_abi=0)
    assert made.rung == "namespaces"
    assert step(made, Landlock) is None
    assert short(made) == {"files.protect"}


@pytest.mark.parametrize(
    ("abi", "rule", "lost"),
    [
        (2, "files.write", "truncate"),
        (4, "files.write", "ioctl"),
        (5, "processes", "signals"),
    ],
)
def test_without_namespaces_an_old_landlock_loses_more(abi: int, rule: str, lost: str) -> None:
    made = [plan("landlock", landlock_abi=number, namespaces="no") for number in (abi, abi + 1)]
    old, newer = ({row.rule: " ".join(row.loses) for row in each.coverage} for each in made)
    assert lost in old[rule]
    assert lost not in newer[rule]


def test_without_namespaces_nothing_of_the_host_is_granted_but_the_workspace() -> None:
    made = plan(namespaces="no", bubblewrap="")
    assert made.rung == "landlock"
    rules = dict(step(made, Landlock).rules)  # type: ignore[attr-defined]
    assert {path for path, rights in rules.items() if "remove_file" in rights} == {"/work"}
    assert {path for path, rights in rules.items() if "write_file" in rights and not path.startswith("/dev/")} == {"/work"}
    assert "/dev" not in rules
    assert [made.program for made in made.steps if isinstance(made, Seccomp)] == ["command", "init"]
    assert {made.network for made in made.steps if isinstance(made, Seccomp)} == {"refused"}
    assert step(made, Mediate) is not None
    assert step(made, Watch) is None


def test_what_is_readable_only_in_part_stays_so_without_namespaces() -> None:
    made = plan(paths=(("read", "/usr"), ("write", "/work")), namespaces="no", bubblewrap="")
    rules = dict(step(made, Landlock).rules)  # type: ignore[attr-defined]
    assert "/" not in rules


def test_a_masked_proc_keeps_the_outer_process_ids() -> None:
    made = plan(proc="Operation not permitted")
    assert step(made, Namespaces).pid is False  # type: ignore[attr-defined]
    assert step(made, Proc).fresh is False  # type: ignore[attr-defined]
    assert short(made) == {"processes"}


def test_each_rung_gives_way_to_the_next() -> None:
    assert choose_rung(HOST) == "namespaces"
    assert choose_rung(HOST.with_(mounts="no")) == "bubblewrap"
    assert choose_rung(HOST.with_(mounts="no", bubblewrap="")) == "landlock"
    with pytest.raises(CannotEnforce, match=r"namespaces: user namespaces: not here.*bubblewrap.*Landlock"):
        choose_rung(HOST.with_(namespaces="not here", bubblewrap="", landlock_abi=0))
    assert "not here" in why_not_higher(HOST.with_(namespaces="not here"), "bubblewrap")
    assert why_not_higher(HOST, "landlock") == ""


@pytest.mark.parametrize("wanted", ["", "namespaces", "landlock"])
def test_without_filters_no_rung_holds(wanted: str) -> None:
    with pytest.raises(CannotEnforce, match="system call filters: gone"):
        choose_rung(HOST.with_(seccomp="gone"), wanted)


@pytest.mark.parametrize("wanted", ["", "namespaces", "bubblewrap", "landlock"])
def test_wsl_1_is_refused_on_every_rung(wanted: str) -> None:
    with pytest.raises(CannotEnforce, match="WSL 1") as refused:
        choose_rung(HOST.with_(wsl=1), wanted)
    assert "Use WSL 2" in refused.value.hint


def test_on_wsl_2_the_sockets_that_start_windows_programs_are_out_of_reach() -> None:
    masks = [made.path for made in plan(wsl=2).steps if isinstance(made, Mask)]
    assert "/run/WSL" in masks
    private = plan(paths=(*PATHS, ("private", "/run")), wsl=2)
    assert "/run/WSL" not in [made.path for made in private.steps if isinstance(made, Mask)], "a private /run has none"


def test_an_accepted_rule_is_marked_in_the_plan_and_no_other() -> None:
    made = plan(namespaces="no")
    floor = tuple(Rule("floor.require", name, ORIGIN) for name in ALL)
    rows = require(made.coverage, floor, tuple(short(made)))
    assert {row.rule for row in rows if getattr(row, "accepted", False)} == short(made) & {*ALL, "sockets"}
    assert [(row.rule, row.state, row.by, row.loses) for row in rows] == [(r.rule, r.state, r.by, r.loses) for r in made.coverage]


@pytest.mark.parametrize("subject", ["files", "network", "network.reach", "git"])
def test_a_floor_may_name_a_section(subject: str) -> None:
    made = plan("landlock", namespaces="no", notify="gone")
    with pytest.raises(CannotEnforce):
        require(made.coverage, (Rule("floor.require", subject, ORIGIN),), ())
