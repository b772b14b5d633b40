"""Background sessions of one identity: calls of the command line, and looking whether something lives on."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from runner import PATIENCE, Bench, eventually

Done = subprocess.CompletedProcess[bytes]


class Sessions:
    """``houseroom`` as the bench's identity calls it. Every session that was begun here is ended at last."""

    def __init__(self, bench: Bench):
        self.bench = bench
        self.begun: list[str] = []

    def argv(self, *arguments: str) -> list[str]:
        return [self.bench.identity.python, "-m", "houseroom", *arguments]

    def open(self, *arguments: str, cwd: Path | None = None, home: Path | None = None, **how: object) -> subprocess.Popen[bytes]:
        """Start a call; ``how`` as for Popen. Its streams are pipes, its input is empty unless said otherwise."""
        more = how.pop("environment", {})
        own = {"PYTHONPATH": str(self.bench.identity.base / "src")}
        environment = {**self.bench.ordinary_environment(), **own, **more}  # type: ignore[dict-item]
        if home:
            environment["HOME"] = str(home)
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
            self.argv(*arguments),
            cwd=cwd or self.bench.stage.workspace,
            env=environment,
            start_new_session=True,
            **streams,
            **self.bench.identity.credentials(),
        )

    def call(self, *arguments: str, data: bytes | None = None, **how: object) -> Done:
        if data is not None:
            how["stdin"] = subprocess.PIPE
        process = self.open(*arguments, **how)  # type: ignore[arg-type]
        try:
            out, err = process.communicate(data, timeout=PATIENCE)
        finally:
            Bench.end(process)
        return Done(arguments, process.returncode, out, err)

    def start(self, name: str, *options: str, **how: object) -> Done:
        """Begin a session, which must work."""
        self.begun.append(name)
        done = self.call("session", "start", name, *options, **how)
        assert done.returncode == 0, done
        assert done.stdout == f"{name}\n".encode()
        return done

    def exec(self, name: str, *argv: str, **how: object) -> Done:
        return self.call("session", "exec", name, "--", *argv, **how)  # type: ignore[arg-type]

    def sh(self, name: str, script: str, **how: object) -> Done:
        return self.exec(name, "sh", "-c", script, **how)

    def names(self) -> list[str]:
        """As ``session list`` shows them."""
        import json

        done = self.call("session", "list", "--json")
        assert done.returncode == 0, done
        return [session["name"] for session in json.loads(done.stdout)]

    def holder(self, name: str) -> int:
        """The process that holds it."""
        import json

        return int(json.loads(self.call("session", "show", name, "--json").stdout)["pid"])

    @property
    def directory(self) -> Path:
        return self.bench.stage.home / ".local/state/houseroom/sessions"

    def left(self) -> list[str]:
        """What is left of sessions on the disk."""
        return sorted(entry for entry in os.listdir(self.directory) if entry != ".lock")

    def beat(self, name: str) -> Path:
        """The file that a daemon of ``BEATER`` with this name writes to."""
        return self.bench.stage.workspace / f"beat-{name}"

    def end(self) -> None:
        for name in dict.fromkeys(self.begun):
            self.call("session", "stop", name)


def beater(name: str) -> str:
    """A shell script that leaves a daemon, which ignores signals, has forked twice and has a session of its own."""
    return f"(setsid sh -c 'trap \"\" HUP TERM INT; while :; do echo >> beat-{name}; sleep 0.05; done' > /dev/null 2>&1 < /dev/null &); "


def beating(file: Path) -> bool:
    """Whether somebody goes on writing to a file."""
    before = file.stat().st_size if file.exists() else 0
    time.sleep(0.4)
    return (file.stat().st_size if file.exists() else 0) > before


def begins(file: Path) -> bool:
    """Whether somebody writes to a file, or does so soon."""
    return eventually(lambda: beating(file))


def descendants(pid: int) -> Sequence[int]:
    """All processes below one, as the host sees them."""
    try:
        tasks = [Path(f"/proc/{pid}/task/{task}/children").read_text().split() for task in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []
    children = [int(word) for words in tasks for word in words]
    return [*children, *(each for child in children for each in descendants(child))]
