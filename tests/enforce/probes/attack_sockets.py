"""Reach a listener of the host: Unix sockets and FIFOs by path, abstract sockets, terminals. First argument: the stage's root."""

from __future__ import annotations

import ctypes
import os
import socket
import struct

from probe_kit import LIBC, call, main, refused, wait_for_host

KINDS = {"stream": socket.SOCK_STREAM, "dgram": socket.SOCK_DGRAM, "seqpacket": socket.SOCK_SEQPACKET}


def _short(path: str) -> str:
    """Addresses are 107 bytes; go to the directory and use the base name."""
    if path.startswith("@"):
        return "\0" + path[1:]
    if len(path) > 100:
        os.chdir(os.path.dirname(path))
        return os.path.basename(path)
    return path


def connect(root: str, kind: str, path: str) -> None:
    unix = socket.socket(socket.AF_UNIX, KINDS[kind])
    unix.settimeout(5)
    unix.connect(_short(path))
    unix.send(b"attack")


def connect_relative(root: str, kind: str, path: str) -> None:
    os.chdir(os.path.dirname(path))
    connect(root, kind, os.path.basename(path))


def connect_symlink(root: str, kind: str, path: str) -> None:
    os.symlink(path, "way")
    connect(root, kind, "way")


def connect_directory_symlink(root: str, kind: str, path: str) -> None:
    os.symlink(os.path.dirname(path), "way")
    connect(root, kind, f"way/{os.path.basename(path)}")


def connect_descriptor(root: str, kind: str, path: str) -> None:
    held = os.open(path, os.O_PATH)
    connect(root, kind, f"/proc/self/fd/{held}")


def connect_directory_descriptor(root: str, kind: str, path: str) -> None:
    held = os.open(os.path.dirname(path), os.O_PATH)
    connect(root, kind, f"/proc/self/fd/{held}/{os.path.basename(path)}")


def connect_hard_link(root: str, kind: str, path: str) -> None:
    os.link(path, "mine.sock")
    connect(root, kind, "mine.sock")


def connect_moved(root: str, kind: str, path: str) -> None:
    os.rename(path, "mine.sock")
    connect(root, kind, "mine.sock")


def connect_nonblocking(root: str, kind: str, path: str) -> None:
    unix = socket.socket(socket.AF_UNIX, KINDS[kind] | socket.SOCK_NONBLOCK)
    unix.connect(_short(path))


def connect_proc_root(root: str, kind: str, path: str) -> None:
    connect(root, kind, _short(f"/proc/self/root{path}"))


def connect_overlong(root: str, kind: str, path: str) -> None:
    """The address ends without a NUL, at exactly its stated length."""
    unix = socket.socket(socket.AF_UNIX, KINDS[kind])
    os.chdir(os.path.dirname(path))
    name = os.path.basename(path).encode()
    address = struct.pack("H", socket.AF_UNIX) + name
    if LIBC.connect(unix.fileno(), address, len(address)) < 0:
        raise refused("connect")


def _names(base: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(struct.pack("H", socket.AF_UNIX) + base + b"\0")


def send_to(root: str, kind: str, path: str) -> None:
    socket.socket(socket.AF_UNIX, KINDS[kind]).sendto(b"attack", _short(path))


def send_message(root: str, kind: str, path: str) -> None:
    socket.socket(socket.AF_UNIX, KINDS[kind]).sendmsg([b"attack"], [], 0, _short(path))


def send_many_messages(root: str, kind: str, path: str) -> None:
    """sendmmsg(2) with an address in each header."""
    unix = socket.socket(socket.AF_UNIX, KINDS[kind])
    short = _short(path)
    address = _names(short.encode())
    text = ctypes.create_string_buffer(b"attack")
    vector = struct.pack("QQ", ctypes.addressof(text), 6)
    vectors = ctypes.create_string_buffer(vector)
    header = struct.pack("QIxxxxQQQQiIIxxxx", ctypes.addressof(address), 2 + len(short) + 1, ctypes.addressof(vectors), 1, 0, 0, 0, 0, 0)
    call("sendmmsg", unix.fileno(), ctypes.create_string_buffer(header), 1, 0)


def pair_then_send(root: str, kind: str, path: str) -> None:
    """One half of a socketpair is a datagram socket that no filter on socket(2) has seen."""
    first, _second = socket.socketpair(socket.AF_UNIX, KINDS[kind])
    first.sendto(b"attack", _short(path))


def pair_then_reconnect(root: str, kind: str, path: str) -> None:
    first, _second = socket.socketpair(socket.AF_UNIX, KINDS[kind])
    first.connect(_short(path))
    first.send(b"attack")


def pair_then_send_message(root: str, kind: str, path: str) -> None:
    first, _second = socket.socketpair(socket.AF_UNIX, KINDS[kind])
    first.sendmsg([b"attack"], [], 0, _short(path))


def pair_then_send_many(root: str, kind: str, path: str) -> None:
    first, _second = socket.socketpair(socket.AF_UNIX, KINDS[kind])
    short = _short(path)
    address = _names(short.encode())
    text = ctypes.create_string_buffer(b"attack")
    vectors = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(text), 6))
    header = struct.pack("QIxxxxQQQQiIIxxxx", ctypes.addressof(address), 2 + len(short) + 1, ctypes.addressof(vectors), 1, 0, 0, 0, 0, 0)
    call("sendmmsg", first.fileno(), ctypes.create_string_buffer(header), 1, 0)


