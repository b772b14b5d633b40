"""The proxy's one decision, the same by every road: may this be reached, and at which addresses."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import asyncio
from contextlib import suppress
from errno import EACCES, ENOMEM

from houseroom.policy.connect import (
    ANY_PORT,
    Connect,
    PlacedNetwork,
    Reachable,
    Unreachable,
    decide,
    decide_resolved,
    forbids_upstream,
    takes_upstream,
)
from houseroom.policy.credentials import credentials
from houseroom.policy.hosts import Address, Network
from houseroom.session.proxy import outside
from houseroom.session.proxy.account import Account
from houseroom.session.proxy.buffers import Buffers
from houseroom.session.proxy.own import own_addresses
from houseroom.session.proxy.upstream import Upstream

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from houseroom.policy.connect import Reached
    from houseroom.policy.model import Policy

_NO_PROXIES: Mapping[str, str] = {}
_RESOLVED_WITHIN = 2.0  # seconds, for a name that somebody else will resolve
_MOST_BEHIND = 10_000  # names and ports


class Refused(OSError):
    """The policy does not let it through; EACCES is what a program is told that made a plain connection."""

    def __init__(self, decision: Unreachable):
        super().__init__(EACCES, decision.why.sentence)
        self.decision = decision


class Judge:
    """Decides, resolves, connects, and keeps account of it in a ledger, whose descriptor is ``tell``.

    ``buffers``: how much each connection may hold, whoever it was made for.
    """

    def __init__(self, policy: Policy, tell: int, proxies: Mapping[str, str] = _NO_PROXIES):
        self.placed, self.account, self.buffers = PlacedNetwork(policy, own_addresses()), Account(tell), Buffers()
        self.upstream = Upstream(proxies, used=takes_upstream(policy))
        self.credentials = tuple(each.where for each, _ in credentials(policy))
        self.by_address = any(isinstance(each.host, Network) for each in self.placed.inspected())
        self.behind: set[tuple[str | Address, int]] = set()  # whose addresses have rules on requests

    def inspects(self, host: str | Address, port: int) -> bool:
        """Whether what is asked in a connection that was reached decides, so that it has to be read."""
        decision = decide(self.placed, Connect(host, port))
        if any(where.names(host) and where.has_port(port) for where in self.credentials):
            return True
        return (isinstance(decision, Reachable) and decision.inspects) or (host, port) in self.behind

    def check(self, host: str | Address, port: int, method: str = "", path: str = "") -> Connect:
        """Whether it may be reached at all, before anybody is asked for the name. Raises Refused."""
        act = Connect(host, port, method, path)
        decision = decide(self.placed, act)
        if isinstance(decision, Unreachable):
            self._refuse(decision)
        return act

    async def reach(self, host: str | Address, port: int, method: str = "", path: str = "") -> socket.socket:
        """A connection to it, at an address that was judged. Raises Refused and OSError.

        ``method`` and ``path``: of the one request it is for; without them it is a connection, and ``inspects`` says what to do with it.
        """
        act = self.check(host, port, method, path)
        try:
            sock = await (self._by_upstream(act) if self.by_upstream(host, port) else self._directly(act))
        except Refused:
            raise
        except OSError as error:
            raise self.missed(act, error) from None
        self.buffers.outer(sock)
        return sock

    async def _directly(self, act: Connect) -> socket.socket:
        found = (act.host,) if isinstance(act.host, Address) else await outside.addresses(act.host)
        decisions = [(address, decide_resolved(self.placed, act, address)) for address in found]
        fit = [address.reached for address, decision in decisions if isinstance(decision, Reachable)]
        refused = next((decision for _, decision in decisions if isinstance(decision, Unreachable)), None)
        if not fit and refused is not None:
            self._refuse(refused)
        self._look(act, [decision for _, decision in decisions])
        return await outside.connect(fit, act.port)

    def by_upstream(self, host: str | Address, port: int) -> bool:
        """Whether a connection is made by the host's own proxy. Port 0: at some port."""
        return self.upstream.used and bool(self.upstream.of(host, port))

    async def _by_upstream(self, act: Connect) -> socket.socket:
        """It resolves the name itself. Where the host can do so too, no address may be among them that is not to be reached."""
        found: tuple[Address, ...] = (act.host,) if isinstance(act.host, Address) else ()
        if isinstance(act.host, str):
            with suppress(OSError):  # TimeoutError too: many a host that has a proxy knows no names of the world
                async with asyncio.timeout(_RESOLVED_WITHIN):
                    found = await outside.addresses(act.host)
        for address in found:
            decision = decide_resolved(self.placed, act, address)
            if isinstance(decision, Unreachable):
                self._refuse(decision)
            self._look(act, [decision])
        return await self.upstream.connect(act.host, act.port)

    def missed(self, act: Connect, error: OSError) -> OSError:
        """A direct connection failed: where the host has a proxy for it that is not used, that is told. Returns what to raise."""
        variable = "" if self.upstream.used else self.upstream.of(act.host, act.port)
        if not variable:
            return error
        words = f"{error.strerror or error}; this host has a proxy of its own ({variable}), which is not used"
        option = "" if forbids_upstream(self.placed.policy, above=True) else "--upstream host"
        self.account.refuse(str(act), words, "", "", option)
        return OSError(error.errno or 0, f"{words}{option and f': houseroom run {option}'}")

    def _look(self, act: Connect, decisions: list[Reached]) -> None:
        """Remember where an address behind a name has rules on requests. Raises OSError where that is too much to keep."""
        if not self.by_address or not any(isinstance(decision, Reachable) and decision.inspects for decision in decisions):
            return
        if len(self.behind) >= _MOST_BEHIND and (act.host, act.port) not in self.behind:
            raise OSError(ENOMEM, "too many names whose addresses have rules on requests")
        self.behind.add((act.host, act.port))

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
        self.account.refuse(what, reason, rule, origin, allow and f"--allow {allow}")
