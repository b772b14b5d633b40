"""Facts × policy → ordered steps and coverage. Pure: the same arguments give the same plan on every machine.

File rules become *marks*: paths at which the access changes. Marks are carried out parents first, so a deeper, more
specific rule is mounted over a shallower one, which is exactly how ``policy.decide`` reads them.
"""

from __future__ import annotations

from houseroom.errors import CannotEnforce, PolicyError
from houseroom.plan import egress, landlock, limits, publish, sockets
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
    from houseroom.policy.decide import NodeRules, PlacedPolicy
    from houseroom.policy.model import Rule, Setting

NAMESPACES, BUBBLEWRAP, LANDLOCK = "namespaces", "bubblewrap", "landlock"
RUNGS = (NAMESPACES, BUBBLEWRAP, LANDLOCK)

# proc(5): what would let a sandbox started by root change the host, and what tells about it.
PROC_READ_ONLY = ("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi", "driver", "mtrr")
PROC_MASKED = ("kcore", "kmsg", "keys", "key-users", "timer_list", "sched_debug", "latency_stats", "kpagecount", "kpageflags")

_SHARED_PIDS = "process ids stay the outer ones, which /proc shows; init ends every descendant"
_DOCTOR = "`houseroom doctor` shows what to change on this host."

# WSL 2 starts Windows programs through sockets in here; where /run is not private, they are masked. The other way, a socket
# of AF_VSOCK, is refused by the filter.
WSL_SOCKETS = "/run/WSL"

# What a command needs of the host's /dev where there are no mounts: no disk, no terminal of others, no shared memory.
PLAIN_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")

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


def compile_plan(placed: PlacedPolicy, facts: Facts, *, rung: str = "", observe: str = "off") -> Plan:
    """The plan for one policy on one host.

    ``rung`` forces a rung of the ladder; otherwise the highest that this host allows. ``observe`` is a level of
    ``plan.seccomp``; where init can't listen nothing is observed. Raises CannotEnforce where no rung holds, PolicyError where a
    writable path does not exist. The floor is checked by ``coverage.require``.
    """
    rung = choose_rung(facts.host, rung)
    marks = find_marks(placed, facts)
    network = placed.policy.setting("network.reach")
    closed_network = network is None or network.value != "open"
    way_out = _way_out(network, rung, facts.host)
    mounts = _mounts(placed, facts, marks) if rung != LANDLOCK else []
    steps = (
        *limits.group(placed.policy, facts.host),
        *_surroundings(placed, facts.host, rung, network=closed_network),
        *way_out[:1],
        *publish.steps(placed.policy, own_network=rung == NAMESPACES),
        *sockets.steps(placed, facts.tree, namespaces=rung == NAMESPACES),
        *mounts,
        *way_out[1:],
        *limits.tally(placed.policy, facts.host, _areas(mounts, rung)),
        *_locks(placed, facts, marks, rung, network=closed_network, observe=observe, way_out=bool(way_out)),
    )
    return Plan(rung, steps, cover(placed, facts, rung, steps))


def _way_out(reach: Setting | None, rung: str, host: Host) -> tuple[Step, ...]:
    """The steps of the egress proxy, where the network reaches listed hosts. Raises CannotEnforce where they can't be carried out."""
    if reach is None or reach.value != "listed":
        return ()
    if rung != NAMESPACES:
        raise CannotEnforce(("network.reach",), f"the egress proxy needs the rung {NAMESPACES} ({reach.origin})", "Run offline: --net none")
    return egress.steps(host.authorities)


def choose_rung(host: Host, wanted: str = "") -> str:
    """The highest rung of the declared ladder that holds on this host, or the wanted one if it does.

    Raises CannotEnforce where none does, or not that one, naming what each lacks.
    """
    if host.wsl == 1:
        raise CannotEnforce(("everything",), "WSL 1 has no Linux kernel to enforce anything", "Use WSL 2: wsl --set-version DISTRO 2")
    if host.seccomp:
        raise CannotEnforce(("everything",), f"this host refuses system call filters: {host.seccomp}", _DOCTOR)
    lacks = {rung: reason for rung in RUNGS if (reason := _lacks(host, rung))}
    for rung in (wanted,) if wanted else RUNGS:
        if rung not in lacks:
            return rung
    reason = "; ".join(f"no rung {rung}: {lacks[rung]}" for rung in ((wanted,) if wanted else RUNGS))
    raise CannotEnforce(("everything",), reason, _DOCTOR)


