"""Sessions in the background: commands by name under the policy they began with, and an end that leaves nothing."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from by_name import Sessions, beater, beating, begins, descendants
from runner import Bench, alive, eventually

pytestmark = pytest.mark.needs("userns")


@pytest.fixture
def sessions(bench: Bench) -> Iterator[Sessions]:
    made = Sessions(bench)
    yield made
    made.end()


class TestCommands:
    def test_streams_arguments_and_status_are_the_commands(self, sessions: Sessions) -> None:
        sessions.start("work")
        odd = ["", "--", "-p", "two words", "new\nline", "größer", "$HOME `x` \\"]
        assert sessions.exec("work", "printf", r"%s\0", *odd).stdout == "\0".join([*odd, ""]).encode()
        data = os.urandom(300_000)
        assert sessions.exec("work", "cat", data=data).stdout == data
        both = sessions.sh("work", "echo out; echo err >&2; exit 7")
        assert (both.returncode, both.stdout, both.stderr) == (7, b"out\n", b"err\n")
        for code in (0, 1, 2, 124, 125, 126, 127, 130, 255):
            assert sessions.sh("work", f"exit {code}").returncode == code
        assert sessions.sh("work", "kill -TERM $$").returncode == 143
        assert sessions.sh("work", "kill -KILL $$").returncode == 137

    def test_what_can_not_be_run_is_said(self, sessions: Sessions) -> None:
        sessions.start("work")
        missing = sessions.exec("work", "no-such-program")
        assert missing.returncode == 127 and b"no-such-program" in missing.stderr, missing
        assert sessions.exec("work", "./directory").returncode == 126
        nowhere = sessions.exec("wrok", "true")
        assert nowhere.returncode == 125 and b"Did you mean work?" in nowhere.stderr, nowhere

    def test_the_directory_is_the_callers(self, sessions: Sessions, bench: Bench) -> None:
        sessions.start("work")
        assert sessions.exec("work", "pwd", cwd=bench.stage.workspace / "deep/er").stdout.decode().strip() == str(
            bench.stage.workspace / "deep/er"
        )
        hidden = sessions.exec("work", "pwd", cwd=bench.stage.home / ".ssh")
        assert hidden.returncode == 125 and b"--cwd" in hidden.stderr, hidden
        elsewhere = sessions.call("session", "exec", "--cwd", "deep", "work", "pwd")
        assert elsewhere.stdout.decode().strip() == str(bench.stage.workspace / "deep")

    def test_many_at_once(self, sessions: Sessions) -> None:
        sessions.start("work")
        calls = [
            sessions.open("session", "exec", "work", "--", "sh", "-c", f"echo {number}; sleep 0.2; exit {number}") for number in range(20)
        ]
        results = []
        try:
            results = [(process.communicate(timeout=60)[0], process.returncode) for process in calls]
        finally:
            for process in calls:
                Bench.end(process)
        assert results == [(f"{number}\n".encode(), number) for number in range(20)]

    def test_a_large_environment_and_many_words(self, sessions: Sessions) -> None:
        sessions.start("work")
        words = ["x" * 1000] * 400
        done = sessions.sh("work", "echo ${#LARGE} $#", environment={"LARGE": "y" * 100_000})
        assert done.stdout == b"100000 0\n", done
        assert sessions.exec("work", "sh", "-c", "echo $#", "sh", *words).stdout == b"400\n"

    def test_closed_streams(self, sessions: Sessions) -> None:
        sessions.start("work")
        argv = sessions.argv("session", "exec", "work", "--", "sh", "-c", "cat; echo done > made")
        environment = {**sessions.bench.ordinary_environment(), "PYTHONPATH": str(sessions.bench.identity.base / "src")}
        closed = subprocess.run(  # type: ignore[call-overload]
            ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *argv],
            env=environment,
            cwd=sessions.bench.stage.workspace,
            check=False,
            **sessions.bench.identity.credentials(),
        )
        assert closed.returncode == 0
        assert (sessions.bench.stage.workspace / "made").exists()

    def test_it_survives_a_command_that_kills_all_it_can(self, sessions: Sessions) -> None:
        sessions.start("work")
        for _ in range(3):
            assert sessions.sh("work", "kill -9 -1; kill -9 $PPID").returncode == 137
            assert sessions.sh("work", "echo again").stdout == b"again\n"
        assert sessions.sh("work", beater("orphan") + "kill -9 $PPID; sleep 50").returncode == 137
        assert not beating(sessions.beat("orphan"))

    def test_a_stopped_starter_holds_nobody_up(self, sessions: Sessions) -> None:
        """A command stops the process that started it and its spare; others still run, and it can be ended."""
        sessions.start("work")
        first = sessions.open("session", "exec", "work", "--", "sh", "-c", "echo READY; kill -STOP $PPID; sleep 50")
        try:
            assert b"READY" in Bench.until_ready(first)
            assert sessions.sh("work", "echo other").stdout == b"other\n"
        finally:
            Bench.end(first)
        assert sessions.sh("work", "echo after").stdout == b"after\n"

    def test_the_time_limit_is_each_commands(self, sessions: Sessions) -> None:
        sessions.start("work", "--time", "1s")
        assert sessions.exec("work", "true").returncode == 0
        time.sleep(1.1)
        assert sessions.exec("work", "true").returncode == 0
        late = sessions.sh("work", beater("late") + "echo begun; sleep 50")
        assert late.returncode == 124 and late.stdout == b"begun\n" and b"limits.time" in late.stderr, late
        assert not beating(sessions.beat("late"))
        assert sessions.exec("work", "true").returncode == 0


class TestPolicy:
    def test_it_is_enforced_and_no_client_widens_it(self, sessions: Sessions, bench: Bench) -> None:
        """The twin of each is the same act outside."""
        secret = f"cat {bench.stage.home}/.netrc; cat .env; echo changed > {bench.stage.outside}/victim; echo $A_TOKEN; echo done"
        token = bench.stage.token
        bare = bench.run(["sh", "-c", secret], inside=False, env={"A_TOKEN": token})
        assert bare.out.count(token) == 3 and (bench.stage.outside / "victim").read_text() == "changed\n", bare
        bench.stage.restore()
        sessions.start("work")
        inside = sessions.sh("work", secret, environment={"A_TOKEN": token, "HOUSEROOM_WRITE": str(bench.stage.outside)})
        assert inside.stdout.strip().endswith(b"done") and token.encode() not in inside.stdout, inside
        assert (bench.stage.outside / "victim").read_text() == "outside\n"

    def test_a_variable_that_is_new_is_judged_too(self, sessions: Sessions) -> None:
        sessions.start("work")
        done = sessions.sh("work", "echo [$NEW_PLAIN] [$NEW_TOKEN] [$NEW_URL]", environment={
            "NEW_PLAIN": "plain", "NEW_TOKEN": "secret", "NEW_URL": "https://me:hunter2@example.org/"
        })  # fmt: skip
        assert done.stdout == b"[plain] [] []\n"

    def test_a_policy_file_that_changes_later_changes_nothing(self, sessions: Sessions, bench: Bench) -> None:
        sessions.start("work")
        bench.stage.plant(bench.stage.home / ".config/houseroom/policy.toml", f'[files]\nwrite = ["{bench.stage.outside}"]\n', 0o644)
        assert sessions.sh("work", f"echo changed > {bench.stage.outside}/victim").returncode != 0
        assert (bench.stage.outside / "victim").read_text() == "outside\n"
        sessions.call("session", "stop", "work")
        sessions.start("work")  # the twin: a session that begins now has it
        assert sessions.sh("work", f"echo changed > {bench.stage.outside}/victim").returncode == 0

    def test_a_file_as_input_can_not_be_changed(self, sessions: Sessions, bench: Bench) -> None:
        file = bench.stage.plant(bench.stage.outside / "input", "0123456789", 0o600)
        change = ["sh", "-c", "read word; echo $word; chmod 666 /proc/self/fd/0"]
        with file.open("rb") as opened:
            bench.run(change, inside=False, stdin=opened.fileno())
        assert file.stat().st_mode & 0o777 == 0o666
        file.chmod(0o600)
        sessions.start("work")
        with file.open("rb") as opened:
            os.lseek(opened.fileno(), 5, os.SEEK_SET)
            done = sessions.exec("work", *change, stdin=opened.fileno())
            assert os.lseek(opened.fileno(), 0, os.SEEK_CUR) == 5  # what is not read here is another's to read
        assert done.stdout == b"56789\n", done
        assert file.stat().st_mode & 0o777 == 0o600

    def test_a_way_out_is_not_passed(self, sessions: Sessions) -> None:
        """A socket of the host's network could be connected anew; one of a pair is as good as a pipe."""
        sessions.start("work")
        with socket.socket() as way_out:
            done = sessions.exec("work", "true", stdin=way_out.fileno())
        assert done.returncode == 125 and b"standard streams" in done.stderr, done
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(b"fine\n")
            ours.shutdown(socket.SHUT_WR)
            assert sessions.exec("work", "cat", stdin=theirs.fileno()).stdout == b"fine\n"

    def test_no_command_reaches_the_holder(self, sessions: Sessions) -> None:
        sessions.start("work")
        seen = sessions.sh("work", "echo probe: x; cat /proc/[0-9]*/cmdline | tr '\\0' ' '; ls ~/.local/state/houseroom/sessions/work")
        assert b"probe: x" in seen.stdout and b"session start" not in seen.stdout and b"socket" not in seen.stdout, seen

    def test_a_session_can_not_be_used_from_inside_another(self, sessions: Sessions, bench: Bench) -> None:
        sessions.start("work")
        source = bench.identity.base / "src"
        argv = ["env", f"PYTHONPATH={source}", bench.identity.python, "-m", "houseroom", "session", "exec", "work", "--", "touch", "made"]
        bench.run(argv, inside=True)
        assert not (bench.stage.workspace / "made").exists()
        bench.run(argv, inside=False)
        assert (bench.stage.workspace / "made").exists()


