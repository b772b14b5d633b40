"""Runs a probe bare and inside the sandbox, and judges both by the effect on the host.

``Bench.twin`` is the only way to state a denial: it runs the probe without the sandbox, requires the effect, puts the stage
back, runs the same probe inside, and requires that the effect is absent. A denial without its control can't be written.
"""

from __future__ import annotations

import errno
import hashlib
import os
import pty
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1] / "src"
MUST_ENFORCE = os.environ.get("HOUSEROOM_MUST_ENFORCE") == "1"
# For work on the probes themselves: run the bare halves only. Never set where the result counts.
CONTROLS_ONLY = os.environ.get("HOUSEROOM_CONTROLS_ONLY") == "1"
PATIENCE = 60.0  # seconds after which a probe counts as hanging
RAN = "probe: "  # every probe says this first: a sandbox that does not start can't pass for one that refuses

# Protected by the default profile, wherever they are below the workspace.
GUARDED_NAMES = frozenset({".git", ".houseroom", ".codex", ".agents", ".claude", ".mcp.json"})


def lacking(capability: str) -> None:
    """Skip the running test, naming what this host lacks; under HOUSEROOM_MUST_ENFORCE=1 fail it instead."""
    if MUST_ENFORCE:
        pytest.fail(f"HOUSEROOM_MUST_ENFORCE=1 and this host lacks {capability}")
    pytest.skip(f"needs {capability}")


def can_make_user_namespaces() -> bool:
    return subprocess.run(["unshare", "-U", "true"], capture_output=True, check=False).returncode == 0


def has_landlock() -> bool:
    program = "from houseroom.enforce.linux import landlock_sys; raise SystemExit(not landlock_sys.abi())"
    return subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": str(SOURCE)}, check=False).returncode == 0


CAPABILITIES: dict[str, Callable[[], bool]] = {
    "userns": can_make_user_namespaces,
    "landlock": has_landlock,
    "gcc": lambda: shutil.which("gcc") is not None,
    "gdb": lambda: shutil.which("gdb") is not None,
    "make": lambda: shutil.which("make") is not None,
    "node": lambda: shutil.which("node") is not None,
    "npm": lambda: shutil.which("npm") is not None,
    "git": lambda: shutil.which("git") is not None,
    "root": lambda: os.geteuid() == 0,
}


@dataclass(frozen=True)
class Identity:
    """Who runs the probe. ``base`` is a directory of its own on the host, in which every stage is built."""

    name: str
    uid: int
    gid: int
    login: str
    base: Path

    @cached_property
    def python(self) -> str:
        """An interpreter this identity may execute: the tests' own, or the system's."""
        for candidate in (os.path.realpath(sys.executable), "/usr/bin/python3", "/usr/local/bin/python3"):
            try:
                subprocess.run([candidate, "-c", "import tomllib"], capture_output=True, check=True, cwd="/", **self.credentials())  # type: ignore[call-overload]
            except (OSError, subprocess.CalledProcessError):
                continue
            return candidate
        raise AssertionError(f"no Python interpreter from 3.11 on that {self.login} may run")

    def credentials(self) -> dict[str, object]:
        """Arguments for ``subprocess.Popen`` that become this identity."""
        if os.geteuid() == self.uid:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


@dataclass(frozen=True)
class Outcome:
    """How a run ended: exit status as ``subprocess`` gives it, and what it printed."""

    status: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"status {self.status}\n--- out\n{self.out[-3000:]}\n--- err\n{self.err[-3000:]}"


Snapshot = dict[str, tuple[object, ...]]


def describe(path: str) -> tuple[object, ...]:
    """All that a probe could change of one directory entry: kind, mode, owner, size, bytes, times, links, xattrs."""
    found = os.lstat(path)
    kind = stat.S_IFMT(found.st_mode)
    content = ""
    if kind == stat.S_IFREG:
        content = hashlib.sha256(Path(path).read_bytes()).hexdigest() if found.st_size < 1 << 24 else "large"
    elif kind == stat.S_IFLNK:
        content = os.readlink(path)
    extended: tuple[object, ...] = ()
    if kind in (stat.S_IFREG, stat.S_IFDIR):
        extended = tuple((name, os.getxattr(path, name)) for name in sorted(os.listxattr(path)))
    size = found.st_size if kind == stat.S_IFREG else 0
    return (found.st_mode, found.st_uid, found.st_gid, size, content, found.st_mtime_ns, found.st_ctime_ns, found.st_nlink, extended)


