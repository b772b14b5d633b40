"""What a sandbox needs whose connections are looked into, found before anything of it starts."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

from houseroom.errors import CannotEnforce, PolicyError
from houseroom.policy.connect import PlacedNetwork
from houseroom.policy.credentials import Swap, credentials, placeholder, unfit
from houseroom.policy.record import Record
from houseroom.session import certificates, extra

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from houseroom.policy.credentials import Credential
    from houseroom.policy.decide import PlacedPolicy
    from houseroom.policy.model import Rule


class Inspection(Record):
    """That connections are looked into. ``library``: where the extra lies. ``files``: the host's, of certificate authorities.

    ``trusted``: what they and the caller trust, in PEM; ``verifying``: what of that servers are verified by. ``swaps``: credentials that
    are put in outside; ``placeholders``: variables with what they have instead.
    """

    library: str
    files: tuple[str, ...]
    trusted: bytes
    verifying: bytes
    swaps: tuple[Swap, ...] = ()
    placeholders: tuple[tuple[str, str], ...] = ()


def find(placed: PlacedPolicy, environ: Mapping[bytes, bytes]) -> Inspection | None:
    """All that, None where no rule is on requests and no credential is put in.

    Raises CannotEnforce where something is not there or not safe, PolicyError for a value that can't be a credential.
    """
    used = credentials(placed.policy)
    if not used and not PlacedNetwork(placed.policy).inspected():
        return None
    library, found = extra.find(placed), certificates.files()
    if not found:
        hint = "Install the certificate authorities of your system, often the package ca-certificates."
        raise CannotEnforce(("network.allow",), "connections can't be looked into: this host has no file of authorities to trust", hint)
    swaps, placeholders = _swaps(used, environ)
    verifying = certificates.verifying(found, environ, placed)
    return Inspection(library, found, certificates.trusted(found, environ), verifying, swaps, placeholders)


def _swaps(
    used: tuple[tuple[Credential, Rule], ...], environ: Mapping[bytes, bytes]
) -> tuple[tuple[Swap, ...], tuple[tuple[str, str], ...]]:
    """What is put in the place of what, and what variables have inside; of a variable that the caller does not have, nothing.

    Raises PolicyError at the rule for a value that can't be a credential.
    """
    swaps, instead = [], dict[str, str]()
    for credential, rule in used:
        value = os.fsdecode(environ.get(os.fsencode(credential.variable), b""))
        if not value:
            continue
        why, origin = unfit(value), rule.origin
        if why:
            said, hint = f"{credential.variable} {why}", "Unset the variable for this run, or take it out of network.credentials."
            raise PolicyError(said, file=origin.file, line=origin.line, column=origin.column, hint=hint)
        shown = instead.setdefault(credential.variable, placeholder(value, os.urandom(len(value))))
        swaps.append(Swap(shown.encode(), value.encode(), credential.where))
    return tuple(swaps), tuple(instead.items())
