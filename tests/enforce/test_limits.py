"""Limits: the same act goes through without the sandbox and stops inside, and the outcome says which limit it was.

Root has control groups where it may write them; the unprivileged user has none on most machines of this kind, so what init adds up
itself is tested too. Nothing here asks which of the two it is, except the tests that say so.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from runner import Bench, Outcome, Said, When, alive, eventually, lacking, through_terminal

pytestmark = pytest.mark.needs("userns")

GROUPS = Path("/sys/fs/cgroup")
LIMIT = ["--limit", "memory=100M"]
FEW = ["--limit", "processes=30"]
BACKENDS = {
    "namespaces": [],
    "bubblewrap": ["--backend", "bubblewrap", *(word for name in ("files", "sockets") for word in ("--accept", name))],
    "landlock": ["--backend", "landlock", *(word for name in ("files", "sockets", "processes") for word in ("--accept", name))],
}


def left_behind() -> set[str]:
    """Control groups of ours that are there now."""
    return {str(path) for path in GROUPS.glob("**/houseroom-*") if path.is_dir()}


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = left_behind()
    yield
    assert eventually(lambda: left_behind() <= before), left_behind() - before


@pytest.fixture(params=BACKENDS)
def rung(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "bubblewrap" and subprocess.run(["which", "bwrap"], capture_output=True, check=False).returncode:
        pytest.skip("needs bwrap")
    return BACKENDS[request.param]


def report(outcome: Outcome) -> dict[str, object]:
    """The document of ``run --json``, the last line of standard error."""
    found = json.loads(outcome.err.strip().splitlines()[-1])
    assert isinstance(found, dict)
    return found


def probe(bench: Bench, name: str, *arguments: object) -> list[str]:
    return bench.probe("attack_limits", name, *arguments)


# -- memory -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["hog", "hog_at_once", "hog_shared", "hog_without_first_thread"])
def test_memory_hog(bench: Bench, way: str) -> None:
    outcome = bench.twin(probe(bench, way), Said("DONE"), options=LIMIT)
    assert outcome.status == 124, outcome
    assert "houseroom: stopped at 100M of memory: limits.memory (command line)" in outcome.err, outcome


def test_memory_hog_on_private_files(bench: Bench) -> None:
    """What lies in the private /tmp lies in memory. The control fills the stage instead."""
    bare, inside = (probe(bench, "hog_files", place) for place in (bench.stage.workspace, "/tmp"))
    outcome = bench.twin(bare, Said("DONE"), inside_argv=inside, options=LIMIT)
    assert outcome.status == 124 and "limits.memory" in outcome.err, outcome


def test_memory_hog_by_many_processes(bench: Bench) -> None:
    """No process is over the limit, all together are."""
    outcome = bench.twin(probe(bench, "hog_by_many"), Said("DONE"), options=LIMIT)
    assert "limits.memory" in outcome.err, outcome


def test_memory_hog_on_every_rung(bench: Bench, rung: list[str]) -> None:
    outcome = bench.twin(probe(bench, "hog"), Said("DONE"), options=[*rung, *LIMIT])
    assert outcome.status == 124 and "limits.memory" in outcome.err, outcome


@pytest.mark.parametrize("way", ["hog", "hog_by_many", "hog_shared"])
def test_what_stays_below_the_limit_is_not_stopped(bench: Bench, way: str) -> None:
    outcome = bench.run(probe(bench, way), inside=True, options=["--limit", "memory=600M"])
    assert (outcome.status, outcome.err) == (0, ""), outcome
    assert "DONE" in outcome.out


def test_one_process_can_not_ask_for_far_more_at_once(bench: Bench) -> None:
    """Where init adds up: what it could take between two looks has an end."""
    if coverage(bench, *LIMIT)["limits.memory"]["state"] == "enforced":
        pytest.skip("a control group counts each page as it is used")
    outcome = bench.twin(probe(bench, "ask_for_much"), Said("DONE"), options=LIMIT)
    assert "ENOMEM" in outcome.out, outcome


@pytest.mark.needs("node")
def test_a_runtime_that_reserves_more_than_it_uses(bench: Bench) -> None:
    script = "const kept = []; for (let i = 0; i < 20; i++) kept.push(Buffer.alloc(1 << 20, 1)); console.log('DONE', kept.length)"
    outcome = bench.run(["node", "-e", script], inside=True, options=["--limit", "memory=300M"])
    assert (outcome.status, outcome.out) == (0, "DONE 20\n"), outcome


def test_pages_that_processes_share_count_once(bench: Bench) -> None:
    script = """
