"""What a holder tells of a command's end where its wait status does not say all: the limit that did it, what was refused to it.

In one message of JSON, small enough to be sent at once: ``status``; ``limited``, whether a limit ended it; ``detail``, words for the user;
``denials``, the first of those that may have to do with a failure, as ``policy.denials.Denial`` has them; ``untold``, how many more there
are; ``lost``, how many were not kept; ``workspace``.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

from houseroom.session import errands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.policy.denials import Denial
    from houseroom.session.held import Command, Terms

MOST = 5  # denials
_LONGEST = 60_000  # bytes: a socket takes them at once, and nobody waits for a client
_LOOKED_AT = 1000  # observations of one command, the last ones: meanwhile other commands wait
_ENOUGH = 100  # paths and programs of one denial: only their number is told
_INTERRUPTED = (-2, 130)


def end(command: Command, terms: Terms, *, expired: bool = False) -> bytes:
    """The message. ``expired``: the session's time was up."""
    code = os.waitstatus_to_exitcode(command.status)
    dropped = command.counting.dropped if command.counting else 0
    if expired:
        kind, detail = "timed-out", terms.limits.expired()
    else:
        kind, detail = terms.limits.outcome(code, command.hits, late=command.late, dropped=dropped)
    limited = kind in ("timed-out", "limit")
    found, lost = _denials(command, terms) if code and code not in _INTERRUPTED else ((), 0)
    if not detail and not found:
        return errands.number(errands.ENDED, command.status)
    import json

    for most in range(min(MOST, len(found)), -1, -1):
        said = {
            "status": command.status,
            "limited": limited,
            "detail": detail,
            "denials": [_plain(denial) for denial in found[:most]],
            "untold": len(found) - most,
            "lost": lost,
            "workspace": terms.facts["workspace"],
        }
        body = json.dumps(said).encode()
        if len(body) <= _LONGEST:
            break
    return errands.message(errands.EXPLAINED, body)


def _denials(command: Command, terms: Terms) -> tuple[tuple[Denial, ...], int]:
    """Those that may have to do with a failure, and how many observations were not looked at."""
    refused = _refused(terms.refused) if terms.refused >= 0 else ()
    if not command.notes or terms.placed is None:
        return refused, 0
    from houseroom.policy.observation import Observed
    from houseroom.session import denials

    observed = denials.read(command.notes)
    last = tuple([seen for seen in observed.seen if seen.denied][-_LOOKED_AT:])
    lost = observed.lost + sum(seen.denied for seen in observed.seen) - len(last)
    return (*denials.telling(denials.explain(terms.placed, Observed(last, lost))), *refused), lost


def _refused(told: int) -> tuple[Denial, ...]:
    from houseroom.session import egress

    return egress.refusals(told)


def _plain(denial: Denial) -> dict[str, object]:
    """A denial for JSON; of several paths only the first is shown, and their number."""
    plain: dict[str, object] = {name: getattr(denial, name) for name in denial.__match_args__}
    paths = denial.paths[:_ENOUGH]
    return {**plain, "paths": [*paths[:1], *("" for _ in paths[1:])], "programs": denial.programs[:3]}
