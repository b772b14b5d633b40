"""What a plan needs to know of the host's files, as plain data: the policy asks, ``enforce`` looks, ``compile`` decides.

Kept apart from the policy so that the looking can be done again at the next start without reading the policy again.
"""

from __future__ import annotations

from houseroom.policy.model import PROTECT, READ
from houseroom.policy.pattern import components, join
from houseroom.policy.record import Record
from houseroom.policy.verdicts import REFUSED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.policy.decide import PlacedPolicy

Parts = tuple[str, ...]


class Questions(Record):
    """``writable``: roots that must exist. ``literals``: single paths, as parents with names and the access there.

    ``walks``: directories to search through, each with those patterns that grant something; what is refused in them the
    ``rules`` say, for each stratum the deciding one first, as in ``policy.verdicts``. ``repository`` is where the
    workspace's own git directory would be.
    """

    writable: tuple[Parts, ...]
    literals: tuple[tuple[Parts, tuple[tuple[str, str], ...]], ...]
    walks: tuple[tuple[str, tuple[str, ...]], ...]
    rules: tuple[tuple[tuple[str, str], ...], ...]
    repository: Parts


def ask(placed: PlacedPolicy) -> Questions:
    """The questions that a placed policy has."""
    roots = placed.writable()
    globs = placed.globs()
    walks: dict[str, list[str]] = {join(root): [] for root in roots if root}  # not all of the host
    for found in globs:
        granting = walks.setdefault(join(found.pattern.base), [])
        if found.rule.access not in REFUSED:
            granting.append(str(found.pattern))
    rules = placed.below((*roots, *(found.pattern.base for found in globs)))
    repository = (*components(placed.places.workspace), ".git")
    return Questions(roots, _literals(placed, roots), tuple((base, tuple(texts)) for base, texts in walks.items()), rules, repository)


def _literals(placed: PlacedPolicy, roots: tuple[Parts, ...]) -> tuple[tuple[Parts, tuple[tuple[str, str], ...]], ...]:
    """Every single path that needs a look, by parent.

    Protected paths outside the writable roots do not where all is read-only anyway; in a hidden, private or scratch
    directory they do, since they must show there or not be written.
    """
    out: dict[Parts, list[tuple[str, str]]] = {}
    around: dict[Parts, str] = {}  # most protected paths lie in the same few directories
    for parts in filter(None, placed.literals()):
        access, above = placed.access(parts)[0], parts[:-1]
        if access == PROTECT and not any(parts[: len(root)] == root for root in roots):
            if above not in around:
                around[above] = placed.access(above)[0]
            if around[above] in (PROTECT, READ):
                continue
        out.setdefault(above, []).append((parts[-1], access))
    return tuple((parent, tuple(names)) for parent, names in out.items())
