"""Runs inside a contestant: asks the server of server.py, by way of the proxy that ``http_proxy`` names, directly where it names none.

client.py PORT TASK ARGUMENTS…; what it found is JSON on standard output. Standard library only, light imports.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import time
from base64 import b64encode
from urllib.parse import unquote, urlsplit

HOST, OTHER = "127.0.0.1", "127.0.0.2"
PATIENCE = 20.0  # seconds, where something is expected to fail
_ROOM = memoryview(bytearray(1 << 20))


def connected(port: int, host: str = HOST) -> socket.socket:
    """A connection to the server. Raises OSError."""
    proxy = os.environ.get("http_proxy", "")
    if not proxy:
        return prompt(socket.create_connection((host, port)))
    where = urlsplit(proxy)
    connection = prompt(socket.create_connection((where.hostname or "", where.port or 0)))
    pass_words = f"{unquote(where.username or '')}:{unquote(where.password or '')}"
    secret = f"Proxy-Authorization: Basic {b64encode(pass_words.encode()).decode()}\r\n" if where.username else ""
    connection.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{secret}\r\n".encode())
    said = head(connection)
    if b" 200 " not in said.partition(b"\r\n")[0] + b" ":
        raise ConnectionRefusedError(said.partition(b"\r\n")[0].decode("latin-1"))
    return connection


def prompt(connection: socket.socket) -> socket.socket:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def head(connection: socket.socket) -> bytes:
    """A response's head, and not a byte more. Raises ConnectionError."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(1 << 16, socket.MSG_PEEK)
        if not part:
            raise ConnectionAbortedError("the connection ended")
        end = (data + part).find(b"\r\n\r\n")
        data += connection.recv(len(part) if end < 0 else end + 4 - len(data))
    return data


def ask(connection: socket.socket, path: str) -> None:
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())


def small(connection: socket.socket) -> None:
    """Raises ConnectionError for anything but the answer."""
    ask(connection, "/small")
    data = head(connection)
    while not data.endswith(b"small"):
        part = connection.recv(100)
        if not part:
            raise ConnectionAbortedError("the connection ended")
        data += part


def proof(port: int) -> list[str]:
    """The hosts that answer, by way of the proxy and past it."""
    found = []
    for host in (HOST, OTHER):
        for road in (os.environ.get("http_proxy", ""), ""):
            os.environ["http_proxy"] = road
            try:
                with connected(port, host) as connection:
                    connection.settimeout(PATIENCE)
                    small(connection)
            except OSError:
                continue
            found.append(host if road or host == HOST else f"{host}, past the proxy")
    return sorted(set(found))


def give(port: int, count: str) -> list[float]:
    """So many bytes, once; milliseconds."""
    left = int(count)
    with connected(port) as connection:
        ask(connection, f"/give/{left}")
        start = time.perf_counter_ns()
        head(connection)
        while left:
            read = connection.recv_into(_ROOM)
            if not read:
                raise ConnectionAbortedError(f"{left} bytes are missing")
            left -= read
        return [(time.perf_counter_ns() - start) / 1e6]


def take(port: int, count: str) -> list[float]:
    """The other way: so many bytes are sent, until the server has them all."""
    left = int(count)
    with connected(port) as connection:
        connection.sendall(f"POST /take/{left} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {left}\r\n\r\n".encode())
        time.sleep(0.05)  # the server reads a head in one piece, and nothing behind it
        start = time.perf_counter_ns()
        while left:
            left -= connection.send(_ROOM[: min(left, len(_ROOM))])
        head(connection)
        return [(time.perf_counter_ns() - start) / 1e6]


def requests(port: int, count: str) -> list[float]:
    """So many small requests on one connection; milliseconds of each."""
    times = []
    with connected(port) as connection:
        for _ in range(int(count)):
            start = time.perf_counter_ns()
            small(connection)
            times.append((time.perf_counter_ns() - start) / 1e6)
    return times[len(times) // 10 :]


def pause(text: str) -> None:
    """Let whoever measures look."""
    print(text, flush=True)
    sys.stdin.readline()


def crowds(port: int, count: str, times: str) -> None:
    """So many connections, all open before the first one is used, and all closed again; so many times, after a single one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with connected(port) as connection:
        small(connection)
    pause("[]")
    for _ in range(int(times)):
        crowd, failed = [], 0
        for _ in range(int(count)):
            try:
                crowd.append(connected(port))
            except OSError:
                failed += 1
        for connection in crowd:
            try:
                small(connection)
            except OSError:
                failed += 1
        pause(f"[{failed}]")
        for connection in crowd:
            connection.close()
        pause("[]")


def stalled(port: int, count: str) -> None:
    """So many endless answers of which nothing is read."""
    crowd = [connected(port) for _ in range(int(count))]
    for connection in crowd:
        ask(connection, "/endless")
    pause("[]")


TASKS = {task.__name__: task for task in (proof, give, take, requests, crowds, stalled)}

if __name__ == "__main__":
    import json

    print(json.dumps(TASKS[sys.argv[2]](int(sys.argv[1]), *sys.argv[3:])))
