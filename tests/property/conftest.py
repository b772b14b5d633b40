"""The oracle's identities: who runs the probes, and a directory of their own on the host."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1] / "src"
sys.path.insert(0, str(HERE))  # for oracle_world


@dataclass(frozen=True)
class Identity:
    """Who runs the probes, with which interpreter. ``base`` holds the package, the probes and the stage."""

    uid: int
    gid: int
    base: Path
    python: str

    def credentials(self) -> dict[str, object]:
        return {} if os.geteuid() == self.uid else {"user": self.uid, "group": self.gid, "extra_groups": []}


def interpreter(credentials: dict[str, object]) -> str:
    """An interpreter that this identity may execute."""
    for candidate in (os.path.realpath(sys.executable), "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            subprocess.run([candidate, "-c", "import tomllib"], capture_output=True, check=True, cwd="/", **credentials)  # type: ignore[call-overload]
        except (OSError, subprocess.CalledProcessError):
            continue
        return os.path.realpath(candidate)
    raise AssertionError("no Python interpreter from 3.11 on that the unprivileged user may run")


@pytest.fixture(scope="session", params=["user", "root"] if os.geteuid() == 0 else ["user"])
def identity(request: pytest.FixtureRequest) -> Iterator[Identity]:
    """An unprivileged user, made for this run where pytest runs as root, and root itself."""
    tag = secrets.token_hex(3)
    login = f"hroracle{tag}"
    if os.geteuid() != 0:
        who = Identity(os.getuid(), os.getgid(), Path.home() / login, interpreter({}))
        who.base.mkdir()
    elif request.param == "root":
        who = Identity(0, 0, Path("/home") / f"{login}-root", interpreter({}))
        who.base.mkdir()
    else:
        subprocess.run(["useradd", "-m", "-s", "/bin/sh", login], check=True, capture_output=True)
        found = pwd.getpwnam(login)
        try:
            python = interpreter({"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []})
        except AssertionError:
            subprocess.run(["userdel", "-r", login], check=False, capture_output=True)
            raise
        who = Identity(found.pw_uid, found.pw_gid, Path(found.pw_dir), python)
    try:
        who.base.chmod(0o755)
        shutil.copytree(SOURCE, who.base / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        for name in ("oracle_probe.py", "oracle_driver.py"):
            shutil.copy(HERE / name, who.base / name)
        subprocess.run([sys.executable, "-m", "compileall", "-q", str(who.base / "src")], check=True)
        if who.python != os.path.realpath(sys.executable):
            subprocess.run([who.python, "-m", "compileall", "-q", str(who.base / "src")], check=False)
        subprocess.run(["chmod", "-R", "a+rX", str(who.base / "src")], check=True)
        yield who
    finally:
        if os.geteuid() == 0 and who.uid:
            subprocess.run(["userdel", "-r", login], check=False, capture_output=True)
        shutil.rmtree(who.base, ignore_errors=True)
