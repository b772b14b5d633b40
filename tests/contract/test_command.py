"""The installed command finds its own interpreter and package, whatever the path to it, and nobody's environment misleads it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VERSION = subprocess.run([ROOT / "scripts/houseroom", "--version"], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """A virtual environment with the package laid out as a wheel lays it out, below a directory with spaces in its name."""
    where = tmp_path / "a place with spaces" / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", where], check=True)
    shutil.copy(ROOT / "scripts/houseroom", where / "bin/houseroom")
    library = where / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    shutil.copytree(ROOT / "src/houseroom", library / "houseroom", ignore=shutil.ignore_patterns("__pycache__"))
    return where


def version(command: Path | str, **more: object) -> str:
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_it_starts_in_a_virtual_environment(prefix: Path) -> None:
    assert version(prefix / "bin/houseroom") == VERSION


def test_it_starts_through_a_symbolic_link(prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/houseroom").symlink_to(prefix / "bin/houseroom")
    assert version(tmp_path / "linked/houseroom") == VERSION


def test_it_starts_by_a_relative_path_and_by_name(prefix: Path) -> None:
    assert version("bin/houseroom", cwd=prefix) == VERSION
    assert version("houseroom", env={"PATH": f"{prefix / 'bin'}:{os.environ['PATH']}"}) == VERSION


def test_it_starts_from_an_editable_install(prefix: Path) -> None:
    (library,) = prefix.glob("lib/python3.*/site-packages")
    shutil.move(library / "houseroom", prefix / "elsewhere/houseroom")
    (library / "__editable__.houseroom-0.1.0.pth").write_text(f"{prefix / 'elsewhere'}\n")
    assert version(prefix / "bin/houseroom") == VERSION


def test_python_variables_do_not_reach_it(prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "evil").mkdir()
    for module in ("houseroom", "posix", "os", "sitecustomize", "usercustomize"):
        (tmp_path / f"evil/{module}.py").write_text("import sys; sys.stdout.write('hijacked')\n")
    hijack = {
        **os.environ,
        "PYTHONPATH": str(tmp_path / "evil"),
        "PYTHONHOME": str(tmp_path),
        "PYTHONSTARTUP": str(tmp_path / "evil/os.py"),
    }
    control = subprocess.run(
        [prefix / "bin/python3", "-c", "import houseroom"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "evil")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "hijacked" in control.stdout
    assert version(prefix / "bin/houseroom", env=hijack, cwd=tmp_path / "evil") == VERSION


def test_the_module_runs_too(prefix: Path) -> None:
    done = subprocess.run([prefix / "bin/python3", "-m", "houseroom", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == VERSION


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_a_closed_stream_is_an_empty_one(prefix: Path, closed: str) -> None:
    done = subprocess.run(["sh", "-c", f'"$0" --version {closed}', prefix / "bin/houseroom"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, VERSION), done.stderr


def test_where_nobody_reads_it_ends_well(prefix: Path) -> None:
    done = subprocess.run(["sh", "-c", '"$0" --version <&- >&-', prefix / "bin/houseroom"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
