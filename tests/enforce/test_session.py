"""A session: one sandbox for many commands. What a command can do to it, to the starters, and to the application that has it."""

from __future__ import annotations

import json
import os
import textwrap
import time
from pathlib import Path

import pytest
from by_name import Sessions
from insiders import COUNT
from runner import PATIENCE, Bench, Outcome

pytestmark = pytest.mark.needs("userns")

# What an application here begins with. ``alive`` counts the processes inside that have a name.
BEGIN = f"""
import os, subprocess, sys, threading, time
from houseroom import Session, SessionEnded
PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL
COUNT = {COUNT!r}

def alive(session, name):
    return int(session.run([sys.executable, "-S", "-c", COUNT, name], capture_output=True).stdout)

def out(session, *argv, **how):
    return session.run(argv, capture_output=True, text=True, **how).stdout
"""


def application(bench: Bench, program: str, *arguments: str, **how: object) -> Outcome:
    """Run a Python program that uses houseroom, as the bench's identity, in the workspace."""
    argv = [bench.identity.python, "-c", BEGIN + textwrap.dedent(program), *arguments]
    environment = {"PYTHONPATH": str(bench.identity.base / "src"), **how.pop("env", {})}  # type: ignore[dict-item]
    return bench.run(argv, inside=False, env=environment, **how)  # type: ignore[arg-type]


def said(bench: Bench, program: str, *arguments: str, **how: object) -> list[str]:
    """The same, which must end well and without a word on standard error: the lines of its output."""
    outcome = application(bench, program, *arguments, **how)
    assert (outcome.status, outcome.err) == (0, ""), outcome
    return outcome.out.splitlines()


# -- what is refused ------------------------------------------------------------------------------------------------------

ATTACK = "echo probe: attack; cat .env ../.netrc; echo x > ../../outside/victim; echo x > ../other/new; echo x >> .git/config; mkdir .codex"


def test_each_of_many_commands_is_refused_the_same(bench: Bench) -> None:
    outside, guarded = bench.outside(), bench.guarded()
    bare = bench.attempt(["sh", "-c", ATTACK], outside, inside=False)
    assert outside.happened(bare) and bench.stage.token in bare.out
    bench.stage.restore()
    outside.arm()
    guarded.arm()
    lines = said(
        bench,
        "with Session() as s: [print(s.run(['sh', '-c', sys.argv[1]], stdout=PIPE, stderr=DEVNULL, text=True).stdout) for _ in range(3)]",
        ATTACK,
    )
    assert [line for line in lines if line] == ["probe: attack"] * 3
    assert not outside.happened(bare) and not guarded.happened(bare)


def test_work_in_the_workspace_stays(bench: Bench) -> None:
    program = """
        with Session() as s:
            s.run(["sh", "-c", "echo made > new; mkdir -p d/e; mv new d/e; echo private > /tmp/kept"])
            print(out(s, "cat", "d/e/new", "/tmp/kept"))
            with Session() as other:
                print(other.run(["cat", "/tmp/kept"], stderr=DEVNULL).returncode)
    """
    assert said(bench, program) == ["made", "private", "", "1"]
    assert (bench.stage.workspace / "d/e/new").read_text() == "made\n"


def test_a_secret_is_nowhere_inside(bench: Bench) -> None:
    """Not in the environment of a command, nor in what can be read of starters and init."""
    look = r"echo probe: look; env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2> /dev/null | tr '\0' '\n'"
    secret = {"GITHUB_TOKEN": bench.stage.token}
    assert bench.stage.token in bench.run(["sh", "-c", look], inside=False, env=secret).out
    lines = said(bench, "with Session() as s: print(out(s, 'sh', '-c', sys.argv[1]))", look, env=secret)
    assert "probe: look" in lines and bench.stage.token not in "\n".join(lines)


SECOND = ["sh", "-c", "echo probe: second; cat .env directory/.env"]


