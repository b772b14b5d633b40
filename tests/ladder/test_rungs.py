"""Each mechanism taken away for real: which rung holds, what it is said to lose, and what attacks find.

Every attack is made twice by ``Bench.twin``: bare, where it must succeed, and inside, where it must not. What coverage calls
lost is tried too and must succeed inside, so that no row claims less than is true either.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from runner import Ear, Said, When, alive, eventually

if TYPE_CHECKING:
    from conftest import Lacking

pytestmark = [pytest.mark.needs("userns")]

FLOOR = ("files.write", "files.protect", "files.hide", "network", "sockets", "processes")

_THROUGH_BWRAP = {"files.write": "partly", "files.protect": "partly", "files.hide": "partly", "sockets": "partly"}

# what is missing → the rung that holds, and the rules of the floor that fall short there, by state
LADDER: dict[str, tuple[str, dict[str, str]]] = {
    "": ("namespaces", {}),
    "unix-diag": ("namespaces", {}),
    "a-whole-proc": ("namespaces", {"processes": "partly"}),
    "landlock": ("namespaces", {"files.protect": "partly"}),
    "listeners": ("namespaces", {"files.protect": "partly", "sockets": "missing"}),
    "a-free-listener": ("namespaces", {"files.protect": "partly", "sockets": "missing"}),
    "our-namespaces": ("bubblewrap", _THROUGH_BWRAP),
    "mount-setattr": ("bubblewrap", _THROUGH_BWRAP),
    "mount-calls": ("bubblewrap", _THROUGH_BWRAP),
    "user-namespaces": (
        "landlock",
        {"files.write": "partly", "files.protect": "partly", "files.hide": "missing", "sockets": "partly", "processes": "partly"},
    ),
    "user-namespaces,listeners": (
        "landlock",
        {"files.write": "partly", "files.protect": "missing", "files.hide": "missing", "sockets": "missing", "processes": "partly"},
    ),
}
STARTS = ("", "a-whole-proc", "our-namespaces", "user-namespaces")  # one for each rung and variant
NAMES = {
    "user-namespaces": "user namespaces: Operation not permitted",
    "our-namespaces": "user namespaces: Operation not permitted",
    "a-whole-proc": "/proc",
    "landlock": "no Landlock",
    "listeners": "seccomp user notification",
    "a-free-listener": "only one",
    "mount-setattr": "mounts: Function not implemented",
    "mount-calls": "mounts: Function not implemented",
    "user-namespaces,listeners": "user namespaces: Operation not permitted",
}


def lacking(bench: Lacking, without: str) -> Lacking:
    if LADDER[without][0] == "bubblewrap" and not any(os.access(f"{d}/bwrap", os.X_OK) for d in os.environ["PATH"].split(":")):
        from runner import lacking as skip

        skip("bwrap")
    bench.without, bench.accept = without, tuple(LADDER[without][1])
    return bench


@pytest.fixture
def ear() -> Iterator[Ear]:
    listening = Ear()
    yield listening
    listening.close()


# What is said


@pytest.mark.parametrize("without", LADDER)
def test_the_declared_rung_holds_and_says_what_it_loses(bench: Lacking, without: str) -> None:
    code, document, errors = lacking(bench, without).report()
    assert code == 0, errors
    rung, short = LADDER[without]
    assert document["rung"] == rung
    rows = document["coverage"]
    assert isinstance(rows, list)
    assert {row["rule"]: row["state"] for row in rows if row["rule"] in FLOOR and row["state"] != "enforced"} == short
    assert all(row["loses"] for row in rows if row["state"] != "enforced"), "what is lost is always said"
    assert {row["rule"] for row in rows if row.get("accepted")} == set(short), "what was accepted is recorded"


@pytest.mark.parametrize("without", [name for name, (_rung, short) in LADDER.items() if short])
def test_nothing_starts_until_each_loss_is_accepted_by_name(bench: Lacking, without: str) -> None:
    every = lacking(bench, without).accept
    for left_out in every:
        bench.accept = tuple(name for name in every if name != left_out)
        outcome = bench.sh("touch started")
        assert outcome.status == 125, outcome
        assert f"can't enforce {left_out}: " in outcome.err
        assert NAMES[without] in outcome.err
        assert f"--accept {left_out} --" in outcome.err
        assert not (bench.stage.workspace / "started").exists()
    bench.accept = every
    assert bench.sh("touch started && exit 42").status == 42
    assert (bench.stage.workspace / "started").exists()


@pytest.mark.parametrize(
    ("without", "named"),
    [
        ("filters", "this host refuses system call filters: Function not implemented"),
        ("user-namespaces,landlock", "the kernel has no Landlock"),
        ("mount-calls,user-namespaces,landlock", "user namespaces: Operation not permitted"),
    ],
)
def test_where_no_rung_holds_the_refusal_names_what_is_missing(bench: Lacking, without: str, named: str) -> None:
    bench.without, bench.accept = without, FLOOR
    outcome = bench.sh("touch started")
    assert outcome.status == 125, outcome
    assert named in outcome.err
    assert "houseroom doctor" in outcome.err
    assert not (bench.stage.workspace / "started").exists()


@pytest.mark.parametrize(
    ("wanted", "without"), [("namespaces", "user-namespaces"), ("landlock", "landlock"), ("bubblewrap", "user-namespaces")]
)
def test_a_rung_that_was_asked_for_and_does_not_hold_is_not_replaced(bench: Lacking, wanted: str, without: str) -> None:
    bench.without, bench.accept = without, FLOOR
    outcome = bench.sh("true", options=["--backend", wanted])
    assert outcome.status == 125, outcome
    assert f"no rung {wanted}: " in outcome.err


# What holds on every rung

WRITES = (
    "open_truncate", "create", "mkdir", "rmdir", "unlink", "rename_within", "rename_out", "rename_in", "rename_exchange", "link_out",
    "symlink_out", "write_through_symlink", "create_through_dangling_symlink", "mkdir_through_symlink", "mkfifo_out", "truncate_path",
    "temporary_here_link_there", "by_proc_root", "by_proc_cwd", "by_dots", "by_openat2", "reopen_read_only_descriptor",
    "link_in_then_write", "shell_start_file",
)  # fmt: skip
NEW_NAMES = (
    "make_open", "make_open_exclusive", "make_openat2", "make_directory", "make_directories", "make_by_rename_directory", "make_by_link",
    "make_by_symlink", "make_fifo", "make_through_dangling_symlink", "make_by_proc_cwd", "make_by_proc_root",
)  # fmt: skip


@pytest.mark.parametrize("attack", WRITES)
@pytest.mark.parametrize("without", STARTS)
def test_outside_nothing_is_written(bench: Lacking, without: str, attack: str) -> None:
    lacking(bench, without).twin(bench.probe("attack_write", attack), bench.outside())


@pytest.mark.parametrize("without", STARTS)
def test_etc_is_as_it_was(bench: Lacking, without: str) -> None:
    name = f"/etc/houseroom-probe-{os.getpid()}"
    bare = "needs root" if bench.identity.uid else True
    try:
        lacking(bench, without).twin(
            ["sh", "-c", 'echo "probe: etc"; touch "$1" && rm -f "$2" && touch "$2"; true', "sh", name, "/etc/motd.houseroom"],
            When(lambda: name if os.path.exists(name) else ""),
            control=bare,
            prepare=lambda: Path(name).unlink(missing_ok=True),
        )
    finally:
        Path(name).unlink(missing_ok=True)
        Path("/etc/motd.houseroom").unlink(missing_ok=True)


@pytest.mark.parametrize("attack", NEW_NAMES)
@pytest.mark.parametrize("without", STARTS)
def test_protected_names_do_not_come_into_being(bench: Lacking, without: str, attack: str) -> None:
    target = "directory/.git"  # below the workspace
    lacking(bench, without).twin(bench.probe("attack_protect", attack, target), bench.guarded())


@pytest.mark.parametrize("without", STARTS)
def test_the_network_is_refused(bench: Lacking, ear: Ear, without: str) -> None:
    port = ear.inet()
    script = "import socket,sys; print('probe: tcp', flush=True); socket.create_connection(('127.0.0.1', int(sys.argv[1])), 2)"
    lacking(bench, without).twin([bench.identity.python, "-c", script, str(port)], ear)


@pytest.mark.parametrize("where", ["workspace", "outside", "abstract"])
@pytest.mark.parametrize("without", STARTS)
def test_sockets_of_the_host_are_out_of_reach(bench: Lacking, ear: Ear, without: str, where: str) -> None:
    path = f"@houseroom-{os.getpid()}" if where == "abstract" else str(getattr(bench.stage, where) / "ear")

    def listen() -> None:
        ear.close()
        ear.unix(bench.stage, path if where == "abstract" else Path(path))

    script = (
        "import os,socket,sys; print('probe: unix', flush=True); p=sys.argv[1]; s=socket.socket(socket.AF_UNIX)\n"
        "if p[0]=='@': s.connect('\\0'+p[1:])\n"
        "else: os.chdir(os.path.dirname(p)); s.connect(os.path.basename(p))"
    )
    lacking(bench, without).twin([bench.identity.python, "-c", script, path], ear, prepare=listen)


SERVE_AND_CALL = """
import os, socket, sys
def talk(address):
    server = socket.socket(socket.AF_UNIX); server.bind(address); server.listen()
    client = socket.socket(socket.AF_UNIX); client.connect(address)
    server.accept()[0].sendall(b'heard'); print(client.recv(9).decode())
