"""The relay of a command's output: byte for byte up to the limit, whatever the reader is, and never waiting for one for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from houseroom.session.budget import Budget

SOURCE = Path(__file__).resolve().parents[2] / "src"

# Relays what a child prints, as ``sandbox.run`` does: [limit, milliseconds or -1, script of the child] → status: how, how many dropped.
DRIVER = """
import os, sys
sys.path.append(sys.argv[1])
from houseroom.session.output import Relay
most, patience = int(sys.argv[2]), int(sys.argv[3])
with Relay(most) as relay:
    ended, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        for number, descriptor in relay.theirs.items():
            os.dup2(descriptor, number)
        relay.close()
        os.close(ended)
        os.set_inheritable(tell, True)
        os.execv(sys.executable, [sys.executable, "-S", "-c", sys.argv[4]])
    os.close(tell)
    relay.handed_over()
    how = relay.until(ended, None if patience < 0 else patience)
    if how:
        os.kill(pid, 9)
    relay.finish(None if not how else 0)
    os.waitpid(pid, 0)
    with open(sys.argv[5], "w") as file:
        file.write(f"{how} {relay.budget.dropped}")
"""


def relayed(
    script: str, tmp_path: Path, *, most: int = 1 << 40, patience: int = -1, **streams: object
) -> tuple[subprocess.CompletedProcess[bytes], str]:
    told = tmp_path / "told"
    argv = [sys.executable, "-S", "-c", DRIVER, str(SOURCE), str(most), str(patience), script, str(told)]
    done = subprocess.run(argv, timeout=60, check=False, **(streams or {"capture_output": True}))  # type: ignore[call-overload]
    return done, told.read_text()


def test_a_budget_is_of_all_streams() -> None:
    budget = Budget(10)
    assert budget.take(b"12345") == b"12345"
    assert (budget.take(b"67890"), budget.over) == (b"67890", False)  # exactly so much is no more than that
    assert (budget.take(b"abc"), budget.dropped, budget.over) == (b"", 3, True)
    assert Budget(2).take(b"xyz") == b"xy"


def test_all_bytes_of_both_streams_arrive(tmp_path: Path) -> None:
    script = "import os\nfor at in range(4096): os.write(1, bytes(range(256))); os.write(2, bytes([at % 256]))"
    done, told = relayed(script, tmp_path)
    assert (done.stdout, done.stderr) == (bytes(range(256)) * 4096, bytes(range(256)) * 16)
    assert told == " 0"


@pytest.mark.parametrize(("most", "how"), [(999, "enough"), (1000, ""), (1001, "")])
def test_the_limit_is_exact(tmp_path: Path, most: int, how: str) -> None:
    lives_on = "time.sleep(50)" if how else ""  # until it is ended; one that ends by itself may do so before it is enough
    done, told = relayed(f"import os, time; os.write(1, b'x' * 1000); {lives_on}", tmp_path, most=most)
    assert (len(done.stdout), told) == (min(most, 1000), f"{how} {max(0, 1000 - most)}")


def test_more_than_the_limit_stops_a_writer_that_never_ends(tmp_path: Path) -> None:
    done, told = relayed("import os\nwhile True: os.write(1, b'y' * 1000)", tmp_path, most=1 << 20)
    assert len(done.stdout) == 1 << 20
    assert told.startswith("enough ")


@pytest.mark.parametrize("script", ["import time; time.sleep(50)", "import os\nwhile True: os.write(1, b'y' * 1000)"])
def test_the_time_is_kept_also_where_nobody_reads(tmp_path: Path, script: str) -> None:
    reader, writer = os.pipe()
    try:
        _, told = relayed(script, tmp_path, patience=300, stdout=writer, stderr=writer)
    finally:
        os.close(reader)
        os.close(writer)
    assert told == "timed-out 0"


def test_a_socket_and_a_file_are_served_too(tmp_path: Path) -> None:
    import socket

    ours, theirs = socket.socketpair()
    file = tmp_path / "file"
    script = "import os\nos.write(1, b'x' * 10000); os.write(2, b'z' * 300000)"
    with ours, theirs, file.open("ab") as appended:
        appended.write(b"before")
        appended.flush()
        relayed(script, tmp_path, stdout=theirs, stderr=appended)
        theirs.close()
        heard = b"".join(iter(lambda: ours.recv(65536), b""))
    assert heard == b"x" * 10000
    assert file.read_bytes() == b"before" + b"z" * 300000


def test_one_file_for_both_keeps_their_order(tmp_path: Path) -> None:
    file = tmp_path / "both"
    script = "import os\nfor at in range(500): os.write(1, b'o%d ' % at); os.write(2, b'e%d ' % at)"
    with file.open("wb") as both:
        relayed(script, tmp_path, stdout=both, stderr=both)
    assert file.read_bytes() == b"".join(b"o%d e%d " % (at, at) for at in range(500))


def test_a_reader_that_is_gone_ends_the_writer(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        _, told = relayed("import os\nwhile True: os.write(1, b'y' * 1000)", tmp_path, stdout=writer, stderr=subprocess.DEVNULL)
    finally:
        os.close(writer)
    assert told == " 0"  # a broken pipe, as without us


def test_a_closed_stream_stays_closed(tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = "import os\ntry: os.fstat(2)\nexcept OSError: os.write(1, b'closed')"
    argv = [sys.executable, "-S", "-c", DRIVER, str(SOURCE), "1000", "-1", script, str(told)]
    done = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", *argv], stdout=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, b"closed")