class TestClients:
    def test_with_its_client_a_command_ends_and_another_lives_on(self, sessions: Sessions) -> None:
        """Killed, so nothing can be said any more: also the daemon is gone that forked twice and ignores signals."""
        sessions.start("work")
        first = sessions.open("session", "exec", "work", "--", "sh", "-c", beater("first") + "echo READY; sleep 50")
        second = sessions.open("session", "exec", "work", "--", "sh", "-c", beater("second") + "echo READY; sleep 50")
        try:
            assert b"READY" in Bench.until_ready(first) and b"READY" in Bench.until_ready(second)
            assert begins(sessions.beat("first")) and begins(sessions.beat("second"))
            first.kill()
            first.wait()
            assert eventually(lambda: not beating(sessions.beat("first"))), "it lives on without its client"
            assert begins(sessions.beat("second"))
            assert second.poll() is None
        finally:
            Bench.end(first)
            Bench.end(second)

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
    def test_a_signal_is_the_commands_and_takes_all_of_it_along(self, sessions: Sessions, number: int, code: int) -> None:
        sessions.start("work")
        process = sessions.open("session", "exec", "work", "--", "sh", "-c", beater("signalled") + "echo READY; sleep 50")
        try:
            assert b"READY" in Bench.until_ready(process)
            assert begins(sessions.beat("signalled"))
            os.kill(process.pid, number)
            assert process.wait(20) == code
        finally:
            Bench.end(process)
        assert not beating(sessions.beat("signalled"))

    def test_a_command_may_handle_its_signal(self, sessions: Sessions) -> None:
        sessions.start("work")
        script = "trap 'echo caught; exit 9' TERM; echo READY; while :; do sleep 0.05; done"
        process = sessions.open("session", "exec", "work", "--", "sh", "-c", script)
        try:
            assert b"READY" in Bench.until_ready(process)
            os.kill(process.pid, signal.SIGTERM)
            assert (process.communicate(timeout=20)[0], process.returncode) == (b"caught\n", 9)
        finally:
            Bench.end(process)

    def test_what_a_command_left_lives_on_with_the_session(self, sessions: Sessions) -> None:
        sessions.start("work")
        assert sessions.sh("work", beater("left") + "true").returncode == 0
        assert begins(sessions.beat("left"))
        assert sessions.exec("work", "true").returncode == 0
        assert begins(sessions.beat("left"))
        assert sessions.call("session", "stop", "work").returncode == 0
        assert not beating(sessions.beat("left"))

    def test_output_that_nobody_reads_holds_nobody_up(self, sessions: Sessions) -> None:
        sessions.start("work")
        first = sessions.open("session", "exec", "work", "--", "sh", "-c", "echo READY; yes")
        try:
            assert b"READY" in Bench.until_ready(first)
            assert sessions.sh("work", "echo other").stdout == b"other\n"
        finally:
            Bench.end(first)

    def test_a_client_of_no_sense_harms_nobody(self, sessions: Sessions) -> None:
        sessions.start("work")
        for said in (
            b"",
            b"GET / HTTP/1.1\r\n\r\n",
            b"HR\1\1\xff\xff\xff\xff",
            b"HR\1\1\4\0\0\0\0\0\0\0",
            b"HR\1\2\4\0\0\0\x09\0\0\0",
            b"HR\1\x63\0\0\0\0",
        ):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(sessions.directory / "work/socket"))
                sock.settimeout(20)
                if sessions.bench.identity.uid == os.geteuid():
                    sock.sendall(said)
                    sock.shutdown(socket.SHUT_WR)
                    assert sock.recv(100) == b""
                else:  # it may have been turned away by now
                    with contextlib.suppress(BrokenPipeError):
                        sock.sendall(said)
        assert sessions.sh("work", "echo works").stdout == b"works\n"

    def test_another_user_is_turned_away(self, sessions: Sessions) -> None:
        """Root can open any directory; the holder asks the kernel who it is."""
        if os.geteuid() != 0 or sessions.bench.identity.uid == 0:
            pytest.skip("needs two users")
        sessions.start("work")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(sessions.directory / "work/socket"))
            sock.settimeout(20)
            try:
                sock.sendall(b"HR\1\3\0\0\0\0")
                assert sock.recv(100) == b""
            except (BrokenPipeError, ConnectionResetError):
                pass
        assert sessions.names() == ["work"]  # the twin: its own user is answered


