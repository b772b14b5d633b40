"""A program that one contestant's user would write: it lives, has imported its library, and runs commands as it is told.

callers.py DESCRIPTOR KIND WORKSPACE [PREFIX…], in the workspace. KIND is spawn (``subprocess.run`` with the prefix in front), houseroom,
nono-py or sandlock. It reads requests from that descriptor, a JSON object on each line, and answers each with one line: ``times`` in
milliseconds, taken in here, or ``error``. All contestants are called in the same way, so nobody's figure holds more than his own.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from houseroom import Session

Run = Callable[[list[str]], int]

READABLE = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/proc", "/opt")
LEISURE = 0.05  # seconds, in which the keeper makes what the next sandbox begins with


def spawning(_workspace: str, prefix: list[str]) -> Run:
    return lambda argv: subprocess.run([*prefix, *argv], check=False).returncode


def houseroom(_workspace: str, _prefix: list[str]) -> Run:
    from houseroom import Session

    return running_in(Session())


def running_in(session: Session) -> Run:
    return lambda argv: session.run(argv).returncode


def nono(workspace: str, _prefix: list[str]) -> Run:
    """As run_nono.py, with what can be kept between commands kept."""
    from nono_py import AccessMode, CapabilitySet, sandboxed_exec  # type: ignore[import-not-found]

    rights = CapabilitySet()
    for path in READABLE:
        if os.path.isdir(path):
            rights.allow_path(path, AccessMode.READ)
    rights.allow_path("/dev", AccessMode.READ)
    rights.allow_file("/dev/null", AccessMode.READ_WRITE)
    rights.allow_path(workspace, AccessMode.READ_WRITE)
    rights.block_network()
    environment = [("PATH", os.environ["PATH"])]
    return lambda argv: int(sandboxed_exec(rights, argv, cwd=workspace, env=environment).exit_code)


def sandlock(workspace: str, _prefix: list[str]) -> Run:
    """As run_sandlock.py, with what can be kept between commands kept."""
    from sandlock import Sandbox  # type: ignore[import-not-found]

    readable = [path for path in (*READABLE, "/dev") if os.path.isdir(path)]
    box = Sandbox(fs_readable=readable, fs_writable=[workspace, "/dev/null"])
    return lambda argv: 0 if box.run(argv).success else 1


KINDS: dict[str, Callable[[str, list[str]], Run]] = {"spawn": spawning, "houseroom": houseroom, "nono-py": nono, "sandlock": sandlock}


# What can be asked of a caller ---------------------------------------------------------------------------------------------


def now() -> float:
    return time.perf_counter_ns() / 1e6


def checked(run: Run, argv: list[str]) -> None:
    status = run(argv)
    if status:
        raise ChildProcessError(f"{argv[0]} ended with status {status}")


def one_by_one(run: Run, argv: list[str], times: int) -> list[float]:
    """The time of each of so many commands, one after the other."""
    taken = []
    for _ in range(times):
        start = now()
        checked(run, argv)
        taken.append(now() - start)
    return taken


def together(run: Run, argv: list[str], times: int, callers: int) -> list[float]:
    """The time for one command of many: so many by each of some threads that begin at once."""
    begin, failures = threading.Barrier(callers + 1), []

    def call() -> None:
        begin.wait()
        try:
            for _ in range(times):
                checked(run, argv)
        except Exception as error:
            failures.append(str(error))

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    begin.wait()
    start = now()
    for thread in threads:
        thread.join()
    taken = now() - start
    if failures:
        raise ChildProcessError(failures[0])
    return [taken / (times * callers)]


def building(until: str, times: int, pause: float = LEISURE) -> list[float]:
    """The time of new sandboxes, each up to a point: ``open``, ``run`` (the first command has ended) or ``close`` (without one)."""
    from houseroom import Session

    taken = []
    for _ in range(times):
        time.sleep(pause)
        start = now()
        session = Session()
        if until == "open":
            taken.append(now() - start)
        elif until == "run":
            checked(running_in(session), ["true"])
            taken.append(now() - start)
        session.close()
        if until == "close":
            taken.append(now() - start)
    return taken


class Idle:
    """Sandboxes in which nothing runs."""

    def __init__(self) -> None:
        self.held: list[Session] = []

    def hold(self, count: int) -> list[float]:
        """Have so many of them; the time that each that was added took."""
        from houseroom import Session

        taken = []
        while len(self.held) < count:
            start = now()
            self.held.append(Session())
            taken.append(now() - start)
        return taken

    def run(self, argv: list[str]) -> list[float]:
        """A command in each."""
        taken = []
        for session in self.held:
            taken += one_by_one(running_in(session), argv, 1)
        return taken

    def unwatched(self) -> list[float]:
        """How many have said that they could not watch every directory (docs/files.md)."""
        time.sleep(0.5)  # their inits say so in their own time
        return [sum(session.unwatched for session in self.held)]

    def close(self) -> list[float]:
        taken = []
        while self.held:
            start = now()
            self.held.pop().close()
            taken.append(now() - start)
        return taken


def main(descriptor: str, kind: str, workspace: str, *prefix: str) -> None:
    made: list[Run] = []
    idle = Idle()

    def run() -> Run:
        if not made:
            made.append(KINDS[kind](workspace, list(prefix)))
        return made[0]

    tasks: dict[str, Callable[..., list[float]]] = {
        "run": lambda argv, times: one_by_one(run(), argv, times),
        "status": lambda argv: [run()(argv)],
        "together": lambda argv, times, callers: together(run(), argv, times, callers),
        "building": building,
        "hold": idle.hold,
        "run in each": idle.run,
        "unwatched": idle.unwatched,
        "close": idle.close,
    }
    with socket.socket(fileno=int(descriptor)) as sock, sock.makefile("rwb", buffering=0) as line:
        for request in iter(line.readline, b""):
            asked = json.loads(request)
            try:
                answer: dict[str, object] = {"times": tasks[asked.pop("task")](**asked)}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            line.write(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