def walk(root: Path) -> Iterator[str]:
    for where, directories, files in os.walk(root):
        for name in directories + files:
            yield os.path.join(where, name)


def difference(before: Snapshot, after: Snapshot) -> str:
    """What changed, in words; empty when nothing did."""
    lines = [f"created {path}" for path in sorted(after.keys() - before.keys())]
    lines += [f"removed {path}" for path in sorted(before.keys() - after.keys())]
    fields = ("mode", "uid", "gid", "size", "content", "mtime", "ctime", "links", "xattrs")
    for path in sorted(before.keys() & after.keys()):
        changed = [name for name, old, new in zip(fields, before[path], after[path], strict=True) if old != new]
        if changed:
            lines.append(f"changed {', '.join(changed)} of {path}")
    return "\n".join(lines)


@dataclass
class Stage:
    """A home directory with planted secrets and a workspace, put back to its first state between two runs.

    home/            HOME: planted keys, tokens, histories
    home/project/    the workspace: a repository with a nested one, a worktree, a submodule, an ``.env``
    outside/         files that nobody granted
    run/             XDG_RUNTIME_DIR
    """

    identity: Identity
    root: Path
    pristine: Path
    token: str
    first: Snapshot = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def workspace(self) -> Path:
        return self.home / "project"

    @property
    def outside(self) -> Path:
        return self.root / "outside"

    @property
    def runtime(self) -> Path:
        return self.root / "run"

    def restore(self) -> None:
        """Put the stage back to its first state, if anything about it differs."""
        if self.first and self.snapshot() == self.first:
            return
        if os.geteuid():  # an attack may have taken our rights to a directory of ours
            subprocess.run(["chmod", "-R", "u+rwX", str(self.root)], check=True)
        subprocess.run(["rm", "-rf", str(self.root)], check=True)
        subprocess.run(["cp", "-a", str(self.pristine), str(self.root)], check=True)
        self.first = self.snapshot()

    def snapshot(self) -> Snapshot:
        own = str(self.home / ".local" / "state")
        return {path: describe(path) for path in (str(self.root), *walk(self.root)) if not path.startswith(own)}

    def snapshot_outside(self) -> Snapshot:
        """Everything of the stage but the workspace and houseroom's own state."""
        own = (str(self.workspace), str(self.home / ".local" / "state"))
        seen: Snapshot = {}
        for path in walk(self.root):
            if not any(path == place or path.startswith(place + "/") for place in own):
                seen[path] = describe(path)
        return seen

    def snapshot_guarded(self) -> Snapshot:
        """Every protected path of the workspace, and every directory that git would take for a bare repository."""
        seen: Snapshot = {}
        for path in walk(self.workspace):
            parts = os.path.relpath(path, self.workspace).split("/")
            if GUARDED_NAMES.intersection(parts) or parts[0] == "realgit":
                seen[path] = describe(path)
            elif os.path.isdir(path) and {"HEAD", "objects", "refs"} <= set(os.listdir(path)):
                seen[path] = ("a bare repository", *(0,) * 8)
        return seen

    def give(self, path: Path) -> None:
        """Make the identity the owner of a file that the test has put on the stage."""
        if os.geteuid() == 0:
            os.chown(path, self.identity.uid, self.identity.gid, follow_symlinks=False)

    def plant(self, path: Path, text: str, mode: int = 0o600) -> Path:
        """Write a file as the host would, after the pristine copy was taken."""
        for parent in reversed(path.parents):
            if not parent.exists():
                parent.mkdir()
                self.give(parent)
        path.write_text(text)
        path.chmod(mode)
        self.give(path)
        return path


class Effect:
    """What an attack wants. ``arm`` is called right before a run; ``happened`` says in words what it reached, or ""."""

    def arm(self) -> None: ...

    def happened(self, outcome: Outcome) -> str:
        raise NotImplementedError


