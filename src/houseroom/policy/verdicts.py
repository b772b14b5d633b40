"""The part of a placed policy that init carries into the sandbox: what the rules say of one new name.

Only the rule on the path itself matters here. What lies below an existing protected or hidden directory is covered by the
mount on that directory, and below a missing one nothing can be made.
"""

from __future__ import annotations

from houseroom.policy.model import EXCEPT, HIDE, PROTECT, RANK
from houseroom.policy.pattern import ANY, Pattern, components, is_glob, join
from houseroom.policy.record import Record

REFUSED = (HIDE, PROTECT)


class _Glob(Record):
    """A pattern with wildcards, made quick to compare: nearly all are a directory, ``**`` and a name with one star at most."""

    pattern: Pattern
    access: str
    base: tuple[str, ...] | None  # None: not of that form, and only the pattern itself can tell
    head: str
    tail: str

    def matches(self, parts: tuple[str, ...]) -> bool:
        """Whether the pattern names exactly this path."""
        name = parts[-1]
        if not name.startswith(self.head) or not name.endswith(self.tail):
            return False
        if self.base is None:
            return self.pattern.matches(parts)
        return parts[: len(self.base)] == self.base and len(parts) > len(self.base) and len(name) >= len(self.head) + len(self.tail)


def _glob(parts: tuple[str, ...], access: str) -> _Glob:
    base, last = parts[:-2], parts[-1]
    plain = len(parts) > 1 and parts[-2] == ANY and not any(map(is_glob, base)) and "?" not in last and last.count("*") < 2
    if not is_glob(last):
        return _Glob(Pattern(parts), access, base if plain else None, last, "")
    return _Glob(Pattern(parts), access, base if plain else None, _literal_head(last), _literal_head(last[::-1])[::-1])


class _Voice:
    """One stratum's rules, found by how specific they are: the path itself, a name they end in, a glob they end in."""

    def __init__(self, rules: tuple[tuple[str, str], ...]):
        self.literal = {text: access for text, access in rules if "*" not in text and "?" not in text}  # paths as ``join`` makes them
        self.named: dict[str, list[_Glob]] = {}
        self.wild: list[_Glob] = []
        for text, access in rules:
            if text not in self.literal:
                parts = components(text)
                (self.wild if is_glob(parts[-1]) else self.named.setdefault(parts[-1], [])).append(_glob(parts, access))

    def access(self, parts: tuple[str, ...]) -> str | None:
        """What the deciding rule says of exactly this path, None without one."""
        found = self.literal.get(join(parts))
        if found is not None or not parts:
            return found
        for globs in (self.named.get(parts[-1], ()), self.wild):
            for glob in globs:
                if glob.matches(parts):
                    return glob.access
        return None

    def globs(self) -> list[_Glob]:
        """All patterns with wildcards."""
        return [glob for found in (*self.named.values(), self.wild) for glob in found]

    def names(self) -> set[str]:
        """The last names of the paths that it hides or protects."""
        return {text.rpartition("/")[2] for text, access in self.literal.items() if access in REFUSED} - {""}


class Verdicts:
    """Rules of all strata, each stratum's deciding one first. Answers for most names with one look into a set."""

    def __init__(self, strata: tuple[tuple[tuple[str, str], ...], ...]):
        self.voices = [_Voice(stratum) for stratum in strata]
        refusing = [glob.pattern.parts for voice in self.voices for glob in voice.globs() if glob.access in REFUSED]
        last = {parts[-1] for parts in refusing}
        self.names = frozenset(part for part in last if not is_glob(part)).union(*(voice.names() for voice in self.voices))
        self.globs = sorted(part for part in last if is_glob(part))
        # A walk asks this of every name in a tree: what begins and ends like none of the globs is told apart without a loop.
        heads = {part: _literal_head(part) for part in self.globs}
        self.heads = tuple(head for head in heads.values() if head)
        self.tails = tuple(_literal_head(part[::-1])[::-1] for part, head in heads.items() if not head)
        # Directories that a pattern with wildcards must pass through: .github of **/.github/workflows, packages/* of packages/*/hooks.
        globs = [(parts, next(at for at, part in enumerate(parts) if is_glob(part))) for parts in refusing]
        ways = {parts[:at] for parts, first in globs for at in range(first + 1, len(parts)) if parts[at - 1] != ANY}
        self.ways = [Pattern(way) for way in sorted(ways)]
        # Below a directory of such a name (node_modules) other rules hold than beside it: a tree that crosses is looked at.
        excepted = [glob.pattern.parts for voice in self.voices for glob in voice.globs() if glob.access == EXCEPT]
        self.zones = frozenset(
            part for parts in excepted if ANY in parts for part in parts[parts.index(ANY) + 1 : -1] if part != ANY and not is_glob(part)
        )
        # Where a pattern searches only below a directory (src of src/**/hooks), what is brought there from elsewhere could match.
        self.bases = sorted({parts[:first] for parts, first in globs if parts[first] == ANY})

    def suspicious(self, name: str) -> bool:
        """Whether some refusing rule could end in this name. Quick, and sometimes wrong in saying so."""
        return name in self.names or name.startswith(self.heads) or name.endswith(self.tails)

    def access(self, parts: tuple[str, ...]) -> str | None:
        """The narrowest of hide and protect that a stratum's deciding rule says of exactly this path, else None."""
        said = [voice.access(parts) for voice in self.voices]
        refused = [access for access in said if access in REFUSED]
        return min(refused, key=RANK.__getitem__) if refused else None

    def leads(self, parts: tuple[str, ...]) -> bool:
        """Whether a path is on the way to something that a rule with wildcards refuses."""
        return any(way.matches(parts) for way in self.ways)

    def brings(self, target: tuple[str, ...], source: tuple[str, ...]) -> bool:
        """Whether something that goes from one path to another comes below a directory that some rule searches, from outside it."""
        return any(target[: len(base)] == base and source[: len(base)] != base for base in self.bases)

    def crosses(self, target: tuple[str, ...], source: tuple[str, ...]) -> bool:
        """Whether a tree that moves from one path to another comes under other exceptions."""
        return self.zones & set(target) != self.zones & set(source)

    def search_below(self, roots: tuple[tuple[str, ...], ...]) -> None:
        """Forget bases that are whole writable roots: what comes into one of these comes from another, or is the host's own."""
        self.bases = [base for base in self.bases if base not in roots]


def _literal_head(glob: str) -> str:
    """What stands before the first wildcard."""
    return glob[: min(at for at in (glob.find("*"), glob.find("?"), len(glob)) if at >= 0)]
