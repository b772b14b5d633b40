"""Sockets of the sandbox's own network namespace: its loopback, and which path sockets were made inside it.

Uses ``_socket`` directly: ``socket`` pulls in enum and selectors, 6 ms at start-up.
"""

from __future__ import annotations

import os
from fcntl import ioctl
from struct import pack, unpack_from

import _socket

from houseroom.enforce.linux.libc_sys import c_char_p, c_int, c_uint, c_ulong, function

_SIOCSIFFLAGS, _IFF_UP_RUNNING = 0x8914, 0x41
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _NLM_F_DUMP_REQUEST = 4, 20, 0x301
_UDIAG_SHOW_VFS, _UNIX_DIAG_VFS = 0x02, 1
_NLMSG_ERROR, _NLMSG_DONE = 2, 3

_connect = function("connect", c_int, c_char_p, c_uint)
_sendto = function("sendto", c_int, c_char_p, c_ulong, c_int, c_char_p, c_uint)


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


def open_diag() -> _socket.socket:
    """A socket for ``bound_inside``; it answers for the network namespace it was opened in (sock_diag(7))."""
    return _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)


def bound_inside(diag: _socket.socket, device: int, inode: int) -> bool:
    """Whether a Unix socket of this network namespace is bound to that inode. The kernel gives 32 bits of each."""
    wanted = (inode & 0xFFFFFFFF, _kernel_device(device))
    diag.sendto(pack("=IHHII", 40, _SOCK_DIAG_BY_FAMILY, _NLM_F_DUMP_REQUEST, 1, 0) + pack("=BBHIIIII", 1, 0, 0, 0xFFFFFFFF, 0, _UDIAG_SHOW_VFS, 0, 0), (0, 0))
    found = False
    while True:
        data = diag.recv(1 << 16)
        at = 0
        while at + 16 <= len(data):
            length, kind = unpack_from("=IH", data, at)
            if kind == _NLMSG_DONE:
                return found
            if kind == _NLMSG_ERROR or length < 16:
                raise OSError(-unpack_from("=i", data, at + 16)[0] if kind == _NLMSG_ERROR else 74, "sock_diag failed")
            found = found or wanted in _vfs(data[at + 16 : at + length])
            at += (length + 3) & ~3


def _vfs(message: bytes) -> list[tuple[int, int]]:
    """(inode, device) attributes of one unix_diag_msg."""
    out, at = [], 16
    while at + 4 <= len(message):
        length, kind = unpack_from("=HH", message, at)
        if length < 4:
            break
        if kind == _UNIX_DIAG_VFS:
            out.append(unpack_from("=II", message, at + 4))
        at += (length + 3) & ~3
    return out


def _kernel_device(device: int) -> int:
    """The kernel's own 12:20 packing of a device number, as unix_diag shows it."""
    return (os.major(device) << 20 | os.minor(device)) & 0xFFFFFFFF
