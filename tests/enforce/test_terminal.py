"""At a terminal a command has a terminal of its own: everything interactive works, and the user's stays out of its reach."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import time
from collections.abc import Iterator

import pytest
from by_name import Sessions, beating
from runner import Bench, alive, eventually
from typist import Typist

pytestmark = pytest.mark.needs("userns")

CTRL_C, CTRL_D, CTRL_Z = b"\x03", b"\x04", b"\x1a"
WAYS = ["run", "exec"]


class Ways:
    """argv of a command inside: in a sandbox of its own, or in a session in the background."""

    def __init__(self, bench: Bench):
        self.sessions = Sessions(bench)

    def __call__(self, way: str, *argv: str) -> list[str]:
        if way == "run":
            return self.sessions.argv("run", "--", *argv)
        if not self.sessions.begun:
            self.sessions.start("terminals")
        return self.sessions.argv("session", "exec", "terminals", "--", *argv)


@pytest.fixture
def inside(bench: Bench) -> Iterator[Ways]:
    ways = Ways(bench)
    yield ways
    ways.sessions.end()


WHOSE = """
import os
print("probe: whose", [os.isatty(fd) for fd in (0, 1, 2)], "of", os.fstat(0).st_dev, flush=True)
own = os.open("/dev/tty", os.O_RDWR)
print("named", os.ttyname(0), os.tcgetpgrp(own) == os.getpgrp(), os.fstat(0).st_dev == os.fstat(1).st_dev == os.fstat(2).st_dev, flush=True)
"""


@pytest.mark.parametrize("way", ["bare", *WAYS])
def test_the_terminal_is_the_commands_own(bench: Bench, inside: Ways, way: str) -> None:
    argv = [bench.identity.python, "-S", "-c", WHOSE]
    with Typist(bench, argv if way == "bare" else inside(way, *argv)) as user:
        users = os.stat("/dev/pts").st_dev
        assert user.end() == 0, user
        said = user.text.decode()
        assert "[True, True, True]" in said and "True True" in said and "/dev/pts/" in said, user
        assert (f"of {users}" in said) == (way == "bare"), user  # of the same file system of terminals, or of another


@pytest.mark.parametrize("way", WAYS)
def test_the_size_is_the_windows_and_follows_it(bench: Bench, inside: Ways, way: str) -> None:
    script = "trap 'stty size; exit 3' WINCH; stty size; echo READY; while :; do sleep 0.05; done"
    with Typist(bench, inside(way, "sh", "-c", script), size=(31, 101)) as user:
        user.wait_for("31 101")
        user.wait_for("READY")
        user.resize(11, 22)
        user.wait_for("11 22")
        assert user.end() == 3, user


@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_ends_it_with_130(bench: Bench, inside: Ways, way: str) -> None:
    with Typist(bench, inside(way, "sh", "-c", "echo READY; sleep 50")) as user:
        user.wait_for("READY")
        user.type(CTRL_C)
        assert user.end() == 130, user
        assert user.as_before()


def test_ctrl_c_takes_along_what_the_command_started(bench: Bench, inside: Ways) -> None:
    """A daemon too, as when the signal comes from elsewhere."""
    beat = bench.stage.workspace / "beat"
    script = "(setsid sh -c 'while :; do echo >> beat; sleep 0.05; done' &); echo READY; sleep 50"
    with Typist(bench, inside("exec", "sh", "-c", script)) as user:
        user.wait_for("READY")
        user.until(beat.exists, "the daemon")
        user.type(CTRL_C)
        assert user.end() == 130, user
    assert not beating(beat)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_typed_arrives_and_ends_with_ctrl_d(bench: Bench, inside: Ways, way: str) -> None:
    with Typist(bench, inside(way, "sh", "-c", "stty -echo; echo READY; cat; echo END")) as user:
        user.wait_for("READY")
        user.type(b"gr\xc3\xb6\xc3\x9fer\x7fe\n")
        user.wait_for("größee")
        user.type(CTRL_D)
        user.wait_for("END")
        assert user.end() == 0, user


@pytest.mark.parametrize("way", WAYS)
def test_a_large_paste_arrives_whole(bench: Bench, inside: Ways, way: str) -> None:
    lines = b"".join(b"line %06d %s\n" % (number, b"x" * 60) for number in range(4000))
    with Typist(bench, inside(way, "sh", "-c", "stty -echo; echo READY; cat > pasted; echo END")) as user:
        user.wait_for("READY")
        user.type(lines + CTRL_D)
        user.wait_for("END")
        assert user.end() == 0, user
    assert (bench.stage.workspace / "pasted").read_bytes() == lines


@pytest.mark.parametrize("way", WAYS)
def test_all_that_it_printed_is_shown(bench: Bench, inside: Ways, way: str) -> None:
    with Typist(bench, inside(way, "sh", "-c", "seq 1 60000; printf LAST")) as user:
        assert user.end() == 0, user
        shown = user.text.replace(b"\r", b"")
        assert shown == b"".join(b"%d\n" % number for number in range(1, 60001)) + b"LAST"


@pytest.mark.parametrize("way", WAYS)
def test_job_control_inside(bench: Bench, inside: Ways, way: str) -> None:
    """An inner shell stops, continues and ends its jobs; nothing of that reaches ours."""
    running = bench.stage.workspace / "running"
    with Typist(bench, inside(way, "bash", "--norc", "-i")) as user:
        user.wait_for("ready> ")
        user.type("sh -c 'echo > running; exec sleep 50'\r")
        user.until(running.exists, "the job")
        time.sleep(0.2)  # it has yet to become sleep
        user.type(CTRL_Z)
        user.wait_for("Stopped")
        user.wait_for("ready> ")
        user.type("jobs\r")
        user.wait_for("Stopped")
        user.wait_for("ready> ")
        user.type("fg\r")
        user.wait_for("sleep 50")
        time.sleep(0.2)
        user.type(CTRL_C)
        user.wait_for("ready> ")
        user.type("echo code $?\r")
        user.wait_for("code 130\r\n")
        user.wait_for("ready> ")
        user.type("exit 4\r")
        assert user.end() == 4, user


@pytest.mark.parametrize("way", WAYS)
def test_ctrl_z_gives_the_terminal_back_to_the_users_shell(bench: Bench, inside: Ways, way: str) -> None:
    """A command that stops inside stops outside: the shell has its terminal again, and `fg` goes on."""
    running = bench.stage.workspace / "running"
    line = shlex.join(inside(way, "sh", "-c", "echo > running; sleep 2; echo went on; exec sleep 50"))
    with Typist(bench, ["bash", "--norc", "-i"]) as user:
        user.wait_for("ready> ")
        user.type(line + "\r")
        user.until(lambda: running.exists() and user.raw(), "the job")
        time.sleep(0.2)
        user.type(CTRL_Z)
        user.wait_for("Stopped")
        user.wait_for("ready> ")
        user.type("stty -a | grep -o ' icanon'; jobs\r")
        user.wait_for(" icanon")
        user.wait_for("Stopped")
        user.wait_for("ready> ")
        user.type("fg\r")
        user.wait_for("went on\r\n")
        assert user.raw()
        user.type(CTRL_C)
        user.wait_for("ready> ")
        user.type("echo code $?\r")
        user.wait_for("code 130\r\n")
        user.type("exit\r")
        user.end()


@pytest.mark.parametrize("way", WAYS)
def test_a_command_that_stops_itself_leaves_no_dead_screen(bench: Bench, inside: Ways, way: str) -> None:
    """There is no shell here that could continue it, so it goes on."""
    for _ in range(3):
        with Typist(bench, inside(way, "sh", "-c", "kill -STOP $$; echo went on")) as user:
            assert user.end() == 0, user
            assert b"went on" in user.text


@pytest.mark.parametrize("way", WAYS)
def test_in_the_background_it_leaves_the_terminal_alone(bench: Bench, inside: Ways, way: str) -> None:
    line = shlex.join(inside(way, "sh", "-c", "echo > running; sleep 1; echo printed; read word; echo got $word"))
    with Typist(bench, ["bash", "--norc", "-i"]) as user:
        user.wait_for("ready> ")
        user.type(line + " &\r")
        user.wait_for("ready> ")
        user.type("echo typed to the she''ll\r")
        user.wait_for("typed to the shell")
        user.wait_for("printed")
        user.type("fg\r")
        user.until(user.raw, "the foreground")
        user.type("word\r")
        user.wait_for("got word")
        user.wait_for("ready> ")
        user.type("exit\r")
        user.end()


FULL_SCREEN = """
import os, signal, termios, tty
saved = termios.tcgetattr(0)
tty.setraw(0)
def draw(*_):
    size = os.get_terminal_size()
    os.write(1, b"\\x1b[2J\\x1b[H%d by %d" % (size.lines, size.columns))
