"""Facts × policy → ordered steps and coverage. Pure: the same arguments give the same plan on every machine.

File rules become *marks*: paths at which the access changes. Marks are carried out parents first, so a deeper, more
specific rule is mounted over a shallower one, which is exactly how ``policy.decide`` reads them.
"""

from __future__ import annotations

from houseroom.errors import CannotEnforce, PolicyError
from houseroom.plan import landlock
from houseroom.plan.coverage import cover
from houseroom.plan.facts import DIRECTORY, LINK, MISSING, Entry
from houseroom.plan.steps import (
    Area,
    Bind,
    Devices,
    Landlock,
    Lock,
    Loopback,
    Mask,
    Mediate,
    Namespaces,
    Plan,
    Private,
    Proc,
    Root,
    Scratch,
    Seccomp,
    Step,
    Watch,
)
from houseroom.policy.model import HIDE, PRIVATE, PROTECT, READ, SCRATCH, WRITE
from houseroom.policy.pattern import components, is_glob, join
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.plan.facts import Facts, Host
    from houseroom.policy.decide import PlacedPolicy
    from houseroom.policy.model import Rule

NAMESPACES, BUBBLEWRAP, LANDLOCK = "namespaces", "bubblewrap", "landlock"
RUNGS = (NAMESPACES, BUBBLEWRAP, LANDLOCK)

# proc(5): what would let a sandbox started by root change the host, and what tells about it.
PROC_READ_ONLY = ("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi", "driver", "mtrr")
PROC_MASKED = ("kcore", "kmsg", "keys", "key-users", "timer_list", "sched_debug", "latency_stats", "kpagecount", "kpageflags")

# A git directory by any name is as good as one called .git (git-config(1), safe.bareRepository), so init refuses both.
NEVER_CREATED = "**/.git"


class Mark(Record):
    """A path at which the access differs from what its surroundings have."""

    parts: tuple[str, ...]
    access: str
    entry: Entry
    rule: Rule | None

    @property
    def path(self) -> str:
        """The mount point."""
        return join(self.parts)


def compile_plan(placed: PlacedPolicy, facts: Facts, *, rung: str = "") -> Plan:
    """The plan for one policy on one host.

    ``rung`` forces a rung of the ladder; otherwise the highest that this host allows. Raises CannotEnforce where no
    rung holds, PolicyError where a writable path does not exist. The floor is checked by ``coverage.require``.
    """
    rung = rung or choose_rung(facts.host)
    marks = find_marks(placed, facts)
    network = placed.policy.setting("network.reach")
    closed_network = network is None or network.value == "none"
    steps = (
        *_surroundings(placed, facts.host, rung, network=closed_network),
        *_mounts(placed, facts, marks),
        *_locks(placed, facts, marks, rung, network=closed_network),
    )
    return Plan(rung, steps, cover(placed, facts, rung, steps))


def choose_rung(host: Host) -> str:
    """The highest rung of the declared ladder that holds on this host. Raises CannotEnforce where none does."""
    if host.wsl == 1:
        raise CannotEnforce(("everything",), "WSL 1 has no Linux kernel to enforce anything", "Use WSL 2: wsl --set-version DISTRO 2")
    if host.seccomp:
        raise CannotEnforce(("everything",), f"this host refuses system call filters: {host.seccomp}")
    if not host.namespaces and not host.mounts and host.landlock_abi:
        return NAMESPACES
    if host.bubblewrap and host.landlock_abi:
        return BUBBLEWRAP
    if host.landlock_abi:
        return LANDLOCK
    reason = f"no user namespaces ({host.namespaces or 'fine'}), no mounts ({host.mounts or 'fine'}), Landlock ABI {host.landlock_abi}"
    raise CannotEnforce(("everything",), reason, "`houseroom doctor` shows what to change on this host.")


