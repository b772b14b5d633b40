"""A directory of ours: mode 0700, owned by this user, never a planted link or somebody else's.

Everything is done through descriptors, so what was checked is what is used. The directory's parents are the user's to
arrange (a home on another disk is a link, and that is fine); the directory itself must be real.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"  # type checkers for Windows stop reading here

import errno
import os
import stat

from houseroom.errors import SetupFailed

FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_private(path: str, *, create: bool = True) -> int:
    """A descriptor of our directory at ``path``; it and its parents are made with mode 0700 where missing and ``create``.

    Raises SetupFailed where it is a symbolic link or no directory, belongs to another user, or lets others in; and for
    a missing one (ENOENT) where ``create`` is False.
    """
    if create:
        _make_parents(os.path.dirname(path))
    parent = _open_parent(path)
    try:
        return _open_at(parent, os.path.basename(path), path, create=create)
    finally:
        os.close(parent)


def make_fresh(parent: str, prefix: str) -> tuple[str, int]:
    """A new directory below ``parent``, mode 0700, under a name nobody can guess: its path and a descriptor.

    ``parent`` may be a shared one such as /tmp. Raises SetupFailed.
    """
    path = f"{parent}/{prefix}{os.urandom(12).hex()}"
    descriptor = _open_parent(path)
    try:
        name = os.path.basename(path)
        try:
            os.mkdir(name, 0o700, dir_fd=descriptor)
        except OSError as error:
            raise SetupFailed("create the directory", path, error.errno or 0, error.strerror or "") from None
        return path, _open_at(descriptor, name, path, create=False)
    finally:
        os.close(descriptor)


def _open_at(parent: int, name: str, path: str, *, create: bool) -> int:
    if create:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            pass
        except OSError as error:
            raise SetupFailed("create the directory", path, error.errno or 0, error.strerror or "") from None
    try:
        descriptor = os.open(name, FLAGS, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            hint = "Something else was put in the place of this directory. Look at it, then remove it."
            raise SetupFailed("use", path, error.errno, "it is a symbolic link or not a directory", hint) from None
        raise SetupFailed("open the directory", path, error.errno or 0, error.strerror or "") from None
    try:
        _check(os.fstat(descriptor), path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(status: os.stat_result, path: str) -> None:
    if status.st_uid != os.geteuid():
        hint = "Somebody else made this directory. Look at it, then remove it."
        raise SetupFailed("use", path, errno.EPERM, f"it belongs to user {status.st_uid}", hint)
    if (mode := stat.S_IMODE(status.st_mode)) & 0o077:
        hint = f"Look at what is in it, then: chmod 700 {path}"
        raise SetupFailed("use", path, errno.EPERM, f"others may enter it (mode {mode:04o})", hint)


def _open_parent(path: str) -> int:
    parent = os.path.dirname(path)
    try:
        return os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SetupFailed("open the directory", parent, error.errno or 0, error.strerror or "") from None


def _make_parents(path: str) -> None:
    try:
        os.makedirs(path, 0o700, exist_ok=True)
    except OSError as error:
        raise SetupFailed("create the directory", path, error.errno or 0, error.strerror or "") from None
