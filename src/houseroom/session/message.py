"""A letter with descriptors, between an application and its keeper: small enough that it is sent at once or not at all.

What is longer lies in a file without a name (memfd_create(2)) that goes along, so nobody ever waits for a slow reader.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _socket

_CARRIER = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS)
_MOST = 4
_SPACE = _socket.CMSG_SPACE(4 * _MOST)
_MSG_CMSG_CLOEXEC = 0x40000000


def send(sock: _socket.socket, letter: bytes, *descriptors: int) -> bool:
    """Whether it could be sent: False where nobody is there any more."""
    content = b"".join(fd.to_bytes(4, sys.byteorder) for fd in descriptors)
    try:
        sock.sendmsg([letter], [(*_CARRIER, content)] if descriptors else [])
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def receive(sock: _socket.socket) -> tuple[bytes, list[int]]:
    """The next letter, empty at the end of the stream, and its descriptors, which are close-on-exec."""
    try:
        letter, ancillary, _flags, _address = sock.recvmsg(1, _SPACE, _MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return b"", []
    rights = b"".join(content for level, kind, content in ancillary if (level, kind) == _CARRIER)
    return letter, [int.from_bytes(rights[at : at + 4], sys.byteorder) for at in range(0, len(rights) - 3, 4)]
