"""``Session``: what a user of ``subprocess`` expects of ``run`` and ``popen``, each compared with it, and what houseroom adds."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from insiders import COUNT

from houseroom import Completed, Policy, PolicyError, Process, Sandbox, Session, SessionEnded, SetupFailed
from houseroom.policy import presets
from houseroom.policy.model import Origin, Rule, Setting

pytestmark = pytest.mark.needs("linux", "userns")

PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
PATIENCE = 20.0  # seconds until something that should end is given up
LIMIT = Origin("session", "test")


@pytest.fixture
def project(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory of a user with an empty home."""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home / "project")
    return home / "project"


@pytest.fixture
def session(project: Path) -> Iterator[Session]:
    with Session() as opened:
        yield opened


def limited(write: str = "", **settings: float) -> Policy:
    """The default policy with settings on top: limits_time=1 is ``limits.time``; and perhaps one directory more to write."""
    preset = presets.preset("workspace")
    if write:
        preset = preset.with_(rules=(*preset.rules, Rule("files.write", write, LIMIT)))
    more = {key.replace("_", ".", 1): Setting(value, LIMIT) for key, value in settings.items()}
    return Policy("workspace", (preset.with_(settings={**preset.settings, **more}),))


def count(session: Session, name: str) -> int:
    """How many processes of this name are alive inside."""
    return int(session.run([PYTHON, "-S", "-c", COUNT, name], capture_output=True).stdout)


def test_a_variable_that_only_the_proxy_knows(project: Path) -> None:
    token = "ghp_" + "A1b2C3d4" * 4
    given, show = {"PATH": os.defpath, "HOME": os.environ["HOME"], "API_TOKEN": token}, ["printenv", "API_TOKEN"]
    with Session(allow=["api.example.org"], credentials=["API_TOKEN api.example.org"], env=given) as session:
        shown = session.run(show, capture_output=True, text=True).stdout.strip()
    assert shown != token and (len(shown), shown[:4]) == (len(token), "ghp_")
    with Session(allow=["api.example.org"], environment=["API_TOKEN"], env=given) as session:  # the twin
        assert session.run(show, capture_output=True, text=True).stdout.strip() == token


def test_a_credential_from_a_file_or_a_program(project: Path, tmp_path: Path) -> None:
    token = "ghp_" + "A1b2C3d4" * 4
    kept, show = tmp_path / "token", ["sh", "-c", "echo $API_TOKEN"]
    kept.write_text(f"{token}\n")
    for source in (f"file:{kept}", f"command:cat {kept}"):
        with Session(allow=["api.example.org"], credentials=[f"API_TOKEN api.example.org from {source}"], hide=[str(kept)]) as session:
            done = session.run(show, capture_output=True, text=True)
            assert (len(done.stdout.strip()), done.stdout[:4]) == (len(token), "ghp_"), done
            assert token not in done.stdout and "API_TOKEN" not in done.withheld
    seen = project / "seen"
    seen.write_text(token)
    with pytest.raises(PolicyError, match="lies where commands may write") as caught:
        Session(allow=["api.example.org"], credentials=[f"API_TOKEN api.example.org from file:{seen}"])
    assert token not in str(caught.value)
    with pytest.raises(PolicyError, match="it ended with status 3"):
        Session(allow=["api.example.org"], credentials=["API_TOKEN api.example.org from command:sh -c 'exit 3'"])


# -- run ------------------------------------------------------------------------------------------------------------------

AS_SUBPROCESS = [
    (["sh", "-c", "echo out; echo err >&2; exit 3"], {}),
    (["sh", "-c", "kill -TERM $$"], {}),
    (["tr", "a", "b"], {"input": b"a\xff\n"}),
    (["tr", "a", "b"], {"input": "a\nü\n", "text": True}),
    (["printf", "a\\r\\nb\\r"], {"text": True}),
    (["printf", "\\344"], {"encoding": "latin-1"}),
    (["printf", "\\344"], {"encoding": "utf-8", "errors": "replace"}),
    (["true"], {"input": b"x" * (1 << 20)}),
    ([b"printf", b"%s", b"\xff"], {}),
    (["sh", "-c", "pwd; ls /proc/self/fd | wc -l"], {}),
    (["sh", "-c", "cat; head -c 300000 /dev/zero"], {"stdin": subprocess.DEVNULL}),
]