import os, time
kept = b'x' * (50 << 20)
for _ in range(8):
    if os.fork() == 0:
        time.sleep(0.6)
        os._exit(0)
for _ in range(8):
    os.wait()
print('DONE')
"""
    outcome = bench.run([bench.identity.python, "-S", "-c", script], inside=True, options=LIMIT)
    assert (outcome.status, outcome.err) == (0, ""), outcome
    assert "DONE" in outcome.out


def test_a_command_outlives_what_a_limit_ended_below_it(bench: Bench) -> None:
    """Its own status counts; what happened stands beside it."""
    hog = " ".join(probe(bench, "hog"))
    outcome = bench.run(["sh", "-c", f"{hog}; echo after $?; exit 3"], inside=True, options=LIMIT)
    assert outcome.status == 3 and "after 137" in outcome.out and "DONE" not in outcome.out, outcome
    assert "1 process was ended: limits.memory is 100M (command line)" in outcome.err, outcome


def test_a_shell_that_passes_the_kill_on(bench: Bench) -> None:
    outcome = bench.run(["sh", "-c", " ".join(probe(bench, "hog")) + "; exit $?"], inside=True, options=LIMIT)
    assert outcome.status == 124 and "stopped at 100M of memory" in outcome.err, outcome


def test_outcome_as_json_with_file_and_line(bench: Bench) -> None:
    policy = bench.stage.home / ".config/houseroom/policy.toml"
    bench.stage.plant(policy, '[limits]\nmemory = "100M"\n', 0o644)
    outcome = bench.run(probe(bench, "hog"), inside=True, options=["--json"])
    said = report(outcome)
    assert (said["outcome"], said["exit_code"], outcome.status) == ("limit", 124, 124), outcome
    assert said["detail"] == f"stopped at 100M of memory: limits.memory ({policy}:2)", outcome


# -- processes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["bomb", "bomb_of_threads"])
def test_fork_bomb(bench: Bench, way: str) -> None:
    if way == "bomb_of_threads" and bench.identity.uid == 0 and not groups_are_ours():
        pytest.skip("root without control groups: threads are not counted, and coverage says so")
    outcome = bench.twin(probe(bench, way), Said("DONE"), options=FEW)
    made = next((int(line.split()[1]) for line in outcome.out.splitlines() if line.startswith("made: ")), 0)
    assert 20 <= made < 30, outcome


def test_fork_bomb_below_the_limit(bench: Bench) -> None:
    outcome = bench.run(probe(bench, "bomb"), inside=True, options=["--limit", "processes=250"])
    assert (outcome.status, outcome.err) == (0, "") and "made: 200" in outcome.out, outcome


def test_two_sandboxes_do_not_count_each_other(bench: Bench) -> None:
    first = bench.start(
        ["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep 20 & done; echo READY; wait"], inside=True, options=FEW
    )
    try:
        assert b"READY" in bench.until_ready(first)
        outcome = bench.run(
            ["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep 0.2 & done; wait; echo DONE"], inside=True, options=FEW
        )
        first.terminate()  # to be killed, it would have to leave its control group to the next start
        first.wait(20)
    finally:
        bench.end(first)
    assert "DONE" in outcome.out and outcome.status == 0, outcome


# -- output ---------------------------------------------------------------------------------------------------------------

CUT = ["--limit", "output=1M"]


@pytest.mark.parametrize("stream", [1, 2])
def test_endless_output(bench: Bench, stream: int) -> None:
    argv = probe(bench, "endless", stream)
    bare = bench.run(argv, inside=False)
    assert (bare.out + bare.err).count("y\n") == 4 << 20, "the control does not print all"
    outcome = bench.run(argv, inside=True, options=CUT)
    printed, _, said = (outcome.out + outcome.err).partition("houseroom: ")
    assert (outcome.status, len(printed)) == (124, 1 << 20)
    assert said == "stopped at 1M of output: limits.output (command line)\n"


def test_both_streams_count_together(bench: Bench) -> None:
    outcome = bench.run(probe(bench, "both_streams"), inside=True, options=[*CUT, "--quiet"])
    assert outcome.status == 124 and len(outcome.out) + len(outcome.err) == 1 << 20, outcome.status


def test_output_below_the_limit_is_passed_on_byte_for_byte(bench: Bench) -> None:
    script = "import os\nfor part in range(1024): os.write(1, bytes(range(256)) * 3); os.write(2, b'e')\nos._exit(7)"
    argv = [bench.identity.python, "-S", "-c", script]
    outcomes = []
    for inside in (False, True):
        process = bench.start(argv, inside=inside, options=["--limit", f"output={1024 * 769}B"])  # exactly
        try:
            outcomes.append((*process.communicate(timeout=60), process.returncode))
        finally:
            bench.end(process)
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][2] == 7


def test_order_of_two_streams_in_one_file(bench: Bench) -> None:
    script = 'for i in 1 2 3 4 5 6 7 8 9; do echo "out $i"; echo "err $i" >&2; done'
    found = []
    for inside in (False, True):
        process = bench.start(["sh", "-c", script], inside=inside, options=CUT)
        bench.end(process)
        file = bench.stage.workspace / "both"
        with file.open("wb") as both:
            done = subprocess.run(  # type: ignore[call-overload]
                bench.command(["sh", "-c", script], inside=inside, options=CUT),
                cwd=bench.stage.workspace,
                env={**bench.ordinary_environment(), "PYTHONPATH": str(bench.identity.base / "src")},
                stdout=both,
                stderr=both,
                check=False,
                **bench.identity.credentials(),
            )
        found.append((done.returncode, file.read_bytes()))
    assert found[0] == found[1]
    assert b"out 9" in found[0][1]


def test_a_reader_that_goes_away(bench: Bench) -> None:
    """The command meets a broken pipe, as it does without us, long before its limit."""
    for inside in (False, True):
        process = bench.start(["yes"], inside=inside, options=["--limit", "output=10G"])
        try:
            assert process.stdout
            assert os.read(process.stdout.fileno(), 4) == b"y\ny\n"
            process.stdout.close()
            process.wait(30)
        finally:
            bench.end(process)
        assert process.returncode in (-signal.SIGPIPE, 128 + signal.SIGPIPE, 1)


def test_a_slow_reader_does_not_lift_the_time_limit(bench: Bench) -> None:
    process = bench.start(["yes"], inside=True, options=["--limit", "output=10G", "--time", "1s"])
    try:
        process.wait(30)  # nobody reads
    finally:
        bench.end(process)
    assert process.returncode == 124


def test_a_terminal_stays_one_and_is_not_counted(bench: Bench) -> None:
    outcome = through_terminal(
        bench,
        ["sh", "-c", "test -t 1 && test -t 2 && head -c 40000 /dev/zero | tr '\\0' y; exit 4"],
        inside=True,
        options=["--limit", "output=10K"],
    )
    assert outcome.status == 4 and outcome.out.count("y") >= 40000, outcome.status


# -- each process's own -----------------------------------------------------------------------------------------------------


def test_processor_time(bench: Bench) -> None:
    outcome = bench.twin(probe(bench, "spin"), Said("DONE"), options=["--limit", "cpu=1s"])
    assert outcome.status == 124 and "stopped after 1s of processor time: limits.cpu (command line)" in outcome.err, outcome


def test_size_of_a_file(bench: Bench) -> None:
    file = bench.stage.workspace / "large"
    more = When(lambda: "it is larger" if file.exists() and file.stat().st_size > 1 << 20 else "")
    outcome = bench.twin(probe(bench, "large_file"), more, options=["--limit", "file_size=1M"])
    assert outcome.status == 124 and "stopped at a file of 1M: limits.file_size (command line)" in outcome.err, outcome


def test_open_files(bench: Bench) -> None:
    outcome = bench.twin(probe(bench, "many_files"), Said("DONE"), options=["--limit", "open_files=50"])
    assert "EMFILE" in outcome.out, outcome


def test_disk_of_private_directories(bench: Bench) -> None:
    bare, inside = (probe(bench, "hog_files", place) for place in (bench.stage.workspace, "/tmp"))
    outcome = bench.twin(bare, Said("DONE"), inside_argv=inside, options=["--limit", "disk=50M"])
    assert "ENOSPC" in outcome.out, outcome


def test_a_shells_word_for_a_limit_is_explained(bench: Bench) -> None:
    argv = ["sh", "-c", " ".join(probe(bench, "large_file")) + "; exit $?"]
    outcome = bench.run(argv, inside=True, options=["--limit", "file_size=1M"])
    assert outcome.status == 128 + signal.SIGXFSZ and "limits.file_size is 1M (command line)" in outcome.err, outcome
    assert bench.run(["sh", "-c", "exit 153"], inside=True).err == ""  # the twin: no limit, no word


# -- in a session -----------------------------------------------------------------------------------------------------------

IN_A_SESSION = """
from houseroom import Session
with Session() as session:
    print("status", session.run(HOG, capture_output=True).returncode, session.run(["true"]).returncode)
