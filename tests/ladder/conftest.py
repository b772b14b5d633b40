"""The enforcement tests' identities and stages, and a bench whose sandbox starts on a kernel that lacks something."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ENFORCE = Path(__file__).resolve().parents[1] / "enforce"
sys.path[:0] = [str(ENFORCE), str(ENFORCE / "probes"), str(Path(__file__).resolve().parent)]


def _enforce_conftest() -> object:
    found = importlib.util.spec_from_file_location("houseroom_enforce_conftest", ENFORCE / "conftest.py")
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


_shared = _enforce_conftest()
identity = _shared.identity  # type: ignore[attr-defined]
pristine = _shared.pristine  # type: ignore[attr-defined]
stage = _shared.stage  # type: ignore[attr-defined]
pytest_generate_tests = _shared.pytest_generate_tests  # type: ignore[attr-defined]

from runner import CAPABILITIES, Bench, Identity, Outcome, Stage, lacking  # noqa: E402  # found through the lines above

WITHOUT = Path(__file__).resolve().parent / "without_sys.py"
CAPABILITIES["bwrap"] = lambda: shutil.which("bwrap") is not None


@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest) -> None:
    for mark in request.node.iter_markers("needs"):
        for capability in mark.args:
            if not CAPABILITIES[capability]():
                lacking(capability)


@dataclass
class Lacking(Bench):
    """A bench whose sandboxed half starts where ``without`` is missing and ``accept`` was accepted by name."""

    without: str = ""
    accept: Sequence[str] = ()

    def houseroom(self, *options: str) -> list[str]:
        accepted = [word for name in self.accept for word in ("--accept", name)]
        return [*self._without(), *super().houseroom(*accepted, *options)]

    def _without(self) -> list[str]:
        # NEWUSER in a process with threads is refused, and the interpreter has one: this one is started for nothing else.
        script = self.identity.base / WITHOUT.name
        return [self.identity.python, "-I", "-S", str(script), self.without, "--"] if self.without else []

    def report(self, *options: str) -> tuple[int, dict[str, object], str]:
        """Exit code, document and errors of ``houseroom run --dry-run --json``."""
        environment = {**self.ordinary_environment(), "PYTHONPATH": str(self.identity.base / "src")}
        argv = [*self.houseroom("--dry-run", "--json", *options), "true"]
        done = subprocess.run(  # type: ignore[call-overload]
            argv, cwd=self.stage.workspace, env=environment, capture_output=True, text=True, check=False, **self.identity.credentials()
        )
        return done.returncode, json.loads(done.stdout) if done.returncode == 0 else {}, done.stderr

    def states(self) -> dict[str, str]:
        """rule → state of the plan that would be carried out."""
        code, document, errors = self.report()
        assert code == 0, errors
        rows = document["coverage"]
        assert isinstance(rows, list)
        return {row["rule"]: row["state"] for row in rows}

    def sh(self, script: str, *arguments: object, options: Sequence[str] = ()) -> Outcome:
        return self.run(["sh", "-c", script, "sh", *map(str, arguments)], inside=True, options=options)


@pytest.fixture
def bench(identity: Identity, stage: Stage) -> Iterator[Lacking]:
    script = identity.base / WITHOUT.name
    shutil.copyfile(WITHOUT, script)
    script.chmod(0o644)
    before = _in_tmp(identity)  # a user of an earlier run may have had the same number
    yield Lacking(identity, stage)
    if identity.uid != os.getuid():  # who runs the tests is not this test's alone
        left = _in_tmp(identity) - before
        assert not left, f"left behind in /tmp: {left}"


def _in_tmp(identity: Identity) -> set[str]:
    found = set()
    for name in os.listdir("/tmp"):
        with contextlib.suppress(FileNotFoundError):  # another test's, which has just ended
            if name.startswith("houseroom-") and os.stat(f"/tmp/{name}").st_uid == identity.uid:
                found.add(name)
    return found
