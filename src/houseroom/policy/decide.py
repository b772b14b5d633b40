"""May this be done? The answer is a value that explains itself.

``place_policy`` ties a policy to a host's places once; ``decide`` then answers for resolved paths (symbolic links are the
caller's to resolve: they are facts about the host) and for variable names.
"""

from __future__ import annotations

from houseroom.policy import pattern
from houseroom.policy.model import HIDE, LAYERS, PRECEDENCE, PRIVATE, PROTECT, RANK, READ, SCRATCH, WRITE, Origin, Rule
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.policy.model import Places, Policy, Stratum
    from houseroom.policy.pattern import Pattern

FILE_KEYS = ("files.hide", "files.protect", "files.private", "files.scratch", "files.write", "files.read")


class Read(Record):
    """Read a file's content or list a directory. ``path`` is absolute and resolved."""

    path: str


class Write(Record):
    """Create, change, rename or remove ``path``, or change its metadata."""

    path: str


class Run(Record):
    """Execute the program at ``path``."""

    path: str


class Variable(Record):
    """See the environment variable ``name``."""

    name: str


Act = Read | Write | Run | Variable


class Why(Record):
    """The reason of a decision: the rule that made it (None: nothing granted it), and what would grant it."""

    rule: Rule | None
    sentence: str
    grant: tuple[str, ...] = ()


class Allow(Record):
    """It may be done. ``access`` says on what: the host's own file, a scratch copy, or the sandbox's private one."""

    act: Act
    why: Why
    access: str = READ


class Deny(Record):
    """It may not be done."""

    act: Act
    why: Why


Decision = Allow | Deny


class PlacedRule(Record):
    """A file rule with its pattern placed on this host."""

    pattern: Pattern
    rule: Rule

    @property
    def order(self) -> tuple[bool, bool, int, int, int]:
        """Greater wins among rules that match the same path: the more specific, the later layer, the narrower."""
        return (*self.pattern.weight, LAYERS.index(self.rule.origin.layer), PRECEDENCE[self.rule.access])


class PlacedStratum:
    """A stratum whose file rules are placed: literal ones by path, the others in a list."""

    def __init__(self, stratum: Stratum, places: Places):
        self.stratum = stratum
        self.literal: dict[tuple[str, ...], PlacedRule] = {}
        self.globs: list[PlacedRule] = []
        for rule in stratum.rules:
            if rule.key not in FILE_KEYS:
                continue
            placed = PlacedRule(pattern.place(rule.subject, places), rule)
            if placed.pattern.literal:
                known = self.literal.get(placed.pattern.parts)
                if known is None or placed.order >= known.order:
                    self.literal[placed.pattern.parts] = placed
            else:
                self.globs.append(placed)
        self.globs.sort(key=lambda placed: placed.order, reverse=True)
        self.opinion = "files.read" in stratum.closed or "files.write" in stratum.closed

    def at(self, parts: tuple[str, ...]) -> PlacedRule | None:
        """The rule that names exactly this path, if any."""
        known = self.literal.get(parts)
        if known is not None:
            return known  # a literal pattern outweighs every glob
        return next((placed for placed in self.globs if placed.pattern.matches(parts)), None)

    def governing(self, parts: tuple[str, ...]) -> PlacedRule | None:
        """The rule on the path itself or on its nearest ancestor that has one."""
        for depth in range(len(parts), -1, -1):
            found = self.at(parts[:depth])
            if found is not None:
                return found
        return None

    def access(self, parts: tuple[str, ...]) -> tuple[str, PlacedRule | None]:
        """What this stratum grants at a path, and the rule that says so."""
        found = self.governing(parts)
        if found is None:
            return (HIDE if "files.read" in self.stratum.closed else WRITE), None
        access = found.rule.access
        if access == READ and "files.write" not in self.stratum.closed and "files.read" not in self.stratum.closed:
            access = WRITE  # a stratum that only narrows reading says nothing against writing what it names
        return access, found


