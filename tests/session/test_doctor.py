"""What doctor finds, as root and as an unprivileged user: under policies that refuse, under policies that open, and in a sandbox
that does not hold.

The twin of every refusal is in doctor itself (it tries the same outside); the twin of doctor's "works" is here: the same check
under a policy that opens the thing, and against a sandbox that is wider than the policy says.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from houseroom.plan.facts import Host
from houseroom.session.mechanisms import Check, Surroundings, groups, mechanisms
from houseroom.session.trials import Answer, _refused

SOURCE = Path(__file__).resolve().parents[2] / "src"
UNPRIVILEGED = 61234  # no account is needed, only a number
needs_a_sandbox = pytest.mark.needs("linux", "userns", "landlock", "seccomp_notify")

# Runs in a process of its own, as the identity: [profile, [(key, subject)], {setting: value}, widening rules, backend] → checks.
DRIVER = """
import json, os, sys
sys.path.append(sys.argv[1])
from houseroom.errors import CannotEnforce
from houseroom.policy.model import Origin, Rule, Setting
from houseroom.session import doctor, doctor_egress, policy_files, sandbox

profile, rules, settings, widened, backend, listed = json.loads(sys.argv[2])
doctor_egress._ALLOWED = doctor_egress._ALLOWED if listed is None else tuple(listed)
origin = Origin("session", "test")
where = sandbox.places(None)
load = lambda name, rules, settings: policy_files.load(
    where,
    profile=name,
    session_rules=tuple(Rule(key, subject, origin) for key, subject in rules),
    session_settings={key: Setting(value, origin) for key, value in settings.items()},
    system="/nonexistent",
)
policy = load(profile, rules, settings)
try:
    prepared = sandbox.prepare(policy, where, backend=backend)
except CannotEnforce as error:
    prepared = sandbox.prepare(policy, where, backend=backend, accept=error.missing)
with prepared:
    if widened:
        prepared.policy = load("workspace", rules + widened, {"network.reach": "open"})
    print(json.dumps([check.values() for check in doctor.checks(prepared)]))
"""


# Wider than the default policy in each of the rules that are tried.
WIDENED = [
    ("files.write", "~"),
    ("files.write", "~/.cache"),
    ("files.read", "~/.ssh"),
    ("files.read", "/tmp"),
    ("files.except", "**/.mcp.json"),
    ("environment.pass", "HOUSEROOM_DOCTOR_TOKEN"),
]


@dataclass(frozen=True)
class Person:
    """A user of the host with a home directory, a workspace and an interpreter they may run."""

    uid: int
    base: Path
    python: str

    @property
    def home(self) -> Path:
        return self.base / "home"

    @property
    def workspace(self) -> Path:
        return self.home / "work"

    def credentials(self) -> dict[str, object]:
        return {} if os.geteuid() == self.uid else {"user": self.uid, "group": self.uid, "extra_groups": []}

    def checks(self, *arguments: object, before: str = "") -> dict[str, Check]:
        """Doctor's checks by name, for a profile, rules, settings, rules that widen the sandbox alone, a rung, what its proxy lists."""
        given = [*arguments, *("workspace", [], {}, [], "", None)[len(arguments) :]]
        argv = [self.python, "-I", "-c", DRIVER, str(self.base / "src"), json.dumps(given)]
        if before:
            argv = ["unshare", "-Ur", "sh", "-c", f'{before}; exec "$@"', "sh", *argv]
        environment = {"HOME": str(self.home), "PATH": "/usr/bin:/bin", "TMPDIR": "/tmp"}
        done = subprocess.run(  # type: ignore[call-overload]
            argv, cwd=self.workspace, env=environment, capture_output=True, text=True, timeout=60, check=False, **self.credentials()
        )
        assert done.returncode == 0, done.stderr
        return {values[0]: Check(*values) for values in json.loads(done.stdout)}

    def digest(self) -> str:
        """Names, kinds, modes and contents of all that is in the home directory."""
        said = hashlib.sha256()
        for path in sorted(self.home.rglob("*")):
            content = path.read_bytes() if path.is_file() else b""
            said.update(repr((str(path), path.lstat().st_mode, content)).encode())
        return said.hexdigest()


