"""From a policy to an ended command: the one way that the command line, the Python API and later front ends take."""

from __future__ import annotations

import os

from houseroom.enforce.linux import scan
from houseroom.enforce.linux.launch import Cradle, Ended
from houseroom.errors import PolicyError
from houseroom.plan.compile import compile_plan
from houseroom.plan.coverage import require
from houseroom.plan.facts import Facts
from houseroom.policy.decide import PlacedPolicy
from houseroom.policy.layers import refuse_unenforced
from houseroom.policy import pattern
from houseroom.policy.model import Places
from houseroom.policy.pattern import components
from houseroom.policy.presets import free_git, guards
from houseroom.policy.record import Record
from houseroom.session import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from houseroom.plan.steps import Plan
    from houseroom.policy.model import Policy, Stratum

TIMED_OUT, NOT_EXECUTABLE, NOT_FOUND = 124, 126, 127


class Command(Record):
    """What to run: argv as bytes or text, the directory to run it in ("" for the caller's), seconds it may take."""

    argv: tuple[str | bytes, ...]
    cwd: str = ""
    time: float | None = None


class Outcome(Record):
    """How it ended. ``kind``: exited | signalled | timed-out | not-started; ``code``: exit status, signal or errno."""

    kind: str
    code: int
    detail: str = ""

    @property
    def exit_code(self) -> int:
        """As a shell would say it: 128 + n for a signal, 126 and 127 for a command that can't be run, 124 for its time."""
        match self.kind:
            case "exited":
                return self.code
            case "signalled":
                return 128 + self.code
            case "timed-out":
                return TIMED_OUT
        return NOT_FOUND if self.code == 2 else NOT_EXECUTABLE


class Prepared:
    """A policy made concrete on this host, with its init already waiting. Close it, or use it as a context manager."""

    def __init__(self, policy: Policy, placed: PlacedPolicy, facts: Facts, plan: Plan, cradle: Cradle, environ: Mapping[bytes, bytes]):
        self.policy, self.placed, self.facts, self.plan, self.cradle = policy, placed, facts, plan, cradle
        self.environment, self.withheld = environment.build(placed, environ)

    def close(self) -> None:
        """End the sandbox and everything in it."""
        self.cradle.end()

    def __enter__(self) -> Prepared:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def places(workspace: str | None) -> Places:
    """What the placeholders of a policy stand for here. Raises PolicyError for a workspace that is none.

    Without one it is the current directory, unless that is the root or the home directory: to let an agent write all
    of it must be said.
    """
    home = os.path.realpath(os.environ.get("HOME") or "/")
    try:
        found = os.path.realpath(workspace or os.getcwd(), strict=True)
    except OSError as error:
        said = f"can't use {workspace or 'the current directory'} as workspace: {error.strerror}"
        raise PolicyError(said, hint="Name an existing directory: --workspace DIR") from None
    if not os.path.isdir(found):
        raise PolicyError(f"can't use {found} as workspace: not a directory", hint="Name a directory: --workspace DIR")
    if workspace is None and found in ("/", home):
        what = "the root directory" if found == "/" else "your home directory"
        raise PolicyError(f"{found} is {what}: all of it would be writable", hint=f"Change into a project, or say so: --workspace {found}")
    return Places(found, home, "/tmp", os.getuid())


def place(policy: Policy, places: Places) -> PlacedPolicy:
    """Tie a policy to this host's places, with what follows from its rules: git's mode, guards of further writable roots."""
    mode = policy.setting("git.mode")
    free = mode is not None and mode.value == "free"
    strata = tuple(_completed(stratum, places, free=free) for stratum in policy.strata)
    return PlacedPolicy(policy.with_(strata=strata), places)


def _completed(stratum: Stratum, places: Places, *, free: bool) -> Stratum:
    inside = components(places.workspace)
    roots = []
    for rule in stratum.rules:
        if rule.key == "files.write" and rule.origin.layer != "preset":
            found = pattern.place(rule.subject, places)
            if found.literal and found.parts[: len(inside)] != inside:
                roots.append(rule.subject)
    if roots:
        stratum = stratum.with_(rules=(*stratum.rules, *(rule for root in roots for rule in guards(root))))
    return free_git(stratum) if free else stratum


def prepare(
    policy: Policy,
    places: Places,
    *,
    accept: tuple[str, ...] = (),
    backend: str = "",
    environ: Mapping[bytes, bytes] = os.environb,
) -> Prepared:
    """Ask the host, make the plan, compare its coverage with the floor. Starts nothing but a waiting init.

    Raises PolicyError, and CannotEnforce where the floor is not met and was not accepted by name.
    """
    reach = policy.setting("network.reach")
    cradle = Cradle(network=reach is None or reach.value == "none")
    try:
        refuse_unenforced(policy, frozenset(accept))
        placed = place(policy, places)
        tree = scan.look(placed)
        placed.learn(tree.aliases)
        for path in tree.gitfiles:
            placed.protect(path, "a .git file says which directory is the repository")
        facts = Facts(cradle.host(), tree)
        plan = compile_plan(placed, facts, rung=backend)
        require(plan.coverage, policy.floor, accept)
        return Prepared(policy, placed, facts, plan, cradle, environ)
    except BaseException:
        cradle.end()
        raise


def run(prepared: Prepared, command: Command) -> Outcome:
    """Run one command to its end, with the caller's standard streams. Raises SetupFailed where the kernel refused a step."""
    cwd = command.cwd or os.getcwd()
    order = {
        "argv": [os.fsencode(part) for part in command.argv],
        "environment": prepared.environment,
        "cwd": os.fsencode(cwd),
    }
    cradle = prepared.cradle
    try:
        cradle.start(prepared.plan, order)
        cradle.ready()
        cradle.forward_signals()
        ended = cradle.wait(_seconds(prepared.policy, command.time))
        if ended.kind != "timed-out":
            cradle.part()
    finally:
        cradle.end()
    return _outcome(ended, command)


def _outcome(ended: Ended, command: Command) -> Outcome:
    if ended.kind == "not-started":
        return Outcome("not-started", ended.number, f"can't run {os.fsdecode(command.argv[0])}: {os.strerror(ended.number)}")
    return Outcome(ended.kind, ended.number)


def _seconds(policy: Policy, given: float | None) -> float | None:
    said = [setting.value for name in ("limits.time", "session.expires") if (setting := policy.setting(name))]
    limits = [float(str(value)) for value in said] + ([given] if given is not None else [])
    return min(limits) if limits else None

