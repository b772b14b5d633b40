"""A plan as text: what ``--dry-run`` prints, the audit keeps and golden tests compare.

One line a step, in the order in which the steps are carried out: verb, flags, object, reason. The reason comes last, so
at 100 columns what is done to what can always be read. Nothing is left out: a step that holds lists shows each item on a
line below it. The same plan gives the same text on every machine.
"""

from __future__ import annotations

from houseroom.plan import landlock
from houseroom.plan import steps as plan
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SURROUNDINGS = "surroundings"
_FILES = "files, each over those above it"
_LOCKS = "locks on the command, and what init does for it"
_GROUPS: dict[type[plan.Step], str] = {
    **dict.fromkeys(
        (plan.Cgroup, plan.Namespaces, plan.Root, plan.Area, plan.Loopback, plan.Egress, plan.Publish, plan.Devices, plan.Proc),
        _SURROUNDINGS,
    ),
    **dict.fromkeys((plan.Private, plan.Scratch, plan.Bind, plan.Mask, plan.Resolver, plan.Trust, plan.Socket), _FILES),
    **dict.fromkeys((plan.Tally, plan.Mediate, plan.Watch, plan.Lock, plan.Landlock, plan.Seccomp), _LOCKS),
}
_SETS = {landlock.READ: "read", landlock.WRITE_IN_PLACE: "write in place", landlock.FULL: "full"}
_WIDEST_OBJECT = 44  # a longer path pushes its own reason aside, not everybody's


class Line(Record):
    """One step in words. ``items`` are the members of its lists, each with what it is: ``("root", "/work")``."""

    verb: str
    flags: str
    object: str
    why: str
    items: tuple[tuple[str, str], ...] = ()


def as_text(made: plan.Plan) -> str:
    """The whole plan and its coverage, ending with a newline. Unprintable characters of paths are escaped."""
    blocks = [f"rung: {made.rung}\n"]
    group: list[Line] = []
    for at, step in enumerate(made.steps):
        group.append(line_of(step))
        here = _GROUPS[type(step)]
        if at + 1 == len(made.steps) or _GROUPS[type(made.steps[at + 1])] != here:
            blocks.append(f"{here}\n{_table(group)}")
            group = []
    blocks.append(f"coverage\n{_coverage(made.coverage)}")
    return "\n".join(blocks)


def line_of(step: plan.Step) -> Line:
    """One step in words. Raises TypeError for a step that has none, so that none can be forgotten."""
    match step:
        case plan.Cgroup(memory, processes, why):
            return Line("group", "", "memory and processes of all", why, _ceilings(memory, processes))
        case plan.Namespaces(network, pid, why):
            new = ("user", "mount", "ipc", "uts", "cgroup", *(("pid",) if pid else ()), *(("network",) if network else ()))
            shared = _given(("host's network", not network), ("host's pids", not pid))
            return Line("enter", shared, " ".join(new), why)
        case plan.Root(base, why):
            return Line("root", base, "/", why)
        case plan.Area(size, why):
            return Line("area", _size(size), "private tmpfs", why)
        case plan.Loopback() | plan.Egress() | plan.Publish() | plan.Socket() | plan.Resolver() | plan.Trust():
            return _network(step)
        case plan.Devices(why):
            return Line("devices", "", "/dev", why)
        case plan.Proc(fresh, read_only, masked, why):
            items = (*_items("read-only", (f"/proc/{name}" for name in read_only)), *_items("masked", (f"/proc/{name}" for name in masked)))
            return Line("proc", "fresh" if fresh else "outer", "/proc", why, items)
        case plan.Private(path, mode, why):
            return Line("private", f"{mode:04o}", spell(path), why)
        case plan.Scratch(path, why):
            return Line("scratch", "", spell(path), why)
        case plan.Bind(path, write, why, _rule, link, covered):
            return Line("bind", _given(("write" if write else "read", True), ("link", link), ("covered", covered)), spell(path), why)
        case plan.Mask(path, kind, why, _rule, hollow):
            return Line("mask", _given((kind, True), ("hollow", hollow)), spell(path), why)
        case plan.Tally() | plan.Mediate() | plan.Watch() | plan.Lock() | plan.Landlock() | plan.Seccomp():
            return _lock(step)
    raise TypeError(f"no words for {step!r}")


def _network(step: plan.Loopback | plan.Egress | plan.Publish | plan.Socket | plan.Resolver | plan.Trust) -> Line:
    match step:
        case plan.Loopback(why):
            return Line("raise", "", "loopback", why)
        case plan.Egress(address, dns, port, why):
            ends = (("names", f"{address}:{dns} UDP and TCP"), ("else", f"{address}:{port}"))
            return Line("listen", "", "egress proxy", why, ends)
        case plan.Publish(ports, why):
            return Line("publish", "", "ports", why, tuple(("port", str(port)) for port in ports))
        case plan.Socket(path, kept, why):
            flags, below = ("this one", ()) if kept == path else ("by name", (("below", spell(kept)),))
            return Line("socket", flags, spell(path), why, below)
        case plan.Resolver(path, _content, why):
            return Line("file", "own", spell(path), why)
        case plan.Trust(paths, why):
            return Line("file", "own", "certificate authorities", why, _items("over", map(spell, paths)))


