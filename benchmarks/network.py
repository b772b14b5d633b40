"""What the egress proxy costs: a large transfer, small requests, the start, a crowd, and connections that nobody reads.

A server on the host's loopback (server.py) is asked by a client inside (client.py), which goes by the contestant's own proxy; bare it
goes directly. Each contestant is first shown to let the client reach that server and no other one.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.client import HOST, OTHER
from benchmarks.contestants import BENCHMARKS, Contestant, Places, contestants, fit_ones, interpreter, srt
from benchmarks.results import Bar, Course, Facts, Figure, Result, Size
from benchmarks.timing import Sample, interleave, spawn

CODEX = "codex (native)"
ADDED_TO_A_REQUEST, ADDED_TO_A_START = 1.0, 10.0  # ms
EACH, STALLED = 32.0, 1024.0  # KiB of the proxy's own for a connection of a crowd; of the kernel's for one that nobody reads, ends included
GROWTH = 0.05  # as in the soak
_PAGE = os.sysconf("SC_PAGE_SIZE")


def network(places: Places, size: Size) -> list[Result | Facts | Course]:
    """Everything about the proxy."""
    os.chdir(places.workspace)
    for name in ("client.py", "server.py"):  # where a checkout lies must not decide whether a contestant can read it
        (places.workspace / name).write_bytes((BENCHMARKS / name).read_bytes())
    with _server(places) as port:
        fit, unfit = _able(places, port)
        ours = next((one for one in fit if one.name == "houseroom"), None)
        times: list[Result | Facts | Course] = [*_large(fit, unfit, port, size), *_small(fit, unfit, port, size)]
        if ours is None:
            return times
        return [*times, *_starts(places, port, size), *_crowds(ours, port, size), _stalled(ours, port, size)]


@contextmanager
def _server(places: Places) -> Iterator[int]:
    """The server, on two addresses of the loopback. Its port."""
    with ExitStack() as stack:
        first = stack.enter_context(socket.create_server((HOST, 0), backlog=4096))
        port = int(first.getsockname()[1])
        second = stack.enter_context(socket.create_server((OTHER, port), backlog=4096))
        numbers = [first.fileno(), second.fileno()]
        process = subprocess.Popen([sys.executable, str(places.workspace / "server.py"), *map(str, numbers)], pass_fds=numbers)
        try:
            yield port
        finally:
            process.kill()
            process.wait()


def _able(places: Places, port: int) -> tuple[list[Contestant], dict[str, str]]:
    """The contestants with a proxy that lets the one server be reached and not the other, and for the others why not."""
    ones = (one for one in contestants(places) if one.name in ("bare", "houseroom", CODEX, "srt"))
    listed = (_with_the_server_listed(one, places, port) for one in ones)
    return fit_ones(listed, lambda one: _lets_only_it_be_reached(one, port))


def _with_the_server_listed(one: Contestant, places: Places, port: int) -> Contestant:
    command, *rest = one.prefix or ("",)
    if one.name == "houseroom":
        return replace(one, prefix=(command, "run", "--allow", f"{HOST}:{port}", "--"))
    if one.name == CODEX:
        words = ("features.network_proxy.enabled=true", f'features.network_proxy.domains={{"{HOST}"="allow"}}')
        options = [word for words in (*words, "sandbox_workspace_write.network_access=true") for word in ("-c", words)]
        return replace(one, prefix=(command, *rest[:-1], *options, "--"))
    return srt(places, (HOST,)) if one.name == "srt" else one


def _lets_only_it_be_reached(one: Contestant, port: int) -> str:
    try:
        found: list[object] = [*_asked(one, port, "proof")]
    except OSError as error:
        return str(error)
    if HOST not in found:
        return f"its proxy does not let {HOST} be reached, which it was told to"
    return f"it lets be reached what was not listed: {', '.join(map(str, found))}" if found != [HOST] and one.name != "bare" else ""


def _argv(one: Contestant, port: int, *words: object) -> list[str]:
    return [*one.prefix, os.path.realpath(interpreter()), "-I", "-S", "client.py", str(port), *map(str, words)]


def _asked(one: Contestant, port: int, *words: object) -> list[float]:
    """What the client found inside. Raises ChildProcessError, TimeoutError."""
    try:
        done = subprocess.run(_argv(one, port, *words), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(str(error)) from None
    if done.returncode:
        raise ChildProcessError(f"{words[0]}: " + " ".join((done.stderr or done.stdout).split())[-300:])
    found: list[float] = json.loads(done.stdout)
    return found


def _of(one: Contestant, port: int, *words: object) -> Callable[[], Iterable[float]]:
    return lambda: _asked(one, port, *words)


# Times ----------------------------------------------------------------------------------------------------------------


def _large(fit: list[Contestant], unfit: dict[str, str], port: int, size: Size) -> list[Result]:
    results = []
    for task, words in (("give", "from"), ("take", "to")):
        samples, failed = interleave({one.name: _of(one, port, task, size.transfer) for one in fit}, size.work, warm_up=1)
        title = f"{size.transfer >> 20} MiB {words} a server (2.5 × the time is 0.4 × the rate)"
        bars = (Bar("houseroom", "bare", 2.5), Bar("houseroom", CODEX, 1 / 1.3))
        results.append(Result(title, "bare", samples, bars, unfit | failed))
    return results


def _small(fit: list[Contestant], unfit: dict[str, str], port: int, size: Size) -> list[Result | Facts]:
    title = "a small request on a kept connection"
    samples, failed = interleave({one.name: _of(one, port, "requests", size.requests) for one in fit}, size.work, warm_up=1)
    return [Result(title, "bare", samples, (), unfit | failed), _added(title, samples, "houseroom", "bare", ADDED_TO_A_REQUEST)]


def _starts(places: Places, port: int, size: Size) -> list[Result | Facts]:
    title = "start of one command (true) with a listed host"
    command = next(one for one in contestants(places) if one.name == "houseroom").prefix[0]
    words = {"reach none": (), "reach listed": ("--allow", f"{HOST}:{port}")}
    measures: dict[str, Callable[[], Iterable[float]]] = {
        name: lambda options=options: (spawn((command, "run", *options, "--", "/bin/true")),)  # type: ignore[misc]
        for name, options in words.items()
    }
    samples, failed = interleave(measures, size.starts)
    return [Result(title, "reach none", samples, (), failed), _added(title, samples, "reach listed", "reach none", ADDED_TO_A_START)]


def _added(title: str, samples: dict[str, Sample], more: str, less: str, most: float) -> Facts:
    lacking = {name: "see above" for name in (more, less) if name not in samples}
    if lacking:
        return Facts(title, {}, lacking)
    return Facts(title, {f"{more} adds to {less} (medians)": Figure(samples[more].median - samples[less].median, "ms", most)})


# Many connections -----------------------------------------------------------------------------------------------------


class Inside:
    """A client that pauses inside, and what can be seen of its proxy meanwhile."""

    def __init__(self, one: Contestant, port: int, *words: object):
        argv = _argv(one, port, *words)
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.known = f"{HOST}:{port}"

    def paused(self) -> list[float]:
        """What it says at its next pause. Raises ChildProcessError where it has ended."""
        assert self.process.stdout
        said = self.process.stdout.readline()
        if not said:
            raise ChildProcessError("the client inside has ended before its time")
        found: list[float] = json.loads(said)
        return found

    def go_on(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def proxy(self) -> int:
        """The process that is the proxy: it has our words and a session of its own. Raises ChildProcessError."""
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                if self.known.encode() in Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0") and os.getsid(int(name)) == int(name):
                    return int(name)
            except OSError:
                continue  # it has just ended, or is closed to us
        raise ChildProcessError("there is no proxy")

    def __enter__(self) -> Inside:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def _own_memory(pid: int) -> int:
    """KiB that no file backs, shared with others or not (proc_pid_status(5), RssAnon): at least its part of PSS."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon:")))


