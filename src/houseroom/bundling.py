"""Writing the bundle; ``houseroom.bundle`` reads it. ``python -m houseroom.bundling`` writes it where no first start could."""

from __future__ import annotations

import sys

assert sys.platform != "win32"  # type checkers for Windows stop reading here

import _frozen_importlib_external as files
import marshal
import posix

from houseroom.bundle import MADE_FOR, NAME, PACKAGE, PATH, exists, hashed, owners, source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from houseroom.bundle import Row

_DIRECTORY = PATH.rpartition("/")[0]


def renew() -> bool:
    """Write a bundle of all modules as they are now. False where that can't be: then starts are slower, and nothing else."""
    if not _may_write():
        return False
    try:
        _put(_content())
    except (OSError, SyntaxError):  # no room, or a source in the middle of an edit
        return False
    return True


def modules() -> Iterator[tuple[str, bool]]:
    """Every module of this package by its name, and whether it is a package itself."""
    pending = [NAME]
    while pending:
        name = pending.pop()
        yield name, True
        with posix.scandir(source(name, package=True).rpartition("/")[0]) as entries:
            found = sorted((entry.name, entry.is_dir()) for entry in entries)
        for entry, is_directory in found:
            inner, dot, suffix = entry.partition(".")
            if is_directory and exists(source(f"{name}.{entry}", package=True)):
                pending.append(f"{name}.{entry}")
            elif dot and suffix == "py" and inner != "__init__":
                yield f"{name}.{inner}", False


def _content() -> bytes:
    rows: dict[str, Row] = {}
    codes: list[bytes] = []
    at = 0
    for name, package in modules():
        path = source(name, package=package)
        status = posix.stat(path)  # before the code: a source that changes meanwhile will not fit
        code = marshal.dumps(files.SourceFileLoader(name, path).get_code(name))
        rows[name] = (package, status.st_mtime_ns, status.st_size, hashed(code), at, len(code))
        codes.append(code)
        at += len(code)
    index = marshal.dumps(rows)
    return b"".join((MADE_FOR, hashed(index), len(index).to_bytes(4, "little"), index, *codes))


def _may_write() -> bool:
    return posix.geteuid() in owners() and posix.access(_DIRECTORY if exists(_DIRECTORY) else PACKAGE, posix.W_OK)


def _put(content: bytes) -> None:
    """Write the bundle whole or not at all: who reads meanwhile reads the old one."""
    if not exists(_DIRECTORY):
        posix.mkdir(_DIRECTORY)
    part = f"{PATH}.{posix.getpid()}"
    fd = posix.open(part, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC, 0o644)
    try:
        with open(fd, "wb") as file:
            file.write(content)
        posix.rename(part, PATH)
    except BaseException:
        posix.unlink(part)
        raise


if __name__ == "__main__":
    sys.exit(not renew())
