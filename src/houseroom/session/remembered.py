"""Plans that were made before, kept so that the same question need not be decided twice.

``compile_plan`` is a pure function of the policy and the facts. So what it said is true again when both are the same: the
policy's files (by inode, size, times, owner and mode), the command line, each module of ours that took part, and every fact of
the host, which is asked anew at each start. Reading the policy and deciding cost more than building the sandbox; asking costs
a millisecond.

A remembered plan decides what is enforced, so it is kept like the trust record: in a directory of ours, mode 0700, that
no sandbox can write, and a file that is not plainly ours is not read. Nothing depends on it: whatever is odd is a miss.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import marshal
import os
from stat import S_ISREG

from houseroom import bundle
from houseroom.errors import SetupFailed
from houseroom.policy.record import Record
from houseroom.session.environment import Choice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from houseroom.plan.facts import Facts
    from houseroom.plan.questions import Questions
    from houseroom.policy.model import Places

STATE = ".local/state/houseroom"
_MOST, _LARGEST = 64, 16 << 20  # files kept; bytes of one


class Memory(Record):
    """What one wish came to: the packed plan, and what it was made of: ``asked`` is the questions to ask the host again and its answers.

    That stays marshalled until init has the plan and is at work.
    """

    limits: dict[str, float]
    choice: Choice
    packed: dict[str, object]
    asked: bytes
    ceilings: dict[str, tuple[float, str, str]] = {}
    egress: bytes = b""
    published: tuple[int, ...] = ()

    def expected(self) -> tuple[Questions, tuple[object, ...]] | None:
        """The questions, and the answers as ``plain_facts`` spells them; None for what is not of that form."""
        from houseroom.plan.questions import Questions

        try:
            questions, facts = marshal.loads(self.asked)
            return Questions(*questions), facts
        except (ValueError, EOFError, TypeError):
            return None


def key(places: Places, wish: tuple[object, ...]) -> tuple[object, ...]:
    """All that a plan depends on besides the host's facts and our own code, as plain values. ``wish`` is what the caller asked for."""
    config, system = f"{places.home}/.config/houseroom", "/etc/houseroom"
    files = [f"{places.workspace}/.houseroom/policy.toml", f"{places.home}/{STATE}/trust.json"]
    for directory in (config, system):
        files.append(f"{directory}/policy.toml")
        try:
            files += [f"{directory}/profiles/{name}" for name in sorted(os.listdir(f"{directory}/profiles"))]
        except OSError:
            continue
    directories = (f"{places.workspace}/.houseroom", config, system)
    return (bundle.PACKAGE, places.values(), wish, tuple(map(_stamp, (*files, *directories))))


def recall(places: Places, wanted: tuple[object, ...]) -> Memory | None:
    """What is remembered under a key, None where nothing is."""
    try:
        fd = os.open(_path(places, wanted), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if not S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077 or status.st_size > _LARGEST:
            return None
        known, code, limits, ceilings, egress, published, choice, packed, asked = marshal.loads(os.read(fd, status.st_size))
        fits = known == wanted and bundle.unchanged(code)
        return Memory(limits, Choice(*choice), packed, asked, ceilings, egress, published) if fits else None
    except (OSError, ValueError, EOFError, TypeError):
        return None
    finally:
        os.close(fd)


def remember(places: Places, wanted: tuple[object, ...], memory: Memory) -> None:
    """Keep a plan. A host on which we can keep nothing is only slower."""
    from houseroom.session.private_directory import open_private

    said = (memory.limits, memory.ceilings, memory.egress, memory.published, memory.choice.values(), memory.packed, memory.asked)
    kept: tuple[Any, ...] = (wanted, bundle.used(), *said)
    data = marshal.dumps(kept)
    path = _path(places, wanted)
    try:
        directory = open_private(os.path.dirname(path))
    except SetupFailed:
        return
    name, part = os.path.basename(path), f".{os.getpid()}.part"
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
        with open(fd, "wb") as file:
            file.write(data)
        os.rename(part, name, src_dir_fd=directory, dst_dir_fd=directory)
        _forget_oldest(directory)
    except OSError:
        return
    finally:
        os.close(directory)


def asked(questions: Questions, facts: Facts) -> bytes:
    """Questions and answers as a memory keeps them. A path in both is one object, and so is kept and read once."""
    host, (named, *rest) = plain_facts(facts)
    texts = {text: text for stratum in questions.rules for text, _access in stratum}
    return marshal.dumps((questions.values(), (host, ({texts.get(path, path): found for path, found in named.items()}, *rest))))


def plain_facts(facts: Facts) -> tuple[Any, tuple[Any, ...]]:
    """Facts as plain values that compare equal exactly when they are the same: the host's, and the tree's as ``scan.plain`` has them."""
    from houseroom.enforce.linux import scan

    return (facts.host.values(), scan.plain(facts.tree))


def _forget_oldest(directory: int) -> None:
    names = os.listdir(directory)
    if len(names) > _MOST:
        oldest = min(names, key=lambda name: os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime)
        os.unlink(oldest, dir_fd=directory)


def _path(places: Places, wanted: tuple[object, ...]) -> str:
    """Where a key's memory is. The key itself is in the file and compared: the name need only spread, and always be the same."""
    name = bundle.hashed(repr(wanted).encode("utf-8", "backslashreplace")).hex()
    return f"{places.home.rstrip('/')}/{STATE}/plans/{name}"


def _stamp(path: str) -> tuple[int, ...] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_mode, found.st_uid, found.st_gid, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
