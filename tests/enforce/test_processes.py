"""Processes: none outside is visible or reachable, init is untouchable, nothing outlives the run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from runner import Bench, Said, alive, eventually

pytestmark = pytest.mark.needs("userns")


VICTIM = "import time; held = open('/etc/passwd'); print('READY', flush=True); time.sleep(600)"


class Victim:
    """A process of the same identity outside, with the token in its environment and on its command line."""

    def __init__(self, bench: Bench):
        self.bench = bench
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> int:
        self.end()
        self.process = self.bench.start(
            [self.bench.identity.python, "-S", "-c", VICTIM, self.bench.stage.token],
            inside=False,
            env={"VICTIM_TOKEN": self.bench.stage.token},
        )
        self.bench.until_ready(self.process)
        return self.process.pid

    def end(self) -> None:
        if self.process:
            self.bench.end(self.process)
            self.process = None


@pytest.fixture
def victim(bench: Bench) -> Iterator[Victim]:
    made = Victim(bench)
    yield made
    made.end()


ENDING = ["kill", "terminate", "kill_group", "queue_signal", "pidfd_signal"]
REACHING = [
    "pidfd_take_descriptor", "trace_attach", "trace_seize", "read_memory_call", "read_environment", "read_memory_file", "open_memory_file",
    "list_descriptors", "open_descriptor", "read_root_link", "list_root", "read_working_directory", "read_maps", "read_auxiliary_vector",
]  # fmt: skip
MEDDLING = ["write_oom_score", "change_limits", "change_niceness", "change_affinity"]
INIT_ONLY = ["enter_user_namespace"]


@pytest.mark.parametrize("way", ENDING)
def test_process_outside_cannot_be_ended(bench: Bench, victim: Victim, way: str) -> None:
    """Inside, the victim's number names nobody, or a process of the sandbox."""
    for inside in (False, True):
        pid = victim.start()
        outcome = bench.run(bench.probe("attack_processes", way, pid), inside=inside)
        assert "probe: " in outcome.out, outcome
        assert eventually(lambda pid=pid: not alive(pid), 2.0 if not inside else 0.2) != inside, outcome  # type: ignore[misc]


@pytest.mark.parametrize("way", REACHING + MEDDLING)
def test_process_outside_cannot_be_reached(bench: Bench, victim: Victim, way: str) -> None:
    pid = victim.start()
    bench.twin(bench.probe("attack_processes", way, pid), Said("DONE"))


@pytest.mark.parametrize("way", ["read_command_line", "read_every_environment"])
def test_process_outside_is_invisible(bench: Bench, victim: Victim, way: str) -> None:
    pid = victim.start()
    bench.twin(bench.probe("attack_processes", way, pid), bench.leak())


@pytest.mark.parametrize("way", [way for way in REACHING if way != "read_auxiliary_vector"] + MEDDLING + INIT_ONLY)
def test_init_cannot_be_reached(bench: Bench, victim: Victim, way: str) -> None:
    """The control does to an ordinary process of the same user what the attack then does to process 1 of the sandbox."""
    if way == "list_descriptors" and bench.identity.uid == 0:
        pytest.skip("root sees the numbers of init's descriptors, not what they are: THREATS.md, seen from inside")
    pid = victim.start()
    own = os.readlink("/proc/self/ns/pid")
    outcome = bench.twin(
        bench.probe("attack_processes", way, pid),
        Said("DONE"),
        inside_argv=bench.probe("attack_processes", "init_of", own, way),
    )
    assert "ABORTED" not in outcome.out, outcome


def test_init_survives_every_signal(bench: Bench, victim: Victim) -> None:
    """The control is ``test_process_outside_cannot_be_ended``: the same signals end an ordinary process."""
    outcome = bench.run(bench.probe("attack_processes", "survive_init_kill", os.readlink("/proc/self/ns/pid")), inside=True)
    assert "SURVIVED" in outcome.out and outcome.status == 0, outcome
    assert (bench.stage.workspace / "survived").exists()


def test_status_of_a_command(bench: Bench) -> None:
    for inside in (False, True):
        outcome = bench.run(bench.probe("attack_processes", "status"), inside=inside)
        fields = dict(line.split(":\t", 1) for line in outcome.out.splitlines() if ":\t" in line)
        capabilities = {name: int(value, 16) for name, value in fields.items() if re.fullmatch(r"Cap(Inh|Prm|Eff|Bnd|Amb)", name)}
        assert len(capabilities) == 5, outcome
        if not inside:
            assert fields["NoNewPrivs"] == "0" and any(capabilities.values())
            continue
        assert fields["NoNewPrivs"] == "1"
        assert not any(capabilities.values()), capabilities
        assert fields["Seccomp"] == "2"
        assert "descriptors: 0 1 2" in outcome.out.splitlines(), outcome


