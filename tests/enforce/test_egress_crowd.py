"""A thousand connections by way of the egress proxy, slow ones among them, and what those that nobody reads may hold."""

from __future__ import annotations

import resource
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from runner import Bench, eventually
from small_world import GOOD, World, made, proxies, store
from test_egress_life import settled

from houseroom.session.proxy.buffers import SHARES

pytestmark = pytest.mark.needs("userns")

SERVERS = 1 << 16  # bytes that a server of ours has asked to hold of what it sends; the kernel doubles it
HERE = resource.getrlimit(resource.RLIMIT_NOFILE)


@pytest.fixture
def world(bench: Bench) -> Iterator[World]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (HERE[1], HERE[1]))  # for the servers' side of a crowd
    try:
        with made(bench) as world:
            yield world
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, HERE)


class Flood:
    """A server that never ends. ``sent``: how many bytes each connection took, in the order in which they came."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    def __call__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SERVERS)
        at = len(self.sent)
        self.sent.append(0)
        while True:
            self.sent[at] += connection.send(bytes(1 << 14))

    def settled(self) -> bool:
        """Whether nothing has moved for a second."""
        before = list(self.sent)
        time.sleep(1)
        return before == self.sent


def crowd(world: World, name: str, *arguments: object, patience: float = 180) -> list[str]:
    """The lines that a probe of egress_crowd.py says inside."""
    outcome = world.run(world.bench.probe("egress_crowd", name, *arguments), GOOD, patience=patience)
    first, *lines, last = outcome.out.splitlines() or [""]
    assert (first, last, outcome.status) == (f"probe: {name}", "DONE", 0), outcome
    return lines


def _started(world: World, name: str, *arguments: object) -> tuple[subprocess.Popen[bytes], int]:
    assert world.run(["true"], GOOD).status == 0  # the world is there, and works
    process = world.start(world.bench.probe("egress_crowd", name, *arguments), GOOD)
    assert eventually(lambda: settled(world, process.pid))
    return process, proxies(world, process.pid)[0]


def _own_memory(pid: int) -> int:
    """KiB that no file backs (proc_pid_status(5), RssAnon)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon:")))


def test_a_thousand_connections_again_and_again(world: World) -> None:
    """None fails, and the proxy does not grow from one crowd to the next."""
    process, proxy = _started(world, "waves", GOOD, world.serve(store), 1000, 4)
    memory = []
    try:
        for _ in range(4):
            assert b"good: 1000\n" in Bench.until_ready(process)
            memory.append(_own_memory(proxy))
            assert process.stdin
            process.stdin.write(b"go\n")
            process.stdin.flush()
        out, _ = process.communicate(timeout=60)
        assert out.endswith(b"DONE\n") and process.returncode == 0
    finally:
        Bench.end(process)
    assert memory[-1] - memory[1] < 1024, memory  # a connection that left 1 KiB behind would have left 2,000


def test_a_slow_reader(world: World) -> None:
    size = 8 << 20
    assert crowd(world, "slow_reader", GOOD, world.serve(store), size) == [f"{size} True"]


def test_a_slow_writer(world: World) -> None:
    size = sum(1 + at * 7919 % 20_011 for at in range(300))
    assert crowd(world, "slow_writer", GOOD, world.serve(store), 300) == [f"{size} True"]


def test_a_large_transfer_leaves_others_their_turn(world: World) -> None:
    assert crowd(world, "beside_a_large_one", GOOD, world.serve(Flood()), world.serve(store), 100) == ["good: 100"]


def _share(number: int) -> int:
    return next(size for most, size in SHARES if number <= most)


def test_what_nobody_reads_is_bounded_and_others_go_on(world: World) -> None:
    """The later a connection comes the less it holds on both sides of the proxy, and nothing of it is in the proxy's own memory.

    The twin is a connection with buffers of the kernel's choice, which takes more than a late one and both its ends together.
    """
    flood, count = Flood(), 300
    process, proxy = _started(world, "never_read", GOOD, world.serve(flood), world.serve(store), count)
    try:
        assert b"READY" in Bench.until_ready(process)
        before = _own_memory(proxy)
        assert eventually(lambda: len(flood.sent) == count and flood.settled(), 60)
        held = list(flood.sent)
        grown = _own_memory(proxy) - before
        out, _ = process.communicate(b"go\n", timeout=60)
    finally:
        Bench.end(process)
    assert b"good: 20\nDONE\n" in out
    ends = 2 * SERVERS + (1 << 17)  # what its server holds, and the client's socket, which the kernel does not let grow unread
    ends += 4 << 16  # a packet of the loopback has so much, and each of the four buffers takes one more when it is almost full
    assert [size for at, size in enumerate(held, 1) if at > SHARES[0][0] and size > 2 * 2 * _share(at) + ends] == []
    assert grown < 4096, "KiB"
    plain = _unread_without_bounds()
    assert plain > 2 * 2 * _share(count) + ends, plain


def _unread_without_bounds() -> int:
    """How much a connection takes that nobody reads."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        server, _ = listener.accept()
        with server:
            server.setblocking(False)
            taken = 0
            try:
                while True:
                    taken += server.send(bytes(1 << 16))
            except BlockingIOError:
                return taken
