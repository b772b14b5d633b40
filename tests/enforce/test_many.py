"""Many sandboxes in one workspace: all start, and one that ends takes no protection from another."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from runner import Bench

pytestmark = pytest.mark.needs("userns")


def test_twenty_at_once(bench: Bench) -> None:
    started = [bench.start(["sh", "-c", f"echo {number} > made-{number}; cat file"], inside=True) for number in range(20)]
    try:
        results = [(process.communicate(timeout=60), process.returncode) for process in started]
    finally:
        for process in started:
            bench.end(process)
    assert all(code == 0 for _said, code in results), results
    assert all((bench.stage.workspace / f"made-{number}").read_text() == f"{number}\n" for number in range(20))


def test_one_that_ends_lifts_nothing(bench: Bench) -> None:
    """The first starts, others come and go, then the first attacks."""
    script = (
        "echo READY; read go; cat .env directory/.env ../.netrc; echo attack >> .git/config; mkdir .codex directory/.git;"
        " echo attack > ../../outside/victim; echo done"
    )
    guarded, outside = bench.guarded(), bench.outside()
    guarded.arm()
    outside.arm()
    first = bench.start(["sh", "-c", script], inside=True, stdin=subprocess.PIPE)
    try:
        assert b"READY" in bench.until_ready(first)
        for _ in range(4):
            assert bench.run(["true"], inside=True).status == 0
        out, _err = first.communicate(b"go\n", timeout=30)
    finally:
        bench.end(first)
    assert b"done" in out and bench.stage.token.encode() not in out
    from runner import Outcome

    assert not guarded.happened(Outcome(0, "", "")) and not outside.happened(Outcome(0, "", ""))


def test_one_that_is_killed_lifts_nothing(bench: Bench) -> None:
    first = bench.start(["sh", "-c", "echo READY; read go; cat .env; mkdir .codex; echo done"], inside=True, stdin=subprocess.PIPE)
    second = bench.start(["sh", "-c", "echo READY; sleep 30"], inside=True)
    try:
        assert b"READY" in bench.until_ready(first) and b"READY" in bench.until_ready(second)
        second.kill()
        second.wait()
        out, _err = first.communicate(b"go\n", timeout=30)
    finally:
        bench.end(first)
        bench.end(second)
    assert b"done" in out and bench.stage.token.encode() not in out
    assert not (bench.stage.workspace / ".codex").exists()


def test_symlinked_workspace(bench: Bench) -> None:
    link = bench.stage.home / "way"
    link.symlink_to("project")
    outcome = bench.run(["sh", "-c", "cat file; echo x > made; echo attack >> .git/config"], inside=True, cwd=link, env={"PWD": str(link)})
    assert "content" in outcome.out, outcome
    assert (bench.stage.workspace / "made").exists()
    assert "attack" not in (bench.stage.workspace / ".git/config").read_text()


def test_parent_directory_that_only_lets_through(bench: Bench) -> None:
    """Mode 0711 on the way, as in many home directories, and 0700 for its owner."""
    for mode in (0o711, 0o700):
        bench.stage.home.chmod(mode)
        try:
            assert bench.run(["sh", "-c", "cat file && echo x > made"], inside=True).status == 0
        finally:
            bench.stage.home.chmod(0o755)


def test_foreign_parent_of_mode_0711(bench: Bench) -> None:
    """The parent belongs to another user and can be passed, not listed."""
    import os

    if os.geteuid() != 0:
        pytest.skip("needs root to make a foreign directory")
    os.chown(bench.stage.home, 65534, 65534)
    bench.stage.home.chmod(0o711)
    outcome = bench.run(["sh", "-c", "cat file && echo x > made"], inside=True)
    bench.stage.restore()
    assert outcome.status == 0, outcome


@pytest.mark.parametrize(
    "name", ["with space", "ümlaut", "new\nline", "star*", "brackets[a]", "-dash", "quote'\"", "back\\slash", "{workspace}"]
)
def test_strange_workspace_names(bench: Bench, name: str) -> None:
    place: Path = bench.stage.home / name
    place.mkdir()
    bench.stage.give(place)
    bench.stage.plant(place / ".env", f"KEY={bench.stage.token}\n")
    outcome = bench.run(["sh", "-c", "cat .env; mkdir .git; echo x > made; echo done"], inside=True, cwd=place)
    assert "done" in outcome.out and bench.stage.token not in outcome.out, outcome
    assert (place / "made").exists() and not (place / ".git").exists()


def test_thousands_of_hidden_files(bench: Bench) -> None:
    for number in range(1500):
        directory = bench.stage.workspace / f"many/{number % 50}/{number}"
        directory.mkdir(parents=True)
        (directory / ".env").write_text(bench.stage.token)
    if bench.identity.uid:
        subprocess.run(["chown", "-R", f"{bench.identity.uid}:{bench.identity.gid}", str(bench.stage.workspace / "many")], check=False)
    outcome = bench.run(["sh", "-c", "echo probe: many; cat many/*/*/.env 2>/dev/null; echo done"], inside=True)
    assert "done" in outcome.out and bench.stage.token not in outcome.out
    assert bench.stage.token in bench.run(["sh", "-c", "cat many/*/*/.env"], inside=False).out