def later_connect(root: str, kind: str, path: str) -> None:
    wait_for_host()
    connect(root, kind, path)


def race_connect(root: str, path: str, seconds: str) -> None:
    """Flip the address between a socket of our own and the host's while connecting."""
    import threading
    import time

    os.chdir(os.path.dirname(path))
    bad = os.path.basename(path).encode()
    good = b"z" + bad[1:]
    own = socket.socket(socket.AF_UNIX)
    own_directory = os.open(".", os.O_PATH)
    own.bind(f"/proc/self/fd/{own_directory}/{good.decode()}")
    own.listen(64)
    own.setblocking(False)
    address = _names(bad)
    place = ctypes.addressof(address) + 2
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            for _ in range(200):
                ctypes.memmove(place, bad, len(bad))
                ctypes.memmove(place, good, len(good))

    flipper = threading.Thread(target=flip)
    flipper.start()
    until = time.monotonic() + float(seconds)
    try:
        while time.monotonic() < until:
            unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            LIBC.connect(unix.fileno(), address, 2 + len(bad) + 1)
            unix.close()
            try:
                while True:
                    own.accept()[0].close()
            except OSError:
                continue
    finally:
        stop.set()
        flipper.join()


def replace_own_socket(root: str, path: str) -> None:
    """Bind a socket of our own, then put the host's in its place by hard link or rename."""
    own = socket.socket(socket.AF_UNIX)
    own.bind("own.sock")
    own.listen(1)
    os.unlink("own.sock")
    try:
        os.link(path, "own.sock")
    except OSError:
        os.rename(path, "own.sock")
    unix = socket.socket(socket.AF_UNIX)
    unix.settimeout(5)
    unix.connect("own.sock")


def fifo_write(root: str, path: str) -> None:
    os.write(os.open(path, os.O_WRONLY | os.O_NONBLOCK), b"attack")


def fifo_read_write(root: str, path: str) -> None:
    os.write(os.open(path, os.O_RDWR | os.O_NONBLOCK), b"attack")


def fifo_relative(root: str, path: str) -> None:
    os.chdir(os.path.dirname(path))
    os.write(os.open(os.path.basename(path), os.O_WRONLY | os.O_NONBLOCK), b"attack")


def fifo_symlink(root: str, path: str) -> None:
    os.symlink(path, "way")
    os.write(os.open("way", os.O_WRONLY | os.O_NONBLOCK), b"attack")


def fifo_path_descriptor(root: str, path: str) -> None:
    held = os.open(path, os.O_PATH)
    os.write(os.open(f"/proc/self/fd/{held}", os.O_WRONLY | os.O_NONBLOCK), b"attack")


def fifo_hard_link(root: str, path: str) -> None:
    os.link(path, "mine")
    os.write(os.open("mine", os.O_WRONLY | os.O_NONBLOCK), b"attack")


def fifo_later(root: str, path: str) -> None:
    wait_for_host()
    os.write(os.open(path, os.O_WRONLY | os.O_NONBLOCK), b"attack")


def fifo_create_flag(root: str, path: str) -> None:
    """O_CREAT on what exists: a mediator that opens on the caller's behalf must not open the FIFO."""
    os.write(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CREAT), b"attack")


def terminal_write(root: str, path: str) -> None:
    os.write(os.open(path, os.O_WRONLY | os.O_NOCTTY), b"attack")


if __name__ == "__main__":
    main(globals())
