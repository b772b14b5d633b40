"""Landlock: landlock(7), landlock_create_ruleset(2), landlock_add_rule(2), landlock_restrict_self(2)."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from _struct import pack
from stat import S_ISDIR

from houseroom.enforce.linux.libc_sys import c_char_p, c_int, c_long, c_uint, syscall

_CREATE_RULESET_VERSION, _RULE_PATH_BENEATH = 1, 1

_create_ruleset = syscall("landlock_create_ruleset", c_char_p, c_long, c_uint)
_add_rule = syscall("landlock_add_rule", c_int, c_int, c_char_p, c_uint)
_restrict_self = syscall("landlock_restrict_self", c_int, c_uint)


def abi() -> int:
    """The kernel's Landlock ABI, 0 where Landlock is absent or switched off."""
    try:
        return _create_ruleset(None, 0, _CREATE_RULESET_VERSION)
    except OSError:
        return 0


def create_ruleset(handled: tuple[int, int, int], abi_version: int) -> int:
    """A ruleset that handles these file system, network and scope bits. The structure grew with ABI 4 and 6."""
    size = 24 if abi_version >= 6 else 16 if abi_version >= 4 else 8
    return _create_ruleset(pack("3Q", *handled)[:size], size, 0)


def add_path(ruleset: int, path: bytes, rights: int, on_files: int) -> None:
    """Allow these rights at and below a path; a path that is not a directory takes only those also in ``on_files``."""
    parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not S_ISDIR(os.fstat(parent).st_mode):
            rights &= on_files
        if not rights:
            return
        _add_rule(ruleset, _RULE_PATH_BENEATH, pack("=Qi", rights, parent), 0)
    finally:
        os.close(parent)


def restrict_self(ruleset: int) -> None:
    """Enter the domain. Needs no_new_privs; there is no way back."""
    _restrict_self(ruleset, 0)
