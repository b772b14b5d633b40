"""The limits of a session, told apart by command: what they did while one ran, and what that means for how it ended.

Memory and processes are counted for all commands together. What is done because of them while a command runs is taken for its own where
it died of it, and told beside its status where it did not: of commands that run at once, each is told.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

from houseroom.session.limits import DROPPED, ENDED, OUTPUT, Limits, explain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from houseroom.enforce.linux.starters import Starters
    from houseroom.session.limits import Hits

TIME, EXPIRES = "limits.time", "session.expires"
_COUNTED = {"limits.memory": "memory", "limits.processes": "pids"}  # by which controller


class SessionLimits:
    """The limits of one session. ``counted`` is by which control groups; what none counts, init does, and tells ``starters``.

    ``counts``: something is counted for all commands together; ``told``: init may have ended something of a command that has ended, and
    not have said so yet. ``output``: bytes that each may print, 0 for any number.
    """

    def __init__(self, limits: Limits, counted: Mapping[str, tuple[str, str]], starters: Starters):
        self.limits, self._counted, self._starters = limits, counted, starters
        self.counts = any(key in limits.given for key in _COUNTED)
        self.told = any(key in limits.given and controller not in counted for key, controller in _COUNTED.items())
        self.output = int(limits.amount(OUTPUT))

    def hits(self) -> Hits:
        """What has been done so far."""
        if not self.counts:
            return {}
        from houseroom.enforce.linux import cgroup

        return {**cgroup.hits(self._counted), **self._starters.limited}

    def since(self, before: Hits) -> Hits:
        """What has been done since then."""
        return {hit: count - before.get(hit, 0) for hit, count in self.hits().items() if count > before.get(hit, 0)}

    def outcome(self, code: int, hits: Hits, *, late: bool = False, killed: bool = False, dropped: int = 0) -> tuple[str, str]:
        """Kind and detail of a command's end. ``late``: limits.time did it; ``killed``: who asked for the command."""
        if late:
            return "timed-out", self.limits.stopped(TIME)
        done = {hit: count for hit, count in hits.items() if not (killed and hit[1] == ENDED)}
        return explain(*_kind(code), {**done, (OUTPUT, DROPPED): dropped}, self.limits)

    def expired(self) -> str:
        """What ended the session after its time."""
        return self.limits.stopped(EXPIRES)

    def end(self) -> str:
        """What ended the whole session, "" where that was no limit: init alone ends all at once."""
        key = "limits.processes"
        return self.limits.stopped(key) if self._starters.limited.get((key, ENDED)) and key in self.limits.given else ""


def _kind(code: int) -> tuple[str, int]:
    return ("signalled", -code) if code < 0 else ("exited", code)
