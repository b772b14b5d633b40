"""The kernel agrees with ``decide``: over generated worlds, policies and acts.

Each example is one sandbox in which about thirty acts are done, each beside its twin outside, on the same files put back in
between. What is claimed of an act:

* ``decide`` denies it → it fails inside, reveals no content, and the host is as before.
* ``decide`` allows it → what works outside works inside, with the same content read and, where the access is ``write``,
  the same bytes on the host; where it is ``private`` or ``scratch`` the host is as before.

An act is more than one decision: to make an entry is to change its directory as well. ``needs`` says which decisions an act
stands on. Where an allowed act may still fail inside there is a reason with a condition of its own in ``Excuses``, each
naming the one errno it explains.

``HOUSEROOM_ORACLE_EXAMPLES=1000`` looks further, ``HOUSEROOM_ORACLE_RANDOM=1`` elsewhere each time, ``HOUSEROOM_ORACLE_SHRINK=1``
for the smallest case. Examples are derandomized, so that a build fails for what changed in it.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from conftest import Identity
from hypothesis import HealthCheck, Phase, given, note, settings
from oracle_world import Case, Snapshot, Stage, cases

EXAMPLES = int(os.environ.get("HOUSEROOM_ORACLE_EXAMPLES", "40"))
SHRINK = os.environ.get("HOUSEROOM_ORACLE_SHRINK") == "1"
RANDOM = os.environ.get("HOUSEROOM_ORACLE_RANDOM") == "1"
PATIENCE = 60.0

READS = ("read", "list")
ENTRIES = ("create", "mkdir", "unlink", "rmdir", "rename", "symlink", "link")  # acts on an entry of a directory


@dataclass(frozen=True)
class Answer:
    """How an act ended: ``errno`` 0 and what was read, or why not."""

    errno: int
    data: object = None

    def __str__(self) -> str:
        return f"did it, {self.data!r}" if not self.errno else errno.errorcode.get(self.errno, str(self.errno))


@dataclass(frozen=True)
class Decision:
    allow: bool
    access: str
    why: str
    path: str
    rule: str
    way: list[str]  # access of each link on the way


@dataclass
class Policy:
    """What the driver said before the probe started."""

    asks: dict[tuple[str, str, bool], Decision]
    mounts: dict[str, str]
    pinned: list[str]
    rules: list[tuple[str, str]]

    def mount(self, path: str) -> str:
        """The mount point at or nearest above a path."""
        while path and path not in self.mounts:
            path = path.rpartition("/")[0]
        return path


@dataclass
class Asked:
    """An act with the decisions it stands on: ``primary`` are denied or allowed, ``also`` must be allowed for it to work."""

    act: tuple[str, ...]
    real: tuple[str, ...]  # where its paths lead, the last component as it is
    primary: tuple[tuple[str, str, bool], ...]
    also: tuple[tuple[str, str, bool], ...] = ()
    twin: Answer = field(default_factory=lambda: Answer(0))
    effect: Snapshot = field(default_factory=dict)


class Speaker:
    """A probe that does acts on request."""

    def __init__(self, process: subprocess.Popen[bytes]):
        self.process = process

    def line(self) -> dict[str, object]:
        assert self.process.stdout
        said = self.process.stdout.readline()
        if not said:
            assert self.process.stderr
            raise AssertionError(f"the probe ended: {self.process.wait()}\n{self.process.stderr.read().decode(errors='replace')}")
        found: dict[str, object] = json.loads(said)
        return found

    def say(self, what: object) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(what).encode() + b"\n")
        self.process.stdin.flush()

    def do(self, act: tuple[str, ...]) -> Answer:
        self.say(act)
        said = self.line()
        return Answer(int(str(said["errno"])), said["data"])

    def end(self) -> None:
        self.process.kill()  # ours alone; with the supervisor dies the sandbox
        self.process.communicate()


def start(who: Identity, stage: Stage, argv: list[str]) -> Speaker:
    environment = {"PATH": "/usr/bin:/bin", "HOME": f"{stage.root}/home", "LC_ALL": "C.UTF-8", "PYTHONPATH": str(who.base / "src")}
    process = subprocess.Popen(  # type: ignore[call-overload]
        [who.python, *argv],
        cwd=stage.root / "home/ws",
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **who.credentials(),
    )
    return Speaker(process)


def asked(stage: Stage, act: tuple[str, ...]) -> Asked:
    """Which decisions an act stands on."""
    verb, *paths = act
    shown = [stage.at(path) for path in paths]
    full = [path if path.startswith("/") else f"{stage.root}/home/ws/{path}" for path in shown]
    last = [path.rpartition("/")[2] in ("", ".", "..") for path in full]
    real = tuple(
        os.path.realpath(path) if end else f"{os.path.realpath(os.path.dirname(path))}/{os.path.basename(path)}"
        for path, end in zip(full, last, strict=True)
    )
    done = (verb, *shown)
    way = tuple(("read", passed, True) for path in full for passed in left_again(path))
    if verb in READS:
        return Asked(done, real, (("read", full[0], True),), way)
    if verb == "symlink":
        return Asked(done, real[1:], (("write", full[1], last[1]),), (*way, ("write", os.path.dirname(full[1]), True)))
    if verb not in ENTRIES:  # the last component is followed; a missing one is made by open_create
        leads = os.path.realpath(full[0])
        made = () if os.path.lexists(leads) else (("write", os.path.dirname(leads), True),)
        return Asked(done, (leads,), (("write", full[0], True),), (*way, *made))
    primary = tuple(("write", path, end) for path, end in zip(full, last, strict=True))
    also = (*way, *(("write", os.path.dirname(path), True) for path in full))
    if verb == "rename":  # a directory takes what is below it along
        below = [name[len(real[0]) :] for name in walk(stage, real[0])]
        also += tuple(("write", f"{end}{name}", False) for end in real for name in below)
        also += tuple(("write", name, False) for name in walk(stage, real[1]))
    return Asked(done, real, primary, also)


def stays(stage: Stage, one: Asked) -> bool:
    """Whether an act leaves everything outside the stage as it is. The twin runs with all rights of its user, root's too,
    and a sandbox under test may fail: what isn't only looking is never tried on anything else. The probe refuses as well.
    """
    paths = one.act[2:] if one.act[0] == "symlink" else one.act[1:]
    full = [os.path.join(stage.root, "home/ws", path) for path in paths]
    ends = [end for path in full for end in (os.path.realpath(path), os.path.realpath(os.path.dirname(path)))]
    # Nor is the directory taken away in which the probes stand.
    stand = {str(stage.root / place) for place in (".", "home", "home/ws")} if one.act[0] in ENTRIES else {str(stage.root)}
    return one.act[0] in READS or (all(map(stage.holds, (*ends, *one.real))) and not stand & set(one.real))


def left_again(path: str) -> list[str]:
    """The directories that a path enters only to leave them through ``..``."""
    parts = path.split("/")
    return ["/".join(parts[:at]) for at in range(2, len(parts)) if parts[at] == ".." and parts[at - 1] != ".."]


def walk(stage: Stage, path: str) -> Iterator[str]:
    """Everything below a directory of the stage that is no link."""
    if not os.path.islink(path) and stage.holds(path):
        for where, directories, files in os.walk(path):
            yield from (f"{where}/{name}" for name in directories + files)


def twins(who: Identity, stage: Stage, case: Case) -> list[Asked]:
    """Every act outside the sandbox, with what it did to the host."""
    outside = start(who, stage, ["-I", "-S", str(who.base / "oracle_probe.py"), str(stage.root)])
    outside.line()
    out = []
    for act in case.acts:
        one = asked(stage, act)
        if not stays(stage, one):
            continue
        one.twin = outside.do(one.act)
        one.effect = stage.look()
        stage.restore(act, one.real)
        out.append(one)
    outside.end()
    return out


class Excuses:
    """Why an act that ``decide`` allows may fail inside all the same. Each reason explains one errno and nothing else."""

    def __init__(self, policy: Policy, stage: Stage):
        self.policy, self.stage = policy, stage
        self.touched: set[str] = set()  # layers of the sandbox in which an earlier act has left something

    def find(self, one: Asked, inside: Answer) -> str:
        """The reason, or ""."""
        decisions = [self.policy.asks[ask] for ask in one.primary]
        verb, real = one.act[0], one.real
        accesses = {decision.access for decision in decisions}
        where = [self.policy.mount(decision.path) for decision in decisions]
        if any(self.policy.asks[ask].access == "private" for ask in one.also if ask[0] == "read") or any(
            "private" in d.way for d in decisions
        ):
            return "what is private starts empty: the way through it is not there"
        if not all(self.policy.asks[ask].allow for ask in one.also):
            return "another path that this act changes or goes through is denied"
        if self.touched & set(where):
            return "an earlier act left something in this layer of the sandbox"
        if "private" in accesses:
            return "what is private starts empty: the entry or its directory is not there"
        if verb in ("unlink", "rmdir", "rename") and inside.errno == errno.EBUSY and any(path in self.policy.mounts for path in real):
            return "an entry at which the access changes is a mount point"
        if inside.errno in (errno.EROFS, errno.EACCES) and any(
            d.access == "scratch" and policy_kind(self.policy, d.path) == "Bind" for d in decisions
        ):
            return "no layer is laid over a single file, or below what hides it: it is read-only instead"
        if verb in ("rename", "link") and inside.errno == errno.EXDEV:
            if len(set(where)) > 1:
                return "two mounts"
            if "scratch" in accesses and verb == "rename" and os.path.isdir(real[0]):
                return "overlayfs moves no directory of its lower layer"
        if inside.errno in (errno.EACCES, errno.ENOENT) and all(self.is_wild_below_hidden(decision) for decision in decisions):
            return "below a hidden directory a wildcard of files.protect opens nothing: it is not searched there"
        if inside.errno == errno.EROFS and any(path.endswith("/.git") for path in real):
            return "no .git comes into being, whatever the policy grants"
        if inside.errno in (errno.EROFS, errno.EBUSY, errno.EXDEV) and any(self.is_repository(path) for path in real):
            return "a link called .git leads here, and what it leads to is kept read-only"
        if verb in ("rename", "symlink") and inside.errno == errno.EROFS and any(self.leads(path) for path in real):
            return "a directory moved here, or a link made here, could bring a protected path into being"
        return ""

    def is_wild_below_hidden(self, decision: Decision) -> bool:
        wild = "*" in decision.rule or "?" in decision.rule
        return wild and decision.access == "protect" and policy_kind(self.policy, decision.path) in ("Mask", "Private")

    def is_repository(self, path: str) -> bool:
        """Whether a link called ``.git`` on the stage leads to this path or above it."""
        links = (
            f"{self.stage.root}/{name}" for name, node in self.stage.case.nodes.items() if node.kind == "link" and name.endswith("/.git")
        )
        return any(f"{path}/".startswith(f"{os.path.realpath(link)}/") for link in links)

    def leads(self, path: str) -> bool:
        """Whether something protected or hidden can only be below this path."""
        narrow = [text for text, access in self.policy.rules if access in ("protect", "hide")] + self.policy.pinned
        for text in narrow:
            parts, mine = text.split("/")[1:], path.split("/")[1:]
            if len(mine) < len(parts) and all(part == "**" or matches(part, name) for part, name in zip(parts, mine, strict=False)):
                return True
            if "**" in parts[:-1] and parts[-2] != "**" and matches(parts[-2], mine[-1]):
                return True
        return False


def policy_kind(policy: Policy, path: str) -> str:
    return policy.mounts.get(policy.mount(path), "")


def matches(part: str, name: str) -> bool:
    from houseroom.policy.pattern import matches_name

    return matches_name(part, name)


def check(who: Identity, case: Case) -> None:
    """One example. Raises AssertionError naming the act, the decision, and both answers."""
    stage = Stage(who.base / "stage", who.uid, who.gid, case)
    stage.build()
    todo = twins(who, stage, case)
    begin = [
        ("read", path, True) for path in (str(stage.root / "home/ws"), who.python, "/usr/lib", "/lib64", "/etc") if os.path.exists(path)
    ]
    asks = list(dict.fromkeys((*begin, *(ask for one in todo for ask in (*one.primary, *one.also)))))
    layers = {layer: [[key, stage.at(subject)] for key, subject in rules] for layer, rules in case.layers.items()}
    order = {
        "python": who.python,
        "stage": str(stage.root),
        "workspace": str(stage.root / "home/ws"),
        "home": str(stage.root / "home"),
        "base": case.base,
        "layers": layers,
        "asks": asks,
    }
    sandbox = start(who, stage, [str(who.base / "oracle_driver.py")])
    try:
        sandbox.say(order)
        said = sandbox.line()
        if "error" in said:
            note(f"refused: {said['said']}")
            return
        decisions = [Decision(**each) for each in said["decisions"]]  # type: ignore[attr-defined]
        policy = Policy(dict(zip(asks, decisions, strict=True)), said["mounts"], said["pinned"], said["rules"])  # type: ignore[arg-type]
        if any(policy.asks[ask].access not in ("read", "protect", "scratch", "write") for ask in begin):
            return  # a rule of the example takes away what the command needs to start
        assert sandbox.line() == {"ready": who.uid}
        excuses = Excuses(policy, stage)
        for one in todo:
            judge(one, sandbox.do(one.act), policy, stage, excuses)
    finally:
        sandbox.end()


def judge(one: Asked, inside: Answer, policy: Policy, stage: Stage, excuses: Excuses) -> None:
    now = stage.look()
    decisions = [policy.asks[ask] for ask in one.primary]
    story = f"{one.act}\n  decided {decisions}\n  twin    {one.twin}\n  inside  {inside}\n  mounts  {policy.mounts}"
    try:
        if not all(decision.allow for decision in decisions):
            assert now == stage.want, f"denied, and the host changed: {story}\n  {set(now.items()) ^ set(stage.want.items())}"
            harmless = nothing_of_the_host(one, inside, policy) or in_a_layer(one, policy)
            assert inside.errno or harmless, f"denied, and it was done: {story}"
            if not inside.errno:
                excuses.touched |= {policy.mount(decision.path) for decision in decisions}
            return
        accesses = {decision.access for decision in decisions}
        own = bool(accesses & {"private", "scratch"})
        reason = excuses.find(one, inside)
        if own or one.act[0] in READS:
            assert now == stage.want, (
                f"not on the host's own, and the host changed: {story}\n  {set(now.items()) ^ set(stage.want.items())}"
            )
        elif inside.errno:
            assert now == stage.want, f"failed, and the host changed: {story}\n  {set(now.items()) ^ set(stage.want.items())}"
        if "private" in accesses:
            assert "word<" not in str(inside.data), f"private, and the host's content shows: {story}"
        if reason:
            return
        if not one.twin.errno:
            assert not inside.errno, f"allowed, and it fails: {story}"
            if own or one.act[0] == "read":
                assert inside.data == one.twin.data, f"other content: {story}"
            if not own:
                assert now == one.effect, f"another effect than outside: {story}\n  {set(now.items()) ^ set(one.effect.items())}"
        if one.act[0] not in READS and own and not inside.errno:
            excuses.touched |= {policy.mount(decision.path) for decision in decisions}
    finally:
        stage.restore(one.act, one.real)


def in_a_layer(one: Asked, policy: Policy) -> bool:
    """A new name in a private or scratch directory is nothing of the host's, whatever a rule says about that name."""
    return one.act[0] not in READS and all(
        policy.mounts.get(policy.mount(decision.path)) in ("Private", "Scratch") for decision in (policy.asks[ask] for ask in one.primary)
    )


def nothing_of_the_host(one: Asked, inside: Answer, policy: Policy) -> bool:
    """A hidden directory may be listed where something below is granted: the names on the way there, and no others."""
    if one.act[0] != "list" or not isinstance(inside.data, list):
        return False
    place = policy.asks[one.primary[0]].path.rstrip("/")
    return all(any(f"{mount}/".startswith(f"{place}/{name}/") for mount in policy.mounts) for name in inside.data)


@pytest.mark.needs("userns", "landlock", "seccomp_notify")
def test_the_kernel_agrees_with_decide(identity: Identity) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=not RANDOM,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate, *([Phase.shrink] if SHRINK else [])),
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def agree(case: Case) -> None:
        check(identity, case)

    agree()
