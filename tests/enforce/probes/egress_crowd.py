"""Many connections by way of the egress proxy, and such as are slow, or are never read."""

from __future__ import annotations

import hashlib
import resource
import socket
import threading
import time

from egress_roads import blocking
from probe_kit import main, say, wait_for_host


def _room() -> None:
    """Descriptors for a crowd."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _opened(host: str, port: str, count: int) -> list[socket.socket]:
    """So many connections, one after the other: each has reached its server when the next one begins."""
    return [blocking(host, int(port)) for _ in range(count)]


def _echoed(connection: socket.socket, data: bytes) -> bool:
    """Whether a server that keeps what it is sent until the end gives it back."""
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)
    found = b""
    while part := connection.recv(1 << 16):
        found += part
    return found == data


def waves(root: str, host: str, port: str, count: str, times: str) -> None:
    """So many connections, all open before the first one is used; then all closed, and the host looks. So many times."""
    _room()
    for _ in range(int(times)):
        crowd = _opened(host, port, int(count))
        say(f"good: {sum(_echoed(connection, b'%08d' % at) for at, connection in enumerate(crowd))}")
        for connection in crowd:
            connection.close()
        wait_for_host()


def slow_reader(root: str, host: str, port: str, size: str) -> None:
    """What comes back is read in small pieces, with pauses, from a connection that takes little at a time."""
    with blocking(host, int(port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        sent, read, count = hashlib.sha256(), hashlib.sha256(), 0
        for at in range(int(size) >> 16):
            piece = at.to_bytes(8, "big") * (1 << 13)
            connection.sendall(piece)
            sent.update(piece)
        connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(50_000):
            read.update(part)
            count += len(part)
            time.sleep(0.001)
    say(f"{count} {sent.digest() == read.digest()}")


def slow_writer(root: str, host: str, port: str, pieces: str) -> None:
    """What is sent comes in pieces of all sizes, with pauses."""
    with blocking(host, int(port)) as connection:
        sent, read, count = hashlib.sha256(), hashlib.sha256(), 0
        for at in range(int(pieces)):
            piece = bytes((at & 255,)) * (1 + at * 7919 % 20_011)
            connection.sendall(piece)
            sent.update(piece)
            time.sleep(0.001)
        connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(1 << 16):
            read.update(part)
            count += len(part)
    say(f"{count} {sent.digest() == read.digest()}")


def never_read(root: str, host: str, flood: str, store: str, count: str) -> None:
    """So many connections to a server that never ends, of which nothing is read; meanwhile others go on as ever."""
    _room()
    crowd = _opened(host, flood, int(count))
    wait_for_host()
    others = _opened(host, store, 20)
    say(f"good: {sum(_echoed(other, bytes(200_000)) for other in others)}")
    for connection in crowd:
        connection.close()


def beside_a_large_one(root: str, host: str, flood: str, store: str, count: str) -> None:
    """So many small exchanges while a connection to a server that never ends is read as fast as it can be."""
    over, read = threading.Event(), [0]

    def swallow() -> None:
        with blocking(host, int(flood)) as connection:
            while not over.is_set():
                read[0] += len(connection.recv(1 << 20))

    thread = threading.Thread(target=swallow)
    thread.start()
    while read[0] < 1 << 24:
        time.sleep(0.001)
    good = sum(_echoed(other, b"small") for other in _opened(host, store, int(count)))
    over.set()
    thread.join()
    say(f"good: {good}")


if __name__ == "__main__":
    main(globals())