class TestEnds:
    def everything(self, sessions: Sessions, name: str = "work", *options: str) -> tuple[int, list[int]]:
        """A session with a daemon, a running command and a terminal's; its holder and all processes below."""
        sessions.start(name, *options)
        assert sessions.sh(name, beater(name) + "true").returncode == 0
        holder = sessions.holder(name)
        assert begins(sessions.beat(name))
        below = list(descendants(holder))
        assert len(below) >= 4
        return holder, below

    def gone(self, sessions: Sessions, holder: int, below: list[int], name: str = "work") -> None:
        assert eventually(lambda: not alive(holder)), "the holder lives on"
        assert eventually(lambda: not any(map(alive, below))), "something inside lives on"
        assert not beating(sessions.beat(name))
        assert sessions.names() == []
        assert sessions.left() == []
        assert not any(
            str(sessions.bench.stage.root) in line and "houseroom" in line for line in Path("/proc/self/mounts").read_text().splitlines()
        )

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGSEGV])
    def test_with_its_holder_everything_ends(self, sessions: Sessions, number: int) -> None:
        holder, below = self.everything(sessions)
        os.kill(holder, number)
        self.gone(sessions, holder, below)
        assert sessions.exec("work", "true").returncode == 125

    def test_stop_returns_when_all_is_over(self, sessions: Sessions) -> None:
        holder, below = self.everything(sessions)
        client = sessions.open("session", "exec", "work", "--", "sh", "-c", "echo READY; sleep 50")
        try:
            assert b"READY" in Bench.until_ready(client)
            assert sessions.call("session", "stop", "work").returncode == 0
            assert not any(map(alive, below))
            assert client.wait(20) == 137
        finally:
            Bench.end(client)
        self.gone(sessions, holder, below)

    def test_when_its_directory_is_taken_away(self, sessions: Sessions) -> None:
        holder, below = self.everything(sessions)
        shutil.rmtree(sessions.directory / "work", ignore_errors=True)  # whose holder removes it at the same time
        self.gone(sessions, holder, below)

    def test_a_directory_that_another_took_stays_its_own(self, sessions: Sessions) -> None:
        """The first one's holder ends and leaves the second one's place alone."""
        holder, _below = self.everything(sessions)
        os.kill(holder, signal.SIGSTOP)
        shutil.rmtree(sessions.directory / "work", ignore_errors=True)  # whose holder removes it at the same time
        sessions.start("work")
        os.kill(holder, signal.SIGCONT)
        assert eventually(lambda: not alive(holder))
        assert sessions.names() == ["work"]
        assert sessions.sh("work", "echo second").stdout == b"second\n"

    def test_after_its_idle_time(self, sessions: Sessions) -> None:
        holder, below = self.everything(sessions, "work", "--idle", "2s")
        busy = sessions.sh("work", "sleep 3; echo busy is not idle")
        assert busy.stdout == b"busy is not idle\n", busy
        self.gone(sessions, holder, below)

    def test_when_it_expires_running_commands_end_too(self, sessions: Sessions, bench: Bench) -> None:
        bench.stage.plant(bench.stage.home / ".config/houseroom/policy.toml", '[session]\nexpires = "3s"\n', 0o644)
        holder, below = self.everything(sessions)
        last = sessions.exec("work", "sleep", "50")
        assert last.returncode == 124 and b"session.expires" in last.stderr, last
        self.gone(sessions, holder, below)

    def test_one_that_does_not_answer_is_no_ghost(self, sessions: Sessions) -> None:
        """It is stopped, so it is there; who asks for it hears why it does not help."""
        sessions.start("work")
        holder = sessions.holder("work")
        below = list(descendants(holder))
        os.kill(holder, signal.SIGSTOP)
        listed = sessions.call("session", "list", "--json")
        assert b"does not answer" in listed.stdout and sessions.left() == ["work"], listed
        stopped = sessions.call("session", "stop", "work")
        assert stopped.returncode == 125 and str(holder).encode() in stopped.stderr, stopped
        os.kill(holder, signal.SIGKILL)
        assert eventually(lambda: not any(map(alive, below)))
        assert sessions.names() == []

    def test_what_was_ignored_where_it_began_is_not_ignored_inside(self, sessions: Sessions) -> None:
        """A shell without job control ignores Ctrl-C for what it starts in the background."""
        script = shlex.join(sessions.argv("session", "start", "work"))
        bench = sessions.bench
        sessions.begun.append("work")
        own = {"PYTHONPATH": str(bench.identity.base / "src")}
        assert bench.run(["sh", "-c", f"trap '' INT TERM HUP; {script}"], inside=False, env=own).status == 0
        assert sessions.sh("work", "kill -INT $$; echo ignored").returncode == 130
        os.kill(holder := sessions.holder("work"), signal.SIGTERM)
        assert eventually(lambda: not alive(holder))

    def test_with_the_one_who_began_it_nothing_ends(self, sessions: Sessions) -> None:
        """It belongs to no terminal and no parent: closing where it was begun is not its end, and none of its streams are held open."""
        script = " ".join(sessions.argv("session", "start", "work"))
        begun = sessions.bench.run(
            ["sh", "-c", f"exec 9>&1; {script}"], inside=False, env={"PYTHONPATH": str(sessions.bench.identity.base / "src")}
        )
        sessions.begun.append("work")
        assert begun.status == 0, begun  # and it has returned: who reads descriptor 9 met its end
        assert sessions.sh("work", "echo there").stdout == b"there\n"
        holder = sessions.holder("work")
        assert os.getsid(holder) not in (holder, os.getsid(0))
        assert {os.readlink(f"/proc/{holder}/fd/{stream}") for stream in (0, 1, 2)} == {"/dev/null"}