@pytest.mark.parametrize("way", ["application", "background"])
def test_what_the_host_replaces_while_it_stands_is_hidden_again(bench: Bench, way: str) -> None:
    """While a command runs, and between two commands: a sandbox that had none yet watches nothing, the first one begins it."""
    names = (".env", "directory/.env")
    probe = bench.probe("attack_hide", "settled_after_host_acted", *names)

    def during() -> None:
        for name in names:
            replaced = bench.stage.plant(bench.stage.workspace / f"{name}.new", f"KEY={bench.stage.token}\n")
            replaced.rename(bench.stage.workspace / name)

    program = "with Session() as s: [s.run(argv) for argv in (sys.argv[1:-3], sys.argv[-3:])]"
    sessions = Sessions(bench)
    for inside in (False, True):
        bench.stage.restore()
        if not inside:
            outcome = bench.run(probe, inside=False, during=during)
        elif way == "application":
            outcome = application(bench, program, *probe, *SECOND, during=during)
        else:
            try:
                sessions.start("work")
                first, second = (sessions.argv("session", "exec", "work", "--", *argv) for argv in (probe, SECOND))
                environment = {"PYTHONPATH": str(bench.identity.base / "src")}
                outcome = bench.run(first, inside=False, during=during, env=environment)
                during()
                time.sleep(0.3)
                again = bench.run(second, inside=False, env=environment)
                assert "probe: second" in again.out and bench.stage.token not in again.out, again
            finally:
                sessions.end()
        assert "probe: settled_after_host_acted" in outcome.out, outcome
        assert (bench.stage.token in outcome.out) != inside, f"{'ESCAPE' if inside else 'no control'}\n{outcome}"


STARTER = """
import os, sys
print("probe: starter")
parent = os.getppid()
for what in ("environ", "mem", "fd", "maps", "cwd"):
    path = f"/proc/{parent}/{what}"
    try:
        os.readlink(path + "/0") if what == "fd" else os.readlink(path) if what == "cwd" else open(path, "rb").close()
        print("DONE", what)
    except OSError as error:
        print(error.strerror)
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
PTRACE_SEIZE, PIDFD_GETFD = 0x4206, 438
print("DONE" if libc.ptrace(PTRACE_SEIZE, parent, 0, 0) == 0 else os.strerror(ctypes.get_errno()))
process = os.pidfd_open(parent)
print("DONE" if libc.syscall(PIDFD_GETFD, process, 0, 0) >= 0 else os.strerror(ctypes.get_errno()))
"""


def test_a_starter_can_not_be_looked_into(bench: Bench) -> None:
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {STARTER!r}])"
    bare = bench.run([bench.identity.python, "-S", "-c", parent], inside=False)
    assert bare.out.count("DONE") >= 5, bare
    lines = said(bench, f"with Session() as s: print(out(s, sys.executable, '-S', '-c', {STARTER!r}))")
    assert "probe: starter" in lines and not [line for line in lines if "DONE" in line], lines


# -- what is passed -------------------------------------------------------------------------------------------------------

CHANGE = """
import os, sys
print("probe: passed", flush=True)
fd = int(sys.argv[1])
acts = (
    lambda: os.fchmod(fd, 0o666), lambda: os.utime(fd, (1, 1)), lambda: os.setxattr(fd, "user.probe", b"x"), lambda: os.truncate(fd, 0),
    lambda: os.chmod(f"/proc/self/fd/{fd}", 0o666), lambda: os.write(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY), b"changed"),
)
for act in acts:
    try:
        act()
        print("DONE", flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
print(os.read(fd, 99))
"""


@pytest.mark.parametrize("way", ["stdin", "pass_fds"])
@pytest.mark.parametrize("where", ["outside/input", "home/project/input"])
def test_a_file_given_for_reading_can_not_be_changed(bench: Bench, way: str, where: str) -> None:
    """Also where the sandbox stands already: the keeper lends a descriptor of the same file on a read-only mount."""
    program = f"""
        fd = os.open(sys.argv[1], os.O_RDONLY)
        os.lseek(fd, 3, 0)
        how = dict(stdin=fd) if {way!r} == "stdin" else dict(pass_fds=[fd])
        argv = [sys.executable, "-S", "-c", {CHANGE!r}, "0" if {way!r} == "stdin" else str(fd)]
        if sys.argv[2] == "bare":
            print(subprocess.run(argv, capture_output=True, text=True, **how).stdout)
        else:
            with Session() as s:
                print(out(s, *argv, **how))
    """
    path = bench.stage.plant(bench.stage.root / where, "0123456789", 0o600)
    bare = said(bench, program, str(path), "bare")
    assert "DONE" in bare and path.stat().st_mode & 0o777 == 0o666
    path.unlink()
    path = bench.stage.plant(bench.stage.root / where, "0123456789", 0o600)
    before = (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns, path.stat().st_ctime_ns)
    inside = said(bench, program, str(path), "inside")
    assert "probe: passed" in inside and "DONE" not in inside and "b'3456789'" in inside, inside
    assert (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns, path.stat().st_ctime_ns) == before