talk('own.sock'); os.unlink('own.sock'); talk('\\0houseroom-own-%d' % os.getpid())
"""


@pytest.mark.parametrize("options", [(), ("--net", "open")])
@pytest.mark.parametrize("without", STARTS)
def test_sockets_made_inside_work(bench: Lacking, without: str, options: tuple[str, ...]) -> None:
    outcome = lacking(bench, without).run([bench.identity.python, "-c", SERVE_AND_CALL], inside=True, options=options)
    assert outcome.out == "heard\nheard\n", outcome


@pytest.mark.parametrize("where", ["outside", "abstract"])
@pytest.mark.parametrize("without", STARTS)
def test_with_the_network_open_the_sockets_of_the_host_stay_out_of_reach(bench: Lacking, ear: Ear, without: str, where: str) -> None:
    path = f"@houseroom-open-{os.getpid()}" if where == "abstract" else str(bench.stage.outside / "ear")

    def listen() -> None:
        ear.close()
        ear.unix(bench.stage, path if where == "abstract" else Path(path))

    script = (
        "import os,socket,sys; print('probe: unix', flush=True); p=sys.argv[1]; s=socket.socket(socket.AF_UNIX)\n"
        "if p[0]=='@': s.connect('\\0'+p[1:])\n"
        "else: os.chdir(os.path.dirname(p)); s.connect(os.path.basename(p))"
    )
    lacking(bench, without).twin([bench.identity.python, "-c", script, path], ear, prepare=listen, options=("--net", "open"))


# How it ends


@pytest.mark.parametrize("without", STARTS)
def test_exit_codes_are_the_commands(bench: Lacking, without: str) -> None:
    lacking(bench, without)
    assert bench.sh("exit 7").status == 7
    assert bench.sh("kill -TERM $$").status == 128 + signal.SIGTERM
    assert bench.run(["no-such-program"], inside=True).status == 127
    assert bench.run(["/etc/passwd"], inside=True).status == 126
    assert bench.sh("sleep 100", options=["--time", "1s"]).status == 124


DAEMON = """
import os, sys, time
def fork():
    if os.fork(): os._exit(0)
