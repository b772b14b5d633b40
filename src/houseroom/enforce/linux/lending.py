"""Making a file read-only before it is lent to a command of a session that stands already.

The sandbox's init could do it only before it had built the view. So there is one more small process, beside all sandboxes, in
namespaces of its own: with the host's view and the right to clone a mount of it. It starts no program and serves only who bore it.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import _socket
import os

from houseroom.enforce.linux import process_sys, streams, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_NAMESPACES = process_sys.CLONE_NEWUSER | process_sys.CLONE_NEWNS


class Lender:
    """That process, from outside. A namespace's view of the host's mounts ages, so it is born again where it fails."""

    def __init__(self) -> None:
        self.pid = self.sock = -1

    def lend(self, fd: int) -> int:
        """A descriptor of the same file that can't be used to change it; -1 where there can be none."""
        for fresh in (self.pid < 0, True):
            if fresh:
                self._begin()
            lent = self._ask(fd)
            if lent >= 0 or fresh:
                return lent
        return -1

    def _ask(self, fd: int) -> int:
        try:
            wire.send_descriptor(self.sock, fd)
            return wire.receive_descriptor(self.sock)
        except OSError:
            return -1

    def _begin(self) -> None:
        self.end()
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        uid, gid = os.getuid(), os.getgid()
        self.sock = ours.detach()
        try:
            self.pid = process_sys.clone(_NAMESPACES)
        except OSError:  # then every request ends with the stream
            self.pid = -1
        if self.pid == 0:
            try:
                _serve(theirs.detach(), uid, gid)
            finally:
                os._exit(1)
        theirs.close()

    def end(self) -> None:
        """End it."""
        if self.sock >= 0:
            os.close(self.sock)
        if self.pid > 0:
            os.kill(self.pid, _signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self.pid = self.sock = -1


def _serve(sock: int, uid: int, gid: int) -> NoReturn:
    process_sys.prctl(process_sys.PR_SET_PDEATHSIG, _signal.SIGKILL)
    process_sys.close_except(3, sock)
    process_sys.map_identity(uid, gid)
    while True:
        fd = wire.receive_descriptor(sock)
        if fd < 0:
            os._exit(0)
        try:
            again = streams.opened_again(fd)
        except OSError:
            os.write(sock, b"-")
        else:
            wire.send_descriptor(sock, again)
            os.close(again)
        os.close(fd)
