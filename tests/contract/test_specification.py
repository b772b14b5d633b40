"""Each promise of SPECIFICATION.md names a test or benchmark that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "SPECIFICATION.md"
LINK = re.compile(r"\]\(([^)#\s]+)(?:#([^)\s]+))?\)")


def promises(page: str) -> list[str]:
    """The rows of the tables, without their heads."""
    rows = [line for line in page.splitlines() if line.startswith("|") and not set(line) <= set("|- ")]
    return [row for row in rows if row != "| promise | kept by |"]


def faults(page: str) -> list[str]:
    """What is wrong with each promise, in words; empty where all is well."""
    found = []
    for row in promises(page):
        _, promise, kept_by, _ = re.split(r"(?<!\\)\|", row)
        links = LINK.findall(kept_by)
        if not links:
            found.append(f"{promise.strip()}: no test is named")
        for path, name in links:
            if not (ROOT / path).is_file():
                found.append(f"{promise.strip()}: there is no {path}")
            elif path.startswith("tests/") and name not in functions(ROOT / path):
                found.append(f"{promise.strip()}: there is no {name or 'test named'} in {path}")
    return found


def functions(path: Path) -> set[str]:
    """The names of a module's tests."""
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_promise_names_tests_that_exist() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert len(promises(page)) > 50
    assert not faults(page), "\n".join(faults(page))


@pytest.mark.parametrize(
    ("kept_by", "fault"),
    [
        ("by hope", "no test is named"),
        ("[a](tests/contract/test_nothing.py#test_a)", "there is no tests/contract/test_nothing.py"),
        ("[a](tests/contract/test_rings.py#test_no_such)", "there is no test_no_such in"),
        ("[a](tests/contract/test_rings.py)", "there is no test named in"),
    ],
)
def test_a_promise_without_its_test_is_found(kept_by: str, fault: str) -> None:
    (found,) = faults(f"| promise | kept by |\n|---|---|\n| it holds | {kept_by} |\n")
    assert fault in found


def test_no_test_of_the_enforcement_is_forgotten() -> None:
    """A file of tests/enforce that keeps no promise is one that nobody would miss."""
    page = PAGE.read_text(encoding="utf-8")
    forgotten = [path.name for path in sorted((ROOT / "tests/enforce").glob("test_*.py")) if f"tests/enforce/{path.name}#" not in page]
    assert not forgotten
