"""The command's streams are the caller's, and with them come the caller's mounts.

A file opened for reading can still have its mode, times and attributes changed through the descriptor (fchmod(2)), for the
host's own mount of it is writable. A regular file that a command is given for reading is therefore opened again from a
read-only clone of its mount. It then has a position of its own, which begins where the caller's stood.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from fcntl import F_GETFL, fcntl
from stat import S_ISREG

from houseroom.enforce.linux import mount_sys


def make_input_read_only() -> None:
    """Replace descriptor 0 where it is a regular file opened for reading. Raises OSError where that can't be done."""
    try:
        changeable = is_changeable(0)
    except OSError:
        return  # closed
    if changeable:
        again = opened_again(0)
        os.dup2(again, 0)
        os.close(again)


def is_changeable(fd: int) -> bool:
    """Whether a descriptor, given for reading, lets the file itself be changed.

    A file without a name (deleted, or only in memory) does not count: nobody else can reach what is changed of it.
    """
    status = os.fstat(fd)
    return S_ISREG(status.st_mode) and status.st_nlink > 0 and fcntl(fd, F_GETFL) & os.O_ACCMODE == os.O_RDONLY


def opened_again(fd: int) -> int:
    """A descriptor of the same regular file, at the same position, that can't be used to change it.

    Needs mount rights in a view of the host in which the file has the name that /proc tells. Raises OSError.
    """
    status = os.fstat(fd)
    tree = mount_sys.open_tree(os.fsencode(os.readlink(f"/proc/self/fd/{fd}")), recursive=False, follow=False)
    try:
        found = os.fstat(tree)
        if (found.st_dev, found.st_ino) != (status.st_dev, status.st_ino):
            raise OSError(2, "it is a file that has another name, or none, in the sandbox")
        mount_sys.mount_setattr(tree, on=mount_sys.RDONLY | mount_sys.NOSUID | mount_sys.NODEV)
        again = os.open(f"/proc/self/fd/{tree}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(tree)
    os.lseek(again, os.lseek(fd, 0, os.SEEK_CUR), os.SEEK_SET)
    return again
