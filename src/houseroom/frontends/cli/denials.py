"""What a command was refused, in a few lines: what, by which rule, and what would grant it."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

from houseroom.frontends.cli import paper, request
from houseroom.frontends.cli.paper import CYAN, Paper, Text
from houseroom.policy.denials import Denial
from houseroom.policy.observation import EXECUTE
from houseroom.session import denials as found
from houseroom.session.denials import telling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from houseroom.frontends.cli.options import Given
    from houseroom.policy.model import Places
    from houseroom.policy.observation import Observed
    from houseroom.policy.traffic import Traffic
    from houseroom.session.sandbox import Outcome

MOST = 5
_RUN = "houseroom run"
_PURPOSE = ("files.hide ", "files.private ")


def tell(given: Given, outcome: Outcome) -> None:
    """Say on standard error what was refused, where that may be why the command failed. With ``--verbose`` say all of it."""
    from houseroom.session import sandbox

    everything = given.flag("verbose")
    observed = found.read(outcome.notes)
    seen = any(seen.denied for seen in observed.seen)
    if not (everything or _failed(outcome)):
        return
    where = request.places(given)
    denials = outcome.refused
    if seen:
        placed, _questions, _tree = sandbox.place(request.policy(given, where), where)
        denials = (*found.explain(placed, observed), *outcome.refused)
    shown = denials if everything else telling(denials)
    sheet = Paper(Paper.of_stdout().width, paper.wants_colour(sys.stderr))
    if shown:
        paper.tell(as_text(shown, where, sheet, most=len(shown) if everything else MOST, lost=observed.lost))
    if outcome.reached and (shown or everything):
        paper.tell(reached_text(outcome.reached, sheet, most=len(outcome.reached) if everything else MOST))


def reached_text(reached: Sequence[Traffic], sheet: Paper, *, most: int = MOST) -> str:
    """One line: what was reached by the egress proxy, and with how many bytes."""
    parts = [f"{on_one_line(each.where)} ({count(each)})" for each in reached[:most]]
    parts += [f"{len(reached) - most} more"] if len(reached) > most else []
    return sheet.prose(f"{sheet.ink('houseroom:', CYAN)} reached {', '.join(parts)}")


def count(reached: Traffic) -> str:
    """How often and with how much."""
    times = f"{reached.connections} connections, " if reached.connections != 1 else ""
    return f"{times}{reached.sent:,} bytes out, {reached.received:,} in"


def _failed(outcome: Outcome) -> bool:
    """Whether it ended as nobody wanted. Ctrl-C was wanted."""
    return outcome.exit_code not in (0, 130) and outcome.kind != "not-started"


def tell_of_session(said: Mapping[str, Any], where: Places, name: str) -> None:
    """The same of a command in a session, as its holder has told it (``session.telling``)."""
    denials = [_denial(plain) for plain in said["denials"]]
    sheet = Paper(Paper.of_stdout().width, paper.wants_colour(sys.stderr))
    begin = f"houseroom session start {name}"
    paper.tell(as_text(denials, where, sheet, most=MOST, lost=said["lost"], untold=said["untold"], begin=begin))


def _denial(plain: Mapping[str, Any]) -> Denial:
    values: list[Any] = [tuple(value) if isinstance(value := plain[name], list) else value for name in Denial.__match_args__]
    return Denial(*values)


def as_text(denials: Sequence[Denial], where: Places, sheet: Paper, *, most: int, lost: int = 0, untold: int = 0, begin: str = _RUN) -> str:
    """Two or three lines a denial: what was refused, by which rule; and how to allow it, or why nothing does.

    ``begin``: what the options that allow it are for. ``untold``: how many more are known of than are given.
    """
    total = len(denials) + untold
    count = f"{total} things were" if total > 1 else "one thing was"
    lines = [f"{sheet.ink('houseroom:', CYAN)} {count} refused to the command:"]
    for denial in denials[:most]:
        lines.append(sheet.prose(on_one_line(f"{_what(denial, where)}: {_why(denial, where)}"), 2, 4))
        grant = allow(denial, where, begin)
        label = "see" if denial.rule.startswith(_PURPOSE) else "allow"
        lines.append(f"    {label}: {sheet.set(Text(grant, CYAN))}" if grant else sheet.prose(denial.obstacle, 4))
    rest = total - len(denials[:most])
    more = [f"{rest} more"] if rest > 0 else []
    more += [f"at least {lost} more that were not kept"] if lost else []
    if more:
        lines.append(sheet.prose(f"and {', '.join(more)}: `{_RUN} --verbose` lists all that is known", 2))
    return "\n".join(line for line in lines if line.strip())


def _what(denial: Denial, where: Places) -> str:
    path = request.spelt(denial.path, where) if denial.access != "connect" or denial.path[:1] == "/" else denial.path
    if denial.access == "connect" and len(denial.paths) > 1:
        path = f"{denial.paths[0]} and {len(denial.paths) - 1} more"
    many = f" ({len(denial.paths)} files)" if denial.access != "connect" and len(denial.paths) > 1 else ""
    by = f", by {', '.join(denial.programs[:3])}" if denial.programs else ""
    return f"{denial.access} {path}{many}{by}"


def _why(denial: Denial, where: Places) -> str:
    rule = f" ({denial.rule}, {request.spelt(denial.origin, where)})" if denial.rule else ""
    return denial.reason + rule


def on_one_line(text: str) -> str:
    """What comes from inside must not look like a line of ours."""
    return text.replace("\n", "\\n")


def allow(denial: Denial, where: Places, begin: str = _RUN) -> str:
    """The command line that allows it, "" where there is none. What is hidden is hidden on purpose: there is more to read first."""
    if not denial.grant:
        return ""
    option, value = denial.grant
    from houseroom.frontends.cli.explain import shell_word

    word = shell_word(value, where) if value[:1] == "/" or " " in value else value
    if denial.rule.startswith(_PURPOSE):
        return f"houseroom explain {denial.access} {word}"
    return f"{begin} {option} {word}"


def executions(observed: Observed) -> list[dict[str, object]]:
    """The programs that were started, for ``--json``."""
    started = (seen for seen in observed.seen if seen.kind == EXECUTE and not seen.denied)
    return [{"path": seen.path, "count": seen.count, "by": seen.program} for seen in started]


def as_document(denials: Sequence[Denial]) -> list[dict[str, object]]:
    """The denials for ``--json``."""
    return [{name: getattr(denial, name) for name in denial.__match_args__} for denial in denials]
