"""Resource limits of one process and its children: prlimit(2), without the module ``resource``, a shared object to load."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

from _struct import pack, unpack

from houseroom.enforce.linux.libc_sys import Buffer, c_char_p, c_int, c_uint, c_void_p, function

_RLIMIT_CPU, _RLIMIT_FSIZE, _RLIMIT_DATA, _RLIMIT_NPROC, _RLIMIT_NOFILE = 0, 1, 2, 6, 7  # as every machine has them but MIPS, SPARC

_prlimit = function("prlimit", c_int, c_uint, c_char_p, c_void_p)

# RLIMIT_NPROC counts per user namespace: inside ours it is the sandbox's own, and root's is not counted at all.
_KINDS = {
    "processes": _RLIMIT_NPROC,
    "open_files": _RLIMIT_NOFILE,
    "file_size": _RLIMIT_FSIZE,
    "cpu": _RLIMIT_CPU,
    "data": _RLIMIT_DATA,  # what a process may write in its own memory: not address space, of which some reserve terabytes
}
# At the soft limit of processor time the kernel sends SIGXCPU, which names the limit; SIGKILL, which does not, ends at the hard one
# whoever goes on (setrlimit(2)).
_GRACE = {"cpu": 1}


def set_limits(limits: dict[str, int]) -> None:
    """Lower soft and hard limits; a value above the present hard limit leaves that in force."""
    for name, value in limits.items():
        kind = _KINDS[name]
        hard = _limits(kind)[1]
        _set(kind, min(value, hard), min(value + _GRACE.get(name, 0), hard))


def raise_open_files() -> tuple[int, int]:
    """Take all the descriptors that we may have, many mounts need many at once; the former limits are returned."""
    former = _limits(_RLIMIT_NOFILE)
    _set(_RLIMIT_NOFILE, former[1], former[1])
    return former


def restore_open_files(former: tuple[int, int]) -> None:
    """Undo ``raise_open_files``."""
    _set(_RLIMIT_NOFILE, *former)


def _limits(kind: int) -> tuple[int, int]:
    """The soft and the hard limit of this process."""
    found = Buffer(bytes(16))
    _prlimit(0, kind, None, found.address)
    soft, hard = unpack("2Q", found.bytes)
    return soft, hard


def _set(kind: int, soft: int, hard: int) -> None:
    _prlimit(0, kind, pack("2Q", soft, hard), None)