def interpreter(credentials: dict[str, object]) -> str:
    for candidate in (os.path.realpath(sys.executable), "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            subprocess.run([candidate, "-c", "import tomllib"], capture_output=True, check=True, cwd="/", **credentials)  # type: ignore[call-overload]
        except (OSError, subprocess.CalledProcessError):
            continue
        return os.path.realpath(candidate)
    raise AssertionError("no Python from 3.11 on that this user may run")


@pytest.fixture(params=["root", "user"] if os.geteuid() == 0 else ["user"])
def person(request: pytest.FixtureRequest) -> Iterator[Person]:
    """Not below /tmp, which is the sandbox's own."""
    uid = os.geteuid() if os.geteuid() or request.param == "root" else UNPRIVILEGED
    base = (Path("/home") if os.geteuid() == 0 else Path.home()) / f"hrdoctor-{secrets.token_hex(3)}"
    who = Person(uid, base, "")
    who = Person(uid, base, interpreter(who.credentials()))
    base.mkdir(mode=0o755)
    try:
        shutil.copytree(SOURCE, base / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        for directory in (".ssh", ".cache/tool", "work"):
            (who.home / directory).mkdir(parents=True)
        (who.home / ".ssh/id_ed25519").write_text("secret\n")
        if os.geteuid() != uid:
            subprocess.run(["chown", "-R", f"{uid}:{uid}", str(who.home)], check=True)
        yield who
    finally:
        shutil.rmtree(base)


def states(checks: dict[str, Check]) -> dict[str, str]:
    return {name: check.state for name, check in checks.items()}


@needs_a_sandbox
def test_the_default_policy_holds_and_nothing_is_left_behind(person: Person) -> None:
    before, shared = person.digest(), set(os.listdir("/tmp"))
    checks = person.checks("workspace", [], {"limits.open_files": 333, "limits.disk": 1 << 20})
    assert person.digest() == before
    new = {name for name in set(os.listdir("/tmp")) - shared if name.startswith(".houseroom-doctor-")}
    for _ in range(300):  # another test's may be among them, and goes
        new &= set(os.listdir("/tmp"))
        if not new:
            break
        time.sleep(0.1)
    assert not new
    must = ("probe", "workspace", "files.write", "files.protect", "files.hide", "files.scratch", "/tmp", "network", "loopback", "sockets")
    must += ("egress proxy", "processes", "signals", "environment", "privileges", "new namespaces", "limits.open_files", "limits.disk")
    assert {name: state for name, state in states(checks).items() if name in must} == dict.fromkeys(must, "works")
    assert [check for check in checks.values() if check.state == "missing"] == []
    assert checks["files.read"].state == "unused"
    assert "333" in checks["limits.open_files"].said


SMALL = {"limits.memory": 100 << 20, "limits.processes": 40}


@needs_a_sandbox
def test_limits_are_tried_by_going_over_them(person: Person) -> None:
    checks = person.checks("workspace", [], SMALL)
    assert {name: checks[name].state for name in SMALL} == dict.fromkeys(SMALL, "works")
    assert checks["limits.memory"].said == "fill more than 100M of memory: the process was killed"


@needs_a_sandbox
def test_limits_that_the_sandbox_does_not_have_are_found_out(person: Person) -> None:
    checks = person.checks("workspace", [], SMALL, [("environment.pass", "NOTHING")])  # the sandbox gets another policy, without them
    assert checks["limits.memory"].state == "missing"


@needs_a_sandbox
def test_a_limit_that_is_too_large_to_be_tried_is_not_claimed(person: Person) -> None:
    checks = person.checks("workspace", [], {"limits.memory": 64 << 30, "limits.processes": 100_000})
    assert checks["limits.memory"].state == "unused"
    assert checks["limits.processes"].state in ("unused", "works")  # what setrlimit(2) has set can be read
    assert "not tried: 64G" in checks["limits.memory"].said


@needs_a_sandbox
def test_each_limit_that_is_not_set_says_by_what_it_would_hold(person: Person) -> None:
    checks = person.checks("workspace", [], {"limits.open_files": 333})
    rows = {name: check for name, check in checks.items() if name.startswith("limits.") and name != "limits.open_files"}
    assert len(rows) == 7
    assert all(
        check.state == "unused" and check.said.startswith(("not set; enforced here: ", "not set; partly here: ")) for check in rows.values()
    )
    assert ("not set; enforced" in rows["limits.memory"].said) == (checks["cgroup"].state == "works")


@needs_a_sandbox
@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("files.write", ("workspace", [("files.write", "~")]), "the policy opens"),
        ("network", ("workspace", [], {"network.reach": "open"}), "the policy opens the network"),
        ("environment", ("workspace", [("environment.pass", "HOUSEROOM_DOCTOR_TOKEN")]), "the policy passes"),
        ("files.protect", ("read-only",), "the workspace is not writable"),
        ("/tmp", ("workspace", [("files.read", "/tmp")]), "the policy has no private one"),
        ("files.scratch", ("workspace", [("files.write", "~/.cache")]), "no directory of this kind"),
    ],
)
def test_what_the_policy_opens_is_not_claimed(person: Person, name: str, given: tuple[object, ...], said: str) -> None:
    before = person.digest()
    check = person.checks(*given)[name]
    assert person.digest() == before
    assert (check.state, check.fix) == ("unused", "")
    assert said in check.said


