"""The smallest policy that would have sufficed, as lines to add to a policy's text, and what could be taken out.

What is proposed was tried by the very commands that a sandbox is for, so it is a proposal to a person: nothing that is hidden,
protected or run by the host is ever in it, nor a directory that belongs to many, nor a path that means more than itself.
"""

from __future__ import annotations

from houseroom.policy.denials import CREATE_FIRST, common, fold, is_broad
from houseroom.policy.model import SCRATCH
from houseroom.policy.observation import CONNECT, EXECUTE, READ, WRITE, WRITING
from houseroom.policy.pattern import components, is_glob, join
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from houseroom.policy.decide import PlacedPolicy
    from houseroom.policy.denials import Denial, Ground
    from houseroom.policy.model import Places, Rule
    from houseroom.policy.observation import Observation, Observed

_KEYS = {"--write": "files.write", "--read": "files.read"}
_WITHHELD = ("files.hide ", "files.protect ", "files.private ")
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-")


class Line(Record):
    """A value to add: ``key`` is files.write or files.read, ``path`` what it grants, ``subject`` how the policy spells it.

    ``said``: for whom, fit to stand in a comment.
    """

    key: str
    path: str
    subject: str
    said: str


class Proposal(Record):
    """What to add, and what a person has to think about.

    ``missing``: would be added if it existed. ``kept``: refused on purpose; whoever wants it says so by hand. ``beyond``: no line of
    this policy would help. ``unused``: rules that let be written what was not. ``dropped``: written into a layer that is gone at the
    end. ``read``: where anything was read.
    """

    lines: tuple[Line, ...] = ()
    missing: tuple[Line, ...] = ()
    kept: tuple[Denial, ...] = ()
    beyond: tuple[Denial, ...] = ()
    unused: tuple[Rule, ...] = ()
    dropped: tuple[str, ...] = ()
    read: tuple[str, ...] = ()


def propose(
    placed: PlacedPolicy,
    observed: Observed,
    denials: Iterable[Denial],
    ground: Ground,
    *,
    run_by_host: tuple[str, ...] = (),
    project: bool = False,
) -> Proposal:
    """What would have sufficed. ``run_by_host``: directories whose programs the host runs by name (PATH).

    ``project``: it is for the project's own file, in which paths of the workspace are relative.
    """
    lines: list[Line] = []
    missing: list[Line] = []
    kept: list[Denial] = []
    beyond: list[Denial] = []
    for denial in denials:
        if denial.noise > 1:
            continue
        path = denial.grant[1] if denial.grant else denial.path
        if denial.rule.startswith(_WITHHELD) or (denial.access == CONNECT and denial.grant):
            kept.append(denial)
            continue
        if _is_run(denial, run_by_host):
            kept.append(denial.with_(reason="programs that you run lie there"))
            continue
        may_grant = not is_broad(path, placed.places.home) and _means_itself(path)
        if not may_grant or not (denial.grant or denial.obstacle == CREATE_FIRST):
            beyond.append(denial)
            continue
        line = Line(_key(denial), path, spell(path, placed.places, project=project), _said(denial))
        (lines if denial.grant else missing).append(line)
    return Proposal(
        _smallest(lines),
        _smallest(missing),
        tuple(kept),
        tuple(beyond),
        _unused(placed, observed.seen),
        _dropped(placed, observed.seen),
        _read(placed, observed.seen, ground),
    )


def spell(path: str, places: Places, *, project: bool) -> str:
    """A path as a policy spells it: relative to the workspace in the project's file, with ``~`` in the user's."""
    parts = components(path)
    for root, lead in ((places.workspace, ""),) if project else ((places.home, "~/"),):
        inside = components(root)
        if inside and parts[: len(inside)] == inside and len(parts) > len(inside):
            return lead + "/".join(parts[len(inside) :])
    return path


def _key(denial: Denial) -> str:
    return _KEYS[denial.grant[0]] if denial.grant else "files.write" if denial.access == WRITE else "files.read"


def _is_run(denial: Denial, run_by_host: tuple[str, ...]) -> bool:
    """Whether writing it would change what the host runs."""
    if denial.access != WRITE:
        return False
    roots = [components(root) for root in run_by_host]
    paths = [components(path) for path in (denial.path, *denial.grant[1:])]
    return any(parts[: len(root)] == root or root[: len(parts)] == parts for root in roots for parts in paths)


def _means_itself(path: str) -> bool:
    """Whether a path, written into a policy, names exactly this path and nothing else."""
    return not is_glob(path) and "{" not in path and path.isprintable() and path == path.strip() and not path.startswith(("$", "!"))


def _said(denial: Denial) -> str:
    """Who needed it. Names of processes are whatever a process likes to be called."""
    many = f"{len(denial.paths)} files" if len(denial.paths) > 1 else "1 file"
    names = ["".join(char if char in _PLAIN else "?" for char in name)[:20] for name in denial.programs[:3]]
    return f"learned: {many}" + (f", by {', '.join(names)}" if names else "")


def _smallest(lines: list[Line]) -> tuple[Line, ...]:
    """Each once, and none that another one covers."""
    by_path = {(line.key, components(line.path)): line for line in reversed(lines)}
    return tuple(
        line
        for (key, parts), line in sorted(by_path.items(), key=lambda pair: pair[0])
        if not any((key, parts[:depth]) in by_path for depth in range(len(parts)))
    )


def _unused(placed: PlacedPolicy, seen: Iterable[Observation]) -> tuple[Rule, ...]:
    """Rules for single paths under which nothing was written."""
    written = [components(one.path) for one in seen if one.kind in WRITING and not one.denied]
    rules = {
        parts: rule
        for stratum in placed.strata
        for parts, rule in stratum.literal.items()
        if rule.key == "files.write" and not any(path[: len(parts)] == parts for path in written)
    }
    return tuple(rules.values())


def _dropped(placed: PlacedPolicy, seen: Iterable[Observation]) -> tuple[str, ...]:
    """The scratch directories in which something was written."""
    found: dict[str, None] = {}
    for one in seen:
        if one.kind in WRITING and not one.denied:
            access, rule = placed.access(components(one.path))
            if access == SCRATCH and rule is not None:
                found[rule.subject] = None
    return tuple(found)


def _read(placed: PlacedPolicy, seen: Iterable[Observation], ground: Ground) -> tuple[str, ...]:
    """The few directories around everything that was read or run: enough for a list of ``files.read``."""
    paths = [join(components(one.path)) for one in seen if one.kind in (READ, EXECUTE) and not one.denied]
    home, own = placed.places.home, components(placed.places.workspace)
    outside = [path for path in paths if components(path)[: len(own)] != own]
    tops: dict[str, list[str]] = {}
    for path in outside:
        parts, inside = components(path), components(home)
        depth = len(inside) + 1 if parts[: len(inside)] == inside and len(parts) > len(inside) else 1
        tops.setdefault(join(parts[:depth]), []).append(path)
    found: list[str] = []
    for top, below in tops.items():
        if top.startswith(f"{home}/") and is_broad(top, home):
            found += [place for place, _ in fold((f"{path}/*" for path in below), home, ground)]
        else:
            found.append(top if len(components(top)) == 1 else common(below))
    return tuple(sorted({spell(path.removesuffix("/*"), placed.places, project=False) for path in found}))
