"""``houseroom explain connect HOST:PORT`` or a request: may it be reached, by which rule, what allows it. Paths: ``explain_socket``."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

from shlex import join

from houseroom.frontends.cli import paper, request
from houseroom.frontends.cli.options import UsageError
from houseroom.frontends.cli.paper import BOLD, DIM, GREEN, RED, Column, Paper, Text
from houseroom.policy import hosts
from houseroom.policy.connect import Connect, PlacedNetwork, Reachable, decide
from houseroom.policy.credentials import credentials
from houseroom.policy.hosts import Address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from houseroom.frontends.cli.options import Given
    from houseroom.policy.connect import Reached

_PORT = 443  # where none is named


def explain_connect(given: Given, word: str) -> int:
    """Print the explanation. Returns 0 where it may be reached, else 1. Nobody is asked for the name."""
    from houseroom.session.proxy.own import own_addresses

    if word[:1] in ("/", "~", ".", "@", "{"):
        from houseroom.frontends.cli.explain_socket import explain_socket

        return explain_socket(given, word)
    act = _act(word)
    where = request.places(given)
    policy = request.policy(given, where)
    decision = decide(PlacedNetwork(policy, own_addresses()), act)
    used = [each.variable for each, _ in credentials(policy) if each.where.names(act.host) and each.where.has_port(act.port)]
    if used and isinstance(decision, Reachable):
        decision = decision.with_(inspects=True)
    if given.flag("json"):
        paper.put_json({**as_document(decision), "credentials": used})
    else:
        paper.put(as_text(decision, Paper.of_stdout(), used))
    return 0 if isinstance(decision, Reachable) else 1


def _act(word: str) -> Connect:
    """``[METHOD ]HOST[:PORT][/PATH]``; a path alone is asked for with GET."""
    method, blank, rest = word.partition(" ")
    method, rest = (method, rest) if blank else ("", word)
    where, slash, path = rest.partition("/")
    host, port = _destination(where)
    if not method and not slash:
        return Connect(host, port)
    return Connect(host, port, method or "GET", f"/{path.partition('?')[0]}")


def _destination(word: str) -> tuple[str | Address, int]:
    text, colon, number = word.rpartition(":")
    if not colon or number.endswith("]") or (":" in text and not text.endswith("]")):
        text, number = word, str(_PORT)
    try:
        port = int(number) if number.isascii() and number.isdecimal() else 0
        if not 0 < port < 1 << 16:
            raise ValueError(f"has a port that is none: {number}")
        return hosts.host(text), port
    except ValueError as error:
        raise UsageError(f"{word!r} {error}", "Write HOST:PORT, such as pypi.org:443, or the path of a socket.", "explain") from None


def as_document(decision: Reached) -> dict[str, object]:
    """The decision for ``--json``."""
    rule = decision.why.rule
    return {
        "act": "connect",
        "subject": str(decision.act),
        "inspects": isinstance(decision, Reachable) and decision.inspects,
        "decision": "allow" if isinstance(decision, Reachable) else "deny",
        "sentence": decision.why.sentence,
        "rule": None if rule is None else {"key": rule.key, "subject": rule.subject, "reason": rule.reason, "origin": str(rule.origin)},
        "grant": list(decision.why.grant) or None,
    }


def as_text(decision: Reached, sheet: Paper, used: Sequence[str] = ()) -> str:
    """The decision for a person. ``used``: variables whose values are put in there."""
    allowed, rule = isinstance(decision, Reachable), decision.why.rule
    word, style = ("ALLOW", GREEN) if allowed else ("DENY ", RED)
    head = sheet.prose(Text(f"connect {decision.act}", BOLD), 7)
    rows = [(Text("rule", DIM), Text(f"{rule} ({rule.origin}, layer {rule.origin.layer})" if rule else "none"))]
    if rule and rule.reason:
        rows.append((Text("reason", DIM), Text(rule.reason)))
    if isinstance(decision, Reachable) and decision.inspects and not decision.act.method:
        note = "what is asked there is looked into, inside TLS too, and decided request by request"
        rows.append((Text("note", DIM), Text(note)))
    if allowed and used:
        rows.append((Text("note", DIM), Text(f"inside TLS the value of {', '.join(used)} is put in, which commands don't see")))
    if allowed and isinstance(decision.act.host, str):
        note = "where the name leads is judged when it is connected to: public addresses, or such as a rule names"
        rows.append((Text("note", DIM), Text(note)))
    table = sheet.table(rows, (Column(wrap=False), Column()), indent=7)
    lines = [sheet.ink(word, style) + head[5:], sheet.prose(decision.why.sentence, 7), table]
    if decision.why.grant:
        command = sheet.set(f"{join(decision.why.grant)} -- COMMAND")
        lines += ["", sheet.prose(Text("To allow it for one run:", BOLD), 7), f"{'':9}{command}"]
    return "\n".join(lines)
