"""Limits in sessions: which one stopped a command is said by every face, as ``houseroom run`` says it, and the session goes on.

As in test_limits.py, root has control groups where it may write them, and for the unprivileged user init adds up.
"""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
from by_name import Sessions, beater, beating, begins
from runner import Bench, eventually
from test_limits import FEW, GROUPS, coverage, groups_are_ours, probe

pytestmark = pytest.mark.needs("userns")

# limit → its line in a policy, the probe, how the command ends by itself, and what is said
CASES = {
    "memory": ('memory = "100M"', ["hog"], "stopped at 100M of memory: limits.memory"),
    "cpu": ('cpu = "1s"', ["spin"], "stopped after 1s of processor time: limits.cpu"),
    "file_size": ('file_size = "1M"', ["large_file"], "stopped at a file of 1M: limits.file_size"),
    "output": ('output = "1M"', ["endless"], "stopped at 1M of output: limits.output"),
    "time": ('time = "1s"', ["spin"], "stopped after 1s: limits.time"),
}

# What an application here begins with. Each way runs a command to its end and tells kind, detail, and the bytes that came.
BEGIN = """
import asyncio, json, os, subprocess, sys
from houseroom import AsyncSession, CannotEnforce, Session, SessionEnded
PIPE = subprocess.PIPE

def tell(way, kind, detail, out, **more):
    print(json.dumps({"way": way, "kind": kind, "detail": detail, "length": len(out or b""), **more}), flush=True)

def run(session, argv):
    done = session.run(argv, capture_output=True)
    tell("run", done.kind, done.detail, done.stdout, left=done.left)

def popen(session, argv):
    process = session.popen(argv, stdout=PIPE, stderr=PIPE)
    out, _ = process.communicate()
    tell("popen", process.kind, process.detail, out, left=process.left)

def read(session, argv):
    process = session.popen(argv, stdout=PIPE)
    out = process.stdout.read()
    process.wait()
    tell("read", process.kind, process.detail, out, left=process.left)

async def async_run(session, argv):
    done = await session.run(argv, capture_output=True)
    tell("async run", done.kind, done.detail, done.stdout, left=done.left)

async def async_popen(session, argv):
    process = await session.popen(argv, stdout=PIPE, stderr=PIPE)
    out, _ = await process.communicate()
    tell("async popen", process.kind, process.detail, out, left=process.left)

def in_session(*argvs, ways=(run, popen, read)):
    with Session() as session:
        for argv in argvs:
            for way in ways:
                way(session, argv)
        print("goes on", session.run(["true"]).returncode, flush=True)

async def in_async_session(*argvs, ways=(async_run, async_popen)):
    async with AsyncSession() as session:
        for argv in argvs:
            for way in ways:
                await way(session, argv)
        print("goes on", (await session.run(["true"])).returncode, flush=True)
"""


@pytest.fixture
def sessions(bench: Bench) -> Iterator[Sessions]:
    made = Sessions(bench)
    yield made
    made.end()


def limit(bench: Bench, *lines: str) -> str:
    """A user's policy with these limits; where the first one is written."""
    policy = bench.stage.home / ".config/houseroom/policy.toml"
    bench.stage.plant(policy, "\n".join(["[limits]", *lines, ""]), 0o644)
    return f"{policy}:2"


def application(bench: Bench, program: str, *argv: str) -> tuple[list[dict[str, Any]], list[str]]:
    """What a program that uses houseroom has told of its commands, and its other lines."""
    words = [bench.identity.python, "-c", BEGIN + textwrap.dedent(program), *argv]
    outcome = bench.run(words, inside=False, env={"PYTHONPATH": str(bench.identity.base / "src")})
    assert outcome.status == 0, outcome
    lines = outcome.out.splitlines()
    return [json.loads(line) for line in lines if line[:1] == "{"], [line for line in lines if line[:1] != "{"]


def ending(bench: Bench, case: str) -> list[str]:
    """The command of a case, which can be run again."""
    return ["sh", "-c", 'rm -f large; exec "$@"', "sh", *probe(bench, *CASES[case][1])]


# -- in Python --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("face", ["in_session(sys.argv[1:])", "asyncio.run(in_async_session(sys.argv[1:]))"])
def test_what_stopped_a_command_is_named_in_python(bench: Bench, case: str, face: str) -> None:
    line, _, words = CASES[case]
    argv = ending(bench, case)
    free, _ = application(bench, face, *argv)  # the twin: nothing stops it
    assert [(told["kind"], told["detail"]) for told in free] == [("exited", "")] * len(free)
    where = limit(bench, line)
    found, others = application(bench, face, *argv)
    assert len(found) == len(free) >= 2
    for told in found:
        assert told["kind"] == ("timed-out" if case == "time" else "limit"), told
        assert told["detail"] == f"{words} ({where})", told
        assert not told["left"], told
    assert others == ["goes on 0"], "the session has ended with its command"


