"""``houseroom run``: the hot path. What is imported at the top is paid for by every command."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

from houseroom.frontends.cli import request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.enforce.linux.launch import Cradle
    from houseroom.frontends.cli.options import Given
    from houseroom.policy.model import Places, Policy
    from houseroom.session.sandbox import Command, Outcome, Prepared


def run(given: Given, cradle: Cradle) -> int:
    """Run the command and return its exit code as a shell would give it; with ``--dry-run`` print the plan."""
    from houseroom.session import sandbox

    where = request.places(given)
    if given.flag("dry-run") or given.flag("json") or (given.flag("verbose") and not given.flag("quiet")):
        return _told(given, where, cradle)
    command = _command(given)
    start = sandbox.ready(where, request.wish(given), os.environb, cradle, command)
    return _end(sandbox.run(start, command), given)


def _told(given: Given, where: Places, cradle: Cradle) -> int:
    """With the plan before the eyes: shown instead of the run, before it, or after it."""
    from houseroom.session import sandbox

    what = request.policy(given, where)
    prepared = sandbox.prepare(what, where, accept=request.accepted(given), backend=request.backend(given), cradle=cradle)
    if given.flag("dry-run"):
        with prepared:
            return _show(prepared, given)
    if not given.flag("json"):
        _announce(prepared)
    outcome = sandbox.run(prepared, _command(given))
    if given.flag("json"):
        _report(prepared, outcome)
        return outcome.exit_code
    return _end(outcome, given)


def _command(given: Given) -> Command:
    from houseroom.session import sandbox

    cwd = given.one("cwd")
    return sandbox.Command(tuple(os.fsencode(word) for word in given.words), os.path.abspath(cwd) if cwd else "")


def _end(outcome: Outcome, given: Given) -> int:
    """Say what the exit code alone does not. A command that merely failed has said so itself."""
    if outcome.detail and outcome.kind != "not-started" and not given.flag("quiet"):
        from houseroom.frontends.cli import paper

        paper.note(outcome.detail)
    if outcome.kind in ("timed-out", "not-started"):
        from houseroom.frontends.cli import paper

        if outcome.kind == "not-started":
            paper.fail(outcome.detail or f"can't run {given.words[0]}")
        elif not given.flag("quiet"):
            paper.note(_why_stopped(request.policy(given, request.places(given))))
    return outcome.exit_code


def _report(prepared: Prepared, outcome: Outcome) -> None:
    from houseroom.frontends.cli import paper

    paper.json_line(
        {
            "outcome": outcome.kind,
            "code": outcome.code,
            "exit_code": outcome.exit_code,
            "detail": outcome.detail,
            "rung": prepared.plan.rung,
            "coverage": coverage(prepared),
        }
    )


def _why_stopped(policy: Policy) -> str:
    """Which limit it was: the shorter one, with its origin."""
    from houseroom.policy.export import value_text

    limits = [(key, setting) for key in ("limits.time", "session.expires") if (setting := policy.setting(key))]
    key, setting = min(limits, key=lambda limit: float(str(limit[1].value)))
    return f"stopped after {value_text(key, setting.value)}: {key} ({setting.origin})"


def _announce(prepared: Prepared) -> None:
    from houseroom.frontends.cli import paper

    paper.note(f"workspace {prepared.placed.places.workspace}, policy {prepared.policy.name}, enforced by {prepared.plan.rung}")
    for row in prepared.plan.coverage:
        if row.state != "enforced":
            paper.note(f"{row.rule} is {row.state}: {'; '.join(row.loses)}")
    if prepared.withheld:
        paper.note(f"withheld from the environment: {', '.join(prepared.withheld)} (--pass NAME passes one)")


def _show(prepared: Prepared, given: Given) -> int:
    from houseroom.frontends.cli import paper

    if given.flag("json"):
        paper.put_json(
            {
                "policy": prepared.policy.name,
                "rung": prepared.plan.rung,
                "command": list(given.words),
                "steps": [{"step": type(step).__name__, **_fields(step)} for step in prepared.plan.steps],
                "coverage": coverage(prepared),
                "withheld": list(prepared.withheld),
            }
        )
        return 0
    from houseroom.plan import render

    paper.put(paper.clean(render.as_text(prepared.plan)))
    return 0


def coverage(prepared: Prepared) -> list[dict[str, object]]:
    """The plan's coverage for ``--json``: rule, state, by, loses."""
    return [_fields(row) for row in prepared.plan.coverage]


def _fields(record: object) -> dict[str, object]:
    names: tuple[str, ...] = type(record).__match_args__  # type: ignore[attr-defined]
    return {name: getattr(record, name) for name in names}
