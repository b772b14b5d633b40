"""From what was observed to what was refused: which rule, written where, and what would grant it.

Observations come from inside and are believed only so far: the policy is asked again for each, and what it allows is not
called its doing. What a person should look at first comes first.
"""

from __future__ import annotations

from houseroom.policy import sockets
from houseroom.policy.decide import Allow, Read, Run, Write, decide
from houseroom.policy.model import READ, SCRATCH
from houseroom.policy.observation import CONNECT, CREATE, REMOVE, WRITE, WRITING
from houseroom.policy.pattern import components, is_glob, join, matches_name
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from houseroom.policy.decide import PlacedPolicy, Why
    from houseroom.policy.model import Origin, Rule
    from houseroom.policy.observation import Observation, Observed

    Act = Read | Write | Run

# Names that programs try to write and do well without. 1: told where nothing else was refused; 2: only where all is asked for.
NOISE: Final = (
    ("index.lock", 1, "git status tries to refresh the index and does without; a git command that needs it says so"),
    ("__pycache__", 2, "Python runs without keeping its bytecode"),
    ("*.pyc", 2, "Python runs without keeping its bytecode"),
    ("*.pyc.*", 2, "Python runs without keeping its bytecode"),
    (".*_history", 2, "a shell or interpreter runs without keeping its history"),
    (".lesshst*", 2, "less runs without keeping its history"),
    (".viminf*", 2, "vi runs without keeping its history"),
    (".wget-hsts", 2, "wget runs without remembering hosts"),
    ("fontconfig", 2, "programs draw without a cache of fonts"),
    ("nscd", 2, "names of users are read from the files instead"),
)

# Directories that hold what belongs to many: never granted as a whole. ``~`` is the home directory.
BROAD: Final = (
    "/*", "/usr/*", "/usr/local/*", "/var/*", "/home/*", "/run/*", "/run/user/*", "/mnt/*", "/media/*", "/media/*/*",
    "~", "~/.config", "~/.local", "~/.local/*", "~/.cache", "~/Library", "~/Library/*", "~/Documents", "~/Desktop", "~/Downloads",
    "~/src", "~/code", "~/work", "~/projects", "~/dev", "~/repos", "~/git", "~/go", "~/go/src",
)  # fmt: skip
CREATE_FIRST: Final = "it does not exist, and what is above it is too much to grant: create it first"
TOO_MUCH: Final = "to remove it its directory would have to be granted, which is too much"
NO_NEW_REPOSITORY: Final = "a repository can't be made inside: run git init yourself"
_REPOSITORY = (".git", ".gitmodules")
_MOST_BRANCHES = 5  # more directories than this below one are named by that one


class Ground(Record):
    """What the host says of the paths that were observed.

    ``directories`` and ``others``: what exists, by path; ``projects``: directories at the top of a project; ``refused``: (kind,
    path) pairs that the caller may not do outside the sandbox either.
    """

    directories: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()
    projects: frozenset[str] = frozenset()
    refused: frozenset[tuple[str, str]] = frozenset()

    def exists(self, path: str) -> bool:
        """Whether there is anything at a path that was looked at."""
        return path in self.directories or path in self.others


class Denial(Record):
    """Something that was refused to a command, or several things of a kind under one rule.

    ``access``: read, write, execute or connect. ``path``: of what; the directory around several, which ``paths`` lists, or an
    address. ``rule`` and ``origin``: the policy's rule and where it is written, "" where nothing granted it; ``reason``: why, in
    words. ``grant``: options of ``houseroom run`` that allow it, empty where none does, and ``obstacle`` then says why.
    ``count``: how often it was tried, by which ``programs``. ``noise``: above 0 where programs usually do without, see ``NOISE``.
    """

    access: str
    path: str
    rule: str
    origin: str
    reason: str
    grant: tuple[str, ...] = ()
    obstacle: str = ""
    paths: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    count: int = 1
    noise: int = 0


class _One(Record):
    """One observation with what the policy says to it. ``family``: what it may be told together with."""

    seen: Observation
    access: str
    rule: str
    origin: str
    reason: str
    granted: bool  # an option helps
    family: tuple[str, ...]
    place: str = ""  # where the rule begins to hold
    obstacle: str = ""


def explain(placed: PlacedPolicy, observed: Observed, ground: Ground) -> tuple[Denial, ...]:
    """What the policy refused of what was observed, the most telling first. ``ground`` was looked up for the same observations."""
    ones = [one for seen in observed.seen if seen.denied and (one := _judge(placed, seen, ground)) is not None]
    groups: dict[tuple[str, ...], list[_One]] = {}
    for one in ones:
        groups.setdefault(one.family, []).append(one)
    found = [(denial, last) for group in groups.values() for denial, last in _fold(placed, group, ground)]
    found.sort(key=lambda pair: (pair[0].noise, -pair[1]))
    return tuple(denial for denial, _ in found)


