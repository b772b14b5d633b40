"""A home directory and a workspace of their own for tests that start sandboxes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty home directory with a workspace in it. Not below /tmp: that is the sandbox's own, and all of it writable."""
    base = Path.home() / ".cache"
    base.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="houseroom-test-", dir=base) as made:
        place = Path(os.path.realpath(made))
        (place / "project").mkdir()
        yield place