@dataclass
class Changed(Effect):
    """Bytes, metadata or directory entries of the host changed."""

    look: Callable[[], Snapshot]
    before: Snapshot = field(default_factory=dict)

    def arm(self) -> None:
        self.before = self.look()

    def happened(self, outcome: Outcome) -> str:
        return difference(self.before, self.look())


@dataclass
class Said(Effect):
    """The probe printed this text: the token of a secret, or DONE where the success of the call is the effect."""

    text: str

    def happened(self, outcome: Outcome) -> str:
        return f"it printed {self.text!r}" if self.text in outcome.out else ""


@dataclass
class When(Effect):
    """Anything that a function can see on the host after the run."""

    look: Callable[[], str]

    def happened(self, outcome: Outcome) -> str:
        return self.look()


Host = Callable[[], None]


@dataclass
class Bench:
    """Where a test states its attacks: one identity, one stage."""

    identity: Identity
    stage: Stage
    environment: dict[str, str] = field(default_factory=dict)

    # -- running ------------------------------------------------------------------------------------------------------

    def ordinary_environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.stage.home),
            "USER": self.identity.login,
            "LOGNAME": self.identity.login,
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            "XDG_RUNTIME_DIR": str(self.stage.runtime),
            **self.environment,
        }

    def houseroom(self, *options: str) -> list[str]:
        """argv of ``houseroom run OPTIONS --``."""
        return [self.identity.python, "-m", "houseroom", "run", *options, "--"]

    def command(self, argv: Sequence[str | bytes], *, inside: bool, options: Sequence[str] = ()) -> list[str | bytes]:
        return [*self.houseroom(*options), *argv] if inside else list(argv)

    def start(
        self,
        argv: Sequence[str | bytes],
        *,
        inside: bool,
        options: Sequence[str] = (),
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        stdin: int | None = subprocess.DEVNULL,
        pass_fds: Sequence[int] = (),
        **more: object,
    ) -> subprocess.Popen[bytes]:
        if inside and CONTROLS_ONLY:
            pytest.skip("only controls were asked for")
        environment = {**self.ordinary_environment(), **(env or {})}
        if inside:
            environment["PYTHONPATH"] = str(self.identity.base / "src")
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
            self.command(argv, inside=inside, options=options),
            cwd=cwd or self.stage.workspace,
            env=environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=pass_fds,
            start_new_session=True,
            **self.identity.credentials(),
            **more,
        )

    def run(
        self,
        argv: Sequence[str | bytes],
        *,
        inside: bool,
        during: Host | None = None,
        data: bytes | None = None,
        patience: float = PATIENCE,
        **how: object,
    ) -> Outcome:
        """One run. With ``during`` the probe prints READY, the host acts, the probe reads a line and goes on."""
        if inside and CONTROLS_ONLY:
            pytest.skip("only controls were asked for")
        if during or data is not None:
            how["stdin"] = subprocess.PIPE
        process = self.start(argv, inside=inside, **how)  # type: ignore[arg-type]
        heard = b""
        try:
            if during:
                heard = self.until_ready(process)
                during()
                data = b"go\n"
            out, err = process.communicate(data, timeout=patience)
        except subprocess.TimeoutExpired as expired:
            out, err = expired.output or b"", expired.stderr or b""
            raise AssertionError(f"{argv!r} hangs {'inside' if inside else 'bare'}\n{out[-2000:]!r}\n{err[-2000:]!r}") from None
        finally:
            self.end(process)
        return Outcome(process.returncode, (heard + out).decode(errors="replace"), err.decode(errors="replace"))

    @staticmethod
    def until_ready(process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdout
        heard = b""
        until = time.monotonic() + PATIENCE
        while b"READY\n" not in heard and time.monotonic() < until:
            if select.select([process.stdout], [], [], 0.2)[0]:
                chunk = os.read(process.stdout.fileno(), 65536)
                if not chunk:
                    break
                heard += chunk
        return heard

    @staticmethod
    def end(process: subprocess.Popen[bytes]) -> None:
        """Kill what the run left in its own session, and nothing else."""
        if process.poll() is None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe and not pipe.closed:
                pipe.close()

    def probe(self, module: str, name: str, *arguments: object) -> list[str]:
        """argv of one function of tests/enforce/probes/MODULE.py."""
        script = self.identity.base / "probes" / "run_probe.py"
        return [self.identity.python, "-S", "-B", str(script), module, name, str(self.stage.root), *map(str, arguments)]

    # -- judging ------------------------------------------------------------------------------------------------------

    def twin(
        self,
        argv: Sequence[str | bytes],
        effect: Effect,
        *,
        inside_argv: Sequence[str | bytes] | None = None,
        control: bool | str = True,
        prepare: Host | None = None,
        ran: str = RAN,
        allow_signal: bool = False,
        **how: object,
    ) -> Outcome:
        """The same act bare, where it must reach its effect, and inside, where it must not. Returns the inside outcome.

        ``control`` False or a reason: this host or this identity can't do it even bare (say why); only the inside half
        is judged. ``prepare`` is the host's hand before each run. ``inside_argv`` names the counterpart where numbers
        differ (process 1 for a victim's id).
        """
        if control is True:
            outcome = self.attempt(argv, effect, inside=False, prepare=prepare, **how)
            reached = effect.happened(outcome)
            assert reached, f"the control does not reach its effect without a sandbox: {argv!r}\n{outcome}"
        if CONTROLS_ONLY:
            pytest.skip("only controls were asked for")
        outcome = self.attempt(inside_argv or argv, effect, inside=True, prepare=prepare, **how)
        assert ran in outcome.out, f"the probe did not start inside the sandbox\n{outcome}"
        reached = effect.happened(outcome)
        assert not reached, f"ESCAPE {argv!r}\n{reached}\n{outcome}"
        return outcome

    def attempt(self, argv: Sequence[str | bytes], effect: Effect, *, inside: bool, prepare: Host | None = None, **how: object) -> Outcome:
        self.stage.restore()
        if prepare:
            prepare()
        effect.arm()
        return self.run(argv, inside=inside, **how)  # type: ignore[arg-type]

    def same(self, argv: Sequence[str | bytes], *, prepare: Host | None = None, ok: bool = True, **how: object) -> Outcome:
        """Developer work: the status and the standard output inside are those of the bare run. Returns the inside outcome."""
        outcomes = []
        for inside in (False, True):
            self.stage.restore()
            if prepare:
                prepare()
            outcomes.append(self.run(argv, inside=inside, **how))  # type: ignore[arg-type]
            if CONTROLS_ONLY and not inside:
                assert not ok or outcomes[0].status == 0, outcomes[0]
                pytest.skip("only controls were asked for")
        bare, boxed = outcomes
        if ok:
            assert bare.status == 0, f"the work itself fails without a sandbox\n{bare}"
        assert (boxed.status, boxed.out) == (bare.status, bare.out), f"bare: {bare}\n\ninside: {boxed}"
        return boxed

    def outside(self) -> Changed:
        return Changed(self.stage.snapshot_outside)

    def guarded(self) -> Changed:
        return Changed(self.stage.snapshot_guarded)

    def leak(self) -> Said:
        return Said(self.stage.token)


# -- listeners of the host ----------------------------------------------------------------------------------------------


@dataclass
class Ear(Effect):
    """A listener on the host. It has heard something when a connection or a datagram arrived."""

    sockets: list[socket.socket] = field(default_factory=list)
    pipes: list[int] = field(default_factory=list)

    def happened(self, outcome: Outcome) -> str:
        time.sleep(0.02)  # loopback delivery is immediate; this only yields the processor once
        return "; ".join(filter(None, [*map(self.socket_heard, self.sockets), *map(self.pipe_heard, self.pipes)]))

    @staticmethod
    def socket_heard(listener: socket.socket) -> str:
        listener.setblocking(False)
        where = listener.getsockname()
        try:
            if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                accepted, _ = listener.accept()
                accepted.close()
                return f"a connection on {where!r}"
            return f"{listener.recvfrom(65536)[0]!r} on {where!r}"
        except BlockingIOError:
            return ""
        except ConnectionError as broken:
            return f"{broken} on {where!r}"

    @staticmethod
    def pipe_heard(reader: int) -> str:
        try:
            said = os.read(reader, 65536)
        except BlockingIOError:
            return ""
        return f"{said!r} in a FIFO" if said else ""

    def close(self) -> None:
        for listener in self.sockets:
            listener.close()
        for reader in self.pipes:
            os.close(reader)
        self.sockets.clear()
        self.pipes.clear()

    def unix(self, stage: Stage, path: Path | str, kind: int = socket.SOCK_STREAM) -> None:
        listener = socket.socket(socket.AF_UNIX, kind)
        if str(path).startswith("@"):
            listener.bind("\0" + str(path)[1:])
        else:
            bind_long(listener, Path(path))
            os.chmod(path, 0o777)
            stage.give(Path(path))
        if kind != socket.SOCK_DGRAM:
            listener.listen(8)
        self.sockets.append(listener)

    def fifo(self, stage: Stage, path: Path) -> None:
        os.mkfifo(path)
        os.chmod(path, 0o666)
        stage.give(path)
        self.pipes.append(os.open(path, os.O_RDWR | os.O_NONBLOCK))

    def inet(self, kind: int = socket.SOCK_STREAM, host: str = "127.0.0.1", protocol: int = 0) -> int:
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind, protocol)
        listener.bind((host, 0))
        if kind == socket.SOCK_STREAM:
            listener.setsockopt(socket.IPPROTO_TCP, 23, 16)  # TCP_FASTOPEN
            listener.listen(8)
        self.sockets.append(listener)
        return int(listener.getsockname()[1])