def why_not_higher(host: Host, rung: str) -> str:
    """What the rungs above one lack here; "" for the highest, and for one that was wanted though a higher one holds."""
    above = {higher: _lacks(host, higher) for higher in RUNGS[: RUNGS.index(rung)]}
    return "; ".join(f"no {higher} here ({why})" for higher, why in above.items()) if all(above.values()) else ""


def _lacks(host: Host, rung: str) -> str:
    """Why a rung does not hold here, "" where it does."""
    match rung:
        case "namespaces":
            why = {"user namespaces": host.namespaces, "mounts": host.mounts}
            return "; ".join(f"{what}: {said}" for what, said in why.items() if said)
        case "bubblewrap":
            return "" if host.bubblewrap else "no bwrap that starts here is in the PATH"
    return "" if host.landlock_abi else "the kernel has no Landlock, or it is switched off"


def find_marks(placed: PlacedPolicy, facts: Facts) -> tuple[Mark, ...]:
    """Every path at which the effective access changes and something exists, parents before children."""
    tree = facts.tree
    entries: dict[tuple[str, ...], Entry] = {components(entry.path): entry for entry in tree.found}
    for entry in tree.named.values():
        entries.setdefault(components(entry.path), entry)
    marks: dict[tuple[str, ...], Mark] = {}
    root = placed.access(())[0]  # by itself: "/" need not be among what was looked at
    for parts in sorted(entries, key=lambda parts: (len(parts), parts)):
        access, rule = placed.access(parts)
        entry = entries[parts]
        if entry.kind == MISSING:
            if access == WRITE and rule is not None and rule.key == "files.write" and components(rule.subject)[-1:] == parts[-1:]:
                raise _missing_root(join(parts), rule)
            continue
        named_private = access == PRIVATE and entry.kind == DIRECTORY  # an own directory inside another, as /run/user/1000 in /run
        if _class(access) != _class(_around(marks, parts, root)) or (access == PROTECT and entry.kind == LINK) or named_private:
            marks[parts] = Mark(parts, access, entry, rule)
    return tuple(marks.values())


def _missing_root(path: str, rule: Rule) -> PolicyError:
    origin = rule.origin
    hint = f"Create it first: mkdir -p {path}"
    return PolicyError(
        f"can't make {path} writable: it does not exist", file=origin.file, line=origin.line, column=origin.column, hint=hint
    )


def _around(marks: dict[tuple[str, ...], Mark], parts: tuple[str, ...], root: str) -> str:
    for depth in range(len(parts) - 1, -1, -1):
        if parts[:depth] in marks:
            return marks[parts[:depth]].access
    return root if parts else HIDE


def _class(access: str) -> str:
    return READ if access == PROTECT else access


def _surroundings(placed: PlacedPolicy, host: Host, rung: str, *, network: bool) -> list[Step]:
    """What is the same for every command: namespaces, root, devices, /proc."""
    if rung == LANDLOCK:
        return []
    fresh = rung == BUBBLEWRAP or not host.proc  # a bwrap that starts has mounted one
    readable = placed.access(())[0] != HIDE
    steps: list[Step] = [
        Namespaces(network, fresh, "every child is inside, sees only the sandbox's processes, and dies with it" if fresh else _SHARED_PIDS),
        Root("host" if readable else "empty", "read broadly: the host's files, none of them writable, no set-user-id, no devices"),
    ]
    disk = placed.policy.setting("limits.disk")
    steps.append(Area(int(str(disk.value)) if disk else 0, "what is private lives in memory and ends with the sandbox"))
    if network:
        steps.append(Loopback("servers and clients inside talk to each other; there is no other interface"))
    steps.append(Devices("the devices programs need, a terminal namespace of its own, shared memory"))
    why = ("only the sandbox's processes" if fresh else "read-only, the outer one") + "; kernel settings can't be written, also by root"
    steps.append(Proc(fresh, PROC_READ_ONLY, PROC_MASKED, why))
    return steps


