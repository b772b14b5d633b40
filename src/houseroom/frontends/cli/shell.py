"""``houseroom shell``: the user's own shell in a sandbox."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.enforce.linux.launch import Cradle
    from houseroom.frontends.cli.options import Given

# Debian's and Ubuntu's own start files show it before the prompt, in brackets, as schroot(1) has it. Others ignore it.
_PROMPT = b"debian_chroot"


def shell(given: Given, cradle: Cradle) -> int:
    """As ``run``, with the user's shell where no other is named."""
    from houseroom.frontends.cli import run

    if not given.flag("quiet") and not given.flag("dry-run") and not given.flag("json") and os.isatty(0):
        from houseroom.frontends.cli import paper

        paper.note("a shell in the sandbox; `exit` leaves it")
    os.environb[_PROMPT] = environment()[_PROMPT]
    return run.run(given.with_(words=given.words or tuple(argv())), cradle)


def argv() -> list[str]:
    """The user's shell."""
    return [os.environ.get("SHELL") or "/bin/sh"]


def environment() -> dict[bytes, bytes]:
    """Ours, with a word for the prompt."""
    return {_PROMPT: b"houseroom", **os.environb}
