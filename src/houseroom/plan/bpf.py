"""An assembler for classic BPF as seccomp(2) takes it: labels instead of offsets, forward jumps only.

A program is a list of items ``(code, k, then, otherwise)``. ``then`` and ``otherwise`` name labels (``None``: the next
item) and are used by jumps only. It is written out from its end, because every jump leads forward: the distance
to a label is then known when the jump is met, and a jump that doesn't fit into 8 bits gets a ``JA`` put behind it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    type_label = str | int | None
    Item = tuple[int, int | str, type_label, type_label]

LD_ABS, AND, RET = 0x20, 0x54, 0x06  # BPF_LD|W|ABS, BPF_ALU|AND|K, BPF_RET|K: <linux/bpf_common.h>
JA, JEQ, JGT, JGE, JSET = 0x05, 0x15, 0x25, 0x35, 0x45  # BPF_JMP|…|K
LABEL = -1  # not an instruction: marks the place of what follows it

LONGEST = 4096  # BPF_MAXINSNS
DATA_SIZE = 64  # sizeof(struct seccomp_data)
NEAR = 255  # reach of a conditional jump, in instructions

_CONDITIONAL = frozenset((JEQ, JGT, JGE, JSET))
_PLAIN = frozenset((LD_ABS, AND, RET))


def assemble(program: Sequence[Item]) -> bytes:
    """The program as an array of ``struct sock_filter``, 8 bytes each, little-endian.

    Raises ``ValueError`` for a label that is missing, set twice, or behind the jump that names it.
    """
    written: list[bytes] = []  # from the last instruction to the first
    places: dict[int | str, int] = {}  # label → how many instructions there are from it to the end
    for code, k, then, otherwise in reversed(program):
        here = len(written)
        if code == LABEL:
            if k in places:
                raise ValueError(f"label {k!r} is set twice")
            places[k] = here
        elif code in _CONDITIONAL:
            yes = here if then is None else _place(places, then)
            no = here if otherwise is None else _place(places, otherwise)
            if here - yes > NEAR - 2 or here - no > NEAR - 2:  # 2: room for the jumps put in between
                written.append(_pack(JA, here - yes))
                written.append(_pack(JA, here + 1 - no))
                written.append(_pack(code, k, 1, 0))
            else:
                written.append(_pack(code, k, here - yes, here - no))
        elif code == JA:
            written.append(_pack(JA, 0 if then is None else here - _place(places, then)))
        elif code in _PLAIN:
            written.append(_pack(code, k))
        else:
            raise ValueError(f"{code:#x} is no instruction of a seccomp program")
    written.reverse()
    return b"".join(written)


def check(program: bytes) -> None:
    """Raises ``ValueError`` for what the kernel would refuse (bpf_check_classic and seccomp_check_filter), with the instruction's index.

    The kernel says the same with a bare EINVAL; this names the place. Not part of a start: tests run it on every program we make.
    """
    count, rest = divmod(len(program), 8)
    if rest or not 0 < count <= LONGEST:
        raise ValueError(f"a program has 1 to {LONGEST} instructions of 8 bytes, not {len(program)} bytes")
    for index, (code, yes, no, k) in enumerate(instructions(program)):
        left = count - index - 1
        if code in _CONDITIONAL:
            if yes >= left or no >= left:
                raise ValueError(f"instruction {index} jumps out of the program")
        elif code == JA:
            if k >= left:
                raise ValueError(f"instruction {index} jumps out of the program")
        elif code == LD_ABS:
            if k % 4 or k >= DATA_SIZE:
                raise ValueError(f"instruction {index} loads from offset {k}, which is not a word of struct seccomp_data")
        elif code not in _PLAIN:
            raise ValueError(f"instruction {index} has code {code:#x}, which seccomp doesn't know")
    if program[-8:-6] != RET.to_bytes(2, "little"):
        raise ValueError("the last instruction doesn't return")


def instructions(program: bytes) -> Iterable[tuple[int, int, int, int]]:
    """``(code, jt, jf, k)`` of each instruction."""
    for start in range(0, len(program), 8):
        word = int.from_bytes(program[start : start + 8], "little")
        yield word & 0xFFFF, word >> 16 & 0xFF, word >> 24 & 0xFF, word >> 32


def _pack(code: int, k: int | str, yes: int = 0, no: int = 0) -> bytes:
    if not isinstance(k, int):
        raise ValueError(f"the operand {k!r} is not a number")
    try:
        return (code | yes << 16 | no << 24 | k << 32).to_bytes(8, "little")
    except OverflowError:
        raise ValueError(f"the operand {k:#x} doesn't fit into 32 bits") from None


def _place(places: dict[int | str, int], label: int | str) -> int:
    try:
        return places[label]
    except KeyError:
        raise ValueError(f"label {label!r} is not set behind the jump to it") from None
