"""What a plan claims to enforce: stated per rule, compared with the floor, and never more than the steps hold."""

from __future__ import annotations

from itertools import pairwise

import pytest
from facts_kit import HOST, PLAIN, SETTINGS, Files, of_preset, on_host, ordinary, policy, stratum

from houseroom.errors import CannotEnforce
from houseroom.plan.compile import compile_plan
from houseroom.plan.coverage import require
from houseroom.plan.facts import Facts, Host
from houseroom.plan.render import as_text
from houseroom.plan.steps import Covered, Plan
from houseroom.policy.model import Origin, Policy, Rule, Setting

ORIGIN = Origin("user", "user.toml", 1, 1)
FILES: Files = {**PLAIN, "/home/me/.cache": "dir", "/home/me/work/.env": "file"}
ALL = ordinary(("protect", "**/.git"), ("hide", "**/.env"), ("scratch", "~/.cache"))


def rows(what: Policy, host: Host = HOST, rung: str = "") -> dict[str, Covered]:
    return by_rule(compile_plan(*on_host(what, FILES, host), rung=rung))


def by_rule(plan: Plan) -> dict[str, Covered]:
    return {row.rule: row for row in plan.coverage}


def floor(*names: str) -> tuple[Rule, ...]:
    return tuple(Rule("floor.require", name, ORIGIN) for name in names)


def test_a_host_with_everything_enforces_everything() -> None:
    found = rows(ALL)
    assert {"files.read", "files.write", "files.protect", "files.hide", "files.scratch", "network", "processes", "sockets"} <= set(found)
    assert {row.rule: row.loses for row in found.values() if row.state != "enforced"} == {}
    assert all(row.by for row in found.values())


@pytest.mark.parametrize(
    ("lack", "rule"),
    [
        ({"overlay": "no overlay"}, "files.scratch"),
        ({"proc": "no proc"}, "processes"),
        ({"notify": "no listener"}, "files.protect"),
        ({"notify": "no listener"}, "sockets"),
        ({"landlock_abi": 0}, "files.protect"),
    ],
)
def test_what_a_host_lacks_is_told_at_the_rule_it_breaks(lack: dict[str, object], rule: str) -> None:
    assert rows(ALL)[rule].state == "enforced"  # the twin: it is the lack that takes it away
    found = rows(ALL, HOST.with_(**lack))[rule]
    assert found.state != "enforced"
    assert found.loses


def test_a_place_that_could_not_be_searched_is_told() -> None:
    placed, facts = on_host(ALL, FILES)
    assert by_rule(compile_plan(placed, facts))["files.hide"].state == "enforced"
    blind = Facts(facts.host, facts.tree.with_(incomplete=("/home/me/work/locked: Permission denied",)))
    found = by_rule(compile_plan(placed, blind))["files.hide"]
    assert (found.state, found.loses) == ("partly", ("/home/me/work/locked: Permission denied",))


def test_landlock_alone_hides_nothing_and_protects_only_missing_names() -> None:
    found = rows(ALL, rung="landlock")
    assert (found["files.hide"].state, found["files.protect"].state) == ("missing", "partly")
    assert "what exists can be written, filled and removed; only what is missing" in found["files.protect"].loses[0]


def test_lower_rungs_never_claim_more() -> None:
    order = ("missing", "partly", "enforced")
    found = [rows(ALL, rung=rung) for rung in ("namespaces", "bubblewrap", "landlock")]
    for higher, lower in pairwise(found):
        for rule in set(higher) & set(lower):
            assert order.index(lower[rule].state) <= order.index(higher[rule].state), rule


def test_what_the_policy_does_not_say_is_no_row() -> None:
    assert not {"files.hide", "files.protect", "files.scratch", "limits.time"} & set(rows(ordinary()))


def test_an_open_network_is_not_called_enforced() -> None:
    base = ordinary()
    opened = policy(base.strata[0].with_(settings={**SETTINGS, "network.reach": Setting("open", ORIGIN)}))
    assert "network" in rows(base)
    assert "network" not in rows(opened)


def test_limits_have_a_row_each() -> None:
    given = {"limits.processes": Setting(64, ORIGIN), "limits.time": Setting(60.0, ORIGIN), "limits.disk": Setting(1 << 30, ORIGIN)}
    limited = policy(stratum(("read", "/"), ("write", "{workspace}")).with_(settings={**SETTINGS, **given}))
    assert set(given) <= set(rows(limited))


MEMORY, COUNT = {"limits.memory": Setting(1 << 30, ORIGIN)}, {"limits.processes": Setting(64, ORIGIN)}
V1, V2 = ({"cgroup_memory": version, "cgroup_pids": version, "cgroup": ""} for version in ("v1", "v2"))


