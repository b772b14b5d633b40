"""What a suite is told and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.timing import Sample


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    starts: int = 40
    work: int = 9
    files: int = 20_000
    sources: int = 31
    hidden: int = 2_000
    protected: int = 500
    spawns: int = 400
    small_files: int = 1_000
    burst: int = 5
    idle: tuple[int, int] = (10, 200)
    soak_commands: int = 10_000
    soak_sandboxes: int = 500
    transfer: int = 512 << 20
    requests: int = 500
    crowd: int = 1_000
    stalled: int = 300


SMOKE = Size(
    starts=2, work=1, files=40, sources=3, hidden=20, protected=5, spawns=5, small_files=10,
    burst=1, idle=(2, 3), soak_commands=40, soak_sandboxes=10, transfer=1 << 20, requests=20, crowd=20, stalled=5,
)  # fmt: skip


@dataclass(frozen=True)
class Bar:
    """A promise: the median of ``ours`` is at most ``limit`` times that of ``other``."""

    ours: str
    other: str
    limit: float


@dataclass(frozen=True)
class Result:
    """One table: samples by name, the one all ratios are against, promises, and what could not be measured and why."""

    title: str
    baseline: str
    samples: dict[str, Sample]
    bars: tuple[Bar, ...] = ()
    unmeasured: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """One value. ``at_most`` is a promise, None where nothing is promised."""

    value: float
    unit: str
    at_most: float | None = None


@dataclass(frozen=True)
class Facts:
    """One table of single values."""

    title: str
    figures: dict[str, Figure]
    unmeasured: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Course:
    """One table of values over time, and what in them breaks the promise that they stay the same."""

    title: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[float, ...]]
    faults: tuple[str, ...] = ()
    unmeasured: dict[str, str] = field(default_factory=dict)
