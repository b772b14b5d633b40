"""Protected paths: read, never created, written, moved or replaced, whether they exist or not."""

from __future__ import annotations

import os
import signal
import subprocess

import attack_protect
import pytest
from probe_kit import listed
from runner import Bench, When, alive, eventually

pytestmark = pytest.mark.needs("userns", "git")

WAYS = listed(vars(attack_protect), "attack_protect")
MAKE = [name for name in WAYS if name.startswith("make_")]
CHANGE = [name for name in WAYS if name.startswith("change_")]

# Missing at the start, at each depth of missing ancestors. ``directory`` exists, ``a`` and ``b`` do not.
MISSING = {
    ".codex": "a directory at the top of the workspace",
    "directory/.git": "a repository in an existing directory",
    "a/.git": "one ancestor missing",
    "a/b/c/.git": "three ancestors missing",
}
# Every way is tried on two targets; the other targets get the ways in which they could differ.
SELECTED = ["make_open", "make_directory", "make_by_rename_directory", "make_by_symlink", "make_by_shell", "make_by_rename_of_parent"]
MISSING_CASES = [
    (way, target) for target in (".codex", "a/b/c/.git") for way in MAKE if (way, target) != ("make_by_rename_of_parent", ".codex")
]
MISSING_CASES += [
    (way, target)
    for target in ("directory/.git", "a/.git", ".agents", ".houseroom")
    for way in SELECTED
    if way != "make_by_rename_of_parent" or "/" in target
]

# Existing targets, and what they stand for.
EXISTING = {
    ".git/config": "the configuration of the repository: its aliases and helpers run commands",
    ".git/HEAD": "a file of git's own",
    "nested/.git/config": "a repository in the workspace that git ignores",
    "wt/.git": "the pointer file of a worktree",
    "submodule/.git": "the pointer file of a submodule",
    ".git/modules/submodule/config": "the real directory of the submodule",
    ".git/worktrees/wt/HEAD": "the real directory of the worktree",
    "linked/.git/config": "behind a symbolic link named .git",
    "realgit/config": "the directory that a symbolic link named .git leads to",
    ".claude/settings.json": "an agent's settings",
    ".mcp.json": "servers that an agent starts by itself",
}
ANCESTOR = {"change_rename_ancestor", "change_rename_ancestor_exchange", "change_ancestor_by_symlink", "change_remove_tree"}
FULLY = (".git/config", "nested/.git/config", "wt/.git", "linked/.git/config", ".mcp.json")  # the others get the ways that could differ
DIFFERING = ("change_append", "change_replace", "change_unlink", "change_by_temporary", "change_hard_link_then_write", "change_new_sibling")
EXISTING_CASES = [
    (way, target)
    for target in EXISTING
    for way in CHANGE
    if way not in ANCESTOR | {"change_workspace_itself"} and (target in FULLY or way in DIFFERING)
]
EXISTING_CASES = [
    (way, target)
    for way, target in EXISTING_CASES
    # these two act on the target's directory, which is an ordinary one for files at the top and for pointer files
    if way not in ("change_new_sibling", "change_ancestor_mode") or "/.git/" in f"/{target}" or target.startswith((".claude/", "realgit/"))
]
EXISTING_CASES += [
    (way, target) for way in sorted(ANCESTOR) for target in ("nested/.git/config", "wt/.git", "submodule/.git", "linked/.git/config")
]
EXISTING_CASES += [("change_workspace_itself", ".git/config")]


@pytest.mark.parametrize(("way", "target"), MISSING_CASES)
def test_missing_protected_path_cannot_be_made(bench: Bench, way: str, target: str) -> None:
    bench.twin(bench.probe("attack_protect", way, target), bench.guarded())


@pytest.mark.parametrize(("way", "target"), EXISTING_CASES)
def test_existing_protected_path_cannot_be_changed(bench: Bench, way: str, target: str) -> None:
    def look() -> str:
        return "" if bench.stage.workspace.is_dir() and (bench.stage.workspace / "file").exists() else "the workspace was replaced"

    effect = When(look) if way == "change_workspace_itself" else bench.guarded()
    try:
        bench.twin(bench.probe("attack_protect", way, target), effect)
    finally:
        subprocess.run(["rm", "-rf", f"{bench.stage.workspace}-renamed"], check=True)


@pytest.mark.parametrize("order", ["HEAD,objects,refs", "objects,refs,HEAD", "refs,HEAD,objects"])
def test_a_directory_cannot_become_a_bare_repository(bench: Bench, order: str) -> None:
    """git takes any directory with these three for a repository and runs what its config names."""
    bench.twin(bench.probe("attack_protect", "bare_layout", order), bench.guarded())


