"""An interpreter of classic BPF over struct seccomp_data, written from the kernel's documentation and not from the assembler."""

from __future__ import annotations

import struct

WORDS = 1 << 32


def seccomp_data(number: int, architecture: int, *arguments: int) -> bytes:
    """struct seccomp_data: int nr; __u32 arch; __u64 instruction_pointer; __u64 args[6]."""
    padded = (*arguments, *(0,) * (6 - len(arguments)))
    return struct.pack("<IIQ6Q", number % WORDS, architecture, 0x7F0000001234, *(a % (1 << 64) for a in padded))


def run(program: bytes, data: bytes) -> int:
    """What the filter returns for this call. Raises on anything a kernel would have refused to load."""
    assert len(data) == 64
    code = list(struct.iter_unpack("<HBBI", program))
    accumulator = 0
    at = 0
    while True:
        assert 0 <= at < len(code), "ran out of the program"
        operation, if_true, if_false, k = code[at]
        at += 1
        match operation:
            case 0x20:  # A = data[k:k+4]
                assert k % 4 == 0
                assert k <= 60
                (accumulator,) = struct.unpack_from("<I", data, k)
            case 0x54:
                accumulator &= k
            case 0x05:
                at += k
            case 0x15:
                at += if_true if accumulator == k else if_false
            case 0x25:
                at += if_true if accumulator > k else if_false
            case 0x35:
                at += if_true if accumulator >= k else if_false
            case 0x45:
                at += if_true if accumulator & k else if_false
            case 0x06:
                return k
            case _:
                raise AssertionError(f"unknown instruction {operation:#x}")
