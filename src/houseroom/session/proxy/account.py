"""The proxy's side of its ledger: counters that are added to as bytes go by, and a line for each refusal."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import mmap
import os
from contextlib import suppress

from houseroom.session import ledger

TYPE_CHECKING = False
if TYPE_CHECKING:
    Counts = memoryview[int] | list[int]  # of one destination, by the places below

CONNECTIONS, SENT, RECEIVED = 0, 1, 2


class Account:
    """``fd`` is what ``ledger.make`` made. It is ours to write and anybody's to read, at any moment."""

    def __init__(self, fd: int):
        self.fd, self.end = fd, ledger.LINES
        self.words = memoryview(mmap.mmap(fd, ledger.LINES)).cast("Q")
        self.destinations: dict[str, Counts] = {}
        self.refused: set[str] = set()
        self.names = 0  # of those, names that were only asked for

    def connected(self, where: str) -> Counts:
        """One more connection to a destination; what it carries is to be added to the result."""
        counts = self.destinations.get(where)
        if counts is None:
            if len(self.destinations) >= ledger.MOST_REACHED:
                where = ledger.OTHERS
            counts = self.destinations.get(where) or self._enter(where)
        counts[CONNECTIONS] += 1
        return counts

    def _enter(self, where: str) -> Counts:
        at = (len(self.destinations) + 1) * ledger.SLOT
        os.pwrite(self.fd, where.encode()[: ledger.SLOT - ledger.NUMBERS - 1], at + ledger.NUMBERS)
        counts = self.destinations[where] = self.words[at // 8 : (at + ledger.NUMBERS) // 8]
        return counts

    def refuse_name(self, name: str, *more: str) -> None:
        """The same of a name that was only asked for: a flood of those leaves room for what was to be connected to."""
        if self.names < ledger.MOST_NAMES:
            self.names += name not in self.refused
            self.refuse(name, *more)
        elif name not in self.refused:
            self.words[1] += 1

    def refuse(self, what: str, *more: str) -> None:
        """A line of a refusal, once: what was to be reached, and more about it."""
        if what in self.refused:
            return
        if len(self.refused) >= ledger.MOST_REFUSED:
            self.words[1] += 1
            return
        self.refused.add(what)
        parts = (" ".join(part.split()) for part in (what, *more))
        line = "\t".join(parts).encode("utf-8", "backslashreplace")[: ledger.LONGEST_LINE - 1] + b"\n"
        with suppress(OSError):  # there is no memory for it
            self.end += os.pwrite(self.fd, line, self.end)
            self.words[0] = self.end