def _crowds(ours: Contestant, port: int, size: Size) -> list[Facts | Course]:
    """Crowds one after the other: nothing fails, and nothing of one is left when the next one comes."""
    title, times = f"{size.crowd} connections at one time", 10
    failed, open_, closed = 0, [], []
    try:
        with Inside(ours, port, "crowds", size.crowd, times) as inside:
            inside.paused()
            before = _own_memory(inside.proxy())
            inside.go_on()
            for _ in range(times):
                failed += int(inside.paused()[0])
                proxy = inside.proxy()
                open_.append(_own_memory(proxy))
                inside.go_on()
                inside.paused()
                closed.append(_own_memory(proxy))
                inside.go_on()
    except OSError as error:
        return [Facts(title, {}, {"houseroom": str(error)})]
    grown = closed[-1] - closed[1]
    faults = (f"memory grew from {closed[1]} to {closed[-1]} KiB",) if grown > closed[1] * GROWTH else ()
    each = (max(open_) - before) / size.crowd
    facts = {
        "fail, of all": Figure(failed, "", 0),
        "memory of the proxy's own for each": Figure(each, "KiB", EACH),
    }
    rows: dict[str, tuple[float, ...]] = {"while open, KiB": tuple(open_), "after, KiB": tuple(closed)}
    return [Facts(title, facts), Course(f"{title}, again and again: memory of the proxy", tuple(map(str, range(times))), rows, faults)]


def _stalled(ours: Contestant, port: int, size: Size) -> Facts:
    title = f"{size.stalled} endless answers of which nothing is read"
    before = _of_the_kernel()
    try:
        with Inside(ours, port, "stalled", size.stalled) as inside:
            inside.paused()
            held = _settled()
            own = _own_memory(inside.proxy())
    except OSError as error:
        return Facts(title, {}, {"houseroom": str(error)})
    figures = {
        "the kernel's memory for each, client's and server's included": Figure((held - before) / size.stalled, "KiB", STALLED),
        "the proxy's own": Figure(own / 1024, "MiB"),
    }
    return Facts(title, figures)


def _of_the_kernel() -> float:
    """KiB that the kernel holds for all connections of this machine (proc_net(5), sockstat)."""
    line = next(line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:"))
    words = line.split()
    return int(words[words.index("mem") + 1]) * _PAGE / 1024


def _settled() -> float:
    """The same, when it no longer changes much; after ten seconds in any case."""
    import time

    seen = [_of_the_kernel()]
    for _ in range(20):
        time.sleep(0.5)
        seen.append(_of_the_kernel())
        if len(seen) > 3 and statistics.pstdev(seen[-3:]) < 64:
            break
    return seen[-1]