if os.fork() == 0:
    fork(); os.setsid(); fork()
    os.closerange(0, 3)
    open(sys.argv[1], 'w').write(sys.argv[2])
    time.sleep(300)
while not os.path.exists(sys.argv[1]): time.sleep(0.01)
print('probe: daemon', flush=True)
time.sleep(float(sys.argv[3]))
"""


def running(mark: str) -> list[int]:
    """Processes of the machine whose arguments hold this mark, houseroom's own left out."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if mark.encode() in words and b"houseroom\0run" not in words and alive(int(pid)):
            found.append(int(pid))
    return found


def in_use(directory: Path) -> bool:
    """Whether it is the directory for temporary files of anybody who runs."""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if bytes(directory) in Path(f"/proc/{pid}/environ").read_bytes():
                return True
        except OSError:
            continue
    return False


def daemon(bench: Lacking, seconds: int, mark: str) -> list[str]:
    return [bench.identity.python, "-c", DAEMON, str(bench.stage.workspace / "alive"), mark, str(seconds)]


@pytest.mark.parametrize("without", STARTS)
def test_daemons_end_with_the_command(bench: Lacking, without: str) -> None:
    mark = f"mark-{os.urandom(6).hex()}"
    bench.run(daemon(bench, 0, mark), inside=False)
    left = running(mark)
    assert left, "without a sandbox it outlives the command"
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    (bench.stage.workspace / "alive").unlink()
    outcome = lacking(bench, without).run(daemon(bench, 0, mark), inside=True)
    assert "probe: daemon" in outcome.out, outcome
    assert not running(mark)


