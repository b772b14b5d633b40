"""The environment a command gets: the caller's, without what looks like a secret and with what the sandbox needs.

The policy's word on names is taken first and kept as plain data, so that the next start need not ask the policy again.
"""

from __future__ import annotations

import os

from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from houseroom.policy.decide import PlacedPolicy

WITHHELD, BY_VALUE, PASSED = 0, 1, 2


class Choice(Record):
    """What the policy says of variables. ``names``: withheld, passed on purpose, or passed unless the value is a secret.

    ``tmp`` is the private temporary directory, "" where the host's is used; ``redirects`` point tools whose cache does
    not exist to a directory in it.
    """

    names: dict[str, int]
    tmp: str = ""
    redirects: tuple[tuple[str, str], ...] = ()


def choose(placed: PlacedPolicy, names: Iterable[str]) -> Choice:
    """The policy's word on these names."""
    from houseroom.policy import caches
    from houseroom.policy.decide import Allow, Variable, decide
    from houseroom.policy.model import PRIVATE
    from houseroom.policy.pattern import components

    verdicts = {}
    for name in names:
        decision = decide(placed, Variable(name))
        verdicts[name] = WITHHELD if not isinstance(decision, Allow) else PASSED if decision.why.rule else BY_VALUE
    home, tmp = placed.places.home, placed.places.tmp
    private = tmp if placed.access(components(tmp))[0] == PRIVATE else ""
    redirects = []
    for path, variable, _reason in caches.CACHES if private else ():
        if variable and not os.path.isdir(home + path[1:]):
            redirects.append((variable, f"{tmp}/{path.rpartition('/')[2].lstrip('.')}"))
    return Choice(verdicts, private, tuple(redirects))


def build(choice: Choice, environ: Mapping[bytes, bytes]) -> tuple[dict[bytes, bytes], tuple[str, ...]]:
    """The command's environment and the names that were withheld. Raises KeyError for a name the choice doesn't have.

    A variable is withheld by its name, or because its value is recognisably a credential, unless it was passed on purpose.
    """
    from houseroom.policy.variables import value_looks_secret

    given, withheld = {}, []
    for raw_name, value in environ.items():
        name = os.fsdecode(raw_name)
        verdict = choice.names[name]
        if verdict == PASSED or (verdict == BY_VALUE and not value_looks_secret(os.fsdecode(value))):
            given[raw_name] = value
        else:
            withheld.append(name)
    if choice.tmp:
        for raw_name in (b"TMPDIR", b"TEMP", b"TMP"):
            if raw_name in given:
                given[raw_name] = os.fsencode(choice.tmp)
    for name, path in choice.redirects:
        given.setdefault(os.fsencode(name), os.fsencode(path))
    given[b"HOUSEROOM"] = b"1"
    return given, tuple(withheld)
