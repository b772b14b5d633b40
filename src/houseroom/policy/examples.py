"""Examples inside rules are decided when the policy loads; one that comes out otherwise is an error at its rule."""

from __future__ import annotations

from houseroom.errors import PolicyError
from houseroom.policy import connect, destinations, pattern
from houseroom.policy.decide import Allow, PlacedPolicy, Read, Run, Variable, Write, decide
from houseroom.policy.layers import error_at
from houseroom.policy.model import Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from houseroom.policy.decide import Act, Why
    from houseroom.policy.model import Places, Rule, Stratum

ACTS: dict[str, type[Read | Write | Run]] = {"read": Read, "write": Write, "run": Run}
MEANS_WRITING = frozenset({"files.write", "files.protect", "files.scratch", "files.private"})


def check_examples(placed: PlacedPolicy, texts: Mapping[str, str] = {}) -> None:
    """Raises PolicyError at the first rule whose example is decided otherwise. ``texts``: file name → its text, for errors.

    An example is decided by the stratum it stands in: it says what its author meant, not what others narrow.
    ``read ~/x``, ``write src/a.py``, ``run /usr/bin/cc``; a bare path means writing under ``files.write``, ``files.protect``,
    ``files.scratch`` and ``files.private``, reading elsewhere; under ``environment`` it is a variable's name. Under ``network.allow``
    and ``network.deny`` it is ``[METHOD ]HOST[:PORT][/PATH]``, at the rule's port or 443, and decided as though ``reach`` were
    listed or open, so that a list can be checked before it is used.
    """
    for stratum in placed.policy.strata:
        _check_hosts(placed, stratum, texts)
        rules = [rule for rule in stratum.rules if (rule.allows or rule.denies) and rule.key.startswith(("files.", "environment."))]
        if not rules:
            continue
        alone = PlacedPolicy(placed.policy.with_(strata=(stratum,)), placed.places)
        for rule in rules:
            for example in rule.allows:
                _check(alone, rule, example, texts, wanted=True)
            for example in rule.denies:
                _check(alone, rule, example, texts, wanted=False)


def _check(alone: PlacedPolicy, rule: Rule, example: str, texts: Mapping[str, str], *, wanted: bool) -> None:
    try:
        act = _act(rule, example, alone.places)
    except PolicyError as error:
        raise _unclear(rule, example, texts, error.message, error.hint) from None
    decision = decide(alone, act)
    if isinstance(decision, Allow) is not wanted:
        raise _otherwise(rule, example, texts, decision.why, wanted=wanted)


def _check_hosts(placed: PlacedPolicy, stratum: Stratum, texts: Mapping[str, str]) -> None:
    for key, reach in (("network.allow", connect.LISTED), ("network.deny", connect.OPEN)):
        rules = [rule for rule in stratum.under(key) if rule.allows or rule.denies]
        if not rules:
            continue
        settings = {**stratum.settings, "network.reach": Setting(reach, rules[0].origin)}
        alone = connect.PlacedNetwork(placed.policy.with_(strata=(stratum.with_(settings=settings),)))
        for rule in rules:
            for example, wanted in [*((each, True) for each in rule.allows), *((each, False) for each in rule.denies)]:
                try:
                    act = _connect(rule, example)
                except PolicyError as error:
                    raise _unclear(rule, example, texts, error.message, error.hint) from None
                reached = connect.decide(alone, act)
                if isinstance(reached, connect.Reachable) is not wanted:
                    raise _otherwise(rule, example, texts, reached.why, wanted=wanted)


def _unclear(rule: Rule, example: str, texts: Mapping[str, str], message: str, hint: str) -> PolicyError:
    text = texts.get(rule.origin.file, "")
    return error_at(rule.origin, text, f"the example {example!r} can't be checked: {message}", hint)


def _otherwise(rule: Rule, example: str, texts: Mapping[str, str], why: Why, *, wanted: bool) -> PolicyError:
    said, meant = ("denied", "allowed") if wanted else ("allowed", "denied")
    by = f" by {why.rule} ({why.rule.origin})" if why.rule else ""
    text = texts.get(rule.origin.file, "")
    return error_at(rule.origin, text, f"the example {example!r} should be {meant} and is {said}{by}", f"{why.sentence}.")


def _connect(rule: Rule, example: str) -> connect.Connect:
    """What an example of a host asks for. Raises PolicyError where it is not one host, port and request."""
    where, slash, rest = example.partition("/")
    named, own = destinations.parse(where), destinations.parse(rule.subject)
    host = named.host if isinstance(named.host, str) else named.host.base
    ports = next((each for each in (named, own) if not each.any_port), None)
    if named.wild or len(named.methods) > 1 or (named.low != named.high and not named.any_port):
        raise PolicyError(f"{example!r} is not one destination", hint="Write [METHOD ]HOST[:PORT][/PATH].")
    method = named.methods[0] if named.methods else "GET" if slash else ""
    return connect.Connect(host, ports.low if ports else 443, method, f"/{rest}" if method else "")


def _act(rule: Rule, example: str, places: Places) -> Act:
    if rule.key.startswith("environment."):
        return Variable(example)
    word, blank, rest = example.partition(" ")
    act = ACTS.get(word) if blank else None
    if act is None:
        act, rest = (Write if rule.key in MEANS_WRITING else Read), example
    placed = pattern.place(rest.strip(), places)
    if not placed.literal:
        raise PolicyError(f"{rest!r} is not one path", hint="Write a path without * and ?.")
    made: Act = act(str(placed))
    return made
