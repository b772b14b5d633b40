"""Why a command was refused something: its observations, the policy, and a look at the host to leave out what would fail anyway."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

from houseroom.policy import denials
from houseroom.policy.observation import CONNECT, EXECUTE, READ, WRITE, Observed
from houseroom.policy.pattern import components, join

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from houseroom.policy.decide import PlacedPolicy
    from houseroom.policy.denials import Denial, Ground
    from houseroom.policy.observation import Observation

# What stands at the top of a project, whatever it is written in.
PROJECT_MARKS = (".git", ".hg", ".jj", "pyproject.toml", "setup.py", "package.json", "Cargo.toml", "go.mod", "CMakeLists.txt", "Makefile")


def read(notes: bytes) -> Observed:
    """What init noted of a command. Nothing for no notes: there was no observer."""
    if not notes:
        return Observed()
    from houseroom.enforce.linux import observed

    return observed.read(notes)


def explain(placed: PlacedPolicy, observed: Observed) -> tuple[Denial, ...]:
    """What the policy refused to a command, the most telling first. Of the host only metadata is looked at."""
    refused = [seen for seen in observed.seen if seen.denied]
    return denials.explain(placed, observed, ground(refused)) if refused else ()


def telling(denials: Sequence[Denial]) -> tuple[Denial, ...]:
    """Those that may have to do with a failure."""
    least = min((denial.noise for denial in denials), default=0)
    return tuple(denial for denial in denials if denial.noise == least) if least < 2 else ()


def ground(observations: Iterable[Observation]) -> Ground:
    """What the host says of the paths that were observed, and of those above them."""
    directories: set[str] = set()
    others: set[str] = set()
    refused: set[tuple[str, str]] = set()
    for seen in observations:
        if seen.kind == CONNECT and seen.path[:1] != "/":
            continue
        parts = components(seen.path)
        here = join(parts)
        for path in (here, *(join(parts[:depth]) for depth in range(len(parts)))):
            if path not in directories and path not in others:
                kind = _kind(path)
                if kind:
                    (directories if kind == "directory" else others).add(path)
        if not _is_open_outside(seen):
            refused.add((seen.kind, seen.path))
    projects = frozenset(path for path in directories if any(os.path.lexists(f"{path}/{mark}") for mark in PROJECT_MARKS))
    return denials.Ground(frozenset(directories), frozenset(others), projects, frozenset(refused))


def _kind(path: str) -> str:
    if os.path.islink(path):
        return "other"
    return "directory" if os.path.isdir(path) else "other" if os.path.lexists(path) else ""


def _is_open_outside(seen: Observation) -> bool:
    """Whether the caller itself could do it: what fails everywhere is not the sandbox's doing."""
    if seen.kind == CONNECT:
        return True
    if seen.kind in (READ, EXECUTE):
        return os.access(seen.path, os.R_OK if seen.kind == READ else os.X_OK)
    if seen.kind == WRITE and os.path.lexists(seen.path):
        return os.access(seen.path, os.W_OK)
    return os.access(os.path.dirname(seen.path), os.W_OK)
