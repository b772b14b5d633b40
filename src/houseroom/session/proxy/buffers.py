"""How much the kernel may hold of the proxy's connections, which are outside the sandbox's limits.

A connection that nobody reads fills the buffers of its sockets, and the kernel lets those of one that was quick grow to megabytes.
Here the n-th connection that is open has a share that is smaller the larger n is. So whichever are opened and closed, all together
hold no more than the shares of 1 to n: the k-th oldest of those that are open was made when k were.
"""

from __future__ import annotations

import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# The kernel holds twice as much, for it counts what it spends on packets too (socket(7), SO_RCVBUF). Packets of the loopback have
# 64 KiB: with less room than for one each waits for the acknowledgement of the one before, 40 ms.
SHARES: Final = ((16, 1 << 20), (64, 1 << 17), (1 << 16, 1 << 16))  # up to so many connections, so many bytes for each buffer
FITTED: Final = 128 << 20  # bytes for connections whose buffers the kernel fits to the way's length: one far away needs much to be fast


class Buffers:
    """``open``: how many connections there are. ``fitted``: how many of them may have outer buffers of the kernel's choice."""

    def __init__(self) -> None:
        self.open = 0
        self.fitted = FITTED // max(FITTED // SHARES[0][0], _largest("tcp_rmem") + _largest("tcp_wmem"))

    def enter(self, inner: socket.socket) -> None:
        """A connection from inside has been accepted. ``leave`` follows."""
        self.open += 1
        self.near(inner)

    def near(self, sock: socket.socket) -> None:
        """A connection of which both ends are on this host."""
        _bound(sock, self.share())

    def leave(self) -> None:
        """It has ended, and what it led to."""
        self.open -= 1

    def outer(self, sock: socket.socket) -> None:
        """A connection to the world has come about: not before, for what is set before limits it for ever (tcp(7), window scaling)."""
        if self.open > self.fitted:
            _bound(sock, self.share())

    def share(self) -> int:
        """Bytes for each buffer of a connection that is made now."""
        return next(size for most, size in SHARES if self.open <= most)


def _bound(sock: socket.socket, size: int) -> None:
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, size)


def _largest(which: str) -> int:
    """The third of the three values that the kernel fits a buffer between (tcp(7))."""
    try:
        with open(f"/proc/sys/net/ipv4/{which}", encoding="ascii") as file:
            return int(file.read().split()[2])
    except (OSError, ValueError, IndexError):
        return FITTED  # then none is fitted
