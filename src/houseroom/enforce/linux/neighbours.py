"""Mediation where the sandbox shares the host's network namespace: there unix_diag(7) tells of the host's sockets as of ours.

So a Unix socket, on a path or abstract, is reached only if a process inside listens on it, or the policy names its path.
Landlock's scope for abstract sockets does not help here: it is init that connects, from outside the commands' domain.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _socket
import os
from errno import EACCES

from houseroom.enforce.linux import descendants, socket_sys
from houseroom.enforce.linux.mediate import Mediator
from houseroom.enforce.linux.names import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.enforce.linux.borrowed import Borrowed


class AmongNeighbours(Mediator):
    """A mediator that asks who listens on a socket, not only whether it is in this network namespace."""

    def _socket_address(self, pid: int, borrowed: Borrowed, raw: bytes) -> bytes:
        if borrowed.domain != _socket.AF_UNIX or int.from_bytes(raw[:2], "little") != _socket.AF_UNIX or not raw[2:]:
            return raw
        if raw[2:3] == b"\0":
            if not _held_inside(socket_sys.listening_on_name(self.diag, raw[2:])):
                raise Refused(EACCES, "an abstract socket of the host")
            return raw
        return super()._socket_address(pid, borrowed, raw)

    def _check_inside(self, found: os.stat_result) -> None:
        super()._check_inside(found)
        if not _held_inside(socket_sys.listening_on_path(self.diag, found.st_dev, found.st_ino)):
            raise Refused(EACCES, "a socket of the host")


def _held_inside(sockets: list[int]) -> bool:
    """Whether a process below init holds one of these sockets, by their inode numbers."""
    wanted = {f"socket:[{inode}]" for inode in sockets}
    return bool(wanted) and any(not wanted.isdisjoint(_descriptors(pid)) for pid in descendants.below(os.getpid()))


def _descriptors(pid: int) -> set[str]:
    """What a process's descriptors are; nothing of one that has ended, or that may not be looked at."""
    out = set()
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            try:
                out.add(os.readlink(f"/proc/{pid}/fd/{number}"))
            except FileNotFoundError:
                continue  # closed meanwhile
    except OSError:
        pass
    return out
