"""``houseroom explain``: a decision, its reason, what carries it out on this host, and what would change it."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

from houseroom.errors import CannotEnforce, PolicyError
from houseroom.frontends.cli import mechanism, paper, request
from houseroom.frontends.cli.options import UsageError
from houseroom.frontends.cli.paper import BOLD, DIM, GREEN, RED, YELLOW, Column, Paper, Text
from houseroom.policy.decide import Allow, Read, Run, Variable, Write, decide
from houseroom.policy.model import Rule
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.frontends.cli.options import Given
    from houseroom.policy.decide import Act, Decision, PlacedPolicy
    from houseroom.policy.model import Places
    from houseroom.session.sandbox import Prepared

VERBS: dict[str, type[Read | Write | Run | Variable]] = {"read": Read, "write": Write, "run": Run, "variable": Variable}
_VERBS_WANTED = "Write read, write or run before a path, variable before a name, or connect before HOST:PORT."
MOST_LINKS = 40  # path_resolution(7): more is ELOOP


class Grant(Record):
    """How a denial becomes an allowance. ``obstacle`` says why the option is not enough, "" where it is."""

    options: tuple[str, ...]
    policy: str
    obstacle: str = ""


class Answer(Record):
    """One decision with all that is shown about it. ``state`` and ``loses`` are the coverage of its rule on this host."""

    verb: str
    decision: Decision
    mechanism: tuple[str, ...]
    state: str = "enforced"
    loses: tuple[str, ...] = ()
    grant: Grant | None = None
    notes: tuple[str, ...] = ()


class Report(Record):
    """What was asked about, where it leads, and the answers. ``links``: symbolic links on the way, each with its target."""

    subject: str
    resolved: str
    links: tuple[tuple[str, str], ...]
    answers: tuple[Answer, ...]


class _Asked(Record):
    """What every answer needs: the command line, the places, the policy on this host, the links on the way."""

    given: Given
    where: Places
    prepared: Prepared
    links: tuple[tuple[str, str], ...] = ()


def explain(given: Given) -> int:
    """Print the explanation. Returns 0 where everything asked about is allowed, else 1."""
    if given.words[0] == "connect" and len(given.words) == 2:
        from houseroom.frontends.cli.explain_connect import explain_connect

        return explain_connect(given, given.words[1])
    verbs, word = _question(given)
    where = request.places(given)
    with request.unfloored(given, where, request.policy(given, where)) as prepared:
        report = _report(_Asked(given, where, prepared), verbs, word)
    if given.flag("json"):
        paper.put_json(as_document(report))
    else:
        paper.put(as_text(report, where, Paper.of_stdout()))
    return 0 if all(isinstance(answer.decision, Allow) for answer in report.answers) else 1


def _question(given: Given) -> tuple[tuple[str, ...], str]:
    first, *rest = given.words
    if rest and first not in VERBS:
        raise UsageError(
            f"can't explain {first!r}",
            _VERBS_WANTED,
            "explain",
        )
    if rest:
        return (first,), rest[0]
    if first in VERBS:
        raise UsageError(
            f"explain {first} needs {'a name' if first == 'variable' else 'a path'}",
            f"Write houseroom explain {first} {'NAME' if first == 'variable' else 'PATH'}.",
            "explain",
        )
    return ("read", "write"), first


def _report(asked: _Asked, verbs: tuple[str, ...], word: str) -> Report:
    if verbs == ("variable",):
        return Report(word, word, (), (_answer(asked, "variable", Variable(word)),))
    begin = _program(word) if verbs == ("run",) else os.path.join(os.getcwd(), os.path.expanduser(word))
    resolved, links = follow(begin)
    asked = asked.with_(links=links)
    return Report(word, resolved, links, tuple(_answer(asked, verb, VERBS[verb](resolved)) for verb in verbs))


def _program(word: str) -> str:
    """Where execvp(3) would find a program."""
    if "/" in word:
        return os.path.join(os.getcwd(), os.path.expanduser(word))
    from shutil import which

    found = which(word)
    if found is None:
        raise UsageError(f"can't find a program {word!r} on the PATH", "Give its path.", "explain")
    return os.path.join(os.getcwd(), found)


def follow(path: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The path that the kernel would end at, and each symbolic link on the way with its target (path_resolution(7)).

    What is missing is kept as it is spelt. After ``MOST_LINKS`` links the rest is not followed.
    """
    left = [part for part in path.split("/") if part not in ("", ".")][::-1]
    done: list[str] = []
    links: list[tuple[str, str]] = []
    while left:
        part = left.pop()
        if part == "..":
            done = done[:-1]
            continue
        at = "/" + "/".join((*done, part))
        try:
            target = os.readlink(at) if len(links) < MOST_LINKS else ""
        except OSError:
            target = ""
        if not target:
            done.append(part)
            continue
        links.append((at, target))
        done = [] if target[0] == "/" else done
        left += [piece for piece in target.split("/") if piece not in ("", ".")][::-1]
    return "/" + "/".join(done), tuple(links)


