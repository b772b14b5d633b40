from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from houseroom.errors import PolicyError
from houseroom.policy.keys import KEYS, TABLE
from houseroom.policy.layers import Document
from houseroom.policy.parse import parse

WHOLE = """\
extends = "read-only"

[files]
write = ["src", { path = "~/notes", reason = "mine", allows = ["~/notes/a"], denies = ["write /etc/x"] }]
hide = []

[network]
reach = "none"
publish = [8000, { port = 9000 }]

[limits]
memory = "4G"
time = "1h30m"
processes = 512

[floor]
require = ["files.hide", { rule = "network", reason = "no leaks" }]
"""


def read(text: str, layer: str = "user") -> Document:
    return parse(text, layer=layer, file="policy.toml")


def test_a_whole_document() -> None:
    document = read(WHOLE)
    assert (document.extends, str(document.extends_origin)) == ("read-only", "policy.toml:1")
    shown = [(str(rule), rule.origin.line, rule.origin.column) for rule in document.rules]
    assert shown == [
        ("files.write src", 4, 10),
        ("files.write ~/notes", 4, 17),
        ("network.publish 8000", 9, 12),
        ("network.publish 9000", 9, 18),
    ]
    noted = document.rules[1]
    assert (noted.reason, noted.allows, noted.denies) == ("mine", ("~/notes/a",), ("write /etc/x",))
    assert {key: setting.value for key, setting in document.settings.items()} == {
        "network.reach": "none",
        "limits.memory": 4 << 30,
        "limits.time": 5400.0,
        "limits.processes": 512,
    }
    assert document.settings["limits.time"].origin.line == 13
    assert document.closed == {"files.write", "files.hide", "network.publish"}
    assert [str(rule) for rule in document.floor] == ["floor.require files.hide", "floor.require network"]


def test_an_empty_document_says_nothing() -> None:
    assert read("") == Document("user", "policy.toml")


@pytest.mark.parametrize("key", TABLE, ids=lambda key: key.name)
def test_the_example_of_every_key_is_right(key: object) -> None:
    assert key in TABLE
    section = f"[{key.section}]\n" if key.section else ""  # type: ignore[attr-defined]
    document = read(f"{section}{key.leaf} = {key.example}\n")  # type: ignore[attr-defined]
    assert document.rules or document.settings or document.floor or document.extends


