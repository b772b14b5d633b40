"""Looking again at what a plan was made of: quick, and told of every change by which a secret could show or a protection be lifted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from houseroom.enforce.linux import scan
from houseroom.plan.questions import Questions, ask
from houseroom.policy.decide import PlacedPolicy
from houseroom.policy.model import Origin, Places, Policy, Rule, Stratum

pytestmark = pytest.mark.needs("linux")

ORIGIN = Origin("user", "user.toml", 1, 1)
HIDDEN = [f"{{workspace}}/many/secret-{number}" for number in range(20)]
RULES = {
    "read": ["/"],
    "write": ["{workspace}"],
    "hide": [*HIDDEN, "~/.netrc", "~/.ssh", "~/by-link/token", "**/.env"],
    "protect": [*(f"{{workspace}}/many/kept-{number}" for number in range(20)), "{workspace}/many/absent", "**/.git"],
}


@pytest.fixture
def questions(home: Path) -> Questions:
    """Every kind of thing that is looked for is there."""
    many = home / "project/many"
    many.mkdir()
    for number in range(20):
        (many / f"secret-{number}").write_text("secret")
        (many / f"kept-{number}").write_text("kept")
    (home / ".netrc").write_text("secret")
    (home / ".ssh").mkdir()
    (home / ".ssh/key").write_text("secret")
    (home / "real").mkdir()
    (home / "real/token").write_text("secret")
    (home / "by-link").symlink_to("real")
    (home / "project/.env").write_text("secret")
    (home / "project/sub").mkdir()
    (home / "project/sub/.env").symlink_to("../other")
    (home / "project/other").write_text("secret")
    (home / "project/.git").mkdir()
    (home / "project/pointer").mkdir()
    (home / "project/pointer/.git").write_text("gitdir: ../../real\n")
    os.mkfifo(home / "project/fifo")
    os.link(home / "project/many/secret-7", home / "project/further")
    written = Stratum(
        "user",
        tuple(
            Rule(f"files.{leaf}", subject, Origin("user", "user.toml", 1, 1)) for leaf, subjects in RULES.items() for subject in subjects
        ),
        {},
        frozenset({"files.read", "files.write"}),
    )
    return ask(PlacedPolicy(Policy("test", (written,)), Places(str(home / "project"), str(home), "/tmp", os.getuid())))


def test_it_says_what_the_first_look_said(questions: Questions, home: Path) -> None:
    tree = scan.look(questions)
    assert scan.plain(tree) == scan.look_again(questions) == scan.look_again(questions)
    assert {str(home / "project/many/secret-3"), str(home / "project/many/kept-3"), str(home / ".netrc")} <= set(tree.named)
    entry = tree.named[str(home / "project/many/secret-3")]
    assert (entry.path, entry.kind, entry.real) == (str(home / "project/many/secret-3"), "file", str(home / "project/many/secret-3"))
    assert tree.named[str(home / "by-link/token")].path == str(home / "real/token")
    found = os.lstat(home / "project/many/secret-3")
    assert (found.st_dev, found.st_ino) in tree.secrets
    kept = os.lstat(home / "project/many/kept-3")
    assert (kept.st_dev, kept.st_ino) not in tree.secrets
    assert str(home / "project/further") in tree.named  # a further name of a hidden file, met on the walk


def put(path: Path, text: str = "new") -> None:
    """A save: another file under the same name."""
    aside = path.with_name("aside")
    aside.write_text(text)
    aside.rename(path)


def swap(path: Path, make: Callable[[Path], object]) -> None:
    path.rename(path.with_name("aside"))
    make(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a hidden file is another one": lambda home: put(home / "project/many/secret-3"),
    "a hidden file is gone": lambda home: (home / "project/many/secret-3").unlink(),
    "a hidden file is moved": lambda home: (home / "project/many/secret-3").rename(home / "project/elsewhere"),
    "a hidden file is exchanged with a protected one": lambda home: (
        (home / "project/many/secret-3").rename(home / "x"),
        (home / "project/many/kept-3").rename(home / "project/many/secret-3"),
        (home / "x").rename(home / "project/many/kept-3"),
    ),
    "a hidden file is a link": lambda home: swap(home / "project/many/secret-3", lambda path: path.symlink_to("aside")),
    "a hidden file is a directory": lambda home: swap(home / "project/many/secret-3", lambda path: path.mkdir()),
    "a hidden file is a fifo": lambda home: swap(home / "project/many/secret-3", os.mkfifo),
    "a hidden file gets a further name": lambda home: os.link(home / "project/many/secret-3", home / "project/another"),
    "a hidden file gets a further name beside it": lambda home: os.link(home / "project/many/secret-3", home / "project/many/another"),
    "a further name of a hidden file is gone": lambda home: (home / "project/further").unlink(),
    "a protected file is gone": lambda home: (home / "project/many/kept-3").unlink(),
    "a protected file is a link": lambda home: swap(home / "project/many/kept-3", lambda path: path.symlink_to("aside")),
    "a protected file is a directory": lambda home: swap(home / "project/many/kept-3", lambda path: path.mkdir()),
    "what was missing is there": lambda home: (home / "project/many/absent").write_text("new"),
    "their directory is a link": lambda home: swap(home / "project/many", lambda path: path.symlink_to("aside")),
    "their directory is another": lambda home: swap(home / "project/many", lambda path: path.mkdir()),
    "their directory is gone": lambda home: (home / "project/many").rename(home / "elsewhere"),
    "a file in a hidden directory is another one": lambda home: put(home / ".ssh/key"),
    "a hidden file outside is another one": lambda home: put(home / ".netrc"),
    "a link on the way leads elsewhere": lambda home: (
        (home / "other").mkdir(),
        (home / "other/token").write_text("new"),
        (home / "by-link").unlink(),
        (home / "by-link").symlink_to("other"),
    ),
    "a file behind a link on the way is another one": lambda home: put(home / "real/token"),
    "a match is another one": lambda home: put(home / "project/.env"),
    "a match is new": lambda home: (home / "project/many/.env").write_text("new"),
    "a link that matches leads elsewhere": lambda home: (
        (home / "project/sub/.env").unlink(),
        (home / "project/sub/.env").symlink_to("../many/kept-1"),
    ),
    "a gitfile points elsewhere": lambda home: (home / "project/pointer/.git").write_text("gitdir: ../../.ssh\n"),
    "a fifo is new": lambda home: os.mkfifo(home / "project/another"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed(questions: Questions, home: Path, change: str) -> None:
    before = scan.look_again(questions)
    assert scan.look_again(questions) == before
    CHANGES[change](home)
    after = scan.look_again(questions)
    assert after != before
    assert after == scan.plain(scan.look(questions))


def test_what_does_not_matter_is_no_change(questions: Questions, home: Path) -> None:
    before = scan.look_again(questions)
    (home / "project/many/secret-3").write_text("written in place")
    (home / "project/many/ordinary").write_text("new")
    (home / "project/many/kept-3").chmod(0o600)
    assert scan.look_again(questions) == before
