"""The questions: what does a start cost, what does work inside cost, what do thousands of paths cost; and where the others are asked."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks.contestants import BENCHMARKS, Contestant, Places, contestants, fit_ones, interpreter, is_a_sandbox
from benchmarks.inside import WORKS
from benchmarks.network import network
from benchmarks.results import Bar, Course, Facts, Result, Size
from benchmarks.sessions import sessions
from benchmarks.soak import soak
from benchmarks.timing import interleave, spawn

PYTHON = "python3 -I -S -c pass"


def able(places: Places, among: Iterable[str] | None = None) -> tuple[list[Contestant], dict[str, str]]:
    """The contestants that are installed and proved to be sandboxes, and for the others why not."""
    ones = (one for one in contestants(places) if among is None or one.name in among)
    return fit_ones(ones, lambda one: is_a_sandbox(one, places))


def starts(places: Places, size: Size) -> list[Result]:
    """One-shot start of ``true``, process start included."""
    fit, unfit = able(places)

    def once(argv: tuple[str, ...]) -> Callable[[], Iterable[float]]:
        return lambda: (spawn(argv),)

    os.chdir(places.workspace)
    measures = {one.name: once((*one.prefix, "/bin/true")) for one in fit}
    measures[PYTHON] = once((interpreter(), "-I", "-S", "-c", "pass"))
    samples, failed = interleave(measures, size.starts)
    bars = (Bar("houseroom", "codex (native)", 0.7), Bar("houseroom", "srt", 1 / 8), Bar("houseroom", PYTHON, 3.0))
    return [Result("start of one command (true)", "bare", samples, bars, unfit | failed)]


# Of each work in each sandbox: as many as make the median of short ones steady.
_REPETITIONS = {"git_status": 10, "find": 10, "compile_c": 1, "spawns": 3, "small_files": 3}


def work_inside(places: Places, size: Size) -> list[Result]:
    """The same work bare and inside, timed inside."""
    make_repository(places.workspace / "repository", size.files)
    make_program(places.workspace / "program", size.sources)
    os.environ |= {"BENCH_SPAWNS": str(size.spawns), "BENCH_SMALL_FILES": str(size.small_files)}
    fit, unfit = able(places, ("bare", "houseroom", "bubblewrap", "codex (native)"))
    # Tools are run from a copy in the workspace: where a checkout lies must not decide whether a contestant can read it.
    (places.workspace / "inside.py").write_bytes((BENCHMARKS / "inside.py").read_bytes())
    python = os.path.realpath(interpreter())

    def once(one: Contestant, work: str) -> Callable[[], Iterable[float]]:
        repetitions = _REPETITIONS[work]
        argv = (*one.prefix, python, "-I", "-S", "inside.py", work, str(repetitions))

        def measure() -> Iterable[float]:
            done = subprocess.run(
                argv, cwd=places.workspace, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False
            )
            if done.returncode:
                raise ChildProcessError(f"{work}: " + " ".join(done.stderr.split())[-300:])
            times: list[float] = json.loads(done.stdout)
            return times

        return measure

    results = []
    for work in WORKS:
        samples, failed = interleave({one.name: once(one, work) for one in fit}, size.work, warm_up=1)
        bars = (Bar("houseroom", "bare", 1.05),)
        results.append(Result(f"work inside: {work.replace('_', ' ')}", "bare", samples, bars, unfit | failed))
    return results


def many_paths(places: Places, size: Size) -> list[Result]:
    """The start with thousands of hidden and protected paths that exist, against the plain start. Both in the same workspace."""
    hidden = [places.workspace / "many" / f"secret-{number}" for number in range(size.hidden)]
    protected = [places.workspace / "many" / f"kept-{number}" for number in range(size.protected)]
    (places.workspace / "many").mkdir(exist_ok=True)
    for path in (*hidden, *protected):
        path.write_text("content\n")
    profile = places.home / ".config/houseroom/profiles/many.toml"
    profile.parent.mkdir(parents=True, exist_ok=True)
    profile.write_text(
        'extends = "workspace"\n\n[files]\n'
        f"hide = {json.dumps([str(path) for path in hidden])}\nprotect = {json.dumps([str(path) for path in protected])}\n"
    )
    fit, unfit = able(places, ("houseroom",))
    if not fit:
        return [Result("start with many paths", "plain", {}, (), unfit)]
    command = fit[0].prefix[0]
    loud = subprocess.run(
        [command, "run", "--profile", "many", "--", "/bin/cat", str(hidden[0]), str(protected[0])],
        cwd=places.workspace, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if loud.stdout.count("content") != 1:
        return [
            Result(
                "start with many paths",
                "plain",
                {},
                (),
                {"houseroom": f"the profile does not hide and show as it says: {loud.stderr[-300:]}"},
            )
        ]
    os.chdir(places.workspace)
    many = f"{size.hidden} hidden, {size.protected} protected"
    measures: dict[str, Callable[[], Iterable[float]]] = {
        "plain": lambda: (spawn((command, "run", "--", "/bin/true")),),
        many: lambda: (spawn((command, "run", "--profile", "many", "--", "/bin/true")),),
    }
    samples, failed = interleave(measures, size.starts)
    return [Result("start with many paths", "plain", samples, (Bar(many, "plain", 2.0),), unfit | failed)]


Suite = Callable[[Places, Size], Sequence[Result | Facts | Course]]
SUITES: dict[str, Suite] = {
    "start": starts,
    "work": work_inside,
    "paths": many_paths,
    "session": sessions,
    "soak": soak,
    "network": network,
}


def make_repository(where: Path, files: int) -> None:
    """A committed repository with ``files`` files of 1 to 4 KB in directories of fifty."""
    numbers = random.Random(2)
    for number in range(files):
        directory = where / "files" / f"d{number // 1000}" / f"d{number // 50}"
        if number % 50 == 0:
            directory.mkdir(parents=True, exist_ok=True)
        (directory / f"f{number}.txt").write_bytes(b"0123456789abcdef" * numbers.randrange(64, 256))
    git = ("git", "-C", str(where), "-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0")
    subprocess.run((*git[:3], "init", "--quiet"), check=True)
    subprocess.run((*git, "add", "."), check=True)
    subprocess.run((*git, "commit", "--quiet", "--message=all"), check=True)
    subprocess.run((*git, "status", "--short"), check=True, capture_output=True)


def make_program(where: Path, sources: int) -> None:
    """A C program of small files with a Makefile."""
    where.mkdir()
    for number in range(sources):
        body = "".join(f'int f{number}_{i}(int x) {{ printf("%d\\n", x); return x * {i} + {number}; }}\n' for i in range(20))
        (where / f"part{number}.c").write_text(f"#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n{body}")
    (where / "main.c").write_text("int main(void) { return 0; }\n")
    (where / "Makefile").write_text(
        "objects := $(patsubst %.c,%.o,$(wildcard *.c))\nCFLAGS := -O1 -pipe\nall: program\nprogram: $(objects)\n\t$(CC) -o $@ $^\n"
        "clean:\n\trm -f program *.o\n"
    )
