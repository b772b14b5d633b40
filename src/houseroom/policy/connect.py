"""May this be reached? The answer is a value that explains itself, for host names, addresses and single requests.

Each stratum is one voice, and all of them have to agree (docs/adr/0005-strata.md). Within a voice deny beats allow, whatever is
the more specific. By a voice's ``network.reach`` nothing is reached, what its rules list, or all but what they deny; a voice that
says nothing of its reach lists what its ``network.allow`` lists, where it wrote one, and otherwise only its denials count.

A name that is granted leads to public addresses. One that is not public has to be granted by itself or in a network, and by the
rule of an address no name is granted. An address that is denied is denied behind every name, and so is an IPv6 address that
carries a denied IPv4 address in it.
"""

from __future__ import annotations

from houseroom.policy import destinations, hosts
from houseroom.policy.decide import Why
from houseroom.policy.destinations import Destination
from houseroom.policy.hosts import Address
from houseroom.policy.model import REACH
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Final

    from houseroom.policy.model import Policy, Rule, Stratum

NONE: Final = "none"
LISTED: Final = "listed"
OPEN: Final = "open"
UNSAID: Final = ""  # no opinion
ANY_PORT: Final = 0


class Connect(Record):
    """Reach ``port`` of ``host``, a canonical name or an address. ``method`` empty: a connection, whose requests are not known yet.

    ``path`` is a request's as it stands on the wire, without the query. ``port`` ANY_PORT: what a question for a name's address
    asks; the answer leads to a connection, which is decided again.
    """

    host: str | Address
    port: int
    method: str = ""
    path: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if isinstance(self.host, Address) and self.host.family == 6 else str(self.host)
        where = f"{host}:{self.port}" if self.port != ANY_PORT else host
        return f"{self.method} {where}{self.path}" if self.method else where


class Reachable(Record):
    """It may be reached. ``inspects``: what is asked in the connection has to be read, and decided request by request."""

    act: Connect
    why: Why
    inspects: bool = False


class Unreachable(Record):
    """It may not be reached."""

    act: Connect
    why: Why


Reached = Reachable | Unreachable


class _Said(Record):
    """What one voice says. ``rule`` None where no rule decided."""

    rule: Rule | None
    words: str
    granted: bool = False
    inspects: bool = False


class _Rules:
    """Rules with what they name, found by the labels of a name without looking at each."""

    def __init__(self, rules: Iterable[Rule]):
        self.exact: dict[str, list[tuple[Destination, Rule]]] = {}
        self.wild: dict[str, list[tuple[Destination, Rule]]] = {}
        self.networks: list[tuple[Destination, Rule]] = []
        for rule in rules:
            self.add(destinations.parse(rule.subject), rule)

    def add(self, named: Destination, rule: Rule) -> None:
        if isinstance(named.host, str):
            (self.wild if named.wild else self.exact).setdefault(named.host, []).append((named, rule))
        else:
            self.networks.append((named, rule))

    def all(self) -> Iterator[Destination]:
        """What each rule names."""
        for group in (*self.exact.values(), *self.wild.values(), self.networks):
            yield from (named for named, _ in group)

    def on(self, host: str | Address, port: int, *, wholly: bool) -> list[tuple[Destination, Rule]]:
        """The rules on a host at a port, the most specific first. For ANY_PORT those on one at least, ``wholly`` those on every one."""
        if isinstance(host, Address):
            found = sorted(((named, rule) for named, rule in self.networks if named.names(host)), key=_network_length, reverse=True)
        else:
            labels = host.split(".")
            found = list(self.exact.get(host, ()))
            for at in range(1, len(labels)):
                found += self.wild.get(".".join(labels[at:]), ())
        if port == ANY_PORT:
            return [(named, rule) for named, rule in found if named.any_port or not wholly]
        return [(named, rule) for named, rule in found if named.has_port(port)]


def _network_length(found: tuple[Destination, Rule]) -> int:
    host = found[0].host
    return 0 if isinstance(host, str) else host.length


