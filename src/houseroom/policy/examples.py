"""Examples inside rules are decided when the policy loads; one that comes out otherwise is an error at its rule."""

from __future__ import annotations

from houseroom.errors import PolicyError
from houseroom.policy import pattern
from houseroom.policy.decide import Allow, PlacedPolicy, Read, Run, Variable, Write, decide
from houseroom.policy.layers import error_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from houseroom.policy.decide import Act
    from houseroom.policy.model import Places, Rule

ACTS: dict[str, type[Read | Write | Run]] = {"read": Read, "write": Write, "run": Run}
MEANS_WRITING = frozenset({"files.write", "files.protect", "files.scratch", "files.private"})


def check_examples(placed: PlacedPolicy, texts: Mapping[str, str] = {}) -> None:
    """Raises PolicyError at the first rule whose example is decided otherwise. ``texts``: file name → its text, for errors.

    An example is decided by the stratum it stands in: it says what its author meant, not what others narrow.
    ``read ~/x``, ``write src/a.py``, ``run /usr/bin/cc``; a bare path means writing under ``files.write``, ``files.protect``,
    ``files.scratch`` and ``files.private``, reading elsewhere; under ``environment`` it is a variable's name.
    """
    for stratum in placed.policy.strata:
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
    text = texts.get(rule.origin.file, "")
    try:
        act = _act(rule, example, alone.places)
    except PolicyError as error:
        raise error_at(rule.origin, text, f"the example {example!r} can't be checked: {error.message}", error.hint) from None
    decision = decide(alone, act)
    if isinstance(decision, Allow) is wanted:
        return
    said, meant = ("denied", "allowed") if wanted else ("allowed", "denied")
    by = f" by {decision.why.rule} ({decision.why.rule.origin})" if decision.why.rule else ""
    raise error_at(rule.origin, text, f"the example {example!r} should be {meant} and is {said}{by}", f"{decision.why.sentence}.")


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
