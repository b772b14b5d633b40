"""What `houseroom explain connect PATH` says of sockets of the host. Nobody is connected to."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("linux")

Cli = Callable[..., subprocess.CompletedProcess[str]]
Snapshot = Callable[[str, str], None]


@pytest.fixture
def listening(home: Path) -> Iterator[Callable[[str], socket.socket]]:
    made: list[socket.socket] = []

    def listen(name: str) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        directory = os.open((home / name).parent, os.O_PATH)
        listener.bind(f"/proc/self/fd/{directory}/{Path(name).name}")
        os.close(directory)
        listener.listen()
        listener.setblocking(False)
        made.append(listener)
        return listener

    yield listen
    for listener in made:
        with pytest.raises(BlockingIOError):
            listener.accept()
        listener.close()


def asked(houseroom: Cli, *words: str) -> tuple[int, dict[str, object]]:
    done = houseroom("explain", "--json", *words)
    assert done.stderr == "", done
    return done.returncode, json.loads(done.stdout)


def test_denied_with_what_would_allow_it_and_allowed_with_it(
    houseroom: Cli, home: Path, listening: Callable[[str], socket.socket], snapshot: Snapshot
) -> None:
    listening("db.sock")
    listening("docker.sock")
    shown = [
        houseroom("explain", *words).stdout
        for words in (
            ("connect", "~/db.sock"),
            ("--socket", "~/db.sock", "connect", "~/db.sock"),
            ("connect", "~/docker.sock"),
            ("connect", "~/none.sock"),
            ("connect", "@/tmp/.X11-unix/X0"),
        )
    ]
    snapshot("explain-socket", "\n".join(shown).replace(str(home), "HOME"))


def test_what_it_says_to_grant_is_what_grants(houseroom: Cli, home: Path, listening: Callable[[str], socket.socket]) -> None:
    path = str(home / "db.sock")
    listening("db.sock")
    code, denied = asked(houseroom, "connect", path)
    assert (code, denied["decision"], denied["grant"]) == (1, "deny", ["houseroom", "run", "--socket", path])
    grant = denied["grant"]
    assert isinstance(grant, list)
    code, allowed = asked(houseroom, *grant[2:], "connect", path)
    assert (code, allowed["decision"], allowed["grant"]) == (0, "allow", None)


def test_by_any_of_its_names(houseroom: Cli, home: Path, listening: Callable[[str], socket.socket]) -> None:
    listening("db.sock")
    (home / "link").symlink_to(home / "db.sock")
    for granted, wanted in (("link", "db.sock"), ("db.sock", "link"), ("db.sock", "project/../db.sock")):
        assert asked(houseroom, "--socket", str(home / granted), "connect", str(home / wanted))[0] == 0, (granted, wanted)
    assert asked(houseroom, "--socket", str(home / "other.sock"), "connect", str(home / "link"))[0] == 1


def test_a_project_that_nobody_trusts(houseroom: Cli, home: Path, listening: Callable[[str], socket.socket]) -> None:
    listening("db.sock")
    (home / "project/.houseroom").mkdir()
    (home / "project/.houseroom/policy.toml").write_text('[network]\nsockets = ["~/other.sock"]\n')
    code, denied = asked(houseroom, "--socket", "~/db.sock", "connect", "~/db.sock")
    assert (code, denied["grant"]) == (1, None)
    assert "project policy" in str(denied["sentence"])