"""


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ("", "status 0 0"),  # the twin
        ('memory = "100M"', "status -9 0"),  # what is ended is one command, not the session
    ],
)
def test_limits_in_a_session(bench: Bench, limits: str, said: str) -> None:
    bench.stage.plant(bench.stage.home / ".config/houseroom/policy.toml", f"[limits]\n{limits}\n", 0o644)
    script = IN_A_SESSION.replace("HOG", repr(probe(bench, "hog")))
    path = {"PYTHONPATH": str(bench.identity.base / "src")}
    outcome = bench.run([bench.identity.python, "-c", script], inside=False, env=path)
    assert outcome.out.strip() == said, outcome


# -- what is said beforehand ------------------------------------------------------------------------------------------------


def coverage(bench: Bench, *options: str) -> dict[str, dict[str, object]]:
    argv = [*bench.houseroom("--dry-run", "--json", *options), "true"]
    environment = {**bench.ordinary_environment(), "PYTHONPATH": str(bench.identity.base / "src")}
    done = subprocess.run(  # type: ignore[call-overload]
        argv, cwd=bench.stage.workspace, env=environment, capture_output=True, text=True, check=False, **bench.identity.credentials()
    )
    assert done.returncode == 0, done.stderr
    return {row["rule"]: row for row in json.loads(done.stdout)["coverage"]}


def groups_are_ours() -> bool:
    """Whether this process could limit memory and processes by a control group. Asked by hand, not through houseroom."""
    own = {line.split(":")[1]: line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines()}
    return all(os.access(f"{GROUPS}/{name}{own.get(name, '/?')}", os.W_OK) for name in ("memory", "pids"))


def test_coverage_says_by_what(bench: Bench) -> None:
    rows = coverage(bench, *LIMIT, *FEW, *CUT)
    memory, processes, output = (rows[f"limits.{name}"] for name in ("memory", "processes", "output"))
    assert output["state"] == "enforced"
    if bench.identity.uid == 0 and groups_are_ours():
        assert (memory["state"], memory["by"]) == ("enforced", ["cgroup v1 memory.limit_in_bytes (one ceiling for all)"])
        assert (processes["state"], processes["by"]) == ("enforced", ["cgroup v1 pids.max (one ceiling for all)"])
    elif bench.identity.uid:
        assert memory["state"] == "partly" and memory["loses"], memory
        assert (processes["state"], processes["by"]) == ("enforced", ["setrlimit"])


def test_the_floor_can_require_it(bench: Bench) -> None:
    """Where no control group can be had, a policy that must have one does not start, unless someone accepts that by name."""
    state = coverage(bench, *LIMIT)["limits.memory"]["state"]
    policy = bench.stage.home / ".config/houseroom/policy.toml"
    bench.stage.plant(policy, '[limits]\nmemory = "100M"\n[floor]\nrequire = ["limits"]\n', 0o644)
    outcome = bench.run(["touch", "made"], inside=True)
    made = (bench.stage.workspace / "made").exists()
    if state == "enforced":
        assert outcome.status == 0 and made, outcome
        return
    assert outcome.status == 125 and "can't enforce limits.memory" in outcome.err and "--accept limits.memory" in outcome.err, outcome
    assert not made
    assert bench.run(["true"], inside=True, options=["--accept", "limits.memory"]).status == 0


# -- control groups, where they are ours --------------------------------------------------------------------------------------


@pytest.fixture
def grouped(bench: Bench) -> Bench:
    if bench.identity.uid:
        pytest.skip("a user has no control groups here")
    if not groups_are_ours():
        lacking("control groups of version 1")
    return bench


def test_a_command_can_not_leave_its_group(grouped: Bench) -> None:
    """The control writes itself into another group, and it takes effect; inside the file can't be opened."""
    own = next(line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines() if ":memory:" in line)
    other = GROUPS / "memory" / own.lstrip("/") / f"hrprobe-{os.getpid()}"
    other.mkdir()
    try:
        outcome = grouped.twin(probe(grouped, "leave", other / "cgroup.procs"), Said("DONE"), options=LIMIT)
        assert "Read-only file system" in outcome.out, outcome
    finally:
        assert eventually(lambda: not (other / "cgroup.procs").read_text())
        other.rmdir()


