"""`houseroom trust`: a person sees the text and what it widens, and the answer holds for exactly that text."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from houseroom.frontends.cli import trust
from houseroom.frontends.cli.paper import Paper
from houseroom.policy.model import Places, Policy
from houseroom.policy.parse import parse
from houseroom.policy.presets import PRESETS

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
Snapshot = Callable[[str, str], None]

WIDER = '[files]\nwrite = ["~/beside"]\n'


@pytest.fixture
def project(home: Path) -> Path:
    """The project's policy file, which would widen the user's; the place it opens exists."""
    (home / "beside").mkdir()
    (home / "project" / ".houseroom").mkdir()
    file = home / "project" / ".houseroom" / "policy.toml"
    file.write_text(WIDER)
    return file


PROPOSED = """\
extends = "full-access"

[files]
write = ["build", "~/notes", "**/generated"]   # build is in the workspace already
hide = ["secrets"]
protect = ["~/.ssh/config"]

[network]
reach = "open"

[environment]
pass = ["DEPLOY_TOKEN", "EDITOR"]
withhold = ["CI"]

[limits]
time = "1h"
"""


def writes_beside(houseroom: Cli, home: Path) -> bool:
    made = home / "beside" / "made"
    made.unlink(missing_ok=True)
    houseroom("run", "--", "touch", str(made))
    return made.exists()


def test_only_trust_lets_the_project_widen(houseroom: Cli, home: Path, project: Path) -> None:
    assert not writes_beside(houseroom, home)
    assert houseroom("trust", "--yes").returncode == 0
    assert writes_beside(houseroom, home)
    project.write_text(WIDER + "# changed\n")
    assert not writes_beside(houseroom, home)
    project.write_text(WIDER)
    assert writes_beside(houseroom, home)
    assert houseroom("trust", "--revoke").returncode == 0
    assert not writes_beside(houseroom, home)


def test_where_nobody_can_be_asked_the_answer_is_no(houseroom: Cli, home: Path, project: Path) -> None:
    done = houseroom("trust", stdin="y\n")
    assert done.returncode == 1
    assert '2  write = ["~/beside"]' in done.stderr
    assert not writes_beside(houseroom, home)


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("yes", 0), ("n", 1), ("", 1), ("yup", 1)])
def test_the_answer_at_a_terminal(start: tuple[str, ...], houseroom: Cli, home: Path, project: Path, answer: str, code: int) -> None:
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [*start, "trust"],
        cwd=home / "project",
        env={"HOME": str(home), "PATH": os.defpath, "TERM": "xterm", "COLUMNS": "80"},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    ends = threading.Timer(30, child.kill)  # a question that never comes must fail the test, not hang it
    ends.start()
    try:
        shown = ""
        while "[y/N] " not in shown:
            shown += os.read(ours, 4096).decode()
        os.write(ours, f"{answer}\n".encode())
        child.communicate()
    finally:
        ends.cancel()
        os.close(ours)
    assert child.returncode == code
    assert "~/beside" in shown
    assert "\x1b[1m" in shown  # a terminal, so there is colour
    assert writes_beside(houseroom, home) is (code == 0)


def test_a_policy_with_an_error_is_not_trusted(houseroom: Cli, project: Path) -> None:
    project.write_text("[files]\nwirte = []\n")
    done = houseroom("trust", "--yes")
    assert done.returncode == 123
    assert "policy.toml:2:1" in done.stderr


def test_without_a_policy_there_is_nothing_to_trust(houseroom: Cli) -> None:
    done = houseroom("trust", "--yes")
    assert (done.returncode, done.stdout) == (123, "")
    assert ".houseroom/policy.toml" in done.stderr


def test_list_and_json(houseroom: Cli, home: Path, project: Path) -> None:
    assert houseroom("trust", "--list").stdout == "No project's policy is trusted.\n"
    said = json.loads(houseroom("trust", "--yes", "--json").stdout)
    assert said["trusted"] is True
    assert [(row["line"], row["says"]) for row in said["widens"]] == [(2, "files.write ~/beside")]
    assert houseroom("trust", "--list").stdout == "~/project/.houseroom/policy.toml\n"
    project.write_text("")
    assert "changed" in houseroom("trust", "--list").stdout
    (entry,) = json.loads(houseroom("trust", "--list", "--json").stdout)
    assert entry["current"] is False


def test_the_question(snapshot: Snapshot) -> None:
    text = PROPOSED
    where = Places("/home/ada/project", "/home/ada")
    stratum = PRESETS["workspace"]
    path = "/home/ada/project/.houseroom/policy.toml"
    current = Policy("workspace", (stratum,), stratum.under("floor.require"))
    widens = trust.widenings(parse(text, layer="project", file=path), current, where)
    says = [row.says for row in widens]
    assert "files.write ~/notes" in says
    assert "files.protect ~/.ssh/config" in says  # readable, where it was hidden
    assert "files.write build" not in says
    assert not [line for line in says if "hide" in line or "withhold" in line or "limits" in line or "EDITOR" in line]
    sheet = Paper(80, colour=False)
    snapshot("trust-question", trust.question(path, text, widens, where, sheet))
    narrow = parse('[files]\nhide = ["x"]\n', layer="project", file=path)
    assert trust.widenings(narrow, current, where) == ()
    snapshot("trust-nothing-widened", trust.question(path, '[files]\nhide = ["x"]\n', (), where, sheet))
