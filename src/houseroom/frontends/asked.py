"""What both faces of a session share: how a command is asked for, and how what became of it is told."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

from houseroom.frontends.completed import Completed, Usage
from houseroom.policy.record import Record
from houseroom.session.course import NO_TERMINAL, Call
from houseroom.session.exchange import PIPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from subprocess import TimeoutExpired

    from houseroom.frontends.arguments import Path, Stream, Words
    from houseroom.policy.denials import Denial
    from houseroom.policy.traffic import Traffic
    from houseroom.session.course import Course
    from houseroom.session.exchange import Captured

SIZE = (24, 80)  # rows and columns of a terminal that nobody sees


class Spelling(Record):
    """Whether streams are text, and how it is written, by the arguments that ``subprocess`` has for it."""

    text: bool
    encoding: str | None
    errors: str | None

    def encode(self, data: str | bytes | None) -> bytes | None:
        """Input as bytes. Raises TypeError for text where bytes are meant, and the other way round."""
        if data is None:
            return None
        if isinstance(data, str) != self.text:
            raise TypeError(f"input must be {'str' if self.text else 'bytes'} here, not {type(data).__name__}")
        return data.encode(self.encoding or _locale(), self.errors or "strict") if isinstance(data, str) else bytes(data)

    def decode(self, captured: Captured | None) -> str | bytes | None:
        """What was captured, None where nothing was to be. A character that the limit has cut through is dropped whole."""
        if captured is None:
            return None
        data = captured.bytes()
        if not self.text:
            return data
        from codecs import getincrementaldecoder

        decoder = getincrementaldecoder(self.encoding or _locale())(self.errors or "strict")
        return str(decoder.decode(data, not captured.cut)).replace("\r\n", "\n").replace("\r", "\n")


BYTES = Spelling(text=False, encoding=None, errors=None)


def spelling(text: bool | None, encoding: str | None, errors: str | None) -> Spelling:
    """``encoding`` and ``errors`` mean text too."""
    return Spelling(text=True, encoding=encoding, errors=errors) if text or encoding or errors else BYTES


def words(argv: Words) -> tuple[str | bytes, ...]:
    """A command's words. Raises TypeError for a string: there is no shell."""
    if isinstance(argv, (str, bytes)) or not argv:
        raise TypeError("argv is a list of words, such as ['git', 'status']; there is no shell")
    return tuple(map(os.fspath, argv))


class Asked(Record):
    """A command as ``subprocess`` would be asked for it. ``data`` is its input as bytes."""

    args: tuple[str | bytes, ...]
    call: Call
    spelt: Spelling
    data: bytes | None


def asked(
    argv: Words,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: str | bytes | None = None,  # noqa: A002 — the name that subprocess.run has for it
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    capture_output: bool = False,
    text: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    pty: bool = False,
    size: tuple[int, int] = SIZE,
    pass_fds: Sequence[int] = (),
) -> Asked:
    """The arguments of ``Session.run`` and ``Session.popen``. Raises TypeError and ValueError for what makes no sense."""
    args, spelt = words(argv), spelling(text, encoding, errors)
    data = spelt.encode(input)
    if data is not None and not pty:
        if stdin is not None:
            raise ValueError("stdin and input can't both be given")
        stdin = PIPE
    if capture_output:
        if stdout is not None or stderr is not None:
            raise ValueError("stdout and stderr can't be given with capture_output")
        stdout = stderr = None if pty else PIPE
    directory = os.fsencode(cwd) if cwd is not None else b""
    terminal = size if pty else NO_TERMINAL
    call = Call([*map(os.fsencode, args)], directory, given(env), stdin, stdout, stderr, tuple(pass_fds), terminal)
    return Asked(args, call, spelt, data)


def given(env: Mapping[str, str] | Mapping[bytes, bytes] | None) -> dict[bytes, bytes] | None:
    """An environment as bytes."""
    return None if env is None else {os.fsencode(name): os.fsencode(value) for name, value in env.items()}


def completed(
    args: tuple[str | bytes, ...],
    course: Course,
    spelt: Spelling,
    captured: tuple[Captured | None, Captured | None],
    withheld: tuple[str, ...],
    outcome: tuple[str, str],
    denials: tuple[Denial, ...] = (),
    reached: tuple[Traffic, ...] = (),
) -> Completed:
    """What is known of a command that is over. ``outcome``: its kind and detail."""
    code = course.returncode
    assert code is not None
    out, err = captured
    return Completed(
        args,
        code,
        outcome[0],
        spelt.decode(out),
        spelt.decode(err),
        withheld,
        sum(each.cut for each in captured if each),
        course.left,
        usage(course),
        denials,
        outcome[1],
        reached,
    )


def late(args: tuple[str | bytes, ...], timeout: float, captured: tuple[Captured | None, Captured | None]) -> TimeoutExpired:
    """The error of a command that was not over in time, with what had been captured."""
    from subprocess import TimeoutExpired

    out, err = (each.bytes() if each else None for each in captured)
    return TimeoutExpired(args, timeout, out, err)


def usage(course: Course) -> Usage:
    """What it has used."""
    return Usage(course.user, course.system, course.largest)


def _locale() -> str:
    from locale import getencoding

    return getencoding()