def _lock(step: plan.Tally | plan.Mediate | plan.Watch | plan.Lock | plan.Landlock | plan.Seccomp) -> Line:
    match step:
        case plan.Tally(memory, processes, areas, why):
            return Line("tally", "", "memory and processes of all", why, (*_ceilings(memory, processes), *_items("with", areas)))
        case plan.Mediate(roots, rules, pinned, why, proxy):
            way_out = (("elsewhere", f"{proxy[0]}:{proxy[1]}"),) if proxy else ()
            lists = (*_items("below", roots), *_voices(rules), *_items("pin", pinned), *way_out)
            return Line("mediate", "", "new names, connections", why, lists)
        case plan.Watch(roots, rules, hidden, secrets, why):
            inodes = (("hide", f"device {device} inode {inode}") for device, inode in secrets)
            return Line("watch", "", "names that appear", why, (*_items("below", roots), *_voices(rules), *_items("hide", hidden), *inodes))
        case plan.Lock(rlimits, why):
            limits = tuple(("at most", f"{value} {name}") for name, value in rlimits.items())
            return Line("lock", "", "capabilities, privileges", why, limits)
        case plan.Landlock(rules, handled, abi, network, why):
            return Line(
                "landlock",
                f"ABI {abi}",
                "files and scopes" if network else "files, scopes and TCP",
                why,
                (*_items("govern", handled), *_allowed(rules)),
            )
        case plan.Seccomp(program, network, mediated, why, observe):
            flags = _given((f"network {network}", True), ("mediated", mediated), (f"observed: {observe}", observe != "off"))
            return Line("seccomp", flags, f"filter of {program}", why)


def _ceilings(memory: int, processes: int) -> tuple[tuple[str, str], ...]:
    return tuple(("at most", text) for text, given in ((f"{memory} bytes", memory), (f"{processes} processes", processes)) if given)


def _voices(rules: Sequence[Sequence[tuple[str, str]]]) -> tuple[tuple[str, str], ...]:
    """The patterns of each stratum in its order, which decides among them; a name must pass every stratum."""
    return tuple((f"stratum {number} {access}", spell(text)) for number, stratum in enumerate(rules, 1) for text, access in stratum)


def _allowed(rules: Sequence[tuple[str, tuple[str, ...]]]) -> tuple[tuple[str, str], ...]:
    """A line a path; the usual sets of rights by their name, which the lines above them spell out."""
    used = {rights for _, rights in rules}
    names = {rights: name for rights, name in _SETS.items() if rights in used}
    width = min(max((len(spell(path)) for path, _ in rules), default=0), _WIDEST_OBJECT)
    meanings = tuple((f"“{name}”", " ".join(rights)) for rights, name in names.items())
    return (*meanings, *(("allow", f"{spell(path):{width}}  {names.get(rights) or ' '.join(rights)}") for path, rights in rules))


def spell(path: str) -> str:
    """A path that stays on its line and can't be taken for another: quoted and escaped where it is not plain."""
    if path.isprintable() and not set(path) & set('"\\') and "  " not in path and path.strip(" ") == path and path:
        return path
    return '"' + "".join(_escaped(char) for char in path) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    if 0xDC80 <= ord(char) <= 0xDCFF:  # a byte that is not UTF-8, as Python keeps it (PEP 383)
        return f"\\x{ord(char) - 0xDC00:02x}"
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char)
    if named:
        return named
    return f"\\x{ord(char):02x}" if ord(char) < 0x80 else f"\\u{{{ord(char):x}}}"


def _given(*flags: tuple[str, bool]) -> str:
    return ", ".join(flag for flag, given in flags if given)


def _items(kind: str, paths: Iterable[str]) -> tuple[tuple[str, str], ...]:
    return tuple((kind, spell(path)) for path in paths)


def _size(size: int) -> str:
    return f"{size} bytes" if size else "half of memory"


def _table(lines: Sequence[Line]) -> str:
    verb, flags = (max(len(text) for text in column) for column in ([line.verb for line in lines], [line.flags for line in lines]))
    objects = min(max(len(line.object) for line in lines), _WIDEST_OBJECT)
    out = []
    for line in lines:
        out.append(f"  {line.verb:{verb}}  {line.flags:{flags}}  {line.object:{objects}}  {line.why}".rstrip())
        kinds = max((len(kind) for kind, _ in line.items), default=0)
        out += [f"  {'':{verb}}    {kind:{kinds}}  {text}" for kind, text in line.items]
    return "\n".join(out) + "\n"


def _coverage(rows: Sequence[plan.Covered]) -> str:
    if not rows:
        return "  nothing\n"
    states = [f"{row.state}, accepted" if getattr(row, "accepted", False) else row.state for row in rows]
    rule, state = max(len(row.rule) for row in rows), max(map(len, states))
    out = []
    for row, said in zip(rows, states):
        out.append(f"  {row.rule:{rule}}  {said:{state}}  {', '.join(row.by) or 'by nothing'}")
        out += [f"  {'':{rule}}  {'':{state}}  not stopped: {lost}" for lost in row.loses]
    return "\n".join(out) + "\n"
