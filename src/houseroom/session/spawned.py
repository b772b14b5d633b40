"""A supervisor process for one request, for callers that must not fork: large, threaded, or with streams of their own."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

from houseroom.errors import CannotEnforce, PolicyError, SetupFailed
from houseroom.policy.record import Record
from houseroom.session import request
from houseroom.session.sandbox import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

    Stream = int | IO[Any] | None

_SUPERVISOR = os.path.join(os.path.dirname(__file__), "supervisor.py")


class Spoken(Record):
    """An outcome with what was captured of the command's output, and the names of variables that it did not get."""

    outcome: Outcome
    stdout: Any
    stderr: Any
    withheld: tuple[str, ...]


def run(
    wanted: request.Request,
    *,
    input: str | bytes | None = None,  # noqa: A002 — the name that subprocess has for it
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    text: bool = False,
    timeout: float | None = None,
) -> Spoken:
    """Run a request to its end; streams as for ``subprocess.Popen``, ``timeout`` in seconds.

    Raises PolicyError, CannotEnforce and SetupFailed before anything has started, and ``subprocess.TimeoutExpired``.
    """
    import subprocess

    ask, give = os.pipe()
    hear, tell = os.pipe()
    with open(give, "wb") as question, open(hear, "rb") as answers:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", _SUPERVISOR, str(ask), str(tell)],
                stdin=subprocess.PIPE if input is not None else stdin,
                stdout=stdout,
                stderr=stderr,
                text=text,
                pass_fds=(ask, tell),
            )
        finally:
            os.close(ask)
            os.close(tell)
        with process:
            try:
                question.write(request.dump(wanted))
                question.close()
                out, err = process.communicate(input, timeout=timeout)
            except BaseException:
                process.kill()  # and with the supervisor ends everything inside
                raise
        return _spoken(request.read_answer(answers.read()), out, err, process.returncode)


def _spoken(answer: tuple[Any, ...], out: Any, err: Any, status: int) -> Spoken:
    match answer:
        case ("outcome", kind, code, detail, withheld):
            return Spoken(Outcome(kind, code, detail), out, err, withheld)
        case ("policy", message, file, line, column, text, hint):
            raise PolicyError(message, file=file, line=line, column=column, text=text, hint=hint)
        case ("cannot", missing, reason, hint):
            raise CannotEnforce(missing, reason, hint)
        case ("setup", doing, subject, code, words, hint):
            raise SetupFailed(doing, subject, code, words, hint)
    raise SetupFailed("hear from", "the supervisor", 0, f"it ended with status {status}")
