"""What a program of the host prints: run for a credential before a sandbox starts, and never one that commands could have written.

No shell, no terminal, nothing to read, the root as its directory, little time. Of the caller's variables it gets those that lead nowhere
where commands may write, so that no ``PYTHONPATH`` or ``PATH`` has it execute what an earlier command left there.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import os
from select import POLLIN, poll
from subprocess import DEVNULL, PIPE, Popen
from time import monotonic

from houseroom.enforce.linux import process_sys
from houseroom.errors import PolicyError
from houseroom.policy.variables import value_looks_secret
from houseroom.session.writable import Writable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Final

    from houseroom.policy.decide import PlacedPolicy

SECONDS: Final = 30.0  # that a program may take: a person may have to unlock something
LARGEST: Final = 8192  # bytes that it may print
_TOLD = 2000  # bytes of its last words that are shown
_SCRIPTS = 4  # that interpret one another (execve(2), Linux 5.1)
_HEAD = 256  # bytes of a script that the kernel looks at (BINPRM_BUF_SIZE)
_SHORT = 8  # characters of a word that may be a part of one
_LONG = 16  # characters of a word that may be a secret by its form
_MOVE = "Name a program that lies elsewhere, or add --protect for it where no directory above it is writable."


def command(words: Sequence[str], placed: PlacedPolicy, environ: Mapping[bytes, bytes]) -> tuple[str, ...]:
    """The words of a command that may be run: its program by its whole path. Raises PolicyError for one that may not be."""
    home = placed.places.home.rstrip("/")
    program, *arguments = (home + word[1:] if word[:2] == "~/" else word for word in words)
    path = program if program[:1] == "/" else _search(program, environ)
    writable = Writable(placed)
    _check(writable, path)
    for word in arguments:
        if writable.named_in(word):
            raise PolicyError(f"its argument {word} leads where commands may write", hint="What it reads must lie where they may not.")
    return (path, *arguments)


def _search(name: str, environ: Mapping[bytes, bytes]) -> str:
    """As execvp(3), but for entries that are no whole paths."""
    for entry in os.fsdecode(environ.get(b"PATH", b"")).split(":"):
        path = f"{entry}/{name}"
        if entry[:1] == "/" and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise PolicyError(f"there is no program {name} on the PATH", hint="Install it, or write its whole path.")


def _check(writable: Writable, program: str) -> None:
    """Raises PolicyError where commands could have a say in what is executed: as the program, or as what interprets it."""
    for _ in range(_SCRIPTS):
        where = writable.on_way_to(program)
        if where:
            raise PolicyError(f"{program} lies where commands may write ({where})", hint=_MOVE)
        try:
            if os.stat(program).st_mode & 0o002:
                raise PolicyError(f"anybody may write {program}", hint=f"Look at it, then: chmod o-w {program}")
            with open(program, "rb") as file:
                head = file.read(_HEAD)
        except PermissionError:
            return  # it may be executed and not read: no script
        except OSError as error:
            raise PolicyError(f"{program} can't be run: {error.strerror}") from None
        if head[:2] != b"#!":
            return
        interpreter, *rest = os.fsdecode(head[2:].partition(b"\n")[0].partition(b"\0")[0]).split() or [""]
        if interpreter[:1] != "/":
            raise PolicyError(f"{program} has an interpreter without a whole path", hint="Its first line is #! and a path such as /bin/sh.")
        if any(map(writable.named_in, rest)):
            raise PolicyError(f"the first line of {program} leads where commands may write", hint=_MOVE)
        program = interpreter
    raise PolicyError("its interpreters are scripts themselves, one after the other", hint="Name the last of them, with its arguments.")


def variables(placed: PlacedPolicy, environ: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """What a program gets of the caller's variables: those that name no place where commands may write. PATH keeps its other places."""
    kept, writable = {}, Writable(placed)
    for name, value in environ.items():
        text = os.fsdecode(value)
        if name == b"PATH":
            kept[name] = os.fsencode(":".join(each for each in text.split(":") if each[:1] == "/" and not writable.named_in(each)))
        elif not writable.named_in(text):
            kept[name] = value
    return kept


