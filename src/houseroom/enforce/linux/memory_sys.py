"""Another process's memory: process_vm_readv(2). What is read is a copy; the owner may change the original at any time."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

from ctypes import addressof, create_string_buffer, memset, string_at
from errno import EFAULT, ENAMETOOLONG
from struct import pack, pack_into

from houseroom.enforce.linux.libc_sys import c_int, c_ulong, c_void_p, function

PATH_MAX, _PAGE, _LONGEST = 4096, 4096, 1 << 20

_process_vm_readv = function("process_vm_readv", c_int, c_void_p, c_ulong, c_void_p, c_ulong, c_ulong)

# init is single-threaded and reads one string at a time: one buffer serves all.
_BUFFER = create_string_buffer(_PAGE)
_LOCAL, _REMOTE = create_string_buffer(pack("QQ", addressof(_BUFFER), _PAGE), 16), create_string_buffer(16)
_LOCAL_AT, _REMOTE_AT = addressof(_LOCAL), addressof(_REMOTE)


def read_memory(pid: int, address: int, length: int) -> bytes:
    """Exactly ``length`` bytes. Raises OSError(EFAULT) where they are not all readable."""
    if length > _LONGEST:
        raise OSError(EFAULT, "longer than anything mediated")
    target = create_string_buffer(max(length, 1))
    local, remote = create_string_buffer(pack("QQ", addressof(target), length), 16), create_string_buffer(pack("QQ", address, length), 16)
    if length and _process_vm_readv(pid, addressof(local), 1, addressof(remote), 1, 0) != length:
        raise OSError(EFAULT, "short read")
    return target.raw[:length]


def read_string(pid: int, address: int) -> bytes:
    """A string up to its NUL. Raises OSError: EFAULT, or ENAMETOOLONG past PATH_MAX."""
    out = b""
    while True:
        # Never past a page's end, the next page may not be mapped.
        length = _PAGE - (address & (_PAGE - 1))
        pack_into("QQ", _REMOTE, 0, address, length)
        got = _process_vm_readv(pid, _LOCAL_AT, 1, _REMOTE_AT, 1, 0)
        data = string_at(_BUFFER, got)
        end = data.find(b"\0")
        if end >= 0:
            out += data[:end]
            if len(out) >= PATH_MAX:
                break
            return out
        out += data
        if len(out) >= PATH_MAX or got < length:
            break
        address += length
    raise OSError(ENAMETOOLONG, "path too long")


def wipe_own_words() -> None:
    """Overwrite our own argument list and first environment: what ps(1) and /proc/PID/environ would show of us."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b") ")[2].split()
    # proc_pid_stat(5), counted from 1 with two fields before ours: arg_start 48, arg_end 49, env_start 50, env_end 51
    start, _, _, end = (int(field) for field in fields[45:49])
    if 0 < start < end:
        memset(start, 0, end - start)