def _mounts(placed: PlacedPolicy, facts: Facts, marks: tuple[Mark, ...]) -> list[Step]:
    """One step a mark, parents first; FIFOs inside writable roots are masked, no mount stops writing into them."""
    empty_root = placed.access(())[0] == HIDE
    made: dict[tuple[str, ...], Step] = {}
    hollow = {mark.parts[:depth] for mark in marks for depth in range(len(mark.parts))}
    # At one depth none is above another. Masks come last there: to clone a place costs the more, the more is mounted around it.
    for mark in sorted(marks, key=lambda mark: (len(mark.parts), mark.access == HIDE)):
        above = next((made[mark.parts[:depth]] for depth in range(len(mark.parts) - 1, 0, -1) if mark.parts[:depth] in made), None)
        own = empty_root or mark.parts[:2] == ("dev", "shm")
        covered = own if above is None else isinstance(above, (Mask, Private, Scratch))
        step = _mount(mark, covered=covered, hollow=mark.parts in hollow, layers=not facts.host.overlay)
        if step:
            made[mark.parts] = step
    steps = list(made.values())
    if facts.host.wsl == 2 and placed.access(components(WSL_SOCKETS))[0] not in (HIDE, PRIVATE):
        steps.append(Mask(WSL_SOCKETS, "dir", "Windows programs, which nothing here could stop, are started through it"))
    steps += (Mask(path, "file", "a FIFO of the host: a reader outside would hear what is written into it") for path in facts.tree.fifos)
    return steps


def _areas(mounts: list[Step], rung: str) -> tuple[str, ...]:
    """Where what is private lies in memory: all on one file system, /dev too, but bubblewrap makes one of each."""
    if rung == BUBBLEWRAP:
        return ("/dev", *(step.path for step in mounts if isinstance(step, (Private, Scratch))))
    return ("/dev",) if rung == NAMESPACES else ()


def _mount(mark: Mark, *, covered: bool, hollow: bool, layers: bool) -> Step | None:
    if not mark.parts:
        return None  # the root itself is the Root step
    rule, why = (str(mark.rule), mark.rule.reason or str(mark.rule)) if mark.rule else ("", "nothing grants it")
    kind = "dir" if mark.entry.kind == DIRECTORY else "file"
    match mark.access:
        case _ if mark.entry.kind == LINK:
            # What it leads to has a mark of its own (aliases); the link is pinned where the sandbox could replace it.
            return Bind(mark.path, write=False, why=why, rule=rule, link=True, covered=covered) if mark.access != WRITE else None
        case "hide":
            return Mask(mark.path, kind, why, rule, hollow=hollow)
        case "private" if kind == "file":  # a single file can be neither private nor a layer: less is given, never the host's own
            return Mask(mark.path, kind, why, rule)
        case "private":
            return Private(mark.path, _private_mode(mark.path), why, rule)
        case "scratch" if kind == "dir" and layers and not covered:  # where none can be laid, the host's files and none writable
            return Scratch(mark.path, why, rule)
        case access:
            return Bind(mark.path, access == WRITE, why, rule, covered=covered)


def _below(path: str, roots: tuple[str, ...]) -> bool:
    parts = components(path)
    return any(parts[: len(root)] == root for root in map(components, roots))


def _private_mode(path: str) -> int:
    if path in ("/tmp", "/var/tmp"):
        return 0o1777
    return 0o700 if path.startswith("/run/user/") else 0o755


