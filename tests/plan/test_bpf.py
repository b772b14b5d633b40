"""The assembler: labels, far jumps, and what the kernel would refuse."""

from __future__ import annotations

import random
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from houseroom.plan import bpf

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bpf_simulator import run, seccomp_data  # found through the line above

ARCHITECTURE = 0xC000003E
CONDITIONS = {
    bpf.JEQ: lambda a, k: a == k,
    bpf.JGT: lambda a, k: a > k,
    bpf.JGE: lambda a, k: a >= k,
    bpf.JSET: lambda a, k: a & k != 0,
}


def follow(items: list[bpf.Item], data: bytes) -> int:
    """The program's meaning by its labels, without ever making it a program."""
    places = {item[1]: index for index, item in enumerate(items) if item[0] == bpf.LABEL}
    accumulator, at = 0, 0
    while True:
        code, k, then, otherwise = items[at]
        at += 1
        if code == bpf.RET:
            return int(k)
        if code == bpf.LD_ABS:
            (accumulator,) = struct.unpack_from("<I", data, int(k))
        elif code == bpf.AND:
            accumulator &= int(k)
        elif code == bpf.JA:
            at = at if then is None else places[then]
        elif code in CONDITIONS:
            target = then if CONDITIONS[code](accumulator, k) else otherwise
            at = at if target is None else places[target]


def some_program(seed: int, length: int) -> list[bpf.Item]:
    """A random program whose jumps lead to any later label, near or far."""
    chance = random.Random(seed)
    items: list[bpf.Item] = []
    for index in range(length):
        later = [None, *range(index + 1, length + 1)]
        far, near = chance.choice(later), chance.choice(later[:4])
        then, otherwise = chance.choice([(far, near), (near, far), (far, far), (near, near), (None, far), (far, None)])
        items.append((bpf.LABEL, index, None, None))
        items.append(
            chance.choice(
                [
                    (bpf.LD_ABS, 4 * chance.randrange(16), None, None),
                    (bpf.AND, chance.getrandbits(32), None, None),
                    (bpf.JA, 0, near, None),
                    (bpf.RET, index, None, None) if chance.random() < 0.2 else (bpf.JEQ, chance.randrange(4), then, otherwise),
                    (bpf.JGE, chance.getrandbits(32), then, otherwise),
                    (bpf.JGT, chance.getrandbits(32), then, otherwise),
                    (bpf.JSET, 1 << chance.randrange(32), then, otherwise),
                ]
            )
        )
    return [*items, (bpf.LABEL, length, None, None), (bpf.RET, 0x7FFF0000, None, None)]


@given(st.integers(0, 1 << 32), st.integers(1, 900), st.lists(st.integers(0, 2**64 - 1), min_size=6, max_size=6))
def test_a_program_means_what_its_labels_say(seed: int, length: int, arguments: list[int]) -> None:
    items = some_program(seed, length)
    program = bpf.assemble(items)
    bpf.check(program)
    data = seccomp_data(seed % 500, ARCHITECTURE, *arguments)
    assert run(program, data) == follow(items, data)


@pytest.mark.parametrize("distance", [0, 1, 252, 253, 254, 255, 256, 257, 3000])
@pytest.mark.parametrize("far", ["then", "otherwise", "both"])
def test_a_jump_reaches_any_distance(distance: int, far: str) -> None:
    filler: list[bpf.Item] = [(bpf.AND, 0, None, None)] * distance
    then = "end" if far != "otherwise" else "here"
    otherwise = "end" if far != "then" else "here"
    items: list[bpf.Item] = [
        (bpf.LD_ABS, 0, None, None),
        (bpf.JEQ, 7, then, otherwise),
        (bpf.LABEL, "here", None, None),
        (bpf.RET, 1, None, None),
        *filler,
        (bpf.LABEL, "end", None, None),
        (bpf.RET, 2, None, None),
    ]
    program = bpf.assemble(items)
    bpf.check(program)
    for number in (7, 8):
        assert run(program, seccomp_data(number, ARCHITECTURE)) == follow(items, seccomp_data(number, ARCHITECTURE))


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([(bpf.JA, 0, "nowhere", None), (bpf.RET, 0, None, None)], "'nowhere' is not set"),
        ([(bpf.LABEL, "back", None, None), (bpf.JA, 0, "back", None), (bpf.RET, 0, None, None)], "'back' is not set behind"),
        ([(bpf.LABEL, "a", None, None), (bpf.LABEL, "a", None, None), (bpf.RET, 0, None, None)], "'a' is set twice"),
        ([(bpf.RET, 1 << 32, None, None)], "doesn't fit"),
        ([(bpf.RET, -1, None, None)], "doesn't fit"),
        ([(bpf.RET, "allow", None, None)], "not a number"),
        ([(0x99, 0, None, None)], "no instruction"),
    ],
)
def test_a_mistake_is_named(items: list[bpf.Item], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        bpf.assemble(items)


def instruction(code: int, yes: int = 0, no: int = 0, k: int = 0) -> bytes:
    return struct.pack("<HBBI", code, yes, no, k)


RETURN = instruction(bpf.RET)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (b"", "1 to 4096"),
        (RETURN[:7], "1 to 4096"),
        (RETURN * 4097, "1 to 4096"),
        (instruction(bpf.LD_ABS, k=64) + RETURN, "offset 64"),
        (instruction(bpf.LD_ABS, k=2) + RETURN, "offset 2"),
        (instruction(bpf.JA, k=1) + RETURN, "instruction 0 jumps out"),
        (instruction(bpf.JEQ, yes=1) + RETURN, "instruction 0 jumps out"),
        (instruction(bpf.JEQ, no=1) + RETURN, "instruction 0 jumps out"),
        (instruction(0x28) + RETURN, "0x28"),  # a half word
        (instruction(bpf.LD_ABS), "doesn't return"),
    ],
)
def test_what_the_kernel_would_refuse_is_found(program: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        bpf.check(program)


def test_the_longest_program_is_accepted() -> None:
    bpf.check(RETURN * 4096)
