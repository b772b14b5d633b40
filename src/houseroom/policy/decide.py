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
    from collections.abc import Container

    from houseroom.policy.model import Places, Policy, Stratum
    from houseroom.policy.pattern import Pattern

FILE_KEYS = frozenset(("files.hide", "files.protect", "files.private", "files.scratch", "files.write", "files.read", "files.except"))
SOCKETS = "network.sockets"
BUILT_IN = Origin("preset", "built in")

NodeRules = tuple[tuple[str, str], ...]  # (pattern, access), the deciding one first


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
        return (*self.pattern.weight, *_rank(self.rule))


def _rank(rule: Rule) -> tuple[int, int]:
    return LAYERS.index(rule.origin.layer), PRECEDENCE[rule.access]


class PlacedStratum:
    """A stratum whose file rules are placed: literal ones by path, the others by the name they end in.

    Placing some nine hundred rules is on the way of every start, hence the short cut for the plain ``~/x``.
    """

    def __init__(self, stratum: Stratum, places: Places):
        self.stratum = stratum
        self.literal: dict[tuple[str, ...], Rule] = {}
        self.globs: list[PlacedRule] = []
        home = pattern.components(places.home)
        for rule in stratum.rules:
            if rule.key not in FILE_KEYS:
                if rule.key == SOCKETS:
                    self._add_socket(rule, places)
                continue
            text = rule.subject
            if text[:2] == "~/" and pattern.is_plain(text):
                self._add(home + tuple(text[2:].split("/")), rule)
                continue
            placed = pattern.place(text, places)
            if placed.literal:
                self._add(placed.parts, rule)
            else:
                self.globs.append(PlacedRule(placed, rule))
        self.globs.sort(key=lambda placed: placed.order, reverse=True)
        self.named: dict[str, list[PlacedRule]] = {}
        self.wild: list[PlacedRule] = []
        for placed_rule in self.globs:
            last = placed_rule.pattern.parts[-1]
            (self.wild if pattern.is_glob(last) else self.named.setdefault(last, [])).append(placed_rule)

    def _add_socket(self, rule: Rule, places: Places) -> None:
        """What may be connected to is seen, and stays what it is."""
        placed = pattern.place(rule.subject, places)
        if placed.literal:
            self._add(placed.parts, Rule("files.read", rule.subject, rule.origin, rule.reason or "a socket that may be connected to"))

    def _add(self, parts: tuple[str, ...], rule: Rule) -> None:
        known = self.literal.get(parts)
        if known is None or _rank(rule) >= _rank(known):
            self.literal[parts] = rule

    def at(self, parts: tuple[str, ...]) -> Rule | None:
        """The rule that names exactly this path, if any: a literal one, else one ending in its name, else a glob."""
        found = self.literal.get(parts)  # a literal pattern outweighs every glob
        if found is None:
            found = next((placed.rule for placed in self.named.get(parts[-1] if parts else "", ()) if placed.pattern.matches(parts)), None)
            if found is None:
                found = next((placed.rule for placed in self.wild if placed.pattern.matches(parts)), None)
        return None if found is None or found.key == "files.except" else found

    def governing(self, parts: tuple[str, ...]) -> Rule | None:
        """The rule on the path itself or on its nearest ancestor that has one."""
        for depth in range(len(parts), -1, -1):
            found = self.at(parts[:depth])
            if found is not None:
                return found
        return None

    def access(self, parts: tuple[str, ...]) -> tuple[str, Rule | None]:
        """What this stratum grants at a path, and the rule that says so.

        A stratum without a list of its own for reading or writing has no opinion there and leaves it to the others.
        """
        found, closed = self.governing(parts), self.stratum.closed
        if found is None:
            return (HIDE if "files.read" in closed else READ if "files.write" in closed else WRITE), None
        if found.access == READ and "files.write" not in closed:
            # Such a stratum says nothing on writing by its reading rules: its other rules alone grant or refuse it, so that
            # ``read = ["~/.ssh/config"]`` below ``hide = ["~/.ssh"]`` is a hole for reading and no more.
            other = self._beside_reading(parts)
            if other is None or other.access in (SCRATCH, WRITE):
                return (other.access if other else WRITE), found
        return found.access, found

    def _beside_reading(self, parts: tuple[str, ...]) -> Rule | None:
        """What would govern a path if there were no ``files.read`` rules. Only for strata without a list for writing."""
        for depth in range(len(parts), -1, -1):
            here = parts[:depth]
            rules = (self.literal.get(here), *(placed.rule for placed in self.globs if placed.pattern.matches(here)))
            found = next((rule for rule in rules if rule is not None and rule.access != READ), None)
            if found is not None and found.key != "files.except":
                return found
        return None


