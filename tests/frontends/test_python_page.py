"""The examples of docs/python.md do what the page says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("linux", "userns")

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_its_examples_are_true(home: Path) -> None:
    examples = home / "page.txt"  # without the marks around a block, which would be part of what is expected
    examples.write_text("".join(line for line in PAGE.read_text().splitlines(keepends=True) if not line.startswith("```")))
    argv = [sys.executable, "-m", "doctest", "-o", "FAIL_FAST", str(examples)]
    done = subprocess.run(argv, cwd=home / "project", env=_of(home), capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    assert (home / "project" / "note").read_text() == "hello\n"


def _of(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PYTHONPATH": str(PAGE.parents[1] / "src")}
