"""What works on this host and what a policy really stops here: each thing tried now, outside first and then inside.

The mechanisms are as the host answered for them. Then one command is run in a sandbox under the same policy; it tries what the
policy forbids and says how it fared. A rule "works" only where the act went through outside and was refused inside.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

from houseroom.enforce.linux import cgroup
from houseroom.errors import CannotEnforce, PolicyError, SetupFailed
from houseroom.plan.compile import compile_plan
from houseroom.plan.facts import Facts, Host
from houseroom.policy.decide import PlacedPolicy
from houseroom.policy.model import HIDE, PRIVATE, Origin, Setting, Stratum
from houseroom.policy.pattern import components
from houseroom.session.mechanisms import MISSING, UNUSED, WORKS, Check, groups, look_around, mechanisms
from houseroom.session.trials import PLANTED, Answer, Answers, Trial, heard, trials

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from houseroom.policy.model import Policy
    from houseroom.session.exchange import Captured
    from houseroom.session.sandbox import Prepared

__all__ = ["Check", "checks", "look_around", "mechanisms"]

_ATTEMPTS = os.path.join(os.path.dirname(__file__), "attempts_sys.py")
_PATIENCE = 20  # seconds until a probe that hangs is given up
_PREFIX = ".houseroom-doctor-"
_SYSTEM_PYTHON = "/usr/bin/python3"
_SOME_MEMORY, _SOME_PROCESSES = 1 << 30, 1000  # of a control group that is made to see whether one can be
# What each limit would be kept by is the same for any value.
_EXAMPLES = {
    "limits.memory": _SOME_MEMORY, "limits.processes": _SOME_PROCESSES, "limits.time": 60.0, "limits.cpu": 60.0,
    "limits.open_files": 1000, "limits.file_size": 1 << 30, "limits.output": 1 << 20, "limits.disk": 1 << 30,
}  # fmt: skip
_LONGEST_SOCKET = 107  # bytes of sun_path, unix(7)

_REPORT = "Please report it, with what this prints:\nhouseroom doctor --json"
_REPORT_IT = f"# {_REPORT}"
_SAME = "# This should say the same:\nhouseroom run -- true"


def checks(prepared: Prepared) -> tuple[Check, ...]:
    """The host's mechanisms, and each rule of the policy tried in a sandbox of its own. Leaves nothing behind.

    Takes well under a second. Raises nothing: what could not be tried is a check that says so.
    """
    host, around = prepared.facts.host, look_around()
    counted = host.with_(**cgroup.ask(memory=_SOME_MEMORY, processes=_SOME_PROCESSES))
    found = groups(counted, around, wanted=host.cgroup != Host.cgroup)
    return (*mechanisms(host, around), found, _inspecting(prepared), *_tried(prepared), *_not_set(prepared, counted))


def _inspecting(prepared: Prepared) -> Check:
    """Whether connections could be looked into, which only rules with a method or a path need."""
    from houseroom.session import extra

    try:
        return Check("inspect", WORKS, f"rules with a method or a path: {extra.find(prepared.placed)}/cryptography")
    except CannotEnforce as error:
        wanted = prepared.inspection is not None
        return Check("inspect", MISSING if wanted else UNUSED, f"{error.reason}", extra.INSTALL)


def _not_set(prepared: Prepared, host: Host) -> tuple[Check, ...]:
    """By what each limit would be kept here that the policy does not set."""
    policy = prepared.placed.policy
    others = {key: Setting(value, Origin("session", "doctor")) for key, value in _EXAMPLES.items() if policy.setting(key) is None}
    placed = PlacedPolicy(policy.with_(strata=(*policy.strata, Stratum("doctor", (), others))), prepared.placed.places)
    made = compile_plan(placed, Facts(host, prepared.facts.tree), rung=prepared.plan.rung)
    return tuple(
        Check(row.rule, UNUSED, f"not set; {row.state} here" + (f": {', '.join(row.by)}" if row.by else ""))
        for row in made.coverage
        if row.rule in others
    )


def _tried(prepared: Prepared) -> tuple[Check, ...]:
    from subprocess import TimeoutExpired

    inner = _interpreter(prepared.placed)
    if not inner:
        said = f"nothing was tried: neither {sys.executable} nor {_SYSTEM_PYTHON} can be read in the sandbox"
        return (Check("probe", MISSING, said, "# Let the policy read one of them: files.read, or --read PATH"),)
    if _forced(prepared):
        return (Check("probe", UNUSED, f"nothing was tried: the rung {prepared.plan.rung} was asked for and is not this host's own"),)
    with Stage(prepared) as stage:
        tried = trials(stage)
        try:
            outside, inside, trouble = stage.play(tried, inner)
        except (PolicyError, CannotEnforce, SetupFailed, OSError, TimeoutExpired) as error:
            return (Check("probe", MISSING, f"nothing was tried: {error}", _SAME),)
        ended = Check("probe", MISSING, trouble, _SAME) if trouble else Check("probe", WORKS, f"a sandbox started {inner}")
        return (ended, *(_check(trial, outside, inside, prepared) for trial in tried), _proxy(prepared, inner))


def _proxy(prepared: Prepared, inner: str) -> Check:
    from houseroom.session import doctor_egress

    def play(policy: Policy, acts: list[tuple[object, ...]]) -> tuple[Answers, str]:
        said, trouble = run_probe(prepared, policy, inner, acts, dict(os.environ))
        return _answers(said), trouble

    try:
        return doctor_egress.check(prepared, play)
    except (PolicyError, CannotEnforce, SetupFailed, OSError) as error:
        return Check(doctor_egress.NAME, MISSING, f"it was not tried: {error}", _REPORT_IT)


def run_probe(prepared: Prepared, policy: Policy, inner: str, acts: list[tuple[object, ...]], variables: dict[str, str]) -> tuple[str, str]:
    """What the probe said in a sandbox under a policy, and what went wrong with it ("" if nothing)."""
    import json

    from houseroom.session import request, running
    from houseroom.session.course import Call
    from houseroom.session.exchange import DEVNULL, PIPE

    given = {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}
    policy = policy.without("network.publish")  # a sandbox that stands may have the port
    house = running.build(request.Request(prepared.placed.places, given, policy, accept=_accepted(prepared)))
    argv = (inner, "-I", "-S", "-c", _program(), json.dumps(acts))
    call = Call([*map(os.fsencode, argv)], stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    try:
        done = running.run(house, call, seconds=_PATIENCE)
    except running.TimeIsUp as late:
        return _text(late.stdout), f"the probe did not end within {_PATIENCE} seconds"
    finally:
        running.close(house)
    return _text(done.stdout), _trouble(done.course.returncode or 0, _text(done.stderr))


def _program() -> str:
    with open(_ATTEMPTS, encoding="utf-8") as file:
        return file.read()


def _check(trial: Trial, outside: Answers, inside: Answers, prepared: Prepared) -> Check:
    if trial.inside and trial.name not in inside:
        return Check(trial.name, UNUSED, "not tried: the probe had ended")
    state, said = trial.judge(outside, inside)
    if state != MISSING:
        return Check(trial.name, state, said)
    if any(row.rule == trial.rule and row.loses for row in prepared.plan.coverage):
        return Check(trial.name, state, f"{said} (a known loss here: see {trial.rule} below)")
    wrong = "allows this and it failed" if trial.granted else "forbids this and it happened"
    return Check(trial.name, state, said, f"# The policy {wrong}. {_REPORT}")


def _interpreter(placed: PlacedPolicy) -> str:
    """An interpreter that the policy lets the sandbox read, with its standard library; "" where there is none."""
    library = os.path.dirname(os.path.realpath(os.__file__))
    for path, needed in ((sys.executable, (library,)), (_SYSTEM_PYTHON, ())):
        wanted = (path, os.path.realpath(path), *needed)
        if path and os.access(path, os.X_OK) and all(placed.access(components(one))[0] not in (HIDE, PRIVATE) for one in wanted):
            return path
    return ""


def _forced(prepared: Prepared) -> bool:
    from houseroom.plan.compile import choose_rung

    try:
        return choose_rung(prepared.facts.host) != prepared.plan.rung
    except CannotEnforce:
        return True


class Stage:
    """What the probe acts upon: listeners, a directory in the home, one in /tmp, and names that nobody else uses."""

    def __init__(self, prepared: Prepared):
        self.prepared, self.placed = prepared, prepared.placed
        self.places = prepared.placed.places
        self.token = _PREFIX + os.urandom(12).hex()
        self.tcp: socket.socket | None = None
        self.unix: socket.socket | None = None
        self.unix_path = self.planted = self.trouble = ""
        self.made: list[str] = []  # directories, to be removed
        self.wanted: list[str] = []  # paths that an act may leave on the host

    def __enter__(self) -> Stage:
        try:
            self._listen()
            self._listen_on_path()
            if self.placed.access(components(self.places.tmp))[0] == PRIVATE:
                self.planted = self._directory(self.places.tmp)
        except BaseException:
            self._strike()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._strike()

    def _listen(self) -> None:
        import socket

        try:
            self.tcp = socket.create_server(("127.0.0.1", 0))
            self.tcp.settimeout(0)
        except OSError as error:
            self.trouble = str(error)

    def _listen_on_path(self) -> None:
        """In the home directory, not in ours below it: that one is hidden, which would refuse the connection for a lesser reason."""
        import socket

        directory = self._directory(self.places.home)
        path = f"{directory}/socket"
        if not directory or len(os.fsencode(path)) > _LONGEST_SOCKET:
            return
        self.unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.unix.bind(path)
        except OSError:
            return  # a file system without sockets
        self.wanted.append(path)
        self.unix.listen()
        self.unix.settimeout(0)
        self.unix_path = path

    def _directory(self, parent: str) -> str:
        from houseroom.session.private_directory import make_fresh

        try:
            path, descriptor = make_fresh(parent, _PREFIX)
        except SetupFailed:
            return ""
        os.close(descriptor)
        self.made.append(path)
        return path

    def left(self, path: str) -> bool:
        """Whether an act's file is on the host."""
        return os.path.lexists(path)

    def name(self, directory: str) -> str:
        """A path of our own there, removed at the end if an act makes it."""
        path = f"{directory.rstrip('/')}/{self.token}"
        self.wanted.append(path)
        return path

    def access(self, path: str) -> str:
        """What the policy grants at a path."""
        return self.placed.access(components(path))[0]

    def play(self, trials: tuple[Trial, ...], inner: str) -> tuple[Answers, Answers, str]:
        """The answers outside and inside, and what went wrong with the probe ("" if nothing)."""
        import json
        import subprocess

        environment = {**os.environ, PLANTED: os.urandom(12).hex()}
        acts = json.dumps([(trial.name, *trial.outside) for trial in trials if trial.outside])
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _program(), acts],
            env=environment,
            cwd=self.places.workspace,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        outside = _answers(done.stdout)
        heard(self.tcp)
        heard(self.unix)
        wanted: list[tuple[object, ...]] = [(trial.name, *trial.inside) for trial in trials if trial.inside]
        said, trouble = run_probe(self.prepared, self.prepared.policy, inner, wanted, environment)
        return outside, _answers(said), trouble

    def _strike(self) -> None:
        for listener in (self.tcp, self.unix):
            if listener is not None:
                listener.close()
        for remove, paths in ((os.unlink, self.wanted), (os.rmdir, self.made)):
            for path in paths:
                try:
                    remove(path)
                except OSError:
                    continue  # an act that was refused left nothing


def _accepted(prepared: Prepared) -> tuple[str, ...]:
    """What this Prepared must have accepted to exist."""
    from houseroom.policy.layers import refuse_unenforced

    short = tuple(row.rule for row in prepared.plan.coverage if row.state != "enforced")
    try:
        refuse_unenforced(prepared.policy)
    except CannotEnforce as error:
        return (*short, *error.missing)
    return short


def _answers(text: str) -> Answers:
    import json

    out = {}
    for line in text.splitlines():
        try:
            name, done, seen = json.loads(line)
        except ValueError:
            continue  # cut off by the probe's end
        out[name] = Answer(done, seen)
    return out


def _trouble(code: int, said: str) -> str:
    last = said.strip().rpartition("\n")[2]
    return f"the probe did not end well: it returned {code}{', ' + last if last else ''}" if code else ""


def _text(captured: Captured | None) -> str:
    return captured.bytes().decode("utf-8", "replace") if captured else ""
