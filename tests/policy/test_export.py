from __future__ import annotations

import json
import tomllib

from hypothesis import given
from hypothesis import strategies as st
from policy_strategies import PATHS, PLACES, strata

from houseroom.policy import pattern
from houseroom.policy.decide import PlacedPolicy
from houseroom.policy.export import as_document, as_toml, quoted
from houseroom.policy.layers import merge
from houseroom.policy.model import Origin, Policy, Rule, Setting, Stratum
from houseroom.policy.parse import parse
from houseroom.policy.presets import NAMES, preset

ORIGIN = Origin("user", "mine.toml", 3, 9)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    stratum = draw(strata(("user",)))
    # In a file, rules of one key stand together, and one text has one meaning.
    rules = {(rule.key, rule.subject): rule.with_(origin=ORIGIN, reason=draw(TEXTS)) for rule in stratum.rules}
    hosts = draw(st.lists(st.sampled_from(["pypi.org", "*.x.org:443"]), max_size=2, unique=True))
    rules |= {("network.allow", host): Rule("network.allow", host, ORIGIN) for host in hosts}
    rules |= {("network.publish", "80"): Rule("network.publish", "80", ORIGIN, draw(TEXTS))} if draw(st.booleans()) else {}
    settings = {
        "limits.memory": Setting(draw(st.integers(1, 2**50)), ORIGIN),
        "limits.time": Setting(float(draw(st.integers(1, 10**8))), ORIGIN),
        "limits.processes": Setting(draw(st.integers(1, 9999)), ORIGIN),
        "network.reach": Setting(draw(st.sampled_from(["none", "listed", "open"])), ORIGIN),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(settings)), unique=True))
    closed = stratum.closed | {key for key, _ in rules}
    floor = tuple(
        Rule("floor.require", name, ORIGIN, draw(TEXTS)) for name in draw(st.lists(st.sampled_from(["files", "network"]), unique=True))
    )
    return Policy("p", (Stratum("p", tuple(rules.values()), {key: settings[key] for key in chosen}, frozenset(closed)),), floor)


@given(policies(), PATHS)
def test_a_policy_comes_back_from_its_toml(policy: Policy, path: str) -> None:
    document = parse(as_toml(policy), layer="user", file="again.toml")
    again = Policy("p", (Stratum("p", document.rules, document.settings, document.closed),), document.floor)
    (before,), (after,) = policy.strata, again.strata
    assert after.closed == before.closed
    assert {key: setting.value for key, setting in after.settings.items()} == {
        key: setting.value for key, setting in before.settings.items()
    }
    assert [(rule.subject, rule.reason) for rule in again.floor] == [(rule.subject, rule.reason) for rule in policy.floor]
    said = {(rule.key, rule.subject, rule.reason) for rule in before.rules}
    assert {(rule.key, rule.subject, rule.reason) for rule in after.rules} <= said
    parts = pattern.components(path)
    assert PlacedPolicy(again, PLACES).access(parts)[0] == PlacedPolicy(policy, PLACES).access(parts)[0]


@given(policies())
def test_writing_it_again_changes_nothing(policy: Policy) -> None:
    first = as_toml(policy)
    document = parse(first, layer="user", file="again.toml")
    again = Policy("p", (Stratum("p", document.rules, document.settings, document.closed),), document.floor)
    assert as_toml(again) == first


@given(TEXTS)
def test_any_text_can_be_quoted(text: str) -> None:
    assert tomllib.loads(f"key = {quoted(text)}")["key"] == text


@given(PATHS, st.sampled_from(NAMES))
def test_a_preset_comes_back_from_its_toml(path: str, name: str) -> None:
    base = preset(name)
    policy = merge(base, (), profiles={}, trusted=False, name=name)
    document = parse(as_toml(policy), layer="user", file="again.toml")
    again = Policy("p", (Stratum("p", document.rules, document.settings, document.closed),), document.floor)
    parts = pattern.components(path)
    assert PlacedPolicy(again, PLACES).access(parts)[0] == PlacedPolicy(policy, PLACES).access(parts)[0]


def test_other_voices_stand_as_comments() -> None:
    user = parse('[files]\nwrite = ["~/x"]', layer="user", file="u")
    organisation = parse('[files]\nhide = ["/theirs-only"]', layer="organisation", file="o")
    text = as_toml(merge(preset("read-only"), (user, organisation), profiles={}, trusted=False, name="p"))
    assert '#   hide = ["/theirs-only"]' in text
    assert "/theirs-only" not in json.dumps(tomllib.loads(text))


def test_the_document_holds_each_rule_with_its_origin() -> None:
    user = parse('[files]\nhide = [{ path = "~/x", reason = "mine" }]\n[limits]\nmemory = "4G"', layer="user", file="u.toml")
    shown = json.loads(json.dumps(as_document(merge(preset("workspace"), (user,), profiles={}, trusted=False, name="p"))))
    (stratum,) = shown["strata"]
    origin = {"layer": "user", "file": "u.toml", "line": 2, "column": 9}
    assert {"key": "files.hide", "subject": "~/x", "reason": "mine", "origin": origin} in stratum["rules"]
    assert shown["effective"]["limits.memory"]["text"] == "4G"
    assert shown["effective"]["limits.memory"]["origin"]["line"] == 4