def test_only_what_was_passed_is_open(bench: Bench) -> None:
    program = r"""
        secret = os.open(sys.argv[1], os.O_RDONLY)
        os.set_inheritable(secret, True)
        with Session() as s:
            for _ in range(2):
                print(out(s, "sh", "-c", "ls /proc/self/fd | tr '\\n' ' '"))
        print(subprocess.run(["sh", "-c", "ls /proc/self/fd | tr '\\n' ' '"], close_fds=False, capture_output=True, text=True).stdout)
    """
    first, second, bare = said(bench, program, str(bench.stage.outside / "file"))
    assert first == second == "0 1 2 3 "
    assert bare != first


def test_a_way_out_is_not_passed(bench: Bench) -> None:
    """A directory of the host leads round every mount, a socket of its network round the namespace."""
    program = """
        import socket
        listener = socket.create_server(("127.0.0.1", 0))
        read = ["sh", "-c", "cd /proc/self/fd/0 && cat victim"]
        sockets = [socket.socket(), socket.socket(type=socket.SOCK_DGRAM), listener]
        directory = os.open(sys.argv[1], os.O_RDONLY)
        with Session() as s:
            for way in (directory, *(each.fileno() for each in sockets)):
                for how in (dict(stdin=way), dict(pass_fds=[way])):
                    try:
                        s.run(read, **how)
                        print("DONE")
                    except PermissionError:
                        print("refused")
            ours, theirs = socket.socketpair()
            s.run(["sh", "-c", "echo through a socket pair >&0"], stdin=theirs)
            print(ours.recv(99).decode())
        print(subprocess.run(read, stdin=directory, capture_output=True, text=True).stdout)
    """
    lines = said(bench, program, str(bench.stage.outside))
    assert lines[:8] == ["refused"] * 8
    assert "through a socket pair" in lines and "outside" in lines


def test_long_words_and_a_long_input(bench: Bench) -> None:
    program = r"""
        words = [str(n) * 1000 for n in range(150)] + ["ü\x01 '\"\\"]
        with Session() as s:
            print(out(s, "printf", "%s\\0", *words) == "".join(word + "\0" for word in words))
            data = os.urandom(1 << 20) * 50
            print(s.run(["sha256sum"], input=data, capture_output=True).stdout[:64] ==
                  subprocess.run(["sha256sum"], input=data, capture_output=True).stdout[:64])
            print(s.run(["cat"], input=data, capture_output=True).stdout == data)
    """
    assert said(bench, program) == ["True"] * 3


def test_commands_start_with_ordinary_signals_and_streams(bench: Bench) -> None:
    """As subprocess starts them: nothing is blocked, nothing ignored, and a reader that goes away ends the writer."""
    # The two signals that the C library keeps for itself are ignored in whatever posix_spawn(3) starts.
    ignored = "echo $(($(sed -n 's/SigIgn:.//p' /proc/self/status | sed s/^/0x/) & ~0x180000000))"
    look = f"grep SigBlk /proc/self/status; umask; ulimit -n; {ignored}"
    bare = bench.run(["sh", "-c", look], inside=False)
    assert said(bench, f"with Session() as s: print(out(s, 'sh', '-c', {look!r}), end='')") == bare.out.splitlines()
    assert said(bench, "with Session() as s: print(s.run(['sh', '-c', 'yes | head -1']).returncode)") == ["y", "0"]


# -- a terminal -----------------------------------------------------------------------------------------------------------

TIOCSTI = """
import ctypes, os
print("probe: terminal")
libc = ctypes.CDLL(None, use_errno=True)
for call in (0x5412, 0x1_0000_5412):
    print("DONE" if libc.ioctl(0, ctypes.c_ulong(call), b"x") == 0 else os.strerror(ctypes.get_errno()))
"""


def test_a_terminal_of_its_own_takes_no_typing_from_inside(bench: Bench) -> None:
    lines = said(bench, f"with Session() as s: print(s.run([sys.executable, '-S', '-c', {TIOCSTI!r}], pty=True, text=True).stdout)")
    assert "probe: terminal" in lines and lines.count("Operation not permitted") == 2, lines


