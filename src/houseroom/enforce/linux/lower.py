"""The rungs below our own namespaces: what is asked of the host only then, and the cradles that stand on them.

Nothing here is imported where namespaces work.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import os

from houseroom.enforce.linux import process_sys, wire
from houseroom.enforce.linux.launch import Cradle
from houseroom.errors import SetupFailed
from houseroom.plan import bubblewrap, landlock
from houseroom.plan import steps as plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.enforce.linux.command import Order
    from houseroom.plan.facts import Host

_CONTROL, _OPTIONS, _INFO, _FIRST_EMPTY = 3, 4, 5, 6
_PATIENCE = 10  # seconds for a trial of bwrap
_YAMA = "/proc/sys/kernel/yama/ptrace_scope"

# In the sandbox that bwrap has built. The package's parent comes last, so nothing there stands in for the standard library.
_INIT = """
import sys
sys.path.append(sys.argv[1])
from houseroom.enforce.linux import init, wire
wire.send(int(sys.argv[2]), {})
init.live(int(sys.argv[2]), tuple(map(int, sys.argv[3:])))
"""


def ask(host: Host, answers: dict[str, str]) -> Host:
    """What a host without our namespaces can do instead."""
    facts = {name: answers.get(name) or "" for name in ("namespaces", "mounts")}
    unknown = facts["namespaces"] or facts["mounts"]
    return host.with_(
        **facts,
        proc=unknown,
        overlay=unknown,
        notify=host.notify or _no_looking(host.uid),
        bubblewrap=find_bubblewrap(),
    )


def _no_looking(uid: int) -> str:
    """Whether Yama lets init read its callers' arguments without a capability: ptrace_scope 2 does not, 3 lets nobody."""
    try:
        with open(_YAMA, "rb") as file:
            scope = int(file.read())
    except (OSError, ValueError):
        return ""
    if scope < 2 or (scope == 2 and uid == 0):
        return ""
    return f"kernel.yama.ptrace_scope is {scope}: init can't read its callers' arguments"


def find_bubblewrap() -> str:
    """The path of a bwrap that builds all that we ask of it; "" where there is none."""
    for directory in os.environ.get("PATH", "/usr/bin:/bin").split(":"):
        path = f"{directory}/bwrap"
        if directory[:1] == "/" and os.access(path, os.X_OK):
            return path if _starts(path) else ""
    return ""