@needs_a_sandbox
def test_a_workspace_that_may_only_be_read_is_checked_for_that(person: Person) -> None:
    check = person.checks("read-only")["workspace"]
    assert check.state == "works"
    assert check.said.startswith(("read:", "protect:"))


@needs_a_sandbox
def test_a_sandbox_that_is_wider_than_its_policy_is_found_out(person: Person) -> None:
    """The probe runs under a wide policy and is judged by the default one: what an enforcement that fails would look like."""
    before = person.digest()
    checks = person.checks("workspace", [], {}, WIDENED)
    assert person.digest() == before
    for name in ("files.write", "files.protect", "files.hide", "files.scratch", "/tmp", "network", "environment"):
        assert checks[name].state == "missing", checks[name]
        assert "doctor --json" in checks[name].fix
    assert checks["probe"].state == "works"


@needs_a_sandbox
@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (["listed.localhost", "other.localhost", "127.0.0.1"], "a name that is not listed, by the proxy: it went through"),
        (["other.localhost", "127.0.0.1"], "a listed name was not reached: the proxy answered 403 Forbidden"),
        (["listed.localhost"], "a listed name was not reached: the proxy answered 403 Forbidden"),
    ],
)
def test_an_egress_proxy_that_is_wider_or_narrower_is_found_out(person: Person, listed: list[str], said: str) -> None:
    """The twin is the same with the hosts that doctor lists itself: then it works, whatever the policy says of the network."""
    check = person.checks("workspace", [], {}, [], "", listed)["egress proxy"]
    assert (check.state, check.said) == ("missing", said)
    assert "doctor --json" in check.fix
    for given in (("workspace", [], {"network.reach": "open"}), ("read-only",)):
        check = person.checks(*given)["egress proxy"]
        assert (check.state, check.fix) == ("works", ""), check


@needs_a_sandbox
def test_nothing_to_read_is_no_success(person: Person) -> None:
    assert person.checks()["files.hide"].state == "works"
    shutil.rmtree(person.home / ".ssh")
    check = person.checks("workspace")["files.hide"]
    if person.uid:  # of the host's own secrets root can read some
        assert check.state == "unused"
    assert str(person.home) not in check.said