class PlacedPolicy:
    """A policy on a host. The only thing ``decide`` accepts, so nothing is decided with unplaced patterns."""

    def __init__(self, policy: Policy, places: Places):
        self.policy, self.places = policy, places
        self.strata = tuple(PlacedStratum(stratum, places) for stratum in policy.strata)
        self._variables: tuple[tuple[NameRules, NameRules], ...] | None = None
        self._credentials: dict[str, Rule] | None = None

    def learn(self, aliases: dict[tuple[str, ...], tuple[tuple[str, ...], ...]]) -> None:
        """Extend rules to the further paths under which the host knows the same file: link targets and hard links.

        A rule that grants is not extended through a link that the sandbox itself could have made.
        """
        for stratum in self.strata:
            for parts, others in aliases.items():
                rule = stratum.at(parts) or stratum.governing(parts)  # a file in a hidden directory is hidden by that
                if rule is None:
                    continue
                grants = RANK[rule.access] > RANK[PROTECT] or rule.access == PRIVATE
                if grants and RANK[self.access(parts[:-1])[0]] >= RANK[SCRATCH]:
                    continue
                for other in others:
                    there = stratum.access(other)[0]
                    if there in (HIDE, PRIVATE) or (not grants and RANK[rule.access] >= RANK[there]):
                        continue  # a link or a gitfile never opens what is closed
                    known = stratum.literal.get(other)
                    if known is None or _rank(rule) > _rank(known):
                        stratum.literal[other] = rule

    def let_through(self, parts: tuple[str, ...], real: tuple[str, ...]) -> None:
        """A socket that is let through is known to be at another path."""
        for stratum in self.strata:
            rule, known = stratum.literal.get(parts), stratum.literal.get(real)
            if rule is not None and (known is None or _rank(rule) > _rank(known)):
                stratum.literal[real] = rule

    def forget(self, existing: Container[tuple[str, ...]]) -> None:
        """Drop rules on own or layered directories that do not exist: there is nothing to lay anything over, and nothing is made."""
        for stratum in self.strata:
            for parts in [parts for parts, rule in stratum.literal.items() if rule.access in (PRIVATE, SCRATCH) and parts not in existing]:
                del stratum.literal[parts]

    def protect(self, path: str, reason: str) -> None:
        """Protect one more path, found to be what the host would execute."""
        rule = Rule("files.protect", path, BUILT_IN, reason)
        parts = pattern.components(path)
        if RANK[self.access(parts)[0]] > RANK[PROTECT]:
            self.strata[0].literal[parts] = rule

    def access(self, parts: tuple[str, ...]) -> tuple[str, Rule | None]:
        """The narrowest access over all strata at a path, and its rule."""
        return min((stratum.access(parts) for stratum in self.strata), key=lambda found: RANK[found[0]])

    def literals(self) -> set[tuple[str, ...]]:
        """Every single path that some rule names."""
        return {parts for stratum in self.strata for parts, rule in stratum.literal.items() if rule.key != "files.except"}

    def writable(self) -> tuple[tuple[str, ...], ...]:
        """The paths that some rule opens for writing and no stratum narrows."""
        opened = {parts for stratum in self.strata for parts, rule in stratum.literal.items() if rule.key in ("files.write", "files.read")}
        return tuple(parts for parts in sorted(opened) if self.access(parts)[0] == WRITE)

    def globs(self) -> tuple[PlacedRule, ...]:
        """Every rule that names more than one path."""
        return tuple(placed for stratum in self.strata for placed in stratum.globs if placed.rule.key != "files.except")

    def below(self, roots: tuple[tuple[str, ...], ...]) -> tuple[NodeRules, ...]:
        """For each stratum the rules that can name a path at or below these roots, the deciding one first."""
        above = {root[:depth] for root in roots for depth in range(len(root))}

        def concerned(parts: tuple[str, ...]) -> bool:
            return parts in above or any(parts[: len(root)] == root for root in roots)

        out = []
        for stratum in self.strata:
            literal = [(pattern.join(parts), rule.access) for parts, rule in stratum.literal.items() if concerned(parts)]
            globs = [(str(placed.pattern), placed.rule.access) for placed in stratum.globs if concerned(placed.pattern.base)]
            out.append((*literal, *globs))
        return tuple(out)

    @property
    def variables(self) -> tuple[tuple[NameRules, NameRules], ...]:
        """For each stratum the rules on variables: passed and withheld."""
        if self._variables is None:
            keys = ("environment.pass", "environment.withhold")
            self._variables = tuple((NameRules(s.under(keys[0])), NameRules(s.under(keys[1]))) for s in self.policy.strata)
        return self._variables

    @property
    def credentials(self) -> dict[str, Rule]:
        """Variables that only the egress proxy is to know, each with the rule that says so."""
        if self._credentials is None:
            self._credentials = {}
            if any(stratum.under("network.credentials") for stratum in self.policy.strata):
                from houseroom.policy import credentials  # most policies have none

                self._credentials = credentials.variables(self.policy)
        return self._credentials


