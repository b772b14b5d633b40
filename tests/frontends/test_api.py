"""``Sandbox.run`` in the manner of ``subprocess.run``: what a caller of one expects of the other, and what houseroom adds."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from houseroom import Allow, CannotEnforce, Deny, Policy, PolicyError, Read, Sandbox, Variable, Write
from houseroom.policy import presets

pytestmark = pytest.mark.needs("linux", "userns")

PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
PATIENCE = 20.0  # seconds until something that should end is given up


@pytest.fixture
def project(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory of a user with an empty home."""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home / "project")
    return home / "project"


@pytest.mark.parametrize("text", [False, True])
def test_output_is_captured_as_by_subprocess(project: Path, text: bool) -> None:
    argv = ["sh", "-c", "echo out; echo err >&2; exit 3"]
    mine = Sandbox().run(argv, capture_output=True, text=text)
    its = subprocess.run(argv, capture_output=True, text=text, check=False)
    assert (mine.returncode, mine.stdout, mine.stderr) == (its.returncode, its.stdout, its.stderr)
    assert (mine.args, mine.kind) == (tuple(argv), "exited")


def test_without_capturing_there_is_nothing_captured(project: Path) -> None:
    done = Sandbox().run(["true"])
    assert (done.returncode, done.stdout, done.stderr) == (0, None, None)


def test_a_large_input_comes_back(project: Path) -> None:
    data = os.urandom(5 << 20)
    assert Sandbox().run(["cat"], input=data, capture_output=True).stdout == data


def test_an_input_that_nobody_reads(project: Path) -> None:
    assert Sandbox().run(["true"], input=b"x" * (5 << 20)).returncode == 0


def test_text_goes_in_and_comes_out(project: Path) -> None:
    assert Sandbox().run(["tr", "a", "b"], input="a\nü\n", capture_output=True, text=True).stdout == "b\nü\n"


def test_streams_of_the_caller(project: Path) -> None:
    (project / "in").write_text("from a file\n")
    with open(project / "in", encoding="utf-8") as source, open(project / "out", "w", encoding="utf-8") as target:
        done = Sandbox().run(["sh", "-c", "cat; echo err >&2"], stdin=source, stdout=target, stderr=subprocess.STDOUT)
    assert done.returncode == 0
    assert (project / "out").read_text() == "from a file\nerr\n"


def test_a_signal_is_a_negative_status(project: Path) -> None:
    done = Sandbox().run(["sh", "-c", "kill -TERM $$"])
    assert (done.returncode, done.kind) == (-signal.SIGTERM, "signalled")


def test_check_raises_what_subprocess_raises(project: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        Sandbox().run(["sh", "-c", "echo out; exit 7"], capture_output=True, check=True)
    assert (caught.value.returncode, caught.value.stdout) == (7, b"out\n")
    assert Sandbox().run(["true"], check=True).returncode == 0


def test_a_missing_program_is_the_callers_error(project: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Sandbox().run(["no-such-program-anywhere"])
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, "no-such-program-anywhere")


def test_what_may_not_be_executed_is_the_callers_error(project: Path) -> None:
    (project / "plain").write_text("text")
    with pytest.raises(PermissionError):
        Sandbox().run(["./plain"])


@pytest.mark.parametrize("argv", ["git status", b"git status", [], ()])
def test_there_is_no_shell(project: Path, argv: object) -> None:
    with pytest.raises(TypeError, match="argv is a list"):
        Sandbox().run(argv)  # type: ignore[arg-type]


def test_the_directory_and_the_environment_are_the_callers_choice(project: Path) -> None:
    (project / "below").mkdir()
    done = Sandbox().run(["sh", "-c", "pwd; echo $MINE $OTHER"], cwd="below", env={"MINE": "1"}, capture_output=True, text=True)
    assert done.stdout == f"{project}/below\n1\n"


def test_words_are_bytes_or_text(project: Path) -> None:
    assert Sandbox().run(["printf", "%s", b"\xff", "x"], capture_output=True).stdout == b"\xffx"


def test_secrets_are_withheld_and_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "hush")
    show = ["sh", "-c", "echo $GITHUB_TOKEN"]
    assert subprocess.run(show, capture_output=True, check=True).stdout == b"hush\n"
    done = Sandbox().run(show, capture_output=True)
    assert (done.stdout, "GITHUB_TOKEN" in done.withheld) == (b"\n", True)
    passed = Sandbox(environment=["GITHUB_TOKEN"]).run(show, capture_output=True)
    assert (passed.stdout, "GITHUB_TOKEN" in passed.withheld) == (b"hush\n", False)


# -- the policy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [None, Policy("workspace", (presets.preset("workspace"),))], ids=["files", "given"])
def test_the_policy_is_enforced(project: Path, home: Path, policy: Policy | None) -> None:
    (home / ".netrc").write_text("machine a\n")
    (home / ".netrc").chmod(0o600)
    script = "cat ../.netrc; touch ../outside; touch inside"
    done = Sandbox(policy).run(["sh", "-c", script], capture_output=True)
    assert done.stdout == b""
    assert not (home / "outside").exists()
    assert (project / "inside").exists()
    bare = subprocess.run(["sh", "-c", script], capture_output=True, check=True)
    assert bare.stdout == b"machine a\n"
    assert (home / "outside").exists()


def test_what_is_given_in_python_widens_and_narrows(project: Path, home: Path) -> None:
    (home / "notes").mkdir()
    (project / "own").write_text("mine\n")
    script = "touch ../notes/new; cat own"
    assert Sandbox().run(["sh", "-c", script], capture_output=True).stdout == b"mine\n"
    assert not (home / "notes/new").exists()
    done = Sandbox(write=["~/notes"], hide=[str(project / "own")]).run(["sh", "-c", script], capture_output=True)
    assert done.stdout == b""
    assert (home / "notes/new").exists()


