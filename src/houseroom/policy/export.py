"""A merged policy as data for programs and as TOML for people."""

from __future__ import annotations

from houseroom.policy import keys, units
from houseroom.policy.keys import KEYS, TABLE
from houseroom.policy.layers import spelling
from houseroom.policy.model import LAYERS, PRECEDENCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.policy.model import Origin, Policy, Rule, Setting, Stratum


def as_document(policy: Policy) -> dict[str, object]:
    """The whole policy as values that JSON can hold: each rule and setting with its origin."""
    effective = {key.name: policy.setting(key.name) for key in TABLE}
    return {
        "name": policy.name,
        "strata": [_stratum(stratum) for stratum in policy.strata],
        "effective": {key: _setting(key, setting) for key, setting in effective.items() if setting is not None},
        "floor": [_rule(rule) for rule in policy.floor],
    }


def as_toml(policy: Policy) -> str:
    """The policy as TOML. The first stratum is the document; further ones, which only narrow it, follow as comments.

    Saved as a profile it means the same as the first stratum: rules whose place a later layer took are left out.
    """
    first, *others = policy.strata
    text = stratum_toml(first, policy.floor)
    for stratum in others:
        body = stratum_toml(stratum).rstrip().splitlines()
        text += f"\n# Narrowed further by the {stratum.name} layer:\n" + "".join(f"#   {line}".rstrip() + "\n" for line in body)
    return text


def stratum_toml(stratum: Stratum, floor: tuple[Rule, ...] = ()) -> str:
    """One stratum as a TOML document."""
    winners = _winners(stratum.rules)
    lines: list[str] = []
    for section in keys.SECTIONS:
        body: list[str] = []
        for key in keys.in_section(section).values():
            rules = floor if key.name == "floor.require" else [rule for rule in winners if rule.key == key.name]
            if rules or key.name in stratum.closed:
                body += _list(key.leaf, [_item(rule) for rule in rules])
            elif key.name in stratum.settings:
                body.append(f"{key.leaf} = {_value(key.name, stratum.settings[key.name].value)}")
        if body:
            lines += [f"[{section}]", *body, ""]
    return "\n".join(lines)


def value_text(key: str, value: object) -> str:
    """A setting's value as people write it: ``4G``, ``1h30m``, ``none``, ``512``."""
    match KEYS[key].kind:
        case keys.SIZE:
            return units.size_text(int(value))  # type: ignore[call-overload]
        case keys.DURATION:
            return units.duration_text(float(value))  # type: ignore[arg-type]
    return str(value)


def quoted(text: str) -> str:
    """A TOML basic string."""
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(escapes.get(char) or (char if char.isprintable() else _escape(char)) for char in text) + '"'


def _escape(char: str) -> str:
    return f"\\u{ord(char):04X}" if ord(char) < 0x10000 else f"\\U{ord(char):08X}"


def _stratum(stratum: Stratum) -> dict[str, object]:
    return {
        "name": stratum.name,
        "closed": sorted(stratum.closed),
        "rules": [_rule(rule) for rule in stratum.rules],
        "settings": {key: _setting(key, setting) for key, setting in stratum.settings.items()},
    }


def _rule(rule: Rule) -> dict[str, object]:
    given = {"key": rule.key, "subject": rule.subject, "reason": rule.reason, "allows": list(rule.allows), "denies": list(rule.denies)}
    return {name: value for name, value in given.items() if value} | {"origin": _origin(rule.origin)}


def _setting(key: str, setting: Setting) -> dict[str, object]:
    return {"value": setting.value, "text": value_text(key, setting.value), "origin": _origin(setting.origin)}


def _origin(origin: Origin) -> dict[str, object]:
    return {"layer": origin.layer, "file": origin.file, "line": origin.line, "column": origin.column}


def _winners(rules: tuple[Rule, ...]) -> list[Rule]:
    """One rule for each subject: the latest layer's, the narrowest within a layer. In a file all are of one layer."""
    best: dict[tuple[str, str], Rule] = {}
    for rule in rules:
        known = best.get(spelling(rule))
        if known is None or _order(rule) >= _order(known):
            best[spelling(rule)] = rule
    chosen = {id(rule) for rule in best.values()}
    return [rule for rule in rules if id(rule) in chosen]


def _order(rule: Rule) -> tuple[int, int]:
    narrow = PRECEDENCE[rule.access] if rule.key.startswith("files.") else rule.key in ("environment.withhold", "network.deny")
    return LAYERS.index(rule.origin.layer), narrow


def _list(leaf: str, items: list[str]) -> list[str]:
    short = f"{leaf} = [{', '.join(items)}]"
    if len(short) <= 100:
        return [short]
    return [f"{leaf} = [", *(f"    {item}," for item in items), "]"]


def _item(rule: Rule) -> str:
    key = KEYS[rule.key]
    subject = rule.subject if key.kind == keys.PORTS else quoted(rule.subject)
    fields = [f"{key.subject} = {subject}"]
    if rule.reason:
        fields.append(f"reason = {quoted(rule.reason)}")
    fields += [f"{name} = [{', '.join(map(quoted, given))}]" for name, given in (("allows", rule.allows), ("denies", rule.denies)) if given]
    return subject if len(fields) == 1 else f"{{ {', '.join(fields)} }}"


def _value(key: str, value: object) -> str:
    return str(value) if KEYS[key].kind == keys.COUNT else quoted(value_text(key, value))
