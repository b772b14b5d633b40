"""``houseroom learn``: run a command with everything observed, and propose the policy that would have sufficed.

The command runs in the sandbox of the present policy: what is refused is refused, so it may get further after what was
proposed has been granted, and need more. Nothing is written without being shown and asked for.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

from houseroom.errors import PolicyError
from houseroom.frontends.cli import paper, request, run
from houseroom.frontends.cli.denials import allow, as_document, on_one_line
from houseroom.frontends.cli.options import UsageError
from houseroom.frontends.cli.paper import BOLD, CYAN, DIM, GREEN, RED, Paper, Text
from houseroom.policy.propose import propose
from houseroom.policy.record import Record
from houseroom.policy.toml_edit import NotEditable, add
from houseroom.session import denials as found

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from houseroom.frontends.cli.options import Given
    from houseroom.policy.denials import Denial
    from houseroom.policy.model import Places
    from houseroom.policy.observation import Observed
    from houseroom.policy.propose import Line, Proposal
    from houseroom.session.sandbox import Outcome, Prepared

MOST = 12  # lines of one kind that are shown


class Target(Record):
    """The policy file that the proposal is for. ``text`` None: there is none yet; ``base``: what a new one has to begin with."""

    path: str
    text: str | None
    layer: str
    base: str = ""


class Learned(Record):
    """What is shown: the proposal for a file, and the file's new text (``why_not`` says why there is none)."""

    proposal: Proposal
    target: Target
    text: str
    why_not: str = ""
    lost: int = 0
    withheld: tuple[str, ...] = ()


def learn(given: Given) -> int:
    """Run, show, perhaps write. Returns the command's exit code, or that of a policy that could not be written."""
    from houseroom.session import sandbox

    where = request.places(given)
    target = _target(given, where)
    policy = request.policy(given, where)
    prepared = sandbox.prepare(policy, where, accept=request.accepted(given), backend=request.backend(given), observe="all")
    if all(getattr(step, "observe", "off") == "off" for step in prepared.plan.steps):
        prepared.close()
        raise PolicyError("can't observe a command: this host refuses notifications of system calls", hint="`houseroom doctor` says more.")
    outcome = run.carry_out(given, lambda _command: prepared)
    learned = _learned(prepared, found.read(outcome.notes), target)
    if given.flag("json"):
        paper.json_line(_document(learned, outcome))
    else:
        sheet = Paper(Paper.of_stdout().width, paper.wants_colour(sys.stderr))
        paper.tell(as_text(learned, where, sheet))
    if given.flag("save") and learned.proposal.lines and not learned.why_not:
        _save(given, learned, where)
    return outcome.exit_code


# Which file


def _target(given: Given, where: Places) -> Target:
    """The file that ``--into`` names: the user's, the project's, or a profile of the user's. Raises UsageError, PolicyError."""
    from houseroom.policy.parse import check_profile_name
    from houseroom.policy.presets import NAMES
    from houseroom.session import policy_files

    profile = given.one("profile")
    into = given.one("into") or profile or "user"
    if into == "project":
        return Target(policy_files.project_path(where), policy_files.read_project(where), "project")
    if into == "user":
        if profile is not None:
            raise UsageError("under --profile your policy file grants nothing", f"Name a profile of yours: --into {profile}.", "learn")
        path, text = policy_files.read_own(where, "")
        return Target(path, text, "user")
    if into in NAMES:
        hint = f"Name a profile that is to extend it, such as --into my-{into}."
        raise UsageError(f"{into} is built in and can't be added to", hint, "learn")
    if wrong := check_profile_name(into):
        raise UsageError(f"{into!r} is not the name of a profile", wrong, "learn")
    path, text = policy_files.read_own(where, into)
    return Target(path, text, "user", "" if text is not None else profile or "workspace")


# What was learned


def _learned(prepared: Prepared, observed: Observed, target: Target) -> Learned:
    ground = found.ground(seen for seen in observed.seen if seen.denied)
    denials = found.explain(prepared.placed, observed)
    run_by_host = tuple(os.path.realpath(entry) for entry in os.environ.get("PATH", "").split(":") if entry[:1] == "/")
    project = target.layer == "project"
    proposal = propose(prepared.placed, observed, denials, ground, run_by_host=run_by_host, project=project)
    text, why_not = target.text or "", ""
    try:
        text = new_text(target, proposal.lines)
    except NotEditable as error:
        why_not = str(error)
    return Learned(proposal, target, text, why_not, observed.lost, prepared.withheld)


def new_text(target: Target, lines: Sequence[Line]) -> str:
    """The file's text with the proposed lines. Raises NotEditable, also for what would not be read as a policy."""
    from houseroom.policy.parse import parse

    text = target.text if target.text is not None else f'extends = "{target.base}"\n' if target.base else ""
    for key in ("files.read", "files.write"):
        section, _, leaf = key.partition(".")
        mine = [(line.subject, line.said) for line in lines if line.key == key]
        if mine:
            text = add(text, section, leaf, mine)
    try:
        parse(text, layer=target.layer, file=target.path)
    except PolicyError as error:
        raise NotEditable(str(error)) from None
    return text