def _judge(placed: PlacedPolicy, seen: Observation, ground: Ground) -> _One | None:
    if seen.kind == CONNECT:
        return _socket(placed, seen, ground) if seen.path[:1] in ("/", "@") else _network(placed, seen)
    act = _act(seen)
    decision = decide(placed, act)
    if isinstance(decision, Allow) and seen.kind in (CREATE, REMOVE):  # a name is its directory's
        act = Write(join(components(seen.path)[:-1]))
        decision = decide(placed, act)
    if isinstance(decision, Allow):
        return _beyond_the_policy(seen, decision)
    return None if (seen.kind, seen.path) in ground.refused else _denied(placed, seen, act, decision.why)


def _beyond_the_policy(seen: Observation, decision: Allow) -> _One | None:
    """What was refused although the rules of its path allow it; None where it is not our doing."""
    access, rule = _access(seen.kind), decision.why.rule
    if seen.words:  # init's own reason, which goes beyond the path
        return _One(seen, access, "", "", seen.words, granted=False, family=(access, seen.words), obstacle="no option allows it")
    if decision.access != SCRATCH or rule is None:
        return None  # the file's own permissions, or the host's own mount
    why = "this host can't lay a layer over it, so it is only read"
    return _One(seen, access, str(rule), str(rule.origin), why, granted=False, family=(access, str(rule)), obstacle=why)


def _denied(placed: PlacedPolicy, seen: Observation, act: Act, why: Why) -> _One:
    access, rule, helps = _access(seen.kind), why.rule, bool(why.grant)
    obstacle = "" if helps else _above(rule)
    if rule is None:
        return _One(seen, access, "", "", "nothing grants it", helps, (access, str(_noise(seen))), obstacle=obstacle)
    place, origin = _beginning(placed, act, rule), str(rule.origin)
    if rule.access == READ:  # what nobody misses does not hide what somebody does
        reason, family = "it is readable and not writable", (access, str(rule), str(_noise(seen)))
    else:
        reason, family = rule.reason or why.sentence, (access, str(rule), place if is_glob(rule.subject) else origin)
    return _One(seen, access, str(rule), origin, reason, helps, family, place, obstacle)


def _act(seen: Observation) -> Read | Write | Run:
    match seen.kind:
        case "read":
            return Read(seen.path)
        case "execute":
            return Run(seen.path)
    return Write(seen.path)


def _access(kind: str) -> str:
    return WRITE if kind in WRITING else kind


def _above(rule: Rule | None) -> str:
    """Why an option of the command line does not help: a layer above it refuses too."""
    if rule is None:
        return "a policy above yours grants nothing here"
    return _whose(rule.origin, f"{rule} ({rule.origin}) forbids it")


def _whose(origin: Origin, text: str) -> str:
    mends = {"organisation": "only who wrote it can change that", "project": "change that file, or read it and run `houseroom trust`"}
    mend = mends.get(origin.layer, "")
    return f"{text}: {mend}" if mend else text


def _beginning(placed: PlacedPolicy, act: Act, rule: Rule) -> str:
    """The shortest path on the way to what was tried at which this rule decides."""
    parts = components(act.path)
    for depth in range(len(parts) + 1):
        if placed.access(parts[:depth])[1] is rule:
            return join(parts[:depth])
    return join(parts)


def _network(placed: PlacedPolicy, seen: Observation) -> _One | None:
    setting = placed.policy.setting("network.reach")
    value = str(setting.value) if setting else "none"
    if value != "none":
        return None  # the host's own network; or listed hosts, and then the egress proxy tells what it refused
    others = [stratum.settings.get("network.reach") for stratum in placed.policy.strata[1:]]
    above = next((each for each in others if each is not None and each.value != "open"), None)
    obstacle = _whose(above.origin, f"network.reach {above.value} ({above.origin}) forbids it") if above else ""
    rule, origin, reason = "network.reach none", str(setting.origin) if setting else "built in", "the network is closed"
    return _One(seen, CONNECT, rule, origin, reason, above is None, (CONNECT, "network"), obstacle=obstacle)


def _socket(placed: PlacedPolicy, seen: Observation, ground: Ground) -> _One | None:
    if not seen.words and not ground.exists(seen.path):
        return None  # nobody listens there outside either
    reached = sockets.decide(placed.policy, placed.places, seen.path)
    obstacle, reason = reached.obstacle, "a socket of the host is another program's door"
    if reached.granted:  # by name; what is there now is another one, in a place where a command could have put it
        reason, obstacle = "it is not the socket that was there at the start", "begin the sandbox again"
    rule, origin = (str(reached.rule), str(reached.rule.origin)) if reached.rule else ("", "")
    return _One(seen, CONNECT, rule, origin, reason, not obstacle, (CONNECT, seen.path), obstacle=obstacle)


# Several as one


def _fold(placed: PlacedPolicy, group: list[_One], ground: Ground) -> Iterable[tuple[Denial, int]]:
    """Denials of one family, each with its latest moment."""
    first = group[0]
    if first.access == CONNECT:
        yield _denial(placed, group, first.seen.path if len(group) == 1 else f"{len(group)} addresses", ground)
    elif first.place and not first.rule.startswith("files.read "):
        yield _denial(placed, group, first.seen.path if len(group) == 1 else first.place, ground)
    else:
        for place, members in fold([one.seen.path for one in group], placed.places.home, ground):
            chosen = set(members)
            yield _denial(placed, [one for one in group if one.seen.path in chosen], place, ground)


