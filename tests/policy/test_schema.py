"""The schema is checked by a small validator of the words it uses, so that no package is needed for it."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest
from test_parse import MISTAKES, WHOLE

from houseroom.errors import PolicyError
from houseroom.policy import credentials, units
from houseroom.policy.keys import TABLE, reference
from houseroom.policy.schema import CREDENTIAL_PATTERN, DURATION_PATTERN, SIZE_PATTERN, json_schema

TYPES: dict[str, Any] = {"object": dict, "array": list, "string": str, "integer": int}
WORDS = {
    "$schema", "title", "type", "description", "examples", "additionalProperties", "properties", "required", "items", "anyOf", "enum",
    "pattern", "minimum", "maximum", "minLength",
}  # fmt: skip


def fits(schema: dict[str, Any], value: Any) -> bool:
    assert set(schema) <= WORDS
    if "anyOf" in schema:
        return any(fits(each, value) for each in schema["anyOf"])
    if not isinstance(value, TYPES[schema["type"]]) or isinstance(value, bool):
        return False
    match value:
        case dict():
            properties = schema["properties"]
            whole = set(schema.get("required", ())) <= set(value) <= set(properties)
            return whole and all(fits(properties[name], each) for name, each in value.items())
        case list():
            return all(fits(schema["items"], each) for each in value)
        case str():
            long_enough = len(value) >= schema.get("minLength", 0)
            return long_enough and value in schema.get("enum", [value]) and re.search(schema.get("pattern", ""), value) is not None
    return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))


def test_the_schema_is_json_and_names_every_key() -> None:
    schema = json.loads(json.dumps(json_schema()))
    for key in TABLE:
        section = schema["properties"][key.section]["properties"] if key.section else schema["properties"]
        assert section[key.leaf]["description"] == key.meaning
        assert all(fits(section[key.leaf], example) for example in section[key.leaf]["examples"])


def test_a_right_document_fits() -> None:
    assert fits(json_schema(), tomllib.loads(WHOLE))


# What a schema can't say: these are found by the parser only.
BEYOND = {
    "dots", "after wide characters", "placeholder", "braces", "shell variable", "another's home", "space", "negation",
    "control character", "page for a host", "variable with a value", "empty example",
}  # fmt: skip
SYNTAX = {"not TOML", "not TOML either", "twice", "byte order mark", "date"}


@pytest.mark.parametrize("name", sorted(set(MISTAKES) - BEYOND - SYNTAX))
def test_a_mistake_does_not_fit(name: str) -> None:
    assert not fits(json_schema(), tomllib.loads(MISTAKES[name]))


@pytest.mark.parametrize("text", ["4G", "0G", "007K", "4GB", "", "1.5G", "8h", "1h30m", "30m1h", "0.5s", "1.5h", "90", "2d1s"])
def test_patterns_agree_with_the_parser(text: str) -> None:
    for parse, pattern in ((units.parse_size, SIZE_PATTERN), (units.parse_duration, DURATION_PATTERN)):
        try:
            parse(text)
        except units.NotAUnitError:
            assert re.search(pattern, text) is None
        else:
            assert re.search(pattern, text)


@pytest.mark.parametrize("head", ["T x.org", "_t9 x.org:8443", "9T x.org", "T-x x.org", "T", "T  x.org", " T x.org"])
@pytest.mark.parametrize(
    "tail",
    ["", " from env:A", " from env:", " from env:A-B", " from file:/a b", " from file:~/a", " from file:~a", " from file:a", " from file:",
     " from command:gh auth 'x y'", " from command:", " from keyring:https://x.org/ann", " from keyring:ann", " from keyring:/ann",
     " from ", " from", " from gh", " file:/a", " from files:/a"],
)  # fmt: skip
def test_the_pattern_of_credentials_agrees_with_the_parser(head: str, tail: str) -> None:
    try:
        credentials.parse(head + tail)
    except PolicyError:
        assert re.search(CREDENTIAL_PATTERN, head + tail) is None
    else:
        assert re.search(CREDENTIAL_PATTERN, head + tail)


def test_the_reference_names_every_key() -> None:
    page = reference()
    assert all(f"`{key.leaf} = {key.example}`" in page for key in TABLE)
