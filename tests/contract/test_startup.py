"""Start-up is a budget, kept by listing what gets imported: a module list is exact where a stopwatch is noise.

Costs on top of an isolated interpreter (docs/adr/0001-start-up.md) are 3 to 40 ms each; the whole start is to stay under 20.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import houseroom

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ROOT / "scripts" / "houseroom"

FORBIDDEN = {
    "_json", "argparse", "asyncio", "collections", "concurrent", "contextlib", "copy", "dataclasses", "datetime", "difflib",
    "email", "enum", "functools", "hashlib", "http", "importlib.metadata", "inspect", "ipaddress", "json", "logging", "pathlib",
    "platform", "re", "rich", "selectors", "shutil", "signal", "site", "socket", "sqlite3", "subprocess", "tempfile", "textwrap",
    "threading", "tomllib", "traceback", "typing", "unittest", "urllib", "uuid", "weakref", "zipfile",
}  # fmt: skip


# What decides, and what only messages or other commands need: with a remembered plan none of it is loaded.
DECIDING = {
    "houseroom.enforce.linux.lower", "houseroom.frontends.cli.manual", "houseroom.frontends.cli.paper",
    "houseroom.plan.bpf", "houseroom.plan.compile", "houseroom.plan.coverage", "houseroom.plan.seccomp", "houseroom.policy.decide",
    "houseroom.policy.keys", "houseroom.policy.layers", "houseroom.policy.parse", "houseroom.policy.presets",
    "houseroom.policy.protections", "houseroom.policy.secrets", "houseroom.policy.tables", "houseroom.policy.units",
    "houseroom.session.policy_files", "houseroom.session.private_directory",
}  # fmt: skip


def imported(*argv: str, cwd: Path, home: Path | None = None) -> tuple[set[str], subprocess.CompletedProcess[str]]:
    """What an isolated interpreter imports while it runs, forked children included, and how it ended.

    The interpreter's own report names each module on standard error as it is loaded; its times are not looked at.
    """
    line = [sys.executable, "-I", "-S", "-X", "importtime", *argv]
    environment = {**os.environ, "HOME": str(home)} if home else None
    done = subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}, done


def above_bare(names: set[str], cwd: Path) -> set[str]:
    """Without what the interpreter loads in any case."""
    bare, _ = imported("-c", "pass", cwd=cwd)
    return names - bare


def test_the_list_is_of_what_is_imported(tmp_path: Path) -> None:
    names, _ = imported("-c", "import json", cwd=tmp_path)
    assert {"json", "re", "enum"} <= above_bare(names, tmp_path) & FORBIDDEN


def test_import_houseroom_imports_nothing_else(tmp_path: Path) -> None:
    names, done = imported("-c", f"import sys; sys.path.append({str(ROOT / 'src')!r}); import houseroom", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert above_bare(names, tmp_path) - {"__future__"} == {"houseroom"}


def test_version_imports_nothing_forbidden(tmp_path: Path) -> None:
    names, done = imported(str(COMMAND), "--version", cwd=tmp_path)
    assert done.stdout.startswith("houseroom ")
    assert above_bare(names, tmp_path) & FORBIDDEN == set()


@pytest.mark.needs("userns")
def test_one_run_imports_nothing_forbidden(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    names, done = imported(str(COMMAND), "run", "--", "true", cwd=workspace)
    assert done.returncode == 0, done.stderr
    assert "houseroom.frontends.cli.main" in names, "the list must be of the real command"
    assert above_bare(names, tmp_path) & FORBIDDEN == set()


@pytest.mark.needs("userns")
def test_a_remembered_run_imports_nothing_that_decides(tmp_path: Path) -> None:
    home, workspace = tmp_path / "home", tmp_path / "workspace"
    home.mkdir()
    workspace.mkdir()
    runs = [imported(str(COMMAND), "run", "--", "true", cwd=workspace, home=home) for _ in range(3)]
    assert [done.returncode for _, done in runs] == [0, 0, 0], runs[0][1].stderr
    assert {"houseroom.plan.compile", "houseroom.plan.seccomp", "houseroom.policy.decide", "houseroom.session.policy_files"} <= runs[0][0]
    assert runs[2][0] & DECIDING == set()


@pytest.mark.needs("userns")
def test_what_our_code_decided_holds_while_it_is_the_same(tmp_path: Path) -> None:
    """The module that changes is one that a remembered start does not import."""
    home, workspace = tmp_path / "home", tmp_path / "workspace"
    home.mkdir()
    workspace.mkdir()
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "src/houseroom", checkout / "src/houseroom", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    shutil.copytree(ROOT / "scripts", checkout / "scripts")

    def decides() -> bool:
        names, done = imported(str(checkout / "scripts/houseroom"), "run", "--", "true", cwd=workspace, home=home)
        assert done.returncode == 0, done.stderr
        return "houseroom.plan.compile" in names

    assert [decides() for _ in range(3)][1:] == [True, False], "keeping the first plan makes a directory, which is a fact"
    (checkout / "src/houseroom/policy/protections.py").touch()
    assert [decides(), decides()] == [True, False]


@pytest.mark.parametrize("name", sorted({*houseroom.__all__} - {"__version__"}))
def test_every_exported_name_leads_somewhere(name: str) -> None:
    assert getattr(houseroom, name).__name__ == name
