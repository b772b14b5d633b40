"""The command's standard streams are the caller's, and with them come the caller's mounts.

A file opened for reading can still have its mode, times and attributes changed through the descriptor (fchmod(2)), for the
host's own mount of it is writable. A standard input that is a regular file is therefore opened again from a read-only
clone of its mount. It then has a position of its own, which begins where the caller's stood.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from fcntl import F_GETFL, fcntl
from stat import S_ISREG

from houseroom.enforce.linux import mount_sys


def make_input_read_only() -> None:
    """Replace descriptor 0 where it is a regular file opened for reading. Raises OSError where that can't be done.

    A file without a name (deleted, or only in memory) stays: nobody else can reach what is changed of it.
    """
    try:
        status = os.fstat(0)
    except OSError:
        return
    if not S_ISREG(status.st_mode) or status.st_nlink == 0 or fcntl(0, F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
        return
    tree = mount_sys.open_tree(os.fsencode(os.readlink("/proc/self/fd/0")), recursive=False, follow=False)
    try:
        found = os.fstat(tree)
        if (found.st_dev, found.st_ino) != (status.st_dev, status.st_ino):
            raise OSError(2, "standard input is a file that has another name, or none, in the sandbox")
        mount_sys.mount_setattr(tree, on=mount_sys.RDONLY | mount_sys.NOSUID | mount_sys.NODEV)
        again = os.open(f"/proc/self/fd/{tree}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(tree)
    os.lseek(again, os.lseek(0, 0, os.SEEK_CUR), os.SEEK_SET)
    os.dup2(again, 0)
    os.close(again)
