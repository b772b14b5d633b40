"""What of houseroom lives inside a session: nobody reads it, takes from it or is served by it beyond a command's own rights.

The control of each act is done inside the same session to an ordinary process of it: there it works, as on any machine.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from runner import Bench

pytestmark = pytest.mark.needs("userns")

REACHING = [
    "pidfd_take_descriptor", "trace_attach", "trace_seize", "read_memory_call", "read_environment", "read_memory_file", "open_memory_file",
    "open_descriptor", "read_root_link", "list_root", "read_working_directory", "read_maps", "read_auxiliary_vector",
]  # fmt: skip
ENDING = ["kill", "terminate", "kill_group", "queue_signal", "pidfd_signal"]
KEEPER = "2"  # of starters: the first process that init bears

# argv: the script, a shell word for the victim's number ("" for the ordinary process), then the probe's argv without it.
DRIVER = """
import json, shlex, subprocess, sys
import houseroom
target, ends, *probe = sys.argv[1], sys.argv[2] == "ends", *sys.argv[3:]
with houseroom.Session() as session:
    ordinary = session.popen(["sleep", "600"])
    words = shlex.join(probe)
    done = session.run(["sh", "-c", f"{words} {target or ordinary.pid}; true"], capture_output=True, text=True)
    try:
        ordinary.wait(timeout=5 if ends and not target else 0.3)  # its end is told a moment after it
        lives = False
    except subprocess.TimeoutExpired:
        lives = True
    after = session.run(["echo", "works"], capture_output=True, text=True)
    print(json.dumps({"out": done.stdout, "err": done.stderr, "status": done.returncode, "lives": lives, "after": after.stdout}))
"""


def tried(bench: Bench, way: str, target: str) -> dict[str, Any]:
    """One probe in a session of its own, at a process of that session."""
    environment = {"PYTHONPATH": str(bench.identity.base / "src")}
    outcome = bench.run(
        [bench.identity.python, "-c", DRIVER, target, "ends" if way in ENDING else "", *bench.probe("attack_processes", way)],
        inside=False,
        env=environment,
    )
    assert outcome.status == 0, outcome
    said: dict[str, Any] = json.loads(outcome.out)
    return said


@pytest.mark.parametrize("way", REACHING)
def test_a_starter_cannot_be_reached(bench: Bench, way: str) -> None:
    control = tried(bench, way, "")
    assert "DONE" in control["out"], control
    for target in ("$PPID", KEEPER):
        said = tried(bench, way, target)
        assert "probe: " in said["out"], said
        assert "DONE" not in said["out"], said


@pytest.mark.parametrize("way", ENDING)
def test_the_keeper_of_starters_cannot_be_ended(bench: Bench, way: str) -> None:
    control = tried(bench, way, "")
    assert not control["lives"], control
    said = tried(bench, way, KEEPER)
    assert said["lives"], said
    assert said["after"] == "works\n", said


@pytest.mark.parametrize("way", ENDING)
def test_a_command_that_ends_its_starter_ends_itself_alone(bench: Bench, way: str) -> None:
    said = tried(bench, way, "$PPID")
    assert said["lives"], said
    assert said["after"] == "works\n", said


# A starter that was stopped is woken and tells of its command's end; what that left running lives on, as ever.
@pytest.mark.parametrize(("words", "left"), [("kill -9 -1", 0), ("kill -9 -1; kill -9 $PPID", 0), ("kill -STOP $PPID; kill -9 $$", 2)])
def test_a_session_goes_on_after_a_command_has_ended_everybody(bench: Bench, words: str, left: int) -> None:
    program = """
import sys
import houseroom
with houseroom.Session() as session:
    for _ in range(2):
        try:
            print("ended", session.run(["sh", "-c", sys.argv[1]], timeout=3).returncode)
        except __import__("subprocess").TimeoutExpired:
            print("timed out")
        print(session.run(["echo", "works"], capture_output=True, text=True).stdout)
    listed = session.run(["ps", "-e", "-o", "comm="], capture_output=True, text=True).stdout
    print("left", listed.count("sleep"))
"""
    environment = {"PYTHONPATH": str(bench.identity.base / "src")}
    outcome = bench.run([bench.identity.python, "-c", program, f"(setsid sleep 600 &); {words}"], inside=False, env=environment)
    assert outcome.status == 0, outcome
    assert outcome.out.count("works") == 2, outcome
    assert f"left {left}" in outcome.out, outcome
