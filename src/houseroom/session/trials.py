"""What the probe tries for each rule, and what its answers, outside and inside, mean.

A rule "works" only where the act went through outside and was refused inside; where there is nothing to try, or the policy
opens it, it is "unused". Nothing here is claimed that was not seen.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from collections.abc import Callable

from houseroom.plan import limits
from houseroom.plan import steps as plan
from houseroom.policy.decide import Allow, Variable, decide
from houseroom.policy.model import HIDE, PRIVATE, PROTECT, SCRATCH, WRITE
from houseroom.policy.pattern import components, place
from houseroom.policy.record import Record
from houseroom.policy.units import size_text
from houseroom.session.mechanisms import MISSING, UNUSED, WORKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from houseroom.session.doctor import Stage

PLANTED = "HOUSEROOM_DOCTOR_TOKEN"  # a variable whose name says that it is a secret
_MOST_HIDDEN = 16  # hidden paths that are tried
_NO_CAPABILITIES = "0" * 16

# Names that the tables protect; the first that is missing in the workspace and protected by this policy is tried.
_PROTECTED = (".mcp.json", ".envrc", ".git", ".vscode", ".claude", ".idea", "opencode.json", ".gitmodules", ".houseroom")
_DIRECTORIES = (".git", ".vscode", ".claude", ".idea", ".houseroom")
# Where a policy that does not read everything may grant nothing.
_ELSEWHERE = ("/etc/passwd", "/etc/fstab", "/var/lib", "/var/log", "/opt", "/srv", "/home", "/boot")
_OF_EACH = (("open_files", "Max open files"), ("file_size", "Max file size"), ("cpu", "Max cpu time"), ("processes", "Max processes"))
_FEW, _LITTLE = 200, 128 << 20  # processes, and bytes of memory, up to which a limit is tried by going over it
_MORE = 64 << 20


class Answer(Record):
    """How one act went: what was seen, or the kernel's words where it was refused."""

    done: bool
    seen: object = None

    @property
    def words(self) -> str:
        """The refusal."""
        return "it went through" if self.done else str(self.seen)


Answers = dict[str, Answer]
Judge = Callable[[Answers, Answers], tuple[str, str]]


class Trial(Record):
    """One act for the probe, inside and (if not empty) outside, and what its answers, outside and inside, mean: state and words."""

    name: str
    judge: Judge
    inside: tuple[object, ...] = ()
    outside: tuple[object, ...] = ()
    rule: str = ""  # of the coverage
    granted: bool = False  # the policy allows it: it must go through


def trials(stage: Stage) -> tuple[Trial, ...]:
    """In the order in which they are tried; a new namespace can't be left again, so it comes last."""
    return (
        _workspace(stage),
        _outside_files(stage),
        _protected(stage),
        _hidden(stage),
        _ungranted(stage),
        _scratch(stage),
        _temporary(stage),
        _network(stage),
        _loopback(stage),
        _sockets(stage),
        *_processes(),
        _environment(stage),
        _privileges(),
        Trial("io_uring", _refused("io_uring", "set up a ring"), ("io_uring",), ("io_uring",)),
        *_limits(stage),
        Trial("new namespaces", _refused("new namespaces", "enter a user namespace"), ("new_namespace",), ("new_namespace",)),
    )


def heard(listener: socket.socket | None) -> bool:
    """Whether a listener has been connected to since it was last asked."""
    found = False
    while listener is not None:
        try:
            listener.accept()[0].close()
        except OSError:
            break
        found = True
    return found


def _nothing(name: str, why: str, rule: str = "") -> Trial:
    return Trial(name, lambda _outside, _inside: (UNUSED, why), rule=rule)


def _refused(name: str, what: str, *, opened: str = "", trace: Callable[[], bool] = bool) -> Judge:
    """Works where the act was possible outside and refused inside. ``trace``: whether the host noticed it."""

    def judge(outside: Answers, inside: Answers) -> tuple[str, str]:
        before, after = outside.get(name), inside[name]
        noticed = trace()
        if before is None or not before.done:
            return UNUSED, f"{what}: not possible outside either: {before.words if before else 'not tried'}"
        if opened:
            return UNUSED, opened if after.done else f"{opened}; and yet {what}: {after.words}"
        if after.done or noticed:
            return MISSING, f"{what}: it went through"
        return WORKS, f"{what}: {after.words}"

    return judge


