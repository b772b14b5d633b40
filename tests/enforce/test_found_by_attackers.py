"""What people who attacked the sandbox found, kept closed: each was a way out once. The control is the same act without the sandbox."""

from __future__ import annotations

import os
import socket
import subprocess
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
