"""The part of a placed policy that init carries into the sandbox: what the rules say of one new name.

Only the rule on the path itself matters here. What lies below an existing protected or hidden directory is covered by the
mount on that directory, and below a missing one nothing can be made.
"""

from __future__ import annotations

from houseroom.policy.model import HIDE, PROTECT, RANK
from houseroom.policy.pattern import ANY, Pattern, components, is_glob, matches_name

REFUSED = (HIDE, PROTECT)


class Verdicts:
    """Rules of all strata, each stratum's deciding one first. Answers for most names with one look into a set."""

    def __init__(self, strata: tuple[tuple[tuple[str, str], ...], ...]):
        self.strata = [[(Pattern(components(text)), access) for text, access in stratum] for stratum in strata]
        refusing = [pattern for stratum in self.strata for pattern, access in stratum if access in REFUSED]
        last = [pattern.parts[-1] for pattern in refusing if pattern.parts]
        self.names = frozenset(part for part in last if not is_glob(part))
        self.globs = sorted({part for part in last if is_glob(part)})
        # A walk asks this of every name in a tree: what begins and ends like none of the globs is told apart without a loop.
        heads = {part: _literal_head(part) for part in self.globs}
        self.heads = tuple(head for head in heads.values() if head)
        self.tails = tuple(_literal_head(part[::-1])[::-1] for part, head in heads.items() if not head)
        # Directories that a pattern with wildcards must pass through: .github of **/.github/workflows.
        self.ways = [
            Pattern(pattern.parts[:at])
            for pattern in refusing
            if ANY in pattern.parts
            for at in range(pattern.parts.index(ANY) + 2, len(pattern.parts))
        ]

    def suspicious(self, name: str) -> bool:
        """Whether some refusing rule could end in this name."""
        if name in self.names:
            return True
        return (name.startswith(self.heads) or name.endswith(self.tails)) and any(matches_name(glob, name) for glob in self.globs)

    def access(self, parts: tuple[str, ...]) -> str | None:
        """The narrowest of hide and protect that a stratum's deciding rule says of exactly this path, else None."""
        said = [next((access for pattern, access in stratum if pattern.matches(parts)), None) for stratum in self.strata]
        refused = [access for access in said if access in REFUSED]
        return min(refused, key=RANK.__getitem__) if refused else None

    def leads(self, parts: tuple[str, ...]) -> bool:
        """Whether a path is on the way to something that a rule with wildcards refuses."""
        return any(way.matches(parts) for way in self.ways)


def _literal_head(glob: str) -> str:
    """What stands before the first wildcard."""
    return glob[: min(at for at in (glob.find("*"), glob.find("?"), len(glob)) if at >= 0)]