@pytest.mark.parametrize("way", ["bare_layout_by_rename", "bare_layout_by_links", "bare_layout_joined", "git_worktree_pointer"])
def test_git_directories_of_another_shape(bench: Bench, way: str) -> None:
    bench.twin(bench.probe("attack_protect", way), bench.guarded())


@pytest.mark.parametrize(
    "arguments", [["directory"], ["fresh"], ["--bare", "fresh"], ["--separate-git-dir=store", "directory"]], ids=" ".join
)
def test_git_init(bench: Bench, arguments: list[str]) -> None:
    bench.twin(bench.probe("attack_protect", "git_init", *arguments), bench.guarded())


@pytest.mark.parametrize("act", ["open", "mkdir", "rename", "symlink", "link"])
def test_race_on_the_callers_memory(bench: Bench, act: str) -> None:
    """The name is flipped in memory while the call is judged: what is judged must be what is done."""
    bench.twin(bench.probe("attack_protect", "race", act, "1.5"), bench.guarded())


def test_race_on_the_directory_tree(bench: Bench) -> None:
    bench.twin(bench.probe("attack_protect", "race_directory_swap", "1.5"), bench.outside())


def test_race_with_a_moving_directory(bench: Bench) -> None:
    bench.twin(bench.probe("attack_protect", "race_directory_moves", "1.5"), bench.guarded())


def test_nothing_is_left_on_the_host(bench: Bench) -> None:
    """A run that does nothing leaves every name of the stage as it was: no placeholder, no lock."""
    before = bench.stage.snapshot_outside() | bench.stage.snapshot_guarded()
    names = sorted(os.listdir(bench.stage.workspace))
    assert bench.run(["true"], inside=True).status == 0
    assert bench.stage.snapshot_outside() | bench.stage.snapshot_guarded() == before
    assert sorted(os.listdir(bench.stage.workspace)) == names


def test_nothing_is_left_on_the_host_after_sigkill(bench: Bench) -> None:
    """Also when the supervisor is killed while a command works."""
    before = bench.stage.snapshot_outside() | bench.stage.snapshot_guarded()
    names = sorted(os.listdir(bench.stage.workspace))
    process = bench.start(["sh", "-c", "echo READY; sleep 30"], inside=True)
    try:
        assert b"READY" in bench.until_ready(process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert eventually(lambda: not alive(process.pid))
    finally:
        bench.end(process)
    assert bench.stage.snapshot_outside() | bench.stage.snapshot_guarded() == before
    assert sorted(os.listdir(bench.stage.workspace)) == names


def test_subdirectory_finds_its_parent_repository(bench: Bench) -> None:
    """git works from below, the repository above stays protected."""
    outcome = bench.same(["git", "rev-parse", "--show-toplevel"], cwd=bench.stage.workspace / "deep/er")
    assert outcome.out.strip() == str(bench.stage.workspace)
    bench.twin(
        ["sh", "-c", "echo probe: sub; echo attack >> ../../.git/config; mkdir .git"],
        bench.guarded(),
        cwd=bench.stage.workspace / "deep/er",
    )


def test_workspace_in_a_worktree(bench: Bench) -> None:
    """The pointer file and the directory it leads to, which lies outside the workspace."""
    script = "echo probe: wt; echo attack >> .git; echo attack >> ../.git/worktrees/wt/HEAD; echo attack >> ../.git/config"
    bench.twin(["sh", "-c", script], bench.guarded(), cwd=bench.stage.workspace / "wt")


def test_many_names_in_one_directory(bench: Bench) -> None:
    """So many that they are bound in a row, beside names that are masked."""
    names = [f"kept-{number}" for number in range(20)]
    many = bench.stage.workspace / "many"

    def prepare() -> None:
        for name in (*names, ".env.1", ".env.2", "other"):
            bench.stage.plant(many / name, "first\n")

    def changed() -> str:
        return " ".join(name for name in names if not (many / name).exists() or (many / name).read_text() != "first\n")

    script = "echo 'probe: many'; cd many; for name in kept-*; do echo attack >> $name; rm -f $name; done; mv other kept-3; ls > more"
    options = [word for name in names for word in ("--protect", str(many / name))]
    bench.twin(["sh", "-c", script], When(changed), prepare=prepare, options=options)
    assert (many / "more").exists()
