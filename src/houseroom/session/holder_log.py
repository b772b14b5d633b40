"""Why a session's holder has failed, in a file: it has no terminal to say it at. Only the last failure is kept.

The file is beside the sessions, not among them: sessions leave nothing. Its first line names the session, the rest is the traceback.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

from houseroom.errors import SetupFailed
from houseroom.session.private_directory import open_private

STATE, NAME = ".local/state/houseroom", "holder.log"  # below the home directory, where no sandbox can see it
_LONGEST = 64 << 10  # bytes
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def path(home: str) -> str:
    """Where it is."""
    return f"{home.rstrip('/')}/{STATE}/{NAME}"


def write(home: str, name: str, failure: BaseException) -> None:
    """Keep a failure of the session's holder. Where that can't be, it is lost."""
    from time import strftime
    from traceback import format_exception

    text = f"session {name}, process {os.getpid()}, {strftime('%Y-%m-%d %H:%M:%S')}\n{''.join(format_exception(failure))}"
    try:
        directory = open_private(os.path.dirname(path(home)), create=True)
        try:
            file = os.open(NAME, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _FLAGS, 0o600, dir_fd=directory)
            os.write(file, text.encode("utf-8", "backslashreplace")[:_LONGEST])
            os.close(file)
        finally:
            os.close(directory)
    except (OSError, SetupFailed):
        return


def forget(home: str, name: str) -> None:
    """A session of this name runs again."""
    if last(home) == name:
        os.unlink(path(home))


def last(home: str) -> str:
    """The session whose holder has failed last, "" where none is known."""
    try:
        file = os.open(path(home), os.O_RDONLY | _FLAGS)
    except OSError:
        return ""
    try:
        first = os.read(file, 256).decode("utf-8", "replace").partition(",")[0]
    finally:
        os.close(file)
    return first.removeprefix("session ") if first.startswith("session ") else ""
