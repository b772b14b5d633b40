"""A web server on the loopback, as quick as one in Python can be: ``server.py DESCRIPTOR…``, sockets that listen.

``/give/N``: N bytes, sent by a process of its own from memory that is warm. ``/take/N``: N bytes are read by such a process.
``/endless``: bytes without end, from a socket that holds little. Everything else: a few bytes. Connections are kept.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys

SMALL = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsmall"
PIECE = memoryview(bytearray(1 << 20))
HELD = 1 << 16  # bytes that the socket of an endless answer is asked to hold


def give(connection: socket.socket, count: int) -> None:
    connection.setblocking(True)  # noqa: FBT003 — it takes no keyword
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % count)
    while count:
        count -= connection.send(PIECE[: min(count, len(PIECE))])
    connection.recv(1)  # some proxies lose the last bytes of a server that closes at once


def take(connection: socket.socket, count: int) -> None:
    connection.setblocking(True)  # noqa: FBT003
    while count:
        read = connection.recv_into(PIECE)
        if not read:
            return
        count -= read
    connection.sendall(SMALL)
    connection.recv(1)


def pour(connection: socket.socket) -> bool:
    """Fill what there is room for. Returns whether somebody is there."""
    try:
        while True:
            connection.send(PIECE[: 1 << 14])
    except BlockingIOError:
        return True
    except OSError:
        return False


def answer(connection: socket.socket, endless: set[socket.socket]) -> bool:
    """One request, which comes in one piece. Returns whether the connection is kept."""
    try:
        asked = connection.recv(1 << 16)
    except OSError:
        return False
    path = asked.split(b" ")[1] if asked.startswith((b"GET ", b"POST ")) else b""
    if path.startswith((b"/give/", b"/take/")):
        if os.fork() == 0:
            try:
                (give if path.startswith(b"/give/") else take)(connection, int(path.rpartition(b"/")[2]))
            finally:
                os._exit(0)
        return False
    if path == b"/endless":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, HELD)
        connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        endless.add(connection)
        return True
    if path:
        connection.send(SMALL)
    return bool(path)


def serve(listeners: list[socket.socket]) -> None:
    watch, endless = selectors.DefaultSelector(), set[socket.socket]()
    for listener in listeners:
        watch.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in watch.select():
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            if sock in listeners:
                connection, _ = sock.accept()
                connection.setblocking(False)  # noqa: FBT003
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                watch.register(connection, selectors.EVENT_READ)
                continue
            before = len(endless)
            kept = pour(sock) if sock in endless else answer(sock, endless)
            if len(endless) > before:
                watch.modify(sock, selectors.EVENT_WRITE)
            if not kept:
                endless.discard(sock)
                watch.unregister(sock)
                sock.close()


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who give
    serve([socket.socket(fileno=int(word)) for word in sys.argv[1:]])
