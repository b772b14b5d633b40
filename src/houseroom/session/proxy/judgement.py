"""The proxy's one decision, the same by every road: may this be reached, and at which addresses."""

from __future__ import annotations

from errno import EACCES

from houseroom.policy.connect import ANY_PORT, Connect, PlacedNetwork, Reachable, Unreachable, decide, decide_resolved
from houseroom.policy.hosts import Address
from houseroom.session.proxy import outside
from houseroom.session.proxy.account import Account
from houseroom.session.proxy.own import own_addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from houseroom.policy.model import Policy


class Refused(OSError):
    """The policy does not let it through; EACCES is what a program is told that made a plain connection."""

    def __init__(self, decision: Unreachable):
        super().__init__(EACCES, decision.why.sentence)
        self.decision = decision


class Judge:
    """Decides, resolves, connects, and keeps account of it in a ledger, whose descriptor is ``tell``."""

    def __init__(self, policy: Policy, tell: int):
        self.placed, self.account = PlacedNetwork(policy, own_addresses()), Account(tell)

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
        return await outside.connect(fit, port)

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
        self.account.refuse(what, reason, rule, origin, allow)