def _workspace(stage: Stage) -> Trial:
    name, workspace = "workspace", stage.places.workspace
    path = stage.name(workspace)
    access = stage.access(path)

    def judge(outside: Answers, inside: Answers) -> tuple[str, str]:
        before, after = outside.get(name), inside[name]
        if before is None or not before.done:
            return UNUSED, f"create a file in it: not possible outside either: {before.words if before else 'not tried'}"
        if access != WRITE:
            kept = not after.done or after.seen != before.seen
            return (WORKS if kept else MISSING), f"{access}: create a file in it: {after.words}"
        if not after.done:
            return MISSING, f"create a file in it: {after.words}"
        if after.seen != before.seen:
            return MISSING, "what is written does not reach the host"
        return WORKS, "writable, and the host's own"

    act = ("make_and_remove", path)
    return Trial(name, judge, act, act, "files.write", granted=access == WRITE)


def _outside_files(stage: Stage) -> Trial:
    name, home = "files.write", stage.places.home
    path = stage.name(home)
    access = stage.access(path)
    refused = _refused(name, f"create a file in {home}", opened=f"the policy opens {home}" if access == WRITE else "")

    def judge(outside: Answers, inside: Answers) -> tuple[str, str]:
        if access in (SCRATCH, PRIVATE) and inside[name].done and not stage.left(path):
            return WORKS, f"create a file in {home}: it stayed in the sandbox"
        return refused(outside, inside)

    return Trial(name, judge, ("create", path), ("make_and_remove", path), name)


def _protected(stage: Stage) -> Trial:
    name, workspace = "files.protect", stage.places.workspace.rstrip("/")
    if stage.access(f"{workspace}/{stage.token}") != WRITE:
        return _nothing(name, "nothing to try: the workspace is not writable", name)
    paths = [f"{workspace}/{one}" for one in _PROTECTED]
    path = next((path for path in paths if not os.path.lexists(path) and stage.access(path) == PROTECT), "")
    if not path:
        return _nothing(name, "nothing to try: no protected name is missing in the workspace", name)
    base = os.path.basename(path)

    def judge(_outside: Answers, inside: Answers) -> tuple[str, str]:
        beside, after = inside.get("workspace"), inside[name]
        if after.done or stage.left(path):
            return MISSING, f"create {base} in the workspace: it went through"
        if beside is None or not beside.done:
            return UNUSED, f"create {base} in the workspace: {after.words}, but no other name can be created there either"
        return WORKS, f"create {base} in the workspace: {after.words}; another name can be"

    verb = "make_and_remove_directory" if base in _DIRECTORIES else "make_and_remove"
    return Trial(name, judge, (verb, path), (), name)


def _hidden(stage: Stage) -> Trial:
    name, tree = "files.hide", stage.prepared.facts.tree
    stood = [step.path for step in stage.prepared.plan.steps if isinstance(step, (plan.Bind, plan.Private, plan.Scratch))]
    found = {
        entry.path: entry.kind
        for entry in (*tree.named.values(), *tree.found)
        if entry.kind in ("file", "dir") and stage.access(entry.path) == HIDE
    }
    # A hidden directory with a hole shows the hole's name.
    whole = [path for path, kind in found.items() if kind == "file" or not any(other.startswith(f"{path}/") for other in stood)]
    paths = sorted(whole, key=lambda path: (found[path] != "file", path))[:_MOST_HIDDEN]
    return _read(name, paths, "nothing to try: nothing that the policy hides exists here and can be read")


def _ungranted(stage: Stage) -> Trial:
    name = "files.read"
    if stage.access("/") != HIDE:
        return _nothing(name, "nothing to try: the policy reads all that it does not hide", name)
    paths = [path for path in (*_ELSEWHERE, stage.places.home) if stage.placed.access(components(path)) == (HIDE, None)]
    steps = [getattr(step, "path", "") for step in stage.prepared.plan.steps]
    whole = [path for path in paths if not any(step.startswith(f"{path}/") for step in steps)]
    return _read(name, whole, "nothing to try: the policy grants all that we look for")


def _read(name: str, paths: list[str], nothing: str) -> Trial:
    if not paths:
        return _nothing(name, nothing, name)

    def judge(outside: Answers, inside: Answers) -> tuple[str, str]:
        before, after = (_counts(answers.get(name)) for answers in (outside, inside))
        readable = [path for path in paths if before.get(path)]
        if not readable:
            return UNUSED, nothing
        leaks = [path for path in readable if after.get(path, 1)]
        if leaks:
            return MISSING, f"read {_some(leaks)}: it went through"
        return WORKS, f"read {_some(readable)}: nothing came of it inside"

    return Trial(name, judge, ("read_each", paths), ("read_each", paths), name)