def test_what_a_command_outlives_stands_beside_its_status(bench: Bench) -> None:
    where = limit(bench, 'memory = "100M"')
    script = " ".join(probe(bench, "hog")) + "; exit 3"
    found, _ = application(bench, "in_session(sys.argv[1:]); asyncio.run(in_async_session(sys.argv[1:]))", "sh", "-c", script)
    assert len(found) == 5
    for told in found:
        assert (told["kind"], told["detail"]) == ("exited", f"1 process was ended: limits.memory is 100M ({where})"), told


def test_a_kill_of_the_callers_own_is_no_limit(bench: Bench) -> None:
    limit(bench, 'memory = "600M"', "processes = 200", 'output = "1M"')
    program = """
        with Session() as session:
            process = session.popen(["sleep", "50"])
            process.kill()
            print(process.wait(), process.kind, repr(process.detail))
            print(session.run(["sh", "-c", "kill -9 $$"]).kind)
    """
    assert application(bench, program)[1] == ["-9 signalled ''", "signalled"]


def test_fork_bomb_in_a_session(bench: Bench) -> None:
    """It makes no more than it may; where a group counts, what was refused is said; where init alone does, what ended the session."""
    argv = probe(bench, "bomb")
    free, _ = application(bench, "in_session(sys.argv[1:], ways=[run])", *argv)
    assert free[0]["kind"] == "exited"
    where = limit(bench, "processes = 30")
    program = """
        try:
            with Session() as session:
                done = session.run(sys.argv[1:], capture_output=True)
                tell("run", done.kind, done.detail, b"", printed=done.stdout.decode())
        except SessionEnded as error:
            print(error)
    """
    found, others = application(bench, program, *argv)
    said = found[0]["detail"] if found else others[0]
    row = coverage(bench, *FEW)["limits.processes"]
    if row["by"] != ["setrlimit"]:  # which tells nobody
        assert "limits.processes" in said and where in said, (found, others)
    if found:
        made = next((int(line.split()[1]) for line in found[0]["printed"].splitlines() if line.startswith("made: ")), 0)
        assert made < 30, found


# -- output -------------------------------------------------------------------------------------------------------------------


WAYS = """
    def length(session, argv, **how):
        with open("printed", "w+b") as file:
            done = session.run(argv, **{name: file if where == "file" else where for name, where in how.items()})
            tell("", done.kind, done.detail, b"y" * os.path.getsize("printed"))
    with Session() as session:
        for how in ({"stdout": "file"}, {"stderr": "file"}, {"stdout": "file", "stderr": subprocess.STDOUT}):
            length(session, sys.argv[1 + 5 * ("stdout" not in how):][:5], **how)
        length(session, sys.argv[1:6], stdout=subprocess.DEVNULL)
        out = os.pipe()
        if os.fork() == 0:
            os.close(out[1])
            got = 0
            while data := os.read(out[0], 1 << 16): got += len(data)
            tell("own pipe", "", "", b"y" * got)
            os._exit(0)
        os.close(out[0])
        done = session.run(sys.argv[1:6], stdout=out[1])
        os.close(out[1])
        os.wait()
        tell("", done.kind, done.detail, b"")
"""


def test_every_stream_is_counted(bench: Bench) -> None:
    """A file, a file for both, /dev/null, a pipe of the caller's own: no way around the limit."""
    limit(bench, 'output = "1M"')
    argvs = [*probe(bench, "endless", 1), *probe(bench, "endless", 2)]
    width = len(argvs) // 2
    found, _ = application(bench, WAYS.replace("5", str(width)).replace("6", str(width + 1)), *argvs)
    kinds = [told["kind"] for told in found if told["way"] == ""]
    assert kinds == ["limit"] * 5, found
    assert [told["length"] for told in found] == [1 << 20, (1 << 20) - len("probe: endless\n"), 1 << 20, 0, 1 << 20, 0], found


def test_inherited_output_is_counted(bench: Bench) -> None:
    limit(bench, 'output = "1M"')
    words = [bench.identity.python, "-c", BEGIN + "with Session() as s: done = s.run(sys.argv[1:]); sys.stderr.write(done.detail)"]
    outcome = bench.run([*words, *probe(bench, "endless")], inside=False, env={"PYTHONPATH": str(bench.identity.base / "src")})
    assert len(outcome.out) == 1 << 20 and "limits.output" in outcome.err, (len(outcome.out), outcome.err)


