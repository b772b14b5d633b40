"""What people who attacked the sandbox found, kept closed: each was a way out once. The control is the same act without the sandbox."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable

import pytest
from runner import Bench

KEY = ".ssh/id_ed25519"


def relative_home(bench: Bench) -> str:
    return os.path.relpath(bench.stage.home, bench.stage.workspace)


LINKS: dict[str, Callable[[Bench], str]] = {
    "a link with a protected name": lambda bench: f"ln -sf {bench.stage.home}/{KEY} .mcp.json; cat .mcp.json",
    "a relative link": lambda bench: f"ln -sf {relative_home(bench)}/{KEY} .envrc; cat .envrc",
    "a gitfile": lambda bench: f"mkdir -p s && printf 'gitdir: {bench.stage.home}/.ssh\\n' > s/.git; cat {bench.stage.home}/{KEY}",
}


@pytest.mark.parametrize("planted", LINKS)
def test_what_a_repository_brings_along_opens_nothing(bench: Bench, planted: str) -> None:
    plant, _, look = LINKS[planted](bench).rpartition("; ")
    assert "PRIVATE KEY" in bench.run(["sh", "-c", f"{plant}; {look}"], inside=False).out
    outcome = bench.run(["sh", "-c", f"echo began; {look}; cat {bench.stage.home}/{KEY}"], inside=True)
    assert "began" in outcome.out and "PRIVATE KEY" not in outcome.out


def test_a_tree_does_not_take_its_exceptions_along(bench: Bench) -> None:
    """Below node_modules an installed package may bring .vscode; moved out of there it would be the workspace's."""
    words = "mkdir -p node_modules/p/.vscode && echo '{}' > node_modules/p/.vscode/tasks.json && mv node_modules/p taken; echo ended"
    assert "ended" in bench.run(["sh", "-c", words], inside=False).out
    assert (bench.stage.workspace / "taken/.vscode/tasks.json").exists()
    subprocess.run(["rm", "-rf", "taken", "node_modules"], cwd=bench.stage.workspace, check=True)
    assert "ended" in bench.run(["sh", "-c", words], inside=True).out
    assert (bench.stage.workspace / "node_modules/p/.vscode/tasks.json").exists()
    assert not (bench.stage.workspace / "taken/.vscode").exists()


BIND = """
import os, socket
for path in (f"/proc/{os.getpid()}/cwd/.mcp.json.sock", "/proc/thread-self/cwd/a.sock", "plain.sock"):
    try:
        socket.socket(socket.AF_UNIX).bind(path)
        print("bound", path.rpartition("/")[2])
    except OSError as error:
        print("refused", path.rpartition("/")[2])
"""


def test_a_socket_gets_no_name_through_another_process(bench: Bench) -> None:
    """/proc/PID/cwd can lead elsewhere between the look and the act."""
    control = bench.run(["python3", "-c", BIND], inside=False)
    assert control.out.splitlines() == ["bound .mcp.json.sock", "bound a.sock", "bound plain.sock"]
    for name in (".mcp.json.sock", "a.sock", "plain.sock"):
        (bench.stage.workspace / name).unlink()
    inside = bench.run(["python3", "-c", BIND], inside=True)
    assert inside.out.splitlines() == ["refused .mcp.json.sock", "refused a.sock", "bound plain.sock"]


DEEP = """
import os
made = 0
while True:
    name = "d" * 200 if len(os.getcwd()) < 3800 else "e" * (4088 - len(os.getcwd()))
    os.mkdir(name)
    os.chdir(name)
    if name[0] == "e":
        break
for name in ("objects", "refs"):
    try:
        os.mkdir(name)
    except OSError:
        pass
try:
    open("HEAD", "x").close()
    print("a git directory" if os.path.isdir("objects") else "a file")
except OSError:
    print("refused")
"""


