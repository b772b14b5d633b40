"""The proxy's one decision, the same by every road: may this be reached, and at which addresses."""

from __future__ import annotations

import os
from contextlib import suppress
from errno import EACCES

from houseroom.policy.connect import ANY_PORT, Connect, PlacedNetwork, Reachable, Unreachable, decide, decide_resolved
from houseroom.policy.hosts import Address
from houseroom.session.proxy import outside
from houseroom.session.proxy.buffers import Buffers
from houseroom.session.proxy.own import own_addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from houseroom.policy.model import Policy

_LONGEST_TOLD = 4096  # bytes of one refusal: a pipe takes so much whole or not at all (pipe(7))
_MOST_TOLD = 1000  # refusals: a sandbox can think of new names for ever


class Refused(OSError):
    """The policy does not let it through; EACCES is what a program is told that made a plain connection."""

    def __init__(self, decision: Unreachable):
        super().__init__(EACCES, decision.why.sentence)
        self.decision = decision


class Judge:
    """Decides, resolves, connects, and tells of what it refused. ``tell`` is a pipe that may be full: then it is not told.

    ``buffers``: how much each connection may hold, whoever it was made for.
    """

    def __init__(self, policy: Policy, tell: int):
        self.placed, self.tell, self.buffers = PlacedNetwork(policy, own_addresses()), tell, Buffers()
        self.told: set[str] = set()

    def check(self, host: str | Address, port: int) -> Connect:
        """Whether it may be reached at all, before anybody is asked for the name. Raises Refused."""
        act = Connect(host, port)
        decision = decide(self.placed, act)
        if isinstance(decision, Unreachable):
            self._refuse(decision)
        return act

    async def reach(self, host: str | Address, port: int) -> socket.socket:
        """A connection to it, at an address that was judged. Raises Refused and OSError."""
        act = self.check(host, port)
        found = (host,) if isinstance(host, Address) else await outside.addresses(host)
        decisions = [(address, decide_resolved(self.placed, act, address)) for address in found]
        fit = [address.reached for address, decision in decisions if isinstance(decision, Reachable)]
        refused = next((decision for _, decision in decisions if isinstance(decision, Unreachable)), None)
        if not fit and refused is not None:
            self._refuse(refused)
        sock = await outside.connect(fit, port)
        self.buffers.outer(sock)
        return sock

    def answers(self, name: str) -> bool:
        """Whether a name may be resolved: it may be reached at some port."""
        return isinstance(decide(self.placed, Connect(name, ANY_PORT)), Reachable)

    def _refuse(self, decision: Unreachable) -> None:
        rule, grant = decision.why.rule, decision.why.grant
        allow = grant[grant.index("--allow") + 1] if "--allow" in grant else ""
        self.note(str(decision.act), decision.why.sentence, str(rule or ""), str(rule.origin) if rule else "", allow)
        raise Refused(decision)

    def note(self, what: str, reason: str, rule: str = "", origin: str = "", allow: str = "") -> None:
        """Tell of a refusal, once: what was to be reached, why not, the rule and where it is, and the rule that would allow it."""
        if what in self.told or len(self.told) >= _MOST_TOLD:
            return
        self.told.add(what)
        parts = (" ".join(part.split()) for part in (what, reason, rule, origin, allow))
        line = "\t".join(parts).encode("utf-8", "backslashreplace")[: _LONGEST_TOLD - 1]
        with suppress(OSError):  # it is full, or nobody wants to know
            os.write(self.tell, line + b"\n")
