"""Credentials: what a rule says, what stands in a value's place, and where the value goes instead."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from houseroom.errors import CannotEnforce, PolicyError
from houseroom.policy import credentials, destinations, parse
from houseroom.policy.credentials import Swap, filled, placeholder, scrubbed, unfit
from houseroom.policy.decide import Allow, Deny, PlacedPolicy, Variable, decide
from houseroom.policy.layers import refuse_unenforced
from houseroom.policy.model import Origin, Places, Policy, Rule, Setting, Stratum

WHERE = destinations.parse("api.example.org:443")
TOKEN = st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=16, max_size=80)


@pytest.mark.parametrize(
    ("text", "variable", "where"),
    [
        ("GITHUB_TOKEN api.github.com", "GITHUB_TOKEN", "api.github.com:443"),
        ("t api.github.com:8443", "t", "api.github.com:8443"),
    ],
)
def test_what_a_rule_says(text: str, variable: str, where: str) -> None:
    found = credentials.parse(text)
    assert (found.variable, str(found.where)) == (variable, where)


@pytest.mark.parametrize(
    "text",
    ["", "TOKEN", "TOKEN ", " api.github.com", "api.github.com TOKEN", "1TOKEN x.org", "A-B x.org", "*_TOKEN x.org", "TOKEN *.x.org",
     "TOKEN GET x.org", "TOKEN x.org/v1", "TOKEN 10.0.0.5", "TOKEN 10.0.0.0/8", "TOKEN x.org:1-2", "TOKEN https://x.org", "TOKEN  x.org"],
)  # fmt: skip
def test_what_is_no_credential(text: str) -> None:
    with pytest.raises(PolicyError):
        credentials.parse(text)


def test_a_projects_file_says_nothing_of_them() -> None:
    text = '[network]\ncredentials = ["TOKEN api.example.org"]'
    assert parse.parse(text, layer="user", file="x").rules[0].subject == "TOKEN api.example.org"
    with pytest.raises(PolicyError, match="project's file"):
        parse.parse(text, layer="project", file="x")
    rules = [Rule(credentials.KEY, "TOKEN api.example.org", Origin(layer, "x")) for layer in ("user", "project")]
    found = credentials.credentials(Policy("x", (Stratum("x", tuple(rules)),)))
    assert [rule.origin.layer for _, rule in found] == ["user"]


def test_the_hosts_own_network_has_nobody_who_puts_them_in() -> None:
    where = Origin("user", "x")
    for reach, refused in (("open", True), ("listed", False), ("none", False)):
        rule = Rule(credentials.KEY, "TOKEN api.example.org", where)
        policy = Policy("x", (Stratum("x", (rule,), {"network.reach": Setting(reach, where)}),))
        if refused:
            with pytest.raises(CannotEnforce):
                refuse_unenforced(policy)
        else:
            refuse_unenforced(policy)


@given(value=TOKEN, chance=st.randoms(use_true_random=False))
def test_a_placeholder_looks_like_its_value_and_is_another(value: str, chance: object) -> None:
    if unfit(value):
        return
    numbers = [chance.randrange(256) for _ in value]  # type: ignore[attr-defined]
    made = placeholder(value, numbers)
    assert len(made) == len(value) and made.isascii()
    for one, other in zip(value, made):
        assert (one.isdigit(), one.islower(), one.isupper()) == (other.isdigit(), other.islower(), other.isupper())
        assert one.isalnum() or one == other


@pytest.mark.parametrize(
    ("value", "prefix"),
    [("ghp_0123456789abcdefghij", "ghp_"), ("github_pat_0123456789abcdef", "github_pat_"), ("sk-ant-api03-0123456789abcdef", "sk-ant-"),
     ("0123456789abcdef", ""), ("a_b_c_d_e_f_g_h_i_j_k_l", "")],
)  # fmt: skip
def test_a_prefix_stays_where_enough_is_left(value: str, prefix: str) -> None:
    made = placeholder(value, range(1, len(value) + 1))
    assert made.startswith(prefix) and made[len(prefix) :] != value[len(prefix) :]


@pytest.mark.parametrize(
    "value", ["short", "x" * 5000, "with a blank in the middle", "line\nbreak-0123456789", "é0123456789abcdefgh", "-" * 40]
)
def test_values_that_can_not_be_told_apart_or_sent(value: str) -> None:
    assert unfit(value)


@given(value=TOKEN, before=st.binary(max_size=20), behind=st.binary(max_size=20), basic=st.booleans())
def test_what_is_put_in_is_taken_out_again(value: str, before: bytes, behind: bytes, basic: bool) -> None:
    if unfit(value):
        return
    shown = placeholder(value, range(7, 7 + len(value))).encode()
    if shown == value.encode() or any(part in before + behind for part in (shown, value.encode())):
        return
    swap = Swap(shown, value.encode(), WHERE)
    text = before + shown + behind
    field = b"Basic " + base64.b64encode(text) if basic else text
    fields = ((b"authorization", field), (b"host", shown), (b"content-length", shown))
    put = filled(fields, (swap,))
    expected = before + value.encode() + behind
    if not basic:
        assert put[0][1].count(value.encode()) >= 1 and shown not in put[0][1].replace(value.encode(), b"")
    else:
        assert base64.b64decode(put[0][1][6:]) == expected
    assert put[1:] == fields[1:]
    assert value.encode() not in scrubbed(put, (swap,))[0][1]


def test_a_value_is_in_no_text_about_it() -> None:
    assert "secret" not in repr(Swap(b"placeholder", b"secret", WHERE))


def test_no_command_is_told_whatever_else_is_said_of_the_variable() -> None:
    where = Origin("user", "x")
    rules = [Rule(credentials.KEY, "PLAIN api.example.org from env:OTHER", where)]
    rules += [Rule("environment.pass", name, Origin("session", "x")) for name in ("PLAIN", "OTHER", "MORE")]
    policy = PlacedPolicy(Policy("x", (Stratum("x", tuple(rules)),)), Places("/w", "/h"))
    for name, kind in (("PLAIN", Deny), ("OTHER", Deny), ("MORE", Allow)):
        decision = decide(policy, Variable(name))
        assert isinstance(decision, kind), name
        assert decision.why.rule == (rules[0] if kind is Deny else rules[3])
