"""Keeping and ending every process below init where no pid namespace does it: a child subreaper (prctl(2)).

A process whose parent ends becomes init's child, whatever it did to leave: setsid, a second fork, another process group.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import os
from select import poll

from houseroom.enforce.linux import process_sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_TURNS = 1000  # milliseconds to wait for a process that is ending


def keep() -> None:
    """From now on orphans below us are ours. Raises OSError, also where ``require`` does."""
    process_sys.prctl(process_sys.PR_SET_CHILD_SUBREAPER, 1)
    require()


def require() -> None:
    """Raises OSError where /proc does not tell children (CONFIG_PROC_CHILDREN): then nobody could be ended with all below."""
    os.close(os.open("/proc/thread-self/children", os.O_RDONLY | os.O_CLOEXEC))


def children(pid: int) -> list[int]:
    """The children of a process at this moment; none of one that has ended: they are somebody else's by now."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    out: list[int] = []
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                out += map(int, file.read().split())
        except OSError:
            continue
    return out


def below(pid: int) -> Iterator[int]:
    """Every descendant of a process at this moment, parents before children."""
    for child in children(pid):
        yield child
        yield from below(child)


def end_below(pid: int, *, spared: int = 0) -> None:
    """Kill what is below a process until nobody is left but the dead whom it has not reaped yet, and one child with all below it."""
    while True:
        tops = [child for child in children(pid) if child != spared]
        alive = [child for top in tops for child in (top, *below(top)) if not _is_dead(child)]
        if not alive:
            return
        for child in alive:
            kill(child)


def await_death(pid: int) -> None:
    """Until a process that is ending has ended. Not for ever: by then the number may be another's."""
    pause = poll()
    for _ in range(_TURNS):
        if _is_dead(pid):
            return
        pause.poll(1)


def kill(pid: int) -> None:
    """SIGKILL, where there is still somebody to get it."""
    try:
        os.kill(pid, _signal.SIGKILL)
    except ProcessLookupError:
        return


def _is_dead(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] in (b"Z", b"X")
    except OSError:
        return True


def end_all() -> None:
    """Kill until nobody is left: what forks meanwhile has a parent that dies, and is found in the next round."""
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    while True:
        for pid in list(below(os.getpid())):
            kill(pid)
        try:
            os.waitpid(-1, 0)
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
