"""Trust in a project's own policy, by its exact text.

The record says: this path, this SHA-256. A file whose text changed since is untrusted, whoever changed it; the text that
is judged is the very one that is then parsed. The record lives in the user's state directory, out of every sandbox's reach.
"""

from __future__ import annotations

import sys

assert sys.platform != "win32"  # type checkers for Windows stop reading here

import errno
import os
import stat

from houseroom.errors import PolicyError, SetupFailed
from houseroom.policy.record import Record
from houseroom.session.private_directory import open_private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from houseroom.policy.model import Places

STATE = ".local/state/houseroom"  # below the home directory
FILE = "trust.json"
LARGEST = 1 << 20
HINT = "Look at it, remove it, and run `houseroom trust` again in the projects you trust."


class Trusted(Record):
    """One trusted text: the policy file's resolved path, the SHA-256 of its text, and when (seconds since 1970)."""

    path: str
    sha256: str
    since: int = 0


def trust(places: Places) -> Trusted:
    """Trusts the text that the workspace's policy has now, after checking that it is a policy.

    Raises PolicyError where there is no such file or it has a mistake, SetupFailed where the record can't be kept.
    """
    import time

    from houseroom.policy.parse import parse
    from houseroom.session.policy_files import project_path, read_project

    path = project_path(places)
    text = read_project(places)
    if text is None:
        raise PolicyError("there is no policy to trust", file=path, hint="A project's policy is .houseroom/policy.toml in its directory.")
    parse(text, layer="project", file=path)
    entry = Trusted(path, digest(text), int(time.time()))
    _change(places, lambda entries: entries.__setitem__(path, entry))
    return entry


def untrust(places: Places, path: str = "") -> bool:
    """Forgets the trust in the workspace's policy, or in the one at ``path``; whether there was any. Raises SetupFailed."""
    from houseroom.session.policy_files import project_path

    wanted = path or project_path(places)
    if wanted not in _entries(places):
        return False
    _change(places, lambda entries: entries.pop(wanted, None))
    return True


def is_trusted(places: Places, path: str, text: str) -> bool:
    """Whether exactly this text of the policy at this path was trusted. Raises SetupFailed for a record that isn't safe."""
    known = _entries(places).get(path)
    return known is not None and known.sha256 == digest(text)


def listing(places: Places) -> tuple[Trusted, ...]:
    """All trusted texts, by path. Raises SetupFailed for a record that isn't safe."""
    entries = _entries(places)
    return tuple(entries[path] for path in sorted(entries))


def digest(text: str) -> str:
    """The SHA-256 of a policy's text."""
    from hashlib import sha256

    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _directory(places: Places) -> str:
    return f"{places.home.rstrip('/')}/{STATE}"


def _entries(places: Places) -> dict[str, Trusted]:
    if not os.path.lexists(_directory(places)):
        return {}
    directory = open_private(_directory(places), create=False)
    try:
        return _read(directory, f"{_directory(places)}/{FILE}")
    finally:
        os.close(directory)


def _change(places: Places, change: Callable[[dict[str, Trusted]], object]) -> None:
    """Reads, changes and writes the record under a lock, so that two commands at one time lose nothing."""
    import fcntl

    directory = open_private(_directory(places))
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        entries = _read(directory, f"{_directory(places)}/{FILE}")
        change(entries)
        _write(directory, entries, f"{_directory(places)}/{FILE}")
    finally:
        os.close(directory)


def _read(directory: int, path: str) -> dict[str, Trusted]:
    try:
        descriptor = os.open(FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=directory)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SetupFailed("read", path, error.errno or 0, error.strerror or "", HINT) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise SetupFailed("use", path, errno.EPERM, "it is not a private file of yours", HINT)
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(LARGEST + 1)
    finally:
        os.close(descriptor)
    return _decoded(content, path)


def _decoded(content: bytes, path: str) -> dict[str, Trusted]:
    import json

    try:
        if len(content) > LARGEST:
            raise ValueError("it is larger than 1 MiB")
        rows = json.loads(content)["trusted"]
        entries = [Trusted(str(row["path"]), str(row["sha256"]), int(row.get("since", 0))) for row in rows]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise SetupFailed("read", path, errno.EINVAL, "it is not a record of trust", HINT) from None
    return {entry.path: entry for entry in entries}


def _write(directory: int, entries: dict[str, Trusted], path: str) -> None:
    import json

    rows = [{"path": entry.path, "sha256": entry.sha256, "since": entry.since} for _, entry in sorted(entries.items())]
    content = json.dumps({"version": 1, "trusted": rows}, indent=1).encode()
    aside = f".{FILE}.{os.urandom(8).hex()}"
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            os.rename(aside, FILE, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            os.unlink(aside, dir_fd=directory)
            raise
        os.fsync(directory)
    except OSError as error:
        raise SetupFailed("write", path, error.errno or 0, error.strerror or "") from None
