"""What an egress proxy has done: a file without a name that it writes (``proxy.account``), and that is read without asking it.

First, in slots of a fixed size, how often each destination was reached and with how many bytes; then a line for each refusal. Both are
bounded, whatever is asked for, and nothing is lost where nobody reads for long. The position of the descriptor, which all who hold
it share, is up to where refusals have been told.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

from houseroom.policy.traffic import Traffic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

MOST_REACHED: Final = 1000  # destinations that are counted by themselves
OTHERS: Final = "others"  # what all beyond are counted as
MOST_REFUSED: Final = 1000  # a sandbox can think of new names for ever
MOST_NAMES: Final = 500  # of these, names that nothing was connected to
LONGEST_LINE: Final = 4096  # bytes
NUMBERS: Final = 24  # bytes that a slot begins with: three numbers; its name follows, up to the first NUL
SLOT: Final = 288  # bytes: a name of 253 and a port fit
LINES: Final = (
    MOST_REACHED + 2
) * SLOT  # where lines begin: the first slot holds where they end and how many are lost, the last one is for the others


def make() -> int:
    """A new one, as a descriptor. Raises OSError."""
    fd = os.memfd_create("houseroom-egress", os.MFD_CLOEXEC)
    os.ftruncate(fd, LINES)  # what is not written takes no memory
    os.lseek(fd, LINES, os.SEEK_SET)
    return fd


def refusals(fd: int) -> list[str]:
    """The lines that came since they were last asked for, by whoever holds the same descriptor."""
    end = min(_number(os.pread(fd, 8, 0)), LINES + MOST_REFUSED * LONGEST_LINE)
    left = end - os.lseek(fd, 0, os.SEEK_CUR)
    return os.read(fd, left).decode("utf-8", "replace").split("\n")[:-1] if left > 0 else []


def lost(fd: int) -> int:
    """How many refusals more than those that are kept there have been since this was last asked, by whoever can write the same file."""
    until_now, told = (_number(os.pread(fd, 8, at)) for at in (8, 16))
    os.pwrite(fd, until_now.to_bytes(8, sys.byteorder), 16)
    return until_now - told


def reached(fd: int) -> tuple[Traffic, ...]:
    """What has been reached until now, in the order of the first connections."""
    found = []
    for at in range(1, MOST_REACHED + 2):
        slot = os.pread(fd, SLOT, at * SLOT)
        connections, sent, received = (_number(slot[start : start + 8]) for start in range(0, NUMBERS, 8))
        if not connections:
            break
        found.append(Traffic(slot[NUMBERS:].partition(b"\0")[0].decode("ascii", "replace"), connections, sent, received))
    return tuple(found)


def since(before: tuple[Traffic, ...], now: tuple[Traffic, ...]) -> tuple[Traffic, ...]:
    """What was reached between two looks at one ledger; a connection that was there before counts with its bytes only."""
    known = {each.where: each for each in before}
    found = []
    for each in now:
        was = known.get(each.where, Traffic(each.where))
        more = Traffic(each.where, each.connections - was.connections, each.sent - was.sent, each.received - was.received)
        if more != Traffic(each.where):
            found.append(more)
    return tuple(found)


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, sys.byteorder)
