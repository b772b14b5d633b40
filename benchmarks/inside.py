"""Runs inside a contestant: does one piece of work some times and prints each time in milliseconds as JSON.

inside.py WORK REPETITIONS. Timed in here, so a sandbox's start is not in the figures. Standard library only, light imports.
"""

from __future__ import annotations

import os
import sys
import time


def run(*argv: str) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    child = os.posix_spawnp(argv[0], argv, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)])
    _, status = os.waitpid(child, 0)
    os.close(null)
    if status:
        sys.exit(f"{argv[0]} failed with status {os.waitstatus_to_exitcode(status)}")


def git_status() -> None:
    run("git", "-C", "repository", "status", "--short")


def find() -> None:
    run("find", "repository/files", "-type", "f", "-size", "+0")


def compile_c() -> None:
    run("make", "--silent", "--directory=program", "clean")
    run("make", "--silent", "--directory=program", "-j2", "all")


def spawns() -> None:
    for _ in range(int(os.environ.get("BENCH_SPAWNS", "400"))):
        run("/bin/true")


def small_files() -> None:
    """They stay: ext4 passes over all inodes freed in the last minutes when it looks for one, which made a file cost 20 to 1,000 µs."""
    directory = f"small-{os.urandom(8).hex()}"
    os.mkdir(directory)
    names = [f"{directory}/{number}" for number in range(int(os.environ.get("BENCH_SMALL_FILES", "1000")))]
    for name in names:
        with open(name, "wb") as file:
            file.write(b"x" * 400)
    for name in names:
        with open(name, "rb") as file:
            file.read()


WORKS = {work.__name__: work for work in (git_status, find, compile_c, spawns, small_files)}

if __name__ == "__main__":
    todo, repetitions = WORKS[sys.argv[1]], int(sys.argv[2])
    times = []
    for _ in range(repetitions):
        start = time.perf_counter_ns()
        todo()
        times.append((time.perf_counter_ns() - start) / 1e6)
    print("[" + ",".join(f"{one:.4f}" for one in times) + "]")