def test_a_path_too_long_to_look_at_is_refused(bench: Bench) -> None:
    """At the longest path that has a name, what stands beside a file could not be looked at by path."""
    assert bench.run(["python3", "-c", DEEP], inside=False).out.strip() == "a git directory"
    subprocess.run(["sh", "-c", "rm -rf ddd*"], cwd=bench.stage.workspace, check=True)
    outcome = bench.run(["python3", "-c", DEEP], inside=True)
    subprocess.run(["sh", "-c", "rm -rf ddd*"], cwd=bench.stage.workspace, check=True)
    assert outcome.out.strip() == "refused"


ANEW = """
import socket, sys
stream = socket.socket(fileno=0)
stream.connect(("127.0.0.1", int(sys.argv[1])))
print("connected")
"""


def test_a_socket_as_standard_input_is_no_way_out(bench: Bench) -> None:
    """A connected socket of the host's network can be connected anew; a Unix stream, as good as a pipe, is let through."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as first, socket.socket() as second:
        argv = ["python3", "-c", ANEW, str(server.getsockname()[1])]
        assert "connected" in bench.run(argv, inside=False, stdin=first).out
        server.accept()[0].close()
        server.settimeout(0.5)
        inside = bench.run(argv, inside=True, stdin=second)
        assert inside.status == 125 and "socket" in inside.err
        with pytest.raises(TimeoutError):
            server.accept()


HIDDEN_DEEP = """
import os
while len(os.getcwd()) < 4085:
    name = "d" * min(200, 4092 - len(os.getcwd()))
    os.mkdir(name)
    os.chdir(name)
open(".env", "x").close()
print("made")
"""


def test_what_is_too_deep_to_be_masked_stops_the_start(bench: Bench) -> None:
    """A hidden file that no mount can reach would show; so nothing starts until it is gone."""
    argv = ["sh", "-c", "echo began"]
    assert bench.run(argv, inside=True).status == 0
    try:
        assert "made" in bench.run(["python3", "-c", HIDDEN_DEEP], inside=False).out
        refused = bench.run(argv, inside=True)
        assert refused.status == 125 and "files.hide" in refused.err and "began" not in refused.out
    finally:
        subprocess.run(["sh", "-c", "rm -rf ddd*"], cwd=bench.stage.workspace, check=True)


def test_a_directory_that_holds_a_hidden_file_stays_where_it_is(bench: Bench) -> None:
    """Another sandbox that starts meanwhile would look for the file where it was."""
    words = "mkdir -p other && mv holds other/taken; ls"
    holds = bench.stage.workspace / "holds"
    holds.mkdir()
    (holds / ".env").write_text("KEY=value")
    os.chown(holds, bench.identity.uid, -1)
    bench.run(["sh", "-c", words], inside=True)
    assert (holds / ".env").read_text() == "KEY=value"
    bench.run(["sh", "-c", words], inside=False)
    assert not holds.exists()


# Two processes: one makes names and takes them away without pause, the other tries to bring protected ones into being in between.
# Each try waits until the first has gone on by a step; what could be made is told and taken away again.
RACE = """
import mmap, os, signal, sys
tries, steps = int(sys.argv[1]), mmap.mmap(-1, 8)
os.mkdir("raced")
os.chdir("raced")

def attempt(act, *arguments):
    try:
        made = act(*arguments)
    except OSError:
        return False
    if type(made) is int:
        os.close(made)
    return True

def file(name, flags=0):
    return os.open(name, os.O_CREAT | os.O_WRONLY | flags, 0o644)

def remove(name):
    attempt(os.unlink, name) or attempt(os.rmdir, name)

GIT = ("HEAD", "objects", "refs")
racer = os.fork()
while racer == 0:
    for name in ("beside", ".envrc~", "HEAD", ".envrc", ".git.tmp", ".git", "objects"):
        attempt(file, name)
        attempt(os.rename, name, "aside") if name == "HEAD" else remove(name)
        steps[:] = (int.from_bytes(steps[:], "little") + 1).to_bytes(8, "little")

WAYS = {
    "open": lambda target: file(target),
    "open-exclusively": lambda target: file(target, os.O_EXCL),
    "mkdir": lambda target: os.mkdir(target),
    "mknod": lambda target: os.mknod(target),
    "symlink": lambda target: os.symlink("beside", target),
    "link": lambda target: os.link("kept", target),
    "rename": lambda target: os.rename("kept", target),
}

