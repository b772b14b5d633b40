"""What a command of a session prints is counted: only where ``limits.output`` is set.

Whatever its standard output and standard error were to be, it gets pipes, and a thread writes on what comes out of them. One thread for
each such command: its application, its event loop or its session's holder wait for other things, and for none of them all the time.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from _thread import allocate_lock
from errno import EAGAIN
from threading import Thread

from houseroom.errors import SetupFailed
from houseroom.session.exchange import LINGER
from houseroom.session.output import STREAMS, Relay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Counting:
    """The output of one command. ``passed`` are the descriptors that it would have got for the numbers in ``targets``; pipes take the
    place of some. ``theirs`` are ends of these, to be closed when they have been passed.

    ``begin`` before it is asked for. It ends by itself when nobody holds ``theirs``. Raises OSError.
    """

    def __init__(self, most: int, passed: list[int], targets: Sequence[int]):
        printed = {number: at for at, number in enumerate(targets) if number in STREAMS}
        self._relay = Relay(most, {number: passed[at] for number, at in printed.items()})
        self.theirs: list[int] = []
        for number, at in printed.items():
            if number in self._relay.theirs:
                passed[at] = os.dup(self._relay.theirs[number])
                self.theirs.append(passed[at])
        self._relay.handed_over()
        self._lock = allocate_lock()
        self._free = False
        self._thread: Thread | None = None

    @property
    def dropped(self) -> int:
        """How many bytes too many there were, as far as is known."""
        return self._relay.budget.dropped

    def begin(self, ended: Callable[[], None]) -> None:
        """Pass on from now on. ``ended`` is called, by another thread, when there is no more: none comes, or it was too much.

        What is printed then meets a broken pipe. Raises SetupFailed.
        """
        self._thread = Thread(target=self._pass_on, args=(ended,), daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._thread = None
            self._relay.close()
            raise SetupFailed("count", "the output of a command", EAGAIN, str(error), "There may be too many threads.") from None

    def _pass_on(self, ended: Callable[[], None]) -> None:
        try:
            self._relay.finish(None)
            with self._lock:
                if not self._free:
                    ended()
        finally:
            self._relay.close()

    def release(self) -> None:
        """The command has ended with all that it started: ``ended`` is not called any more."""
        with self._lock:
            self._free = True

    def settle(self) -> None:
        """Wait until what an ended command has printed is passed on, as long as somebody takes it and nothing holds the pipes."""
        while self._thread and self._thread.is_alive():
            before = self._relay.budget.left
            self._thread.join(LINGER)
            if self._relay.budget.left == before:
                return
