"""Interleaved measuring. Everything is compared within one run, because absolute times move with the machine."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """Times of one thing, in milliseconds."""

    times: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    @property
    def least(self) -> float:
        return min(self.times)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median: what a repetition differs by."""
        if len(self.times) < 4:
            return (max(self.times) - min(self.times)) / 2 / self.median
        low, _, high = statistics.quantiles(self.times, n=4)
        return (high - low) / 2 / self.median


def spawn(argv: tuple[str, ...]) -> float:
    """Start a command, wait for it, and return the milliseconds between. ChildProcessError if it fails."""
    null = os.open(os.devnull, os.O_RDWR)
    quiet = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
    start = time.perf_counter_ns()
    child = os.posix_spawn(argv[0], argv, os.environ, file_actions=quiet)
    _, status = os.waitpid(child, 0)
    end = time.perf_counter_ns()
    os.close(null)
    if status:
        raise ChildProcessError(f"{argv[0]} ended with status {os.waitstatus_to_exitcode(status)}")
    return (end - start) / 1e6


def interleave(
    measures: Mapping[str, Callable[[], Iterable[float]]], repetitions: int, warm_up: int = 2
) -> tuple[dict[str, Sample], dict[str, str]]:
    """Take every measure once per round, in an order shuffled anew each round, so that drift and neighbours hit all alike.

    Returns the samples, and for each measure that failed the reason.
    """
    taken: dict[str, list[float]] = {name: [] for name in measures}
    failed: dict[str, str] = {}
    order = random.Random(1)
    for turn in range(-warm_up, repetitions):
        names = [name for name in measures if name not in failed]
        order.shuffle(names)
        for name in names:
            try:
                times = list(measures[name]())
            except (OSError, ValueError) as error:
                failed[name] = str(error)
                continue
            if turn >= 0:
                taken[name] += times
    return {name: Sample(tuple(times)) for name, times in taken.items() if name not in failed and times}, failed
