"""Which rule is enforced by what on this host, and what is not: stated before anything starts, compared with the floor."""

from __future__ import annotations

from houseroom.errors import CannotEnforce
from houseroom.plan import steps as plan
from houseroom.plan.steps import Covered
from houseroom.policy.model import HIDE, PRIVATE, PROTECT, READ, SCRATCH, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from houseroom.plan.facts import Facts, Host
    from houseroom.policy.decide import PlacedPolicy
    from houseroom.policy.model import Rule

ENFORCED, PARTLY, MISSING = "enforced", "partly", "missing"

_MOUNT, _LANDLOCK, _SECCOMP, _INIT = "read-only mount namespace", "Landlock", "seccomp", "calls carried out by init"
_NOT_HANDED = "calls can't be handed to init (seccomp user notification)"
_BY_EACH = ("setrlimit",)
_COUNTED = "added up by init, many times a second"
_RACE = "a program that changes a call's arguments while init reads them can create protected names: no Landlock"

# What a rule of the floor asks of the rows: a reachable socket of the host is a way out of the network's rule, and of most others.
_MEANS = {"network": ("network", "sockets"), "network.reach": ("network", "sockets"), "git": ("files.protect",)}


class Accepted(Covered):
    """A row that falls short of the floor and that a person accepted by its name."""

    accepted: bool = True


def cover(placed: PlacedPolicy, facts: Facts, rung: str, steps: tuple[plan.Step, ...]) -> tuple[Covered, ...]:
    """One row for each rule that the policy uses. Rungs below namespaces state what they lose."""
    rows = _LADDER[rung](placed, facts, steps)
    return tuple(rows)


def _with_namespaces(placed: PlacedPolicy, facts: Facts, steps: tuple[plan.Step, ...]) -> Iterable[Covered]:
    host, tree = facts.host, facts.tree
    wall = (_LANDLOCK,) if host.landlock_abi else ()
    yield _row("files.read", (_MOUNT, *wall))
    yield _row("files.write", (_MOUNT, *wall))
    mediated = _mediated(steps)
    writable = any(isinstance(step, plan.Bind) and step.write for step in steps)
    if _uses(placed, PROTECT):
        if not writable:
            yield _row("files.protect", (_MOUNT, *wall))
        elif mediated:
            yield _row("files.protect", ("read-only bind mounts", _INIT, *wall), () if wall else (_RACE,))
        else:
            created = f"names that do not exist yet can be created: {_NOT_HANDED}: {host.notify}"
            yield _row("files.protect", ("read-only bind mounts",), (created,))
    if _uses(placed, HIDE):
        yield _row("files.hide", ("empty masks", "watched with inotify"), tree.incomplete)
    if _uses(placed, SCRATCH):
        lost_layers = (f"read-only instead: overlayfs said {host.overlay}",) if host.overlay else ()
        yield _row("files.scratch", ("overlayfs on a private tmpfs",), lost_layers)
    if mediated:
        yield _row("sockets", (_INIT, _SECCOMP), _powerful(steps))
    else:
        yield Covered("sockets", MISSING, (), (f"Unix sockets of the host can be connected to by path: {_NOT_HANDED}: {host.notify}",))
    yield from _always(placed)
    if any(isinstance(step, plan.Namespaces) and step.network for step in steps):
        way_out = ("egress proxy",) if any(isinstance(step, plan.Egress) for step in steps) else ()
        yield _row("network", ("empty network namespace", *way_out, _SECCOMP))
    if any(isinstance(step, plan.Namespaces) and step.pid for step in steps):
        yield _row("processes", ("pid and ipc namespaces", *wall, _SECCOMP))
    else:
        lost = (f"processes outside, and their arguments, can be seen: a fresh /proc can't be mounted: {host.proc}",)
        yield _row("processes", ("ipc namespace", *wall, _SECCOMP, "init ends all below it"), (*lost, *_lost_with_pids(host)))
    yield from _limits(placed, host, steps)


def _with_bubblewrap(placed: PlacedPolicy, facts: Facts, steps: tuple[plan.Step, ...]) -> Iterable[Covered]:
    replaced = "that the host replaces meanwhile"
    links = any(isinstance(step, plan.Bind) and step.link for step in steps)
    losses = {
        "files.write": ("modes, times and attributes of a file that is given as standard input can be changed",),
        "files.protect": (f"a protected file {replaced} can be written", *(("a protected symbolic link can be removed",) if links else ())),
        "files.hide": (f"a hidden file {replaced} shows, and so does one that the host creates",),
        "files.scratch": ("it starts empty: what the host has there is not seen",),
        "sockets": ("a FIFO that the host makes meanwhile can be written",),
        "limits.disk": ("each private directory may take as much",),
    }
    instead = {"watched with inotify": "made by bubblewrap", "overlayfs on a private tmpfs": "private tmpfs"}
    writable = any(isinstance(step, plan.Bind) and step.write for step in steps)
    for row in _with_namespaces(placed, facts, steps):
        lost = losses.get(row.rule, ()) if writable or row.rule not in ("files.protect", "sockets") else ()
        by = tuple(instead.get(way, way) for way in row.by)
        if row.rule == "files.scratch":
            yield Covered(row.rule, PARTLY, by, lost)
        else:
            yield Covered(row.rule, PARTLY if lost and row.state == ENFORCED else row.state, by, (*row.loses, *lost))


