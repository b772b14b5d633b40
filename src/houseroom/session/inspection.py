"""What a sandbox needs whose connections are looked into, found before anything of it starts."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

from houseroom.errors import CannotEnforce
from houseroom.policy.connect import PlacedNetwork
from houseroom.policy.credentials import credentials
from houseroom.policy.record import Record
from houseroom.session import certificates, extra

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from houseroom.policy.credentials import Swap
    from houseroom.policy.decide import PlacedPolicy
    from houseroom.session.credentials import Used


class Inspection(Record):
    """That connections are looked into. ``library``: where the extra lies. ``files``: the host's, of certificate authorities.

    ``trusted``: what they and the caller trust, in PEM; ``verifying``: what of that servers are verified by. ``used``: credentials that
    are put in outside, whose values nobody has read yet; ``shown``: the variables that have placeholders instead.
    """

    library: str
    files: tuple[str, ...]
    trusted: bytes
    verifying: bytes
    used: Used = ()
    shown: tuple[str, ...] = ()

    def variables(self) -> tuple[tuple[str, str], ...]:
        """Those that lead programs to the authorities."""
        return certificates.variables(self.files[0])

    def check(self, placed: PlacedPolicy, environ: Mapping[bytes, bytes]) -> None:
        """Raises PolicyError as ``credentials.check``: for those who only want to know whether a start would be refused."""
        if self.used:
            from houseroom.session import credentials as values

            values.check(self.used, placed, environ)

    def read(self, placed: PlacedPolicy, environ: Mapping[bytes, bytes]) -> tuple[tuple[Swap, ...], tuple[tuple[str, str], ...]]:
        """The credentials' values with what they take the place of, and what variables have instead. Raises as ``credentials.read``."""
        if not self.used:
            return (), ()
        from houseroom.session import credentials as values

        return values.read(self.used, placed, environ)


def find(placed: PlacedPolicy, environ: Mapping[bytes, bytes]) -> Inspection | None:
    """All that, None where no rule is on requests and no credential is put in.

    Raises CannotEnforce where something is not there or not safe. Where credentials come from is looked at when they are read.
    """
    used = credentials(placed.policy)
    if not used and not PlacedNetwork(placed.policy).inspected():
        return None
    library, found = extra.find(placed), certificates.files()
    if not found:
        hint = "Install the certificate authorities of your system, often the package ca-certificates."
        raise CannotEnforce(("network.allow",), "connections can't be looked into: this host has no file of authorities to trust", hint)
    verifying, shown = certificates.verifying(found, environ, placed), tuple[str, ...]()
    if used:
        from houseroom.session import credentials as values

        shown = values.shown(used, environ)
    return Inspection(library, found, certificates.trusted(found, environ), verifying, used, shown)