def test_a_terminal_is_a_whole_one(bench: Bench) -> None:
    program = """
        with Session() as s:
            print(out(s, "sh", "-c", "tty > /dev/tty; stty size; ps -o tpgid= -p $$ | tr -d ' '; echo $$", pty=True, size=(33, 77)))
            print(s.run(["sh", "-c", "echo > /dev/tty"], stderr=DEVNULL).returncode != 0)
    """
    lines = said(bench, program)
    assert lines[0].startswith("/dev/pts/") and lines[1] == "33 77"
    assert lines[2] == lines[3], "the command is in the foreground of its terminal"
    assert lines[-1] == "True", "without one it has none"


# -- ends -----------------------------------------------------------------------------------------------------------------

# Always one process alive, never the same for long: it forks, leaves its parent and its session, and the parent goes.
ROLLING = """
import os
while True:
    if os.fork():
        os._exit(0)
    os.setsid()
"""
TREE = "(setsid sh -c 'sleep 601 & sleep 602' &); (setsid setsid sleep 603 &); {python} -S -c '{rolling}' & sleep 604"


@pytest.mark.parametrize("way", ["run", "popen"])
def test_a_time_out_takes_the_whole_tree_and_no_other(bench: Bench, way: str) -> None:
    program = r"""
        tree = sys.argv[1]
        rolling = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'os.setsi[d]'"
        with Session() as s, s.popen(["sleep", "700"]) as other:
            for turn in range(3):
                if sys.argv[2] == "run":
                    try:
                        s.run(["sh", "-c", tree], timeout=0.5)
                    except subprocess.TimeoutExpired:
                        pass
                else:
                    process = s.popen(["sh", "-c", tree])
                    time.sleep(0.5)
                    process.kill()
                print(alive(s, "sleep"), alive(s, "sh"), other.poll(), out(s, "sh", "-c", rolling).strip())
            s.popen(["sh", "-c", tree])
            time.sleep(0.5)
            print(alive(s, "sleep"), out(s, "sh", "-c", rolling).strip() != "0")
            other.kill()
    """
    tree = TREE.format(python=bench.identity.python, rolling=ROLLING.strip())
    assert said(bench, program, tree, way) == ["1 0 None 0"] * 3 + ["5 True"]


KILLERS = ["kill -9 -1", "kill -9 $PPID", "kill -9 $PPID; kill -9 -1", "kill -STOP $PPID; sleep 600", "kill -9 -$$", "kill -9 0"]


@pytest.mark.parametrize("killer", KILLERS)
def test_a_command_that_attacks_its_starter_ends_only_commands(bench: Bench, killer: str) -> None:
    """They are the same user and can signal each other. The session goes on, and nothing of the attacker is left."""
    program = """
        with Session() as s:
            for turn in range(4):
                try:
                    done = s.run(["sh", "-c", "(setsid sleep 600 &); " + sys.argv[1]], timeout=1)
                except subprocess.TimeoutExpired:
                    pass
                print(out(s, "echo", "still here"), end="")
            if "-1" in sys.argv[1] or "STOP" in sys.argv[1]:
                print(alive(s, "sleep"))
    """
    lines = said(bench, program, killer)
    assert lines[:4] == ["still here"] * 4 and lines[4:] in ([], ["0"]), lines


def test_stopped_starters_hold_nobody(bench: Bench) -> None:
    """A command stops every process it can see, starters with and without a command too. They are woken when they are needed."""
    program = """
        with Session() as s:
            others = [s.popen(["sleep", "600"]) for _ in range(3)]
            for _ in range(2):
                s.run(["true"])
            process = s.popen(["sh", "-c", "for p in /proc/[0-9]*; do [ $p = /proc/$$ ] || kill -STOP ${p#/proc/} 2> /dev/null; done"])
            time.sleep(0.5)
            print(process.wait(20), out(s, "echo", "still here"), end="")
            for each in others:
                each.kill()
            print([each.returncode for each in others])
    """
    assert said(bench, program) == ["0 still here", "[-9, -9, -9]"]