def _answer(asked: _Asked, verb: str, act: Act) -> Answer:
    decision = through(asked.prepared.placed, act, asked.links)
    plan = asked.prepared.plan
    how = mechanism.mechanism(plan, decision)
    if isinstance(decision, Allow):
        return Answer(verb, decision, how, notes=_own_permissions(act))
    state, loses = mechanism.state(plan, decision)
    return Answer(verb, decision, how, state, loses, _grant(asked, act, decision))


def through(placed: PlacedPolicy, act: Act, links: tuple[tuple[str, str], ...]) -> Decision:
    """The decision for a path reached through links: each link must be readable itself."""
    for link, _ in links:
        passed = decide(placed, Read(link))
        if not isinstance(passed, Allow):
            return passed
    return decide(placed, act)


def _own_permissions(act: Act) -> tuple[str, ...]:
    """What the policy allows and the file's own permissions don't."""
    mode, verb = {Read: (os.R_OK, "read"), Write: (os.W_OK, "write"), Run: (os.X_OK, "run")}.get(type(act), (0, ""))
    if isinstance(act, Variable) or not os.path.lexists(act.path) or os.access(act.path, mode):
        return ()
    return (f"outside the sandbox you can't {verb} it either: its own permissions",)


def _grant(asked: _Asked, act: Act, denied: Decision) -> Grant:
    """What would allow ``act``, tried by deciding again with that rule added."""
    from houseroom.policy.export import quoted

    subject: str = denied.act.values()[0]  # a link on the way, where that is what is denied
    section, leaf = (
        ("environment", "pass") if isinstance(act, Variable) else ("files", "write" if isinstance(denied.act, Write) else "read")
    )
    written = request.spelt(subject, asked.where) if section == "files" else subject
    grant = Grant((f"--{leaf}", subject), f"[{section}]\n{leaf} = [{quoted(written)}]")
    if section == "files" and not os.path.lexists(subject):
        return grant.with_(obstacle=f"{subject} does not exist: create it first, or name a directory above it")
    rule = Rule(f"{section}.{leaf}", subject, request.COMMAND_LINE)
    try:
        policy = request.policy(asked.given, asked.where, rule)
        with request.unfloored(asked.given, asked.where, policy) as prepared:
            after = through(prepared.placed, act, asked.links)
    except (PolicyError, CannotEnforce) as error:
        return grant.with_(obstacle=str(error))
    return grant if isinstance(after, Allow) else grant.with_(obstacle=_obstacle(act, after))


_MENDS = {
    "organisation": "Only who wrote it can change that.",
    "project": "Change that file, or read it and run `houseroom trust`.",
}


def _obstacle(act: Act, denied: Decision) -> str:
    """What still denies an act with the rule for it added."""
    rule = denied.why.rule
    if denied.act != act:
        return f"the way there is out of reach as well: {denied.why.sentence}"
    if rule is None:
        return "a policy above yours grants nothing here"
    return f"{rule} ({rule.origin}) forbids it. {_MENDS.get(rule.origin.layer, '')}".rstrip()


def as_document(report: Report) -> dict[str, object]:
    """The report for ``--json``."""
    return {
        "subject": report.subject,
        "resolved": report.resolved,
        "links": [{"link": link, "target": target} for link, target in report.links],
        "allowed": all(isinstance(answer.decision, Allow) for answer in report.answers),
        "answers": [_answer_document(answer) for answer in report.answers],
    }


def _answer_document(answer: Answer) -> dict[str, object]:
    decision, rule, grant = answer.decision, answer.decision.why.rule, answer.grant
    origin = rule.origin if rule else None
    return {
        "act": answer.verb,
        "decision": "allow" if isinstance(decision, Allow) else "deny",
        "access": decision.access if isinstance(decision, Allow) else None,
        "sentence": decision.why.sentence,
        "rule": {
            "key": rule.key,
            "subject": rule.subject,
            "reason": rule.reason,
            "layer": rule.origin.layer,
            "file": rule.origin.file,
            "line": rule.origin.line,
        }
        if rule and origin
        else None,
        "mechanism": list(answer.mechanism),
        "state": answer.state,
        "loses": list(answer.loses),
        "grant": {"options": list(grant.options), "policy": grant.policy, "obstacle": grant.obstacle} if grant else None,
        "notes": list(answer.notes),
    }


