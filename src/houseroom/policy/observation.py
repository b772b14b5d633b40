"""What a command was seen to try. A note and never a permission: nothing is decided by what stands here."""

from __future__ import annotations

from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

READ: Final = "read"
WRITE: Final = "write"  # change what exists
CREATE: Final = "create"
REMOVE: Final = "remove"  # take a name away, by removing or renaming what has it
EXECUTE: Final = "execute"
CONNECT: Final = "connect"
KINDS: Final = (READ, WRITE, CREATE, REMOVE, EXECUTE, CONNECT)
WRITING: Final = (WRITE, CREATE, REMOVE)


class Observation(Record):
    """One thing that was tried, as often as it was. All of it comes from inside: to be believed as much as the command.

    ``path``: absolute, as the kernel resolved it where it could; for connect an address with a port, or a socket's path. Of what
    was allowed, reading and writing name the directory. ``errno``: what the call returned or was about to, 0 where it was not
    refused. ``words``: why init refused it by itself, "" where the kernel did. ``program``: the name of the process that tried first.
    ``last``: greater for what was tried later.
    """

    kind: str
    path: str
    errno: int = 0
    words: str = ""
    program: str = ""
    count: int = 1
    last: int = 0

    @property
    def denied(self) -> bool:
        """Whether it was refused, by whatever."""
        return bool(self.errno)


class Observed(Record):
    """All that one command was seen to try, in the order in which it was first tried, and how much more there was at least."""

    seen: tuple[Observation, ...] = ()
    lost: int = 0