class TestNames:
    def test_two_of_one_name(self, sessions: Sessions) -> None:
        sessions.start("work")
        second = sessions.call("session", "start", "work")
        assert second.returncode == 125 and b"runs already" in second.stderr, second
        assert sessions.sh("work", "echo first").stdout == b"first\n"

    def test_many_begin_at_once_and_one_wins(self, sessions: Sessions) -> None:
        sessions.begun.append("work")
        calls = [sessions.open("session", "start", "work") for _ in range(6)]
        lists = [sessions.open("session", "list") for _ in range(6)]
        codes = []
        try:
            codes = sorted(process.wait(60) for process in calls)
            assert [process.wait(60) for process in lists] == [0] * 6
        finally:
            for process in (*calls, *lists):
                Bench.end(process)
        assert codes == [0, 125, 125, 125, 125, 125]
        assert sessions.sh("work", "echo works").stdout == b"works\n"

    def test_a_killed_ones_name_is_free_again(self, sessions: Sessions) -> None:
        sessions.start("work")
        os.kill(sessions.holder("work"), signal.SIGKILL)
        assert eventually(lambda: sessions.call("session", "start", "work").returncode == 0)
        assert sessions.names() == ["work"]

    def test_one_that_can_not_begin_leaves_nothing(self, sessions: Sessions, bench: Bench) -> None:
        bench.stage.plant(bench.stage.home / ".config/houseroom/policy.toml", '[git]\nmode = "guarded"\n', 0o644)
        done = sessions.call("session", "start", "work")
        assert done.returncode == 125 and b"git" in done.stderr, done
        assert sessions.left() == []

    @pytest.mark.parametrize("name", ["", "..", ".", "a/b", "../x", "-x", "a b", "ä", "a\nb", ".hidden", "x" * 65])
    def test_strange_names_are_refused(self, sessions: Sessions, name: str) -> None:
        for words in (["start", name], ["exec", name, "--", "true"], ["stop", name], ["show", name]):
            done = sessions.call("session", *words)
            assert done.returncode in (2, 125) and done.stdout == b"", (words, done)
        assert not sessions.directory.exists() or sessions.left() == []

    def test_without_a_name_it_is_the_workspaces(self, sessions: Sessions, bench: Bench) -> None:
        sessions.begun.append("project")
        assert sessions.call("session", "start").stdout == b"project\n"
        assert sessions.call("session", "show").returncode == 0
        assert sessions.call("session", "stop").returncode == 0
        assert sessions.names() == []

    def test_a_home_too_long_for_a_sockets_address(self, sessions: Sessions, bench: Bench) -> None:
        home = bench.stage.home / ("long" * 20) / ("longer" * 10)
        home.mkdir(parents=True)
        for place in (home.parent, home):
            bench.stage.give(place)
        try:
            assert sessions.call("session", "start", "work", home=home).returncode == 0
            assert sessions.sh("work", "echo far", home=home).stdout == b"far\n"
        finally:
            assert sessions.call("session", "stop", "work", home=home).returncode == 0

    def test_a_directory_that_is_not_ours_is_not_used(self, sessions: Sessions) -> None:
        sessions.start("work")
        sessions.directory.chmod(0o777)
        try:
            for words in (["list"], ["start", "other"]):
                done = sessions.call("session", *words)
                assert done.returncode == 125 and b"chmod 700" in done.stderr, done
        finally:
            sessions.directory.chmod(0o700)