MISTAKES = {
    "misspelt key": '[files]\nwirte = ["src"]',
    "misspelt section": "[file]\nread = []",
    "misspelt top key": 'extend = "workspace"',
    "key of another section": '[files]\nmemory = "4G"',
    "key without its section": 'hide = ["~/.ssh"]',
    "extends in a section": '[files]\nextends = "workspace"',
    "nothing near": "[zebra]\n",
    "section as a value": 'files = "all"',
    "array of sections": "[[files]]\nread = []",
    "one text for a list": '[files]\nwrite = "src"',
    "true for a list": "[files]\nwrite = true",
    "number in a list": '[files]\nhide = [\n  "~/.ssh",\n  42,\n]',
    "empty path": '[files]\nhide = [""]',
    "dots": '[files]\nwrite = ["../other"]',
    "placeholder": '[files]\nwrite = ["{worskpace}/x"]',
    "braces": '[files]\nhide = ["**/*.{pem,key}"]',
    "shell variable": '[files]\nhide = ["$HOME/.ssh"]',
    "another's home": '[files]\nhide = ["~root/.ssh"]',
    "space": '[files]\nhide = [" ~/.ssh"]',
    "negation": '[files]\nwrite = ["!src"]',
    "control character": '[files]\nhide = ["a\\u001Bb"]',
    "item without subject": '[files]\nhide = [{ reason = "mine" }]',
    "misspelt field": '[files]\nhide = [{ path = "x", raeson = "mine" }]',
    "field of another list": '[network]\nallow = [{ path = "pypi.org" }]',
    "reason of a wrong type": '[files]\nhide = [{ path = "x", reason = 1 }]',
    "examples of a wrong type": '[files]\nhide = [{ path = "x", denies = "x" }]',
    "empty example": '[files]\nhide = [{ path = "x", denies = [" "] }]',
    "size without unit": "[limits]\nmemory = 4",
    "size with a wrong unit": '[limits]\nmemory = "4GB"',
    "size of nothing": '[limits]\ndisk = "0G"',
    "duration without unit": "[limits]\ntime = 600",
    "duration in words": '[session]\nexpires = "tomorrow"',
    "count of nothing": "[limits]\nprocesses = 0",
    "count as text": '[limits]\nprocesses = "512"',
    "true as a count": "[limits]\nprocesses = true",
    "misspelt choice": '[network]\nreach = "opne"',
    "list for a choice": '[git]\nmode = ["free"]',
    "no such floor": '[floor]\nrequire = ["file.hide"]',
    "port too great": "[network]\npublish = [70000]",
    "port as text": '[network]\npublish = ["8000"]',
    "page for a host": '[network]\nallow = ["https://pypi.org/"]',
    "variable with a value": '[environment]\npass = ["A=1"]',
    "extends a path": 'extends = "../../evil"',
    "extends nothing": 'extends = ""',
    "date": "[limits]\ntime = 2026-11-23",
    "tabs before": '[files]\n\t\twirte = ["src"]',
    "after wide characters": '[files]\nhide = ["žluťoučký", "../x"]',
    "not TOML": "[files]\nread = [",
    "not TOML either": "[files]\nread = /etc",
    "twice": "[files]\nread = []\nread = []",
    "byte order mark": "\ufeff[files]\n",
}


def test_messages(golden: Callable[[str, str], None]) -> None:
    shown = []
    for name, text in MISTAKES.items():
        with pytest.raises(PolicyError) as caught:
            read(text)
        shown.append(f"── {name}\n{caught.value}\n")
    golden("messages.txt", "\n".join(shown))


@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_has_a_place_and_a_line(name: str) -> None:
    with pytest.raises(PolicyError) as caught:
        read(MISTAKES[name])
    error = caught.value
    assert error.file == "policy.toml"
    lines = MISTAKES[name].split("\n")
    assert 1 <= error.line <= len(lines)
    assert 1 <= error.column <= len(lines[error.line - 1]) + 1
    assert len(error.text) == len(lines[error.line - 1])


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 100_000, "a = " + "9" * 10_000, "a." * 2000 + "a = 1", "[files]\nread = " + "[" * 300 + "]" * 300]
)
def test_hostile_text_is_a_policy_error(text: str) -> None:
    with pytest.raises(PolicyError):
        read(text)


def test_an_error_shows_no_terminal_commands() -> None:
    for text in (
        "a = \x1b[31m",
        '"\x1b]0;x\x07" = 1',
        '"\\u001b[2J" = 1',
        '[files]\nhide = ["\\u001b[2J"]',
        '[network]\nreach = "\\u001b[2J"',
    ):
        with pytest.raises(PolicyError) as caught:
            read(text)
        assert "\x1b" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_a_document_or_a_policy_error(text: str) -> None:
    try:
        read(text)
    except PolicyError as error:
        assert str(error)  # noqa: PT017 — both outcomes are right


@given(st.sampled_from(sorted(KEYS)), st.data())
def test_a_misspelt_key_is_suggested(name: str, data: st.DataObject) -> None:
    key = KEYS[name]
    if not key.section or len(key.leaf) < 4:
        return
    at = data.draw(st.integers(0, len(key.leaf) - 2))
    swapped = key.leaf[:at] + key.leaf[at + 1] + key.leaf[at] + key.leaf[at + 2 :]
    if swapped == key.leaf:
        return
    with pytest.raises(PolicyError) as caught:
        read(f"[{key.section}]\n{swapped} = {key.example}")
    assert f'"{key.leaf}"' in caught.value.hint
