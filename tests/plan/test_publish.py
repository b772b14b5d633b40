"""Which ports are published: where, by whose word, and where it is refused by name."""

from __future__ import annotations

import pytest
from facts_kit import HOST, PLAIN, on_host, ordinary

from houseroom.errors import CannotEnforce
from houseroom.plan import steps
from houseroom.plan.compile import compile_plan
from houseroom.policy.model import Origin, Policy, Rule, Setting, Stratum

KEY = "network.publish"


def voice(*ports: int, name: str = "user", closed: bool = False, reach: str = "") -> Stratum:
    origin = Origin(name, f"{name}.toml", 2, 1)
    rules = tuple(Rule(KEY, str(port), origin) for port in ports)
    settings = {"network.reach": Setting(reach, origin)} if reach else {}
    return Stratum(name, rules, settings, frozenset({KEY}) if ports or closed else frozenset())


def published(*voices: Stratum, rung: str = "") -> tuple[int, ...]:
    base, first = ordinary().strata[0], voices[0]
    joined = base.with_(rules=(*base.rules, *first.rules), settings={**base.settings, **first.settings})
    made = compile_plan(*on_host(Policy("test", (joined, *voices[1:])), PLAIN, HOST), rung=rung)
    return next((step.ports for step in made.steps if isinstance(step, steps.Publish)), ())


def test_the_ports_of_the_policy_once_and_in_order() -> None:
    assert published(voice()) == ()
    assert published(voice(9000, 8000, 9000)) == (8000, 9000)
    assert published(voice(8000, reach="listed")) == (8000,)
    assert published(voice(8000, reach="none")) == (8000,)


def test_another_voice_only_narrows() -> None:
    """An organisation's file, or a project's that nobody trusts: what it lists is all that is left, and it adds nothing."""
    assert published(voice(8000), voice(9000, name="project")) == ()
    assert published(voice(8000, 9000), voice(9000, 9999, name="project")) == (9000,)
    assert published(voice(), voice(9000, name="project")) == ()
    assert published(voice(8000), voice(name="project", closed=True)) == ()
    assert published(voice(8000), voice(name="project")) == (8000,)
    assert published(voice(8000, 9000), voice(8000, name="project"), voice(9000, name="organisation")) == ()


def test_the_hosts_own_network_needs_no_step() -> None:
    assert published(voice(8000, reach="open")) == ()
    assert published(voice(8000, reach="open"), rung="landlock") == ()


@pytest.mark.parametrize("rung", ["bubblewrap", "landlock"])
def test_below_namespaces_it_is_refused_by_name(rung: str) -> None:
    with pytest.raises(CannotEnforce, match=r"user\.toml:2") as caught:
        published(voice(8000), rung=rung)
    assert caught.value.missing == (KEY,)
    assert published(voice(), rung=rung) == ()


@pytest.mark.parametrize("port", [1, 80, 1023])
def test_a_port_at_which_nobody_inside_may_listen_is_refused(port: int) -> None:
    with pytest.raises(CannotEnforce, match=rf"port {port}.*user\.toml:2"):
        published(voice(1024, port))
    assert published(voice(1024)) == (1024,)