def wait():
    seen = steps[:]
    while steps[:] == seen:
        os.sched_yield()
made = set()
for target in (".envrc", ".git"):
    for name, way in WAYS.items():
        for _ in range(tries):
            attempt(file, "kept")
            wait()
            if attempt(way, target):
                made.add(name + " " + target)
                remove(target)
for name, way in WAYS.items():
    for _ in range(tries):
        for part in GIT[1:]:
            attempt(os.mkdir, part)
        attempt(file, "kept")
        wait()
        attempt(way, "HEAD")
        if set(GIT) <= set(os.listdir(".")):
            made.add("a git directory")
        for part in GIT[1:]:
            remove(part)
os.kill(racer, signal.SIGKILL)
os.waitpid(racer, 0)
print("ended", *sorted(made), sep="\\n")
"""
RACED = [
    f"{way} {name}" for name in (".envrc", ".git") for way in ("link", "mkdir", "mknod", "open", "open-exclusively", "rename", "symlink")
]


def test_no_name_slips_in_while_others_come_and_go(bench: Bench) -> None:
    """Between init's look and its act a name may be taken away, never one come: what was there is no reason to go on."""
    argv = ["python3", "-c", RACE, "25"]
    assert bench.run(argv, inside=False).out.splitlines() == ["ended", *sorted([*RACED, "a git directory"])]
    subprocess.run(["rm", "-rf", "raced"], cwd=bench.stage.workspace, check=True)
    assert bench.run(argv, inside=True).out.splitlines() == ["ended"]
    assert not {".envrc", ".git"} & set(os.listdir(bench.stage.workspace / "raced"))


# Each way makes something new or replaces what is there: to succeed is to have made the name. Tries until it has met the name, and
# its absence, often enough.
MET = """
import os, sys
os.chdir("raced")
print("READY", flush=True)
sys.stdin.readline()
name = ".envrc"
WAYS = {
    "open-exclusively": lambda: os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)),
    "mkdir": lambda: os.mkdir(name),
    "mknod": lambda: os.mknod(name),
    "symlink": lambda: os.symlink("beside", name),
    "link": lambda: os.link("beside", name),
    "rename": lambda: os.rename("kept", name),
}
made, met = set(), [0, 0]
for turn in range(int(sys.argv[1])):
    if min(met) > 60:
        break
    met[os.path.lexists(name)] += 1
    for way, act in WAYS.items():
        open("kept", "w").close()
        try:
            act()
            made.add(way)
        except OSError:
            pass
print("met" if min(met) > 60 else "never met", *sorted(made))
"""
ANEW_BY = ["link", "mkdir", "mknod", "open-exclusively", "rename", "symlink"]


def test_no_name_slips_in_while_the_host_makes_and_removes_it(bench: Bench) -> None:
    """What was there when init looked may be gone when it acts."""
    raced = bench.stage.workspace / "raced"
    bench.stage.plant(raced / "beside", "")
    place = os.open(raced, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            for act in (lambda: os.close(os.open(".envrc", os.O_CREAT | os.O_EXCL, dir_fd=place)), _removal(place)):
                with contextlib.suppress(OSError):
                    act()

    for inside, made in ((False, ANEW_BY), (True, [])):
        ended.clear()
        thread = threading.Thread(target=come_and_go)
        try:
            outcome = bench.run(["python3", "-c", MET, "1000000"], inside=inside, during=thread.start)
        finally:
            ended.set()
            thread.join()
        assert outcome.out.splitlines() == ["READY", " ".join(["met", *made])], outcome
        for remove in (os.unlink, os.rmdir):
            with contextlib.suppress(OSError):
                remove(".envrc", dir_fd=place)
    os.close(place)


def _removal(place: int) -> Callable[[], None]:
    def remove() -> None:
        try:
            os.unlink(".envrc", dir_fd=place)
        except IsADirectoryError:
            os.rmdir(".envrc", dir_fd=place)

    return remove
