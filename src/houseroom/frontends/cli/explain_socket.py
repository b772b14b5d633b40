"""``houseroom explain connect PATH``: may a Unix socket of the host be connected to, by which rule, and what would allow it."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from stat import S_ISSOCK

from houseroom.frontends.cli import paper, request
from houseroom.frontends.cli.paper import Paper
from houseroom.frontends.cli.verdict import Verdict
from houseroom.policy import sockets
from houseroom.policy.pattern import join, place
from houseroom.policy.record import Record
from houseroom.policy.sockets import Reached

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.frontends.cli.options import Given
    from houseroom.policy.model import Places, Policy


class Explained(Record):
    """A decision with all that is shown about it. ``power``: what is known to be had there. ``notes``: of what is there now."""

    path: str
    reached: Reached
    power: str
    notes: tuple[str, ...]

    @property
    def grant(self) -> tuple[str, ...]:
        """The command that would allow it, empty where none does, or none is needed."""
        if self.reached.granted or self.reached.obstacle:
            return ()
        return ("houseroom", "run", "--socket", self.path, *(("--accept", "sockets") if self.power else ()))

    @property
    def sentence(self) -> str:
        """Why."""
        rule = self.reached.rule
        if self.reached.granted and rule:
            return f"{rule} ({rule.origin}) lets it through"
        return self.reached.obstacle or "a socket of the host is another program's door, and no rule lets this one through"


def explain_socket(given: Given, word: str) -> int:
    """Print the explanation. Returns 0 where it may be connected to, else 1. Nobody is connected to."""
    where = request.places(given)
    explained = explained_of(request.policy(given, where), where, word if word[0] == "@" else _path(word, where))
    warning = [("warning", f"it leads round the policy: {explained.power}")] if explained.power else []
    notes = (*warning, *(("note", note) for note in explained.notes))
    reached = explained.reached
    verdict = Verdict(reached.granted, explained.path, explained.sentence, reached.rule, explained.grant, notes)
    if given.flag("json"):
        paper.put_json(verdict.document(power=explained.power or None, notes=list(explained.notes)))
    else:
        paper.put(verdict.text(Paper.of_stdout()))
    return 0 if verdict.allows else 1


def _path(word: str, where: Places) -> str:
    return join(place(request.subject(word), where).parts)


def explained_of(policy: Policy, where: Places, path: str) -> Explained:
    """What a policy says of a path, by whichever of its names the policy knows it. Raises PolicyError."""
    if path[:1] == "@":
        return Explained(path, sockets.decide(policy, where, path), "", ())
    reached, real = sockets.decide(policy, where, path), os.path.realpath(path)
    if not reached.granted:
        same = (join(parts) for parts, _rule in sockets.granted(policy, where) if os.path.realpath(join(parts)) == real)
        other = next(same, real)
        reached = sockets.decide(policy, where, other) if other != path else reached
    return Explained(path, reached, sockets.power_of(real) or sockets.power_of(path), tuple(_notes(path)))


def _notes(path: str) -> list[str]:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return [f"it can't be looked at now: {error.strerror}"]
    return [] if S_ISSOCK(mode) else ["what is there now is no socket"]
