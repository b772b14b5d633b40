"""What a failed command is followed by. That it is followed by it, and when, is in tests/enforce/test_observe.py."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

pytest.importorskip("fcntl")  # only Linux has a command line yet

from houseroom.frontends.cli import denials
from houseroom.frontends.cli.paper import Paper
from houseroom.policy.denials import CREATE_FIRST, Denial
from houseroom.policy.model import Places

Snapshot = Callable[[str, str], None]

WHERE = Places("/home/ada/project", "/home/ada")
PLAIN = "it is readable and not writable"
SEVERAL = (
    Denial(
        "write", "/home/ada/other/my notes", "files.read /", "built in", PLAIN, ("--write", "/home/ada/other/my notes"), "", ("x",), ("sh",)
    ),
    Denial(
        "write",
        "/home/ada/project/.git",
        "files.protect **/.git",
        "built in",
        "hooks and config run programs at your next git command",
        ("--git", "free"),
        "",
        ("/home/ada/project/.git/index.lock", "/home/ada/project/.git/config"),
        ("git",),
    ),
    Denial(
        "connect",
        "3 addresses",
        "network.reach none",
        "built in",
        "the network is closed",
        ("--net", "open"),
        "",
        ("192.0.2.1:443", "192.0.2.2:443", "[2001:db8::1]:443"),
        ("curl", "node"),
    ),
    Denial(
        "read",
        "/home/ada/.ssh/id",
        "files.hide ~/.ssh",
        "built in",
        "private keys log in as you",
        ("--read", "/home/ada/.ssh/id"),
        "",
        ("x",),
    ),
    Denial(
        "write", "/home/ada/.tool", "files.read /", "/home/ada/.config/houseroom/policy.toml:3", PLAIN, (), CREATE_FIRST, ("x",), ("tool",)
    ),
    Denial("write", "/etc/hosts", "files.read /", "built in", PLAIN, ("--write", "/etc/hosts"), "", ("x",)),
)


def test_several(snapshot: Snapshot) -> None:
    text = denials.as_text(SEVERAL, WHERE, Paper(80, colour=False), most=denials.MOST, lost=7)
    assert max(map(len, text.split("\n"))) <= 80
    snapshot("denials-several", text)


def test_one_with_a_name_that_speaks_to_the_terminal(snapshot: Snapshot) -> None:
    path = "/home/ada/other/\x1b[2J\nrm -rf"
    one = Denial("write", path, "files.read /", "built in", PLAIN, ("--write", path), "", (path,), ("\x1b]0;title\x07",))
    text = denials.as_text((one,), WHERE, Paper(80, colour=False), most=denials.MOST)
    assert all(line.isprintable() for line in text.split("\n"))
    assert len(text.split("\n")) == 4, "no line of its own making"
    snapshot("denials-strange", text)


def test_in_colour_the_words_are_the_same() -> None:
    plain, coloured = (denials.as_text(SEVERAL, WHERE, Paper(80, colour=colour), most=3) for colour in (False, True))
    bare = coloured
    for code in ("\x1b[36m", "\x1b[0m"):
        bare = bare.replace(code, "")
    assert bare == plain
    assert coloured != plain


def test_what_nobody_misses_is_told_only_alone() -> None:
    loud, lock, cache = SEVERAL[0], SEVERAL[1].with_(noise=1), SEVERAL[5].with_(noise=2)
    assert denials.telling((loud, lock, cache)) == (loud,)
    assert denials.telling((lock, cache)) == (lock,)
    assert denials.telling((cache,)) == ()
    assert denials.telling(()) == ()


def test_json_has_all_of_it() -> None:
    document = json.loads(json.dumps(denials.as_document(SEVERAL)))
    assert [entry["path"] for entry in document] == [denial.path for denial in SEVERAL]
    assert set(document[0]) == set(Denial.__match_args__)