def test_a_policy_that_lets_it_leave_says_so(grouped: Bench) -> None:
    rows = coverage(grouped, "--profile", "full-access", *LIMIT, *FEW)
    assert {rows[f"limits.{name}"]["state"] for name in ("memory", "processes")} == {"partly"}
    assert "/sys/fs/cgroup" in str(rows["limits.memory"]["loses"])


def test_the_group_is_removed_and_after_sigkill_by_the_next_start(grouped: Bench) -> None:
    before = left_behind()
    process = grouped.start(["sh", "-c", "echo READY; sleep 30"], inside=True, options=[*LIMIT, *FEW])
    try:
        assert b"READY" in grouped.until_ready(process)
        made = left_behind() - before
        assert len(made) == 2, made
        procs = {int(line) for path in made for line in (Path(path) / "cgroup.procs").read_text().split()}
        assert procs, "nobody is in it"
        # Another start meanwhile leaves it alone.
        assert grouped.run(["true"], inside=True, options=[*LIMIT, *FEW]).status == 0
        assert left_behind() - before == made
        os.kill(process.pid, signal.SIGKILL)
        process.wait(20)
        assert eventually(lambda: not any(map(alive, procs)))
        assert left_behind() - before == made, "nobody could have removed them"
        stranger = Path(next(iter(made))).parent / "houseroom-strange"
        stranger.mkdir()
        try:
            assert grouped.run(["true"], inside=True, options=[*LIMIT, *FEW]).status == 0
            assert left_behind() - before == {str(stranger)}
        finally:
            stranger.rmdir()
    finally:
        grouped.end(process)


def test_init_killed_for_memory_is_explained(grouped: Bench) -> None:
    """A limit that not even the sandbox itself fits in."""
    outcome = grouped.run(["true"], inside=True, options=["--limit", "memory=256K"])
    assert outcome.status in (124, 125) and "limits.memory" in outcome.err, outcome
