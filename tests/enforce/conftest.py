"""Identities, stages and marks of the enforcement tests."""

from __future__ import annotations

import os
import pwd
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent / "probes")]

import staging  # noqa: E402  # found through the line above
from runner import CAPABILITIES, Bench, Identity, Stage, install, lacking  # noqa: E402

RUN = secrets.token_hex(3)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(capability): what the host must be able to do; skipped by name where it can't")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "identity" in metafunc.fixturenames:
        names = ["user", "root"] if os.geteuid() == 0 else ["user"]
        metafunc.parametrize("identity", names, indirect=True, scope="session")


@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest) -> None:
    for mark in request.node.iter_markers("needs"):
        for capability in mark.args:
            if not CAPABILITIES[capability]():
                lacking(capability)


def make_user(login: str, home: Path) -> Identity:
    subprocess.run(["useradd", "-m", "-d", str(home), "-s", "/bin/sh", login], check=True, capture_output=True)
    found = pwd.getpwnam(login)
    return Identity("user", found.pw_uid, found.pw_gid, login, home)


@pytest.fixture(scope="session")
def identity(request: pytest.FixtureRequest) -> Iterator[Identity]:
    """The unprivileged user, made for this run where pytest runs as root, and root itself."""
    if os.geteuid() != 0:
        base = Path.home() / f"hrprobe-{RUN}"
        base.mkdir()
        who = Identity("user", os.getuid(), os.getgid(), pwd.getpwuid(os.getuid()).pw_name, base)
    elif request.param == "user":
        who = make_user(f"hrprobe{RUN}", Path("/home") / f"hrprobe{RUN}")
    else:
        base = Path("/home") / f"hrprobe{RUN}-root"
        base.mkdir()
        who = Identity("root", 0, 0, "root", base)
    try:
        who.base.chmod(0o755)
        install(who.base, who.python)
        staging.compile_helpers(who)
        yield who
    finally:
        if os.geteuid() == 0 and who.name == "user":
            subprocess.run(["userdel", "-r", who.login], check=False, capture_output=True)
        subprocess.run(["rm", "-rf", str(who.base)], check=False)


@pytest.fixture(scope="session")
def pristine(identity: Identity) -> Stage:
    """The first state of the stage, built once per identity."""
    return staging.build(identity, identity.base / "stage", identity.base / "pristine")


@pytest.fixture
def stage(pristine: Stage) -> Stage:
    pristine.restore()
    return pristine


@pytest.fixture
def bench(identity: Identity, stage: Stage) -> Bench:
    return Bench(identity, stage)