def _counts(answer: Answer | None) -> dict[str, int]:
    """Path → bytes or names read; 0 where it was refused."""
    seen = answer.seen if answer is not None and answer.done else None
    return {path: count if isinstance(count, int) else 0 for path, count in seen.items()} if isinstance(seen, dict) else {}


def _some(paths: list[str]) -> str:
    return paths[0] + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")


def _scratch(stage: Stage) -> Trial:
    name = "files.scratch"
    found = next((step.path for step in stage.prepared.plan.steps if isinstance(step, plan.Scratch) and os.access(step.path, os.W_OK)), "")
    if not found:
        return _nothing(name, "nothing to try: no directory of this kind exists here", name)
    path = stage.name(found)

    def judge(outside: Answers, inside: Answers) -> tuple[str, str]:
        before, after = outside.get(name), inside[name]
        if stage.left(path):
            return MISSING, f"create a file in {found}: the host has it now"
        if before is None or not before.done:
            return UNUSED, f"create a file in {found}: not possible outside either"
        if not after.done:
            return MISSING, f"create a file in {found}: {after.words}"
        return WORKS, f"create a file in {found}: it stayed inside"

    return Trial(name, judge, ("create", path), ("make_and_remove", path), name, granted=True)


def _temporary(stage: Stage) -> Trial:
    tmp = stage.places.tmp
    if not stage.planted:
        why = "nothing could be put there" if stage.access(tmp) == PRIVATE else "the policy has no private one"
        return _nothing(tmp, f"nothing to try: {why}")
    depth = len(components(tmp))
    steps = (components(getattr(step, "path", "")) for step in stage.prepared.plan.steps)
    known = {parts[depth] for parts in steps if parts[:depth] == components(tmp) and len(parts) > depth}
    planted = os.path.basename(stage.planted)

    def judge(outside: Answers, inside: Answers) -> tuple[str, str]:
        before, after = (answers[tmp].seen if tmp in answers and answers[tmp].done else None for answers in (outside, inside))
        if not isinstance(before, list) or planted not in before:
            return UNUSED, "what was put there is not seen outside either"
        if not isinstance(after, list):
            return MISSING, f"list it: {inside[tmp].words}"
        foreign = set(after) - known
        if foreign:
            return MISSING, f"the host's files are seen: {_some([planted, *sorted(foreign - {planted})])}"
        return WORKS, "the sandbox's own, empty at the start"

    return Trial(tmp, judge, ("listdir", tmp), ("listdir", tmp), "files.private")


def _network(stage: Stage) -> Trial:
    name = "network"
    if stage.tcp is None:
        return _nothing(name, f"nothing to try: no listener could be opened: {stage.trouble}", name)
    setting = stage.placed.policy.setting("network.reach")
    opened = "" if setting is None or setting.value == "none" else f"the policy opens the network ({setting.origin})"
    listener = stage.tcp
    act = ("tcp", listener.getsockname()[1])
    return Trial(
        name, _refused(name, "connect to a listener on the host's loopback", opened=opened, trace=lambda: heard(listener)), act, act, name
    )


def _loopback(stage: Stage) -> Trial:
    setting = stage.placed.policy.setting("network.reach")
    shared = not any(isinstance(step, plan.Loopback) for step in stage.prepared.plan.steps)
    if shared and (setting is None or setting.value == "none"):
        return _nothing("loopback", f"the rung {stage.prepared.plan.rung} has none of its own, so servers inside can't be reached")

    def judge(_outside: Answers, inside: Answers) -> tuple[str, str]:
        after = inside["loopback"]
        return (WORKS if after.done else MISSING), f"listen and connect inside: {after.words}"

    return Trial("loopback", judge, ("loopback",), granted=True)


def _sockets(stage: Stage) -> Trial:
    name, path = "sockets", stage.unix_path
    if not path:
        return _nothing(name, "nothing to try: no socket could be made in the home directory", name)
    rules = (rule for stratum in stage.placed.policy.strata for rule in stratum.under("network.sockets"))
    rule = next((rule for rule in rules if place(rule.subject, stage.places).matches(components(path))), None)
    opened = f"the policy opens it: {rule}" if rule else ""
    listener, act = stage.unix, ("unix", path)
    return Trial(
        name, _refused(name, "connect to a Unix socket made outside", opened=opened, trace=lambda: heard(listener)), act, act, name
    )


