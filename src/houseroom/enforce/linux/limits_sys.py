"""Resource limits of one process and its children: setrlimit(2)."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import resource

# RLIMIT_NPROC counts per user namespace: inside ours it is the sandbox's own, and root's is not counted at all.
_KINDS = {
    "processes": resource.RLIMIT_NPROC,
    "open_files": resource.RLIMIT_NOFILE,
    "file_size": resource.RLIMIT_FSIZE,
    "cpu": resource.RLIMIT_CPU,
    "data": resource.RLIMIT_DATA,  # what a process may write in its own memory: not address space, of which some reserve terabytes
}
# At the soft limit of processor time the kernel sends SIGXCPU, which names the limit; SIGKILL, which does not, ends at the hard one
# whoever goes on (setrlimit(2)).
_GRACE = {"cpu": 1}


def set_limits(limits: dict[str, int]) -> None:
    """Lower soft and hard limits; a value above the present hard limit leaves that in force."""
    for name, value in limits.items():
        kind = _KINDS[name]
        soft, firm = value, value + _GRACE.get(name, 0)
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            soft, firm = min(soft, hard), min(firm, hard)
        resource.setrlimit(kind, (soft, firm))


def raise_open_files() -> tuple[int, int]:
    """Take all the descriptors that we may have, many mounts need many at once; the former limits are returned."""
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (former[1], former[1]))
    return former


def restore_open_files(former: tuple[int, int]) -> None:
    """Undo ``raise_open_files``."""
    resource.setrlimit(resource.RLIMIT_NOFILE, former)
