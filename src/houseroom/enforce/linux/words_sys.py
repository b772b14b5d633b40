"""The argument list and environment that a process was started with, as proc(5) shows them."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

from houseroom.enforce.linux.libc_sys import c_char


def wipe_own_words() -> None:
    """Overwrite our own argument list and first environment: what ps(1) and /proc/PID/environ would show of us."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b") ")[2].split()
    # proc_pid_stat(5), counted from 1 with two fields before ours: arg_start 48, arg_end 49, env_start 50, env_end 51
    start, _, _, end = (int(field) for field in fields[45:49])
    if 0 < start < end:
        # Not through /proc/self/mem: below the namespaces rung we are in a Landlock domain that forbids to write there.
        (c_char * (end - start)).from_address(start).raw = bytes(end - start)  # type: ignore[misc, assignment]  # libc_sys has its own c_char
