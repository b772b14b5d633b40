"""A world for the egress proxy that fits on this host's loopback: servers in threads of the tests, and names by a table."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from runner import Bench, Outcome, alive

Talk = Callable[[socket.socket], None]
GOOD = "good.example.org"
_ROOM = 1 << 20  # for the names that the resolver is asked for


class World:
    """Servers, and what was heard of whom. ``reached``: connections that each port took. ``heads``: what web servers were asked."""

    def __init__(self, bench: Bench):
        self.bench = bench
        self.names: dict[str, list[list[str]]] = {GOOD: [["127.0.0.1"]]}
        self.public = ["127.0.0.1"]
        self.site = ""
        self.reached: dict[int, int] = {}
        self.heads: list[bytes] = []
        self.heard: list[bytes] = []
        self._listeners: list[socket.socket] = []
        self._web: list[ThreadingHTTPServer] = []
        self._asked = bench.identity.base / "asked"

    # -- servers --

    def serve(self, talk: Talk, host: str = "127.0.0.1", port: int = 0, context: ssl.SSLContext | None = None) -> int:
        """A server on the host's loopback that holds each conversation in a thread of its own, inside TLS where a context is given.
        Returns its port."""
        listener = socket.create_server((host, port), backlog=512)
        number = int(listener.getsockname()[1])
        self.reached.setdefault(number, 0)
        self._listeners.append(listener)

        def converse(connection: socket.socket) -> None:
            with connection:
                try:
                    if context is None:
                        talk(connection)
                    else:
                        with context.wrap_socket(connection, server_side=True) as inside:
                            talk(inside)
                except OSError:
                    return  # the client has gone

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                self.reached[number] += 1
                threading.Thread(target=converse, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return number

    def web(self, body: str = "welcome", host: str = "127.0.0.1", port: int = 0, context: ssl.SSLContext | None = None) -> int:
        """A web server that answers each request of a connection with ``body``, and keeps what it was asked."""

        def talk(connection: socket.socket) -> None:
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    part = connection.recv(65536)
                    if not part:
                        return
                    data += part
                head, _, data = data.partition(b"\r\n\r\n")
                self.heads.append(head)
                data = _behind_body(connection, head.lower(), data)
                close = b"connection: close" in head.lower()
                connection.sendall(
                    f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{'Connection: close' if close else 'X: y'}\r\n\r\n{body}".encode()
                )
                if close:
                    return

        return self.serve(talk, host, port, context)

    def files(self, directory: Path, special: Mapping[str, bytes] | None = None, context: ssl.SSLContext | None = None) -> int:
        """A web server of the files in a directory."""
        world = self

        class Handler(SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                found = (special or {}).get(self.path.partition("?")[0])
                if found is None:
                    super().do_GET()
                    return
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(found)))
                self.end_headers()
                self.wfile.write(found)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class calls it so
                world.heads.append((format % args).encode())

        return self.http(partial(Handler, directory=str(directory)), context)

    def http(self, handler: Callable[..., BaseHTTPRequestHandler], context: ssl.SSLContext | None = None) -> int:
        """A server of requests on the host's loopback; in TLS with a ``context``. Returns its port."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self._web.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return int(server.server_address[1])

    def close(self) -> None:
        """End what listens. Conversations end with their clients."""
        for listener in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for server in self._web:
            server.shutdown()
            server.server_close()

    # -- runs --

    @property
    def mark(self) -> bytes:
        """What is found in the arguments of a process of this world, and of no other one."""
        return str(self._asked).encode()

    @property
    def table(self) -> str:
        """What in_a_world.py is told; it names a file of this identity, so that it is found in no other process's arguments."""
        return json.dumps({"names": self.names, "public": self.public, "site": self.site, "asked": str(self._asked)})

    def argv(self, *arguments: str) -> list[str]:
        """argv of ``houseroom ARGUMENTS…`` in this world."""
        return [self.bench.identity.python, str(self.bench.identity.base / "probes/in_a_world.py"), self.table, *arguments]

    def keeper(self) -> Path:
        """A program that is the keeper of an application's sandboxes, in this world."""
        base = self.bench.identity.base
        program = Path(f"{self._asked}-keeper.py")
        paths = [str(base / "probes"), str(base / "src")]
        program.write_text(
            f"import json, runpy, sys\nsys.path[:0] = {paths!r}\nimport in_a_world\nin_a_world.change(json.loads({self.table!r}))\n"
            f"runpy.run_path({str(base / 'src/houseroom/session/keeper.py')!r}, run_name='__main__')\n"
        )
        program.chmod(0o644)
        self.prepare()
        return program

    def prepare(self) -> None:
        """Nothing has been asked yet. Before whatever lives in this world."""
        self._asked.write_bytes(bytes(_ROOM))
        self.bench.stage.give(self._asked)

    def ordered(self, argv: list[str], *allowed: str, options: tuple[str, ...] = ()) -> list[str]:
        """argv of a run inside, with these hosts allowed, by a houseroom that lives in this world."""
        return self.argv("run", *(word for host in allowed for word in ("--allow", host)), *options, "--", *argv)

    def run(self, argv: list[str], *allowed: str, options: tuple[str, ...] = (), **how: object) -> Outcome:
        """Run what is ``ordered``, and forget what was heard before."""
        self.prepare()
        for port in self.reached:
            self.reached[port] = 0
        self.heads.clear()
        self.heard.clear()
        environment = {"PYTHONPATH": str(self.bench.identity.base / "src"), **how.pop("env", {})}  # type: ignore[dict-item]
        return self.bench.run(self.ordered(argv, *allowed, options=options), inside=False, env=environment, **how)  # type: ignore[arg-type]

    def start(self, argv: list[str], *allowed: str) -> subprocess.Popen[bytes]:
        """Begin what is ``ordered``; its input is a pipe."""
        if not self._asked.exists():
            self.prepare()
        environment = {"PYTHONPATH": str(self.bench.identity.base / "src")}
        return self.bench.start(self.ordered(argv, *allowed), inside=False, env=environment, stdin=subprocess.PIPE)

    def probe(self, name: str, *arguments: object, allow: tuple[str, ...] = (), **how: object) -> list[str]:
        """The lines that a probe of egress_roads.py says inside, without its first and last ones; it must come to its end."""
        outcome = self.run(self.bench.probe("egress_roads", name, *arguments), *allow, **how)  # type: ignore[arg-type]
        first, *lines, last = outcome.out.splitlines() or [""]
        assert (first, last, outcome.status) == (f"probe: {name}", "DONE", 0), outcome
        return lines

    def asked(self) -> set[str]:
        """The names that the resolver was asked for in the last run."""
        return set(self._asked.read_bytes().rstrip(b"\0").decode().split())