class PlacedPolicy:
    """A policy on a host. The only thing ``decide`` accepts, so nothing is decided with unplaced patterns."""

    def __init__(self, policy: Policy, places: Places):
        self.policy, self.places = policy, places
        self.strata = tuple(PlacedStratum(stratum, places) for stratum in policy.strata)

    def learn(self, aliases: dict[tuple[str, ...], tuple[tuple[str, ...], ...]]) -> None:
        """Extend rules to the further paths under which the host knows the same file: link targets and hard links.

        A rule that grants is not extended through a link that the sandbox itself could have made.
        """
        for stratum in self.strata:
            for parts, others in aliases.items():
                placed = stratum.at(parts)
                if placed is None:
                    continue
                grants = RANK[placed.rule.access] > RANK[PROTECT] or placed.rule.access == PRIVATE
                if grants and RANK[self.access(parts[:-1])[0]] >= RANK[SCRATCH]:
                    continue
                for other in others:
                    known = stratum.literal.get(other)
                    if known is None or placed.order > known.order:
                        stratum.literal[other] = PlacedRule(pattern.Pattern(other), placed.rule)

    def access(self, parts: tuple[str, ...]) -> tuple[str, Rule | None]:
        """The narrowest access over all strata at a path, and its rule."""
        narrowest, by = min((stratum.access(parts) for stratum in self.strata), key=lambda found: RANK[found[0]])
        return narrowest, (by.rule if by else None)

    def marks(self) -> tuple[tuple[str, ...], ...]:
        """Every literal path that some rule names, parents before children."""
        named = {parts for stratum in self.strata for parts in stratum.literal}
        return tuple(sorted(named, key=lambda parts: (len(parts), parts)))

    def globs(self) -> tuple[PlacedRule, ...]:
        """Every rule that names more than one path."""
        return tuple(placed for stratum in self.strata for placed in stratum.globs)


def decide(placed: PlacedPolicy, act: Act) -> Decision:
    """Whether the policy allows an act, and why."""
    match act:
        case Variable(name):
            return _variable(placed, act, name)
        case Read(path) | Run(path):
            return _file(placed, act, path, "--read", (PROTECT, READ, SCRATCH, WRITE, PRIVATE))
        case Write(path):
            return _file(placed, act, path, "--write", (SCRATCH, WRITE, PRIVATE))


_SENTENCES = {
    HIDE: "is hidden: the sandbox neither reads nor writes it",
    PRIVATE: "is the sandbox's own: empty at the start, gone at the end",
    PROTECT: "is protected: readable, never written, created or replaced",
    READ: "is readable and not writable",
    SCRATCH: "shows the host's content; writes stay in the sandbox and are dropped",
    WRITE: "is writable",
}


def _file(placed: PlacedPolicy, act: Act, path: str, option: str, enough: tuple[str, ...]) -> Decision:
    access, rule = placed.access(pattern.components(path))
    sentence = f"{path} {_SENTENCES[access]}" if rule else f"nothing in the policy grants {path}"
    if access in enough:
        return Allow(act, Why(rule, sentence), access)
    return Deny(act, Why(rule, sentence, ("houseroom", "run", option, path)))


def _variable(placed: PlacedPolicy, act: Act, name: str) -> Decision:
    for stratum in placed.policy.strata:
        passed = [rule for rule in stratum.under("environment.pass") if pattern.matches_name(rule.subject.upper(), name.upper())]
        held = [rule for rule in stratum.under("environment.withhold") if pattern.matches_name(rule.subject.upper(), name.upper())]
        if held and not passed:
            sentence = f"{name} looks like a secret and is withheld"
            return Deny(act, Why(held[0], sentence, ("houseroom", "run", "--pass", name)))
    return Allow(act, Why(None, f"{name} does not look like a secret"))


BUILT_IN = Origin("preset", "built in")
