"""Listeners of the host hear nothing: Unix sockets and FIFOs by path, abstract ones, terminals. Those made inside work."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from runner import Bench, Ear, When

pytestmark = pytest.mark.needs("userns")

KINDS = {"stream": socket.SOCK_STREAM, "dgram": socket.SOCK_DGRAM, "seqpacket": socket.SOCK_SEQPACKET}


@pytest.fixture
def ear() -> Iterator[Ear]:
    listening = Ear()
    yield listening
    listening.close()


def place(bench: Bench, where: str, name: str) -> Path:
    """Where listeners live. Names in shared directories carry the run's own mark."""
    mark = f"hrprobe-{bench.identity.login}-{name}"
    return {
        "home": bench.stage.home / name,
        "workspace": bench.stage.workspace / name,
        "workspace below": bench.stage.workspace / "directory" / name,
        "outside": bench.stage.outside / name,
        "runtime": bench.stage.runtime / name,
        "tmp": Path("/tmp") / mark,
        "var tmp": Path("/var/tmp") / mark,
        "run": Path("/run") / mark,
        "dev shm": Path("/dev/shm") / mark,
    }[where]


PLACES = ["home", "workspace", "workspace below", "outside", "runtime", "tmp", "var tmp", "run", "dev shm"]


def attack(bench: Bench, ear: Ear, where: str, kind: str, way: str, *more: str, later: bool = False) -> None:
    path = place(bench, where, "ear.sock")
    if not os.access(path.parent, os.W_OK):
        pytest.skip(f"pytest may not create {path}")

    def listen() -> None:
        ear.close()
        path.unlink(missing_ok=True)
        (path.parent / "mine.sock").unlink(missing_ok=True)
        ear.unix(bench.stage, path, KINDS[kind])

    arguments = (path, *more) if way in ("race_connect", "replace_own_socket") else (kind, path, *more)
    try:
        if later:
            bench.twin(bench.probe("attack_sockets", way, *arguments), ear, prepare=ear.close, during=listen)
        else:
            bench.twin(bench.probe("attack_sockets", way, *arguments), ear, prepare=listen)
    finally:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", PLACES)
def test_connect(bench: Bench, ear: Ear, where: str, kind: str) -> None:
    attack(bench, ear, where, kind, "connect")


WAYS = [
    "connect_relative", "connect_symlink", "connect_directory_symlink", "connect_descriptor", "connect_directory_descriptor",
    "connect_hard_link", "connect_moved", "connect_nonblocking", "connect_overlong",
]  # fmt: skip


@pytest.mark.parametrize("where", ["workspace", "outside"])
@pytest.mark.parametrize("way", WAYS)
def test_every_spelling(bench: Bench, ear: Ear, way: str, where: str) -> None:
    attack(bench, ear, where, "stream", way)


@pytest.mark.parametrize("where", ["workspace", "runtime"])
@pytest.mark.parametrize(
    "way",
    [
        "send_to",
        "send_message",
        "send_many_messages",
        "pair_then_send",
        "pair_then_reconnect",
        "pair_then_send_message",
        "pair_then_send_many",
    ],
)
def test_datagrams(bench: Bench, ear: Ear, way: str, where: str) -> None:
    attack(bench, ear, where, "dgram", way)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["workspace", "home", "tmp"])
def test_listener_that_appears_later(bench: Bench, ear: Ear, where: str, kind: str) -> None:
    attack(bench, ear, where, kind, "later_connect", later=True)


def test_race_on_the_address(bench: Bench, ear: Ear) -> None:
    attack(bench, ear, "workspace", "stream", "race_connect", "1.5")


def test_the_hosts_socket_in_place_of_an_own_one(bench: Bench, ear: Ear) -> None:
    """A socket made inside may be connected to; its name may not be lent to the host's."""
    attack(bench, ear, "workspace", "stream", "replace_own_socket")


