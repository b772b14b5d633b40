"""Landlock's rights by name: the bits are the kernel's, and an older kernel loses exactly what came later."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from houseroom.plan import landlock

HEADER = Path("/usr/include/linux/landlock.h")
ABIS = range(landlock.NEWEST_ABI + 1)
MAKES_A_NAME = {"make_reg", "make_dir", "make_sock", "make_sym", "make_fifo", "make_char", "make_block", "refer"}


@pytest.mark.parametrize(
    ("abi", "expected"),
    [
        (0, (0, 0, 0)),
        (1, (0x1FFF, 0, 0)),
        (2, (0x3FFF, 0, 0)),
        (3, (0x7FFF, 0, 0)),
        (4, (0x7FFF, 3, 0)),
        (5, (0xFFFF, 3, 0)),
        (6, (0xFFFF, 3, 3)),
        (7, (0xFFFF, 3, 3)),
        (99, (0xFFFF, 3, 3)),
    ],
)
def test_a_ruleset_handles_all_that_the_abi_knows(abi: int, expected: tuple[int, int, int]) -> None:
    assert landlock.handled(abi) == expected


@pytest.mark.parametrize("abi", ABIS)
@pytest.mark.parametrize("names", [landlock.READ, landlock.WRITE_IN_PLACE, landlock.FULL, landlock.ON_FILES])
def test_granted_bits_are_never_more_than_the_handled_ones(names: tuple[str, ...], abi: int) -> None:
    assert landlock.bits(names, abi) & ~landlock.handled(abi)[0] == 0  # the kernel would say EINVAL
    assert landlock.bits(names, abi) == sum(landlock.bits((name,), abi) for name in names)


def test_the_sets_grow() -> None:
    assert set(landlock.READ) < set(landlock.WRITE_IN_PLACE) < set(landlock.FULL)
    assert set(landlock.FULL) - set(landlock.WRITE_IN_PLACE) == MAKES_A_NAME
    for abi in ABIS:
        assert landlock.bits(landlock.FULL, abi) == landlock.handled(abi)[0]


def test_only_file_rights_have_file_bits() -> None:
    for name in ("connect_tcp", "signal", "fly"):
        with pytest.raises(KeyError, match=name):
            landlock.bits((name,), landlock.NEWEST_ABI)


def test_what_an_abi_lacks_is_told_until_nothing_is_lacking() -> None:
    told = [landlock.lacks(abi) for abi in ABIS]
    assert "no Landlock" in told[0][0]
    assert [len(lost) for lost in told] == [1, 5, 4, 3, 2, 1, 0, 0]
    for abi in ABIS[1:]:
        grown = landlock.handled(abi) != landlock.handled(abi - 1)
        assert (landlock.lacks(abi) != landlock.lacks(abi - 1)) == grown


@pytest.mark.skipif(not HEADER.exists(), reason="no kernel headers")
def test_bits_are_the_kernels() -> None:
    found = re.findall(r"#define LANDLOCK_(ACCESS_FS|ACCESS_NET|SCOPE)_(\w+)\s+\(1ULL << (\d+)\)", HEADER.read_text(encoding="utf-8"))
    kinds = {"ACCESS_FS": landlock.FILES, "ACCESS_NET": landlock.NETWORK, "SCOPE": landlock.SCOPE}
    header = {(kinds[kind], name.lower()): 1 << int(shift) for kind, name, shift in found}
    mine = {(kind, name): bit for kind, name, bit, _since, _governs in landlock.RIGHTS}
    assert found
    assert {key: bit for key, bit in header.items() if mine.get(key, bit) != bit} == {}