def _with_landlock(placed: PlacedPolicy, facts: Facts, steps: tuple[plan.Step, ...]) -> Iterable[Covered]:
    host = facts.host
    abi, mediated = host.landlock_abi, _mediated(steps)
    readable = placed.access(())[0] != HIDE
    hidden = "names, sizes and times of what may not be read can be asked for"
    looks = "the host's own /dev, /proc and /tmp can be read" if readable else hidden
    yield _row("files.read", (_LANDLOCK,), (looks,))
    lost = ["modes, owners, times and attributes of files outside the writable roots can be changed"]
    if any(access in (READ, PROTECT) for access in _inside_roots(placed)):
        lost.append("what is read-only inside a writable directory can be written")
    if abi < 3:
        lost.append("truncate(2) empties files that may not be written (needs Linux 6.2)")
    if abi < 5:
        lost.append("ioctl(2) on devices is not governed (needs Linux 6.10)")
    yield Covered("files.write", PARTLY, (_LANDLOCK,), tuple(lost))
    if _uses(placed, PROTECT):
        if mediated:
            existing = "what exists can be written, filled and removed; only what is missing can't come into being"
            yield Covered("files.protect", PARTLY, (_INIT, _LANDLOCK), (existing,))
        else:
            neither = "Landlock can't take a path out of a writable directory, nor a name"
            yield Covered("files.protect", MISSING, (), (f"{neither}: {_NOT_HANDED}: {host.notify}",))
    if _uses(placed, HIDE):
        yield Covered("files.hide", MISSING, (), ("Landlock can't take a path out of a readable directory",))
    if _uses(placed, PRIVATE):
        shared = "the host's files there can be read; only the directory that TMPDIR names can be written"
        yield Covered("files.private", PARTLY, (_LANDLOCK, "a directory of the sandbox's own, named by TMPDIR"), (shared,))
    if _uses(placed, SCRATCH):
        yield Covered("files.scratch", PARTLY, (_LANDLOCK,), ("read-only instead",))
    if mediated:
        yield _row("sockets", (_INIT, _SECCOMP), ("FIFOs of the host in the writable directories can be written",))
    else:
        yield Covered("sockets", MISSING, (), (f"Unix sockets of the host can be connected to by path: {_NOT_HANDED}: {host.notify}",))
    yield from _always(placed)
    setting = placed.policy.setting("network.reach")
    if setting is None or setting.value != "open":
        yield _row("network", (_SECCOMP,))
    seen = ("processes outside, and their arguments, can be seen", "System V IPC and POSIX message queues reach processes outside")
    yield Covered("processes", PARTLY, (_LANDLOCK, _SECCOMP, "init ends all below it"), (*seen, *_lost_with_pids(host)))
    for row in _limits(placed, host, steps):
        if row.rule == "limits.processes" and row.by == _BY_EACH:
            yield Covered(row.rule, PARTLY, row.by, (*row.loses, "the user's processes outside are counted with them"))
        elif row.rule == "limits.disk":
            yield Covered(row.rule, MISSING, (), ("there is no private tmpfs that could be limited",))
        else:
            yield row


_LADDER = {"namespaces": _with_namespaces, "bubblewrap": _with_bubblewrap, "landlock": _with_landlock}


def _lost_with_pids(host: Host) -> tuple[str, ...]:
    """What follows from sharing process ids with the host."""
    orphans = "what runs inside goes on if init itself is killed"
    slowed = "priority and processors of the user's processes outside can be changed"
    signals = () if host.landlock_abi >= 6 else ("signals reach the user's processes outside, and init (needs Linux 6.12)",)
    return (*signals, slowed, orphans)


def _powerful(steps: tuple[plan.Step, ...]) -> tuple[str, ...]:
    """What the policy lets through that leads round the policy."""
    from houseroom.policy.sockets import power_of

    found = ((step.path, power_of(step.path)) for step in steps if isinstance(step, plan.Socket))
    return tuple(f"{path} is let through: {what}" for path, what in found if what)


def _mediated(steps: tuple[plan.Step, ...]) -> bool:
    return any(isinstance(step, plan.Mediate) for step in steps)