class _Voice:
    """One stratum's word on the network."""

    def __init__(self, stratum: Stratum, *, first: bool):
        setting = stratum.settings.get(REACH) or (None if first else stratum.narrows_to_list())
        self.origin = str(setting.origin) if setting else ""
        self.name = stratum.name
        self.reach = str(setting.value) if setting else (NONE if first else UNSAID)  # nothing said means nothing granted
        self.allow, self.deny = _Rules(stratum.under("network.allow")), _Rules(stratum.under("network.deny"))

    def ask(self, act: Connect, host: str | Address, *, needs_grant: bool) -> _Said:
        """What it says of a host. ``needs_grant`` False: of an address behind a granted name, where only denials count."""
        denied = self.leaves(act, host)
        if not denied.granted:
            return denied
        if self.reach == NONE:
            return _Said(None, f"network.reach is none ({self.origin})" if self.origin else "no policy opens the network")
        if self.reach in (OPEN, UNSAID) or not needs_grant:
            return denied
        granted = self.lists(act, host)
        return granted.with_(inspects=granted.inspects or denied.inspects)

    def leaves(self, act: Connect, host: str | Address) -> _Said:
        """What its denials leave."""
        inspects = False
        for each in (host, *host.embedded()) if isinstance(host, Address) else (host,):
            for named, rule in self.deny.on(each, act.port, wholly=True):
                if not named.inspects or (act.method and _fits(named, act, denying=True)):
                    return _Said(rule, f"{rule} ({rule.origin}) denies it")
                inspects = True
        return _Said(None, "no rule denies it", granted=True, inspects=inspects)

    def lists(self, act: Connect, host: str | Address) -> _Said:
        """What its list grants."""
        found = self.allow.on(host.reached if isinstance(host, Address) else host, act.port, wholly=False)
        plain = next((rule for named, rule in found if not named.inspects), None)
        if plain is not None:
            return _Said(plain, f"{plain} ({plain.origin}) allows it", granted=True)
        for named, rule in found:
            if not act.method or _fits(named, act, denying=False):
                return _Said(rule, f"{rule} ({rule.origin}) allows it", granted=True, inspects=True)
        if not found:
            return _Said(None, f"no rule of the {self.name} policy allows {Connect(host, act.port)}")
        why = _unclear(act.path) if any(named.path is not None and named.has_method(act.method) for named, _ in found) else ""
        return _Said(None, f"no rule of the {self.name} policy allows this request{why and f': its path {why}'}")


def _fits(named: Destination, act: Connect, *, denying: bool) -> bool:
    """Whether a rule is about a request. Some servers know no difference of case: a rule that denies doesn't either.

    A path that can be read in two ways is never granted by a rule on paths, and always denied by one.
    """
    if not named.has_method(act.method.upper() if denying else act.method):
        return False
    if named.path is None:
        return True
    try:
        segments = destinations.segments_of(act.path)
    except ValueError:
        return denying
    if denying:
        named = named.with_(path=tuple(part.lower() for part in named.path))
        segments = tuple(part.lower() for part in segments)
    return named.has_path(segments)


def _unclear(path: str) -> str:
    try:
        destinations.segments_of(path)
    except ValueError as error:
        return str(error)
    return ""


class PlacedNetwork:
    """A policy's rules on the network, read once: the only thing ``decide`` accepts.

    ``own``: the addresses of this host. Raises PolicyError for a rule that names no destination.
    """

    def __init__(self, policy: Policy, own: frozenset[Address] = frozenset()):
        self.policy, self.own = policy, own
        self.voices = [_Voice(stratum, first=not at) for at, stratum in enumerate(policy.strata)]

    def inspected(self) -> tuple[Destination, ...]:
        """What the rules on requests name: nothing else is ever looked into."""
        lists = [rules for voice in self.voices for rules in (voice.allow, voice.deny)]
        return tuple(dict.fromkeys(named for rules in lists for named in rules.all() if named.inspects))

    @property
    def reach(self) -> str:
        """The narrowest reach of all voices: none, listed or open."""
        said = {voice.reach for voice in self.voices} - {UNSAID}
        return next((reach for reach in (NONE, LISTED) if reach in said), OPEN if said else NONE)


