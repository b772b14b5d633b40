"""The supervisor process of one command started through the Python API: ``python -I -S supervisor.py REQUEST ANSWER``.

REQUEST and ANSWER are numbers of inherited pipes. Its standard streams are the command's.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

if __name__ == "__main__":  # started by its path: the package's parent is looked at last
    sys.path[:] = (
        [*sys.path[1:], __file__.rsplit("/", 3)[0]]
        if sys.path[:1] == [os.path.dirname(__file__)]
        else [*sys.path, __file__.rsplit("/", 3)[0]]
    )

from houseroom.enforce.linux.launch import Cradle
from houseroom.errors import CannotEnforce, PolicyError, SetupFailed
from houseroom.session import request, sandbox


def main(request_fd: int, answer_fd: int) -> int:
    """Run the request; the answer is an outcome or an error in parts, ``session.request`` has the form."""
    os.set_inheritable(answer_fd, False)  # noqa: FBT003 — it takes no keyword
    try:
        with Cradle() as cradle:
            answer = serve(request.read(request_fd), cradle)
    except PolicyError as error:
        answer = ("policy", error.message, error.file, error.line, error.column, error.text, error.hint)
    except CannotEnforce as error:
        answer = ("cannot", error.missing, error.reason, error.hint)
    except SetupFailed as error:
        answer = ("setup", error.doing, error.subject, error.errno or 0, error.strerror or "", error.hint)
    request.write_answer(answer_fd, answer)
    return 0


def serve(wanted: request.Request, cradle: Cradle) -> tuple[object, ...]:
    """Run one command to its end."""
    command = sandbox.Command(wanted.argv, wanted.cwd, wanted.time)
    wish = sandbox.Wish(wanted.profile, wanted.rules, wanted.settings, wanted.accept)
    if wanted.policy is None:
        start = sandbox.ready(wanted.places, wish, wanted.environment, cradle, command)
    else:
        start = sandbox.prepare(wanted.policy, wanted.places, accept=wanted.accept, environ=wanted.environment, cradle=cradle)
    outcome = sandbox.run(start, command)
    return ("outcome", outcome.kind, outcome.code, outcome.detail, start.withheld)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