def find_marks(placed: PlacedPolicy, facts: Facts) -> tuple[Mark, ...]:
    """Every path at which the effective access changes and something exists, parents before children."""
    tree = facts.tree
    entries: dict[tuple[str, ...], Entry] = {components(entry.path): entry for entry in tree.found}
    for entry in tree.named.values():
        entries.setdefault(components(entry.path), entry)
    marks: dict[tuple[str, ...], Mark] = {}
    for parts in sorted(entries, key=lambda parts: (len(parts), parts)):
        access, rule = placed.access(parts)
        entry = entries[parts]
        if entry.kind == MISSING:
            if access == WRITE and rule is not None and rule.key == "files.write" and components(rule.subject)[-1:] == parts[-1:]:
                raise _missing_root(join(parts), rule)
            continue
        named_private = access == PRIVATE and entry.kind == DIRECTORY  # an own directory inside another, as /run/user/1000 in /run
        if _class(access) != _class(_around(marks, parts)) or (access == PROTECT and entry.kind == LINK) or named_private:
            marks[parts] = Mark(parts, access, entry, rule)
    return tuple(marks.values())


def _missing_root(path: str, rule: Rule) -> PolicyError:
    origin = rule.origin
    hint = f"Create it first: mkdir -p {path}"
    return PolicyError(f"can't make {path} writable: it does not exist", file=origin.file, line=origin.line, column=origin.column, hint=hint)


def _around(marks: dict[tuple[str, ...], Mark], parts: tuple[str, ...]) -> str:
    for depth in range(len(parts) - 1, -1, -1):
        if parts[:depth] in marks:
            return marks[parts[:depth]].access
    return HIDE


def _class(access: str) -> str:
    return READ if access == PROTECT else access


def _surroundings(placed: PlacedPolicy, host: Host, rung: str, *, network: bool) -> list[Step]:
    """What is the same for every command: namespaces, root, devices, /proc."""
    if rung == LANDLOCK:
        return []
    fresh = not host.proc
    readable = placed.access(())[0] != HIDE
    steps: list[Step] = [
        Namespaces(network, fresh, "every child is inside, sees only the sandbox's processes, and dies with it"),
        Root("host" if readable else "empty", "read broadly: the host's files, none of them writable, no set-user-id, no devices"),
    ]
    disk = placed.policy.setting("limits.disk")
    steps.append(Area(int(str(disk.value)) if disk else 0, "what is private lives in memory and ends with the sandbox"))
    if network:
        steps.append(Loopback("servers and clients inside talk to each other; there is no other interface"))
    steps.append(Devices("the devices programs need, a terminal namespace of its own, shared memory"))
    why = "only the sandbox's processes; kernel settings can't be written, also by root"
    steps.append(Proc(fresh, PROC_READ_ONLY, PROC_MASKED, why))
    return steps


def _mounts(placed: PlacedPolicy, facts: Facts, marks: tuple[Mark, ...]) -> list[Step]:
    """One step a mark, parents first; FIFOs inside writable roots are masked, no mount stops writing into them."""
    empty_root = placed.access(())[0] == HIDE
    accesses = {mark.parts: mark.access for mark in marks}
    hollow = {mark.parts[:depth] for mark in marks for depth in range(len(mark.parts))}
    steps = [step for mark in marks if (step := _mount(mark, accesses, empty_root=empty_root, hollow=mark.parts in hollow))]
    for path in facts.tree.fifos:
        steps.append(Mask(path, "file", "a FIFO of the host: a reader outside would hear what is written into it"))
    return steps


def _mount(mark: Mark, accesses: dict[tuple[str, ...], str], *, empty_root: bool, hollow: bool) -> Step | None:
    if not mark.parts:
        return None  # the root itself is the Root step
    rule, why = (str(mark.rule), mark.rule.reason or str(mark.rule)) if mark.rule else ("", "nothing grants it")
    above = {accesses.get(mark.parts[:depth]) for depth in range(1, len(mark.parts))}
    covered = empty_root or bool(above & {HIDE, PRIVATE, SCRATCH})
    kind = "dir" if mark.entry.kind == DIRECTORY else "file"
    match mark.access:
        case _ if mark.entry.kind == LINK:
            # What it leads to has a mark of its own (aliases); the link is pinned where the sandbox could replace it.
            return Bind(mark.path, False, why, rule, link=True, covered=covered) if mark.access in (PROTECT, READ) else None
        case "hide":
            return Mask(mark.path, kind, why, rule, hollow=hollow)
        case "private":
            return Private(mark.path, _private_mode(mark.path), why, rule) if kind == "dir" else None
        case "scratch":
            return Scratch(mark.path, why, rule) if kind == "dir" else None
        case access:
            return Bind(mark.path, access == WRITE, why, rule, covered=covered)


