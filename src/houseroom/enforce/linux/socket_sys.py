"""Sockets of the sandbox's own network namespace: its loopback, and which path sockets were made inside it.

Uses ``_socket`` directly: ``socket`` pulls in enum and selectors, 6 ms at start-up.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _socket
import os
from _struct import pack, unpack_from
from errno import EACCES
from fcntl import ioctl

from houseroom.enforce.linux.libc_sys import c_char_p, c_int, c_uint, c_ulong, function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_SIOCSIFFLAGS, _IFF_UP_RUNNING = 0x8914, 0x41
_SIOCSIFADDR, _SIOCSIFNETMASK, _ALIAS = 0x8916, 0x891C, b"lo:0"
_BACKLOG = 4096
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _NLM_F_DUMP_REQUEST = 4, 20, 0x301
_UDIAG_SHOW_NAME, _UNIX_DIAG_NAME = 0x01, 0
_UDIAG_SHOW_VFS, _UNIX_DIAG_VFS = 0x02, 1
_LISTENING = 1 << 10  # TCP_LISTEN as a bit
_NLMSG_ERROR, _NLMSG_DONE = 2, 3

_bind = function("bind", c_int, c_char_p, c_uint)
_connect = function("connect", c_int, c_char_p, c_uint)
_sendto = function("sendto", c_int, c_char_p, c_ulong, c_int, c_char_p, c_uint)


def bind(fd: int, address: bytes) -> None:
    """bind(2) with a raw socket address."""
    _bind(fd, address, len(address))


def connect(fd: int, address: bytes) -> int:
    """connect(2) with a raw socket address."""
    return _connect(fd, address, len(address))


def sendto(fd: int, data: bytes, flags: int, address: bytes) -> int:
    """sendto(2) with a raw socket address: the number of bytes sent."""
    return _sendto(fd, data, len(data), flags, address, len(address))


def loopback_up() -> None:
    """Bring ``lo`` up in the calling process's network namespace (netdevice(7))."""
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        ioctl(sock.fileno(), _SIOCSIFFLAGS, pack("16sH22x", b"lo", _IFF_UP_RUNNING))
    finally:
        sock.close()


def add_address(address: str) -> None:
    """Give ``lo`` of the calling process's network namespace one more IPv4 address, for itself alone (netdevice(7))."""
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        for request, value in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, "255.255.255.255")):
            ioctl(sock.fileno(), request, pack("16sHH4s16x", _ALIAS, _socket.AF_INET, 0, _socket.inet_aton(value)))
    finally:
        sock.close()


def listening(address: str, port: int, *, datagrams: bool = False) -> int:
    """The descriptor of a socket that hears there."""
    sock = _socket.socket(_socket.AF_INET, (_socket.SOCK_DGRAM if datagrams else _socket.SOCK_STREAM) | _socket.SOCK_CLOEXEC)
    sock.bind((address, port))
    if not datagrams:
        sock.listen(_BACKLOG)
    return sock.detach()


def open_diag() -> _socket.socket | None:
    """A socket for the questions below; it answers for the network namespace it was opened in (sock_diag(7)).

    None where there is no such thing: every question then raises OSError, so nothing is taken for made inside.
    """
    try:
        return _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
    except OSError:
        return None


def try_diag() -> None:
    """Ask once: the socket opens also where unix_diag is missing. Raises OSError."""
    diag = open_diag()
    try:
        for _ in _messages(diag, 0, 0):  # of sockets in no state there are none: the answer costs nothing
            pass
    finally:
        if diag is not None:
            diag.close()


def bound_inside(diag: _socket.socket | None, device: int, inode: int) -> bool:
    """Whether a Unix socket of this network namespace is bound to that inode. The kernel gives 32 bits of each."""
    wanted = pack("=II", inode & 0xFFFFFFFF, _kernel_device(device))
    return any(wanted in _attributes(message, _UNIX_DIAG_VFS) for message in list(_messages(diag, 0xFFFFFFFF, _UDIAG_SHOW_VFS)))


def listening_on_path(diag: _socket.socket | None, device: int, inode: int) -> list[int]:
    """Inode numbers, as /proc/PID/fd shows them, of the sockets that listen at that inode of a file system."""
    wanted = pack("=II", inode & 0xFFFFFFFF, _kernel_device(device))
    found = [message for message in _messages(diag, _LISTENING, _UDIAG_SHOW_VFS) if wanted in _attributes(message, _UNIX_DIAG_VFS)]
    return [unpack_from("=I", message, 4)[0] for message in found]


def listening_on_name(diag: _socket.socket | None, name: bytes) -> list[int]:
    """The same for an abstract name, with its leading NUL."""
    found = [message for message in _messages(diag, _LISTENING, _UDIAG_SHOW_NAME) if name in _attributes(message, _UNIX_DIAG_NAME)]
    return [unpack_from("=I", message, 4)[0] for message in found]


def _messages(diag: _socket.socket | None, states: int, show: int) -> Iterator[bytes]:
    """Every unix_diag_msg for the sockets in these states. Exhaust it: an answer left unread would be taken for the next one's."""
    if diag is None:
        raise OSError(EACCES, "nothing tells where a socket was made")
    question = pack("=BBHIIIII", 1, 0, 0, states, 0, show, 0, 0)
    diag.sendto(pack("=IHHII", 40, _SOCK_DIAG_BY_FAMILY, _NLM_F_DUMP_REQUEST, 1, 0) + question, (0, 0))
    while True:
        data = diag.recv(1 << 16)
        at = 0
        while at + 16 <= len(data):
            length, kind = unpack_from("=IH", data, at)
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR or length < 16:
                raise OSError(-unpack_from("=i", data, at + 16)[0] if kind == _NLMSG_ERROR else 74, "sock_diag failed")
            yield data[at + 16 : at + length]
            at += (length + 3) & ~3


def _attributes(message: bytes, wanted: int) -> list[bytes]:
    """The values of one kind of attribute of a unix_diag_msg."""
    out, at = [], 16
    while at + 4 <= len(message):
        length, kind = unpack_from("=HH", message, at)
        if length < 4:
            break
        if kind == wanted:
            out.append(message[at + 4 : at + length])
        at += (length + 3) & ~3
    return out


def _kernel_device(device: int) -> int:
    """The kernel's own 12:20 packing of a device number, as unix_diag shows it."""
    return (os.major(device) << 20 | os.minor(device)) & 0xFFFFFFFF