@pytest.mark.parametrize(("argv", "how"), AS_SUBPROCESS)
def test_run_is_as_subprocess_has_it(session: Session, argv: list[str], how: dict[str, object]) -> None:
    mine = session.run(argv, capture_output=True, **how)  # type: ignore[arg-type]
    its = subprocess.run(argv, capture_output=True, check=False, **how)  # type: ignore[call-overload]
    assert (mine.returncode, mine.stdout, mine.stderr) == (its.returncode, its.stdout, its.stderr)


def test_what_is_known_of_a_command(session: Session) -> None:
    done = session.run([PYTHON, "-S", "-c", "x = bytearray(64 << 20); [i for i in range(3000000)]"])
    assert (done.kind, done.stdout, done.cut, done.left, done.denials) == ("exited", None, 0, False, ())
    assert done.usage.user > 0.02 and done.usage.memory > 64 << 20
    assert session.run(["sh", "-c", "kill -9 $$"]).kind == "signalled"


@pytest.mark.parametrize(
    ("argv", "cwd", "error", "about"),
    [
        (["no-such-program"], None, FileNotFoundError, "no-such-program"),
        (["./plain"], None, PermissionError, "./plain"),
        (["true"], "missing", FileNotFoundError, "missing"),
        (["true"], "plain", NotADirectoryError, "plain"),
    ],
)
def test_errors_are_those_of_subprocess(
    session: Session, project: Path, argv: list[str], cwd: str | None, error: type[OSError], about: str
) -> None:
    (project / "plain").write_text("text")
    with pytest.raises(error) as caught:
        session.run(argv, cwd=cwd)
    assert os.path.basename(caught.value.filename) == os.path.basename(about)
    with pytest.raises(error):
        subprocess.run(argv, cwd=cwd, check=False)
    assert session.run(["true"]).returncode == 0  # the starter goes on


@pytest.mark.parametrize("argv", ["git status", b"git status", [], ()])
def test_there_is_no_shell(session: Session, argv: object) -> None:
    with pytest.raises(TypeError, match="argv is a list"):
        session.run(argv)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"input": "text"}, TypeError),
        ({"input": b"bytes", "text": True}, TypeError),
        ({"input": b"x", "stdin": subprocess.DEVNULL}, ValueError),
        ({"capture_output": True, "stdout": subprocess.DEVNULL}, ValueError),
        ({"stdout": subprocess.STDOUT}, ValueError),
        ({"stdout": -7}, ValueError),
        ({"env": {"A=B": "C"}}, ValueError),
        ({"pass_fds": (1,)}, ValueError),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_stays(session: Session, how: dict[str, object], error: type[Exception]) -> None:
    before = descriptors()
    with pytest.raises(error):
        session.run(["true"], **how)  # type: ignore[arg-type]
    assert descriptors() == before
    assert session.run(["true"]).returncode == 0


@pytest.mark.parametrize("argv", [["a\0b"], ["true", "\0"]])
def test_a_word_with_a_nul_is_none(session: Session, argv: list[str]) -> None:
    with pytest.raises(ValueError, match="NUL"):
        session.run(argv)


def test_check_raises_what_subprocess_raises(session: Session) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        session.run(["sh", "-c", "echo out; exit 7"], capture_output=True, check=True)
    assert (caught.value.returncode, caught.value.stdout) == (7, b"out\n")


def test_streams_of_the_caller(session: Session, project: Path) -> None:
    (project / "in").write_text("from a file\n")
    with open(project / "in", encoding="utf-8") as source, open(project / "out", "w", encoding="utf-8") as target:
        session.run(["sh", "-c", "cat; echo err >&2"], stdin=source, stdout=target, stderr=subprocess.STDOUT)
    assert (project / "out").read_text() == "from a file\nerr\n"


