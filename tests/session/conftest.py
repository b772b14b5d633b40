"""A home directory and a workspace of their own for tests that start sandboxes."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "enforce")]  # for inspection_kit, authority_kit


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty home directory with a workspace in it. Not below /tmp: that is the sandbox's own, and all of it writable."""
    base = Path.home() / ".cache"
    base.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="houseroom-test-", dir=base) as made:
        place = Path(os.path.realpath(made))
        (place / "project").mkdir()
        yield place
