"""Another process's memory: process_vm_readv(2). What is read is a copy; the owner may change the original at any time."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

from _struct import pack, pack_into
from errno import EFAULT, ENAMETOOLONG

from houseroom.enforce.linux.libc_sys import Buffer, c_int, c_ulong, c_void_p, function

PATH_MAX, _PAGE, _LONGEST = 4096, 4096, 1 << 20

_process_vm_readv = function("process_vm_readv", c_int, c_void_p, c_ulong, c_void_p, c_ulong, c_ulong)

# init is single-threaded and reads one string at a time: one buffer serves all.
_BUFFER = Buffer(bytes(_PAGE))
_LOCAL, _REMOTE = Buffer(pack("QQ", _BUFFER.address, _PAGE)), Buffer(bytes(16))


def read_memory(pid: int, address: int, length: int) -> bytes:
    """Exactly ``length`` bytes. Raises OSError(EFAULT) where they are not all readable."""
    if length > _LONGEST:
        raise OSError(EFAULT, "longer than anything mediated")
    if length == 0:
        return b""
    target = Buffer(bytes(length))
    local, remote = Buffer(pack("QQ", target.address, length)), Buffer(pack("QQ", address, length))
    if _process_vm_readv(pid, local.address, 1, remote.address, 1, 0) != length:
        raise OSError(EFAULT, "short read")
    return bytes(target.bytes)


def read_string(pid: int, address: int) -> bytes:
    """A string up to its NUL. Raises OSError: EFAULT, or ENAMETOOLONG past PATH_MAX."""
    out = b""
    while True:
        # Never past a page's end, the next page may not be mapped.
        length = _PAGE - (address & (_PAGE - 1))
        pack_into("QQ", _REMOTE.bytes, 0, address, length)
        got = _process_vm_readv(pid, _LOCAL.address, 1, _REMOTE.address, 1, 0)
        end = _BUFFER.bytes.find(b"\0", 0, got)
        if end >= 0:
            out += _BUFFER.bytes[:end]
            if len(out) >= PATH_MAX:
                break
            return out
        out += _BUFFER.bytes[:got]
        if len(out) >= PATH_MAX or got < length:
            break
        address += length
    raise OSError(ENAMETOOLONG, "path too long")
