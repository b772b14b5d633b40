"""What `houseroom learn` shows and for which file. That what it proposes suffices is in tests/enforce/test_observe.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("fcntl")  # only Linux has a command line yet

from houseroom.frontends.cli import learn
from houseroom.frontends.cli.learn import Learned, Target
from houseroom.frontends.cli.paper import Paper
from houseroom.policy.denials import CREATE_FIRST, Denial
from houseroom.policy.model import Origin, Places, Rule
from houseroom.policy.propose import Line, Proposal
from houseroom.policy.toml_edit import NotEditable

Snapshot = Callable[[str, str], None]
Cli = Callable[..., "object"]

WHERE = Places("/home/ada/project", "/home/ada")
POLICY = '# my rules\n[files]\nhide = ["~/diary"]\nwrite = [\n    "~/notes",  # for the daily report\n]\n'
USER = Target("/home/ada/.config/houseroom/policy.toml", POLICY, "user")
LINES = (
    Line("files.write", "/home/ada/.config/tool", "~/.config/tool", "learned: 2 files, by tool"),
    Line("files.write", "/var/lib/db", "/var/lib/db", "learned: 1 file, by db"),
)
PLAIN = "it is readable and not writable"
PROPOSAL = Proposal(
    LINES,
    (Line("files.write", "/home/ada/.new", "~/.new", "learned: 1 file, by tool"),),
    (
        Denial("read", "/home/ada/.ssh/id", "files.hide ~/.ssh", "built in", "private keys log in as you", ("--read", "/home/ada/.ssh/id")),
        Denial("connect", "192.0.2.1:443", "network.reach none", "built in", "the network is closed", ("--net", "open")),
    ),
    (Denial("write", "/etc/new", "files.read /", "built in", PLAIN, (), CREATE_FIRST),),
    (Rule("files.write", "~/notes", Origin("user", "policy.toml", 5)),),
    ("~/.cache",),
    ("/usr", "~/.config/git"),
)


def test_the_proposal(snapshot: Snapshot) -> None:
    learned = Learned(PROPOSAL, USER, learn.new_text(USER, LINES), "", 3, ("GITHUB_TOKEN", "NPM_TOKEN"))
    snapshot("learn-proposal", learn.as_text(learned, WHERE, Paper(80, colour=False)))


def test_a_new_profile(snapshot: Snapshot) -> None:
    target = Target("/home/ada/.config/houseroom/profiles/builds.toml", None, "user", "read-only")
    learned = Learned(Proposal(LINES), target, learn.new_text(target, LINES))
    snapshot("learn-new-profile", learn.as_text(learned, WHERE, Paper(80, colour=False)))


def test_nothing_needed(snapshot: Snapshot) -> None:
    snapshot("learn-nothing", learn.as_text(Learned(Proposal(), USER, POLICY), WHERE, Paper(80, colour=False)))


def test_what_can_not_be_edited_is_said(snapshot: Snapshot) -> None:
    closed = USER.with_(text="[files]\nwrite = []\n")
    with pytest.raises(NotEditable) as error:
        learn.new_text(closed, LINES)
    snapshot("learn-by-hand", learn.as_text(Learned(Proposal(LINES), closed, "", str(error.value)), WHERE, Paper(80, colour=False)))


def test_only_lines_are_added() -> None:
    text = learn.new_text(USER, LINES)
    assert [line for line in text.splitlines() if line not in POLICY.splitlines()] == [
        '    "~/.config/tool",  # learned: 2 files, by tool',
        '    "/var/lib/db",  # learned: 1 file, by db',
    ]
    assert [line for line in POLICY.splitlines() if line not in text.splitlines()] == []


def test_a_line_that_no_policy_could_have_is_refused() -> None:
    with pytest.raises(NotEditable):
        learn.new_text(USER, (Line("files.write", "/x", "$HOME/x", "said"),))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-p", "read-only"), "built in and can't be added to"),
        (("-p", "read-only", "--into", "user"), "your policy file grants nothing"),
        (("--into", "../x"), "not the name of a profile"),
    ],
)
def test_a_file_that_can_not_be_meant(houseroom: Callable[..., object], home: Path, arguments: tuple[str, ...], says: str) -> None:
    done = houseroom("learn", *arguments, "--", "touch", "made")
    assert done.returncode == 2  # type: ignore[attr-defined]
    assert says in done.stderr  # type: ignore[attr-defined]
    assert not (home / "project/made").exists(), "nothing was started"


@pytest.mark.needs("userns", "landlock", "seccomp_notify")
def test_where_it_is_written(houseroom: Callable[..., object], home: Path) -> None:
    """Saved without a terminal only with --yes; a new profile begins with what it extends; the project's file is for trust."""
    other = home / "other"
    other.mkdir()
    policy = home / ".config/houseroom/policy.toml"
    touch = ("--", "touch", str(other / "file"))
    done = houseroom("learn", "--save", *touch)
    assert "nobody can be asked" in done.stderr  # type: ignore[attr-defined]
    assert not policy.exists()
    houseroom("learn", "--save", "--yes", *touch)
    assert policy.read_text() == f'[files]\nwrite = [\n    "{"~/other"}",  # learned: 1 file, by touch\n]\n'
    assert policy.stat().st_mode & 0o777 == 0o600
    policy.unlink()
    houseroom("learn", "-p", "read-only", "--into", "mine", "--save", "--yes", *touch)
    profile = home / ".config/houseroom/profiles/mine.toml"
    assert profile.read_text().startswith('extends = "read-only"\n\n[files]\n')
    assert houseroom("run", "-p", "mine", *touch).returncode == 0  # type: ignore[attr-defined]
    (other / "file").unlink()
    done = houseroom("learn", "--into", "project", "--save", "--yes", *touch)
    assert "once you trust it" in done.stderr  # type: ignore[attr-defined]
    assert (home / "project/.houseroom/policy.toml").exists()
    assert houseroom("run", *touch).returncode != 0  # type: ignore[attr-defined]  # not trusted: it only narrows
    assert not (other / "file").exists()


@pytest.mark.needs("userns", "landlock", "seccomp_notify")
def test_json_is_one_line(houseroom: Callable[..., object], home: Path) -> None:
    done = houseroom("learn", "--json", "--", "sh", "-c", "echo out; exit 3")
    assert done.stdout == "out\n"  # type: ignore[attr-defined]
    document = json.loads(done.stderr)  # type: ignore[attr-defined]
    assert document["exit_code"] == 3
    assert document["add"] == []
    assert document["file"] == str(home / ".config/houseroom/policy.toml")
