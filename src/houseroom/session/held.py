"""What a holder keeps of its session, of those who are connected, and of the commands that they asked for."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import os
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

    from houseroom.enforce.linux.starters import Starter
    from houseroom.session.environment import Choice


class Terms:
    """What a session began with. ``own_mounts``: a file that is given for reading can be made read-only. ``own_terminals``: the sandbox
    can make terminals by itself.

    ``limits`` has limits.time and session.expires in seconds where the policy gives them; ``idle`` is in seconds too. ``facts`` are
    what there is to tell of the session besides what changes.
    """

    def __init__(
        self, choice: Choice, limits: dict[str, float], idle: float, facts: dict[str, Any], *, own_mounts: bool, own_terminals: bool
    ):
        self.choice, self.limits, self.idle, self.facts = choice, limits, idle, facts
        self.own_mounts, self.own_terminals = own_mounts, own_terminals


class Client:
    """One connection."""

    def __init__(self, sock: _socket.socket):
        self.sock = sock
        self.data = b""  # of a message that has not come whole
        self.received: list[int] = []
        self.command: Command | None = None


class Command:
    """One command, from the request to its end. ``client`` is None once that has gone."""

    def __init__(self, client: Client, argv: list[bytes], request: bytes, *, terminal: bool):
        self.client: Client | None = client
        self.argv, self.request, self.terminal = argv, request, terminal
        self.outer = -1  # of its terminal, where that was made here
        self.since = monotonic()
        self.starter: Starter | None = None
        self.pid = 0  # inside, once it is known
        self.signals: list[int] = []  # that came before
        self.interrupted = self.late = False
        self.orphaned = False  # its starter has ended before it, and what it left is init's
        self.status = int(_signal.SIGKILL)  # as wait(2) has it; this, unless its starter says otherwise

    def close_outer(self) -> None:
        """Nobody needs it here any more."""
        if self.outer >= 0:
            os.close(self.outer)
            self.outer = -1