def as_text(report: Report, where: Places, sheet: Paper) -> str:
    """The report for a person. Answers that differ in the verb alone are said once."""
    from itertools import groupby

    parts = [_links(report, where, sheet)] if report.links else []
    parts += [_answers_text(report, list(same), where, sheet) for _, same in groupby(report.answers, _said)]
    return "\n\n".join(parts)


def _said(answer: Answer) -> tuple[object, ...]:
    return type(answer.decision), answer.decision.why.rule, answer.decision.why.sentence, answer.state, answer.loses


def _links(report: Report, where: Places, sheet: Paper) -> str:
    rows = [(Text("link", DIM), f"{request.spelt(link, where)} → {target}") for link, target in report.links]
    return sheet.table([*rows, (Text("leads to", DIM), request.spelt(report.resolved, where))], (Column(wrap=False), Column()), indent=0)


def _answers_text(report: Report, answers: list[Answer], where: Places, sheet: Paper) -> str:
    first = answers[0]
    decision, rule = first.decision, first.decision.why.rule
    word, style = ("ALLOW", GREEN) if isinstance(decision, Allow) else ("DENY ", RED)
    verbs = " and ".join(answer.verb for answer in answers)
    subject = report.resolved if first.verb == "variable" else request.spelt(report.resolved, where)
    head = sheet.prose(Text(f"{verbs} {subject}", BOLD), 7)
    rows = [("", _short(decision.why.sentence, where))]
    rows.append(("rule", f"{rule} ({request.spelt(str(rule.origin), where)}, layer {rule.origin.layer})" if rule else "none"))
    if rule and rule.reason:
        rows.append(("reason", rule.reason))
    walls = dict.fromkeys(wall for answer in answers for wall in answer.mechanism)
    if walls:
        rows.append(("mechanism", _short(" + ".join(walls), where)))
    rows += [("note", note) for note in dict.fromkeys(note for answer in answers for note in answer.notes)]
    body = [(Text(label, DIM), Text(text)) for label, text in rows[1:]]
    if first.state != "enforced":
        body.append((Text("but", YELLOW), Text(f"{first.state} on this host: {'; '.join(first.loses)}", YELLOW)))
    says = sheet.prose(rows[0][1], 7)
    table = sheet.table(body, (Column(wrap=False), Column()), indent=7)
    grants = [answer.grant for answer in answers if answer.grant]
    return "\n".join(filter(None, (sheet.ink(word, style) + head[5:], says, table, _grants_text(grants, where, sheet))))


def _grants_text(grants: list[Grant], where: Places, sheet: Paper) -> str:
    """The commands and policy lines that would grant it. They are not wrapped: they are there to be copied."""
    if not grants:
        return ""
    open_to_us = [grant for grant in grants if not grant.obstacle]
    obstacles = dict.fromkeys(grant.obstacle for grant in grants if grant.obstacle)
    lines = [""]
    if obstacles:
        lines += [sheet.prose(Text("To allow it, no option is enough:", BOLD), 7)]
        lines += [sheet.prose(Text(_short(obstacle, where), YELLOW), 9) for obstacle in obstacles]
    if open_to_us:
        lines.append(sheet.prose(Text("To allow it for one run:", BOLD), 7))
        lines += [
            f"{'':9}{sheet.set(f'houseroom run {option} {shell_word(subject, where)} -- COMMAND')}"
            for option, subject in (grant.options for grant in open_to_us)
        ]
        lines.append(sheet.prose(Text("To allow it for good, in ~/.config/houseroom/policy.toml:", BOLD), 7))
        section = open_to_us[0].policy.split("\n")[0]
        values = [grant.policy.split("\n")[1] for grant in open_to_us]
        values[1:] = [f"{value}   # reads too" for value in values[1:]]
        lines += [f"{'':9}{sheet.set(line)}" for line in (section, *values)]
    return "\n".join(lines)


def shell_word(subject: str, where: Places) -> str:
    """A subject as a shell wants it; ``~`` must stay bare to be expanded, bytes that can't be shown need bash's ``$'…'``."""
    from shlex import quote

    if not subject.isprintable():
        return "$'" + "".join(char if char.isprintable() and char not in "'\\" else _bytes(char) for char in subject) + "'"
    word = request.spelt(subject, where)
    return f"~/{quote(word[2:])}" if word[:2] == "~/" else quote(word)


def _bytes(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))


def _short(text: str, where: Places) -> str:
    """A sentence with the home directory's paths written with ``~``."""
    home = where.home.rstrip("/")
    return text.replace(f"{home}/", "~/") if home else text
