"""What limits did while a command ran, and what is kept of a holder's failure."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fcntl")  # only Linux has sessions yet

from houseroom.enforce.linux import tally, wire
from houseroom.enforce.linux.starters import Starters
from houseroom.session import holder_log
from houseroom.session.limits import Limits
from houseroom.session.session_limits import SessionLimits

MEMORY, PROCESSES = tally.KINDS
GIVEN = {
    MEMORY: (1e8, "100M", "policy.toml:2"),
    PROCESSES: (30.0, "30", "policy.toml:3"),
    "limits.time": (10.0, "10s", "policy.toml:4"),
    "session.expires": (5.0, "5s", "policy.toml:5"),
}


@pytest.fixture
def ends() -> Iterator[tuple[Starters, socket.socket]]:
    """The supervisor's side of a session, and init's end of the line."""
    (control, init), (first, starter) = socket.socketpair(), socket.socketpair()
    starters = Starters(control.detach(), first.detach())
    yield starters, init
    starters.let_go()
    init.close()
    starter.close()


def test_what_init_ended_is_counted_by_limit(ends: tuple[Starters, socket.socket]) -> None:
    starters, init = ends
    limits = SessionLimits(Limits(GIVEN), {}, starters)
    assert limits.counts and limits.told and limits.hits() == {}
    for key in (MEMORY, MEMORY, PROCESSES):
        wire.send_status(init.fileno(), wire.LIMIT, tally.KINDS.index(key))
    wire.send_status(init.fileno(), wire.UNWATCHED, 0)
    wire.send_status(init.fileno(), wire.LIMIT, 77)  # no limit that there is
    starters.listen()
    assert limits.hits() == {(MEMORY, "ended"): 2, (PROCESSES, "ended"): 1}
    assert starters.notices == {wire.UNWATCHED}
    assert limits.since({(MEMORY, "ended"): 1}) == {(MEMORY, "ended"): 1, (PROCESSES, "ended"): 1}
    assert limits.end() == "stopped at 30 processes: limits.processes (policy.toml:3)"


def test_what_init_says_before_an_answer_is_not_lost(ends: tuple[Starters, socket.socket]) -> None:
    starters, init = ends
    for answer in (lambda: wire.send_notes(init.fileno(), b"noted"), lambda: wire.send_status(init.fileno(), wire.ENDED, 0)):
        wire.send_status(init.fileno(), wire.LIMIT, 0)
        answer()
    assert starters.notes(starters.first) == b"noted"
    assert starters.end(starters.first)
    assert starters.limited == {(MEMORY, "ended"): 2}


@pytest.mark.parametrize(
    ("code", "hits", "how", "expected"),
    [
        (0, {}, {}, ("exited", "")),
        (-9, {}, {}, ("signalled", "")),
        (-9, {(MEMORY, "ended"): 1}, {}, ("limit", "stopped at 100M of memory: limits.memory (policy.toml:2)")),
        (137, {(MEMORY, "ended"): 1}, {}, ("limit", "stopped at 100M of memory: limits.memory (policy.toml:2)")),
        (-9, {(MEMORY, "ended"): 1}, {"killed": True}, ("signalled", "")),
        (1, {(MEMORY, "ended"): 1}, {}, ("exited", "1 process was ended: limits.memory is 100M (policy.toml:2)")),
        (-11, {(PROCESSES, "refused"): 2}, {}, ("signalled", "2 processes were refused: limits.processes is 30 (policy.toml:3)")),
        (-9, {}, {"late": True}, ("timed-out", "stopped after 10s: limits.time (policy.toml:4)")),  # not the session's time, though less
    ],
)
def test_outcome(
    ends: tuple[Starters, socket.socket], code: int, hits: dict[tuple[str, str], int], how: dict[str, bool], expected: tuple[str, str]
) -> None:
    assert SessionLimits(Limits(GIVEN), {}, ends[0]).outcome(code, hits, **how) == expected  # type: ignore[arg-type]


def test_a_failure_of_a_holder_is_kept_by_name_and_bounded(tmp_path: Path) -> None:
    home = str(tmp_path)
    assert holder_log.last(home) == ""
    holder_log.write(home, "work", ValueError("x" * 1_000_000))
    assert holder_log.last(home) == "work"
    assert Path(holder_log.path(home)).stat().st_size == 64 << 10
    holder_log.write(home, "other", ValueError("the last one"))
    assert holder_log.last(home) == "other" and Path(holder_log.path(home)).stat().st_size < 1000
    holder_log.forget(home, "work")
    assert holder_log.last(home) == "other"
    holder_log.forget(home, "other")
    assert not os.path.exists(holder_log.path(home))


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("session work, as it was")
    log = Path(holder_log.path(str(tmp_path)))
    log.parent.mkdir(parents=True, mode=0o700)
    log.symlink_to(victim)
    holder_log.write(str(tmp_path), "work", ValueError("x"))
    assert victim.read_text() == "session work, as it was"
    assert holder_log.last(str(tmp_path)) == ""
