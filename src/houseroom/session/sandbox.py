"""From a policy to an ended command: the one way that the command line, the Python API and later front ends take."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

from houseroom.enforce.linux import wire
from houseroom.enforce.linux.launch import Cradle, Ended
from houseroom.errors import PolicyError, SetupFailed
from houseroom.plan.facts import Facts
from houseroom.policy.model import Places
from houseroom.policy.record import Record
from houseroom.session import environment, remembered
from houseroom.session.limits import DROPPED, OUTPUT, Limits, blame, explain, limits_of, on_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from houseroom.enforce.linux.command import Order
    from houseroom.enforce.linux.starters import Starters
    from houseroom.plan.facts import Tree
    from houseroom.plan.questions import Questions
    from houseroom.plan.steps import Plan
    from houseroom.policy.decide import PlacedPolicy
    from houseroom.policy.denials import Denial
    from houseroom.policy.model import Policy, Rule, Setting
    from houseroom.policy.traffic import Traffic
    from houseroom.session.inspection import Inspection
    from houseroom.session.output import Relay

STOPPED, NOT_EXECUTABLE, NOT_FOUND = 124, 126, 127


_UNWATCHED = (
    "not every directory was watched, so a hidden file that the host replaced or made meanwhile may have shown. "
    "Raise the limits: sysctl fs.inotify.max_user_watches=524288 fs.inotify.max_user_instances=1024"
)


class Wish(Record):
    """What the caller asks for on top of the policy files; see ``policy_files.load`` for the first three."""

    profile: str | None = None
    rules: tuple[Rule, ...] = ()
    settings: dict[str, Setting] = {}
    accept: tuple[str, ...] = ()
    backend: str = ""
    observe: str = "off"

    def plain(self) -> tuple[object, ...]:
        """As plain values that compare equal for the same wish."""
        rules = tuple((rule.key, rule.subject, rule.origin.layer) for rule in self.rules)
        settings = tuple(sorted((key, setting.value) for key, setting in self.settings.items()))
        return (self.profile, rules, settings, self.accept, self.backend, self.observe)


class Command(Record):
    """What to run: argv as bytes or text, the directory to run it in ("" for the caller's), seconds it may take.

    ``terminal`` asks for one of the command's own: rows, columns, and which descriptors it takes the place of.
    """

    argv: tuple[str | bytes, ...]
    cwd: str = ""
    time: float | None = None
    terminal: tuple[int, int, tuple[int, ...]] | None = None


class Outcome(Record):
    """How it ended. ``kind``: exited | signalled | timed-out | limit | not-started; ``code``: exit status, signal or errno.

    ``detail`` names the limit that stopped it, its value, file and line, or what else there is to say. ``notes``: what was observed
    of it, for ``denials.read``. ``refused``: what the egress proxy did not let through; ``reached``: where it let connections through.
    """

    kind: str
    code: int
    detail: str = ""
    notes: bytes = b""
    refused: tuple[Denial, ...] = ()
    reached: tuple[Traffic, ...] = ()

    @property
    def exit_code(self) -> int:
        """As a shell would say it: 128 + n for a signal, 126 and 127 for a command that can't be run; 124 where a limit stopped it."""
        match self.kind:
            case "exited":
                return self.code
            case "signalled":
                return 128 + self.code
            case "timed-out" | "limit":
                return STOPPED
        return NOT_FOUND if self.code == 2 else NOT_EXECUTABLE


class Prepared:
    """A policy made concrete on this host, with its init already waiting. Close it, or use it as a context manager."""

    def __init__(
        self,
        policy: Policy,
        placed: PlacedPolicy,
        questions: Questions,
        facts: Facts,
        plan: Plan,
        cradle: Cradle,
        inspection: Inspection | None = None,
    ):
        self.policy, self.placed, self.questions, self.facts, self.plan, self.cradle = policy, placed, questions, facts, plan, cradle
        self.inspection, self.inspector = inspection, -1  # the way to the proxy that looks into connections, which is born first
        self.limits, self.ceilings = _limits(policy), limits_of(policy)
        self.accepted: tuple[str, ...] = ()
        self.relay: Relay | None = None
        self.egress = _egress().rules_of(policy)
        self.proxies: dict[str, str] = {}  # of the host's own, for the egress proxy alone
        self.published = _published(plan)
        self.environment: dict[bytes, bytes] = {}
        self.withheld: tuple[str, ...] = ()
        self.placeholders = inspection.shown if inspection else ()  # the variables in whose place commands get one

    def choose(self, environ: Mapping[bytes, bytes]) -> None:
        """Make the command's environment of the caller's. Placeholders come with the start, when there are values."""
        self.given, self.choice = environ, environment.choose(self.placed, map(os.fsdecode, environ))
        self._fix(self.inspection.variables() if self.inspection else ())
        self.proxies = _egress().proxies_of_host(self.egress, environ)

    def _fix(self, own: tuple[tuple[str, str], ...]) -> None:
        self.choice = self.choice.with_(fixed=(*self.choice.fixed, *own))
        self.environment, self.withheld = environment.build(self.choice, self.given)

    def start(self, command: Command | None) -> Cradle:
        """Give the command to the init that fits the plan. Raises PolicyError for a credential that can't be had."""
        swaps, shown = self.inspection.read(self.placed, self.given) if self.inspection else ((), ())
        if shown:
            self._fix(shown)
        self.cradle = _fitting(self)
        self.relay = _relay(self.ceilings, command)
        order = _order(command, self.environment, self.relay)
        if self.inspection:
            found = self.inspection
            self.inspector, own = _egress().bear(self.egress, found.library, found.verifying, swaps, self.proxies)
            order["authorities"] = self.inspection.trusted + own
        self.cradle.start(self.plan, order)
        return self.cradle

    def close(self) -> None:
        """End the sandbox and everything in it."""
        self.cradle.end()

    def __enter__(self) -> Prepared:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Again:
    """A remembered plan whose facts still hold, being carried out already; the command itself waits for the word to go."""

    def __init__(self, cradle: Cradle, memory: remembered.Memory, given: dict[bytes, bytes], withheld: tuple[str, ...]):
        self.cradle, self.limits, self.choice = cradle, memory.limits, memory.choice
        self.environment, self.withheld = given, withheld
        self.egress, self.published = memory.egress, memory.published
        self.proxies: dict[str, str] = {}  # of the host's own, for the egress proxy alone
        self.ceilings = Limits(memory.ceilings)
        self.accepted: tuple[str, ...] = ()
        self.relay: Relay | None = None
        self.inspector = -1  # connections are not looked into: their authority is a new one each time

    def start(self, _command: Command | None) -> Cradle:
        """It has its order."""
        return self.cradle


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


def ready(places: Places, wish: Wish, environ: Mapping[bytes, bytes], cradle: Cradle, command: Command | None) -> Prepared | Again:
    """What ``run`` needs, or ``begin`` where there is no command yet, from a remembered plan where one fits, else by reading the
    policy and deciding. Raises as ``prepare``.

    ``cradle`` is an init that was begun already; it is the result's from here on.
    """
    key = remembered.key(places, wish.plain())
    memory = remembered.recall(places, key)
    if memory is not None:
        again = _again(memory, environ, cradle, command)
        if again is not None:
            again.accepted = wish.accept
            return again
        cradle.end()  # it may have begun with what is not wanted now
        cradle = Cradle()
    from houseroom.session import policy_files

    try:
        policy = policy_files.load(places, profile=wish.profile, session_rules=wish.rules, session_settings=wish.settings)
    except BaseException:
        cradle.end()
        raise
    prepared = prepare(policy, places, accept=wish.accept, backend=wish.backend, observe=wish.observe, environ=environ, cradle=cradle)
    if _on_top(prepared) and not prepared.inspection:
        packed, asked = wire.pack(prepared.plan.steps, prepared.facts.host.machine), remembered.asked(prepared.questions, prepared.facts)
        given = prepared.ceilings.given
        kept = remembered.Memory(prepared.limits, prepared.choice, packed, asked, given, prepared.egress, prepared.published)
        remembered.remember(places, key, kept)
    return prepared


def _again(memory: remembered.Memory, environ: Mapping[bytes, bytes], cradle: Cradle, command: Command | None) -> Again | None:
    """Let init carry out what was planned last time, and see meanwhile whether it is still right. Nothing runs before that."""
    try:
        given, withheld = environment.build(memory.choice, environ)
    except KeyError:  # a variable that the policy was not asked about
        return None
    again = Again(cradle, memory, given, withheld)
    if memory.egress:
        try:
            again.proxies = _egress().proxies_of_host(memory.egress, environ)
        except SetupFailed:
            return None  # it is told when nothing has begun
    again.relay = _relay(again.ceilings, command)
    try:
        cradle.start_packed(memory.packed, _order(command, given, again.relay))
        from houseroom.enforce.linux import scan  # while init is at work

        expected = memory.expected()
        if expected is not None:
            questions, facts = expected
            tree = scan.look_again(questions)  # before the answers of init, which takes its time to find them
            if (on_host(cradle.host(), again.ceilings).values(), tree) == facts:
                return again
    except SetupFailed:
        pass  # init has died over a plan that may be out of date
    if again.relay:
        again.relay.close()
    return None


def place(policy: Policy, places: Places) -> tuple[PlacedPolicy, Questions, Tree]:
    """A policy on this host as it is now, what it asked the host, and the answers."""
    from houseroom.enforce.linux import scan
    from houseroom.plan.facts import MISSING
    from houseroom.plan.questions import ask
    from houseroom.policy import pattern
    from houseroom.policy.decide import PlacedPolicy

    placed = PlacedPolicy(policy, places)
    questions = ask(placed)
    tree = scan.look(questions)
    placed.learn(tree.aliases)
    if policy.strata[0].under("network.sockets"):
        from houseroom.session import host_sockets

        host_sockets.learn(placed, tree)
    placed.forget({pattern.components(path) for path, entry in tree.named.items() if entry.kind != MISSING})
    for path in tree.gitfiles:
        placed.protect(path, "a .git file says which directory is the repository")
    return placed, questions, tree


def prepare(
    policy: Policy,
    places: Places,
    *,
    accept: tuple[str, ...] = (),
    backend: str = "",
    observe: str = "off",
    environ: Mapping[bytes, bytes] = os.environb,
    cradle: Cradle | None = None,
    terminals: bool = False,
) -> Prepared:
    """Ask the host, make the plan, compare its coverage with the floor. Starts nothing but a waiting init.

    ``terminals``: there will be commands with terminals of their own, whatever our own streams are.
    ``cradle`` is an init that was begun already. Raises PolicyError, and CannotEnforce where the floor is not met and was
    not accepted by name.
    """
    from houseroom.plan.compile import compile_plan, why_not_higher
    from houseroom.plan.coverage import require
    from houseroom.policy.layers import refuse_unenforced

    cradle = cradle or Cradle()
    try:
        refuse_unenforced(policy, frozenset(accept))
        placed, questions, tree = place(policy, places)
        host, inspection = on_host(cradle.host(backend), limits_of(policy), terminals=terminals), _inspection(placed, environ)
        facts = Facts(host.with_(authorities=inspection.files) if inspection else host, tree)
        plan = compile_plan(placed, facts, rung=backend, observe=observe)
        plan = plan.with_(coverage=require(plan.coverage, policy.floor, accept, why_not_higher(facts.host, plan.rung)))
        prepared = Prepared(policy, placed, questions, facts, plan, cradle, inspection)
        prepared.choose(environ)
        prepared.accepted = accept
        return prepared
    except BaseException:
        cradle.end()
        raise


def run(start: Prepared | Again, command: Command, attend: Callable[[Cradle, float | None], Ended] | None = None) -> Outcome:
    """Run one command to its end, with the caller's standard streams. Raises SetupFailed where the kernel refused a step.

    ``attend`` takes the place of waiting where the command has a terminal of its own; what signals mean is its matter then.
    """
    told = -1
    try:
        cradle = start.start(command)
        told = _stand(start, cradle)
        if attend is None:
            cradle.forward_signals()  # until here they end us, and with us what has begun
        limits = [*start.limits.values(), *([] if command.time is None else [command.time])]
        ended = (attend or (start.relay.attend if start.relay else Cradle.wait))(cradle, min(limits) if limits else None)
        stopped = ended.kind in ("timed-out", "hung-up", "enough")
        if stopped:
            cradle.last_notes()
            cradle.end()
        else:
            cradle.part()
        if start.relay:
            start.relay.finish(0 if stopped else None)  # of what was stopped, only what can be passed on at once
        refused, reached = _egress().account(told) if told >= 0 else ((), ())
    except SetupFailed as failure:
        start.cradle.end()
        return _outcome(Ended("killed", 0), command, start, failure)
    finally:
        start.cradle.end()
        _let_go(start)
        if told >= 0:
            os.close(told)
        if start.relay:
            start.relay.close()
    return _outcome(ended, command, start).with_(notes=cradle.notes, refused=refused, reached=reached)


def _published(plan: Plan) -> tuple[int, ...]:
    from houseroom.plan.steps import Publish

    return next((step.ports for step in plan.steps if isinstance(step, Publish)), ())


def _stand(start: Prepared | Again, cradle: Cradle) -> int:
    """Have the sandbox built, with its ways out and in, and the command begin. Returns where an egress proxy tells what it refused, -1
    for none. Raises SetupFailed."""
    if not start.published:
        cradle.go()
        cradle.ready()
        return _proxy(start, cradle)
    from houseroom.session import publish

    doors, told = publish.listen(start.published), -1  # what is taken stops the start before anything has begun
    try:
        cradle.ready()
        told = _proxy(start, cradle)
        publish.start(cradle, doors)
        cradle.go()
    except BaseException:
        if told >= 0:
            os.close(told)
        raise
    finally:
        publish.close(doors)
    return told


def _proxy(start: Prepared | Again, cradle: Cradle) -> int:
    return _egress().start(cradle, start.egress, start.proxies, start.inspector) if start.egress else -1


def _inspection(placed: PlacedPolicy, environ: Mapping[bytes, bytes]) -> Inspection | None:
    """Only listed hosts can have rules on requests."""
    reach = placed.policy.setting("network.reach")
    if reach is None or reach.value != "listed":
        return None
    from houseroom.session import inspection

    return inspection.find(placed, environ)


def _let_go(start: Prepared | Again) -> None:
    """The proxy that was born first has its sandbox by now, or ends."""
    if start.inspector >= 0:
        os.close(start.inspector)
        start.inspector = -1


def _egress() -> ModuleType:
    """Only a policy that reaches listed hosts needs it."""
    from houseroom.session import egress

    return egress


def begin(start: Prepared | Again) -> Starters:
    """Build the sandbox of a session, in which commands are started on request. Raises SetupFailed where the kernel refused a step.

    Ending is the caller's: close the result, then ``start.cradle.end()``.
    """
    try:
        cradle = start.start(None)
        told = _stand(start, cradle)
        first = cradle.descriptor()
    except BaseException:
        start.cradle.end()
        raise
    finally:
        _let_go(start)
    from houseroom.enforce.linux.starters import Starters

    start.environment = cradle.moved(start.environment)
    return Starters(cradle.release(), first, told=told)


def counted(start: Prepared | Again) -> dict[str, tuple[str, str]]:
    """By which control groups memory and processes of a sandbox that stands are counted, as ``cgroup.Group`` has it."""
    return start.cradle.group.counted if start.cradle.group else {}


def _relay(limits: Limits, command: Command | None) -> Relay | None:
    """Pipes in place of the caller's streams, where what the command prints is limited."""
    if command is None or command.terminal or OUTPUT not in limits.given:
        return None
    from houseroom.session.output import Relay

    return Relay(int(limits.amount(OUTPUT)))


def _order(command: Command | None, given: dict[bytes, bytes], relay: Relay | None) -> Order:
    if command is None:
        return {"steps": b"", "filters": {}}
    order: Order = {
        "argv": [os.fsencode(part) for part in command.argv],
        "environment": given,
        "cwd": os.fsencode(command.cwd or os.getcwd()),
        "steps": b"",
        "filters": {},
    }
    if command.terminal:
        order["terminal"] = command.terminal
    if relay:
        order["streams"] = relay.theirs
    return order


def _on_top(prepared: Prepared) -> bool:
    """Whether the plan stands on the first cradle that was begun, the one for namespaces of our own."""
    return prepared.plan.rung == "namespaces" and not prepared.facts.host.proc


def _fitting(prepared: Prepared) -> Cradle:
    """What was begun as the highest rung, or what the plan stands on instead."""
    if _on_top(prepared):
        return prepared.cradle
    from houseroom.enforce.linux import lower

    return lower.fitting(prepared.cradle, prepared.plan, prepared.facts.host)


def _outcome(ended: Ended, command: Command, start: Prepared | Again, failure: SetupFailed | None = None) -> Outcome:
    """How it ended, with the limit that did it. Raises the failure where no limit explains it."""
    if ended.kind == "not-started":
        return Outcome("not-started", ended.number, f"can't run {os.fsdecode(command.argv[0])}: {os.strerror(ended.number)}")
    hits = start.cradle.hits()
    if start.relay:
        hits[OUTPUT, DROPPED] = start.relay.budget.dropped
    kind, detail = explain("signalled" if ended.kind == "hung-up" else ended.kind, ended.number, hits, start.ceilings)
    if failure and kind != "limit":
        raise blame(failure, hits, start.ceilings) from None
    return Outcome(kind, ended.number, "; ".join(filter(None, (detail, _UNWATCHED if ended.unwatched else ""))))


def _limits(policy: Policy) -> dict[str, float]:
    """What the policy says of time, in seconds."""
    return {name: float(str(setting.value)) for name in ("limits.time", "session.expires") if (setting := policy.setting(name))}