def test_descriptors_are_passed_under_their_own_numbers(session: Session) -> None:
    reading, writing = os.pipe()
    try:
        script = f"import os; os.write({writing}, b'hello'); "
        script += f"print([fd for fd in ({reading}, {writing}) if os.path.exists(f'/proc/self/fd/{{fd}}')])"
        done = session.run([PYTHON, "-S", "-c", script], pass_fds=[writing], capture_output=True, text=True)
    finally:
        os.close(writing)
    with open(reading, "rb") as pipe:
        assert pipe.read() == b"hello"
    assert done.stdout == f"[{writing}]\n"


def test_a_closed_standard_stream_is_an_empty_one(project: Path) -> None:
    script = (
        "import os; from houseroom import Session\nos.close(0)\n"
        "with Session() as s: print(s.run(['wc', '-c'], capture_output=True, text=True).stdout)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["0"], "")


def test_commands_start_in_the_workspace(project: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "below").mkdir()
    with Session() as session:
        monkeypatch.chdir(home)
        assert session.workspace == str(project)
        for cwd, where in ((None, project), ("below", project / "below"), (home, home)):
            assert session.run(["pwd"], cwd=cwd, capture_output=True, text=True).stdout == f"{where}\n"


def test_an_environment_replaces_the_sessions_and_is_withheld_from_alike(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "hush")
    show = ["sh", "-c", "echo $PLAIN $GITHUB_TOKEN $NEW_TOKEN $PASSED_TOKEN"]
    with Session(environment=["PASSED_TOKEN"], env={"PLAIN": "1", "GITHUB_TOKEN": "2"}) as session:
        done = session.run(show, capture_output=True, text=True)
        assert (done.stdout, done.withheld, session.withheld) == ("1\n", ("GITHUB_TOKEN",), ("GITHUB_TOKEN",))
        done = session.run(show, env={"NEW_TOKEN": "3", "PASSED_TOKEN": "4"}, capture_output=True, text=True)
        assert (done.stdout, done.withheld) == ("4\n", ("NEW_TOKEN",))
    bare = subprocess.run(show, env={"NEW_TOKEN": "3", "PASSED_TOKEN": "4"}, capture_output=True, text=True, check=True)
    assert bare.stdout == "3 4\n"


def test_output_is_cut_and_what_is_more_is_counted(session: Session) -> None:
    script = "head -c 3000000 /dev/zero | tr '\\0' x; echo error >&2; echo end > reached"
    done = session.run(["sh", "-c", script], capture_output=True, output_limit=1000)
    assert (done.stdout, done.stderr, done.cut, done.returncode) == (b"x" * 1000, b"error\n", 3000000 - 1000, 0)
    assert session.run(["cat", "reached"], capture_output=True).stdout == b"end\n"  # the command went on


def test_a_character_is_not_cut_in_half(session: Session) -> None:
    done = session.run(["printf", "aüb"], capture_output=True, text=True, encoding="utf-8", output_limit=2)
    assert (done.stdout, done.cut) == ("a", 2)


def test_what_a_command_leaves_running_does_not_keep_the_caller(session: Session) -> None:
    done = session.run(["sh", "-c", "sleep 600 & echo begun"], capture_output=True)
    assert (done.stdout, done.returncode, done.left) == (b"begun\n", 0, True)
    assert count(session, "sleep") == 1


def test_a_late_writer_is_heard(session: Session) -> None:
    """As of ``cmd > >(tee log)``: what is left running may still have something to say."""
    done = session.run(["sh", "-c", "(sleep 0.1; echo late) & echo begun"], capture_output=True)
    assert done.stdout == b"begun\nlate\n"


# -- time -----------------------------------------------------------------------------------------------------------------

TREE = "(setsid sh -c 'sleep 601 & sleep 602' &); (setsid setsid sleep 603 &); echo begun; sleep 604"


def test_a_time_out_takes_the_whole_tree_and_nothing_else(session: Session) -> None:
    with session.popen(["sleep", "605"]) as other:
        assert count(session, "sleep") == 1
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            session.run(["sh", "-c", TREE], capture_output=True, timeout=1)
        assert (caught.value.stdout, caught.value.timeout) == (b"begun\n", 1)
        assert count(session, "sleep") == 1 and other.poll() is None
        other.kill()


def test_no_time_at_all_leaves_nothing(session: Session) -> None:
    for _ in range(20):
        with pytest.raises(subprocess.TimeoutExpired):
            session.run(["sleep", "600"], timeout=0)
    assert count(session, "sleep") == 0


def test_the_policys_time_ends_a_command(project: Path) -> None:
    with Session(limited(limits_time=1)) as session:
        done = session.run(["sh", "-c", TREE], capture_output=True)
        assert (done.kind, done.returncode, done.stdout) == ("timed-out", -signal.SIGKILL, b"begun\n")
        process = session.popen(["sh", "-c", TREE], stdout=subprocess.DEVNULL)
        assert (process.wait(PATIENCE), process.kind) == (-signal.SIGKILL, "timed-out")
        assert count(session, "sleep") == 0
        with pytest.raises(subprocess.TimeoutExpired):
            session.run(["sleep", "600"], timeout=0.2)  # the caller's own comes first


def test_a_session_expires(project: Path) -> None:
    with Session(limited(session_expires=1)) as session:
        process = session.popen(["sleep", "600"])
        assert process.wait(PATIENCE) == -signal.SIGKILL
        with pytest.raises(SessionEnded, match=r"session\.expires") as caught:
            session.run(["true"])
        assert caught.value.reason == "expired"


def test_an_interrupt_leaves_nothing(project: Path) -> None:
    """Ctrl-C while ``run`` waits: the exception comes, and the tree is gone."""
    script = f"""
import os, signal, subprocess, sys, threading
from houseroom import Session
with Session() as session:
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        session.run(["sh", "-c", {TREE!r}], stdout=subprocess.DEVNULL)
    except KeyboardInterrupt:
        done = session.run(["sh", "-c", "cat /proc/[0-9]*/comm"], capture_output=True, text=True)
        print("sleep" in done.stdout.split())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("False\n", "")


# -- popen ----------------------------------------------------------------------------------------------------------------


def test_a_process_is_talked_to(session: Session) -> None:
    with session.popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for word in ("one\n", "zwei ü\n"):
            process.stdin.write(word)
            process.stdin.flush()
            assert process.stdout.readline() == word
        assert (process.poll(), process.returncode, process.kind) == (None, None, None)
        process.stdin.close()
        assert process.wait(PATIENCE) == 0
    assert (process.returncode, process.kind, process.left) == (0, "exited", False)
    assert process.stdout.closed


def test_its_lines_come_as_they_are_written(session: Session) -> None:
    with session.popen(["sh", "-c", "echo a; echo b; exec sleep 600"], stdout=subprocess.PIPE) as process:
        lines = iter(process)
        assert (next(lines), next(lines), process.poll()) == (b"a\n", b"b\n", None)
        process.kill()
        assert list(lines) == []


def test_signals(session: Session) -> None:
    for send, code in (
        (Process.terminate, -signal.SIGTERM),
        (Process.kill, -signal.SIGKILL),
        (lambda process: process.send_signal(signal.SIGINT), -signal.SIGINT),
    ):
        process = session.popen(["sleep", "600"])
        send(process)
        assert process.wait(PATIENCE) == code
        send(process)  # as in subprocess: it has ended, nothing happens


def test_its_number_is_the_one_inside(session: Session) -> None:
    with session.popen(["sh", "-c", "echo $$"], stdout=subprocess.PIPE) as process:
        assert int(process.stdout.read()) == process.pid


def test_waiting_in_vain_leaves_it_running(session: Session) -> None:
    process = session.popen(["sleep", "600"])
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.1)
    assert process.poll() is None
    process.kill()
    assert process.wait() == -signal.SIGKILL


def test_kill_takes_also_what_an_ended_command_left(session: Session) -> None:
    process = session.popen(["sh", "-c", "sleep 600 & true"])
    assert (process.wait(PATIENCE), process.left, count(session, "sleep")) == (0, True, 1)
    process.kill()
    assert (process.left, count(session, "sleep")) == (False, 0)


def test_a_block_left_by_an_exception_leaves_nothing(session: Session) -> None:
    with pytest.raises(ZeroDivisionError), session.popen(["sh", "-c", TREE]):
        raise ZeroDivisionError
    assert count(session, "sleep") == 0


@pytest.mark.parametrize("text", [False, True])
def test_communicate(session: Session, text: bool) -> None:
    data = "x" * 300_000 if text else b"x" * 300_000
    pipe = subprocess.PIPE
    process = session.popen(["sh", "-c", "cat; echo err >&2"], stdin=pipe, stdout=pipe, stderr=pipe, text=text)
    assert process.communicate(data) == (data, "err\n" if text else b"err\n")
    assert process.returncode == 0


def test_communicate_goes_on_where_it_was(session: Session) -> None:
    process = session.popen(["sh", "-c", "echo a; sleep 1; echo b"], stdout=subprocess.PIPE)
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        process.communicate(timeout=0.3)
    assert caught.value.stdout == b"a\n"
    assert process.communicate(timeout=PATIENCE) == (b"a\nb\n", None)


def test_one_waits_and_another_kills(session: Session) -> None:
    process = session.popen(["sleep", "600"])
    threading.Timer(0.3, process.kill).start()
    assert process.wait(PATIENCE) == -signal.SIGKILL


# -- a terminal of its own ------------------------------------------------------------------------------------------------


def test_a_terminal_in_run(session: Session) -> None:
    script = "test -t 0 && test -t 1 && test -t 2 && tty < /dev/tty > /dev/null && stty size; read word; echo got $word"
    done = session.run(["sh", "-c", script], pty=True, size=(33, 44), input="hello\n", text=True)
    assert (done.returncode, done.stderr) == (0, None)
    assert "33 44" in done.stdout and "got hello" in done.stdout
    assert session.run(["sh", "-c", "test -t 1"], capture_output=True).returncode == 1


def test_a_terminal_is_talked_to_and_resized(session: Session) -> None:
    with session.popen(["sh", "-i"], pty=True, text=True, env={"PS1": "> ", "PATH": os.defpath}) as process:
        process.stdin.write("stty size; echo first $?\n")
        read_until(process, "first 0")
        process.resize(50, 100)
        process.stdin.write("stty size; exit 5\n")
        assert "50 100" in process.stdout.read()
        assert process.wait(PATIENCE) == 5


def read_until(process: Process, text: str) -> str:
    said = ""
    while text not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    return said


def test_job_control_in_a_terminal(session: Session) -> None:
    with session.popen(["sh", "-i"], pty=True, env={"PATH": os.defpath}, bufsize=0) as process:
        process.stdin.write(b"sleep 600\n")
        while not count(session, "sleep"):
            pass
        process.stdin.write(b"\x03echo still here; exit 3\n")
        said = b""
        while part := process.stdout.read(4096):
            said += part
        assert b"still here" in said and process.wait(PATIENCE) == 3
    assert count(session, "sleep") == 0


def test_without_a_terminal_there_is_nothing_to_resize(session: Session) -> None:
    with session.popen(["true"]) as process, pytest.raises(ValueError, match="no terminal"):
        process.resize(1, 1)


# -- many at once, and the end --------------------------------------------------------------------------------------------


def in_threads(number: int, work: Callable[[int], object]) -> list[object]:
    """What each thread's work returned, in order; an exception of any is raised."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(work, range(number)))


def test_many_commands_at_once(session: Session) -> None:
    def work(number: int) -> list[bytes]:
        return [session.run(["sh", "-c", f"cat; echo {number}"], input=b"%d " % turn, capture_output=True).stdout for turn in range(10)]

    assert in_threads(8, work) == [[b"%d %d\n" % (turn, number) for turn in range(10)] for number in range(8)]


def test_many_sandboxes_at_once(project: Path) -> None:
    def work(number: int) -> str:
        with Session() as session:
            return str(
                session.run(["sh", "-c", f"echo {number} > made-{number}; cat made-{number}"], capture_output=True, text=True).stdout
            )

    assert in_threads(8, work) == [f"{number}\n" for number in range(8)]


def test_one_that_can_not_be_built_breaks_no_other(project: Path, home: Path) -> None:
    def work(number: int) -> object:
        try:
            with Session(git="guarded" if number % 2 else None) as session:
                return session.run(["true"]).returncode
        except RuntimeError as error:
            return type(error).__name__

    assert in_threads(6, work) == [0, "CannotEnforce"] * 3


def test_a_closed_session_starts_nothing(project: Path) -> None:
    session = Session()
    process = session.popen(["sleep", "600"])
    session.close()
    session.close()
    assert process.wait(PATIENCE) == -signal.SIGKILL
    with pytest.raises(SessionEnded, match="it was closed") as caught:
        session.run(["true"])
    assert caught.value.reason == "closed"


def test_closing_from_another_thread_ends_a_run(project: Path) -> None:
    session = Session()
    threading.Timer(0.5, session.close).start()
    with pytest.raises(SessionEnded):
        session.run(["sleep", "600"])


def test_mistakes_are_told_by_whose_they_are(project: Path, home: Path) -> None:
    with pytest.raises(PolicyError, match="can't use"):
        Session(workspace="missing")
    with pytest.raises(TypeError, match="a sandbox is complete"):
        Session(Sandbox(), network="open")
    with pytest.raises(TypeError, match="a policy is complete"):
        Session(Policy("empty", ()), write=["~/notes"])
    file = home / ".config/houseroom/policy.toml"
    file.parent.mkdir(parents=True)
    file.write_text('[files]\nwriet = ["x"]\n')
    with pytest.raises(PolicyError) as caught:
        Session()
    assert (caught.value.file, caught.value.line) == (str(file), 2)


@pytest.mark.parametrize("given", ["sandbox", "policy", "arguments"])
def test_what_a_session_is_made_of(project: Path, home: Path, given: str) -> None:
    (home / "notes").mkdir()
    opened = {
        "sandbox": lambda: Session(Sandbox(write=["~/notes"])),
        "policy": lambda: Session(limited(write="~/notes")),
        "arguments": lambda: Session(write=["~/notes"]),
    }[given]
    with opened() as session:
        session.run(["touch", str(home / "notes/new")])
    assert (home / "notes/new").exists()
    with Session() as session:
        session.run(["touch", str(home / "notes/newer")])
    assert not (home / "notes/newer").exists()


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


USES: dict[str, Callable[[Session], object]] = {
    "run": lambda session: session.run(["true"]),
    "captured": lambda session: session.run(["cat"], input=b"x" * 200_000, capture_output=True),
    "terminal": lambda session: session.run(["true"], pty=True),
    "missing": lambda session: pytest.raises(FileNotFoundError, session.run, ["no-such-program"], capture_output=True),
    "late": lambda session: pytest.raises(subprocess.TimeoutExpired, session.run, ["sleep", "9"], timeout=0.05, capture_output=True),
    "popen": lambda session: session.popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE).communicate(b"x"),
    "killed": lambda session: session.popen(["sh", "-c", TREE]).kill(),
    "all": lambda session: session.run(["sh", "-c", "kill -9 -1"]),
}