def test_inherited_descriptor_numbers_are_closed(bench: Bench) -> None:
    held = os.open("/etc/passwd", os.O_RDONLY)
    try:
        for inside in (False, True):
            outcome = bench.run(bench.probe("attack_processes", "status"), inside=inside, pass_fds=[held])
            listed = next(line for line in outcome.out.splitlines() if line.startswith("descriptors: ")).split()[1:]
            assert (str(held) in listed) != inside, outcome
    finally:
        os.close(held)


def test_only_the_sandbox_is_in_proc(bench: Bench) -> None:
    outcome = bench.run(bench.probe("attack_processes", "processes"), inside=True)
    numbers = next(line for line in outcome.out.splitlines() if line.startswith("processes: ")).split()[1:]
    assert len(numbers) <= 3 and "1" in numbers, outcome
    assert len(bench.run(bench.probe("attack_processes", "processes"), inside=False).out.split()) > 5


def beats(bench: Bench) -> int:
    file = bench.stage.workspace / "beat"
    return file.stat().st_size if file.exists() else 0


def still_beating(bench: Bench, settle: float = 0.3) -> bool:
    time.sleep(settle)
    first = beats(bench)
    time.sleep(0.4)
    return beats(bench) > first


def end_daemon(bench: Bench) -> None:
    """The bare control's daemon, by the number it wrote down, and only while it is still that program."""
    noted = bench.stage.workspace / "daemon.pid"
    if noted.exists():
        pid = int(noted.read_text())
        if "attack_processes" in Path(f"/proc/{pid}/cmdline").read_text() if Path(f"/proc/{pid}/cmdline").exists() else False:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("way", ["daemon", "daemon_ignoring_signals"])
def test_daemons_end_with_the_command(bench: Bench, way: str) -> None:
    for inside in (False, True):
        bench.stage.restore()
        outcome = bench.run(bench.probe("attack_processes", way), inside=inside)
        assert "DONE" in outcome.out and beats(bench), outcome
        beating = still_beating(bench)
        if not inside:
            end_daemon(bench)
        assert beating != inside, "the daemon lives on" if inside else "the control's daemon did not survive"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_daemons_end_with_the_supervisor(bench: Bench, number: int) -> None:
    for inside in (False, True):
        bench.stage.restore()
        process = bench.start(bench.probe("attack_processes", "daemon_then_wait"), inside=inside)
        try:
            assert b"READY" in bench.until_ready(process)
            assert still_beating(bench, 0)
            os.kill(process.pid, number)
            process.wait(20)
            beating = still_beating(bench)
        finally:
            if not inside:
                end_daemon(bench)
            bench.end(process)
        assert beating != inside, "the daemon lives on" if inside else "the control's daemon did not survive"


def test_daemons_end_with_the_time_limit(bench: Bench) -> None:
    policy = bench.stage.home / ".config/houseroom/policy.toml"
    bench.stage.plant(policy, 'extends = "workspace"\n[limits]\ntime = "2s"\n', 0o644)
    before = time.monotonic()
    outcome = bench.run(bench.probe("attack_processes", "daemon_then_wait"), inside=True)
    assert outcome.status == 124, outcome
    assert time.monotonic() - before < 25, "the command ran to its own end"
    assert beats(bench) and not still_beating(bench)


def test_set_user_id_program_gains_nothing(bench: Bench) -> None:
    program = bench.identity.base / "bin/setuid"
    if os.geteuid() != 0 or not program.exists():
        pytest.skip("needs root and gcc to make a set-user-id program")
    os.chown(program, 0 if bench.identity.uid else 65534, 0 if bench.identity.uid else 65534)
    program.chmod(0o6755)
    bench.twin([str(program)], Said("DONE"))


def test_hidden_supervisor(bench: Bench) -> None:
    """Nothing in /proc names the supervisor or its command line."""
    outcome = bench.run(["sh", "-c", "echo probe: x; cat /proc/[0-9]*/cmdline | tr '\\0' ' '; ls -l /proc/[0-9]*/exe"], inside=True)
    assert "probe: x" in outcome.out
    assert "houseroom run" not in outcome.out and "-m houseroom" not in outcome.out, outcome


def test_stopped_probe_is_told_apart(bench: Bench) -> None:
    """A death by signal is reported as a death by signal."""
    bare = bench.run(["sh", "-c", "kill -SEGV $$"], inside=False)
    boxed = bench.run(["sh", "-c", "kill -SEGV $$"], inside=True)
    assert bare.status == -signal.SIGSEGV and boxed.status in (128 + signal.SIGSEGV, -signal.SIGSEGV)
