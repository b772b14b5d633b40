"""Help, docs/cli.md, and what is said about a mistaken command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from houseroom import __version__
from houseroom.frontends.cli import manual
from houseroom.frontends.cli.commands import SPECS
from houseroom.frontends.cli.paper import Paper

Snapshot = Callable[[str, str], None]
REFERENCE = Path(__file__).parents[2] / manual.REFERENCE


@pytest.mark.parametrize("name", ["", "policy", *SPECS])
def test_help(houseroom: Callable[..., object], snapshot: Snapshot, name: str) -> None:
    done = houseroom("help", *name.split())
    assert done.returncode == 0
    assert done.stderr == ""
    assert max(map(len, done.stdout.split("\n"))) <= 80
    snapshot(f"help-{name.replace(' ', '-') or 'overview'}", done.stdout)


@pytest.mark.parametrize("name", SPECS)
def test_help_is_the_same_by_option(houseroom: Callable[..., object], name: str) -> None:
    assert houseroom(*name.split(), "--help").stdout == houseroom("help", *name.split()).stdout


def test_alone_it_prints_the_overview(houseroom: Callable[..., object]) -> None:
    alone = houseroom()
    assert alone.returncode == 0
    assert alone.stdout == houseroom("--help").stdout


def test_version(houseroom: Callable[..., object]) -> None:
    assert houseroom("--version").stdout == f"houseroom {__version__}\n"


MISTAKES = {
    "option": ["run", "--raed", "/x", "--", "true"],
    "command": ["exlpain", "/x"],
    "program": ["pytest"],
    "nothing-to-run": ["run", "--quiet"],
    "group": ["policy", "shwo"],
    "choice": ["run", "--net", "some", "true"],
    "limit": ["run", "--limit", "proceses=4", "true"],
    "limit-value": ["run", "--limit", "processes=many", "true"],
    "duration": ["run", "--time", "10 minutes", "true"],
    "accept": ["run", "--accept", "file.hide", "true"],
    "verb": ["explain", "wriet", "/x"],
    "verb-alone": ["explain", "variable"],
    "topic": ["help", "runn"],
    "global-option": ["--quiet", "run", "true"],
    "escape-sequence": ["run", "--\x1b[31mred", "true"],
}


def test_mistakes(houseroom: Callable[..., object], snapshot: Snapshot) -> None:
    """Each is exit code 2, says nothing on standard output, and names what would be right."""
    shown = []
    for name, arguments in MISTAKES.items():
        done = houseroom(*arguments)
        assert (done.returncode, done.stdout) == (2, ""), name
        typed = " ".join(arguments).replace("\x1b", "<escape>")
        shown.append(f"$ houseroom {typed}\n{done.stderr}")
    snapshot("mistakes", "\n".join(shown))


def test_errors_are_coloured_only_where_that_is_wanted(houseroom: Callable[..., object]) -> None:
    assert "\x1b" not in houseroom("pytest", NO_COLOR="").stderr  # a pipe is no terminal


def test_the_reference_is_current(same_as_file: Callable[[Path, str], None]) -> None:
    same_as_file(REFERENCE, manual.reference())


def test_every_option_is_in_the_reference() -> None:
    text = manual.reference()
    for spec in SPECS.values():
        assert f"## houseroom {spec.name}\n" in text
        assert all(manual.spelling(option) in text for option in spec.options)


def test_narrow_terminals_wrap() -> None:
    for name in ("", *SPECS):
        lines = manual.about(name, Paper(60, colour=False)).split("\n")
        assert all(len(line) <= 60 or line.startswith(("  houseroom", "  #")) for line in lines)