def run(words: Sequence[str], environ: Mapping[bytes, bytes], seconds: float = SECONDS) -> bytes:
    """What a command prints, whose first word is a whole path. Raises PolicyError where it fails, or takes or prints too much.

    Its last words are told then, but for what looks like a secret in them.
    """
    former = _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)  # who ignores it is not told how a child ended (wait(2))
    try:
        process = _begin(words, environ)
        try:
            out, err = _listen(process, seconds)
            process.wait()
        except BaseException:
            _end(process)
            raise
    except OSError as error:
        raise PolicyError(f"{words[0]} can't be run: {error.strerror}") from None
    finally:
        if former is not None:  # set by others than Python, and none of ours is
            _signal.signal(_signal.SIGCHLD, former)
    if process.returncode:
        how = f"status {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
        raise PolicyError(f"it ended with {how}", hint=last_words(err, out))
    return out


def _begin(words: Sequence[str], environ: Mapping[bytes, bytes]) -> Popen[bytes]:
    """It ends with us, however we end, but for what runs with other rights (PR_SET_PDEATHSIG(2const))."""

    def settle() -> None:  # in a process with one thread, as each is that starts sandboxes
        process_sys.prctl(process_sys.PR_SET_PDEATHSIG, _signal.SIGKILL)

    argv = [os.fsencode(word) for word in words]
    return Popen(
        argv,
        cwd="/",
        env=dict(environ),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,
        preexec_fn=settle,  # noqa: PLW1509
    )


def _end(process: Popen[bytes]) -> None:
    """Kill it with what it has started; it is a child until it is waited for, so the number is its own."""
    try:
        os.killpg(process.pid, _signal.SIGKILL)
    except OSError:
        return  # it has other rights than we, and is not ours to wait for
    process.wait()


def _listen(process: Popen[bytes], seconds: float) -> tuple[bytes, bytes]:
    """What it prints on both streams until it has ended; what it leaves running is not waited for. Raises PolicyError."""
    out, err = bytearray(), bytearray()
    streams = [stream for stream in (process.stdout, process.stderr) if stream]
    heard = {stream.fileno(): kept for stream, kept in zip(streams, (out, err))}
    alive = os.pidfd_open(process.pid)
    try:
        waiting, until, ended = poll(), monotonic() + seconds, False
        for fd in (*heard, alive):
            waiting.register(fd, POLLIN)
        while heard or not ended:
            ready = waiting.poll(0 if ended else max(0.0, until - monotonic()) * 1000)
            if not ready and ended:
                break
            if not ready or monotonic() > until:
                raise PolicyError(f"it had not ended after {seconds:g} seconds", hint=last_words(bytes(err), bytes(out)))
            for fd, _events in ready:
                part = os.read(fd, LARGEST) if fd != alive else b""
                if part:
                    heard[fd] += part
                else:
                    waiting.unregister(fd)
                    ended = ended or fd == alive
                    heard.pop(fd, None)
            if len(out) > LARGEST:
                raise PolicyError(f"it printed more than {LARGEST} bytes")
            del err[:-_TOLD]
    finally:
        for stream in streams:
            stream.close()
        os.close(alive)
    return bytes(out), bytes(err)


def last_words(err: bytes, out: bytes) -> str:
    """What a program said at its end, for people: without what it printed as its answer, and without what may be a secret."""
    text = err.decode("utf-8", "replace")
    for word in out.decode("utf-8", "replace").split():
        text = text.replace(word, "…") if len(word) >= _SHORT else text
    shown = "".join(char if char.isprintable() or char == "\n" else " " for char in text).strip()
    return f"It said: {_veiled(shown)}" if shown else ""


def _veiled(text: str) -> str:
    """Words of letters and digits that are as long as tokens are told as dots."""
    out, word = "", ""
    for char in f"{text} ":
        if char.isalnum() or char in "_-+":
            word += char
            continue
        secret = value_looks_secret(word) or (len(word) >= _LONG and any(map(str.isdigit, word)) and any(map(str.isalpha, word)))
        out, word = out + ("…" if secret else word) + char, ""
    return out[:-1]