def _processes() -> tuple[Trial, ...]:
    with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
        start = file.read().rpartition(")")[2].split()[19]
    who = (os.getpid(), start)
    see, signal = ("see", *who), ("signal", *who)
    return (
        Trial("processes", _refused("processes", "see a process outside in /proc"), see, see, "processes"),
        Trial("signals", _refused("signals", "signal a process outside"), signal, signal, "processes"),
    )


def _environment(stage: Stage) -> Trial:
    name = "environment"
    decision = decide(stage.placed, Variable(PLANTED))
    opened = f"the policy passes {PLANTED}" if isinstance(decision, Allow) else ""
    return Trial(name, _refused(name, f"read {PLANTED}", opened=opened), ("variable", PLANTED), ("variable", PLANTED), name)


def _privileges() -> Trial:
    name = "privileges"

    def judge(_outside: Answers, inside: Answers) -> tuple[str, str]:
        seen = inside[name].seen
        if not inside[name].done or not isinstance(seen, dict):
            return MISSING, f"read /proc/self/status: {inside[name].words}"
        held = [field for field, text in seen.items() if field.startswith("Cap") and text != _NO_CAPABILITIES]
        wrong = [f"capabilities in {', '.join(held)}"] if held else []
        wrong += [] if seen.get("NoNewPrivs") == "1" else ["no_new_privs is not set"]
        wrong += [] if seen.get("Seccomp") == "2" else ["no system call filter"]
        return (MISSING, "; ".join(wrong)) if wrong else (WORKS, "no capabilities in any set, no_new_privs, a system call filter")

    return Trial(name, judge, ("status",))


def _limits(stage: Stage) -> tuple[Trial, ...]:
    policy, steps = stage.placed.policy, stage.prepared.plan.steps
    rlimits = next((step.rlimits for step in steps if isinstance(step, plan.Lock)), {})
    trials = [
        Trial(f"limits.{name}", _limited(f"limits.{name}", words, str(rlimits[name])), ("limits",), ("limits",), f"limits.{name}")
        for name, words in _OF_EACH
        if name in rlimits
    ]
    memory, processes, disk = (limits.amount(policy, f"limits.{name}") for name in ("memory", "processes", "disk"))
    if processes and "processes" not in rlimits:
        trials.append(_crowded(processes))
    if memory:
        trials.append(_filled(memory))
    if disk and stage.planted:
        trials.append(Trial("limits.disk", _sized(disk), ("size", stage.places.tmp), (), "limits.disk"))
    return tuple(trials)


def _crowded(processes: int) -> Trial:
    name = "limits.processes"
    if processes > _FEW:
        return _nothing(name, f"not tried: {processes} processes would have to be started", name)
    return Trial(name, _refused(name, f"start {processes} processes"), ("crowd", processes), ("crowd", processes), name)


def _filled(memory: int) -> Trial:
    name, said = "limits.memory", size_text(memory)
    if memory > _LITTLE:
        return _nothing(name, f"not tried: {said} of memory would have to be filled", name)
    act = ("fill", memory + _MORE)
    return Trial(name, _refused(name, f"fill more than {said} of memory"), act, act, name)


def _limited(name: str, words: str, value: str) -> Judge:
    def judge(outside: Answers, inside: Answers) -> tuple[str, str]:
        before, after = (answers[name].seen if name in answers else None for answers in (outside, inside))
        if not isinstance(after, dict) or not isinstance(before, dict):
            return MISSING, f"read /proc/self/limits: {inside[name].words}"
        least = before.get(words) == after.get(words) and after.get(words, "").isdecimal() and int(after[words]) <= int(value)
        holds = after.get(words) == value or least
        return (WORKS if holds else MISSING), f"{words}: {after.get(words)} inside, {before.get(words)} outside"

    return judge


def _sized(value: int) -> Judge:
    def judge(_outside: Answers, inside: Answers) -> tuple[str, str]:
        seen = inside["limits.disk"].seen
        holds = isinstance(seen, int) and 0 < seen <= value + 4096  # whole pages
        return (WORKS if holds else MISSING), f"private files hold {seen} bytes"

    return judge