def test_another_workspace(project: Path, home: Path) -> None:
    (home / "other").mkdir()
    assert Sandbox(workspace=home / "other").run(["touch", "new", str(project / "old")]).returncode != 0
    assert (home / "other/new").exists()
    assert not (project / "old").exists()


def test_a_complete_policy_takes_no_more() -> None:
    with pytest.raises(TypeError, match="a policy is complete"):
        Sandbox(Policy("empty", ()), write=["~/notes"])


def test_a_mistake_in_a_policy_file_is_told_with_its_place(project: Path, home: Path) -> None:
    file = home / ".config/houseroom/policy.toml"
    file.parent.mkdir(parents=True)
    file.write_text('[files]\nwriet = ["x"]\n')
    with pytest.raises(PolicyError) as caught:
        Sandbox().run(["touch", "made"])
    assert (caught.value.file, caught.value.line) == (str(file), 2)
    assert "writ" in caught.value.hint
    assert not (project / "made").exists()


def test_a_workspace_that_is_none(project: Path) -> None:
    with pytest.raises(PolicyError, match="can't use"):
        Sandbox(workspace="missing").run(["true"])


def test_what_can_not_be_enforced_is_not_run(project: Path) -> None:
    with pytest.raises(CannotEnforce) as caught:
        Sandbox(git="guarded").run(["touch", "made"])
    assert caught.value.missing == ("git.mode",)
    assert caught.value.reason
    assert not (project / "made").exists()


def test_decide_says_what_run_does(project: Path, home: Path) -> None:
    sandbox = Sandbox()
    assert isinstance(sandbox.decide(Write(str(project / "new"))), Allow)
    assert isinstance(sandbox.decide(Write(str(home / "new"))), Deny)
    assert isinstance(sandbox.decide(Read(str(home / ".netrc"))), Deny)
    assert isinstance(sandbox.decide(Variable("GITHUB_TOKEN")), Deny)
    (project / "way").symlink_to("../new")
    assert isinstance(sandbox.decide(Write(str(project / "way"))), Deny)  # resolved as the kernel would
    assert sandbox.run(["sh", "-c", "echo > way"]).returncode != 0
    assert not (home / "new").exists()


# -- the end --------------------------------------------------------------------------------------------------------------

DAEMON = """
import os, signal, sys, time
ready, told = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.write(1, b"daemon %d\\n" % os.getpid())
        os.write(told, b".")
        time.sleep(600)
    os._exit(0)
os.wait()
os.read(ready, 1)
time.sleep(float(sys.argv[1]))
"""


def read_to_the_end(pipe: int) -> tuple[bytes, bool]:
    """All that comes, and whether the last holder of the other end is gone."""
    said = b""
    while select.select([pipe], [], [], PATIENCE)[0]:
        part = os.read(pipe, 65536)
        if not part:
            return said, True
        said += part
    return said, False


def until_said(pipe: int) -> bytes:
    assert select.select([pipe], [], [], PATIENCE)[0]
    return os.read(pipe, 65536)


def test_a_timeout_ends_everything_inside_also_a_daemon(project: Path) -> None:
    """The daemon holds the pipe for as long as it lives."""
    reading, writing = os.pipe()
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            Sandbox().run([PYTHON, "-S", "-c", DAEMON, "600"], stdout=writing, timeout=3)
    finally:
        os.close(writing)
    said, ended = read_to_the_end(reading)
    os.close(reading)
    assert said.startswith(b"daemon")
    assert ended


def test_with_the_command_ends_its_daemon(project: Path) -> None:
    reading, writing = os.pipe()
    assert Sandbox().run([PYTHON, "-S", "-c", DAEMON, "0"], stdout=writing).returncode == 0
    os.close(writing)
    said, ended = read_to_the_end(reading)
    os.close(reading)
    assert said.startswith(b"daemon")
    assert ended


def test_without_a_sandbox_the_daemon_stays(project: Path) -> None:
    reading, writing = os.pipe()
    subprocess.run([PYTHON, "-S", "-c", DAEMON, "0"], stdout=writing, check=True)
    os.close(writing)
    daemon = int(until_said(reading).split()[1])
    try:
        assert not select.select([reading], [], [], 1)[0]
    finally:
        os.kill(daemon, signal.SIGKILL)
        os.close(reading)


def test_a_timeout_with_captured_output(project: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        Sandbox().run(["sh", "-c", "echo begun; sleep 600"], capture_output=True, timeout=1)


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def run_what_is_missing() -> None:
    with pytest.raises(FileNotFoundError):
        Sandbox().run(["no-such-program"])


@pytest.mark.parametrize("how", [lambda: Sandbox().run(["true"]), run_what_is_missing])
def test_nothing_is_left_in_the_calling_process(project: Path, how: Callable[[], object]) -> None:
    how()
    before = descriptors()
    how()
    assert descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_from_many_threads_each_gets_its_own(project: Path) -> None:
    """The caller is never forked: what locks its threads hold does not matter to what is started."""
    found: dict[int, bytes] = {}

    def work(number: int) -> None:
        found[number] = Sandbox().run(["sh", "-c", f"cat; echo {number}"], input=b"%d " % number, capture_output=True).stdout

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE * 3)
    assert found == {number: b"%d %d\n" % (number, number) for number in range(8)}


@pytest.mark.parametrize("argument", ["network", "upstream", "git", "observe"])
def test_a_word_that_means_nothing_is_refused_at_once(argument: str) -> None:
    with pytest.raises(ValueError, match=f"^{argument} can't be 'maybe': it is one of "):
        Sandbox(**{argument: "maybe"})
