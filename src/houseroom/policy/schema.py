"""A JSON schema of policy files, for editors. Made from the table of keys."""

from __future__ import annotations

from houseroom.policy import keys
from houseroom.policy.keys import ITEM_FIELDS, KEYS, SECTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.policy.keys import Key

SIZE_PATTERN = "^[0-9]*[1-9][0-9]*[BKMGT]$"
DURATION_PATTERN = r"^(?=.)([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+(\.[0-9]+)?s)?$"
_NAME = "[A-Za-z_][A-Za-z0-9_]*"
CREDENTIAL_PATTERN = f"^{_NAME} [^ /]+( from (env:{_NAME}|file:~?/.+|command:.+|keyring:.+/.+))?$"


def json_schema() -> dict[str, object]:
    """The schema of a policy file (JSON Schema, draft 2020-12)."""
    sections = {
        section: {
            "type": "object",
            "description": text,
            "additionalProperties": False,
            "properties": {leaf: _key(key) for leaf, key in keys.in_section(section).items()},
        }
        for section, text in SECTIONS.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "houseroom policy",
        "type": "object",
        "additionalProperties": False,
        "properties": {"extends": _key(KEYS["extends"]), **sections},
    }


def _key(key: Key) -> dict[str, object]:
    described = {"description": key.meaning, "examples": [_example(key)]}
    if key.is_list:
        return {"type": "array", **described, "items": {"anyOf": [_subject(key), _item(key)]}}
    match key.kind:
        case keys.SIZE:
            return {"type": "string", "pattern": SIZE_PATTERN, **described}
        case keys.DURATION:
            return {"type": "string", "pattern": DURATION_PATTERN, **described}
        case keys.COUNT:
            return {"type": "integer", "minimum": 1, "maximum": 2**31 - 1, **described}
        case keys.CHOICE:
            return {"type": "string", "enum": list(key.choices), **described}
    return {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", **described}


def _subject(key: Key) -> dict[str, object]:
    if key.kind == keys.PORTS:
        return {"type": "integer", "minimum": 1, "maximum": 65535}
    if key.kind == keys.CREDENTIALS:
        return {"type": "string", "pattern": CREDENTIAL_PATTERN}
    if key.choices:
        return {"type": "string", "enum": list(key.choices)}
    return {"type": "string", "minLength": 1}


def _item(key: Key) -> dict[str, object]:
    texts = {"type": "array", "items": {"type": "string", "minLength": 1}}
    fields = {name: {**({"type": "string"} if name == "reason" else texts), "description": text} for name, text in ITEM_FIELDS.items()}
    properties = {key.subject: _subject(key), **fields}
    return {"type": "object", "additionalProperties": False, "required": [key.subject], "properties": properties}


def _example(key: Key) -> object:
    import tomllib

    return tomllib.loads(f"example = {key.example}")["example"]
