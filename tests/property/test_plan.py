"""Properties of every plan, over random facts and policies. Nothing here touches the host."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "plan"))

from facts_kit import CLOSED, HOST, Files, on_host, policy, stratum  # found through the line above

from houseroom.errors import CannotEnforce, PolicyError
from houseroom.plan import steps
from houseroom.plan.compile import RUNGS, compile_plan, find_marks
from houseroom.plan.facts import LINK, Facts, Host
from houseroom.plan.render import as_text
from houseroom.policy.decide import PlacedPolicy
from houseroom.policy.model import HIDE, WRITE, Policy
from houseroom.policy.pattern import components, join

NAMES = ("a", "b", ".git", ".env")
PLACES = ("/", "/home/me", "/home/me/work", "/srv", "/tmp")
LEAVES = ("read", "write", "hide", "protect", "private", "scratch")

paths = st.tuples(st.sampled_from(PLACES[1:]), st.lists(st.sampled_from(NAMES), max_size=3)).map(
    lambda drawn: "/".join((drawn[0], *drawn[1]))
)
globs = st.sampled_from(("**/.git", "**/.env", "~/*/a", "*", "a/*", "**/a/b", "/srv/**/b", "~/**/.env"))
hosts = st.builds(
    HOST.with_,
    landlock_abi=st.integers(0, 7),
    **{
        name: st.sampled_from(("", "", "Operation not permitted"))
        for name in ("namespaces", "mounts", "proc", "overlay", "notify", "sock_diag")
    },
    bubblewrap=st.sampled_from(("", "/usr/bin/bwrap")),
)
rules = st.lists(st.tuples(st.sampled_from(LEAVES), st.one_of(paths, paths, globs)), max_size=7)


@st.composite
def files(draw: st.DrawFn) -> Files:
    out: Files = dict.fromkeys((*PLACES, "/home"), "dir")
    for path in draw(st.lists(paths, max_size=12)):
        parts = components(path)
        for depth in range(1, len(parts)):
            if out.setdefault(join(parts[:depth]), "dir") != "dir":
                break
        else:
            out.setdefault(path, draw(st.sampled_from(("file", "dir", "dir", f"-> {draw(st.sampled_from(sorted(out)))}"))))
    return out


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    start = draw(
        st.sampled_from(((("read", "/"), ("write", "{workspace}"), ("private", "/tmp")), (("read", "/srv"), ("write", "{workspace}"))))
    )
    strata = [stratum(*start, *draw(rules))]
    for layer in ("organisation", "project"):
        if draw(st.booleans()):
            closed = draw(st.sampled_from((frozenset[str](), frozenset({"files.write"}), CLOSED)))
            strata.append(stratum(*draw(rules), layer=layer, closed=closed))
    return policy(*strata)


def planned(what: Policy, tree: Files, host: Host, rung: str) -> tuple[PlacedPolicy, Facts, steps.Plan] | None:
    """A plan, or None where it was refused in one of the two ways that are allowed."""
    placed, facts = on_host(what, tree, host)
    try:
        return placed, facts, compile_plan(placed, facts, rung=rung)
    except (PolicyError, CannotEnforce):
        return None


MOUNTS = steps.Bind | steps.Mask | steps.Private | steps.Scratch
HIDING = (steps.Mask, steps.Private, steps.Scratch)
anything = given(what=policies(), tree=files(), host=hosts, rung=st.sampled_from(("", *RUNGS)))
budget = settings(max_examples=300, derandomize=True, deadline=None, database=None)


def mounts(plan: steps.Plan) -> list[steps.Bind | steps.Mask | steps.Private | steps.Scratch]:
    return [step for step in plan.steps if isinstance(step, MOUNTS)]


@budget
@anything
def test_a_plan_is_refused_in_two_ways_only_and_can_be_read(what: Policy, tree: Files, host: Host, rung: str) -> None:
    made = planned(what, tree, host, rung)
    if made is not None:
        assert as_text(made[2]).endswith("\n")
        assert made[2] == compile_plan(made[0], made[1], rung=rung)  # pure: asked again, the same


@budget
@anything
def test_parents_come_first_and_nothing_twice(what: Policy, tree: Files, host: Host, rung: str) -> None:
    made = planned(what, tree, host, rung)
    if made is None:
        return
    marks = [mark.parts for mark in find_marks(made[0], made[1])]
    assert len(marks) == len(set(marks))
    for at, parts in enumerate(marks):
        assert not any(later == parts[: len(later)] for later in marks[at + 1 :])
    order = [step.path for step in mounts(made[2])]
    assert order == [join(parts) for parts in marks if join(parts) in order]


@budget
@anything
def test_what_is_hidden_and_exists_is_out_of_reach(what: Policy, tree: Files, host: Host, rung: str) -> None:
    made = planned(what, tree, host, rung)
    if made is None or made[2].rung == "landlock":  # which hides nothing, and says so
        return
    placed, facts, plan = made
    empty = any(isinstance(step, steps.Root) and step.base == "empty" for step in plan.steps)
    at = {step.path: step for step in mounts(plan)}
    for entry in (*facts.tree.named.values(), *facts.tree.found):
        parts = components(entry.path)
        if placed.access(parts)[0] != HIDE or entry.kind in ("missing", LINK) or not parts:
            continue
        above = next((at[join(parts[:depth])] for depth in range(len(parts), 0, -1) if join(parts[:depth]) in at), None)
        assert isinstance(above, (steps.Mask, steps.Private)) if above else empty, entry.path


@budget
@anything
def test_every_writable_bind_is_granted_by_every_stratum(what: Policy, tree: Files, host: Host, rung: str) -> None:
    made = planned(what, tree, host, rung)
    if made is None:
        return
    placed, _, plan = made
    for step in mounts(plan):
        if isinstance(step, steps.Bind) and step.write:
            assert all(each.access(components(step.path))[0] == WRITE for each in placed.strata), step.path
    for step in plan.steps:
        if isinstance(step, steps.Landlock):
            for path, rights in step.rules:
                private = any(isinstance(each, (steps.Private, steps.Scratch)) and each.path == path for each in mounts(plan))
                own = path == "/proc" or path.startswith("/dev")
                assert "write_file" not in rights or own or private or placed.access(components(path))[0] in (WRITE, "scratch"), path


@budget
@anything
def test_covered_is_set_exactly_where_an_earlier_step_hides_the_source(what: Policy, tree: Files, host: Host, rung: str) -> None:
    made = planned(what, tree, host, rung)
    if made is None:
        return
    empty = any(isinstance(step, steps.Root) and step.base == "empty" for step in made[2].steps)
    before: dict[str, object] = {}
    for step in mounts(made[2]):
        parts = components(step.path)
        above = next((before[join(parts[:depth])] for depth in range(len(parts) - 1, 0, -1) if join(parts[:depth]) in before), None)
        if isinstance(step, steps.Bind):
            assert step.covered == (isinstance(above, HIDING) if above else empty), (step, above)
        before[step.path] = step