def _private_mode(path: str) -> int:
    if path in ("/tmp", "/var/tmp"):
        return 0o1777
    return 0o700 if path.startswith("/run/user/") else 0o755


def _locks(placed: PlacedPolicy, facts: Facts, marks: tuple[Mark, ...], rung: str, *, network: bool) -> list[Step]:
    """What restricts the command itself, in the order in which the kernel wants it."""
    host = facts.host
    roots = tuple(mark.path for mark in marks if mark.access == WRITE and mark.entry.kind == DIRECTORY)
    rules = placed.below(tuple(components(root) for root in roots)) if roots else ()
    mediated = bool(roots) and not host.notify
    steps: list[Step] = []
    if mediated:
        never = tuple((f"{root.rstrip('/')}/{NEVER_CREATED}", PROTECT) for root in roots)
        pinned = {mark.path for mark in marks if mark.access == PROTECT}
        pinned |= {text for stratum in rules for text, access in stratum if access == PROTECT and not is_glob(text)}
        sockets = tuple(rule.subject for stratum in placed.policy.strata for rule in stratum.under("network.sockets"))
        why = "protected names can't come into being; sockets made outside can't be reached"
        steps.append(Mediate(roots, (*rules, never), tuple(sorted(pinned)), sockets, why))
    if rung == NAMESPACES:
        hidden = facts.tree.watched
        why = "a hidden file that the host replaces or creates meanwhile is masked again"
        steps.append(Watch(roots, rules, hidden, why))
    steps.append(Lock(_rlimits(placed), "no capabilities, no way to regain any, limits of the policy"))
    allowed = _landlock_rules(marks, readable=placed.access(())[0] != HIDE, mediated=mediated)
    unconfined = rung != LANDLOCK or not network
    steps.append(Landlock(allowed, host.landlock_abi, unconfined, "a second wall that needs no mount, and the one that forbids creating names"))
    reach = "none" if network else "open"
    filtered = "refused" if rung == LANDLOCK and network else reach
    steps.append(Seccomp("command", filtered, mediated, "system calls that reach round the other walls are refused"))
    if rung != LANDLOCK:
        steps.append(Seccomp("init", filtered, False, "init itself needs few calls once the command runs"))
    return steps


def _rlimits(placed: PlacedPolicy) -> dict[str, int]:
    out = {}
    for name in ("processes", "open_files", "file_size", "cpu"):
        setting = placed.policy.setting(f"limits.{name}")
        if setting is not None:
            out[name] = int(setting.value)  # type: ignore[call-overload]
    return out


def _landlock_rules(marks: tuple[Mark, ...], *, readable: bool, mediated: bool) -> tuple[tuple[str, tuple[str, ...]], ...]:
    writable = landlock.WRITE_IN_PLACE if mediated else landlock.FULL
    rules = [("/", landlock.READ if readable else ("read_dir",)), ("/dev", landlock.FULL), ("/proc", (*landlock.READ, "write_file"))]
    granted = {WRITE: writable, PRIVATE: landlock.FULL, SCRATCH: landlock.FULL}
    for mark in marks:
        if not mark.parts or mark.entry.kind == LINK:
            continue
        if mark.access in granted:
            rules.append((mark.path, granted[mark.access]))
        elif mark.access in (READ, PROTECT) and not readable:
            rules.append((mark.path, landlock.READ))
    return tuple(rules)
