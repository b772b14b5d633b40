"""What all processes of a sandbox hold together, and how many they are: added up by init where no control group does it.

A look is cheap at first: resident pages of all (proc_pid_statm(5)), an upper bound, and what the private file systems hold. Only
where that is too much are shared libraries left out, and only where it still is, pages that several processes share are divided
among them (smaps_rollup), for which the kernel walks page tables. The nearer the limit, the sooner the next look, as if a
machine did nothing but fill memory.

What it does not see: what comes and goes between two looks; shared memory that no process has mapped; memory of the kernel's own
for pipes and sockets. ``plan.coverage`` says so.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import os
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from houseroom.plan.steps import Tally as Step

KINDS = ("limits.memory", "limits.processes")  # what a look may find, as init tells the supervisor: by its place here

_PAGE = os.sysconf("SC_PAGE_SIZE")
_FILLED, _FORKED = 4 << 30, 10_000  # bytes, and processes, that one processor makes in a second
_SOONEST, _LATEST = 0.02, 0.5  # seconds between two looks
_SHARE = 20  # looking takes at most one in so many parts of the time, up to _LATEST
_OWN, _SHARED = b"Pss_Anon:", b"Pss_Shmem:"  # Linux 5.9


class Tally:
    """Looks at times of its own choosing: init's loop sleeps no longer than ``due``, and calls ``look`` then.

    ``numbers`` tells the sandbox's process ids at this moment, without init's own: by default all that /proc shows to a process 1.
    """

    kinds = KINDS

    def __init__(self, step: Step, numbers: Callable[[], Iterable[int]] | None = None):
        self.memory, self.processes, self.numbers = step.memory, step.processes, numbers or _in_proc
        self.areas = tuple({os.stat(path).st_dev: path for path in step.areas}.values())
        self.held: dict[int, int] = {}  # bytes by process, as exactly as the last look had to be
        self._excess = 0
        self._next = 0.0
        self._processors = os.cpu_count() or 1

    def due(self) -> int:
        """Milliseconds until the next look, 0 if now."""
        return max(0, round((self._next - monotonic()) * 1000))

    def look(self) -> str:
        """Which limit the sandbox is over, "" for none; ``relieve`` is to be called then."""
        begun = monotonic()
        numbers = tuple(self.numbers())
        total = self._add_up(numbers) if self.memory else 0
        end = monotonic()
        spare = [
            (self.memory - total) / _FILLED if self.memory else _LATEST,
            (self.processes - len(numbers)) / _FORKED if self.processes else _LATEST,
        ]
        self._next = end + min(max(min(spare) / self._processors, _SOONEST, _SHARE * (end - begun)), _LATEST)
        if self.processes and len(numbers) + 1 > self.processes:  # with init, as the kernel counts
            self.held, self._excess = dict.fromkeys(numbers, 1), len(numbers)
            return "limits.processes"
        self._excess = total - self.memory
        return "limits.memory" if self.memory and total > self.memory else ""

    def relieve(self) -> int:
        """End all where they were too many, else the largest until the rest is within the limit. How many were ended."""
        excess = self._excess
        killed = 0
        for pid in sorted(self.held, key=self.held.__getitem__, reverse=True):
            if excess <= 0:
                break
            excess -= self.held[pid]
            killed += self._kill(pid)
        return killed

    def _kill(self, pid: int) -> bool:
        """A number may have passed to a process outside, where those are numbered with ours: it is held, and looked up again."""
        try:
            held = os.pidfd_open(pid)
        except OSError:
            return False
        try:
            if pid not in self.numbers():
                return False
            _signal.pidfd_send_signal(held, _signal.SIGKILL)
        except OSError:
            return False
        finally:
            os.close(held)
        return True

    def _add_up(self, numbers: tuple[int, ...]) -> int:
        """An upper bound where that is within the limit, else as exactly as can be told."""
        filed = sum(map(_filed, self.areas))
        for measure in (_resident, _without_files, _proportional):
            self.held = {pid: measure(pid) for pid in numbers}
            total = filed + sum(self.held.values())
            if total <= self.memory:
                break
        return total


def _in_proc() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]


def _filed(path: str) -> int:
    found = os.statvfs(path)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def _resident(pid: int) -> int:
    """Everything resident, libraries too. Where the first thread has ended before the others, its own file says nothing."""
    found = _pages(f"/proc/{pid}/statm")
    if not found:
        try:
            found = max((_pages(f"/proc/{pid}/task/{thread}/statm") for thread in os.listdir(f"/proc/{pid}/task")), default=0)
        except OSError:
            return 0
    return found * _PAGE


def _without_files(pid: int) -> int:
    """Its own and shared memory, each page counted whole."""
    own = 0
    for line in _lines(f"/proc/{pid}/status"):
        if line.startswith(b"RssAnon:"):
            own = int(line.split()[1])
        elif line.startswith(b"RssShmem:"):
            return (own + int(line.split()[1])) * 1024
    return _resident(pid)


def _proportional(pid: int) -> int:
    """The same with each page divided by the number of processes that have it."""
    found = [int(line.split()[1]) for line in _lines(f"/proc/{pid}/smaps_rollup") if line.startswith((_OWN, _SHARED))]
    return sum(found) * 1024 if len(found) == 2 else _without_files(pid)


def _pages(path: str) -> int:
    return next((int(line.split()[1]) for line in _lines(path)), 0)


def _lines(path: str) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            return file.read().splitlines()
    except OSError:
        return []  # it has ended meanwhile