@pytest.mark.parametrize("without", STARTS)
def test_everything_ends_with_a_killed_supervisor(bench: Lacking, without: str) -> None:
    before = set(Path("/tmp").glob("houseroom-*"))
    mark = f"mark-{os.urandom(6).hex()}"
    process = lacking(bench, without).start(daemon(bench, 300, mark), inside=True)
    try:
        assert eventually((bench.stage.workspace / "alive").exists), "the daemon never started"
        assert running(mark)
        for pid in supervisors(process.pid):
            os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: not running(mark)), f"still alive: {running(mark)}"
    finally:
        for pid in running(mark):
            os.kill(pid, signal.SIGKILL)
        process.communicate()
    for left in Path("/tmp").glob("houseroom-*"):  # a supervisor that is killed can't remove its directory
        if left not in before and left.stat().st_uid == bench.identity.uid and not in_use(left):
            subprocess.run(["rm", "-rf", str(left)], check=True)


def supervisors(pid: int) -> list[int]:
    """The process that was started and, where it is only the container's first, the supervisor below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    below = [int(child) for child in children if b"houseroom\0run" in Path(f"/proc/{child}/cmdline").read_bytes()]
    name = Path(f"/proc/{pid}/cmdline").read_bytes()
    return [pid] if b"without_sys" not in name else below[:1]


FORK_FOR_EVER = """
import os, sys, time
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:  # every process lives for a moment: its child takes over
    if os.fork(): os._exit(0)
"""


@pytest.mark.parametrize("without", STARTS)
def test_a_chain_of_forks_does_not_outrun_the_end(bench: Lacking, without: str) -> None:
    mark = f"mark-{os.urandom(6).hex()}"
    lacking(bench, without).run([bench.identity.python, "-c", FORK_FOR_EVER, mark, "20"], inside=True)
    assert not running(mark)


# What is lost is really lost


def test_without_mounts_secrets_can_be_read(bench: Lacking) -> None:
    secret = bench.stage.home / ".ssh/id_ed25519"
    assert bench.stage.token not in bench.sh('cat "$1"', secret).out
    assert bench.stage.token in lacking(bench, "user-namespaces").sh('cat "$1"', secret).out


def test_without_mounts_modes_outside_can_be_changed(bench: Lacking) -> None:
    victim = bench.stage.outside / "victim"
    bench.sh('chmod 0700 "$1"', victim)
    assert victim.stat().st_mode & 0o777 != 0o700
    lacking(bench, "user-namespaces").sh('chmod 0700 "$1"', victim)
    assert victim.stat().st_mode & 0o777 == 0o700


def test_without_mounts_what_exists_of_the_protected_can_be_written(bench: Lacking) -> None:
    config = bench.stage.workspace / ".git/config"
    bench.sh('echo attack >> "$1"', config)
    assert "attack" not in config.read_text()
    hook = bench.stage.workspace / ".git/hooks/new-hook"
    lacking(bench, "user-namespaces").sh('echo attack >> "$1"; touch "$2"; mkdir -p new/.git', config, hook)
    assert "attack" in config.read_text()
    assert hook.exists()
    assert not (bench.stage.workspace / "new/.git").exists()


@pytest.mark.parametrize("without", ["a-whole-proc", "user-namespaces"])
def test_with_shared_process_ids_others_can_be_seen_but_not_touched(bench: Lacking, without: str) -> None:
    lacking(bench, without)
    with bench.start(["sleep", "300"], inside=False) as victim:
        try:
            script = 'tr "\\0" " " < "/proc/$1/cmdline"; cat "/proc/$1/environ" "/proc/$1/maps"; kill -9 "$1"; true'
            if without == "user-namespaces":
                outcome = bench.sh(script, victim.pid)
                assert "sleep 300" in outcome.out
                assert "XDG_RUNTIME_DIR=" not in outcome.out
                assert "libc" not in outcome.out
            else:  # the victim is outside the container, which has process ids of its own
                assert "houseroom run" in bench.sh('cat /proc/1/cmdline | tr "\\0" " "; kill -9 1; true').out
            assert victim.poll() is None
        finally:
            victim.kill()


def test_with_shared_process_ids_others_can_be_slowed(bench: Lacking) -> None:
    """The victim is a process of the same user that holds no more capabilities: here init."""
    script = "import os; p=os.getppid(); os.setpriority(os.PRIO_PROCESS, p, 15); print(os.getpriority(os.PRIO_PROCESS, p))"
    argv = [bench.identity.python, "-c", script]
    assert lacking(bench, "user-namespaces").run(argv, inside=True).out == "15\n"
    bench.without, bench.accept = "", ()
    assert bench.run(argv, inside=True).out != "15\n"


REACH_FOR_PARENT = """
import ctypes, os, signal, sys
print('probe: reach', flush=True)
parent, way = os.getppid(), sys.argv[1]
if way == 'kill': os.kill(parent, signal.SIGTERM)
elif way == 'memory': os.open(f'/proc/{parent}/mem', os.O_RDWR)
elif way == 'environment': open(f'/proc/{parent}/environ', 'rb').read()
elif way == 'descriptors': [os.readlink(f'/proc/{parent}/fd/{n}') for n in os.listdir(f'/proc/{parent}/fd')]
elif way == 'trace':
    if ctypes.CDLL(None).ptrace(0x4206, parent, 0, 0): raise PermissionError