@pytest.mark.parametrize("use", USES)
def test_nothing_is_left_in_the_calling_process(project: Path, use: str) -> None:
    Session().close()
    gc.collect()
    before = descriptors()
    with Session() as session:
        USES[use](session)
        one = descriptors()
        for _ in range(12):
            USES[use](session)
        gc.collect()
        assert len(descriptors()) <= len(one) + 4  # starters that wait for the next command, at most
    gc.collect()
    assert descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert threading.active_count() == 1


def test_a_forked_child_has_its_own(session: Session) -> None:
    """It lets go of its parent's sandbox, and makes new ones with a keeper of its own."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            said = ""
            try:
                session.run(["true"])
            except SessionEnded as error:
                said = error.reason
            with Session() as own:
                said += " " + own.run(["echo", "own"], capture_output=True, text=True).stdout
            os.write(writing, said.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert pipe.read() == b"forked own\n"
    os.wait()
    assert session.run(["echo", "still here"], capture_output=True).stdout == b"still here\n"


def test_what_is_lent_has_a_name(session: Session, project: Path) -> None:
    """A file that was removed, or lies only in memory, is passed as it is: nobody else can reach what is changed of it."""
    memory = os.memfd_create("memory")
    os.write(memory, b"in memory\n")
    os.lseek(memory, 0, os.SEEK_SET)
    with open(memory, "rb") as file:
        assert session.run(["cat"], stdin=file, capture_output=True).stdout == b"in memory\n"
    (project / "gone").write_text("removed\n")
    with open(project / "gone", "rb") as file:
        (project / "gone").unlink()
        assert session.run(["cat"], stdin=file, capture_output=True).stdout == b"removed\n"


@pytest.mark.parametrize("name", ["directory", "socket"])
def test_what_leads_out_is_not_passed(session: Session, project: Path, name: str) -> None:
    import socket

    way = os.open(project, os.O_RDONLY) if name == "directory" else socket.socket(socket.AF_INET, socket.SOCK_STREAM).detach()
    try:
        with pytest.raises(PermissionError, match="can't be passed"):
            session.run(["true"], stdin=way)
        with pytest.raises(PermissionError, match="can't be passed"):
            session.run(["true"], pass_fds=[way])
        subprocess.run(["true"], stdin=way, check=True)
    finally:
        os.close(way)
    assert session.run(["true"]).returncode == 0


def test_a_session_says_what_it_is(project: Path) -> None:
    session = Session()
    assert repr(session) == f"<Session in {project}>"
    process = session.popen(["true"])
    process.wait()
    assert repr(process) == f"<Process {process.pid}: ('true',), returncode 0>"
    session.close()
    assert repr(session) == f"<Session in {project}, closed>"


def test_a_keeper_that_was_killed_is_replaced(project: Path) -> None:
    session = Session()
    os.kill(keeper_of_this_process(), signal.SIGKILL)
    with pytest.raises(SessionEnded):
        while True:  # until the kernel has ended what was the keeper's
            session.run(["true"])
    session.close()
    with Session() as again:
        assert again.run(["true"]).returncode == 0


def keeper_of_this_process() -> int:
    """The process that was started with our number as its only argument, and is no child of another such."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if words[-2:] == [b"%d" % os.getpid(), b""] and words[-3].endswith(b"keeper.py"):
                found[int(entry.name)] = parent
    (keeper,) = [pid for pid, parent in found.items() if parent not in found]
    return keeper


def test_it_is_seen_as_completed(session: Session) -> None:
    done = session.run(["true"])
    assert isinstance(done, Completed) and done.args == ("true",)
    done.check_returncode()


def test_a_file_that_can_not_be_made_read_only_is_refused(session: Session, project: Path) -> None:
    """Its name leads to another file by now: what would be opened again is not what was given."""
    (project / "first").write_text("first\n")
    with open(project / "first", "rb") as file:
        os.link(project / "first", project / "second")
        (project / "first").unlink()
        with pytest.raises(SetupFailed, match="make read-only"):
            session.run(["cat"], stdin=file)
    assert session.run(["true"]).returncode == 0


def test_time_goes_by_the_clock_and_not_by_output(session: Session) -> None:
    begun = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        session.run(["yes"], capture_output=True, timeout=0.5, output_limit=10)
    assert time.monotonic() - begun < PATIENCE


def test_an_errno_is_an_errno(session: Session) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 — the errno says which
        session.run(["true", "x" * (3 << 20)])
    assert caught.value.errno == errno.E2BIG