# What is shown


def as_text(learned: Learned, where: Places, sheet: Paper) -> str:
    """The diff, and below it what a person has to think about."""
    proposal, target = learned.proposal, learned.target
    parts = [_head(learned, where, sheet)]
    if proposal.lines and not learned.why_not:
        parts.append(_diff(target, learned.text, where, sheet))
    elif proposal.lines:
        parts.append(sheet.prose(f"It can't be added to {request.spelt(target.path, where)}: {learned.why_not}. Write it by hand:", 2))
        parts.append("\n".join(f"    {sheet.set(f'{line.key}: {line.subject}')}" for line in proposal.lines))
    parts += [
        _block("Would be proposed if it existed; create it first", _missing(proposal.missing), sheet),
        _block("Refused on purpose; to allow it all the same", _denials(proposal.kept, where), sheet),
        _block("Refused, and no line of this policy would help", _denials(proposal.beyond, where), sheet),
        _block("Could be narrower: never written", [str(rule) for rule in proposal.unused], sheet),
        _block("Could be narrower: besides the workspace it read only below", list(proposal.read), sheet),
        _block("Written into a layer that was dropped at the end", list(proposal.dropped), sheet),
        _block("Withheld from the environment; whether it was looked for can't be seen", [" ".join(learned.withheld)], sheet),
    ]
    if learned.lost:
        parts.append(sheet.prose(f"At least {learned.lost} more different things were tried than could be kept.", 2))
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(learned: Learned, where: Places, sheet: Paper) -> str:
    file = request.spelt(learned.target.path, where)
    said = f"what it would need in {file}:" if learned.proposal.lines else "it needs nothing that your policy could grant."
    return f"{sheet.ink('houseroom:', CYAN)} {sheet.set(said)}"


def _diff(target: Target, text: str, where: Places, sheet: Paper) -> str:
    from difflib import unified_diff

    path = request.spelt(target.path, where)
    old, new = (target.text or "").splitlines(), text.splitlines()
    lines = unified_diff(old, new, "/dev/null" if target.text is None else path, path, lineterm="")
    styles = {"+": GREEN, "-": RED, "@": DIM}
    return "\n".join(sheet.set(Text(line, BOLD if line[:3] in ("+++", "---") else styles.get(line[:1], ""))) for line in lines)


def _block(title: str, rows: Iterable[str], sheet: Paper) -> str:
    shown = [row for row in rows if row]
    if not shown:
        return ""
    more = [f"and {len(shown) - MOST} more"] if len(shown) > MOST else []
    return "\n".join((sheet.prose(Text(f"{title}:", BOLD), 2), *(sheet.prose(row, 4, 6) for row in (*shown[:MOST], *more))))


def _missing(lines: Iterable[Line]) -> list[str]:
    return [f"{line.subject} ({line.said.removeprefix('learned: ')})" for line in lines]


def _denials(denials: Iterable[Denial], where: Places) -> list[str]:
    out = []
    for denial in denials:
        path = request.spelt(denial.path, where) if denial.path[:1] == "/" else denial.path
        how = allow(denial, where) or denial.obstacle or denial.rule
        out.append(on_one_line(f"{denial.access} {path}: {denial.reason}. {how}"))
    return out


def _document(learned: Learned, outcome: Outcome) -> dict[str, object]:
    proposal = learned.proposal
    return {
        "outcome": outcome.kind,
        "code": outcome.code,
        "exit_code": outcome.exit_code,
        "file": learned.target.path,
        "text": learned.text if proposal.lines and not learned.why_not else None,
        "why_not": learned.why_not,
        "add": [{"key": line.key, "value": line.subject, "said": line.said} for line in proposal.lines],
        "missing": [{"key": line.key, "value": line.subject, "said": line.said} for line in proposal.missing],
        "kept": as_document(proposal.kept),
        "beyond": as_document(proposal.beyond),
        "unused": [str(rule) for rule in proposal.unused],
        "read": list(proposal.read),
        "dropped": list(proposal.dropped),
        "withheld": list(learned.withheld),
        "lost": learned.lost,
    }


def _save(given: Given, learned: Learned, where: Places) -> None:
    """Ask, unless ``--yes`` did, and write the file anew. Raises PolicyError, SetupFailed."""
    from houseroom.session import policy_writing

    file = request.spelt(learned.target.path, where)
    if not given.flag("yes"):
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            paper.fail("nobody can be asked: this is no terminal", "Read the proposal, then run it again with --save --yes.")
            return
        paper.tell(f"Write this to {file}? [y/N] ", end="")
        if os.read(0, 100).decode("utf-8", "replace").strip().lower() not in ("y", "yes"):
            return
    policy_writing.replace(learned.target.path, learned.target.text, learned.text, follow=learned.target.layer == "user")
    hint = ". It counts once you trust it: houseroom trust" if learned.target.layer == "project" else ""
    paper.note(f"written: {file}{hint}")
