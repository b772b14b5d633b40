"""``houseroom policy``: what the merged policy says and where each line comes from; checks; the schema; the presets."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

from houseroom.errors import PolicyError
from houseroom.frontends.cli import paper, request
from houseroom.frontends.cli.options import UsageError
from houseroom.frontends.cli.paper import BOLD, CYAN, DIM, Column, Paper, Text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.frontends.cli.options import Given
    from houseroom.policy.keys import Key
    from houseroom.policy.model import Origin, Places, Policy, Stratum

PRESETS = {
    "read-only": "reads everything except secrets, writes nothing but a /tmp of its own, no network",
    "workspace": "also writes the workspace and scratch copies of the caches (the default)",
    "full-access": "no limits on files and network; still its own processes, and no privileges",
}


def show(given: Given) -> int:
    """Print the merged policy, or the part of it under one key."""
    from houseroom.policy import export

    where = request.places(given)
    policy = request.policy(given, where)
    if given.flag("json"):
        paper.put_json(export.as_document(policy))
    elif given.flag("toml"):
        paper.put(export.as_toml(policy))
    else:
        paper.put(as_text(policy, where, _wanted(given), Paper.of_stdout()))
    return 0


def _wanted(given: Given) -> tuple[Key, ...]:
    """The keys to show, in the table's order. Raises UsageError for a key that does not exist."""
    from houseroom.policy import keys

    if not given.words:
        return keys.TABLE
    word = given.words[0]
    wanted = tuple(key for key in keys.TABLE if word in (key.name, key.section))
    if not wanted:
        near = keys.suggest(word, (*keys.KEYS, *keys.SECTIONS))
        hint = f"Did you mean {near}?" if near else "`houseroom policy show` prints all of them."
        raise UsageError(f"there is no policy key {word!r}", hint, given.spec.name)
    return wanted


def as_text(policy: Policy, where: Places, wanted: tuple[Key, ...], sheet: Paper) -> str:
    """Rules by key, one block for each stratum that has any."""
    parts = [
        sheet.ink(f"policy {paper.clean(policy.name)}", BOLD) + sheet.ink(f"  in {paper.clean(request.spelt(where.workspace, where))}", DIM)
    ]
    for key in wanted:
        if key.name == "floor.require":
            body = _rules([(rule.subject, rule.reason, rule.origin) for rule in policy.floor], where, sheet)
            parts += [_heading(key, "", sheet) + body] if body else []
            continue
        for stratum in policy.strata:
            body = _list(stratum, key, where, sheet) if key.is_list else _setting(stratum, key, where, sheet)
            voice = stratum.name if len(policy.strata) > 1 else ""
            parts += [_heading(key, voice, sheet) + body] if body else []
    return "\n\n".join(parts)


def _heading(key: Key, voice: str, sheet: Paper) -> str:
    title = sheet.ink(key.name, CYAN) + (f" ({voice})" if voice else "")
    return f"{title}\n" + sheet.prose(Text(key.meaning, DIM), 2) + "\n"


def _list(stratum: Stratum, key: Key, where: Places, sheet: Paper) -> str:
    rules = stratum.under(key.name)
    if not rules and key.name in stratum.closed:
        return "  nothing"
    return _rules([(rule.subject, rule.reason, rule.origin) for rule in rules], where, sheet)


def _rules(rules: list[tuple[str, str, Origin]], where: Places, sheet: Paper) -> str:
    """Subjects with their reason, said once for neighbours that share it; the origin only where it is no built-in table."""
    from itertools import groupby

    rows = []
    for (reason, place), group in groupby(rules, lambda rule: (rule[1], _place(rule[2], where))):
        subjects = "\n".join(subject for subject, _, _ in group)
        rows.append((Text(subjects), Text(reason, DIM), Text("" if place == "built in" else place, DIM)))
    columns = (Column(least=20), Column(least=24), Column(least=14))
    if all(not row[2].text for row in rows):
        return sheet.table([row[:2] for row in rows], columns[:2], 4)
    return sheet.table(rows, columns, 4)


def _place(origin: Origin, where: Places) -> str:
    return "built in" if origin.layer == "preset" else request.spelt(str(origin), where)


def _setting(stratum: Stratum, key: Key, where: Places, sheet: Paper) -> str:
    from houseroom.policy.export import value_text

    setting = stratum.settings.get(key.name)
    if setting is None:
        return ""
    return sheet.table([(value_text(key.name, setting.value), Text(_place(setting.origin, where), DIM))], (Column(), Column()), 4)


def check(given: Given) -> int:
    """Check one file. Returns 0; raises PolicyError with its line, or prints it with ``--json`` and returns 123."""
    where = request.places(given)
    file = given.words[0]
    try:
        waits = _checked(file, where)
    except PolicyError as error:
        if not given.flag("json"):
            raise
        found = {"message": error.message, "line": error.line, "column": error.column, "text": error.text, "hint": error.hint}
        paper.put_json({"file": file, "ok": False, **found})
        return 123
    if given.flag("json"):
        paper.put_json({"file": file, "ok": True, "unenforced": waits})
    else:
        later = f"; nothing enforces {', '.join(waits)} yet, so a run refuses it" if waits else ""
        paper.put(f"{paper.clean(file)}: ok{later}")
    return 0


def _checked(file: str, where: Places) -> list[str]:
    """Parse a file, follow what it extends, decide its examples. Returns the keys in it that nothing enforces yet."""
    from houseroom.policy.decide import PlacedPolicy
    from houseroom.policy.examples import check_examples
    from houseroom.policy.layers import error_at, merge, unenforced
    from houseroom.policy.model import Rule
    from houseroom.policy.parse import parse
    from houseroom.policy.presets import DEFAULT, PRESETS
    from houseroom.session import policy_files

    text = _text(file)
    document = parse(text, layer="user", file=file)
    base = PRESETS[DEFAULT]
    if document.extends is not None and document.extends not in PRESETS and document.extends_origin is not None:
        try:
            base = policy_files.load(where, profile=document.extends).strata[0]
        except PolicyError as error:
            raise error_at(document.extends_origin, text, error.message, error.hint) from None
    presets = PRESETS if document.extends is None else {**PRESETS, document.extends: base}
    policy = merge(base, [document], profiles={}, trusted=False, name=file, presets=presets)
    check_examples(PlacedPolicy(policy, where), {file: text})
    waiting = [part for part in unenforced(policy) if part.origin.file == file]
    settings = {id(setting): key for stratum in policy.strata for key, setting in stratum.settings.items()}
    return sorted({part.key if isinstance(part, Rule) else settings[id(part)] for part in waiting})


def _text(file: str) -> str:
    try:
        with open(file, encoding="utf-8") as source:
            return source.read()
    except OSError as error:
        raise UsageError(f"can't read {file}: {error.strerror}", "Give the path of a policy file.", "policy check") from None
    except UnicodeDecodeError:
        raise PolicyError("the policy is not UTF-8", file=file, hint="Save the file as UTF-8.") from None


def schema(_given: Given) -> int:
    """Print the JSON schema of policy files."""
    from houseroom.policy.schema import json_schema

    paper.put_json(json_schema())
    return 0


def presets(given: Given) -> int:
    """List the built-in policies."""
    from houseroom.policy.presets import NAMES

    if given.flag("json"):
        paper.put_json({name: PRESETS.get(name, "") for name in NAMES})
    else:
        sheet = Paper.of_stdout()
        paper.put(sheet.table([(Text(name, CYAN), PRESETS.get(name, "")) for name in NAMES], (Column(wrap=False), Column()), 0))
    return 0