def of_limits(settings: dict[str, Setting], host: dict[str, object], rung: str = "", preset: str = "") -> dict[str, Covered]:
    what = of_preset(preset) if preset else ordinary()
    first, *others = what.strata
    return rows(what.with_(strata=(first.with_(settings={**first.settings, **settings}), *others)), HOST.with_(**host), rung)


@pytest.mark.parametrize("rung", ["namespaces", "bubblewrap", "landlock"])
@pytest.mark.parametrize("host", [V1, V2])
def test_a_control_group_enforces_memory_and_processes(host: dict[str, object], rung: str) -> None:
    found = of_limits({**MEMORY, **COUNT}, {**host, "uid": 0}, rung)
    assert {found[rule].state for rule in (*MEMORY, *COUNT)} == {"enforced"}
    assert all(str(host["cgroup_pids"]) in found[rule].by[0] for rule in (*MEMORY, *COUNT))


@pytest.mark.parametrize("rung", ["namespaces", "bubblewrap", "landlock"])
def test_without_a_control_group_memory_is_only_looked_after(rung: str) -> None:
    found = of_limits(MEMORY, {"cgroup": "not delegated"}, rung)["limits.memory"]
    assert found.state == "partly"
    assert "not delegated" in found.loses[0]


@pytest.mark.parametrize(("uid", "state"), [(1000, "enforced"), (0, "partly")])
def test_the_kernels_own_limit_of_processes_leaves_root_out(uid: int, state: str) -> None:
    assert of_limits(COUNT, {"uid": uid})["limits.processes"].state == state


def test_what_a_group_does_not_count_is_told() -> None:
    assert of_limits(MEMORY, V2)["limits.memory"].state == "enforced"  # the twin
    found = of_limits(MEMORY, {**V2, "cgroup_swap": "no swap accounting"})["limits.memory"]
    assert (found.state, found.loses) == ("partly", ("what is swapped out: no swap accounting",))


def test_a_policy_that_lets_a_command_leave_its_group_is_told() -> None:
    found = of_limits({**MEMORY, **COUNT}, V2, preset="full-access")
    assert {found[rule].state for rule in (*MEMORY, *COUNT)} == {"partly"}
    assert "/sys/fs/cgroup" in found["limits.memory"].loses[0]


def test_output_on_a_terminal_is_not_counted() -> None:
    output = {"limits.output": Setting(1 << 20, ORIGIN)}
    assert of_limits(output, {})["limits.output"].state == "enforced"
    assert of_limits(output, {"terminal": True})["limits.output"].loses == ("what is printed where standard output or error is a terminal",)


def test_the_floor_can_require_a_limit() -> None:
    coverage = tuple(of_limits({**MEMORY, **COUNT}, {}).values())
    for asked in ("limits.memory", "limits"):
        with pytest.raises(CannotEnforce) as caught:
            require(coverage, floor(asked), ())
        assert caught.value.missing == ("limits.memory",)
        assert require(coverage, floor(asked), ("limits.memory",))
    require(tuple(of_limits({**MEMORY, **COUNT}, V2).values()), floor("limits"), ())  # the twin


def test_the_floor_stops_a_start_and_names_what_is_missing() -> None:
    coverage = tuple(rows(ALL, rung="landlock").values())
    require(tuple(rows(ALL).values()), floor("files.hide", "files.protect", "network"), ())  # the twin: it holds with namespaces
    with pytest.raises(CannotEnforce) as caught:
        require(coverage, floor("files.hide", "files.protect", "network"), ())
    assert set(caught.value.missing) == {"files.hide", "files.protect", "sockets"}  # a socket of the host is a way to the network
    assert all(f"--accept {rule}" in str(caught.value) for rule in caught.value.missing)
    with pytest.raises(CannotEnforce) as caught:
        require(coverage, floor("files.hide", "files.protect"), ("files.hide",))
    assert caught.value.missing == ("files.protect",)
    kept = require(coverage, floor("files.hide", "files.protect"), ("files.hide", "files.protect"))
    assert {row.rule for row in kept if getattr(row, "accepted", False)} == {"files.hide", "files.protect"}
    text = as_text(Plan("landlock", (), kept))
    assert "missing, accepted" in text


@pytest.mark.parametrize("name", ["workspace", "read-only", "full-access"])
def test_the_presets_hold_their_own_floor_on_a_full_host(name: str) -> None:
    made = of_preset(name)
    assert made.floor
    require(tuple(rows(made).values()), made.floor, ())