def _behind_body(connection: socket.socket, head: bytes, data: bytes) -> bytes:
    """What follows a request's body, of which ``data`` was read already."""
    length = next((int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(data) < length or (b"chunked" in head and b"\r\n0\r\n\r\n" not in data):
        part = connection.recv(65536)
        if not part:
            return b""
        data += part
    return data[length:] if b"chunked" not in head else data.partition(b"\r\n0\r\n\r\n")[2]


def outcomes(lines: list[str]) -> dict[str, set[str]]:
    """Outcome → the roads that ended so."""
    found: dict[str, set[str]] = {}
    for line in lines:
        road, _, words = line.rpartition(": ")
        found.setdefault(words, set()).add(road)
    return found


def greet(connection: socket.socket) -> None:
    """Speak first, then answer one line."""
    connection.sendall(b"SSH-2.0-world\r\n")
    with connection.makefile("rb") as lines:
        connection.sendall(lines.readline().upper())


def store(connection: socket.socket) -> None:
    """Take all there is, and only then give it back."""
    kept = []
    while part := connection.recv(1 << 18):
        kept.append(part)
    for part in kept:
        connection.sendall(part)


@contextmanager
def made(bench: Bench) -> Iterator[World]:
    """A world for one test."""
    world = World(bench)
    try:
        yield world
    finally:
        world.close()


# -- processes of the host --


def proxies(world: World, *others: int) -> list[int]:
    """Processes whose arguments name this world, but for these others: what a houseroom forked and left to itself."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            if (
                entry.isdigit()
                and world.mark in Path(f"/proc/{entry}/cmdline").read_bytes()
                and int(entry) not in others
                and alive(int(entry))
            ):
                found.append(int(entry))
        except OSError:
            continue  # it has just ended
    return found


def need_sight() -> None:
    """The proxy is not dumpable: only root sees its descriptors."""
    if os.geteuid() != 0:
        pytest.skip("needs root to look into the proxy")


def watched(proxy: int) -> set[int]:
    """The processes with whose end a proxy ends (proc(5), fdinfo of pidfds)."""
    lines = [line for each in Path(f"/proc/{proxy}/fdinfo").iterdir() for line in each.read_text().splitlines()]
    return {int(line.split()[1]) for line in lines if line.startswith("Pid:")}


def status(pid: int) -> dict[str, int]:
    """The rights of a process (proc_pid_status(5)): its sets of capabilities as numbers, and NoNewPrivs."""
    lines = (line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: int(value, 16) for name, value in lines if name.startswith("Cap") or name == "NoNewPrivs"}
