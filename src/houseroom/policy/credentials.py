"""Credentials that commands use and never see: ``NAME HOST[:PORT][ from SOURCE]``, as in ``GITHUB_TOKEN api.github.com``.

Where the value comes from ``sources`` has; without a word of that it is the caller's own variable NAME. Inside, the variable NAME has a
placeholder, of the same length and form as the value. In the fields of requests inside TLS towards that one host (at port 443 where none
is written) the egress proxy puts the value in the placeholder's place, also where both are hidden in ``Authorization: Basic``. Nowhere
else: not in paths, queries and bodies, not for another host, not in plain HTTP.
"""

from __future__ import annotations

from houseroom.errors import PolicyError
from houseroom.policy import destinations, sources
from houseroom.policy.layers import printable
from houseroom.policy.record import Record
from houseroom.policy.sources import ENV, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from houseroom.policy.destinations import Destination
    from houseroom.policy.model import Policy, Rule

KEY: Final = "network.credentials"
_FROM = " from "
SHORTEST: Final = 16  # characters of a value: a placeholder of fewer might be met by chance
LONGEST: Final = 4096
_RANDOM = 12  # characters of it that are by chance, at least
_PREFIX = 12  # characters in which a prefix ends that says what a token is: ghp_, sk-ant-, github_pat_
_HTTPS = 443
_DIGITS, _LOWER, _UPPER = "0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_FRAMING = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection", b"trailer", b"upgrade", b"expect"))
_BASIC = b"basic "


class Credential(Record):
    """The variable that has it inside, the one host that it is for, and where its value comes from."""

    variable: str
    where: Destination
    source: Source


class Swap(Record):
    """A placeholder, what goes in its place, and where."""

    placeholder: bytes
    value: bytes
    where: Destination

    def __repr__(self) -> str:
        return f"Swap({self.placeholder!r}, value=…, {self.where})"


def parse(text: str) -> Credential:
    """What a rule says. Raises PolicyError with the column within the text for what names no variable, no single host or no source."""
    try:
        return _parse(text)
    except PolicyError as error:
        raise PolicyError(error.message, column=error.column or 1, text=printable(text), hint=error.hint) from None


def _parse(text: str) -> Credential:
    head, said, source = text.partition(_FROM)
    name, blank, rest = head.partition(" ")
    hint = "Write a variable and a host, such as GITHUB_TOKEN api.github.com."
    if not blank or not name or not sources.is_variable(name):
        raise PolicyError(f"{text!r} does not begin with the name of a variable", column=1, hint=hint)
    at = len(name) + 2
    host, blank, more = rest.partition(" ")
    if blank and (more == _FROM.strip() or more.partition(":")[0] in sources.KINDS):
        hint = f"Write: {name} {host} from {'file:~/PATH' if more == _FROM.strip() else more}"
        raise PolicyError(f"{text!r} does not say where from", column=at + len(host) + 1, hint=hint)
    try:
        where = destinations.parse(rest)
    except PolicyError as error:
        raise PolicyError(error.message, column=at - 1 + (error.column or 1), hint=error.hint) from None
    if where.wild or where.inspects or not isinstance(where.host, str):
        raise PolicyError(f"{text!r} is not for one host by its name", column=at, hint=hint)
    if not where.any_port and where.low != where.high:
        raise PolicyError(f"{text!r} is for several ports", column=at, hint="Write one, or none for 443.")
    where = where.with_(low=_HTTPS, high=_HTTPS) if where.any_port else where
    return Credential(name, where, sources.parse(source, len(head) + len(_FROM) + 1) if said else Source(ENV, (name,)))


def subject(text: str) -> str:
    """What a rule speaks about: of two on one variable and one host the later layer's holds, wherever either has the value from."""
    return text.partition(_FROM)[0]


def credentials(policy: Policy) -> tuple[tuple[Credential, Rule], ...]:
    """All that a policy has. What a project's file says of it is never asked: it would say where secrets go, and what is run.

    Nor is a profile that such a file alone extends, although it is the user's.
    """
    asked = [stratum for at, stratum in enumerate(policy.strata) if at == 0 or stratum.name != "project"]
    rules = [rule for stratum in asked for rule in stratum.under(KEY) if rule.origin.layer != "project"]
    return tuple((parse(rule.subject), rule) for rule in rules)


def variables(policy: Policy) -> dict[str, Rule]:
    """The caller's variables that no command gets as they are: those that have placeholders, and those that have the values."""
    found = credentials(policy)
    names = {each.source.words[0]: rule for each, rule in found if each.source.kind == ENV}
    return names | {each.variable: rule for each, rule in found}


def unfit(value: str) -> str:
    """Why a value can't be a credential, as words that follow the variable's name; "" where it can."""
    if "\n" in value:
        return "has a value of several lines"
    if not SHORTEST <= len(value) <= LONGEST:
        return f"has a value of {len(value)} characters, and {SHORTEST} to {LONGEST} are wanted"
    if not value.isascii() or not value.isprintable() or " " in value:
        return "has a value that no field of a request may have as it is"
    return "" if _free(value) >= _RANDOM else "has a value with too few letters and digits to be told apart"


def placeholder(value: str, chance: Iterable[int]) -> str:
    """As long as the value, with its prefix and its signs; letters and digits are others, by ``chance``: numbers without end."""
    start = _prefix(value)
    out = []
    for char, number in zip(value[start:], chance):
        among = next((each for each in (_DIGITS, _LOWER, _UPPER) if char in each), char)
        out.append(among[number % len(among)])
    return value[:start] + "".join(out)


def _prefix(value: str) -> int:
    """The length of what says which kind of token it is, where enough is left behind it."""
    end = max(value.rfind("_", 0, _PREFIX), value.rfind("-", 0, _PREFIX)) + 1
    return end if _count(value[end:]) >= _RANDOM else 0


def _free(value: str) -> int:
    return _count(value[_prefix(value) :])


def _count(text: str) -> int:
    return sum(char.isalnum() for char in text)


def filled(fields: tuple[tuple[bytes, bytes], ...], swaps: Iterable[Swap]) -> tuple[tuple[bytes, bytes], ...]:
    """A request's fields with values in the place of placeholders. Nothing that says where a message goes or ends is changed."""
    swaps = tuple(swaps)
    return tuple((name, value if name in _FRAMING else _filled(value, swaps)) for name, value in fields)


def scrubbed(fields: tuple[tuple[bytes, bytes], ...], swaps: Iterable[Swap]) -> tuple[tuple[bytes, bytes], ...]:
    """An answer's fields without values: servers that repeat what they were told tell the placeholder."""
    turned = tuple(swap.with_(placeholder=swap.value, value=swap.placeholder) for swap in swaps)
    return filled(fields, turned)


def _filled(value: bytes, swaps: tuple[Swap, ...]) -> bytes:
    for swap in swaps:
        value = value.replace(swap.placeholder, swap.value)
    if value[: len(_BASIC)].lower() != _BASIC:
        return value
    from binascii import Error, a2b_base64, b2a_base64

    try:
        plain = a2b_base64(value[len(_BASIC) :].strip(), strict_mode=True)
    except Error:
        return value
    changed = plain
    for swap in swaps:
        changed = changed.replace(swap.placeholder, swap.value)
    return value if changed == plain else value[: len(_BASIC)] + b2a_base64(changed, newline=False)
