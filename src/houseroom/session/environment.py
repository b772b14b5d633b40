"""The environment a command gets: the caller's, without what looks like a secret and with what the sandbox needs."""

from __future__ import annotations

import os

from houseroom.policy import caches
from houseroom.policy.decide import Allow, PlacedPolicy, Variable, decide
from houseroom.policy.model import PRIVATE
from houseroom.policy.pattern import components
from houseroom.policy.variables import value_looks_secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def build(placed: PlacedPolicy, environ: Mapping[bytes, bytes]) -> tuple[dict[bytes, bytes], tuple[str, ...]]:
    """The command's environment and the names that were withheld.

    A variable is withheld by its name (the policy) or because its value is recognisably a credential, unless it was passed
    on purpose. TMPDIR points to the private temporary directory; cache variables to it where the cache does not exist.
    """
    given, withheld = {}, []
    for raw_name, value in environ.items():
        name = os.fsdecode(raw_name)
        decision = decide(placed, Variable(name))
        passed = isinstance(decision, Allow) and decision.why.rule is not None
        if isinstance(decision, Allow) and (passed or not value_looks_secret(os.fsdecode(value))):
            given[raw_name] = value
        else:
            withheld.append(name)
    if placed.access(components(placed.places.tmp))[0] == PRIVATE:
        for name in (b"TMPDIR", b"TEMP", b"TMP"):
            if name in given:
                given[name] = os.fsencode(placed.places.tmp)
    given[b"HOUSEROOM"] = b"1"
    _redirect_missing_caches(placed, given)
    return given, tuple(withheld)


def _redirect_missing_caches(placed: PlacedPolicy, given: dict[bytes, bytes]) -> None:
    """A cache directory that does not exist can't be laid over: its tool is pointed to the private /tmp instead."""
    for row in caches.CACHES:
        name = row[2] if len(row) > 2 else ""
        if name and name.encode() not in given and not os.path.isdir(placed.places.home + row[0][1:]):
            given[name.encode()] = os.fsencode(f"{placed.places.tmp}/{row[0].rpartition('/')[2].lstrip('.')}")
