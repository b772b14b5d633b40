"""Terminals and background sessions where mechanisms are missing: they work the same, and end as completely."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import time
from typing import TYPE_CHECKING

import pytest
from by_name import Sessions, beater, beating, begins, descendants
from runner import alive, eventually
from test_rungs import STARTS, lacking
from typist import Typist

if TYPE_CHECKING:
    from conftest import Lacking

pytestmark = [pytest.mark.needs("userns")]


class Without(Sessions):
    """Calls on a kernel that lacks what the bench lacks."""

    bench: Lacking

    def argv(self, *arguments: str) -> list[str]:
        return [*self.bench._without(), *super().argv(*arguments)]

    def accepted(self) -> list[str]:
        return [word for name in self.bench.accept for word in ("--accept", name)]


def stop_and_go_on(line: list[str], bench: Lacking) -> None:
    """Ctrl-Z in the command gives the user's shell back; `fg` goes on, Ctrl-C ends it."""
    running = bench.stage.workspace / "running"
    with Typist(bench, ["bash", "--norc", "-i"]) as user:
        user.wait_for("ready> ")
        user.type(shlex.join([*line, "sh", "-c", "stty size > running; sleep 2; echo went on; exec sleep 50"]) + "\r")
        user.until(lambda: running.exists() and running.read_text() == "24 80\n" and user.raw(), "the job")
        time.sleep(0.2)
        user.type(b"\x1a")
        user.wait_for("Stopped")
        user.wait_for("ready> ")
        user.type("fg\r")
        user.wait_for("went on\r\n")
        user.type(b"\x03")
        user.wait_for("ready> ")
        user.type("echo code $?\r")
        user.wait_for("code 130\r\n")
        user.type("exit\r")
        user.end()


@pytest.mark.parametrize("without", [name for name in STARTS if name != "a-whole-proc"])  # there we are process 1, which nothing stops
def test_job_control_on_every_rung(bench: Lacking, without: str) -> None:
    stop_and_go_on(lacking(bench, without).houseroom(), bench)


def test_as_process_1_of_a_container_nothing_stops_us(bench: Lacking) -> None:
    """Nor is there a shell to go back to: the command goes on at once."""
    with Typist(bench, [*lacking(bench, "a-whole-proc").houseroom(), "sh", "-c", "tty; kill -TSTP $$; echo went on; exit 3"]) as user:
        user.wait_for("/dev/pts/")
        user.wait_for("went on\r\n")
        assert user.end() == 3, user


@pytest.mark.parametrize("without", ["our-namespaces", "user-namespaces"])
def test_sessions_on_every_rung(bench: Lacking, without: str) -> None:
    sessions = Without(lacking(bench, without))
    try:
        sessions.start("work", *sessions.accepted())
        assert sessions.sh("work", "echo out; exit 7").returncode == 7
        stop_and_go_on(sessions.argv("session", "exec", "work", "--"), bench)
        first = sessions.open("session", "exec", "work", "--", "sh", "-c", beater("first") + "sleep 50")
        assert begins(sessions.beat("first"))
        first.kill()
        first.communicate()
        assert eventually(lambda: not beating(sessions.beat("first")))
        assert sessions.sh("work", beater("left") + "true").returncode == 0
        holder = sessions.holder("work")
        below = list(descendants(holder))
        assert begins(sessions.beat("left"))
        os.kill(holder, signal.SIGTERM)
        assert eventually(lambda: not any(map(alive, (holder, *below))))
        assert sessions.names() == [] and sessions.left() == []
    finally:
        sessions.end()


@pytest.mark.parametrize("without", ["our-namespaces", "user-namespaces"])
def test_a_killed_holder_takes_everything_along_on_every_rung(bench: Lacking, without: str) -> None:
    sessions = Without(lacking(bench, without))
    try:
        sessions.start("work", *sessions.accepted())
        assert sessions.sh("work", beater("left") + "true").returncode == 0
        holder = sessions.holder("work")
        below = list(descendants(holder))
        assert begins(sessions.beat("left"))
        scrap = sessions.sh("work", "echo $TMPDIR").stdout.decode().strip()
        os.kill(holder, signal.SIGKILL)
        assert eventually(lambda: not any(map(alive, below)))
        assert not beating(sessions.beat("left"))
        assert sessions.names() == [] and sessions.left() == []
        if without == "user-namespaces":  # the one thing that stays: nobody is left who may remove it
            assert scrap.startswith("/tmp/houseroom-")
            shutil.rmtree(scrap)
    finally:
        sessions.end()