print('DONE', flush=True)
"""


@pytest.mark.parametrize("way", ["kill", "memory", "environment", "descriptors", "trace"])
@pytest.mark.parametrize("without", STARTS)
def test_init_is_out_of_reach(bench: Lacking, without: str, way: str) -> None:
    """Its parent is an ordinary process in the control, and init inside."""
    inside = [bench.identity.python, "-c", REACH_FOR_PARENT, way]
    bare = ["sh", "-c", '"$@"; true', "sh", *inside]
    outcome = lacking(bench, without).twin(bare, Said("DONE"), inside_argv=inside, allow_signal=True)
    assert outcome.status != 125


@pytest.mark.needs("bwrap")
def test_through_bubblewrap_the_mode_of_standard_input_can_be_changed(bench: Lacking) -> None:
    victim = bench.stage.outside / "victim"
    for without, changed in (("", False), ("our-namespaces", True)):
        bench.stage.restore()
        with victim.open("rb") as file:
            argv = [bench.identity.python, "-c", "import os; os.fchmod(0, 0o700)"]
            lacking(bench, without).run(argv, inside=True, stdin=file.fileno())
        assert (victim.stat().st_mode & 0o777 == 0o700) == changed


@pytest.mark.needs("bwrap")
def test_through_bubblewrap_a_mask_is_lost_when_the_host_replaces_the_file(bench: Lacking) -> None:
    secret = bench.stage.workspace / ".env"

    def replace() -> None:
        bench.stage.plant(bench.stage.workspace / "new", f"API_KEY={bench.stage.token}\n").rename(secret)

    wait = "echo READY; read go; i=0; while [ $i -lt 20 ]; do i=$((i+1)); sleep 0.05; done; cat .env"
    for without, seen in (("", False), ("mount-setattr", True)):
        bench.stage.restore()
        outcome = lacking(bench, without).run(["sh", "-c", wait], inside=True, during=replace)
        assert (bench.stage.token in outcome.out) == seen, outcome


@pytest.mark.needs("bwrap")
def test_through_bubblewrap_secrets_are_hidden(bench: Lacking) -> None:
    for path in (".ssh/id_ed25519", ".netrc", "project/.env"):
        read = ["sh", "-c", 'echo "probe: read"; cat "$1"', "sh", str(bench.stage.home / path)]
        lacking(bench, "mount-setattr").twin(read, Said(bench.stage.token))


# What is lost of comfort, and what replaces it


def test_without_mounts_temporary_files_have_a_directory_of_their_own(bench: Lacking) -> None:
    lacking(bench, "user-namespaces")
    outcome = bench.sh('echo kept > "$TMPDIR/file" && cat "$TMPDIR/file" && echo "$TMPDIR" && ls -ld "$TMPDIR"; touch /tmp/houseroom_probe')
    kept, where, listing = outcome.out.splitlines()
    assert kept == "kept"
    assert listing.startswith("drwx------")
    assert not Path(where).exists()
    assert not Path("/tmp/houseroom_probe").exists()


@pytest.mark.parametrize("without", STARTS)
def test_ordinary_work_is_done(bench: Lacking, without: str) -> None:
    """A build's calls: temporary files, renames into place, links, modes, pipes, here-documents."""
    work = """
    set -e
    mkdir -p build/deep && cd build && cat > a.txt <<END
text
END
    mv a.txt deep/b.txt && ln deep/b.txt deep/c.txt && ln -s b.txt deep/d.txt && chmod 0755 deep/b.txt && cat deep/d.txt
    printf 'x\\n' | sort > "$(mktemp)" && rm -r deep && cd .. && rmdir build && git status --short > /dev/null && echo done
    """
    outcome = lacking(bench, without).sh(work)
    assert (outcome.status, outcome.out) == (0, "text\ndone\n"), outcome


def test_init_holds_the_sockets_it_asks_about(bench: Lacking) -> None:
    """Without unix_diag no socket can be told to be ours, so none is reached, not even one made inside."""
    bench.without = "unix-diag"
    outcome = bench.run([bench.identity.python, "-c", SERVE_AND_CALL], inside=True)
    assert "heard" not in outcome.out
    assert "PermissionError" in outcome.err
