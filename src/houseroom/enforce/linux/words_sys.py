"""The argument list and environment that a process was started with, as proc(5) shows them."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

from houseroom.enforce.linux.libc_sys import c_int, c_ulong, c_void_p, function

_LONGEST = 4096  # bytes of /proc/PID/stat: about fifty numbers
_memset = function("memset", c_void_p, c_int, c_ulong)


def wipe_own_words() -> None:
    """Overwrite our own argument list and first environment: what ps(1) and /proc/PID/environ would show of us."""
    fd = os.open("/proc/self/stat", os.O_RDONLY | os.O_CLOEXEC)
    fields = os.read(fd, _LONGEST).rpartition(b") ")[2].split()
    os.close(fd)
    # proc_pid_stat(5), counted from 1 with two fields before ours: arg_start 48, arg_end 49, env_start 50, env_end 51
    start, _, _, end = (int(field) for field in fields[45:49])
    if 0 < start < end:
        # Not through /proc/self/mem: below the namespaces rung we are in a Landlock domain that forbids to write there.
        _memset(start, 0, end - start)