def test_signals_reach_commands_of_the_same_session_only(bench: Bench) -> None:
    program = """
        with Session() as one, Session() as two:
            server = one.popen(["sleep", "600"])
            hidden = two.popen(["sleep", "600"])
            print(one.run(["kill", str(server.pid)]).returncode, server.wait(10))
            print(two.run(["sh", "-c", "kill -9 -1"]).returncode, hidden.wait(10), one.run(["true"]).returncode)
    """
    assert said(bench, program) == ["0 -15", "-9 -9 0"]


BOMB = r"""
import os, sys, time
made = 0
os.write(1, b"begun\n")
while made < int(sys.argv[1]):
    try:
        if os.fork() == 0:
            os.setsid()
            if len(sys.argv) > 2:
                continue  # and so does each child
            time.sleep(600)
        made += 1
    except OSError:
        time.sleep(0.01)
time.sleep(600)
"""


def test_a_fork_bomb_is_bounded_and_ends(bench: Bench) -> None:
    """limits.processes holds in the whole sandbox, and with it the machine; as root the bomb itself has an end too."""
    limit = 60
    program = f"""
        from houseroom import Policy
        from houseroom.policy import presets
        from houseroom.policy.model import Origin, Setting
        preset = presets.preset("workspace")
        preset = preset.with_(settings={{**preset.settings, "limits.processes": Setting({limit}, Origin("session", "test"))}})
        with Session(Policy("workspace", (preset,))) as s:
            s.run(["true"])
            process = s.popen([sys.executable, "-S", "-c", {BOMB!r}, *sys.argv[1:]], stdout=PIPE)
            process.stdout.readline()
            time.sleep(1)
            number = 0
            for entry in filter(str.isdigit, os.listdir("/proc")):
                try:
                    number += "made < int" in open(f"/proc/{{entry}}/cmdline").read()
                except OSError:
                    pass
            print({limit} // 2 < number <= {limit} + 1 or number)
            process.kill()
            process.stdout.close()
            print(process.returncode, out(s, "echo", "still here"), end="")
    """
    arguments = ["100000", "bomb"] if bench.identity.name == "user" else ["200"]
    assert said(bench, program, *arguments) == ["True", "-9 still here"]


def test_four_threads(bench: Bench) -> None:
    program = r"""
        results = []
        with Session() as s:
            def work(number):
                for turn in range(25):
                    said = s.run(["sh", "-c", f"cat; echo {number}"], input=b"%d " % turn, capture_output=True).stdout
                    results.append(said == b"%d %d\n" % (turn, number))
            threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
        print(len(results), all(results))
    """
    assert said(bench, program) == ["100 True"]


MANY = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do setsid sleep 600 & done; sleep 600"


def test_who_is_ended_with_a_command_is_never_the_next_one(bench: Bench) -> None:
    """One thread kills while another hears of the end and starts the next command, which the same starter gets."""
    program = """
        with Session() as s:
            codes = []
            for turn in range(60):
                process = s.popen(["sh", "-c", sys.argv[1]])
                killer = threading.Thread(target=process.kill)
                killer.start()
                process.wait()
                codes.append(s.run(["sh", "-c", "exit 7"]).returncode)
                killer.join()
            print(set(codes))
    """
    assert said(bench, program, MANY) == ["{7}"]


def test_the_end_of_a_command_is_not_heard_while_it_is_being_killed(bench: Bench) -> None:
    """The same, with the moment chosen: it ends by itself just when all below its starter is about to be ended."""
    program = """
        with Session() as s:
            process, codes = s.popen(["sh", "-c", "(setsid sleep 600 &); sleep 600"]), []
            end = s._house.starters.end

            def next_one():
                process.wait()
                codes.append(s.run(["sh", "-c", "sleep 2; exit 7"]).returncode)

            thread = threading.Thread(target=next_one)

            def at_that_moment(starter, **how):
                s._house.starters.end = end
                s._house.starters.signal(process.pid, 9)
                thread.start()
                thread.join(1)  # for ever, where its end is only heard when all below has ended
                return end(starter, **how)

            s._house.starters.end = at_that_moment
            process.kill()
            thread.join()
            print(codes)
    """
    assert said(bench, program) == ["[7]"]


