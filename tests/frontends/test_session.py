"""``houseroom session`` and ``houseroom shell`` as a user sees them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
Snapshot = Callable[[str, str], None]


@pytest.fixture
def work(houseroom: Cli) -> Iterator[str]:
    """A session of this name."""
    begun = houseroom("session", "start", "work", "--quiet")
    assert (begun.returncode, begun.stdout, begun.stderr) == (0, "work\n", "")
    yield "work"
    houseroom("session", "stop", "work")


def steady(text: str) -> str:
    """What differs from run to run, written as a word."""
    text = re.sub(r"process \d+", "process NUMBER", text)
    text = re.sub(r"\d+ processes, \d+ MiB", "SOME processes, SOME MiB", text)
    return re.sub(r"\b(\d+)s\b", lambda match: "0s" if int(match[1]) < 60 else match[0], text)


class TestOutput:
    def test_what_start_says(self, houseroom: Cli, snapshot: Snapshot) -> None:
        begun = houseroom("session", "start", "work")
        again = houseroom("session", "start", "work")
        houseroom("session", "stop", "work")
        assert (begun.returncode, begun.stdout, again.returncode, again.stdout) == (0, "work\n", 125, "")
        snapshot("session-start", begun.stderr + again.stderr)

    def test_list_and_show(self, houseroom: Cli, work: str, snapshot: Snapshot) -> None:
        listed, shown = houseroom("session", "list"), houseroom("session", "show", work)
        assert (listed.returncode, shown.returncode) == (0, 0)
        assert listed.stderr == shown.stderr == ""
        if json.loads(houseroom("session", "show", "--json").stdout)["rung"] != "namespaces":
            pytest.skip("other rungs have more to say")
        snapshot("session-list", steady(listed.stdout))
        snapshot("session-show", steady(shown.stdout))

    def test_as_json(self, houseroom: Cli, work: str) -> None:
        (listed,) = json.loads(houseroom("session", "list", "--json").stdout)
        shown = json.loads(houseroom("session", "show", "--json").stdout)
        assert listed["name"] == shown["name"] == work
        assert set(listed) | {"processes", "memory"} == set(shown)
        assert shown["workspace"].endswith("/project")
        assert (shown["policy"], shown["idle"], shown["commands"], shown["ends_by"]) == ("workspace", 1800, [], "idle")
        assert {row["rule"] for row in shown["coverage"]} >= {"files.write", "files.hide"}
        assert shown["started"] <= shown["ends"]
        assert shown["processes"] >= 3
        assert shown["memory"] > 0

    def test_a_running_command_is_shown(self, houseroom: Cli, start: tuple[str, ...], home: Path, work: str) -> None:
        argv = [*start, "session", "exec", work, "--", "sh", "-c", "echo READY; sleep 50"]
        environment = {"PATH": os.defpath, "HOME": str(home)}
        with subprocess.Popen(argv, cwd=home / "project", env=environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
            assert process.stdout
            assert process.stdout.readline() == b"READY\n"
            assert "1 running" in houseroom("session", "list").stdout
            assert "sh -c echo READY; sleep 50" in houseroom("session", "show").stdout
            process.kill()

    def test_where_there_is_none(self, houseroom: Cli, snapshot: Snapshot) -> None:
        said = []
        for words in (["list"], ["show"], ["show", "work"], ["stop"], ["stop", "work"], ["stop", "--all"], ["exec", "work", "--", "true"]):
            done = houseroom("session", *words)
            assert done.stdout == ""
            said.append(f"$ houseroom session {' '.join(words)}\n{done.stderr}exit code {done.returncode}\n")
        assert json.loads(houseroom("session", "list", "--json").stdout) == []
        snapshot("session-none", "\n".join(said))

    def test_mistakes(self, houseroom: Cli, work: str, snapshot: Snapshot) -> None:
        said = []
        for words in (
            ["exec", work],
            ["exec", work, "--"],
            ["exec", work, "--cwd", "/", "true"],
            ["exec", "wrok", "true"],
            ["exec", "--terminal", work, "true"],
            ["exec", "--cwd", "/nowhere", work, "true"],
            ["exec", work, "--", "no-such-command"],
            ["exec", work, "--", "/etc/passwd"],
            ["start", "no/name"],
            ["start", "x", "--idle", "soon"],
            ["stop", work, "--all"],
            ["attach", work],
            ["shwo"],
        ):
            done = houseroom("session", *words)
            assert done.stdout == ""
            said.append(f"$ houseroom session {' '.join(words)}\n{done.stderr}exit code {done.returncode}\n")
        snapshot("session-mistakes", "\n".join(said))

    def test_the_only_one_need_not_be_named(self, houseroom: Cli, work: str) -> None:
        assert houseroom("session", "show").stdout.startswith(work)
        assert houseroom("session", "start", "other", "-q").returncode == 0
        unclear = houseroom("session", "show")
        assert (unclear.returncode, unclear.stdout) == (2, "")
        assert "other, work" in unclear.stderr
        assert houseroom("session", "stop", "--all").returncode == 0
        assert houseroom("session", "list", "--json").stdout == "[]\n"

    def test_rough_durations(self) -> None:
        from houseroom.frontends.cli.session import rough

        known = {-1: "0s", 0.9: "0s", 59: "59s", 60: "1m", 3599: "59m", 3600: "1h", 5400: "1h30m", 86400: "1d", 86400 * 3.5: "3d"}
        assert {seconds: rough(seconds) for seconds in known} == known


class TestExec:
    def test_options_are_the_commands_after_its_name(self, houseroom: Cli, work: str) -> None:
        assert houseroom("session", "exec", work, "echo", "--json", "-h").stdout == "--json -h\n"
        assert houseroom("session", "exec", work, "--", "echo", "--", "x").stdout == "-- x\n"

    def test_the_fast_and_the_slow_way_say_the_same(self, houseroom: Cli, work: str) -> None:
        """An option leads to the slow one."""
        for argv in (["pwd"], ["sh", "-c", "echo err >&2; exit 3"], ["no-such"], ["./"], ["sh", "-c", "kill -9 $$"]):
            fast, slow = houseroom("session", "exec", work, *argv), houseroom("session", "exec", "--cwd", ".", work, *argv)
            assert (fast.returncode, fast.stdout, fast.stderr) == (slow.returncode, slow.stdout, slow.stderr)

    def test_bytes_arrive(self, houseroom: Cli, work: str) -> None:
        odd = [b"", b"\xff\xfe", "größer".encode()]
        for locale in ("C", "C.UTF-8"):
            done = houseroom("session", "exec", work, "--", "printf", r"%s\0", *odd, LC_ALL=locale)
            assert os.fsencode(done.stdout) == b"\0".join(odd) + b"\0"


ALLOWED = frozenset(
    "houseroom houseroom.bundle houseroom.__main__ houseroom.frontends houseroom.frontends.cli houseroom.frontends.cli.main "
    "houseroom.frontends.cli.exec_client houseroom.session houseroom.session.errands __future__ _socket gc posix".split()
)


def test_exec_imports_next_to_nothing(home: Path, start: tuple[str, ...], work: str) -> None:
    """Scripts and hooks pay for it each time; a list is exact where a stopwatch is noise."""

    def imported(*argv: str) -> set[str]:
        done = subprocess.run(
            [start[0], "-I", "-S", "-X", "importtime", *argv],
            cwd=home / "project",
            env={"HOME": str(home), "PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}

    command = str(Path(__file__).parents[2] / "scripts/houseroom")
    found = imported(command, "session", "exec", work, "--", "true") - imported("-c", "pass")
    assert "houseroom.frontends.cli.exec_client" in found
    assert not {name for name in found if not name.startswith("houseroom.bundl")} - ALLOWED


def test_a_shell_without_a_terminal_reads_its_input(houseroom: Cli) -> None:
    done = houseroom("shell", stdin="echo $HOUSEROOM; echo > ../outside; exit 5\n", SHELL="/bin/sh")
    assert (done.returncode, done.stdout) == (5, "1\n")
