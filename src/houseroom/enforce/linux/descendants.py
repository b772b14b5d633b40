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

_ROUNDS = 6  # in which everybody is found who does not run away
_DEAD = (b"Z", b"X")
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
    """Every descendant of a process at this moment, parents before children. As deep as it goes: a command can make that thousands."""
    pending = children(pid)
    while pending:
        child = pending.pop()
        yield child
        pending += children(child)


def end_below(pid: int, *, spared: int = 0) -> None:
    """Kill what is below a process until nobody is left but the dead whom it has not reaped yet, and one child with all below it.

    Chains in which each process begins the next and ends are faster than we can look. Process 1 stops everybody then, at once and
    whoever is being born (kill(2), -1), and lets go of the others when nobody is left.
    """
    if _kill_until_quiet(pid, spared, _ROUNDS):
        return
    rest = {other for other in below(os.getpid()) if _state(other) == b"T"}  # stopped by others already
    still = os.getpid() == 1
    try:
        if still:
            os.kill(-1, _signal.SIGSTOP)
        while not _kill_until_quiet(pid, spared, _ROUNDS):
            pass
    finally:
        if still:
            for other in reversed(list(below(os.getpid()))):  # children first: who waits for one must not find it stopped
                if other not in rest:
                    _tell(other, _signal.SIGCONT)


def _kill_until_quiet(pid: int, spared: int, rounds: int) -> bool:
    """Whether a look found nobody alive and nobody new: of a chain each is dead when we come to it, and another is there."""
    before: set[int] = set()
    for _ in range(rounds):
        tops = [child for child in children(pid) if child != spared]
        found = [child for top in tops for child in (top, *below(top))]
        alive = [child for child in found if _state(child) not in _DEAD]
        if not alive and before.issuperset(found):
            return True
        for child in alive:  # parents first: a shell has something to say of a child that was killed
            kill(child)
        before = {*found}
    return False


def await_death(pid: int) -> None:
    """Until a process that is ending has ended. Not for ever: by then the number may be another's."""
    pause = poll()
    for _ in range(_TURNS):
        if _state(pid) in _DEAD:
            return
        pause.poll(1)


def kill(pid: int) -> None:
    """SIGKILL, where there is still somebody to get it."""
    _tell(pid, _signal.SIGKILL)


def _tell(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):  # it has ended, and its number may be somebody else's
        return


def _state(pid: int) -> bytes:
    """One letter, as proc_pid_stat(5) has it; X for one that is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1]
    except OSError:
        return b"X"


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
