"""What init carries of a policy says the same as the policy: on generated rules and names, and on the presets."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from policy_strategies import NAMES, PATHS, PLACES, strata

from houseroom.policy import presets
from houseroom.policy.decide import PlacedPolicy
from houseroom.policy.model import HIDE, PROTECT, RANK, WRITE, Policy
from houseroom.policy.pattern import components, join
from houseroom.policy.verdicts import REFUSED, Verdicts

ROOT: tuple[tuple[str, ...], ...] = ((),)  # every rule can name a path below it


def narrowest(placed: PlacedPolicy, parts: tuple[str, ...]) -> str | None:
    """The same question put to the policy itself: the narrowest refusal of the rules that name exactly this path."""
    rules = [stratum.at(parts) for stratum in placed.strata]
    refused = [rule.access for rule in rules if rule is not None and rule.access in (HIDE, PROTECT)]
    return min(refused, key=RANK.__getitem__) if refused else None


@given(st.lists(strata(), min_size=1, max_size=3), PATHS)
def test_verdicts_say_what_the_policy_says_of_a_path(voices: list, path: str) -> None:
    placed, parts = PlacedPolicy(Policy("generated", tuple(voices)), PLACES), components(path)
    assume(parts)  # nobody makes the root
    verdicts = Verdicts(placed.below(ROOT))
    assert verdicts.access(parts) == narrowest(placed, parts)


@given(st.lists(strata(), min_size=1, max_size=3), PATHS)
def test_a_verdict_is_never_wider_than_the_access(voices: list, path: str) -> None:
    placed, parts = PlacedPolicy(Policy("generated", tuple(voices)), PLACES), components(path)
    said, access = Verdicts(placed.below(ROOT)).access(parts), placed.access(parts)[0]
    if said is not None:
        assert RANK[access] <= RANK[said]
    elif parts and placed.access(parts[:-1])[0] == WRITE:
        assert access not in REFUSED, "a new name in a writable directory that the policy refuses and the verdict lets pass"


@given(st.lists(strata(), min_size=1, max_size=3), PATHS)
def test_what_is_refused_was_suspicious(voices: list, path: str) -> None:
    placed, parts = PlacedPolicy(Policy("generated", tuple(voices)), PLACES), components(path)
    verdicts = Verdicts(placed.below(ROOT))
    if verdicts.access(parts) is not None and parts:
        assert verdicts.suspicious(parts[-1])


@given(st.lists(strata(), min_size=1, max_size=2), PATHS, st.lists(NAMES, min_size=1, max_size=3))
def test_the_way_to_a_refused_path_is_known(voices: list, path: str, below: list[str]) -> None:
    """A path below another that only a rule with wildcards refuses, and whose wildcards begin above: its parent leads there."""
    placed = PlacedPolicy(Policy("generated", tuple(voices)), PLACES)
    verdicts, way = Verdicts(placed.below(ROOT)), components(path)
    parts = (*way, *below)
    for stratum in placed.strata:
        literal = stratum.literal.get(parts)
        if literal is not None or not (rule := stratum.at(parts)) or rule.access not in (HIDE, PROTECT):
            continue
        matching = [found.pattern.parts for found in stratum.globs if found.rule is rule]
        if any(len(pattern) == len(parts) and "**" not in pattern and pattern[: len(way)] != way for pattern in matching):
            assert verdicts.leads(way), (join(way), matching)


@pytest.mark.parametrize("name", presets.NAMES)
@pytest.mark.parametrize(
    "path",
    [
        "/home/u/ws/.git", "/home/u/ws/a/.git", "/home/u/ws/.env", "/home/u/ws/a/b/.env.local", "/home/u/ws/.env.example",
        "/home/u/ws/.mcp.json", "/home/u/ws/key.pem", "/home/u/ws/plain", "/home/u/.ssh", "/home/u/.netrc", "/", "/tmp",
    ],
)  # fmt: skip
def test_the_presets_verdicts(name: str, path: str) -> None:
    placed, parts = PlacedPolicy(Policy(name, (presets.preset(name),)), PLACES), components(path)
    assert Verdicts(placed.below(ROOT)).access(parts) == narrowest(placed, parts)


def test_the_workspace_preset_refuses_what_it_should() -> None:
    placed = PlacedPolicy(Policy("workspace", (presets.preset("workspace"),)), PLACES)
    verdicts = Verdicts(placed.below(ROOT))
    said = {name: verdicts.access(components(f"/home/u/ws/{name}")) for name in (".env", ".env.example", ".mcp.json", "plain", "a/.git")}
    assert said == {".env": HIDE, ".env.example": None, ".mcp.json": PROTECT, "plain": None, "a/.git": PROTECT}
    assert not verdicts.suspicious("plain")
    assert verdicts.leads(components("/home/u/ws/a/.kamal"))
    assert not verdicts.leads(components("/home/u/ws/a/src"))