def _locks(
    placed: PlacedPolicy, facts: Facts, marks: tuple[Mark, ...], rung: str, *, network: bool, observe: str, way_out: bool
) -> list[Step]:
    """What restricts the command itself, in the order in which the kernel wants it."""
    host = facts.host
    roots = tuple(mark.path for mark in marks if mark.access == WRITE and mark.entry.kind == DIRECTORY)
    rules = placed.below(tuple(components(root) for root in roots)) if roots else ()
    mediated = not host.notify
    steps: list[Step] = []
    if mediated:
        never = tuple((f"{root.rstrip('/')}/{NEVER_CREATED}", PROTECT) for root in roots)
        # The texts of the rules first: a path that is the same object in several lists is packed, sent and unpacked once.
        pinned = {text for stratum in rules for text, access in stratum if access in (PROTECT, HIDE) and not is_glob(text)}
        pinned |= {mark.path for mark in marks if mark.access == PROTECT or (mark.access == HIDE and _below(mark.path, roots))}
        but = ", but those let through" if placed.policy.strata[0].under(sockets.KEY) else ""
        why = f"protected names can't come into being; sockets made outside can't be reached{but}"
        proxy = (egress.ADDRESS, egress.PORT) if way_out else None
        steps.append(Mediate(roots, (*_of_new_names(placed, rules, roots), never), tuple(sorted(pinned)), why, proxy))
    if rung == NAMESPACES:
        hidden = facts.tree.watched
        why = "a hidden file that the host replaces or creates meanwhile is masked again"
        steps.append(Watch(tuple(root for root in roots if root != "/"), rules, hidden, facts.tree.secrets, why))
    steps.append(Lock(limits.rlimits(placed.policy, host), "no capabilities, no way to regain any, limits of the policy"))
    if host.landlock_abi:
        allowed = _landlock_rules(marks, rung, readable=placed.access(())[0] != HIDE, mediated=mediated)
        unconfined = rung != LANDLOCK or not network
        why = "a second wall that needs no mount, and the one that forbids creating names"
        handled = landlock.to_handle(allowed, mounts=rung != LANDLOCK)
        steps.append(Landlock(allowed, handled, host.landlock_abi, unconfined, why))
    reach = "none" if network else "open"
    filtered = "refused" if rung == LANDLOCK and network else reach
    noted = observe if mediated else "off"
    steps.append(Seccomp("command", filtered, mediated, "system calls that reach round the other walls are refused", noted))
    steps.append(Seccomp("init", filtered, mediated=False, why="init itself needs few calls once the command runs"))
    return steps


def _of_new_names(placed: PlacedPolicy, rules: tuple[NodeRules, ...], roots: tuple[str, ...]) -> tuple[NodeRules, ...]:
    """The rules as they hold for a name that does not exist yet: what is not to be written on the host can't come into being.

    A missing path can't be made private, scratch or read-only by a mount, so to create it would write on the host after all.
    Reading rules of a stratum without a list for writing say nothing on writing, as in ``policy.decide``.
    """
    inside = [components(root) for root in roots]

    def refused(text: str, access: str) -> bool:
        parts = components(text)
        below = is_glob(text) or any(parts[: len(root)] == root and len(parts) > len(root) for root in inside)
        return below and access in (PRIVATE, READ, SCRATCH)

    out = []
    for stratum, ordered in zip(placed.strata, rules):
        silent = "files.write" not in stratum.stratum.closed
        kept = [(text, access) for text, access in ordered if not (silent and access == READ)]
        there = tuple((text, PROTECT if refused(text, access) else access) for text, access in kept)
        out.append(ordered if there == ordered else there)
    return tuple(out)


def _landlock_rules(marks: tuple[Mark, ...], rung: str, *, readable: bool, mediated: bool) -> tuple[tuple[str, tuple[str, ...]], ...]:
    writable = landlock.WRITE_IN_PLACE if mediated else landlock.FULL
    if rung == LANDLOCK:  # every path is the host's own: what would be private or scratch stays as it is there
        rules: list[tuple[str, tuple[str, ...]]] = [("/", landlock.READ)] if readable else []
        rules += [("/proc", landlock.READ), *((path, ("read_file", "write_file", "ioctl_dev")) for path in PLAIN_DEVICES)]
        granted: dict[str, tuple[str, ...]] = {WRITE: writable}
    else:
        rules = [("/", landlock.READ if readable else ("read_dir",)), ("/dev", landlock.FULL), ("/proc", (*landlock.READ, "write_file"))]
        granted = {WRITE: writable, PRIVATE: landlock.FULL, SCRATCH: landlock.FULL}
    for mark in marks:
        if not mark.parts or mark.entry.kind == LINK:
            continue
        if mark.access in granted and (mark.access == WRITE or mark.entry.kind == DIRECTORY):  # a single file gets less, see _mount
            rules.append((mark.path, granted[mark.access]))
        elif mark.access in (READ, PROTECT, SCRATCH) and not readable:
            rules.append((mark.path, landlock.READ))
    return tuple(rules)
