"""Reach "none": nothing leaves, by no protocol, spelling or program; the sandbox's own loopback works."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator

import attack_network
import pytest
from probe_kit import listed
from runner import Bench, Ear, Said, lacking

pytestmark = pytest.mark.needs("userns")

TCP = [
    "tcp", "tcp_bound", "tcp_nonblocking", "tcp_mapped", "tcp_short_spelling", "tcp_any_address", "tcp_fast_open", "tcp_fast_open_message",
    "tcp_fast_open_connect", "mptcp", "shell_tcp", "node_tcp",
]  # fmt: skip
UDP = ["udp_send_to", "udp_connected", "udp_message", "udp_many", "dns_question", "shell_udp"]
DUAL = {"tcp_mapped"}


@pytest.fixture
def ear() -> Iterator[Ear]:
    listening = Ear()
    yield listening
    listening.close()


def own_address() -> str:
    """An address of this host beyond loopback, or ""."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.200", 9))  # TEST-NET-1: only the route is asked for
            return str(asking.getsockname()[0])
        except OSError:
            return ""


def hear(bench: Bench, ear: Ear, way: str, kind: int, host: str, protocol: int = 0) -> None:
    port = ear.inet(kind, host, protocol)
    bench.twin(bench.probe("attack_network", way, host, port), ear, env={"HRPROBE": "1"})


@pytest.mark.parametrize("way", TCP)
def test_tcp_to_the_hosts_loopback(bench: Bench, ear: Ear, way: str) -> None:
    if way == "node_tcp" and not shutil.which("node"):
        lacking("node")
    hear(bench, ear, way, socket.SOCK_STREAM, "127.0.0.1")


@pytest.mark.parametrize("way", UDP)
def test_udp_to_the_hosts_loopback(bench: Bench, ear: Ear, way: str) -> None:
    hear(bench, ear, way, socket.SOCK_DGRAM, "127.0.0.1")


def test_udp_lite(bench: Bench, ear: Ear) -> None:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 136).close()
    except OSError:
        pytest.skip("this kernel has no UDP-Lite")
    hear(bench, ear, "udp_lite", socket.SOCK_DGRAM, "127.0.0.1", 136)


@pytest.mark.parametrize(("way", "kind"), [("tcp", socket.SOCK_STREAM), ("udp_send_to", socket.SOCK_DGRAM)])
@pytest.mark.parametrize("host", ["::1", "own"])
def test_other_addresses_of_the_host(bench: Bench, ear: Ear, way: str, kind: int, host: str) -> None:
    address = own_address() if host == "own" else host
    if not address:
        pytest.skip("this host has no address beyond loopback")
    hear(bench, ear, way, kind, address)


def test_raw_packets(bench: Bench) -> None:
    bench.twin(bench.probe("attack_network", "raw_icmp", "127.0.0.1", "0"), Said("DONE"), control=bench.identity.uid == 0 or "needs root")


def test_no_interface_but_loopback(bench: Bench) -> None:
    outcome = bench.run(bench.probe("attack_network", "interfaces"), inside=True)
    assert "interfaces: lo\n" in outcome.out, outcome
    outcome = bench.run(bench.probe("attack_network", "routes"), inside=True)
    assert "routes: 0\n" in outcome.out, outcome


@pytest.mark.parametrize("address", ["192.0.2.200", "169.254.169.254"])
def test_no_route_beyond(bench: Bench, address: str) -> None:
    if not own_address():
        pytest.skip("this host has no route")
    bench.twin(bench.probe("attack_network", "outside_address", address), Said("would send from"))


def test_own_loopback_works(bench: Bench) -> None:
    bench.same(bench.probe("attack_network", "own_loopback"))


def test_two_sandboxes_use_the_same_port(bench: Bench) -> None:
    script = "import socket,sys; s=socket.create_server(('127.0.0.1',18733)); print('READY',flush=True); sys.stdin.readline()"
    argv = [bench.identity.python, "-S", "-c", script]
    first = bench.start(argv, inside=True, stdin=subprocess.PIPE)
    try:
        assert b"READY" in bench.until_ready(first)
        second = bench.run(argv, inside=True, data=b"\n")
        assert second.status == 0, second
    finally:
        bench.end(first)


def test_every_probe_is_used() -> None:
    """A probe that no test names proves nothing."""
    named = {*TCP, *UDP, "udp_lite", "raw_icmp", "interfaces", "routes", "outside_address", "own_loopback"}
    assert set(listed(vars(attack_network), "attack_network")) <= named
