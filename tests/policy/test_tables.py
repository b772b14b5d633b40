"""The default tables: every row gives its reason, none stands twice, and the page for people is current."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from houseroom.policy import caches, pattern, presets, protections, secrets, tables, variables
from houseroom.policy.model import Places

PLACES = Places("/home/ada/project", "/home/ada", user=1000)
HIDDEN = [row for group in (*secrets.HOME, *secrets.HOST, *secrets.WORKSPACE, *secrets.DARWIN) for row in group[2]]
PAGE = Path(__file__).parents[2] / "docs" / "defaults.md"
TABLES = {
    "hidden": HIDDEN,
    "examples": list(secrets.EXAMPLES),
    "protections": [*protections.WORKSPACE, *protections.HOME],
    "git free": list(protections.GIT_FREE),
    "caches": list(caches.CACHES),
    "private": list(presets.PRIVATE),
    "run": list(presets.RUN),
    "withheld": list(variables.WITHHELD),
    "passed": list(variables.PASSED),
    "floor": list(presets.FLOOR),
}
PATHS = ("hidden", "examples", "protections", "git free", "caches", "private", "run")


@pytest.mark.parametrize("name", TABLES)
def test_every_row_gives_a_reason(name: str) -> None:
    for row in TABLES[name]:
        reason = row[-1] if name == "caches" else row[1]
        assert len(reason) > 3, row
        assert not reason.endswith("."), row


@pytest.mark.parametrize("name", TABLES)
def test_no_row_stands_twice(name: str) -> None:
    assert [subject for subject, times in Counter(row[0] for row in TABLES[name]).items() if times > 1] == []


@pytest.mark.parametrize("name", PATHS)
def test_every_pattern_places(name: str) -> None:
    for row in TABLES[name]:
        assert pattern.place(row[0], PLACES).parts, row


def test_every_group_says_what_it_breaks() -> None:
    assert all(title and breaks for title, breaks, _ in (*secrets.HOME, *secrets.HOST, *secrets.WORKSPACE, *secrets.DARWIN))
    assert all(breaks for _, _, breaks in protections.WORKSPACE)


@pytest.mark.parametrize("name", PATHS)
def test_wildcards_stay_in_the_workspace(name: str) -> None:
    """Nobody searches a whole home or / for matches at every start."""
    outside = [row[0] for row in TABLES[name] if row[0][0] in "~/{"]
    assert [subject for subject in outside if pattern.is_glob(subject)] == []


def test_no_hidden_row_lies_below_another() -> None:
    """It would say nothing, and cost a look at the host at every start."""
    placed = {pattern.place(subject, PLACES).parts: subject for subject, _ in HIDDEN}
    below = [subject for parts, subject in placed.items() if any(parts[:at] in placed for at in range(1, len(parts)))]
    assert below == []


def test_no_path_is_in_two_tables() -> None:
    """Precedence would settle it, and a reader would not know which row to believe."""
    rows = [row[0] for name in PATHS for row in TABLES[name]]
    assert [subject for subject, times in Counter(rows).items() if times > 1] == []


def test_no_cache_lies_below_a_hidden_directory_or_another_cache() -> None:
    taken = {pattern.place(row[0], PLACES).parts for row in (*HIDDEN, *caches.CACHES)}
    placed = {row[0]: pattern.place(row[0], PLACES).parts for row in caches.CACHES}
    assert [path for path, parts in placed.items() if any(parts[:at] in taken for at in range(1, len(parts)))] == []


def test_the_page_is_current() -> None:
    command = "python -c 'from houseroom.policy.tables import render_defaults; print(render_defaults(), end=str())' > docs/defaults.md"
    assert PAGE.read_text(encoding="utf-8") == tables.render_defaults(), f"docs/defaults.md is out of date: {command}"
