"""The one door to the C library: typed prototypes of raw system calls, each error an OSError with its errno.

Numbers above 423 are the same on every architecture (Linux 5.1 unified them); older ones are looked up by machine.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from ctypes import CDLL, c_char_p, c_int, c_long, c_uint, c_ulong, c_void_p, get_errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["c_char_p", "c_int", "c_long", "c_uint", "c_ulong", "c_void_p", "function", "syscall"]

LIBC = CDLL(None, use_errno=True)

# Only what the C library has no wrapper for, or has one that does more than the call.
_OLD_NUMBERS = {
    "x86_64": {"clone": 56, "pivot_root": 155, "seccomp": 317, "capget": 125, "capset": 126},
    "aarch64": {"clone": 220, "pivot_root": 41, "seccomp": 277, "capget": 90, "capset": 91},
}
_NUMBERS = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "pidfd_open": 434,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
    **_OLD_NUMBERS.get(os.uname().machine, {}),
}


def function(name: str, *types: Any) -> Callable[..., int]:
    """A function of the C library that returns -1 and sets errno on failure, as one that raises OSError."""
    return _raising(LIBC[name], types, ())


def syscall(name: str, *types: Any) -> Callable[..., int]:
    """A system call by its name in the manual, through syscall(2). An unknown machine gets ENOSYS from the kernel."""
    return _raising(LIBC["syscall"], (c_long, *types), (_NUMBERS.get(name, 0xFFFF),))


def _raising(found: Any, types: tuple[Any, ...], first: tuple[int, ...]) -> Callable[..., int]:
    found.argtypes, found.restype = types, c_long if first else c_int

    def call(*args: object) -> int:
        result: int = found(*first, *args)
        if result == -1:
            errno = get_errno()
            raise OSError(errno, os.strerror(errno))
        return result

    return call
