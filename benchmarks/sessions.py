"""What a command in a session costs beside a bare one, for one caller and for four; what a sandbox costs to make, and to keep."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from benchmarks.contestants import BENCHMARKS, Contestant, Places, contestants, interpreter, is_a_sandbox
from benchmarks.results import Bar, Facts, Figure, Result, Size
from benchmarks.scales import Weight, total, weigh
from benchmarks.timing import interleave, spawn

PEERS = ("bubblewrap", "srt", "nono-py", "sandlock")
PYTHON = "python3 -I -S -c pass"
TRUE = ["true"]
CALLERS = 4
NAME = "bench"  # of the session in the background
_SETTLE = 0.5  # seconds until the keeper has made what the next sandbox begins with


def sessions(places: Places, size: Size) -> list[Result | Facts]:
    """Everything about sessions but how they age: that is the soak's."""
    os.chdir(places.workspace)
    with ExitStack() as stack:
        callers, unfit = _able(places, stack)
        timed = [_commands(callers, unfit, size), _at_once(callers, unfit, size), _building(callers, unfit, size)]
    return [*timed, _from_the_command_line(places, size), *_kept(places, size)]


class Caller:
    """A process of callers.py. ``ask`` raises ChildProcessError for what it could not do."""

    def __init__(self, one: Contestant, kind: str, python: str, places: Places):
        self.name, self.workspace = one.name, places.workspace
        ours, theirs = socket.socketpair()
        prefix = one.prefix if kind == "spawn" else ()
        argv = [python, str(BENCHMARKS / "callers.py"), str(theirs.fileno()), kind, str(places.workspace), *prefix]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with theirs:
            self.process = subprocess.Popen(argv, cwd=places.workspace, pass_fds=[theirs.fileno()], **quiet)  # type: ignore[call-overload]
        with ours:
            self.line = ours.makefile("rwb", buffering=0)

    def ask(self, task: str, **what: object) -> list[float]:
        self.line.write(json.dumps({"task": task, **what}).encode() + b"\n")
        answer = json.loads(self.line.readline() or b'{"error": "the caller has ended"}')
        if "error" in answer:
            raise ChildProcessError(answer["error"])
        times: list[float] = answer["times"]
        return times

    def proof(self, home: Path) -> str:
        """Empty when a command asked for in this very way can write in the workspace and not beside it; else what went wrong."""
        inside, outside = self.workspace / "inside", home / "outside"
        try:
            self.ask("status", argv=["sh", "-c", f"echo x > {inside}; echo x > {outside}; true"])
            if not inside.exists():
                return "its command could not write in the workspace"
            if outside.exists() and self.name != "bare":
                return "it wrote outside the workspace, so it is not the sandbox to compare with"
        except OSError as error:
            return str(error)
        finally:
            for path in (inside, outside):
                path.unlink(missing_ok=True)
        return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.line.close()  # then it ends, and with it its sandboxes
        self.process.wait(timeout=60)


def _able(places: Places, stack: ExitStack) -> tuple[dict[str, Caller], dict[str, str]]:
    """The callers that are proved to be sandboxes, and for the others why not."""
    fit: dict[str, Caller] = {}
    unfit: dict[str, str] = {}
    for one in contestants(places):
        if one.name not in ("bare", "houseroom", *PEERS):
            continue
        if one.missing:
            unfit[one.name] = one.missing
            continue
        caller = stack.enter_context(_caller(one, places))
        reason = caller.proof(places.home)
        if reason:
            unfit[one.name] = reason
        else:
            fit[one.name] = caller
    return fit, unfit


def _caller(one: Contestant, places: Places) -> Caller:
    if one.name in ("nono-py", "sandlock"):
        return Caller(one, one.name, one.prefix[0], places)  # the interpreter that has it
    return Caller(one, "houseroom" if one.name == "houseroom" else "spawn", sys.executable, places)


Measures = dict[str, Callable[[], Iterable[float]]]


def _commands(callers: dict[str, Caller], unfit: dict[str, str], size: Size) -> Result:
    def of(caller: Caller) -> Callable[[], Iterable[float]]:
        return lambda: caller.ask("run", argv=TRUE, times=size.burst)

    samples, failed = interleave({name: of(caller) for name, caller in callers.items()}, size.starts)
    bars = (Bar("houseroom", "bare", 1.3), *(Bar("houseroom", peer, 1.0) for peer in PEERS))
    return Result("a command (true) from Python, in a session that stands", "bare", samples, bars, unfit | failed)


def _at_once(callers: dict[str, Caller], unfit: dict[str, str], size: Size) -> Result:
    def of(caller: Caller) -> Callable[[], Iterable[float]]:
        return lambda: caller.ask("together", argv=TRUE, times=4 * size.burst, callers=CALLERS)

    samples, failed = interleave({name: of(callers[name]) for name in ("bare", "houseroom", "bubblewrap") if name in callers}, size.starts)
    title = f"{CALLERS} callers at once, time per command (1.25 × the time is 0.8 × the rate)"
    return Result(title, "bare", samples, (Bar("houseroom", "bare", 1.25),), unfit | failed)


