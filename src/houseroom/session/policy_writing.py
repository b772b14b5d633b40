"""Write a policy file anew, as a whole or not at all."""

from __future__ import annotations

import sys

assert sys.platform != "win32"  # type checkers for Windows stop reading here

import os
import stat

from houseroom.errors import PolicyError, SetupFailed

_ENTER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY


def replace(path: str, expected: str | None, text: str, *, follow: bool) -> None:
    """Put ``text`` in the place of ``expected``, which was read before; None where there was no file.

    Missing directories are made with mode 0700; ``follow``: the file's directory may be a symbolic link. A new file gets
    mode 0600, another keeps its own. Raises PolicyError where the file holds something else by now, SetupFailed where it
    can't be written.
    """
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        directory = os.open(os.path.dirname(path), _ENTER | (0 if follow else os.O_NOFOLLOW))
    except OSError as error:
        raise SetupFailed("write", path, error.errno or 0, error.strerror or "") from None
    try:
        name = os.path.basename(path)
        current, mode = _read(directory, name)
        if current != (None if expected is None else expected.encode()):
            raise PolicyError("it has changed since it was read, so it was not written", file=path, hint="Learn again.")
        _write(directory, name, text.encode(), mode)
    except OSError as error:
        raise SetupFailed("write", path, error.errno or 0, error.strerror or "") from None
    finally:
        os.close(directory)


def _read(directory: int, name: str) -> tuple[bytes | None, int]:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None, 0o600
    with open(descriptor, "rb") as file:
        return file.read(), stat.S_IMODE(os.fstat(descriptor).st_mode)


def _write(directory: int, name: str, content: bytes, mode: int) -> None:
    part = f".{name}.{os.getpid()}.part"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.rename(part, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        os.unlink(part, dir_fd=directory)
        raise
