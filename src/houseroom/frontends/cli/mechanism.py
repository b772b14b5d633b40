"""Which mechanism of this host carries out a decision, read from the plan's steps. Pure."""

from __future__ import annotations

from houseroom.plan.steps import Bind, Devices, Landlock, Mask, Mediate, Plan, Private, Proc, Root, Scratch, Step, Watch
from houseroom.policy.decide import Allow, Decision, Deny, Run, Variable, Write
from houseroom.policy.model import HIDE
from houseroom.policy.pattern import components

_ROOTS = {"host": "read-only view of the host's root", "empty": "empty root: only what is granted exists"}


def mechanism(plan: Plan, decision: Decision) -> tuple[str, ...]:
    """What enforces a decision: the deepest mount on the path first, then the walls behind it."""
    if isinstance(decision.act, Variable):
        return ("left out of the environment before the command starts",) if isinstance(decision, Deny) else ("passed in the environment",)
    path = decision.act.path
    denied = isinstance(decision, Deny)
    hidden = denied and (not isinstance(decision.act, Write) or (decision.why.rule is not None and decision.why.rule.access == HIDE))
    mount = _mount(plan, path)
    out = []
    if hidden and not isinstance(mount, Mask) and not (isinstance(mount, Root) and mount.base == "empty"):
        if any(isinstance(step, Watch) for step in plan.steps):
            out.append("masked as soon as it exists (inotify)")
    elif mount is not None and not (denied and isinstance(mount, Bind) and mount.write):  # there it is not the mount that denies
        words = _words(mount)
        out.append(f"{words}, through bubblewrap" if plan.rung == "bubblewrap" else words)
    if _mediated(plan, decision):
        out.append("names are created by init, which checks them")
    if denied and any(isinstance(step, Landlock) for step in plan.steps) and (not hidden or plan.rung == "landlock"):
        out.append("Landlock")
    return tuple(out)


def state(plan: Plan, decision: Decision) -> tuple[str, tuple[str, ...]]:
    """How far this host enforces the rule behind a denial: enforced, partly or missing, and what is lost."""
    if isinstance(decision, Allow):
        return "enforced", ()
    match decision.act:
        case Variable():
            key = "environment"
        case Write():
            key = decision.why.rule.key if decision.why.rule and decision.why.rule.access in (HIDE, "protect") else "files.write"
        case _:
            key = "files.hide" if decision.why.rule else "files.read"
    row = next((row for row in plan.coverage if row.rule == key), None)
    return (row.state, row.loses) if row else ("enforced", ())


def _mount(plan: Plan, path: str) -> Step | None:
    """The deepest mount that holds the path; of two at one depth the later one is on top."""
    parts = components(path)
    best: Step | None = None
    depth = -1
    for step in plan.steps:
        at = _place(step)
        if at is not None and len(at) >= depth and parts[: len(at)] == at:
            best, depth = step, len(at)
    return best


def _place(step: Step) -> tuple[str, ...] | None:
    match step:
        case Root():
            return ()
        case Devices():
            return ("dev",)
        case Proc():
            return ("proc",)
        case Bind(path=path) | Mask(path=path) | Private(path=path) | Scratch(path=path):
            return components(path)
    return None


def _words(step: Step) -> str:
    match step:
        case Root(base=base):
            return _ROOTS.get(base, base)
        case Devices():
            return "minimal /dev of the sandbox's own"
        case Proc():
            return "/proc of the sandbox's own processes"
        case Bind(path=path, write=True):
            return f"writable mount of {path}"
        case Bind(path=path):
            return f"read-only mount of {path}"
        case Mask(path=path):
            return f"empty mask over {path}"
        case Private(path=path):
            return f"private directory in memory at {path}"
        case Scratch(path=path):
            return f"overlay over {path}"
    return type(step).__name__


def _mediated(plan: Plan, decision: Decision) -> bool:
    """Whether init stands between the command and a name below a writable root of the host."""
    if isinstance(decision, Allow) or not isinstance(decision.act, Write) or isinstance(decision.act, Run):
        return False
    parts = components(decision.act.path)
    roots = [components(root) for step in plan.steps if isinstance(step, Mediate) for root in step.roots]
    return any(parts[: len(root)] == root for root in roots)
