"""Whether anything grows: thousands of commands in one session, hundreds of sandboxes made and closed, weighed again and again.

Flat means: after the first tenth, which warms everything up, no process and no descriptor more, and memory that no file backs grows
from a tenth to the next by no more than ``EACH`` bytes for each command or sandbox, in the median, and at the end is not more by
``GROWTH``. The median, because an allocator takes a larger piece now and then: what leaks grows in every tenth. Memory is that of
the calling process, its keeper and everything inside together; pages of files are left out, for their shares move with other programs.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import subprocess
import time
from itertools import pairwise

from benchmarks.contestants import Places
from benchmarks.results import Course, Size
from benchmarks.scales import ROLES, Weight, total, weigh

TENTHS = 10
GROWTH = 0.05
EACH = {"commands": 16, "sandboxes": 512}  # bytes
_SETTLE = 0.5  # seconds until the keeper has made what the next sandbox begins with


def soak(places: Places, size: Size) -> list[Course]:
    """Commands, then sandboxes."""
    os.chdir(places.workspace)
    titles = f"soak: {size.soak_commands} commands in one session", f"soak: {size.soak_sandboxes} sandboxes made and closed"
    try:
        return [commands(titles[0], size.soak_commands), sandboxes(titles[1], size.soak_sandboxes)]
    except OSError as error:
        return [Course(title, (), {}, (), {"houseroom": str(error)}) for title in titles]


def commands(title: str, count: int) -> Course:
    """In a session for callers that wait, and a tenth as many in one for an event loop; both stand all the time."""
    from houseroom import AsyncSession, Session

    weights = []
    with Session() as session, asyncio.Runner() as loop:
        other = AsyncSession()
        loop.run(other.open())
        weights.append(weighed())
        for _ in range(TENTHS):
            for number in range(count // TENTHS):
                one_command(session, number)
            for number in range(count // TENTHS // 10):
                loop.run(one_awaited(other, number))
            weights.append(weighed())
        loop.run(other.close())
    weights.append(weighed())
    return course(title, weights, "commands", count + count // 10)


def sandboxes(title: str, count: int) -> Course:
    """Each with one command; every tenth for an event loop. Weighed when none stands."""
    weights = [weighed()]
    for _ in range(TENTHS):
        for number in range(count // TENTHS):
            one_sandbox(number)
        weights.append(weighed())
    return course(title, weights, "sandboxes", count)


def one_command(session: object, number: int) -> None:
    """Most are plain; every tenth has pipes, every fiftieth is stopped by its time or is not there to be started."""
    from houseroom import Session

    assert isinstance(session, Session)
    try:
        if number % 50 == 7:
            session.run(["sleep", "60"], timeout=0.01)
        elif number % 50 == 3:
            session.run(["no-such-command"])
        elif number % 10 == 1:
            assert session.run(["cat"], input=b"through\n", capture_output=True).stdout == b"through\n"
        elif number % 10 == 2:
            with session.popen(["true"]) as process:
                assert process.wait() == 0
        else:
            assert session.run(["true"]).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        assert number % 50 in (3, 7)


async def one_awaited(session: object, number: int) -> None:
    from houseroom import AsyncSession

    assert isinstance(session, AsyncSession)
    if number % 50 == 7:
        try:
            await session.run(["sleep", "60"], timeout=0.01)
        except subprocess.TimeoutExpired:
            return
    assert (await session.run(["cat"], input=b"through\n", capture_output=True)).stdout == b"through\n"


def one_sandbox(number: int) -> None:
    from houseroom import AsyncSession, Session

    async def awaited() -> int:
        async with AsyncSession() as session:
            return (await session.run(["true"])).returncode

    if number % 10 == 5:
        assert asyncio.run(awaited()) == 0
        return
    with Session() as session:
        assert session.run(["true"]).returncode == 0


def weighed() -> dict[str, Weight]:
    gc.collect()
    time.sleep(_SETTLE)
    return weigh(os.getpid())


def course(title: str, weights: list[dict[str, Weight]], what: str, count: int) -> Course:
    """``weights``: at the begin, after each tenth, and perhaps one after the end, when nothing stands."""
    tenths = weights[1 : TENTHS + 1]
    first, last = total(tenths[0]), total(tenths[-1])
    faults = []
    for kind in ("processes", "descriptors"):
        most = max(getattr(total(one), kind) for one in tenths[1:])
        if most > getattr(first, kind):
            faults.append(f"{kind} grew from {getattr(first, kind)} to {most}")
    memory = [total(one).anonymous for one in tenths]
    each = statistics.median(after - before for before, after in pairwise(memory)) * 1024 * TENTHS / count
    if each > EACH[what]:
        faults.append(f"memory grows by {each:.0f} bytes for each of the {what}")
    if last.anonymous > first.anonymous * (1 + GROWTH):
        faults.append(f"memory grew from {first.anonymous} to {last.anonymous} KiB")
    columns = ("begin", *(f"{number + 1}/{TENTHS}" for number in range(TENTHS)), "closed")[: len(weights)]
    rows: dict[str, tuple[float, ...]] = {
        "processes": tuple(total(one).processes for one in weights),
        "descriptors": tuple(total(one).descriptors for one in weights),
        **{f"  {role}": tuple(one[role].descriptors for one in weights) for role in ROLES},
        "PSS, KiB": tuple(total(one).pss for one in weights),
        "no file backs, KiB": tuple(total(one).anonymous for one in weights),
        **{f"  {role}, KiB": tuple(one[role].anonymous for one in weights) for role in ROLES},
    }
    return Course(title, columns, rows, tuple(faults))
