"""A standard input that is a file can be read and not changed, and process 1 gives nothing away of what it was started with."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from runner import Bench, Outcome

pytestmark = pytest.mark.needs("userns")

CHANGE = """
import os, sys
print("probe: stdin", flush=True)
for act in (lambda: os.fchmod(0, 0o666), lambda: os.utime(0, (1, 1)), lambda: os.setxattr(0, "user.probe", b"x"), lambda: os.truncate(0, 0),
            lambda: os.chmod("/proc/self/fd/0", 0o666), lambda: os.write(os.open("/proc/self/fd/0", os.O_WRONLY), b"changed")):
    try:
        act()
        print("done", flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""


def with_input(bench: Bench, argv: list[str], file: Path, *, inside: bool, at: int = 0, gone: bool = False) -> Outcome:
    """Run with a file as standard input, its position at ``at``, its name removed if ``gone``."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.lseek(descriptor, at, os.SEEK_SET)
        if gone:
            file.unlink()
        return bench.run(argv, inside=inside, stdin=descriptor)
    finally:
        os.close(descriptor)


def planted(bench: Bench, where: str) -> Path:
    return bench.stage.plant(bench.stage.root / where, "0123456789", 0o600)


def test_what_is_read_from_can_not_be_changed(bench: Bench) -> None:
    argv = [bench.identity.python, "-S", "-c", CHANGE]
    file = planted(bench, "outside/input")
    bare = with_input(bench, argv, file, inside=False)
    assert "done" in bare.out, bare
    assert file.stat().st_mode & 0o777 == 0o666
    file.unlink()
    file = planted(bench, "outside/input")
    before = (file.read_bytes(), file.stat().st_mode, file.stat().st_mtime_ns, file.stat().st_ctime_ns, os.listxattr(file))
    inside = with_input(bench, argv, file, inside=True)
    assert "probe: stdin" in inside.out, inside
    assert "done" not in inside.out, inside
    assert (file.read_bytes(), file.stat().st_mode, file.stat().st_mtime_ns, file.stat().st_ctime_ns, os.listxattr(file)) == before


@pytest.mark.parametrize("at", [0, 3, 10])
@pytest.mark.parametrize("where", ["outside/input", "home/project/input"])
def test_it_is_read_from_where_the_caller_stood(bench: Bench, where: str, at: int) -> None:
    for inside in (False, True):
        outcome = with_input(bench, ["cat"], planted(bench, where), inside=inside, at=at)
        assert (outcome.status, outcome.out) == (0, "0123456789"[at:]), outcome


def test_it_can_be_read_again_from_the_start(bench: Bench) -> None:
    argv = [bench.identity.python, "-S", "-c", "import os; os.lseek(0, 1, 0); print(os.read(0, 99)); print(os.fstat(0).st_size)"]
    outcome = with_input(bench, argv, planted(bench, "outside/input"), inside=True, at=5)
    assert outcome.out == "b'123456789'\n10\n", outcome


@pytest.mark.parametrize("at", [0, 4])
def test_a_file_whose_name_is_gone_is_still_read(bench: Bench, at: int) -> None:
    for inside in (False, True):
        outcome = with_input(bench, ["cat"], planted(bench, "outside/input"), inside=inside, at=at, gone=True)
        assert (outcome.status, outcome.out) == (0, "0123456789"[at:]), outcome


def test_a_file_opened_for_both_stays_writable(bench: Bench) -> None:
    """The caller gave away the right to write it; only what was given for reading stays so."""
    file = planted(bench, "outside/input")
    descriptor = os.open(file, os.O_RDWR)
    try:
        outcome = bench.run(["sh", "-c", "printf new >&0"], inside=True, stdin=descriptor)
    finally:
        os.close(descriptor)
    assert outcome.status == 0, outcome
    assert file.read_text() == "new3456789"


WORDS = "tr '\\0' ' ' < /proc/{process}/cmdline; cat /proc/{process}/environ 2> /dev/null | tr '\\0' ' '"


def test_process_1_shows_neither_its_words_nor_its_environment(bench: Bench) -> None:
    """It is forked from the supervisor, whose argument list and environment hold what is withheld."""
    token = bench.stage.token
    parent = "import subprocess, sys; subprocess.run(['sh', '-c', sys.argv[1]])"
    bare = bench.run(
        [bench.identity.python, "-S", "-c", parent, WORDS.format(process="$PPID"), token], inside=False, env={"A_TOKEN": token}
    )
    assert bare.out.count(token) == 2, bare  # so this is how such words are read
    script = "echo probe: words; " + WORDS.format(process="1")
    inside = bench.run(["sh", "-c", script, "sh", token], inside=True, env={"A_TOKEN": token})
    assert inside.out.strip() == "probe: words", inside
    own = bench.run(["sh", "-c", WORDS.format(process="self"), "sh", token], inside=True)
    assert token in own.out, own  # reading it works inside, for what is the command's own


LOOK = """
import os, stat
def kind(fd):
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return "closed"
    return "socket" if stat.S_ISSOCK(mode) else "directory" if stat.S_ISDIR(mode) else "other"
kinds = {kind(fd) for fd in range(256)}
open("seen", "w").write(" ".join(sorted(kinds)))
"""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_lets_nothing_of_ours_in(bench: Bench, closed: str) -> None:
    """No socket or file that houseroom opens takes its number; the command finds it closed or empty."""
    argv = [bench.identity.python, "-S", "-c", LOOK]
    seen = bench.stage.workspace / "seen"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        outside = bench.run(["sh", "-c", f'"$@" 7<&0 {closed}', "sh", *argv], inside=False, stdin=theirs.fileno())
    assert "socket" in seen.read_text(), outside
    seen.unlink()
    environment = {"PYTHONPATH": str(bench.identity.base / "src")}
    inside = bench.run(["sh", "-c", f'"$@" {closed}', "sh", *bench.command(argv, inside=True)], inside=False, env=environment)
    assert inside.status == 0, inside
    assert seen.read_text() in ("other", "closed other")
