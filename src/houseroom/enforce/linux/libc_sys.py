"""The one door to the C library: typed prototypes of raw system calls, each error an OSError with its errno.

Numbers above 423 are the same on every architecture (Linux 5.1 unified them); older ones are looked up by machine.

``_ctypes`` is the extension module below ``ctypes``. The package's own start, with types for every platform, costs more than a
millisecond, which every command would pay; what is used of it here has been the same since Python 2.5.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from _ctypes import (
    FUNCFLAG_CDECL,
    FUNCFLAG_PYTHONAPI,
    FUNCFLAG_USE_ERRNO,
    CFuncPtr,
    _SimpleCData,
    addressof,
    dlopen,
    dlsym,
    get_errno,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_LIBC = dlopen(None, os.RTLD_NOW)  # type: ignore[arg-type]  # None is the program itself, as in dlopen(3); typeshed lacks it


class c_char(_SimpleCData):  # type: ignore[type-arg]  # noqa: N801 — C names; and not subscriptable when run
    """One byte."""

    _type_ = "c"


class c_char_p(_SimpleCData):  # type: ignore[type-arg]  # noqa: N801
    """A NUL-terminated string, or bytes that a call only reads."""

    _type_ = "z"


class c_int(_SimpleCData):  # type: ignore[type-arg]  # noqa: N801
    """int."""

    _type_ = "i"


class c_uint(_SimpleCData):  # type: ignore[type-arg]  # noqa: N801
    """unsigned int."""

    _type_ = "I"


class c_long(_SimpleCData):  # type: ignore[type-arg]  # noqa: N801
    """long."""

    _type_ = "l"


class c_ulong(_SimpleCData):  # type: ignore[type-arg]  # noqa: N801
    """unsigned long."""

    _type_ = "L"


class c_void_p(_SimpleCData):  # type: ignore[type-arg]  # noqa: N801
    """An address."""

    _type_ = "P"


class _Int(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO
    _restype_ = c_int


class _Long(CFuncPtr):
    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO
    _restype_ = c_long


class _Held(CFuncPtr):
    """Called without letting go of the interpreter's lock."""

    _flags_ = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO | FUNCFLAG_PYTHONAPI
    _restype_ = c_long


class Buffer:
    """Memory that a call may write: ``bytes`` is its content, ``address`` where it lies for as long as this object lives."""

    def __init__(self, content: bytes):
        self.bytes = bytearray(content or 1)
        self._held = c_char.from_buffer(self.bytes)  # its first byte: an array would be a new type for each length, 0.1 ms
        self.address = addressof(self._held)


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
    return _raising(_Int(dlsym(_LIBC, name)), types, ())


def syscall(name: str, *types: Any) -> Callable[..., int]:
    """A system call by its name in the manual, through syscall(2). An unknown machine gets ENOSYS from the kernel."""
    return _raising(_Long(dlsym(_LIBC, "syscall")), (c_long, *types), (_NUMBERS.get(name, 0xFFFF),))


def fork_call(name: str, *types: Any) -> Callable[..., int]:
    """A system call, as above, that returns in a new process too: no other thread of the interpreter may have its lock by then."""
    return _raising(_Held(dlsym(_LIBC, "syscall")), (c_long, *types), (_NUMBERS.get(name, 0xFFFF),))


def interpreter(name: str) -> Callable[[], object]:
    """A function of the interpreter's own that takes nothing and returns nothing."""
    found = _Held(dlsym(_LIBC, name))
    found.argtypes, found.restype = (), None
    return found


def _raising(found: Any, types: tuple[Any, ...], first: tuple[int, ...]) -> Callable[..., int]:
    found.argtypes = types

    def call(*args: object) -> int:
        result: int = found(*first, *args)
        if result == -1:
            errno = get_errno()
            raise OSError(errno, os.strerror(errno))
        return result

    return call
