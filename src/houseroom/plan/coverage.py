"""Which rule is enforced by what on this host, and what is not: stated before anything starts, compared with the floor."""

from __future__ import annotations

from houseroom.errors import CannotEnforce
from houseroom.plan import landlock
from houseroom.plan import steps as plan
from houseroom.plan.steps import Covered
from houseroom.policy.model import HIDE, PROTECT, SCRATCH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from houseroom.plan.facts import Facts
    from houseroom.policy.decide import PlacedPolicy
    from houseroom.policy.model import Rule

ENFORCED, PARTLY, MISSING = "enforced", "partly", "missing"

_MOUNT, _LANDLOCK, _SECCOMP, _INIT = "read-only mount namespace", "Landlock", "seccomp", "calls carried out by init"


def cover(placed: PlacedPolicy, facts: Facts, rung: str, steps: tuple[plan.Step, ...]) -> tuple[Covered, ...]:
    """One row for each rule that the policy uses. Rungs below namespaces state what they lose."""
    rows = _LADDER[rung](placed, facts, steps)
    return tuple(rows)


def _with_namespaces(placed: PlacedPolicy, facts: Facts, steps: tuple[plan.Step, ...]) -> Iterable[Covered]:
    host, tree = facts.host, facts.tree
    lost = landlock.lacks(host.landlock_abi)
    yield _row("files.read", (_MOUNT, _LANDLOCK))
    yield _row("files.write", (_MOUNT, _LANDLOCK), lost)
    mediated = any(isinstance(step, plan.Mediate) for step in steps)
    writable = any(isinstance(step, plan.Bind) and step.write for step in steps)
    if _uses(placed, PROTECT):
        if mediated or not writable:
            yield _row("files.protect", ("read-only bind mounts", _INIT, _LANDLOCK))
        else:
            yield _row("files.protect", ("read-only bind mounts",), (f"names that do not exist yet can be created: {host.notify}",))
    if _uses(placed, HIDE):
        yield _row("files.hide", ("empty masks", "watched with inotify"), tree.incomplete)
    if _uses(placed, SCRATCH):
        lost_layers = (f"read-only instead: overlayfs said {host.overlay}",) if host.overlay else ()
        yield _row("files.scratch", ("overlayfs on a private tmpfs",), lost_layers)
    if mediated or not writable:
        yield _row("sockets", (_INIT, _SECCOMP), ("told apart by unix_diag, which is missing: " + host.sock_diag,) if host.sock_diag else ())
    else:
        yield Covered("sockets", MISSING, (), ("Unix sockets of the host can be connected to by path",))
    yield from _always(placed)
    if any(isinstance(step, plan.Namespaces) and step.network for step in steps):
        yield _row("network", ("empty network namespace", _SECCOMP))
    yield _row("processes", ("pid and ipc namespaces", _LANDLOCK, _SECCOMP), (f"processes outside can be seen: /proc: {host.proc}",) if host.proc else ())
    yield from _limits(placed, host.uid)


def _with_bubblewrap(placed: PlacedPolicy, facts: Facts, steps: tuple[plan.Step, ...]) -> Iterable[Covered]:
    for row in _with_namespaces(placed, facts, steps):
        if row.rule == "files.hide":
            yield Covered(row.rule, PARTLY, ("empty masks by bubblewrap",), (*row.loses, "a hidden file that the host replaces meanwhile shows"))
        elif row.rule == "files.scratch":
            yield Covered(row.rule, PARTLY, ("private tmpfs by bubblewrap",), ("caches start empty",))
        else:
            yield row


def _with_landlock(placed: PlacedPolicy, facts: Facts, _steps: tuple[plan.Step, ...]) -> Iterable[Covered]:
    yield _row("files.read", (_LANDLOCK,))
    metadata = "modes, owners, times and attributes of files outside the writable roots can be changed"
    yield Covered("files.write", PARTLY, (_LANDLOCK,), (metadata, *landlock.lacks(facts.host.landlock_abi)))
    if _uses(placed, PROTECT):
        yield Covered("files.protect", MISSING, (), ("Landlock can't take a path out of a writable directory",))
    if _uses(placed, HIDE):
        yield Covered("files.hide", MISSING, (), ("Landlock can't take a path out of a readable directory",))
    if _uses(placed, SCRATCH):
        yield Covered("files.scratch", PARTLY, (_LANDLOCK,), ("read-only instead",))
    yield Covered("sockets", PARTLY, (_LANDLOCK, _SECCOMP), ("Unix sockets of the host can be connected to by path",))
    yield from _always(placed)
    setting = placed.policy.setting("network.reach")
    if setting is None or setting.value == "none":
        yield _row("network", (_SECCOMP,), ())
    yield Covered("processes", PARTLY, (_LANDLOCK,), ("processes outside can be seen", "a process that leaves its parent outlives the command"))
    yield from _limits(placed, facts.host.uid)


_LADDER = {"namespaces": _with_namespaces, "bubblewrap": _with_bubblewrap, "landlock": _with_landlock}


def _always(placed: PlacedPolicy) -> Iterable[Covered]:
    if any(stratum.under("environment.withhold") for stratum in placed.policy.strata):
        yield _row("environment", ("a new environment is made",))


def _limits(placed: PlacedPolicy, uid: int) -> Iterable[Covered]:
    for name in ("processes", "open_files", "file_size", "cpu"):
        if placed.policy.setting(f"limits.{name}") is not None:
            lost = ("the kernel does not count root's processes",) if name == "processes" and uid == 0 else ()
            yield _row(f"limits.{name}", ("setrlimit",), lost)
    for name in ("limits.time", "session.expires"):
        if placed.policy.setting(name) is not None:
            yield _row(name, ("the supervisor's clock",))
    if placed.policy.setting("limits.disk") is not None:
        yield _row("limits.disk", ("size of the private tmpfs",))


def _row(rule: str, by: tuple[str, ...], loses: tuple[str, ...] = ()) -> Covered:
    return Covered(rule, PARTLY if loses else ENFORCED, by, loses)


def _uses(placed: PlacedPolicy, access: str) -> bool:
    key = f"files.{access}"
    return any(rule.key == key for stratum in placed.policy.strata for rule in stratum.rules)


def require(coverage: tuple[Covered, ...], floor: tuple[Rule, ...], accepted: tuple[str, ...]) -> None:
    """Raise CannotEnforce if a rule of the floor is not wholly enforced and was not accepted by name."""
    rows = {row.rule: row for row in coverage}
    short = [rows[rule.subject] for rule in floor if rule.subject in rows and rows[rule.subject].state != ENFORCED]
    missing = tuple(row.rule for row in short if row.rule not in accepted)
    if missing:
        reasons = "; ".join(f"{row.rule}: {', '.join(row.loses) or 'no mechanism here'}" for row in short if row.rule in missing)
        accept = " ".join(f"--accept {rule}" for rule in missing)
        hint = f"`houseroom doctor` shows what to change on this host. To run without: houseroom run {accept} -- …"
        raise CannotEnforce(missing, reasons, hint)
