"""What init adds up: each kind of memory is seen, shared pages count once, and the largest is ended first."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runner import eventually

from houseroom.enforce.linux import descendants
from houseroom.enforce.linux.tally import Tally
from houseroom.plan.steps import Tally as Step

MEGABYTE = 1 << 20
OWN = "held = b'x' * (60 << 20)"
SHARED = "import mmap; held = mmap.mmap(-1, 60 << 20)\nfor at in range(0, 60 << 20, 4096): held[at] = 1"
THREAD = """
import ctypes, os, threading
def rest():
    held = b'x' * (60 << 20)
    os.write(1, b'READY')
    os.read(0, 1)
    os._exit(0)
threading.Thread(target=rest).start()
ctypes.CDLL(None).pthread_exit(None)
"""
COPIES = """
import os
held = b'x' * (60 << 20)
for _ in range(4):
    if os.fork() == 0:
        os.read(0, 1)
        os._exit(0)
"""

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Processes that hold what a script makes them hold, until the end of the test."""
    begun: list[subprocess.Popen[bytes]] = []

    def call(script: str) -> subprocess.Popen[bytes]:
        ready = "import os; os.write(1, b'READY'); os.read(0, 1)"
        process = subprocess.Popen([sys.executable, "-S", "-c", f"{script}\n{ready}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        begun.append(process)
        assert process.stdout
        assert os.read(process.stdout.fileno(), 5) == b"READY"
        return process

    yield call
    for process in begun:
        process.kill()
        process.communicate()


def tally(processes: list[subprocess.Popen[bytes]], *, memory: int = 0, most: int = 0, areas: tuple[str, ...] = ()) -> Tally:
    def numbers() -> list[int]:
        return [number for process in processes for number in (process.pid, *descendants.below(process.pid))]

    return Tally(Step(memory * MEGABYTE, most, areas, "test"), numbers)


@pytest.mark.parametrize("script", [OWN, SHARED, THREAD, COPIES])
def test_what_a_process_holds_is_seen(start: Start, script: str) -> None:
    process = start(script)
    assert tally([process], memory=50).look() == "limits.memory"
    assert tally([process], memory=150).look() == ""


def test_two_are_added_up(start: Start) -> None:
    both = [start(OWN), start(OWN)]
    assert tally(both[:1], memory=100).look() == ""
    assert tally(both, memory=100).look() == "limits.memory"


def test_files_in_memory_are_added(start: Start) -> None:
    """Only what lies on the sandbox's own file systems: a directory counts once, whatever else is there."""
    place = "/dev/shm"
    if not os.path.ismount(place):
        pytest.skip("needs /dev/shm")
    process = start("")
    before = os.statvfs(place)
    used = (before.f_blocks - before.f_bfree) * before.f_frsize // MEGABYTE
    file = Path(place) / f"hrprobe-{os.getpid()}"
    try:
        limit = used + 60
        assert tally([process], memory=limit, areas=(place, place)).look() == ""
        file.write_bytes(b"x" * (60 * MEGABYTE))
        assert tally([process], memory=limit, areas=(place, place)).look() == "limits.memory"
    finally:
        file.unlink(missing_ok=True)


def test_the_largest_is_ended_first_and_only_as_many_as_must_be(start: Start) -> None:
    small, large = start("held = b'x' * (20 << 20)"), start(OWN)
    watch = tally([small, large], memory=60)
    assert watch.look() == "limits.memory"
    assert watch.relieve() == 1
    assert large.wait(20) == -9
    assert small.poll() is None
    assert eventually(lambda: watch.look() == "")


def test_too_many_are_all_ended(start: Start) -> None:
    three = [start("") for _ in range(3)]
    assert tally(three, most=4).look() == ""  # init is the fourth
    watch = tally(three, most=3)
    assert watch.look() == "limits.processes"
    assert watch.relieve() == 3
    assert [process.wait(20) for process in three] == [-9] * 3


def test_a_number_that_is_not_ours_any_more_is_left_alone(start: Start) -> None:
    process = start(OWN)
    mine = [process.pid]
    watch = Tally(Step(50 * MEGABYTE, 0, (), "test"), lambda: mine)
    assert watch.look() == "limits.memory"
    mine.clear()
    assert watch.relieve() == 0
    assert process.poll() is None


def test_the_next_look_comes_sooner_near_the_limit(start: Start) -> None:
    process = start(OWN)
    near, far = tally([process], memory=150), tally([process], memory=1 << 20)
    near.look()
    far.look()
    assert 0 <= near.due() < far.due() <= 500
