"""``houseroom explain connect HOST:PORT`` or a request: may it be reached, by which rule, what allows it. Paths: ``explain_socket``."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

from houseroom.frontends.cli import paper, request
from houseroom.frontends.cli.options import UsageError
from houseroom.frontends.cli.paper import Paper
from houseroom.frontends.cli.verdict import Verdict
from houseroom.policy import hosts
from houseroom.policy.connect import Connect, PlacedNetwork, Reachable, decide
from houseroom.policy.credentials import credentials
from houseroom.policy.hosts import Address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from houseroom.frontends.cli.options import Given
    from houseroom.policy.connect import Reached
    from houseroom.policy.credentials import Credential

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
    used = [each for each, _ in credentials(policy) if each.where.names(act.host) and each.where.has_port(act.port)]
    if used and isinstance(decision, Reachable):
        decision = decision.with_(inspects=True)
    verdict = _verdict(decision, used)
    if given.flag("json"):
        put_in = [{"variable": each.variable, "from": str(each.source)} for each in used]
        paper.put_json(verdict.document(inspects=isinstance(decision, Reachable) and decision.inspects, credentials=put_in))
    else:
        paper.put(verdict.text(Paper.of_stdout()))
    return 0 if verdict.allows else 1


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


def _verdict(decision: Reached, used: Sequence[Credential]) -> Verdict:
    """``used``: what is put in there."""
    allowed, notes = isinstance(decision, Reachable), list[str]()
    if isinstance(decision, Reachable) and decision.inspects and not decision.act.method:
        notes.append("what is asked there is looked into, inside TLS too, and decided request by request")
    for each in used if allowed else ():
        notes.append(f"inside TLS the value of {each.variable} is put in, which commands don't see; it comes from {each.source.described}")
    if allowed and isinstance(decision.act.host, str):
        notes.append("where the name leads is judged when it is connected to: public addresses, or such as a rule names")
    why = decision.why
    return Verdict(allowed, str(decision.act), why.sentence, why.rule, why.grant, tuple(("note", note) for note in notes))
