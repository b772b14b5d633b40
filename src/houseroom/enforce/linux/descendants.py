"""Keeping and ending every process below init where no pid namespace does it: a child subreaper (prctl(2)).

A process whose parent ends becomes init's child, whatever it did to leave: setsid, a second fork, another process group.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import os

from houseroom.enforce.linux import process_sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def keep() -> None:
    """From now on orphans below us are ours. Raises OSError, also where /proc does not tell children (CONFIG_PROC_CHILDREN)."""
    process_sys.prctl(process_sys.PR_SET_CHILD_SUBREAPER, 1)
    os.close(os.open("/proc/thread-self/children", os.O_RDONLY | os.O_CLOEXEC))


def below(pid: int) -> Iterator[int]:
    """Every descendant of a process at this moment, parents before children."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return  # it has ended, and what it left is somebody else's child by now
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                children = [int(word) for word in file.read().split()]
        except OSError:
            continue
        for child in children:
            yield child
            yield from below(child)


def end_all() -> None:
    """Kill until nobody is left: what forks meanwhile has a parent that dies, and is found in the next round."""
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    while True:
        for pid in list(below(os.getpid())):
            try:
                os.kill(pid, _signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            os.waitpid(-1, 0)
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
