"""The limits of one run in words: what they are, which was hit, and what that means for how the command ended.

A limit that stopped the command makes an outcome of its own, ``limit``. One that only ended a part of it, or refused it something,
is told beside the command's own status.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

from houseroom.errors import SetupFailed
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from houseroom.plan.facts import Host
    from houseroom.policy.model import Policy

    Hits = Mapping[tuple[str, str], int]

OUTPUT = "limits.output"
ENDED, REFUSED, DROPPED = "ended", "refused", "dropped"  # what is done because of a limit
_SIGKILL, _SIGXCPU, _SIGXFSZ = 9, 24, 25  # on x86 and ARM (signal(7))
_NAMED = {_SIGXCPU: "limits.cpu", _SIGXFSZ: "limits.file_size"}
_KEYS = (
    "limits.memory", "limits.processes", "limits.time", "limits.cpu", "limits.open_files", "limits.file_size", OUTPUT, "limits.disk",
    "session.expires",
)  # fmt: skip
_STOPPED = {
    "limits.memory": "stopped at {} of memory",
    "limits.processes": "stopped at {} processes",
    "limits.time": "stopped after {}",
    "session.expires": "stopped after {}",
    "limits.cpu": "stopped after {} of processor time",
    "limits.file_size": "stopped at a file of {}",
    OUTPUT: "stopped at {} of output",
}


class Limits(Record):
    """The limits in force: key → value, as a person writes it, where it was written. Plain values: a remembered plan keeps them."""

    given: dict[str, tuple[float, str, str]] = {}

    def amount(self, key: str) -> float:
        """Bytes, seconds or a number; 0 where nothing is said."""
        return self.given[key][0] if key in self.given else 0

    def stopped(self, key: str) -> str:
        """``stopped at 16M of output: limits.output (policy.toml:7)``."""
        _, text, origin = self.given[key]
        return f"{_STOPPED[key].format(text)}: {key} ({origin})"

    def said(self, key: str) -> str:
        """``limits.processes is 30 (policy.toml:7)``."""
        _, text, origin = self.given[key]
        return f"{key} is {text} ({origin})"

    @property
    def seconds(self) -> float | None:
        """The shorter of what a command and the session may take by the clock, None where neither is limited."""
        return self.given[self.clock][0] if self.clock else None

    @property
    def clock(self) -> str:
        """Which of the two that is."""
        return min((key for key in ("limits.time", "session.expires") if key in self.given), key=self.amount, default="")


def limits_of(policy: Policy) -> Limits:
    """The limits that a policy sets."""
    settings = {key: setting for key in _KEYS if (setting := policy.setting(key)) is not None}
    if not settings:
        return Limits()
    from houseroom.policy.export import value_text

    return Limits(
        {key: (float(str(setting.value)), value_text(key, setting.value), str(setting.origin)) for key, setting in settings.items()}
    )


def on_host(host: Host, limits: Limits, *, terminals: bool = False) -> Host:
    """The facts that only limits need: asked for where they are set, so that nobody else pays.

    ``terminals``: commands will have some of their own, whatever our streams are.
    """
    memory, processes = int(limits.amount("limits.memory")), int(limits.amount("limits.processes"))
    if memory or processes:
        from houseroom.enforce.linux import cgroup

        host = host.with_(**cgroup.ask(memory=memory, processes=processes))
    if OUTPUT in limits.given:
        import os

        host = host.with_(terminal=terminals or any(map(os.isatty, (1, 2))))
    return host


def explain(kind: str, code: int, hits: Hits, limits: Limits) -> tuple[str, str]:
    """How a command ended, in the light of the limits: the outcome's kind and detail, "" where there is nothing to say.

    ``kind`` is exited, signalled, timed-out or not-started, or killed, where everything inside was. ``hits``: what was done because of
    which limit, and how often: processes "ended" or "refused", bytes "dropped".
    """
    done = {hit: count for hit, count in hits.items() if hit[0] in limits.given and count}
    named = _NAMED.get(code, "") if kind == "signalled" else ""
    if kind == "timed-out":
        return kind, limits.stopped(limits.clock) if limits.clock else ""
    if (OUTPUT, DROPPED) in done:
        return "limit", limits.stopped(OUTPUT)
    for key, what in done:
        if what == ENDED and _killed(kind, code):
            return "limit", limits.stopped(key)
    if named in limits.given:
        return "limit", limits.stopped(named)
    return kind, "; ".join(_beside(kind, code, done, limits))


def blame(failure: SetupFailed, hits: Hits, limits: Limits) -> SetupFailed:
    """The same failure, with the limit that made it: one that not even the sandbox itself fits in."""
    said = [limits.said(key) for (key, _), count in hits.items() if count and key in limits.given]
    if not said:
        return failure
    hint = f"{'; '.join(said)}: the sandbox itself needs more."
    return SetupFailed(failure.doing, failure.subject, failure.errno or 0, failure.strerror or "", hint)


def _killed(kind: str, code: int) -> bool:
    """Also as a shell passes it on."""
    return kind == "killed" or (kind, code) in (("signalled", _SIGKILL), ("exited", 128 + _SIGKILL))


def _beside(kind: str, code: int, done: Hits, limits: Limits) -> list[str]:
    """What limits did that the command outlived."""
    out = [f"{count} {_processes(count)} {what}: {limits.said(key)}" for (key, what), count in done.items()]
    shown = _NAMED.get(code - 128, "") if kind == "exited" else ""
    if shown in limits.given:
        out.append(f"status {code} is a shell's word for a program that a signal ended: {limits.said(shown)}")
    return out


def _processes(count: int) -> str:
    return "process was" if count == 1 else "processes were"