def test_both_streams_count_together_in_a_session(bench: Bench) -> None:
    limit(bench, 'output = "1M"')
    program = """
        with Session() as session:
            done = session.run(sys.argv[1:], capture_output=True)
            tell("", done.kind, done.detail, done.stdout + done.stderr)
    """
    found, _ = application(bench, program, *probe(bench, "both_streams"))
    assert (found[0]["kind"], found[0]["length"]) == ("limit", 1 << 20), found


def test_output_below_the_limit_is_whole_in_a_session(bench: Bench, sessions: Sessions) -> None:
    script = "import os\nfor part in range(1024): os.write(1, bytes(range(256)) * 3); os.write(2, b'e')\nos._exit(7)"
    argv = [bench.identity.python, "-S", "-c", script]
    expected = bytes(range(256)) * 3 * 1024
    limit(bench, f'output = "{1024 * 769}B"')  # exactly
    program = """
        import hashlib
        async def main():
            async with AsyncSession() as session:
                yield await session.run(sys.argv[1:], capture_output=True)
        async def first(): return [done async for done in main()][0]
        with Session() as session:
            for done in (session.run(sys.argv[1:], capture_output=True), asyncio.run(first())):
                print(done.returncode, done.kind, repr(done.detail), hashlib.sha256(done.stdout).hexdigest(), len(done.stderr))
    """
    import hashlib

    digest = hashlib.sha256(expected).hexdigest()
    assert application(bench, program, *argv)[1] == [f"7 exited '' {digest} 1024"] * 2
    sessions.start("work")
    done = sessions.exec("work", *argv)
    assert (done.returncode, done.stdout, done.stderr) == (7, expected, b"e" * 1024)


def test_a_terminal_that_can_not_be_counted_is_refused_in_python(bench: Bench) -> None:
    program = """
        for accept in ((), ("limits.output",)):
            with Session(accept=accept) as session:
                try:
                    print(session.run(["echo", "shown"], pty=True).stdout)
                except CannotEnforce as error:
                    print("refused", *error.missing)
    """
    assert application(bench, program)[1] == ["b'shown\\r\\n'"] * 2  # the twin: no limit
    limit(bench, 'output = "1M"')
    assert application(bench, program)[1] == ["refused limits.output", "b'shown\\r\\n'"]


# -- by name ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_what_stopped_a_command_is_named_by_exec(sessions: Sessions, bench: Bench, case: str) -> None:
    line, _, words = CASES[case]
    key, _, value = line.partition(" = ")
    sessions.start("free")
    sessions.start("work", "--limit", f"{key}={value.strip(chr(34))}")
    argv = ending(bench, case)
    assert sessions.exec("free", *argv).returncode == 0  # the twin
    done = sessions.exec("work", *argv)
    assert done.returncode == 124, done
    assert done.stderr.decode().splitlines()[-1] == f"houseroom: {words} (command line)", done
    assert len(done.stdout) <= 1 << 20
    assert sessions.exec("work", "true").returncode == 0


def test_the_policys_line_is_named_by_exec(sessions: Sessions, bench: Bench) -> None:
    where = limit(bench, 'memory = "100M"')
    sessions.start("work")
    done = sessions.exec("work", *probe(bench, "hog"))
    assert (done.returncode, done.stderr.decode()) == (124, f"houseroom: stopped at 100M of memory: limits.memory ({where})\n")
    beside = sessions.sh("work", " ".join(probe(bench, "hog")) + "; exit 3")
    assert beside.returncode == 3 and b"1 process was ended: limits.memory is 100M" in beside.stderr, beside


def test_what_is_left_running_stays_counted(sessions: Sessions) -> None:
    """A daemon that holds the streams of a command that has ended ends with what it prints too much."""
    sessions.start("work", "--limit", "output=100K")
    file = sessions.beat("left")
    process = sessions.open(
        "session", "exec", "work", "--", "sh", "-c",
        "(setsid sh -c 'while :; do echo >> beat-left; sleep 0.05; test -e go && yes; done' &); until test -e beat-left; do :; done",
    )  # fmt: skip
    try:
        process.wait(30)  # told although something holds its output
        assert process.returncode == 0
        assert begins(file)
        (sessions.bench.stage.workspace / "go").touch()
        assert process.stdout
        printed = process.stdout.read()  # ends where the daemon does
    finally:
        Bench.end(process)
    assert len(printed) == 100 << 10
    assert eventually(lambda: not beating(file))  # nobody is told when


