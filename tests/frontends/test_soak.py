"""Hundreds of commands and many sandboxes leave nothing behind: no descriptor, no process, no memory that goes on growing.

`./dev bench soak` is the long run. Here descriptors and processes are counted exactly, and memory is bounded generously.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import houseroom
from houseroom import AsyncSession, Session

pytestmark = pytest.mark.needs("linux", "userns")

COMMANDS, SANDBOXES = 300, 15
KEEPER = str(Path(houseroom.__file__).parent / "session" / "keeper.py").encode()
PATIENCE = 20.0  # seconds in which what is still ending must have ended
MOST = 1024  # KiB that all of it may grow by; an error that is kept with what it comes from is 6 KiB, times ``COMMANDS``


@pytest.fixture
def project(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory of a user with an empty home."""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home / "project")
    return home / "project"


def test_commands_leave_nothing(project: Path) -> None:
    with Session() as session:
        each_kind(session)
        before = settled(lambda: None)
        heavy = memory()
        for number in range(COMMANDS):
            assert session.run(["true"]).returncode == 0
            with pytest.raises(FileNotFoundError):  # what fails is told with an error, and errors may hold what they come from
                session.run(["no-such-command"])
            if number % 10 == 0:
                each_kind(session)
        assert settled(lambda: before) == before
        assert memory() - heavy < MOST


def test_awaited_commands_leave_nothing(project: Path) -> None:
    async def soak() -> None:
        async with AsyncSession() as session:
            await session.run(["cat"], input=b"x", capture_output=True)
            before = settled(lambda: None)
            heavy = memory()
            for _ in range(COMMANDS):
                assert (await session.run(["cat"], input=b"x", capture_output=True)).stdout == b"x"
            assert settled(lambda: before) == before
            assert memory() - heavy < MOST

    asyncio.run(soak())


def test_sandboxes_leave_nothing(project: Path) -> None:
    one_of_each()
    before = settled(lambda: None)
    heavy = memory()
    for _ in range(SANDBOXES):
        one_of_each()
    assert settled(lambda: before) == before
    assert memory() - heavy < MOST


def each_kind(session: Session) -> None:
    """A command with pipes, one that is awaited, one that is not there, one whose time is up."""
    assert session.run(["cat"], input=b"x" * 1000, capture_output=True).stdout == b"x" * 1000
    with session.popen(["true"]) as process:
        assert process.wait() == 0
    with pytest.raises(FileNotFoundError):
        session.run(["no-such-command"])
    with pytest.raises(subprocess.TimeoutExpired):
        session.run(["sleep", "60"], timeout=0.01)


def one_of_each() -> None:
    async def awaited() -> int:
        async with AsyncSession() as session:
            return (await session.run(["true"])).returncode

    with Session() as session:
        assert session.run(["true"]).returncode == 0
    assert asyncio.run(awaited()) == 0


Counts = tuple[int, int, int]


def settled(wanted: Callable[[], Counts | None]) -> Counts:
    """Descriptors of this process and of its keeper, and all processes that the keeper bears, when they are what is wanted, or
    else when they have not changed for a while: the keeper makes the next init, and collects ended ones, in its own time."""
    gc.collect()
    end, same, last = time.monotonic() + PATIENCE, 0, counts()
    while time.monotonic() < end and last != wanted() and same < 40:
        time.sleep(0.025)
        same, last = (same + 1, last) if counts() == last else (0, counts())
    return last


def counts() -> Counts:
    keeper = keeper_of_this_process()
    return len(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{keeper}/fd")), len(below(keeper))


def memory() -> int:
    """KiB that no file backs, of this process and its keeper, and where that can be seen (by root) of all inside."""
    keeper = keeper_of_this_process()
    return sum(map(anonymous, (os.getpid(), keeper, *below(keeper))))


def anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (PermissionError, ProcessLookupError, FileNotFoundError):
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


def keeper_of_this_process() -> int:
    """It is told its application's number, and is nobody's child; its inits, which are copies, are its children."""
    words = [pid for pid in processes() if command_line(pid)[-2:] == [KEEPER, str(os.getpid()).encode()]]
    (keeper,) = [pid for pid in words if parent(pid) not in words]
    return keeper


def below(pid: int) -> list[int]:
    found = [child for child in processes() if parent(child) == pid]
    return [*found, *(process for child in found for process in below(child))]


def processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:  # it has ended
        return -1


def command_line(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return []
