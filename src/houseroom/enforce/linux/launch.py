"""The supervisor's side: init is born before anything is decided, tells what works, and is then given a plan and a command."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import _socket
import os
from select import POLLIN, poll
from time import monotonic

from houseroom.bundle import hold
from houseroom.enforce.linux import landlock_sys, process_sys, seccomp_sys, wire
from houseroom.errors import SetupFailed
from houseroom.plan.facts import Host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from houseroom.enforce.linux.cgroup import Group
    from houseroom.enforce.linux.command import Order
    from houseroom.plan.steps import Plan, Step

# What init imports before it builds, and what it imports once commands run (``attending``), when files may be out of its sight.
_SOON = (
    "plan.steps",
    "plan.landlock",
    *(f"enforce.linux.{name}" for name in ("asking", "mount_sys", "limits_sys", "build", "command", "words_sys", "streams", "init")),
)
LATER = tuple(
    f"houseroom.{name}"
    for name in (
        *("policy.model", "policy.pattern", "policy.verdicts", "policy.observation", "plan.repository", "plan.syscalls", "plan.egress"),
        *(
            f"enforce.linux.{name}"
            for name in ("socket_sys", "memory_sys", "inotify_sys", "borrowed", "names", "mediate", "watch", "outward")
        ),
        *(f"enforce.linux.{name}" for name in ("descendants", "neighbours", "attending", "observed", "observe")),
    )
)
INIT = (*(f"houseroom.{name}" for name in _SOON), *LATER)

# Passed on to the command. A terminal's own signals reach it anyway, since it is in the same process group.
FORWARDED = (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGUSR1, _signal.SIGUSR2)
FROM_TERMINAL = (_signal.SIGINT, _signal.SIGQUIT)
_PATIENCE = 200  # milliseconds with an init whose command's time is up


class Ended:
    """How a command ended: ``kind`` is exited, signalled, timed-out or not-started; ``number`` the status, signal or errno.

    In a terminal of its own it may also be stopped, by a signal, and go on later; hung-up is one whose user's terminal has gone.
    """

    def __init__(self, kind: str, number: int, *, unwatched: bool = False):
        self.kind, self.number, self.unwatched = kind, number, unwatched


class Cradle:
    """A process in fresh namespaces that waits for its plan. ``reason`` says why there is none ("" where there is).

    For the rungs below, and where a fresh /proc can't be had, ``lower.fitting`` has other cradles.
    """

    def __init__(self) -> None:
        self._bear(process_sys.CLONE_NEWUSER | process_sys.CLONE_NEWPID)

    def _bear(self, namespaces: int) -> None:
        self.pid = self.control = -1
        self.reason = ""
        self.facts: dict[str, str] | None = None
        self.group: Group | None = None
        self.limited: dict[tuple[str, str], int] = {}  # what init has told of limits
        self.failed, self.unwatched = 0, False  # what init has told of the command before its end
        self.notes, self.noted = b"", False  # what it noted of it, for ``observed.read``, and whether it has said so
        self.uid, self.gid = os.getuid(), os.getgid()
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self.control, inner = ours.detach(), theirs.detach()
        ignored = tuple(number for number in range(1, 32) if _signal.getsignal(number) == _signal.SIG_IGN)
        ignored = tuple(number for number in ignored if number not in (_signal.SIGPIPE, _signal.SIGXFSZ))  # the interpreter's own doing
        try:
            pid = process_sys.clone(namespaces)
        except OSError as error:
            os.close(inner)
            self.reason = error.strerror or str(error)
            return
        if pid == 0:
            self._begin(inner, ignored)
        process_sys.move_away(pid)
        os.close(inner)
        self.pid = pid

    def _begin(self, inner: int, ignored: tuple[int, ...]) -> None:
        """In the new process."""
        try:
            for number in (*FORWARDED, *FROM_TERMINAL):
                _signal.signal(number, _signal.SIG_IGN)
            self._become_init(inner, ignored)
        finally:
            os._exit(1)

    def _become_init(self, inner: int, ignored: tuple[int, ...]) -> None:
        process_sys.close_except(3, inner, *hold(INIT))
        if os.getpid() == 1:  # any other init must live on to end what is below it; it hears of its supervisor's end
            process_sys.prctl(process_sys.PR_SET_PDEATHSIG, _signal.SIGKILL)
        wire.send(inner, self._ask())
        # Imported here, while the supervisor looks at the files on another processor.
        from houseroom.enforce.linux import init

        init.live(inner, ignored)

    def _ask(self) -> dict[str, str]:
        """What init is to find out first."""
        from houseroom.enforce.linux import asking

        return asking.ask_the_kernel(self.uid, self.gid)

    def _answers(self) -> dict[str, str]:
        """What init has found out, waiting for it."""
        if self.facts is None:
            self.facts = wire.receive(self.control) if self.pid > 0 else None
        return self.facts if self.facts is not None else {"namespaces": self.reason or "init died"}

    def host(self, wanted: str = "") -> Host:
        """The facts of this host, waiting for init to have tried what must be tried, and with what a wanted rung needs."""
        name = os.uname()
        seccomp, notify = seccomp_sys.refusals()
        abi, diagnosis = landlock_sys.abi(), _diagnosis()
        host = Host(name.release, name.machine, self.uid, self.gid, landlock_abi=abi, seccomp=seccomp, notify=notify, sock_diag=diagnosis)
        answers = self._answers()
        if "icrosoft" in name.release:  # "-Microsoft" names WSL 1, "-microsoft-standard-WSL2" the Linux kernel of WSL 2
            host = host.with_(wsl=1 if name.release.endswith("-Microsoft") else 2)
        if answers.get("namespaces") or answers.get("mounts"):
            from houseroom.enforce.linux import lower

            return lower.ask(host, answers)
        if wanted == "bubblewrap":
            from houseroom.enforce.linux import lower

            host = host.with_(bubblewrap=lower.find_bubblewrap())
        return host.with_(**answers)

    def start(self, plan: Plan, order: Order) -> None:
        """Give init its plan and its command. Raises SetupFailed where it died before."""
        self._answers()
        self._send(plan.steps, order)

    def start_packed(self, packed: dict[str, object], order: Order) -> None:
        """The same with what ``wire.pack`` has packed, perhaps long ago."""
        for memory, processes in packed["group"]:  # type: ignore[attr-defined]  # one at most
            self._confine(memory, processes)
        try:
            wire.send(self.control, {**order, **packed})
            for descriptor in order.get("streams", {}).values():
                wire.send_descriptor(self.control, descriptor)
        except OSError as error:
            raise SetupFailed("start", "the sandbox", error.errno or 0, "its init died early", "Run `houseroom doctor`.") from None

    def _send(self, steps: Sequence[Step], order: Order) -> None:
        self.start_packed(wire.pack(tuple(steps), os.uname().machine), order)

    def _confine(self, memory: int, processes: int) -> None:
        """Put init, and with it all that will be inside, into a control group. Raises SetupFailed."""
        from houseroom.enforce.linux import cgroup

        self.group = cgroup.make(memory, processes)
        self.group.place(self.init)

    @property
    def init(self) -> int:
        """The process id of init."""
        return self.pid

    def hits(self) -> dict[tuple[str, str], int]:
        """What was done because of which limit, and how often: ("limits.memory", "ended"), ("limits.processes", "refused").

        Counted since the start; what ``hear`` has heard counts too. Also after the end.
        """
        return {**(self.group.hits() if self.group else {}), **self.limited}

    def wait(self, seconds: float | None) -> Ended:
        """Until the command has ended, or its time is up. Raises SetupFailed when it never began."""
        waiting = poll()
        waiting.register(self.control, POLLIN)
        end = None if seconds is None else monotonic() + seconds
        while True:
            left = None if end is None else max(0, int((end - monotonic()) * 1000))
            if not waiting.poll(left):
                return Ended("timed-out", 0)
            ended = self.hear()
            if ended:
                return ended

    def hear(self) -> Ended | None:
        """What init tells next of the command, waiting for it; None before its end. Raises SetupFailed where init is gone."""
        match wire.receive_status(self.control):
            case (wire.NOT_EXECUTED, number):
                self.failed = number
            case (wire.UNWATCHED, _):
                self.unwatched = True
            case (wire.LIMIT, number):
                self._count(number)
            case (wire.STOPPED, number):
                return Ended("stopped", number)
            case (wire.OBSERVED, length):
                self.notes, self.noted = wire.receive_notes(self.control, length), True
            case (wire.EXITED, number) if self.failed:
                return Ended("not-started", self.failed)
            case (wire.EXITED, number) if os.WIFSIGNALED(number):
                return Ended("signalled", os.WTERMSIG(number), unwatched=self.unwatched)
            case (wire.EXITED, number):
                return Ended("exited", os.waitstatus_to_exitcode(number), unwatched=self.unwatched)
            case (wire.BROKEN, number):
                raise SetupFailed("keep", "the sandbox", number, os.strerror(number), "Everything in it has been ended.")
            case _:
                raise SetupFailed("keep", "the sandbox", 0, "its init was killed")
        return None

    def _count(self, number: int) -> None:
        """init has ended processes because of a limit."""
        from houseroom.enforce.linux.tally import KINDS

        for key in KINDS[number : number + 1]:
            self.limited[key, "ended"] = self.limited.get((key, "ended"), 0) + 1

    def last_notes(self) -> None:
        """Ask init what it noted of a command that is about to be killed. Where it does not answer at once there are none."""
        waiting = poll()
        waiting.register(self.control, POLLIN)
        try:
            wire.tell(self.control, wire.NOTES)
            while not self.noted and waiting.poll(_PATIENCE) and self.hear() is None:
                pass
        except OSError:
            return  # it is gone

    def ready(self) -> None:
        """Wait until the sandbox is built. Raises SetupFailed naming the step that failed."""
        said = wire.receive(self.control)
        if said is None:
            raise SetupFailed("build", "the sandbox", 0, "init died without a word", "Run `houseroom doctor`.")
        if said[0] == "failed":
            raise SetupFailed(*said[1:])

    def descriptor(self) -> int:
        """What a ready sandbox passes on: the outer end of the command's terminal, or the way to a session's starters."""
        return wire.receive_descriptor(self.control)

    def go(self) -> None:
        """The command may begin as soon as its sandbox stands: ``ready`` says whether it does, and why not where init is gone."""
        try:
            wire.tell(self.control, wire.GO)
        except OSError:
            return

    def forward_signals(self) -> None:
        """From now on, ``ready``, signals to the supervisor are the command's; what the terminal sends reaches it by itself."""
        foreground = _in_foreground()
        for number in FORWARDED if foreground else (*FORWARDED, *FROM_TERMINAL):
            if _signal.getsignal(number) != _signal.SIG_IGN:
                _signal.signal(number, lambda which, _frame: self.signal(which))
        if foreground:
            for number in FROM_TERMINAL:
                _signal.signal(number, _signal.SIG_IGN)

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the command, or to its process group."""
        try:
            wire.tell(self.control, wire.SIGNAL_GROUP if group else wire.SIGNAL, number)
        except OSError:
            return  # it has just ended

    def moved(self, environment: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """The environment as the sandbox wants it once it stands."""
        return environment

    def release(self) -> int:
        """The way to init, which is the caller's from here on; ``end`` then only waits, or kills."""
        control, self.control = self.control, -1
        return control

    def part(self) -> None:
        """Let go of an init that has told the command's end: nothing is alive inside, and its namespaces take milliseconds
        to be taken down. Its remains are the caller's to reap, or the system's when the caller ends."""
        os.close(self.control)
        self.pid = self.control = -1
        self._disband()

    def end(self) -> None:
        """Kill whatever is left; with init dies everything inside (pid_namespaces(7))."""
        if self.pid > 0:
            try:
                os.kill(self.pid, _signal.SIGKILL)
                os.waitpid(self.pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
            self.pid = -1
        if self.control >= 0:
            os.close(self.control)
            self.control = -1
        self._disband()

    def _disband(self) -> None:
        if self.group:
            self.group.remove()

    def __enter__(self) -> Cradle:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def _diagnosis() -> str:
    """Why nobody can say which process a socket belongs to; "" where somebody can. The same inside and outside."""
    from houseroom.enforce.linux import socket_sys  # the supervisor has time for it while init asks the kernel

    try:
        socket_sys.try_diag()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _in_foreground() -> bool:
    """Whether a terminal's Ctrl-C reaches us and the command alike."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False