signal.signal(signal.SIGWINCH, draw)
os.write(1, b"\\x1b[?1049h")
draw()
text = b""
while not text.endswith(b"\\x11"):
    text += os.read(0, 1)
    os.write(1, b"\\x1b[2;1H" + text)
open("written", "wb").write(text[:-1])
os.write(1, b"\\x1b[?1049l")
termios.tcsetattr(0, termios.TCSADRAIN, saved)
"""


@pytest.mark.parametrize("way", WAYS)
def test_a_program_on_the_full_screen(bench: Bench, inside: Ways, way: str) -> None:
    with Typist(bench, inside(way, bench.identity.python, "-S", "-c", FULL_SCREEN), size=(20, 60)) as user:
        user.wait_for(b"\x1b[?1049h")
        user.wait_for("20 by 60")
        user.resize(40, 90)
        user.wait_for("40 by 90")
        user.type(b"\x1b[A\x03\x1a\rx\x11")  # an arrow, Ctrl-C, Ctrl-Z and Enter are keys like others here
        user.wait_for(b"\x1b[?1049l")
        assert user.end() == 0, user
        assert user.as_before()
    assert (bench.stage.workspace / "written").read_bytes() == b"\x1b[A\x03\x1a\rx"


@pytest.mark.parametrize("way", WAYS)
def test_an_editor(bench: Bench, inside: Ways, way: str) -> None:
    editor = shutil.which("vi") or shutil.which("vim")
    if not editor:
        pytest.skip("this host has no vi")
    with Typist(bench, inside(way, editor, "letter")) as user:
        user.until(lambda: b"letter" in user.text and user.raw(), "the editor")
        user.type(b"iwritten inside\x1b")
        user.wait_for("inside")
        user.type(b":wq\r")
        assert user.end() == 0, user
        assert user.as_before()
    assert (bench.stage.workspace / "letter").read_text() == "written inside\n"


THIEF = """
import os
hear, tell = os.pipe()
if os.fork():
    os.read(hear, 1)
    os._exit(0)
