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
}


def set_limits(limits: dict[str, int]) -> None:
    """Lower soft and hard limits; a value above the present hard limit leaves that in force."""
    for name, value in limits.items():
        kind = _KINDS[name]
        hard = resource.getrlimit(kind)[1]
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (limit, limit))


def raise_open_files() -> tuple[int, int]:
    """Take all the descriptors that we may have, many mounts need many at once; the former limits are returned."""
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (former[1], former[1]))
    return former


def restore_open_files(former: tuple[int, int]) -> None:
    """Undo ``raise_open_files``."""
    resource.setrlimit(resource.RLIMIT_NOFILE, former)
