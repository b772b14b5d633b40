"""A socket of a mediated caller, borrowed for one call: what the kernel would have done with it is done on the same socket."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _socket
import os
from errno import EAGAIN, EALREADY, EINPROGRESS, EISCONN

from houseroom.enforce.linux import socket_sys
from houseroom.enforce.linux.process_sys import pidfd_getfd, pidfd_open

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Later(Exception):
    """The call would block; it is tried again while the caller waits."""


class Borrowed:
    """A copy of a socket of the caller; blocking calls on it never block init for long."""

    def __init__(self, pid: int, fd: int, *, waited: bool = False):
        self.waited = waited
        try:
            process = pidfd_open(pid)
        except OSError:  # pid may be a thread's, of which only Linux 6.9 makes descriptors
            process = pidfd_open(int(process_field(pid, b"Tgid:"), 10))
        try:
            self.fd = pidfd_getfd(process, fd & 0xFFFFFFFF)
        finally:
            os.close(process)
        self.held = -1
        try:
            self.sock = _socket.socket(fileno=self.fd)
        except OSError:
            os.close(self.fd)
            raise
        self.domain = self.sock.family

    def connect(self, raw: bytes) -> None:
        """connect(2) with the caller's own bytes. Raises Later where a blocking socket would wait."""
        try:
            self._without_waiting(lambda: socket_sys.connect(self.fd, raw))
        except Later:  # over the loopback it has come about by now
            self.waited = True
            self._without_waiting(lambda: socket_sys.connect(self.fd, raw))

    def bind(self, raw: bytes) -> None:
        """bind(2) with the caller's own bytes."""
        socket_sys.bind(self.fd, raw)

    def sendto(self, data: bytes, flags: int, raw: bytes) -> int:
        """sendto(2) with the caller's own bytes. Raises Later where a blocking socket would wait."""
        return self._without_waiting(lambda: socket_sys.sendto(self.fd, data, flags, raw))

    def _without_waiting(self, act: Callable[[], int]) -> int:
        """The flag is the caller's too: it is put back before anything is answered."""
        blocking = os.get_blocking(self.fd)
        os.set_blocking(self.fd, False)
        try:
            return act()
        except OSError as error:
            if blocking and error.errno in (EAGAIN, EINPROGRESS, EALREADY):
                raise Later from None
            if blocking and error.errno == EISCONN and self.waited:
                return 0  # the connection that we began for the caller has come about
            raise
        finally:
            os.set_blocking(self.fd, blocking)

    def close(self) -> None:
        """Let go of the copy."""
        self.sock.close()
        if self.held >= 0:
            os.close(self.held)


def socket_path(borrowed: Borrowed, raw: bytes) -> bytes:
    """The path in a Unix socket's address, empty for other families, abstract and unnamed addresses (unix(7))."""
    if borrowed.domain != _socket.AF_UNIX or int.from_bytes(raw[:2], "little") != _socket.AF_UNIX:
        return b""
    return raw[2:].partition(b"\0")[0]


def process_field(pid: int, name: bytes) -> bytes:
    """One field of a process's status (proc_pidprocess_field(5); Umask since Linux 4.7)."""
    with open(f"/proc/{pid}/status", "rb") as status:
        for line in status:
            if line.startswith(name):
                return line[len(name) :].strip()
    return b""