def bind_long(listener: socket.socket, path: Path) -> None:
    """bind(2) takes 107 bytes; a long path is reached through its directory's descriptor."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        listener.bind(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)


# -- processes of the host ----------------------------------------------------------------------------------------------


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def eventually(look: Callable[[], bool], patience: float = 10.0) -> bool:
    """Whether it becomes true within this many seconds."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if look():
            return True
        time.sleep(0.02)
    return look()


def through_terminal(bench: Bench, argv: Sequence[str], *, inside: bool, keys: bytes = b"", options: Sequence[str] = ()) -> Outcome:
    """Run with a new pseudo-terminal as controlling terminal; ``keys`` are typed when READY is read."""
    if inside and CONTROLS_ONLY:
        pytest.skip("only controls were asked for")
    environment = bench.ordinary_environment()
    if inside:
        environment["PYTHONPATH"] = str(bench.identity.base / "src")
    command = [str(word) for word in bench.command(argv, inside=inside, options=options)]
    child, master = pty.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever runs the tests in the background ignores it, and that is inherited
            os.chdir(bench.stage.workspace)
            if os.geteuid() == 0 and bench.identity.uid != 0:
                os.fchown(0, bench.identity.uid, -1)
                os.setgroups([])
                os.setgid(bench.identity.gid)
                os.setuid(bench.identity.uid)
            os.execvpe(command[0], command, environment)
        finally:
            os._exit(99)
    said, typed, until = b"", not keys, time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if not select.select([master], [], [], 0.2)[0]:
            continue
        try:
            chunk = os.read(master, 65536)
        except OSError as ended:
            if ended.errno != errno.EIO:
                raise
            break
        if not chunk:
            break
        said += chunk
        if not typed and b"READY" in said:
            os.write(master, keys)
            typed = True
    else:
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(master)
    return Outcome(status, said.decode(errors="replace"), "")


def install(base: Path, python: str) -> None:
    """Copy the package and the probes to where the identity can read them, whatever the checkout's own modes."""
    shutil.copytree(SOURCE, base / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copytree(HERE / "probes", base / "probes", ignore=shutil.ignore_patterns("__pycache__"))
    for place in ("src", "probes"):
        subprocess.run([python, "-m", "compileall", "-q", str(base / place)], check=True, cwd="/")
    subprocess.run(["chmod", "-R", "a+rX", str(base / "src"), str(base / "probes")], check=True)