HYDRA = r"""
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int count, char **words) {  /* HEADS chains, in each of which a process begins the next one and ends */
    (void) count;
    signal(SIGCHLD, SIG_IGN);
    for (int head = 0; head < atoi(words[1]); head++)
        if (fork() == 0)
            for (;;) {
                setsid();
                if (syscall(SYS_fork) > 0) _exit(0);
            }
    for (;;) pause();
}
"""
DEEP = r"""
#include <stdlib.h>
#include <unistd.h>
int main(int count, char **words) {  /* so many generations */
    (void) count;
    for (int left = atoi(words[1]); left; left--)
        if (fork()) for (;;) pause();
    write(1, "deep\n", 5);
    for (;;) pause();
}
"""


def compiled(bench: Bench, name: str, source: str) -> str:
    bench.stage.plant(bench.stage.workspace / f"{name}.c", source, 0o644)
    done = bench.run(["gcc", "-O2", "-o", name, f"{name}.c"], inside=False)
    assert done.status == 0, done
    return f"./{name}"


@pytest.mark.needs("gcc")
def test_what_runs_away_faster_than_anybody_looks_is_ended(bench: Bench) -> None:
    program = """
        with Session() as s, s.popen(["sleep", "700"]) as other, s.popen(["sh", "-c", "kill -STOP $$; exit 5"]) as resting:
            try:
                s.run([sys.argv[1], "40"], timeout=1)
            except subprocess.TimeoutExpired as late:
                print("timed out")
            print(alive(s, "hydra"), other.poll(), s.run(["cat", f"/proc/{resting.pid}/stat"], capture_output=True).stdout.split()[2])
            other.kill()
            resting.kill()
    """
    assert said(bench, program, compiled(bench, "hydra", HYDRA), patience=120.0) == ["timed out", "0 None b'T'"]


# Process 1 of a pid namespace with two children: one with chains below it, and one that has nothing to do with them.
FASTER = """
import os, signal, subprocess, sys, time
from houseroom.enforce.linux import descendants, process_sys
assert os.getpid() == 1

def child(live):
    pid = os.fork()
    if pid == 0:
        live()
        signal.pause()
    return pid

def chains():
    process_sys.prctl(process_sys.PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    subprocess.Popen(sys.argv[1:])

sent, kill = [], os.kill

def noted(pid, number):
    kill(pid, number)
    sent.append((pid, number))

os.kill = noted  # a process that is stopped and continued before it is its turn never knows
bystander, idle = child(lambda: None), child(lambda: None)

def ended(top):
    sent.clear()
    descendants.end_below(top)
    alive = [pid for pid in descendants.below(top) if descendants._state(pid) not in descendants._DEAD]
    stopped, continued = (-1, signal.SIGSTOP) in sent, (bystander, signal.SIGCONT) in sent
    return len(alive), stopped, continued, descendants._state(bystander) == b"T"

print("idle", *ended(idle), flush=True)
for attempt in range(20):  # on a busy machine one may be caught by looking
    top = child(chains)
    while len(descendants.children(top)) < 20:
        time.sleep(0.01)
    found = ended(top)
    if found[0] or found[1]:
        break
print("chains", *found, flush=True)
os._exit(0)
"""


@pytest.mark.needs("gcc")
def test_everybody_is_stopped_for_what_runs_away_faster_than_anybody_looks(bench: Bench) -> None:
    """And goes on afterwards. The twin has nothing below it: nobody is stopped for that."""
    argv = ["unshare", "-Urpf", "--mount-proc", bench.identity.python, "-c", FASTER, compiled(bench, "hydra", HYDRA), "40"]
    outcome = bench.run(argv, inside=False, env={"PYTHONPATH": str(bench.identity.base / "src")})
    assert (outcome.out.splitlines(), outcome.err) == (["idle 0 False False False", "chains 0 True True False"], ""), outcome


@pytest.mark.needs("gcc")
def test_a_thousand_generations_are_ended_and_the_session_goes_on(bench: Bench) -> None:
    program = """
        with Session() as s, s.popen(["sleep", "700"]) as other, s.popen([sys.argv[1], "1200"], stdout=PIPE) as deep:
            print(deep.stdout.readline())
            deep.kill()
            print(alive(s, "generations"), other.poll())
            other.kill()
    """
    assert said(bench, program, compiled(bench, "generations", DEEP), patience=120.0) == ["b'deep\\n'", "0 None"]


