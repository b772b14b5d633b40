"""Pseudo-terminals: pty(7), ioctl_tty(2)."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from fcntl import ioctl
from stat import S_ISCHR
from struct import pack

_TIOCGPTN, _TIOCSPTLCK, _TIOCSWINSZ, _TIOCSCTTY = 0x80045430, 0x40045431, 0x5414, 0x540E
_PTMX = os.makedev(5, 2)  # the number that every pair's outer end has, whichever devpts it is of


def open_pair(size: tuple[int, int]) -> tuple[int, str]:
    """A new pseudo-terminal of this mount namespace's /dev/pts: the outer end, and the path of the inner. ``size``: rows, columns."""
    outer = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        ioctl(outer, _TIOCSPTLCK, pack("i", 0))
        number = int.from_bytes(ioctl(outer, _TIOCGPTN, bytes(4)), sys.byteorder)
        set_size(outer, size)
    except OSError:
        os.close(outer)
        raise
    return outer, f"/dev/pts/{number}"


def set_size(terminal: int, size: tuple[int, int]) -> None:
    """Tell a terminal its rows and columns; its foreground processes get SIGWINCH."""
    ioctl(terminal, _TIOCSWINSZ, pack("4H", *size, 0, 0))


def take_control(path: str, targets: tuple[int, ...]) -> None:
    """Begin a session of processes with the terminal at a path as its own, and put it in the place of descriptors."""
    os.setsid()
    inner = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
    ioctl(inner, _TIOCSCTTY, 0)
    for target in targets:
        os.dup2(inner, target)
    os.close(inner)


def is_outer_end(fd: int) -> bool:
    """Whether a descriptor that came from somewhere else is what it should be."""
    status = os.fstat(fd)
    return S_ISCHR(status.st_mode) and status.st_rdev == _PTMX