os.setsid()
with open("stolen", "ab", buffering=0) as file:
    file.write(b"here|")
    os.write(tell, b".")
    while data := os.read(0, 100):
        file.write(data)
    file.write(b"|over")
"""


def test_nobody_reads_the_keyboard_after_the_command(bench: Bench, inside: Ways) -> None:
    """A daemon that a command leaves in a session holds what that had as its input. Bare, that is the user's keyboard for ever."""
    stolen = bench.stage.workspace / "stolen"
    for way in ("bare", "exec"):
        stolen.unlink(missing_ok=True)
        argv = [bench.identity.python, "-S", "-c", THIEF]
        with Typist(
            bench, ["sh", "-c", '"$@"; stty -echo; echo NOW; head -c 6', "sh", *(argv if way == "bare" else inside(way, *argv))]
        ) as user:
            user.wait_for("NOW")
            user.until(stolen.exists, "the daemon")
            user.type("secret\nsecret\n")
            if way == "bare":
                user.until(lambda: b"secret" in stolen.read_bytes(), "the theft")
            else:
                assert user.end() == 0, user
                assert b"secret" in user.text
        assert (b"secret" in stolen.read_bytes()) == (way == "bare")


@pytest.mark.parametrize("way", WAYS)
def test_what_is_redirected_stays_redirected(bench: Bench, inside: Ways, way: str) -> None:
    script = "test -t 0; echo in $?; test -t 1; echo out $?; test -t 2; echo err $?; echo said >&2"
    command = shlex.join(inside(way, "sh", "-c", script))
    expected = {"2> errors": (0, 0, 1), "< /dev/null": (1, None, None), "> shown": (None, 1, None), "| cat": (None, 1, None)}
    for redirection, found in expected.items():
        with Typist(bench, ["sh", "-c", f"{command} {redirection}; test ! -f shown || cat shown"]) as user:
            assert user.end() == 0, user
            for stream, value in zip(("in", "out", "err"), found, strict=True):
                assert value is None or f"{stream} {value}\r\n".encode() in user.text, (redirection, str(user))
    assert (bench.stage.workspace / "errors").read_text() == "said\n"


