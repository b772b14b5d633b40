"""``houseroom trust``: a person reads the project's policy, sees what it would widen, and says yes to exactly that text."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

from houseroom.errors import PolicyError
from houseroom.frontends.cli import paper, request
from houseroom.frontends.cli.paper import BOLD, DIM, YELLOW, Column, Paper, Text
from houseroom.policy.model import HIDE, PRIVATE, PROTECT, RANK, READ, SCRATCH
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.frontends.cli.options import Given
    from houseroom.policy.decide import PlacedPolicy
    from houseroom.policy.layers import Document
    from houseroom.policy.model import Places, Policy, Rule
    from houseroom.session.trust import Trusted


class Widening(Record):
    """A line of the project's policy that would grant more than is granted without it."""

    line: int
    says: str
    now: str


def trust(given: Given) -> int:
    """Show, ask, record; or list, or revoke. Returns 1 where the answer was no."""
    where = request.places(given)
    if given.flag("list"):
        return _list(given, where)
    if given.flag("revoke"):
        return _revoke(given, where)
    return _trust(given, where)


def _list(given: Given, where: Places) -> int:
    from houseroom.session.trust import listing

    entries = listing(where)
    if given.flag("json"):
        paper.put_json(
            [{"path": entry.path, "sha256": entry.sha256, "since": entry.since, "current": _current(entry)} for entry in entries]
        )
        return 0
    rows = [
        (Text(request.spelt(entry.path, where)), Text("" if _current(entry) else "changed since: trusted no longer", YELLOW))
        for entry in entries
    ]
    paper.put(Paper.of_stdout().table(rows, (Column(), Column()), 0) if rows else "No project's policy is trusted.")
    return 0


def _current(entry: Trusted) -> bool:
    """Whether the file still has the trusted text."""
    from houseroom.session.trust import digest

    try:
        with open(entry.path, encoding="utf-8") as file:
            return digest(file.read()) == entry.sha256
    except (OSError, ValueError):
        return False


def _revoke(given: Given, where: Places) -> int:
    from houseroom.session.policy_files import project_path
    from houseroom.session.trust import untrust

    revoked = untrust(where)
    path = project_path(where)
    if given.flag("json"):
        paper.put_json({"path": path, "trusted": False, "was_trusted": revoked})
    else:
        paper.put(f"{paper.clean(request.spelt(path, where))}: {'trusted no longer' if revoked else 'was not trusted'}")
    return 0


def _trust(given: Given, where: Places) -> int:
    from houseroom.policy.parse import parse
    from houseroom.session import trust as record
    from houseroom.session.policy_files import load, project_path, read_project

    path = project_path(where)
    text = read_project(where)
    if text is None:
        hint = "A project's policy is .houseroom/policy.toml in its directory."
        raise PolicyError("there is no policy to trust", file=path, hint=hint)
    document = parse(text, layer="project", file=path)
    before = record.is_trusted(where, path, text)
    widens = () if before else widenings(document, load(where), where)
    agreed = before or given.flag("yes") or _ask(path, text, widens, where)
    if agreed and not before:
        entry = record.trust(where)
        if entry.sha256 != record.digest(text):  # somebody, perhaps an agent, wrote the file while it was being read
            record.untrust(where)
            raise PolicyError("the policy changed while you were reading it", file=path, hint="Run `houseroom trust` again.")
    if given.flag("json"):
        paper.put_json({"path": path, "sha256": record.digest(text), "trusted": agreed, "widens": [_document(row) for row in widens]})
    else:
        state = (
            "was trusted already"
            if before
            else "trusted, as long as its text stays the same"
            if agreed
            else "not trusted: it can only narrow"
        )
        paper.put(f"{paper.clean(request.spelt(path, where))}: {state}")
    return 0 if agreed else 1


def _document(row: Widening) -> dict[str, object]:
    return {"line": row.line, "says": row.says, "now": row.now}


