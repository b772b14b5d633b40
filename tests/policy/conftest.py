"""What the tests of the policy share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for policy_strategies


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Compare a text with a file in ``golden``; under HOUSEROOM_RENEW=1 write the file."""

    def compare(name: str, text: str) -> None:
        file = Path(__file__).parent / "golden" / name
        if os.environ.get("HOUSEROOM_RENEW") == "1":
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
        known = file.read_text(encoding="utf-8") if file.exists() else ""
        assert text == known, f"{name} differs; if the change is meant: HOUSEROOM_RENEW=1 python -m pytest tests/policy"

    return compare