def _denial(placed: PlacedPolicy, group: list[_One], path: str, ground: Ground) -> tuple[Denial, int]:
    first = group[0]
    paths = tuple(dict.fromkeys(one.seen.path for one in group))
    grant, obstacle = _grant(placed, group, path, paths, ground) if first.granted else ((), first.obstacle)
    programs = tuple(dict.fromkeys(one.seen.program for one in group if one.seen.program))
    noise = min(_noise(one.seen) for one in group)
    count = sum(one.seen.count for one in group)
    denial = Denial(first.access, path, first.rule, first.origin, first.reason, grant, obstacle, paths, programs, count, noise)
    return denial, max(one.seen.last for one in group)


def _grant(placed: PlacedPolicy, group: list[_One], path: str, paths: tuple[str, ...], ground: Ground) -> tuple[tuple[str, ...], str]:
    """The options that help, or why none does. A file that is granted alone can be written, and not be removed."""
    one = group[0]
    if one.access == CONNECT:
        if path[:1] == "/":
            return ("--socket", path, *(("--accept", "sockets") if sockets.power_of(path) else ())), ""
        return ("--net", "open"), ""
    if one.rule.startswith("files.protect ") and one.rule.rpartition("/")[2] in _REPOSITORY and one.origin == "built in":
        return ((), NO_NEW_REPOSITORY) if path.rpartition("/")[2] in _REPOSITORY and not ground.exists(path) else (("--git", "free"), "")
    option = "--write" if one.access == WRITE else "--read"
    removes = any(each.seen.kind == REMOVE for each in group)
    subject = path if option == "--read" or (ground.exists(path) and not removes) else existing_above(paths, placed.places.home, ground)
    if subject is None:
        return (), TOO_MUCH if removes else CREATE_FIRST
    return (option, subject), ""


def existing_above(paths: Iterable[str], home: str, ground: Ground) -> str | None:
    """The directory in which all of these would be made, None where it is not there, or would be too much."""
    parents = {join(components(path)[:-1]) for path in paths}
    place = common(parents)
    return place if place in ground.directories and not is_broad(place, home) else None


def fold(paths: Iterable[str], home: str, ground: Ground) -> list[tuple[str, tuple[str, ...]]]:
    """Paths grouped by what they belong to: a project, a program's own directory. Each group with the place that stands for it.

    A single path stands for itself, several for the deepest directory around them, and never one that belongs to many.
    """
    groups: dict[str, list[str]] = {}
    for path in dict.fromkeys(paths):
        groups.setdefault(unit(path, home, ground), []).append(path)
    return [branch for members in groups.values() for branch in _branches(members)]


def _branches(members: list[str]) -> list[tuple[str, tuple[str, ...]]]:
    """One place for all, or one for each directory below it where none of them is in it itself and there are few."""
    if len(members) == 1:
        return [(members[0], (members[0],))]
    place = common(members)
    depth = len(components(place))
    below: dict[str, list[str]] = {}
    for path in members:
        parts = components(path)
        below.setdefault(parts[depth] if len(parts) > depth + 1 else "", []).append(path)
    if "" in below or len(below) > _MOST_BRANCHES:
        return [(place, tuple(members))]
    return [branch for some in below.values() for branch in _branches(some)]


def unit(path: str, home: str, ground: Ground) -> str:
    """What a path belongs to: the project it is in, else the first directory on the way that is not everybody's."""
    parts = components(path)
    for depth in range(len(parts) - 1, 0, -1):
        if join(parts[:depth]) in ground.projects and not is_broad(join(parts[:depth]), home):
            return join(parts[:depth])
    for depth in range(1, len(parts)):
        if not is_broad(join(parts[:depth]), home):
            return join(parts[:depth])
    return join(parts)


def common(paths: Iterable[str]) -> str:
    """The deepest path at or above all of these."""
    split = [components(path) for path in paths]
    least = min(map(len, split))
    depth = 0
    while depth < least and len({parts[depth] for parts in split}) == 1:
        depth += 1
    return join(split[0][:depth])


def is_broad(path: str, home: str) -> bool:
    """Whether a directory holds what belongs to many. What is above the home directory does."""
    parts, own = components(path), components(home)
    if parts == own[: len(parts)]:
        return True
    for text in BROAD:
        glob = (*own, *components(text[1:])) if text[0] == "~" else components(text)
        if len(glob) == len(parts) and all(map(matches_name, glob, parts)):
            return True
    return False


def _noise(seen: Observation) -> int:
    if seen.kind not in (*WRITING, CONNECT):
        return 0
    names = components(seen.path)[-2:]
    return max((weight for glob, weight, _ in NOISE if any(matches_name(glob, name) for name in names)), default=0)
