"""Modes, owners, times, attributes and inode flags of read-only paths can't change; ctime would show even a change back."""

from __future__ import annotations

import attack_write
import pytest
from probe_kit import listed
from runner import Bench
from test_files_write import METADATA, WITH_DESCRIPTOR, WITH_STDIN

pytestmark = pytest.mark.needs("userns")

WAYS = [
    name
    for name in listed(vars(attack_write), "attack_write")
    if any(word in name for word in METADATA) and name not in WITH_DESCRIPTOR | WITH_STDIN
]


@pytest.mark.parametrize("way", WAYS)
def test_metadata_outside(bench: Bench, way: str) -> None:
    bench.twin(bench.probe("attack_write", way), bench.outside())