def test_in_a_session_no_stream_is_the_users_terminal(bench: Bench, inside: Ways) -> None:
    """Also where only one of three would be: what a command leaves behind would keep it."""
    show = [bench.identity.python, "-S", "-c", "import os; print([os.fstat(fd).st_dev for fd in (0, 1, 2)], file=open('streams', 'w'))"]
    command = shlex.join(inside("exec", *show))
    for redirection in ("", "2> errors", "< /dev/null", "> shown", "| cat", "> shown 2>&1", "< /dev/null > shown"):
        with Typist(bench, ["sh", "-c", f"{command} {redirection}"]) as user:
            users = os.stat("/dev/pts").st_dev
            assert user.end() == 0, user
            assert str(users) not in (bench.stage.workspace / "streams").read_text().strip("[]\n").split(", "), redirection


BEATER = "trap '' HUP TERM INT; (setsid sh -c 'while :; do echo >> beat; sleep 0.05; done' &); echo READY; while :; do sleep 1; done"


@pytest.mark.parametrize("how", ["window", "kill"])
@pytest.mark.parametrize("way", WAYS)
def test_with_the_terminal_everything_ends(bench: Bench, inside: Ways, way: str, how: str) -> None:
    """The window is closed, or the process in it is killed: also what ignores signals and has left its parents is gone."""
    beat = bench.stage.workspace / "beat"
    with Typist(bench, inside(way, "sh", "-c", BEATER)) as user:
        user.wait_for("READY")
        user.until(beat.exists, "the daemon")
        if how == "window":
            user.close()
        else:
            os.kill(user.pid, signal.SIGKILL)
        user.reap()
    assert eventually(lambda: not beating(beat)), "something lives on"
    assert not alive(user.pid)


@pytest.mark.parametrize("ending", ["exit", "kill -9 $$", "kill -TERM $PPID"])
def test_the_terminal_is_put_back(bench: Bench, inside: Ways, ending: str) -> None:
    """However the command ends; the last one signals whoever runs it, inside that is nobody it could reach."""
    with Typist(
        bench, ["sh", "-c", '"$@"; stty -a | grep -o " icanon"', "sh", *inside("run", "sh", "-c", f"stty raw -echo; {ending}")]
    ) as user:
        user.end()
        assert b" icanon" in user.text
        assert user.as_before()


def test_a_signal_to_the_supervisor_is_the_commands(bench: Bench, inside: Ways) -> None:
    for way in WAYS:
        with Typist(bench, inside(way, "sh", "-c", "trap 'echo bye; exit 9' TERM; echo READY; while :; do sleep 0.05; done")) as user:
            user.wait_for("READY")
            os.kill(user.pid, signal.SIGTERM)
            user.wait_for("bye")
            assert user.end() == 9, user
            assert user.as_before()


def test_the_time_limit_puts_the_terminal_back(bench: Bench) -> None:
    argv = [bench.identity.python, "-m", "houseroom", "run", "--time", "1s", "--", "sh", "-c", "stty raw; echo READY; sleep 50"]
    with Typist(bench, argv) as user:
        assert user.end() == 124, user
        assert user.as_before()


@pytest.mark.parametrize("way", ["shell", "attach"])
def test_a_shell(bench: Bench, inside: Ways, way: str) -> None:
    if way == "attach":
        inside("exec", "true")
    argv = inside.sessions.argv(*(["shell"] if way == "shell" else ["session", "attach", "terminals"]))
    with Typist(bench, argv, SHELL=shutil.which("bash") or "/bin/sh", HISTFILE="/dev/null") as user:
        user.until(user.raw, "the shell")
        user.type("tty; echo $HOUSEROOM; cat ~/.netrc; echo $debian_chroot; exit 5\r")
        assert user.end() == 5, user
        shown = user.text.decode()
        assert "/dev/pts/" in shown and bench.stage.token not in shown and "houseroom" in shown, user
        assert user.as_before()
