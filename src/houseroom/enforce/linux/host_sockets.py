"""Sockets of the host that the policy lets through, as init keeps them: by descriptor, from before anything was mounted.

A command's path only says which of them is meant, by the inode that it leads to. Where to connect is looked up by init, from a
directory that it has held since before the first command, through no link: nothing inside can lead it elsewhere.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _socket
import os
from stat import S_ISSOCK

from houseroom.enforce.linux import mount_sys as mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.plan.steps import Socket

_HELD = os.O_PATH | os.O_CLOEXEC
_NO_SYMLINKS = 0x04  # openat2(2)


class HostSockets:
    """All of a sandbox's."""

    def __init__(self) -> None:
        self._kept: list[_HostSocket] = []

    def keep(self, step: Socket) -> None:
        """One more, while the host's own view is still there. Raises OSError where it is gone, or is reached through a link."""
        self._kept.append(_HostSocket(step))

    def opened(self, kind: int, found: os.stat_result) -> int:
        """A descriptor of the one that is meant by what a command's path leads to; -1 for none, and for a caller's socket of a kind
        that sends to any address, at any time."""
        if kind not in (_socket.SOCK_STREAM, _socket.SOCK_SEQPACKET):
            return -1
        return next((fd for each in self._kept if (fd := each.opened(found)) >= 0), -1)


class _HostSocket:
    """One of them."""

    def __init__(self, step: Socket):
        path, kept = os.fsencode(step.path), os.fsencode(step.kept)
        self.tree, self.name = -1, path[len(kept) :].lstrip(b"/")
        if self.name:
            self.tree = mount.clone(kept)
            mount.mount_setattr(self.tree, on=mount.RDONLY | mount.NOSUID | mount.NODEV)
        self.first = self._look() if self.name else mount.open_path(path)

    def opened(self, found: os.stat_result) -> int:
        """A descriptor of the socket to connect to, where what a command's path leads to stands for this one; -1 where it does not."""
        meant, first = _identity(found), _identity(os.fstat(self.first))
        if not self.name:
            return os.dup(self.first) if meant == first else -1
        try:
            now = self._look()
        except OSError:  # its server has taken it away
            return os.dup(self.first) if meant == first else -1
        status = os.fstat(now)
        if S_ISSOCK(status.st_mode) and meant in (first, _identity(status)):
            return now
        os.close(now)
        return -1

    def _look(self) -> int:
        return mount.openat2(self.tree, self.name, _HELD, _NO_SYMLINKS)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
