"""What the tests of the command line share: the command itself, and snapshots of what it shows.

``HOUSEROOM_RENEW=1 python -m pytest tests/frontends`` writes the snapshots and docs/cli.md anew; review the diff.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "enforce"))  # for insiders

START = (sys.executable, "-I", "-S", str(Path(__file__).parents[2] / "src" / "houseroom" / "__main__.py"))
SNAPSHOTS = Path(__file__).parent / "snapshots"

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty home directory with a workspace in it. Not below /tmp: that is the sandbox's own, and all of it writable."""
    base = Path.home() / ".cache"
    base.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="houseroom-test-", dir=base) as made:
        place = Path(os.path.realpath(made))
        (place / "project").mkdir()
        yield place


@pytest.fixture
def start() -> tuple[str, ...]:
    """How the installed command starts the interpreter; running the directory instead would import runpy, 17 ms."""
    return START


@pytest.fixture
def houseroom(home: Path) -> Cli:
    """The command as a user starts it: isolated interpreter, no site, 80 columns, no colour, started in the workspace."""

    def call(*arguments: str | bytes, cwd: Path | None = None, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*START, *arguments],
            cwd=cwd or home / "project",
            env={"PATH": os.defpath, "HOME": str(home), "COLUMNS": "80", "NO_COLOR": "1", "LC_ALL": "C.UTF-8", **environment},
            input=stdin,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=60,
            check=False,
        )

    return call


@pytest.fixture
def same_as_file() -> Callable[[Path, str], None]:
    """Compare a text with a file of the repository; under HOUSEROOM_RENEW=1 write the file."""

    def compare(file: Path, text: str) -> None:
        if os.environ.get("HOUSEROOM_RENEW") == "1":
            file.write_text(text, encoding="utf-8")
        known = file.read_text(encoding="utf-8") if file.exists() else ""
        assert text == known, f"{file.name} differs; if the change is meant: HOUSEROOM_RENEW=1 python -m pytest tests/frontends"

    return compare


@pytest.fixture
def snapshot(same_as_file: Callable[[Path, str], None]) -> Callable[[str, str], None]:
    """Compare a text with tests/frontends/snapshots/NAME.txt."""
    return lambda name, text: same_as_file(SNAPSHOTS / f"{name}.txt", text.rstrip("\n") + "\n")
