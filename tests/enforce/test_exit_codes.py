"""The command's own status passes through; deaths by signal, set-up and policy failures are told apart from it."""

from __future__ import annotations

import os
import signal
import time

import pytest
from runner import Bench, through_terminal

pytestmark = pytest.mark.needs("userns")


@pytest.mark.parametrize("code", [0, 1, 2, 3, 42, 63, 64, 77, 100, 122, 123, 124, 125, 126, 127, 128, 129, 130, 137, 143, 200, 254, 255])
def test_exit_code_passes_through(bench: Bench, code: int) -> None:
    assert bench.run(["sh", "-c", f"exit {code}"], inside=True).status == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGPIPE, signal.SIGUSR1])
def test_death_by_signal(bench: Bench, number: int) -> None:
    assert bench.run(["sh", "-c", f"kill -{int(number)} $$"], inside=True).status == 128 + number


def test_not_found_and_not_executable(bench: Bench) -> None:
    missing = bench.run(["no-such-program-anywhere"], inside=True)
    assert missing.status == 127 and "no-such-program-anywhere" in missing.err, missing
    plain = bench.run(["./file"], inside=True)
    assert plain.status == 126 and "./file" in plain.err, plain
    assert bench.run(["./directory"], inside=True).status == 126
    assert bench.run(["./no/such"], inside=True).status == 127


def test_policy_error(bench: Bench) -> None:
    bench.stage.plant(bench.stage.home / ".config/houseroom/policy.toml", "[files\n", 0o644)
    outcome = bench.run(["touch", "made"], inside=True)
    assert outcome.status == 123 and "policy.toml" in outcome.err, outcome
    assert not (bench.stage.workspace / "made").exists()


def test_set_up_failure(bench: Bench) -> None:
    """A workspace that does not exist is named, and nothing is started."""
    outcome = bench.run(["true"], inside=True, options=["--workspace", str(bench.stage.home / "missing")])
    assert outcome.status in (2, 123, 125) and "missing" in outcome.err, outcome


def test_usage_error(bench: Bench) -> None:
    assert bench.run(["true"], inside=True, options=["--no-such-option"]).status == 2


def test_interrupt_from_the_terminal(bench: Bench) -> None:
    """Ctrl-C reaches the command and the status says so."""
    outcome = through_terminal(bench, ["sh", "-c", "echo READY; sleep 30"], inside=True, keys=b"\x03")
    assert outcome.status in (130, -signal.SIGINT), outcome


def test_interrupt_that_the_command_handles(bench: Bench) -> None:
    """A command that catches Ctrl-C goes on and its own status counts."""
    script = "trap 'echo caught; exit 7' INT; echo READY; while :; do sleep 0.05; done"
    outcome = through_terminal(bench, ["sh", "-c", script], inside=True, keys=b"\x03")
    assert outcome.status == 7 and "caught" in outcome.out, outcome


def test_terminate_is_forwarded(bench: Bench) -> None:
    """SIGTERM to the supervisor ends the command; the caller sees a death or its status."""
    process = bench.start(["sh", "-c", "trap 'echo bye; exit 9' TERM; echo READY; while :; do sleep 0.05; done"], inside=True)
    try:
        assert b"READY" in bench.until_ready(process)
        os.kill(process.pid, signal.SIGTERM)
        process.wait(20)
    finally:
        bench.end(process)
    assert process.returncode in (9, 143, -signal.SIGTERM)


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.1, 0.5])
def test_a_termination_is_never_lost(bench: Bench, delay: float) -> None:
    """Whenever it comes, before the sandbox stands or while the command begins, all of it ends."""
    for turn in range(4):
        process = bench.start(["sleep", "600"], inside=True)
        try:
            time.sleep(delay + turn * 0.004)
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(20) in (143, -signal.SIGTERM)
        finally:
            bench.end(process)


BREAK = """
import errno, sys
from houseroom.enforce.linux import watch
from houseroom.__main__ import main

def fail(*_):
    raise OSError(errno.ENOMEM, "Cannot allocate memory")

watch.Watcher.walk = fail
sys.exit(main(["run", "--", "sleep", "600"]))
"""


def test_what_breaks_init_is_told(bench: Bench) -> None:
    """The system's word for it, and nothing inside lives on."""
    environment = {"PYTHONPATH": str(bench.identity.base / "src")}
    outcome = bench.run([bench.identity.python, "-c", BREAK], inside=False, env=environment)
    assert outcome.status == 125 and "Cannot allocate memory" in outcome.err, outcome