def _building(callers: dict[str, Caller], unfit: dict[str, str], size: Size) -> Result:
    title, needed = "making a sandbox, from Python", [name for name in ("houseroom", "bubblewrap") if name not in callers]
    if needed:
        return Result(title, "bubblewrap", {}, (), {name: unfit[name] for name in needed})
    ours, other = callers["houseroom"], callers["bubblewrap"]

    def until(what: str, times: int = 1, **how: float) -> Callable[[], Iterable[float]]:
        return lambda: ours.ask("building", until=what, times=times, **how)

    measures: Measures = {
        "open": until("open"),
        "open, close": until("close"),
        "open, true": until("run"),
        "open, close, one after the other": until("close", size.burst, pause=0),
        "bubblewrap": lambda: other.ask("run", argv=TRUE, times=size.burst),
        "bare": lambda: callers["bare"].ask("run", argv=TRUE, times=size.burst),
    }
    samples, failed = interleave(measures, size.starts)
    bars = (Bar("open", "bubblewrap", 2.0), Bar("open, close", "bubblewrap", 2.0))
    return Result(title, "bubblewrap", samples, bars, unfit | failed)


def _from_the_command_line(places: Places, size: Size) -> Result:
    title = "houseroom session exec NAME -- true"
    known = {one.name: one for one in contestants(places)}
    installed = known["houseroom"]
    if installed.missing:
        return Result(title, PYTHON, {}, (), {"houseroom": installed.missing})
    try:
        with _background(installed.prefix[0], places):
            return _exec(title, installed, places, size)
    except ChildProcessError as error:
        return Result(title, PYTHON, {}, (), {"houseroom": str(error)})


def _exec(title: str, installed: Contestant, places: Places, size: Size) -> Result:
    ours = Contestant("houseroom", (installed.prefix[0], "session", "exec", NAME, "--"))
    reason = is_a_sandbox(ours, places)
    if reason:
        return Result(title, PYTHON, {}, (), {"houseroom": reason})
    words = {
        "houseroom": (*ours.prefix, "/bin/true"),
        PYTHON: (interpreter(), "-I", "-S", "-c", "pass"),
        "houseroom run, for scale": (*installed.prefix, "/bin/true"),
        "bare": ("/bin/true",),
    }

    def of(argv: tuple[str, ...]) -> Callable[[], Iterable[float]]:
        return lambda: (spawn(argv),)

    samples, failed = interleave({name: of(argv) for name, argv in words.items()}, size.starts)
    return Result(title, PYTHON, samples, (Bar("houseroom", PYTHON, 1.6),), failed)


@contextmanager
def _background(command: str, places: Places) -> Iterator[None]:
    """A session in the background. Raises ChildProcessError where it does not begin."""

    def tell(verb: str) -> None:
        argv = (command, "session", verb, NAME)
        done = subprocess.run(argv, cwd=places.workspace, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ChildProcessError(f"session {verb}: {' '.join(done.stderr.split())}")

    tell("start")
    try:
        yield
    finally:
        tell("stop")


# Sandboxes that are kept -------------------------------------------------------------------------------------------------


def _kept(places: Places, size: Size) -> list[Facts]:
    """What idle sandboxes of one application hold: some, each with a bar, and then many."""
    one = next(one for one in contestants(places) if one.name == "houseroom")
    some, many = size.idle
    titles = f"{some} idle sandboxes of one process", f"{many} idle sandboxes of one process"
    with Caller(one, "houseroom", sys.executable, places) as caller:
        try:
            before = total(weigh(caller.process.pid))
            few = _held(caller, some, before)
            return [Facts(titles[0], few), Facts(titles[1], _held(caller, many, before) | _all_of_them(caller, many))]
        except OSError as error:
            return [Facts(title, {}, {"houseroom": str(error)}) for title in titles]


def _held(caller: Caller, count: int, before: Weight) -> dict[str, Figure]:
    """Have so many; the figures are of all that there is more than before the first: in the caller, its keeper, and inside."""
    took = caller.ask("hold", count=count)
    time.sleep(_SETTLE)
    weights = weigh(caller.process.pid)
    more = total(weights)
    share = (more.pss - before.pss) / 1024
    anonymous = (more.anonymous - before.anonymous) / 1024
    inside = weights["init"] + weights["starters"]
    return {
        "memory (PSS) for each, of which": Figure(share / count, "MiB", 10.0),
        "  no file backs": Figure(anonymous / count, "MiB"),
        "  its own processes hold": Figure(inside.pss / 1024 / count, "MiB"),
        "memory (PSS) for all": Figure(share, "MiB"),
        "processes inside, for each": Figure(inside.processes / count, ""),
        "descriptors, of the caller": Figure(weights["caller"].descriptors, ""),
        "descriptors, of its keeper": Figure(weights["keeper"].descriptors, ""),
        "descriptors inside, for each": Figure(inside.descriptors / count, ""),
        "time to open one (mean)": Figure(sum(took) / len(took), "ms"),
        "say that not everything is watched": Figure(int(caller.ask("unwatched")[0]), "", 0),
    }


def _all_of_them(caller: Caller, count: int) -> dict[str, Figure]:
    """Each runs a command; then all are closed."""
    took = caller.ask("run in each", argv=TRUE)
    unwatched = caller.ask("unwatched")[0]
    after = weigh(caller.process.pid)
    closing = caller.ask("close")
    time.sleep(_SETTLE)
    left = weigh(caller.process.pid)
    return {
        "fail to run a command": Figure(count - len(took), "", 0),
        "a command in each, the first there (mean)": Figure(sum(took) / len(took), "ms"),
        "then say that not everything is watched": Figure(int(unwatched), "(fs.inotify.max_user_instances)"),
        "then memory (PSS) for all": Figure(total(after).pss / 1024, "MiB"),
        "time to close one (mean)": Figure(sum(closing) / len(closing), "ms"),
        "processes inside after all were closed": Figure((left["init"] + left["starters"]).processes, "", 0),
    }