def test_what_has_ended_its_starter_is_killed_too(bench: Bench) -> None:
    daemon = "import os, sys, time\nif os.fork(): sys.exit()\nos.setsid()\ntime.sleep(0.3)\n"
    daemon += "os.kill(os.getppid(), 9)\nos.execvp('sleep', ['sleep', '600'])"
    program = """
        with Session() as s:
            process = s.popen([sys.executable, "-S", "-c", sys.argv[1]])
            print(process.wait(), process.left)
            time.sleep(1)
            before = alive(s, "sleep")
            process.kill()
            print(before, alive(s, "sleep"))
    """
    assert said(bench, program, daemon) == ["0 True", "1 0"]


def test_a_long_request_to_a_stopped_starter_arrives(bench: Bench) -> None:
    """A command left something that stops whatever it can see: idle starters too. One of them is woken, and none is given up for it."""
    stopper = "for p in /proc/[0-9]*; do [ ${p#/proc/} -le 2 ] || [ $p = /proc/$$ ] || kill -STOP ${p#/proc/} 2> /dev/null; done"
    program = """
        with Session() as s:
            idle = [s.popen(["sh", "-c", "echo $PPID; sleep 0.3"], stdout=PIPE) for _ in range(3)]
            numbers = [each.communicate()[0] for each in idle]
            s.run(["sh", "-c", sys.argv[1]], timeout=9)
            with s.popen(["sleep", "600"]) as other:  # by the starter of that one, which has been woken
                print(out(s, "sh", "-c", "echo $PPID; cat $0 | tr -dc T", f"/proc/{int(numbers[0])}/stat", *["x" * 100000] * 12).split())
                other.kill()
            print([int(each) for each in numbers])
    """
    (answered, *others), numbers = map(json.loads, (line.replace("'", '"') for line in said(bench, program, stopper)))
    assert (int(answered) in numbers, others) == (True, ["T"]), "woken itself, while another one still is stopped"


# -- the end of the application ---------------------------------------------------------------------------------------------

# A process that carries our mark on its command line: the application's, the keeper's or what is inside.
MARKED = r"""
def marked(mark):
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            if mark in open(f"/proc/{entry}/cmdline").read():
                found.append(int(entry))
        except OSError:
            pass
    return found

def keeper():
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{entry}/cmdline").read().split("\0")
        except OSError:
            continue
        if words[-2:] == [str(os.getpid()), ""] and words[-3].endswith("keeper.py") and os.getppid() != int(entry):
            return int(entry)
"""
ENDS = {
    "killed": "os.kill(os.getpid(), 9)",
    "hung up": "os.kill(os.getpid(), 1)",
    "out of memory's way": "os.abort()",
    "exit in a thread": "os._exit(3)",
    "an error": "raise ValueError",
    "left open": "sys.exit()",
    "another program": "os.execv('/bin/sleep', ['sleep', '2'])",
    "its keeper killed": "os.kill(keeper(), 9); time.sleep(2)",
    "both killed": "os.kill(keeper(), 9); os.kill(os.getpid(), 9)",
}


@pytest.mark.parametrize("end", ENDS)
def test_with_its_application_everything_ends(bench: Bench, end: str) -> None:
    """However it ends, and whatever the commands are at: nothing of a sandbox lives on, and no mount or file of it stays."""
    mark = f"31{time.monotonic_ns()}"
    tree = f"(setsid sh -c 'sleep {mark} & sleep {mark}' &); (setsid setsid sleep {mark} &); trap '' TERM HUP INT; echo begun; sleep {mark}"
    program = f"""
        s, other = Session(), Session()
        processes = [each.popen(["sh", "-c", sys.argv[1]], stdout=PIPE) for each in (s, s, other)]
        [process.stdout.readline() for process in processes]
        while len(marked("sleep\\0" + {mark!r})) < 12:
            time.sleep(0.01)
        print("twelve alive", flush=True)
        {ENDS[end]}
    """
    mounts = Path("/proc/self/mountinfo").read_text()
    outcome = application(bench, MARKED + textwrap.dedent(program), tree)
    assert "twelve alive" in outcome.out, outcome
    assert gone(mark) == []
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert not list(bench.stage.root.glob("**/sessions/*")) and not [path for path in os.listdir("/tmp") if mark in path]


def gone(mark: str) -> list[str]:
    """The command lines that still have the mark when our patience ends; the end of a sandbox takes milliseconds."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        left = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                left.append(path.read_bytes().decode(errors="replace"))
            except OSError:
                continue
        left = [words for words in left if mark in words]
        if not left:
            return []
        time.sleep(0.02)
    return left
