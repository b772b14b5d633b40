"""Credentials that commands use and never see: ``NAME HOST[:PORT]``, as in ``GITHUB_TOKEN api.github.com``.

Inside, the variable NAME has a placeholder, of the same length and form as the caller's value. In the fields of requests inside TLS
towards that one host (at port 443 where none is written) the egress proxy puts the value in the placeholder's place, also where both
are hidden in ``Authorization: Basic``. Nowhere else: not in paths, queries and bodies, not for another host, not in plain HTTP.
"""

from __future__ import annotations

from houseroom.errors import PolicyError
from houseroom.policy import destinations
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from houseroom.policy.destinations import Destination
    from houseroom.policy.model import Policy, Rule

KEY: Final = "network.credentials"
SHORTEST: Final = 16  # characters of a value: a placeholder of fewer might be met by chance
LONGEST: Final = 4096
_RANDOM = 12  # characters of it that are by chance, at least
_PREFIX = 12  # characters in which a prefix ends that says what a token is: ghp_, sk-ant-, github_pat_
_HTTPS = 443
_DIGITS, _LOWER, _UPPER = "0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_FRAMING = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection", b"trailer", b"upgrade", b"expect"))
_BASIC = b"basic "


class Credential(Record):
    """The variable that has it, and the one host that it is for."""

    variable: str
    where: Destination


class Swap(Record):
    """A placeholder, what goes in its place, and where."""

    placeholder: bytes
    value: bytes
    where: Destination

    def __repr__(self) -> str:
        return f"Swap({self.placeholder!r}, value=…, {self.where})"


def parse(text: str) -> Credential:
    """What a rule says. Raises PolicyError with the column within the text for what names no variable or no single host."""
    name, blank, rest = text.partition(" ")
    hint = "Write a variable and a host, such as GITHUB_TOKEN api.github.com."
    if not blank or not name or not name.isascii() or not name.replace("_", "a").isalnum() or name[0] in _DIGITS:
        raise PolicyError(f"{text!r} does not begin with the name of a variable", column=1, hint=hint)
    at = len(name) + 2
    try:
        where = destinations.parse(rest)
    except PolicyError as error:
        raise PolicyError(error.message, column=at - 1 + (error.column or 1), hint=error.hint) from None
    if where.wild or where.inspects or not isinstance(where.host, str):
        raise PolicyError(f"{text!r} is not for one host by its name", column=at, hint=hint)
    if not where.any_port and where.low != where.high:
        raise PolicyError(f"{text!r} is for several ports", column=at, hint="Write one, or none for 443.")
    return Credential(name, where.with_(low=_HTTPS, high=_HTTPS) if where.any_port else where)


def credentials(policy: Policy) -> tuple[tuple[Credential, Rule], ...]:
    """All that a policy has. What a project's file says of it is never asked: it would say where secrets go."""
    rules = [rule for stratum in policy.strata for rule in stratum.under(KEY) if rule.origin.layer != "project"]
    return tuple((parse(rule.subject), rule) for rule in rules)


def unfit(value: str) -> str:
    """Why a value can't be a credential, as words that follow the variable's name; "" where it can."""
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
