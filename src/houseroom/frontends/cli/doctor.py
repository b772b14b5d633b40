"""``houseroom doctor``: what this host can do, which rung of the ladder holds, and what each rule is enforced by."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

from houseroom.errors import CannotEnforce
from houseroom.frontends.cli import paper, request
from houseroom.frontends.cli.paper import BOLD, DIM, GREEN, RED, YELLOW, Column, Paper, Text
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.frontends.cli.options import Given
    from houseroom.plan.facts import Host
    from houseroom.plan.steps import Covered
    from houseroom.session.doctor import Check

RUNGS = {
    "namespaces": "namespaces and mounts of our own, Landlock, a system call filter",
    "bubblewrap": "namespaces and mounts made by the system's bubblewrap, Landlock, a system call filter",
    "landlock": "Landlock and a system call filter alone, no mounts",
    "none": "nothing here is enough to stand on",
}
_MARKS = {
    "works": ("✓", GREEN),
    "enforced": ("✓", GREEN),
    "partly": ("~", YELLOW),
    "missing": ("✗", RED),
    "unused": ("·", DIM),
}
_SECURITY_MODULES = "/sys/kernel/security/lsm"


class Report(Record):
    """All that doctor says. ``refused`` is why a launch would be refused, "" where it would start."""

    host: Host
    modules: str
    policy: str
    checks: tuple[Check, ...]
    rung: str
    coverage: tuple[Covered, ...]
    refused: str = ""


def doctor(given: Given) -> int:
    """Print the examination. Returns 0 where the policy would start here, else 125."""
    report = examine(given)
    if given.flag("json"):
        paper.put_json(as_document(report))
    else:
        paper.put(as_text(report, Paper.of_stdout()))
    return 125 if report.refused else 0


def examine(given: Given) -> Report:
    """Ask this host. Raises PolicyError."""
    from houseroom.session.doctor import checks, look_around, mechanisms

    where = request.places(given)
    policy = request.policy(given, where)
    refused = ""
    try:
        prepared = request.prepare(given, where, policy)
    except CannotEnforce as error:
        refused = str(error)
        try:
            prepared = request.unfloored(given, where, policy)
        except CannotEnforce:
            host = _host()
            return Report(host, _modules(), policy.name, mechanisms(host, look_around()), "none", (), refused)
    with prepared:
        plan = prepared.plan
        return Report(prepared.facts.host, _modules(), policy.name, tuple(checks(prepared)), plan.rung, plan.coverage, refused)


def _host() -> Host:
    """The host's answers where no plan can be made of them."""
    from houseroom.enforce.linux.launch import Cradle

    with Cradle() as cradle:
        return cradle.host()


def _modules() -> str:
    """The kernel's active security modules, comma-separated; "" where this can't be read."""
    try:
        with open(_SECURITY_MODULES, encoding="ascii", errors="replace") as file:
            return file.read().strip().replace(",", ", ")
    except OSError:
        return ""


def as_document(report: Report) -> dict[str, object]:
    """The report for ``--json``."""
    return {
        "ok": not report.refused,
        "refused": report.refused,
        "host": {**_fields(report.host), "security_modules": report.modules},
        "policy": report.policy,
        "rung": report.rung,
        "checks": [_fields(check) for check in report.checks],
        "coverage": [_fields(row) for row in report.coverage],
    }


def _fields(record: Record) -> dict[str, object]:
    return dict(zip(type(record).__match_args__, record.values()))


def as_text(report: Report, sheet: Paper) -> str:
    """The report for a person."""
    host = report.host
    user = "root" if host.uid == 0 else f"uid {host.uid}"
    about = [("kernel", f"{host.release} {host.machine}"), ("user", user)]
    about += [("modules", report.modules)] if report.modules else []
    about += [("WSL", str(host.wsl))] if host.wsl else []
    parts = [
        _title("This host", "", sheet) + sheet.table([(Text(k, DIM), v) for k, v in about], (Column(wrap=False), Column())),
        _title("Mechanisms", "each tried now", sheet) + _checks(report.checks, sheet),
        _title(f"Rung: {report.rung}", "", sheet) + sheet.prose(RUNGS.get(report.rung, ""), 2),
    ]
    if report.coverage:
        parts.append(_title(f"Policy: {report.policy}", "what each rule is enforced by", sheet) + _coverage(report.coverage, sheet))
    if any(_broken(check) for check in report.checks):
        parts.append(_title("Fixes", "", sheet) + "\n".join(_fix(check, sheet) for check in report.checks if _broken(check)))
    if report.refused:
        parts.append(sheet.prose(Text("A launch is refused here.", RED)) + "\n" + sheet.prose(report.refused, 2))
    else:
        parts.append(sheet.prose(Text("Every rule of the floor is enforced here.", GREEN)))
    return "\n\n".join(parts)


def _title(text: str, remark: str, sheet: Paper) -> str:
    return sheet.ink(paper.clean(text), BOLD) + (sheet.ink(f"  {remark}", DIM) if remark else "") + "\n"


def _checks(checks: tuple[Check, ...], sheet: Paper) -> str:
    rows = [(_mark(check.state), check.name, Text(check.said or check.state, DIM if check.state == "unused" else "")) for check in checks]
    return sheet.table(rows, (Column(wrap=False), Column(wrap=False), Column()))


def _broken(check: Check) -> bool:
    return bool(check.fix) and check.state == "missing"


def _fix(check: Check, sheet: Paper) -> str:
    """What to do about a mechanism. Not wrapped: it is there to be copied."""
    lines = [f"  {sheet.set(line)}" for line in check.fix.split("\n")]
    return "\n".join((sheet.prose(Text(f"# {check.name}", DIM), 2), *lines))


def _coverage(coverage: tuple[Covered, ...], sheet: Paper) -> str:
    rows: list[tuple[Text, Text, Text, Text]] = []
    for row in coverage:
        rows.append((_mark(row.state), Text(row.rule), Text(row.state), Text(", ".join(row.by))))
        rows += [(Text(""), Text(""), Text(""), Text(f"not stopped: {loss}", YELLOW)) for loss in row.loses]
    return sheet.table(rows, (Column(wrap=False), Column(wrap=False), Column(wrap=False), Column()))


def _mark(state: str) -> Text:
    return Text(*_MARKS.get(state, ("?", YELLOW)))