def widenings(document: Document, current: Policy, where: Places) -> tuple[Widening, ...]:
    """What a project's policy would grant beyond the one that holds without it, in the order of its lines."""
    from houseroom.policy.decide import PlacedPolicy
    from houseroom.policy.export import value_text
    from houseroom.policy.model import narrowness

    current = current.with_(strata=tuple(stratum for stratum in current.strata if stratum.name != document.layer))
    placed = PlacedPolicy(current, where)
    rows = [row for rule in document.rules if (row := _rule(placed, rule)) is not None]
    for key, setting in document.settings.items():
        now = current.setting(key)
        if now is not None and narrowness(key, setting.value) > narrowness(key, now.value):
            rows.append(Widening(setting.origin.line, f"{key} {value_text(key, setting.value)}", f"now {value_text(key, now.value)}"))
        elif now is None and key.partition(".")[0] not in _UNLIMITED:
            rows.append(Widening(setting.origin.line, f"{key} {value_text(key, setting.value)}", "now not granted"))
    if document.extends not in (None, current.name, "read-only") and document.extends_origin is not None:
        rows.append(Widening(document.extends_origin.line, f"extends {document.extends}", f"now {current.name}"))
    return tuple(sorted(rows, key=lambda row: row.line))


# Lists besides [files] whose lines only ever take away.
_TAKING = ("environment.withhold", "network.deny", "floor.require")
# Sections in which absence means no limit, so that any value narrows.
_UNLIMITED = ("limits", "session")
_NOW = {
    HIDE: "now hidden",
    PRIVATE: "now empty and private",
    PROTECT: "now protected",
    READ: "now only read",
    SCRATCH: "now dropped at the end",
}


def _rule(placed: PlacedPolicy, rule: Rule) -> Widening | None:
    from houseroom.policy import pattern
    from houseroom.policy.decide import FILE_KEYS, Deny, Variable, decide

    if rule.key in _TAKING or rule.access == HIDE:
        return None
    if (
        rule.key == "environment.pass"
        and not pattern.is_glob(rule.subject)
        and not isinstance(decide(placed, Variable(rule.subject)), Deny)
    ):
        return None
    if rule.key not in FILE_KEYS:
        return Widening(rule.origin.line, str(rule), "now withheld" if rule.key == "environment.pass" else "now not granted")
    at = pattern.place(rule.subject, placed.places)
    if not at.literal:  # what it matches can't be listed; a wildcard that grants may always meet one that denies
        return Widening(rule.origin.line, str(rule), "wherever it matches")
    access, _ = placed.access(at.parts)
    return Widening(rule.origin.line, str(rule), _NOW.get(access, access)) if RANK[rule.access] > RANK[access] else None


def _ask(path: str, text: str, widens: tuple[Widening, ...], where: Places) -> bool:
    """Show the file and the question on standard error, read the answer from the terminal. No terminal means no."""
    sheet = Paper(Paper.of_stdout().width, paper.wants_colour(sys.stderr))
    paper.tell(question(path, text, widens, where, sheet))
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        paper.fail("nobody can be asked: this is no terminal", "Read the file, then run `houseroom trust --yes`.")
        return False
    paper.tell("Trust exactly this text? [y/N] ", end="")
    answer = os.read(0, 100).decode("utf-8", "replace").strip().lower()
    return answer in ("y", "yes")


def question(path: str, text: str, widens: tuple[Widening, ...], where: Places, sheet: Paper) -> str:
    """The policy's text with line numbers, and what it would widen."""
    lines = [(Text(str(number), DIM), Text(line)) for number, line in enumerate(text.expandtabs(4).rstrip().split("\n"), 1)]
    shown = sheet.ink(paper.clean(request.spelt(path, where)), BOLD) + "\n" + sheet.table(lines, (Column(wrap=False), Column()))
    if not widens:
        return f"{shown}\n\n{sheet.prose('It widens nothing: it narrows your policy the same without your trust.')}\n"
    rows = [(Text(f"line {row.line}", DIM), Text(row.says), Text(row.now, YELLOW)) for row in widens]
    table = sheet.table(rows, (Column(wrap=False), Column(), Column()))
    return f"{shown}\n\n{sheet.ink('With your trust it would widen your policy:', BOLD)}\n{table}\n"
