"""``houseroom run``: the hot path. What is imported at the top is paid for by every command."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

from houseroom.frontends.cli import request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from houseroom.enforce.linux.launch import Cradle
    from houseroom.frontends.cli.options import Given
    from houseroom.policy.model import Places
    from houseroom.session.sandbox import Again, Command, Outcome, Prepared


def run(given: Given, cradle: Cradle) -> int:
    """Run the command and return its exit code as a shell would give it; with ``--dry-run`` print the plan."""
    from houseroom.session import sandbox

    where = request.places(given)
    if given.flag("dry-run") or given.flag("json") or (given.flag("verbose") and not given.flag("quiet")):
        return _told(given, where, cradle)
    return _end(carry_out(given, lambda command: sandbox.ready(where, request.wish(given), os.environb, cradle, command)), given)


def _told(given: Given, where: Places, cradle: Cradle) -> int:
    """With the plan before the eyes: shown instead of the run, before it, or after it."""
    from houseroom.session import sandbox

    what = request.policy(given, where)
    wish = request.wish(given)
    prepared = sandbox.prepare(what, where, accept=wish.accept, backend=wish.backend, observe=wish.observe, cradle=cradle)
    if given.flag("dry-run"):
        with prepared:
            return _show(prepared, given)
    if not given.flag("json"):
        _announce(prepared)
    outcome = carry_out(given, lambda _command: prepared)
    if given.flag("json"):
        _report(prepared, outcome, given)
        return outcome.exit_code
    return _end(outcome, given)


def carry_out(given: Given, start: Callable[[Command], Prepared | Again]) -> Outcome:
    """Run the command to its end; at a terminal, in one of its own."""
    from houseroom.session import sandbox

    command = _command(given)
    if os.isatty(0) and os.isatty(1):
        from houseroom.frontends.cli import terminal

        return terminal.run(start, command)
    return sandbox.run(start(command), command)


def _command(given: Given) -> Command:
    from houseroom.session import sandbox

    cwd = given.one("cwd")
    return sandbox.Command(tuple(os.fsencode(word) for word in given.words), os.path.abspath(cwd) if cwd else "")


def _end(outcome: Outcome, given: Given) -> int:
    """Say what the exit code alone does not. A command that merely failed has said so itself."""
    if outcome.detail and outcome.kind != "not-started" and not given.flag("quiet"):
        from houseroom.frontends.cli import paper

        paper.note(outcome.detail)
    if outcome.kind == "not-started":
        from houseroom.frontends.cli import paper

        paper.fail(outcome.detail or f"can't run {given.words[0]}")
    if (outcome.notes or outcome.refused or outcome.reached) and given.spec.name == "run" and not given.flag("quiet"):
        from houseroom.frontends.cli import denials

        denials.tell(given, outcome)
    return outcome.exit_code


def _report(prepared: Prepared, outcome: Outcome, given: Given) -> None:
    from houseroom.frontends.cli import denials, paper
    from houseroom.session import denials as found

    observed = found.read(outcome.notes)
    paper.json_line(
        {
            "outcome": outcome.kind,
            "code": outcome.code,
            "exit_code": outcome.exit_code,
            "detail": outcome.detail,
            "rung": prepared.plan.rung,
            "coverage": coverage(prepared),
            "observed": request.wish(given).observe,
            "denials": denials.as_document((*found.explain(prepared.placed, observed), *outcome.refused)),
            "reached": [each.as_document() for each in outcome.reached],
            "executions": denials.executions(observed),
            "lost": observed.lost,
        }
    )


def _announce(prepared: Prepared) -> None:
    from houseroom.frontends.cli import paper

    paper.note(f"workspace {prepared.placed.places.workspace}, policy {prepared.policy.name}, enforced by {prepared.plan.rung}")
    for row in prepared.plan.coverage:
        if row.state != "enforced":
            paper.note(f"{row.rule} is {row.state}: {'; '.join(row.loses)}")
    withheld = _withheld(prepared)
    if withheld:
        paper.note(f"withheld from the environment: {', '.join(withheld)} (--pass NAME passes one)")
    if prepared.placeholders:
        paper.note(f"placeholders in the environment: {', '.join(prepared.placeholders)} (the proxy knows what they stand for)")


def _show(prepared: Prepared, given: Given) -> int:
    from houseroom.frontends.cli import paper

    if prepared.inspection:
        prepared.inspection.check(prepared.placed, os.environb)
    if given.flag("json"):
        paper.put_json(
            {
                "policy": prepared.policy.name,
                "rung": prepared.plan.rung,
                "command": list(given.words),
                "steps": [{"step": type(step).__name__, **_fields(step)} for step in prepared.plan.steps],
                "coverage": coverage(prepared),
                "withheld": _withheld(prepared),
                "placeholders": list(prepared.placeholders),
            }
        )
        return 0
    from houseroom.plan import render

    paper.put(paper.clean(render.as_text(prepared.plan)))
    return 0


def _withheld(prepared: Prepared) -> list[str]:
    """Before the start there is nothing in the place of a credential yet."""
    return [name for name in prepared.withheld if name not in prepared.placeholders]


def coverage(prepared: Prepared) -> list[dict[str, object]]:
    """The plan's coverage for ``--json``: rule, state, by, loses."""
    return [_fields(row) for row in prepared.plan.coverage]


def _fields(record: object) -> dict[str, object]:
    names: tuple[str, ...] = type(record).__match_args__  # type: ignore[attr-defined]
    return {name: getattr(record, name) for name in names}