@pytest.mark.parametrize("kind", KINDS)
def test_abstract(bench: Bench, ear: Ear, kind: str) -> None:
    name = f"@hrprobe-{bench.identity.login}-{kind}"

    def listen() -> None:
        ear.close()
        ear.unix(bench.stage, name, KINDS[kind])

    bench.twin(bench.probe("attack_sockets", "connect", kind, name), ear, prepare=listen)


FIFO_WAYS = ["fifo_write", "fifo_read_write", "fifo_relative", "fifo_symlink", "fifo_path_descriptor", "fifo_hard_link", "fifo_create_flag"]


def fifo_attack(bench: Bench, ear: Ear, where: str, way: str, *, later: bool = False) -> None:
    path = place(bench, where, "ear.fifo")
    if not os.access(path.parent, os.W_OK):
        pytest.skip(f"pytest may not create {path}")

    def listen() -> None:
        ear.close()
        path.unlink(missing_ok=True)
        ear.fifo(bench.stage, path)
        if later:
            time.sleep(0.3)  # the moment that init needs to hear of it and mask it, which THREATS.md tells

    try:
        if later:
            bench.twin(bench.probe("attack_sockets", way, path), ear, prepare=ear.close, during=listen)
        else:
            bench.twin(bench.probe("attack_sockets", way, path), ear, prepare=listen)
    finally:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("where", [where for where in PLACES if where not in ("tmp", "var tmp", "dev shm", "run")])
@pytest.mark.parametrize("way", FIFO_WAYS)
def test_fifo(bench: Bench, ear: Ear, way: str, where: str) -> None:
    fifo_attack(bench, ear, where, way)


@pytest.mark.parametrize("where", ["run"])
def test_fifo_in_shared_directories(bench: Bench, ear: Ear, where: str) -> None:
    fifo_attack(bench, ear, where, "fifo_write")


@pytest.mark.parametrize("where", ["workspace", "home", "outside"])
def test_fifo_that_appears_later(bench: Bench, ear: Ear, where: str) -> None:
    fifo_attack(bench, ear, where, "fifo_later", later=True)


def test_terminal_of_the_same_user(bench: Bench) -> None:
    """Another window of the same person: whoever writes there shows them text, and escape sequences."""
    master, slave = os.openpty()
    path = os.ttyname(slave)
    if os.geteuid() == 0:
        os.chown(path, bench.identity.uid, -1)
    os.set_blocking(master, False)

    def heard() -> str:
        try:
            return os.read(master, 4096).decode()
        except BlockingIOError:
            return ""

    try:
        bench.twin(bench.probe("attack_sockets", "terminal_write", path), When(heard))
    finally:
        os.close(master)
        os.close(slave)


OWN = """
import os, socket, threading
kinds = {"stream": socket.SOCK_STREAM, "seqpacket": socket.SOCK_SEQPACKET}
for where in (".", "/tmp", os.environ.get("TMPDIR", "/tmp")):
    os.chdir(where)
    for name, kind in kinds.items():
        path = f"own-{name}.sock"
        server = socket.socket(socket.AF_UNIX, kind); server.bind(path); server.listen()
        client = socket.socket(socket.AF_UNIX, kind); client.connect(path)
        accepted = server.accept()[0]; client.send(b"x"); assert accepted.recv(1) == b"x"; os.unlink(path)
        print(where == "." or "tmp", name, "works")
server = socket.socket(socket.AF_UNIX); server.bind("\\0hrprobe-own"); server.listen()
client = socket.socket(socket.AF_UNIX); client.connect("\\0hrprobe-own"); print("abstract works")
for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
    a, b = socket.socketpair(socket.AF_UNIX, kind); a.send(b"x"); assert b.recv(1) == b"x"
print("pairs work")
os.mkfifo("pipe")
threading.Thread(target=lambda: open("pipe", "w").write("through")).start()
print(open("pipe").read()); os.unlink("pipe")
"""


def test_sockets_and_fifos_made_inside_work(bench: Bench) -> None:
    bench.same([bench.identity.python, "-c", OWN])
