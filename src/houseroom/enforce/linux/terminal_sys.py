"""Pseudo-terminals: pty(7), ioctl_tty(2)."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import os
from _struct import pack, unpack
from fcntl import ioctl
from stat import S_ISCHR

_TIOCGPTN, _TIOCSPTLCK, _TIOCGWINSZ, _TIOCSWINSZ = 0x80045430, 0x40045431, 0x5413, 0x5414
_TIOCSCTTY, _TIOCNOTTY = 0x540E, 0x5422
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


def size_of(terminal: int) -> tuple[int, int]:
    """Rows and columns of a terminal, 0 where it was not told. Raises OSError for what is no terminal."""
    rows, columns, _, _ = unpack("4H", ioctl(terminal, _TIOCGWINSZ, bytes(8)))
    return rows, columns


def copy_size(source: int, terminal: int) -> None:
    """Give a terminal the size of another, in characters and in pixels."""
    ioctl(terminal, _TIOCSWINSZ, ioctl(source, _TIOCGWINSZ, bytes(8)))


def open_inner(path: str) -> int:
    """The inner end at a path; it controls nobody yet."""
    return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)


def take_control(inner: int) -> int:
    """Make a terminal the one of our session, which begins here if we lead none yet. Returns the same descriptor.

    Whoever starts a command in the terminal leads its session. So the command's process group has a parent in the session and
    outside the group: it is no orphan, and Ctrl-Z can stop it (setpgid(2)).
    """
    if os.getsid(0) != os.getpid():
        os.setsid()
    ioctl(inner, _TIOCSCTTY, 0)
    return inner


def step_forward(inner: int, targets: tuple[int, ...]) -> None:
    """In the command's process: a process group of its own, in the terminal's foreground, with the terminal at these descriptors."""
    os.setpgid(0, 0)
    former = _signal.signal(_signal.SIGTTOU, _signal.SIG_IGN)  # whoever is not in the foreground is stopped for this
    os.tcsetpgrp(inner, os.getpid())
    _signal.signal(_signal.SIGTTOU, former)
    for target in targets:
        os.dup2(inner, target)
    os.close(inner)


def let_go(inner: int) -> None:
    """Our session has no terminal any more; what is left in its foreground is told that it hung up (tty_ioctl(4), TIOCNOTTY)."""
    try:
        ioctl(inner, _TIOCNOTTY, 0)
    except OSError:
        pass  # the outer end was closed first, and that took the terminal from all of the session
    finally:
        os.close(inner)


def is_outer_end(fd: int) -> bool:
    """Whether a descriptor that came from somewhere else is what it should be."""
    status = os.fstat(fd)
    return S_ISCHR(status.st_mode) and status.st_rdev == _PTMX