def _inside_roots(placed: PlacedPolicy) -> Iterable[str]:
    """The access of every literal path below a writable root."""
    roots = placed.writable()
    return (placed.access(parts)[0] for parts in placed.literals() if any(parts[: len(root)] == root for root in roots))


def _always(placed: PlacedPolicy) -> Iterable[Covered]:
    if any(stratum.under("environment.withhold") for stratum in placed.policy.strata):
        yield _row("environment", ("a new environment is made",))


def _limits(placed: PlacedPolicy, host: Host, steps: tuple[plan.Step, ...]) -> Iterable[Covered]:
    policy = placed.policy
    group = next((step for step in steps if isinstance(step, plan.Cgroup)), None)
    escape = ("a command can leave its control group: the policy lets it write /sys/fs/cgroup",) if _writes_groups(placed) else ()
    if policy.setting("limits.memory") is not None:
        yield _memory(host, escape) if group and group.memory else _memory_by_init(host)
    if policy.setting("limits.processes") is not None:
        if group and group.processes:
            yield _row("limits.processes", (f"cgroup {host.cgroup_pids} pids.max (one ceiling for all)",), escape)
        elif host.uid:
            yield _row("limits.processes", _BY_EACH)
        else:
            yield Covered("limits.processes", PARTLY, (_COUNTED,), (_burst(host), "threads; the kernel's own limit leaves root out"))
    for name in ("open_files", "file_size", "cpu"):
        if policy.setting(f"limits.{name}") is not None:
            yield _row(f"limits.{name}", _BY_EACH)
    for name in ("limits.time", "session.expires"):
        if policy.setting(name) is not None:
            yield _row(name, ("the supervisor's clock",))
    if policy.setting("limits.output") is not None:
        shown = ("what is printed where standard output or error is a terminal",) if host.terminal else ()
        yield _row("limits.output", ("counted by the supervisor, which passes it on",), shown)
    if policy.setting("limits.disk") is not None:
        yield _row("limits.disk", ("size of the private tmpfs",))


def _memory(host: Host, escape: tuple[str, ...]) -> Covered:
    file = {"v1": "memory.limit_in_bytes", "v2": "memory.max"}[host.cgroup_memory]
    swapped = (f"what is swapped out: {host.cgroup_swap}",) if host.cgroup_swap else ()
    return _row("limits.memory", (f"cgroup {host.cgroup_memory} {file} (one ceiling for all)",), (*swapped, *escape))


def _memory_by_init(host: Host) -> Covered:
    unseen = "shared memory that no process has mapped, and memory of pipes and sockets"
    return Covered("limits.memory", PARTLY, (_COUNTED, "RLIMIT_DATA of each process"), (_burst(host), unseen))


def _burst(host: Host) -> str:
    return f"what comes and goes between two looks of init, which must count itself: {host.cgroup}"


def _writes_groups(placed: PlacedPolicy) -> bool:
    return placed.access(("sys", "fs", "cgroup"))[0] == WRITE


def _row(rule: str, by: tuple[str, ...], loses: tuple[str, ...] = ()) -> Covered:
    return Covered(rule, PARTLY if loses else ENFORCED, by, loses)


def _uses(placed: PlacedPolicy, access: str) -> bool:
    key = f"files.{access}"
    return any(rule.key == key for stratum in placed.policy.strata for rule in stratum.rules)


def require(coverage: tuple[Covered, ...], floor: tuple[Rule, ...], accepted: tuple[str, ...], because: str = "") -> tuple[Covered, ...]:
    """The rows, those marked that fall short of the floor and were accepted by name. Raises CannotEnforce for any other.

    ``because`` is why the plan does not stand on a higher rung.
    """
    rows: list[Covered] = []
    short: list[Covered] = []
    for row in coverage:
        wanted = row.state != ENFORCED and any(_asks(rule.subject, row.rule) for rule in floor)
        taken = wanted and any(_asks(name, row.rule) for name in accepted)
        rows.append(Accepted(*row.values()) if taken else row)
        short += [row] if wanted and not taken else []
    if short:
        missing = tuple(row.rule for row in short)
        lost = [", ".join(row.loses) or "no mechanism here" for row in short]
        reasons = lost[0] if len(short) == 1 else "; ".join(f"{row.rule}: {why}" for row, why in zip(short, lost))
        reasons = f"{because}. So {reasons}" if because else reasons
        accept = " ".join(f"--accept {rule}" for rule in missing)
        hint = f"`houseroom doctor` shows what to change on this host. To run without: houseroom run {accept} -- …"
        raise CannotEnforce(missing, reasons, hint)
    return tuple(rows)


def _asks(subject: str, rule: str) -> bool:
    """Whether a rule's name, or that of its whole section, means this row."""
    return rule in _MEANS.get(subject, (subject,)) or rule[: len(subject) + 1] == subject + "."
