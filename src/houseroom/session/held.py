"""What a holder keeps of its session, of those who are connected, and of the commands that they asked for."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import os
from time import monotonic

from houseroom.enforce.linux import frames, lending, streams
from houseroom.enforce.linux.starters import Gone, readable
from houseroom.session import environment, ledger
from houseroom.session.session_limits import EXPIRES, TIME

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Iterable
    from typing import Any

    from houseroom.enforce.linux.starters import Starter
    from houseroom.policy.decide import PlacedPolicy
    from houseroom.session.counting import Counting
    from houseroom.session.environment import Choice
    from houseroom.session.limits import Hits
    from houseroom.session.session_limits import SessionLimits

NEVER = float("inf")
_KNOWN = 16  # environments whose filtered form is kept


class Terms:
    """What a session began with. ``own_mounts``: a file that is given for reading can be made read-only. ``own_terminals``: the sandbox
    can make terminals by itself.

    ``idle``, ``time`` and ``expires`` are in seconds, the latter two what limits.time and session.expires say, ``NEVER`` for nothing.
    ``facts`` are what there is to tell of the session besides what changes. ``placed`` is its policy, where commands are observed.
    ``refused`` is the ledger of an egress proxy, -1 for none.
    """

    def __init__(
        self,
        choice: Choice,
        limits: SessionLimits,
        idle: float,
        facts: dict[str, Any],
        placed: PlacedPolicy | None,
        *,
        own_mounts: bool,
        own_terminals: bool,
        refused: int = -1,
    ):
        self.choice, self.limits, self.idle, self.facts, self.placed = choice, limits, idle, facts, placed
        self.own_mounts, self.own_terminals, self.refused = own_mounts, own_terminals, refused
        self.time = limits.limits.amount(TIME) or NEVER
        self.expires = limits.limits.amount(EXPIRES) if EXPIRES in limits.limits.given else NEVER
        self._environments: dict[bytes, bytes] = {}

    def environment(self, variables: bytes) -> bytes:
        """What commands get of a client's environment: the policy's word on each variable."""
        given = self._environments.get(variables)
        if given is None:
            environ = frames.unblock(variables)
            self.choice = self.choice.knowing(map(os.fsdecode, environ))
            given = frames.block(environment.build(self.choice, environ)[0])
            if len(self._environments) >= _KNOWN:
                self._environments.clear()
            self._environments[variables] = given
        return given

    @property
    def to_be_heard(self) -> bool:
        """Whether init may have something to say of a command that has ended: what it noted, or what limits did to it."""
        return self.placed is not None or self.limits.told

    def told(self, commands: Iterable[Command], **changing: Any) -> bytes:
        """All there is to tell of the session, as JSON. Times are in seconds, since 1970 or as durations."""
        import json

        now = monotonic()
        running = [
            {"argv": [os.fsdecode(word) for word in command.argv], "seconds": now - command.since, "terminal": command.terminal}
            for command in commands
        ]
        reached = [each.as_document() for each in ledger.reached(self.refused)] if self.refused >= 0 else []
        limits = {key: value for key, (value, _text, _origin) in self.limits.limits.given.items()}
        return json.dumps({**self.facts, "idle": self.idle, "limits": limits, "reached": reached, **changing, "commands": running}).encode()


class Client:
    """One connection."""

    def __init__(self, sock: _socket.socket):
        self.sock = sock
        self.data = b""  # of a message that has not come whole
        self.received: list[int] = []
        self.command: Command | None = None


class Command:
    """One command, from the request to its end. ``client`` is None once that has gone."""

    def __init__(self, client: Client, argv: list[bytes], request: bytes, targets: tuple[int, ...], *, terminal: bool):
        self.client: Client | None = client
        self.argv, self.request, self.terminal = argv, request, terminal
        self.outer = -1  # of its terminal, where that was made here
        self.since = monotonic()
        self.starter: Starter | None = None
        self.pid = 0  # inside, once it is known
        self.signals: list[int] = []  # that came before
        self.interrupted = self.late = False
        self.said = b""  # what there is to say instead of its end
        self.again = False  # its starter can start another
        self.before: Hits = {}  # what limits had done before it
        self.hits: Hits = {}  # what they did until its end
        self.notes = b""  # what was observed of it
        self.targets = targets
        self.counting: Counting | None = None  # of its output
        self.passed_on = True  # all of its output
        self.settled = 0.0  # when to wait no longer for that
        self.orphaned = False  # its starter has ended before it, and what it left is init's
        self.status = int(_signal.SIGKILL)  # as wait(2) has it; this, unless its starter says otherwise

    def count(self, received: list[int], most: int, ended: Callable[[Command], None]) -> None:
        """Have what it prints counted: pipes take the place of some of the descriptors that it is to get. Raises OSError.

        ``ended`` is called by another thread when nothing more comes, or it was too much.
        """
        from houseroom.session.counting import Counting

        before = received[:]
        self.counting, self.passed_on = Counting(most, received, self.targets), False
        for old, new in zip(before, received, strict=True):
            if old != new:
                os.close(old)
        self.counting.begin(lambda: ended(self))

    def close_outer(self) -> None:
        """Nobody needs it here any more."""
        if self.outer >= 0:
            os.close(self.outer)
            self.outer = -1


class Loans:
    """Descriptors in the place of those that a client opened for reading, which can't be used to change their files."""

    def __init__(self, *, wanted: bool):
        self._wanted = wanted
        self._lender: lending.Lender | None = None

    def begin(self) -> None:
        """While there is one thread: no process is forked later, when others may hold locks."""
        if self._wanted:
            self._lender = lending.Lender()
            with open("/dev/null", "rb") as empty:
                if (lent := self._lender.lend(empty.fileno())) >= 0:
                    os.close(lent)

    def exchange(self, received: list[int]) -> bool:
        """Put them in their place. False where one can't be had."""
        for at, fd in enumerate(received if self._wanted else ()):
            if streams.is_changeable(fd):
                self._lender = self._lender or lending.Lender()
                lent = self._lender.lend(fd)
                if lent < 0:
                    return False
                os.close(fd)
                received[at] = lent
        return True

    def end(self) -> None:
        """No more."""
        if self._lender:
            self._lender.end()


def has_ended(starter: Starter) -> bool:
    """Whether a starter is gone, after what it has said before."""
    while readable(starter.sock.fileno(), 0):
        try:
            descriptor = starter.answer()[2]
        except Gone:
            return True
        if descriptor >= 0:
            os.close(descriptor)
    return False


def plausible(status: int) -> int:
    """A wait status that a process can have ended with; what comes from inside may be anything."""
    status &= 0xFFFF
    return status if os.WIFEXITED(status) or os.WIFSIGNALED(status) else int(_signal.SIGKILL)