class NameRules:
    """Globs of variable names, sorted by form: a hundred variables against a hundred globs is on the way of every start."""

    def __init__(self, rules: tuple[Rule, ...]):
        self.rules = [(rule.subject.upper(), rule) for rule in rules]
        plain = [text for text, _ in self.rules if not pattern.is_glob(text)]
        simple = [text for text, _ in self.rules if "?" not in text and pattern.is_glob(text)]
        self.exact = frozenset(plain)
        self.tails = tuple(text[1:] for text in simple if text[0] == "*" and "*" not in text[1:])
        self.heads = tuple(text[:-1] for text in simple if text[-1] == "*" and "*" not in text[:-1])
        self.inner = [text[1:-1] for text in simple if text[0] == text[-1] == "*" and len(text) > 1 and "*" not in text[1:-1]]
        formed = {*plain, *(f"*{tail}" for tail in self.tails), *(f"{head}*" for head in self.heads), *(f"*{part}*" for part in self.inner)}
        self.rest = [text for text, _ in self.rules if text not in formed]

    def find(self, name: str) -> Rule | None:
        """The first rule that matches a name, without regard to case."""
        upper = name.upper()
        if (
            upper in self.exact
            or upper.endswith(self.tails)
            or upper.startswith(self.heads)
            or any(part in upper for part in self.inner)
            or any(pattern.matches_name(text, upper) for text in self.rest)
        ):
            return next(rule for text, rule in self.rules if pattern.matches_name(text, upper))
        return None

    def strongest(self, name: str) -> Rule:
        """Of the rules that match a name, of which there is at least one, that of the latest layer and most specific name."""
        upper = name.upper()
        return max((rule for text, rule in self.rules if pattern.matches_name(text, upper)), key=_strength)


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
    parts = pattern.components(path)
    access, rule = placed.access(parts)
    sentence = f"{path} {_SENTENCES[access]}" if rule else f"nothing in the policy grants {path}"
    if access in enough:
        return Allow(act, Why(rule, sentence), access)
    # The command line speaks in the first stratum; where another one refuses too, nothing said there would help.
    helps = all(stratum.access(parts)[0] in enough for stratum in placed.strata[1:])
    return Deny(act, Why(rule, sentence, ("houseroom", "run", option, path) if helps else ()))


def _variable(placed: PlacedPolicy, act: Act, name: str) -> Decision:
    if name in placed.credentials:
        return Deny(act, Why(placed.credentials[name], f"{name} is a credential: only the egress proxy knows its value"))
    by = None
    denials: list[tuple[int, Rule]] = []
    for at, (passed, withheld) in enumerate(placed.variables):
        granted, held = passed.find(name), withheld.find(name)
        if granted is not None and held is not None:
            granted, held = passed.strongest(name), withheld.strongest(name)
            granted, held = (None, held) if _strength(held) >= _strength(granted) else (granted, None)
        by = by or granted
        if held is not None:
            denials.append((at, held))
    if not denials:
        return Allow(act, Why(by, f"{name} is passed on purpose" if by else f"{name} does not look like a secret"))
    helps = denials[-1][0] == 0  # as in _file
    sentence = f"{name} looks like a secret and is withheld"
    return Deny(act, Why(denials[0][1], sentence, ("houseroom", "run", "--pass", name) if helps else ()))


def _strength(rule: Rule) -> tuple[int, bool, int]:
    """Greater wins among rules on one variable: the later layer, then the more specific name."""
    return LAYERS.index(rule.origin.layer), not pattern.is_glob(rule.subject), len(rule.subject) - rule.subject.count("*")
