"""What the processes of an application and of its sandboxes hold: memory, descriptors, how many they are.

A sandbox's processes are closed to the user who runs them, so only root can weigh them. Where ``./dev bench`` is root the measuring
process, which is not, asks over a socket (``SCALES``, a descriptor's number); what it may ask is this one thing.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from dataclasses import asdict, dataclass, replace

SCALES = "BENCH_SCALES"
ROLES = ("caller", "keeper", "next init", "init", "starters")
_BATCH = 1 << 20  # bytes of an answer


@dataclass(frozen=True)
class Weight:
    """What some processes hold. Memory in KiB: ``pss`` shares pages among all who map them (proc_pid_smaps_rollup(5)), ``anonymous``
    is the part of that which no file backs, so that it does not move with other programs of the machine."""

    processes: int = 0
    descriptors: int = 0
    pss: int = 0
    anonymous: int = 0
    rss: int = 0

    def __add__(self, other: Weight) -> Weight:
        return Weight(*(mine + its for mine, its in zip(asdict(self).values(), asdict(other).values(), strict=True)))


def weigh(application: int) -> dict[str, Weight]:
    """An application with its keeper and all of its sandboxes, by role. Raises PermissionError where they are closed to us."""
    if SCALES not in os.environ:
        return _weigh(application)
    with socket.socket(fileno=os.dup(int(os.environ[SCALES]))) as line:
        line.send(str(application).encode())
        answer = json.loads(line.recv(_BATCH))
    if "error" in answer:
        raise PermissionError(answer["error"])
    return {role: Weight(**weight) for role, weight in answer.items()}


def total(weights: dict[str, Weight]) -> Weight:
    return sum(weights.values(), Weight())


def serve() -> socket.socket:
    """Weigh, in a thread of this process, for whoever holds what is returned."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    threading.Thread(target=_answer, args=(ours,), daemon=True).start()
    return theirs


def _answer(line: socket.socket) -> None:
    with line:
        while asked := line.recv(64):
            try:
                said: dict[str, object] = {role: asdict(weight) for role, weight in _weigh(int(asked)).items()}
            except OSError as error:
                said = {"error": str(error)}
            line.send(json.dumps(said).encode())


def _weigh(application: int) -> dict[str, Weight]:
    below: dict[int, list[int]] = {}
    for pid in _processes():
        below.setdefault(_parent(pid), []).append(pid)
    weights = dict.fromkeys(ROLES, Weight())
    weights["caller"] = _one(application)
    for keeper in filter(lambda pid: _keeps(pid, application), _processes()):
        weights["keeper"] += _one(keeper)
        for init in below.get(keeper, []):
            # A sandbox that stands has starters below its init; the one that the next sandbox begins with is alone.
            weights["init" if init in below else "next init"] += _one(init)
            weights["starters"] = sum(map(_one, _all_below(init, below)), weights["starters"])
    return weights


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _all_below(pid: int, below: dict[int, list[int]]) -> list[int]:
    return [found for child in below.get(pid, []) for found in (child, *_all_below(child, below))]


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:  # it has ended
        return -1


def _keeps(pid: int, application: int) -> bool:
    """Whether it is the keeper of an application; its inits are copies of it, with the same words."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")[:-1]
        if len(words) < 2 or not words[-2].endswith(b"/keeper.py") or words[-1] != b"%d" % application:
            return False
        with open(f"/proc/{_parent(pid)}/cmdline", "rb") as file:
            return file.read().split(b"\0")[:-1] != words
    except OSError:
        return False


def _one(pid: int) -> Weight:
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            kilobytes = {key: int(value.split()[0]) for key, _, value in (line.partition(":") for line in file.readlines()[1:])}
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    except (FileNotFoundError, ProcessLookupError):
        return Weight()
    anonymous = kilobytes["Pss_Anon"] + kilobytes["Pss_Shmem"]
    return replace(Weight(), processes=1, descriptors=descriptors, pss=kilobytes["Pss"], anonymous=anonymous, rss=kilobytes["Rss"])