@needs_a_sandbox
def test_without_an_interpreter_inside_nothing_is_claimed(person: Person) -> None:
    unreadable = [("files.hide", place) for place in {os.path.dirname(person.python), "/usr/bin"}]
    checks = person.checks("workspace", unreadable)
    assert checks["probe"].state == "missing"
    assert "neither" in checks["probe"].said
    assert not set(checks) & {"network", "files.write", "privileges"}


@needs_a_sandbox
def test_a_rung_that_was_asked_for_is_not_claimed_from_another(person: Person) -> None:
    checks = person.checks("workspace", [], {}, [], "landlock")
    assert checks["probe"].state == "unused"
    assert not set(checks) & {"network", "files.write", "privileges"}


@needs_a_sandbox
def test_namespaces_really_taken_away(person: Person) -> None:
    """In a user namespace that allows no further one: what works then, and what to type."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    assert person.checks()["namespaces"].state == "works"
    checks = person.checks(before="echo 0 > /proc/sys/user/max_user_namespaces")
    assert checks["namespaces"].state == "missing"
    assert "sudo sysctl -w user.max_user_namespaces=" in checks["namespaces"].fix
    assert checks["mounts"].state == "unused"
    assert checks["files.hide"].state == "missing"
    assert checks["files.write"].state == "works"


WHOLE = Host("6.18.1", "x86_64", 1000, 1000, landlock_abi=7)
REFUSED = WHOLE.with_(namespaces="Operation not permitted", mounts="Operation not permitted")
UBUNTU = Surroundings(
    {"kernel.apparmor_restrict_unprivileged_userns": "1"}, install="sudo apt install bubblewrap", python="/usr/bin/python3.12"
)
DONE, REFUSAL = Answer(done=True), Answer(done=False, seen="no")


@pytest.mark.parametrize(
    ("name", "host", "around", "fixes"),
    [
        (
            "namespaces",
            REFUSED,
            Surroundings({"kernel.unprivileged_userns_clone": "0"}),
            ["sudo sysctl -w kernel.unprivileged_userns_clone=1"],
        ),
        ("namespaces", REFUSED, Surroundings({"user.max_net_namespaces": "0"}), ["sudo sysctl -w user.max_net_namespaces="]),
        (
            "namespaces",
            REFUSED,
            UBUNTU,
            ["sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0", "profile houseroom /usr/bin/python3.12"],
        ),
        ("namespaces", REFUSED, UBUNTU, ["sudo apt install bubblewrap"]),
        ("namespaces", REFUSED, Surroundings(container="Docker"), ["--security-opt seccomp=unconfined"]),
        ("namespaces", REFUSED, Surroundings(), ["CONFIG_USER_NS"]),
        ("mounts", WHOLE.with_(mounts="Function not implemented"), Surroundings(), ["Linux 5.12"]),
        ("mounts", WHOLE.with_(mounts="Operation not permitted"), UBUNTU, ["kernel.apparmor_restrict_unprivileged_userns=0"]),
        ("proc", WHOLE.with_(proc="Operation not permitted"), Surroundings(container="Podman"), ["systempaths=unconfined", "unmask=ALL"]),
        ("proc", WHOLE.with_(proc="Operation not permitted"), Surroundings(), ["findmnt -R /proc"]),
        ("overlay", WHOLE.with_(overlay="No such device"), Surroundings(), ["sudo modprobe overlay"]),
        ("landlock", WHOLE.with_(landlock_abi=0), Surroundings(modules=("capability", "yama")), ["lsm=landlock,capability,yama"]),
        ("landlock", WHOLE.with_(landlock_abi=0), Surroundings(), ["Linux 5.13"]),
        ("seccomp", WHOLE.with_(seccomp="Operation not permitted"), Surroundings(container="Docker"), ["seccomp=unconfined"]),
        ("notify", WHOLE.with_(notify="kernel.yama.ptrace_scope is 3"), Surroundings(), ["sysctl -w kernel.yama.ptrace_scope=1"]),
        ("unix_diag", WHOLE.with_(sock_diag="No such file or directory"), Surroundings(), ["sudo modprobe unix_diag"]),
        ("inotify", WHOLE, Surroundings({"fs.inotify.max_user_watches": "100"}), ["sudo sysctl -w fs.inotify.max_user_watches=524288"]),
        ("bubblewrap", REFUSED, Surroundings(install="sudo dnf install bubblewrap"), ["sudo dnf install bubblewrap"]),
        ("wsl", WHOLE.with_(wsl=1), Surroundings(), ["wsl --set-version DISTRO 2"]),
    ],
)
def test_each_missing_mechanism_has_its_fix(name: str, host: Host, around: Surroundings, fixes: list[str]) -> None:
    whole = {check.name: check for check in mechanisms(WHOLE, Surroundings())}
    assert name not in whole or (whole[name].state, whole[name].fix) in (("works", ""), ("unused", ""))
    found = {check.name: check for check in mechanisms(host, around)}[name]
    assert found.state == "missing"
    for fix in fixes:
        assert fix in found.fix


NO_GROUPS = WHOLE.with_(cgroup="cgroup v2 is not delegated to us")


@pytest.mark.parametrize(
    ("host", "around", "fix"),
    [
        (NO_GROUPS, Surroundings(), "systemd-run --user --scope -p Delegate=yes"),
        (NO_GROUPS.with_(cgroup="cgroup v1 is not ours to write"), Surroundings(), "systemd.unified_cgroup_hierarchy=1"),
        (NO_GROUPS, Surroundings(container="Docker"), "docker run --memory"),
    ],
)
def test_control_groups_that_are_wanted_and_missing_have_their_fix(host: Host, around: Surroundings, fix: str) -> None:
    wanted, unwanted = groups(host, around, wanted=True), groups(host, around, wanted=False)
    assert (wanted.state, unwanted.state, unwanted.fix) == ("missing", "unused", "")
    assert fix in wanted.fix
    had = groups(host.with_(cgroup_memory="v2", cgroup_pids="v2"), around, wanted=True)
    assert (had.state, had.fix) == ("works", "")


def test_root_is_not_told_of_switches_for_ordinary_users() -> None:
    off = UBUNTU.with_(settings={**UBUNTU.settings, "kernel.unprivileged_userns_clone": "0"})
    of = {uid: mechanisms(REFUSED.with_(uid=uid), off)[0].fix for uid in (0, 1000)}
    assert "apparmor" in of[1000]
    assert "unprivileged" not in of[0]


def test_an_older_landlock_says_what_it_lacks() -> None:
    checks = {abi: mechanisms(WHOLE.with_(landlock_abi=abi), Surroundings()) for abi in (2, 7)}
    said = {abi: next(check.said for check in found if check.name == "landlock") for abi, found in checks.items()}
    assert "truncate" in said[2]
    assert said[7] == "ABI 7"


@pytest.mark.parametrize(
    ("outside", "inside", "opened", "noticed", "state"),
    [
        (DONE, REFUSAL, "", False, "works"),
        (DONE, DONE, "", False, "missing"),
        (DONE, REFUSAL, "", True, "missing"),  # it says refused, and the host heard it all the same
        (REFUSAL, REFUSAL, "", False, "unused"),
        (None, REFUSAL, "", False, "unused"),
        (DONE, DONE, "opened", False, "unused"),
    ],
)
def test_a_refusal_counts_only_beside_its_twin(outside: Answer | None, inside: Answer, opened: str, noticed: bool, state: str) -> None:
    judge = _refused("act", "do it", opened=opened, trace=lambda: noticed)
    assert judge({} if outside is None else {"act": outside}, {"act": inside})[0] == state
