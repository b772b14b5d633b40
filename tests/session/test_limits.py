"""What is said when a limit was hit: which, its value, where it was written; and when a limit is no explanation."""

from __future__ import annotations

import signal

import pytest

from houseroom.errors import SetupFailed
from houseroom.plan.facts import Host
from houseroom.policy.model import Origin, Policy, Setting, Stratum
from houseroom.session.limits import Limits, blame, explain, limits_of, on_host

FILE = Origin("user", "policy.toml", 7, 1)
SETTINGS = {
    "limits.memory": Setting(100 << 20, FILE),
    "limits.processes": Setting(30, FILE),
    "limits.time": Setting(600.0, FILE),
    "limits.cpu": Setting(90.0, FILE),
    "limits.file_size": Setting(1 << 20, FILE),
    "limits.output": Setting(16 << 20, FILE),
}
MEMORY, FORKS, OUTPUT = ("limits.memory", "ended"), ("limits.processes", "refused"), ("limits.output", "dropped")
ALL = limits_of(Policy("test", (Stratum("user", (), SETTINGS),)))
KILL, CPU, SIZE, TERM = int(signal.SIGKILL), int(signal.SIGXCPU), int(signal.SIGXFSZ), int(signal.SIGTERM)


@pytest.mark.parametrize(
    ("kind", "code", "hits", "outcome", "detail"),
    [
        ("signalled", KILL, {MEMORY: 1}, "limit", "stopped at 100M of memory: limits.memory (policy.toml:7)"),
        ("exited", 137, {MEMORY: 1}, "limit", "stopped at 100M of memory: limits.memory (policy.toml:7)"),  # a shell passed it on
        ("killed", KILL, {MEMORY: 3}, "limit", "stopped at 100M of memory: limits.memory (policy.toml:7)"),  # init too
        ("exited", 2, {MEMORY: 1}, "exited", "1 process was ended: limits.memory is 100M (policy.toml:7)"),
        ("exited", 0, {MEMORY: 2}, "exited", "2 processes were ended: limits.memory is 100M (policy.toml:7)"),
        ("signalled", TERM, {MEMORY: 1}, "signalled", "1 process was ended: limits.memory is 100M (policy.toml:7)"),
        ("exited", 1, {FORKS: 5}, "exited", "5 processes were refused: limits.processes is 30 (policy.toml:7)"),
        ("signalled", KILL, {FORKS: 5}, "signalled", "5 processes were refused: limits.processes is 30 (policy.toml:7)"),
        ("killed", KILL, {("limits.processes", "ended"): 1}, "limit", "stopped at 30 processes: limits.processes (policy.toml:7)"),
        ("enough", 0, {OUTPUT: 1}, "limit", "stopped at 16M of output: limits.output (policy.toml:7)"),
        ("signalled", CPU, {}, "limit", "stopped after 1m30s of processor time: limits.cpu (policy.toml:7)"),
        ("signalled", SIZE, {}, "limit", "stopped at a file of 1M: limits.file_size (policy.toml:7)"),
        ("timed-out", 0, {}, "timed-out", "stopped after 10m: limits.time (policy.toml:7)"),
        (
            "exited",
            152,
            {},
            "exited",
            "status 152 is a shell's word for a program that a signal ended: limits.cpu is 1m30s (policy.toml:7)",
        ),
        ("signalled", KILL, {MEMORY: 0, FORKS: 0}, "signalled", ""),  # somebody else's kill
        ("exited", 137, {}, "exited", ""),
        ("exited", 0, {}, "exited", ""),
        ("signalled", TERM, {}, "signalled", ""),
    ],
)
def test_an_end_is_explained(kind: str, code: int, hits: dict[tuple[str, str], int], outcome: str, detail: str) -> None:
    assert explain(kind, code, hits, ALL) == (outcome, detail)


@pytest.mark.parametrize(("kind", "code"), [("signalled", CPU), ("signalled", SIZE), ("exited", 152), ("timed-out", 0)])
def test_a_limit_that_is_not_set_explains_nothing(kind: str, code: int) -> None:
    assert explain(kind, code, {MEMORY: 1, FORKS: 1, OUTPUT: 1}, Limits()) == (kind, "")


def test_two_limits_stand_beside_each_other() -> None:
    _, detail = explain("exited", 1, {MEMORY: 1, FORKS: 1}, ALL)
    assert detail.count("; ") == 1


def test_the_shorter_clock_counts() -> None:
    both = limits_of(Policy("test", (Stratum("user", (), {**SETTINGS, "session.expires": Setting(60.0, FILE)}),)))
    assert (ALL.seconds, both.seconds, Limits().seconds) == (600, 60, None)
    assert explain("timed-out", 0, {}, both)[1] == "stopped after 1m: session.expires (policy.toml:7)"


def test_a_sandbox_that_does_not_fit_is_blamed_on_its_limit() -> None:
    failure = SetupFailed("build", "the sandbox", 0, "init died without a word", "Run `houseroom doctor`.")
    assert blame(failure, {MEMORY: 0}, ALL) is failure
    assert "limits.memory is 100M (policy.toml:7): the sandbox itself needs more" in str(blame(failure, {MEMORY: 1}, ALL))


def test_nothing_is_asked_where_nothing_is_limited() -> None:
    host = Host("6.12.0", "x86_64", 1000, 1000)
    assert on_host(host, Limits()) == host
    assert on_host(host, ALL).cgroup != host.cgroup