def _starts(path: str) -> bool:
    import subprocess

    options = list(bubblewrap.arguments(bubblewrap.TRIAL, first=_FIRST_EMPTY))
    program = next((name for name in ("/bin/true", "/usr/bin/true") if os.access(name, os.X_OK)), "/proc/self/exe")
    empty = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for number in bubblewrap.descriptors(options):
            options[options.index(str(number))] = str(empty)
        done = subprocess.run([path, *options, "--", program], pass_fds=(empty,), capture_output=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    finally:
        os.close(empty)
    return done.returncode == 0


def fitting(begun: Cradle, made: plan.Plan, host: Host) -> Cradle:
    """A cradle that a plan can be carried out in: the one begun, or another that takes its place."""
    namespaces = next((step for step in made.steps if isinstance(step, plan.Namespaces)), None)
    if made.rung == "namespaces" and namespaces and namespaces.pid:
        return begun
    begun.end()
    if made.rung == "bubblewrap":
        return Wrapped(made, host.bubblewrap)
    return Shared() if namespaces else Bare()


class _Reaping(Cradle):
    """An init that shares the host's process ids and ends everything below itself when it hears of our end."""

    def end(self) -> None:
        """Let init end what it has; with the stream it hears of it."""
        if self.control >= 0:
            os.close(self.control)
            self.control = -1
        if self.pid > 0:
            process_sys.reap(self.pid)
            self.pid = -1
        self._disband()


class Shared(_Reaping):
    """All namespaces but that of process ids: where a fresh /proc can't be mounted."""

    def __init__(self) -> None:
        self._bear(process_sys.CLONE_NEWUSER)

    def start(self, made: plan.Plan, order: Order) -> None:
        """As above. Raises SetupFailed where these namespaces are refused though those with process ids were not."""
        answers = {"namespaces": self.reason} if self.reason else self._answers()
        for name in ("namespaces", "mounts"):
            if answers.get(name):
                raise SetupFailed("make", f"{name} without process ids of their own", 0, answers[name])
        super().start(made, order)


class Bare(_Reaping):
    """An ordinary child process: no namespaces, no mounts, only Landlock, system call filters and mediation.

    The sandbox has a directory of its own for temporary files, which ``TMPDIR`` names, in place of a private /tmp.
    """

    def __init__(self) -> None:
        self.scrap = ""
        self._bear(0)

    def _ask(self) -> dict[str, str]:
        return {}

    def start(self, made: plan.Plan, order: Order) -> None:
        """Give init its plan, with the directory that did not exist when the plan was made."""
        self._answers()
        self.scrap = f"/tmp/houseroom-{os.urandom(8).hex()}"
        os.mkdir(self.scrap, 0o700)
        own: Order = {**order}
        if "environment" in order:
            own["environment"] = self.moved(order["environment"])
        steps = [
            step.with_(rules=(*step.rules, (self.scrap, landlock.FULL))) if isinstance(step, plan.Landlock) else step for step in made.steps
        ]
        own["domain"] = wire.pack_steps(
            tuple(step.with_(rules=landlock.for_init(step.rules)) for step in steps if isinstance(step, plan.Landlock))
        )
        self._send(steps, own)

    def moved(self, environment: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """Temporary files and caches that would lie in the private /tmp lie in the directory."""
        from houseroom.policy.caches import CACHES

        moved = dict(environment)
        for name in (b"TMPDIR", b"TEMP", b"TMP"):
            moved[name] = self.scrap.encode()
        for _path, variable, _sign, _reason in CACHES:
            value = moved.get(variable.encode(), b"")
            if value.startswith(b"/tmp/"):
                moved[variable.encode()] = self.scrap.encode() + value[4:]
        return moved

    def part(self) -> None:
        """As above, and nobody uses the directory any more."""
        super().part()
        self._clear()

    def end(self) -> None:
        """As above, and remove the directory."""
        super().end()
        self._clear()

    def _clear(self) -> None:
        if self.scrap:
            from shutil import rmtree  # works by descriptor and follows no link

            rmtree(self.scrap, ignore_errors=True)
            self.scrap = ""


class Wrapped(Cradle):
    """An init that the system's bwrap starts, in namespaces and mounts that bwrap has made."""

    def __init__(self, made: plan.Plan, path: str):
        self.path = path
        self.inside = -1
        absent = {name for step in made.steps if isinstance(step, plan.Proc) for name in step.masked if not os.path.exists(f"/proc/{name}")}
        self.options = bubblewrap.arguments(made.steps, first=_FIRST_EMPTY, absent=absent)
        told, tell = os.pipe2(os.O_CLOEXEC)
        self.tell = tell
        try:
            self._bear(0)
            os.close(tell)
            self.inside = self._hear_pid(told)
        finally:
            os.close(told)

    @property
    def init(self) -> int:
        """What bwrap has started, not bwrap."""
        return self.inside

    def _hear_pid(self, pipe: int) -> int:
        said = b""
        while part := os.read(pipe, 4096):
            said += part
        return int("".join(filter(str.isdigit, said.decode().partition('"child-pid":')[2].partition(",")[0])) or -1)

    def _become_init(self, inner: int, ignored: tuple[int, ...]) -> None:
        """Become bwrap, which becomes init. Descriptors are moved out of the way before they get the numbers it is told."""
        import fcntl
        import sys

        numbers = list(bubblewrap.descriptors(self.options))
        above = max((_INFO, *numbers)) + 1
        options = os.memfd_create("options", os.MFD_CLOEXEC)
        os.write(options, b"\0".join(map(os.fsencode, (*self.options, ""))))
        os.lseek(options, 0, os.SEEK_SET)
        _raise_open_files(above + 16)
        sources = {_CONTROL: inner, _OPTIONS: options, _INFO: self.tell}
        sources = {number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for number, fd in sources.items()}
        empty = fcntl.fcntl(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), fcntl.F_DUPFD_CLOEXEC, above)
        for number, fd in {**sources, **dict.fromkeys(numbers, empty)}.items():
            os.dup2(fd, number)
        process_sys.close_from(above)
        package = os.path.realpath(__file__).rpartition("/houseroom/")[0]
        words = ["--args", str(_OPTIONS), "--info-fd", str(_INFO), "--", sys.executable, "-I", "-S", "-B", "-c", _INIT, package]
        os.execve(self.path, ["bwrap", *words, str(_CONTROL), *map(str, ignored)], {})

    def start(self, made: plan.Plan, order: Order) -> None:
        """Give init what bwrap has left to do."""
        if self._answers():
            raise SetupFailed("start", self.path, 0, "it ended before the sandbox was built", "What it said stands above.")
        self._send([step for step in made.steps if isinstance(step, bubblewrap.LEFT_TO_INIT)], order)

    def part(self) -> None:
        """As above; the descriptors of bwrap itself close with it."""
        super().part()
        self.inside = -1

    def end(self) -> None:
        """Kill process 1 of the sandbox, upon which bwrap ends; or bwrap where it never said which that is."""
        if self.inside > 0:
            try:
                os.kill(self.inside, _signal.SIGKILL)
                os.waitpid(self.pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
            self.inside = self.pid = -1
        super().end()


def _raise_open_files(wanted: int) -> None:
    from resource import RLIMIT_NOFILE, getrlimit, setrlimit

    soft, hard = getrlimit(RLIMIT_NOFILE)
    if soft < wanted:
        setrlimit(RLIMIT_NOFILE, (min(wanted, hard) if hard != -1 else wanted, hard))
