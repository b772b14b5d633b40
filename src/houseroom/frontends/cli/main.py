"""The first step of every command line: where a command is to be run, its init is born before anything else is imported.

While this process reads the command line and the policy, init finds out on another processor what the kernel allows.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import gc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.enforce.linux.launch import Cradle


def main(arguments: list[str]) -> int:
    """Carry out one command line, without the program's name. Returns the exit code; an error of ours keeps its traceback."""
    gc.disable()  # nothing made on the way to a start is garbage
    if arguments[:2] == ["session", "exec"]:
        from houseroom.frontends.cli import exec_client

        code = exec_client.run(arguments[2:])
        if code != exec_client.NOT_DONE:
            return code
    cradle = _begin() if arguments[:1] in (["run"], ["shell"]) else None
    from houseroom.frontends.cli.dispatch import carry_out

    return carry_out(arguments, cradle)


def _begin() -> Cradle:
    from houseroom.enforce.linux.launch import Cradle

    return Cradle()