def test_a_client_that_does_not_read_holds_nobody_up(sessions: Sessions) -> None:
    sessions.start("work", "--limit", "output=10M")
    slow = sessions.open("session", "exec", "work", "--", "sh", "-c", beater("slow") + "yes")
    try:
        assert begins(sessions.beat("slow"))
        assert sessions.sh("work", "echo other").stdout == b"other\n"
    finally:
        Bench.end(slow)
    assert not beating(sessions.beat("slow"))


def test_a_terminal_by_name_stays_one_and_coverage_says_so(sessions: Sessions, bench: Bench) -> None:
    sessions.start("work", "--limit", "output=10K")
    shown = json.loads(sessions.call("session", "show", "work", "--json").stdout)
    row = next(row for row in shown["coverage"] if row["rule"] == "limits.output")
    assert row["state"] == "partly" and "terminal" in row["loses"][0], row
    limit(bench, 'output = "10K"', "[floor]", 'require = ["limits.output"]')
    refused = sessions.call("session", "start", "strict")
    assert refused.returncode == 125 and b"limits.output" in refused.stderr, refused


def test_a_session_by_name_leaves_no_group(sessions: Sessions) -> None:
    if os.geteuid() or not groups_are_ours() or sessions.bench.identity.uid:
        pytest.skip("no control groups of ours")
    before = set(GROUPS.glob("**/houseroom-*"))
    sessions.start("work", "--limit", "memory=100M")
    assert set(GROUPS.glob("**/houseroom-*")) > before
    assert sessions.call("session", "stop", "work").returncode == 0
    assert set(GROUPS.glob("**/houseroom-*")) == before


# -- what was refused -----------------------------------------------------------------------------------------------------------


def test_exec_says_what_was_refused(sessions: Sessions, bench: Bench) -> None:
    """As run does, where the command failed: what, by which rule, and how a session gets it. Not where it went well, or is not observed."""
    target = bench.stage.outside / "victim"
    script = f"echo x >> {target}; echo on"
    sessions.start("work")
    sessions.start("blind", "--observe", "off")
    failed = sessions.sh("work", f"{script}; exit 3")
    said = " ".join(failed.stderr.decode().split())
    assert failed.returncode == 3, failed
    assert "one thing was refused to the command: write" in said and "victim" in said and "files.read" in said, failed
    assert "allow: houseroom session start work --write" in said, failed
    well = sessions.sh("work", script)
    assert well.returncode == 0 and b"refused to" not in well.stderr, well
    again = sessions.sh("work", "exit 3")  # nothing of the one before is taken for its own
    assert (again.returncode, again.stderr) == (3, b"")
    blind = sessions.sh("blind", f"{script}; exit 3")
    assert blind.returncode == 3 and b"refused to" not in blind.stderr, blind


def test_a_process_tells_what_was_refused_to_it(bench: Bench) -> None:
    target = bench.stage.outside / "victim"
    program = """
        argv = ["sh", "-c", f"echo x >> {sys.argv[1]}"]
        def told(denials): print([(denial.access, denial.path == sys.argv[1]) for denial in denials])
        with Session(observe="denials") as session:
            process = session.popen(argv, stderr=subprocess.DEVNULL)
            process.wait()
            told(process.denials)
        async def main():
            async with AsyncSession(observe="denials") as session:
                for _ in range(2):
                    process = await session.popen(argv, stderr=subprocess.DEVNULL)
                    await process.wait()
                    told(process.denials)
                process = await session.popen(["true"])
                await process.wait()
                told(process.denials)
        asyncio.run(main())
    """
    assert application(bench, program, str(target))[1] == ["[('write', True)]"] * 3 + ["[]"]


# -- a holder that has failed -----------------------------------------------------------------------------------------------------


def test_where_it_is_written_why_a_session_ended(sessions: Sessions, bench: Bench) -> None:
    script = "import os; from houseroom.session import holder_log; holder_log.write(os.environ['HOME'], 'work', ValueError('the reason'))"
    environment = {"PYTHONPATH": str(bench.identity.base / "src")}
    assert bench.run([bench.identity.python, "-c", script], inside=False, env=environment).status == 0
    log = bench.stage.home / ".local/state/houseroom/holder.log"
    assert "the reason" in log.read_text() and log.stat().st_mode & 0o777 == 0o600
    said = sessions.exec("work", "true")
    assert said.returncode == 125 and f"its holder has failed, see {log}" in " ".join(said.stderr.decode().split()), said
    assert str(log).encode() not in sessions.exec("other", "true").stderr
    sessions.start("work")  # and with the next one it is forgotten
    assert not log.exists()