def takes_upstream(policy: Policy) -> bool:
    """Whether listed hosts are reached through the host's own proxy: the user or the organisation says so, and nobody forbids it.

    The first stratum is the user's. A project's own can only forbid it, whatever profile it extends.
    """
    said = [(not at or stratum.name == "organisation", setting.value) for at, stratum in enumerate(policy.strata)
            if (setting := stratum.settings.get("network.upstream"))]  # fmt: skip
    return (True, "host") in said and not forbids_upstream(policy)


def forbids_upstream(policy: Policy, *, above: bool = False) -> bool:
    """Whether some voice says that it is not; ``above``: one that the command line can't change."""
    settings = [stratum.settings.get("network.upstream") for stratum in policy.strata[int(above) :]]
    return any(setting is not None and setting.value == "none" for setting in settings)


def decide(placed: PlacedNetwork, act: Connect) -> Reached:
    """Whether a host may be reached, before its name is resolved."""
    return _decide(placed, act, None)


def decide_resolved(placed: PlacedNetwork, act: Connect, address: Address) -> Reached:
    """Whether a host may be reached at an address: the one that was found for its name and that will be connected to."""
    return _decide(placed, act, address)


def _decide(placed: PlacedNetwork, act: Connect, address: Address | None) -> Reached:
    if isinstance(act.host, Address) and address is not None and address != act.host:
        raise ValueError(f"{address} is not the address that was asked for, {act.host}")
    if isinstance(act.host, str) and hosts.name(act.host) != act.host:
        raise ValueError(f"{act.host!r} is not in its canonical form")  # a denial would not know it
    behind = None if isinstance(act.host, Address) else address
    not_public = hosts.judge(behind, placed.own) if behind is not None else ""
    said = [_ask(voice, act, behind, not_public) for voice in placed.voices]
    refused = next((each for each in said if not each.granted), None)
    if refused is None and said:
        rule = next((each.rule for each in said if each.rule is not None), None)
        words = next((each.words for each in said if each.rule is not None), f"network.reach is {placed.reach}")
        return Reachable(act, Why(rule, words), any(each.inspects for each in said))
    words = refused.words if refused else "no policy opens the network"
    grant = _grant(placed, act, behind, not_public) if refused else ()
    return Unreachable(act, Why(refused.rule if refused else None, words, grant))


def _ask(voice: _Voice, act: Connect, behind: Address | None, not_public: str) -> _Said:
    said = voice.ask(act, act.host, needs_grant=True)
    if behind is None or not said.granted:
        return said
    there = voice.ask(act, behind, needs_grant=bool(not_public))
    if there.granted:
        return said.with_(inspects=said.inspects or there.inspects)
    words = there.words if there.rule else f"{act.host} leads to {behind}, which is {not_public}, and {there.words}"
    return _Said(there.rule, words)


def smallest(act: Connect) -> str:
    """The smallest rule that names what was asked for: its host and port, with the request where there is one.

    Empty for a request whose path no rule can name.
    """
    path = None
    if act.method:
        try:
            path = destinations.segments_of(act.path)
        except ValueError:
            return ""
        if {"*", "?"} & set("".join(path)):
            return ""
    return str(destinations.of(act.host.reached if isinstance(act.host, Address) else act.host, act.port, act.method, path))


def _grant(placed: PlacedNetwork, act: Connect, behind: Address | None, not_public: str) -> tuple[str, ...]:
    """The command that would let it through, empty where none does.

    The command line speaks in the first stratum; where another one refuses too, or a rule denies, nothing said there helps.
    """
    first, *others = placed.voices
    asked: list[str | Address] = [act.host, *([behind] if behind is not None else [])]
    denied = any(not first.leaves(act, host).granted for host in asked)
    if denied or any(not _ask(voice, act, behind, not_public).granted for voice in others):
        return ()
    options: list[str] = []  # --allow opens the network to what is listed, where it was closed
    for host in asked if not_public else asked[:1]:
        if not first.lists(act, host).granted:
            rule = smallest(act.with_(host=host))
            if not rule:
                return ()
            options += ["--allow", rule]
    return ("houseroom", "run", *options)
