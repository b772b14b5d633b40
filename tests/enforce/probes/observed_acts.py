"""One act each in a directory of the host that nobody granted: what an observer has to tell of."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
import time

from probe_kit import AT_FDCWD, LIBC, main, say

__all__ = ["main"]  # the runner calls it by this name


def append(root: str) -> None:
    with open(f"{root}/outside/file", "a") as file:
        file.write("x")


def copy_over(root: str) -> None:
    os.close(os.open(f"{root}/outside/file", os.O_WRONLY | os.O_TRUNC))


def through_a_link(root: str) -> None:
    os.symlink(f"{root}/outside/file", "led")
    os.close(os.open("led", os.O_WRONLY | os.O_TRUNC))


def by_descriptor(root: str) -> None:
    directory = os.open(f"{root}/outside", os.O_RDONLY)
    os.close(os.open("made", os.O_WRONLY | os.O_CREAT, dir_fd=directory))


def from_the_directory(root: str) -> None:
    os.chdir(f"{root}/outside")
    os.close(os.open("./directory/../made", os.O_WRONLY | os.O_CREAT))


def create(root: str) -> None:
    os.close(os.open(f"{root}/outside/made", os.O_WRONLY | os.O_CREAT | os.O_EXCL))


def make_directory(root: str) -> None:
    os.mkdir(f"{root}/outside/made")


def make_fifo(root: str) -> None:
    os.mkfifo(f"{root}/outside/made")


def make_link(root: str) -> None:
    os.symlink("x", f"{root}/outside/made")


def hard_link(root: str) -> None:
    os.link(f"{root}/outside/file", f"{root}/outside/made")


def move(root: str) -> None:
    os.rename(f"{root}/outside/file", f"{root}/outside/made")


def remove(root: str) -> None:
    os.unlink(f"{root}/outside/file")


def remove_directory(root: str) -> None:
    os.rmdir(f"{root}/outside/empty")


def cut(root: str) -> None:
    os.truncate(f"{root}/outside/file", 0)


def mode(root: str) -> None:
    os.chmod(f"{root}/outside/file", 0o600)


def times(root: str) -> None:
    os.utime(f"{root}/outside/file", (1, 1))


def attribute(root: str) -> None:
    os.setxattr(f"{root}/outside/file", "user.probe", b"x")


def name_a_socket(root: str) -> None:
    os.chdir(f"{root}/outside")
    socket.socket(socket.AF_UNIX).bind("made")


def in_place(root: str) -> None:
    with open(f"{root}/outside/file", "r+") as file:
        file.write("x")


def strange_name(root: str) -> None:
    os.mkdir(f"{root}/outside/\x1b[2Jcle\nared")


def many(root: str, count: str) -> None:
    """Different things, more than anybody keeps."""
    refused = 0
    for number in range(int(count)):
        try:
            os.mkdir(f"{root}/outside/{number}")
            os.rmdir(f"{root}/outside/{number}")
        except OSError:
            refused += 1
    say(f"refused {refused}")


def bad_addresses(_root: str) -> None:
    """Calls with addresses that lead nowhere: what the kernel says to them."""
    nowhere, sock = ctypes.c_void_p(8), socket.socket(socket.AF_UNIX)
    acts = {
        "open": lambda: LIBC.open(nowhere, os.O_WRONLY | os.O_TRUNC),
        "creat": lambda: LIBC.creat(nowhere, 0o644),
        "unlink": lambda: LIBC.unlink(nowhere),
        "rmdir": lambda: LIBC.rmdir(nowhere),
        "chmod": lambda: LIBC.chmod(nowhere, 0o644),
        "lchown": lambda: LIBC.lchown(nowhere, -1, -1),
        "truncate": lambda: LIBC.truncate(nowhere, ctypes.c_long(0)),
        "utimensat": lambda: LIBC.utimensat(AT_FDCWD, nowhere, None, 0),
        "setxattr": lambda: LIBC.setxattr(nowhere, b"user.x", b"", 0, 0),
        "mkdir": lambda: LIBC.mkdir(nowhere, 0o755),
        "rename": lambda: LIBC.rename(nowhere, nowhere),
        "symlink": lambda: LIBC.symlink(b"x", nowhere),
        "link": lambda: LIBC.link(b"file", nowhere),
        "execve": lambda: LIBC.execve(nowhere, None, None),
        "bind": lambda: LIBC.bind(sock.fileno(), nowhere, 16),
        "connect": lambda: LIBC.connect(sock.fileno(), nowhere, 16),
    }
    for name, act in acts.items():
        say(f"{name}: {act()} {ctypes.get_errno()}")


def long_paths(root: str) -> None:
    for path in ("n" * 300, "d/" * 1800 + "x", "d/" * 3000 + "x", f"{root}/outside/" + "n" * 256):
        for act in (lambda p=path: os.open(p, os.O_WRONLY | os.O_TRUNC), lambda p=path: os.mkdir(p), lambda p=path: os.unlink(p)):  # type: ignore[misc]
            try:
                act()
                say("done")
            except OSError as error:
                say(str(error.errno))


def flip(root: str, seconds: str) -> None:
    """The path in memory changes between two names all the time while it is observed."""
    size = 256
    memory = ctypes.create_string_buffer(size)
    inside, outside = (text.encode().ljust(size, b"\0") for text in ("inside-file", f"{root}/outside/file"))
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            ctypes.memmove(memory, inside, size)
            ctypes.memmove(memory, outside, size)

    other = threading.Thread(target=change)
    other.start()
    until = time.monotonic() + float(seconds)
    try:
        while time.monotonic() < until:
            opened = LIBC.open(memory, os.O_WRONLY | os.O_TRUNC)
            if opened >= 0:
                os.close(opened)
            LIBC.chmod(memory, 0o604)
    finally:
        stop.set()
        other.join()
