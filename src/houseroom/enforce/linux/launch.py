"""The supervisor's side: init is born before anything is decided, tells what works, and is then given a plan and a command."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import _socket
import os
from select import POLLIN, poll
from time import monotonic

from houseroom.enforce.linux import landlock_sys, process_sys, seccomp_sys, wire
from houseroom.errors import SetupFailed
from houseroom.plan.facts import Host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from houseroom.enforce.linux.command import Order
    from houseroom.plan.steps import Plan, Step

# Passed on to the command. A terminal's own signals reach it anyway, since it is in the same process group.
FORWARDED = (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGUSR1, _signal.SIGUSR2)
FROM_TERMINAL = (_signal.SIGINT, _signal.SIGQUIT)


class Ended:
    """How a command ended: ``kind`` is exited, signalled, timed-out or not-started; ``number`` the status, signal or errno."""

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
        os.dup2(inner, 3, inheritable=False)
        process_sys.close_from(4)
        if os.getpid() == 1:  # any other init must live on to end what is below it; it hears of its supervisor's end
            process_sys.prctl(process_sys.PR_SET_PDEATHSIG, _signal.SIGKILL)
        wire.send(3, self._ask())
        # Imported here, while the supervisor looks at the files on another processor.
        from houseroom.enforce.linux import init

        init.live(3, ignored)

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
        host = Host(name.release, name.machine, self.uid, self.gid, landlock_abi=landlock_sys.abi(), seccomp=seccomp, notify=notify)
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
        try:
            wire.send(self.control, {**order, **packed})
        except OSError as error:
            raise SetupFailed("start", "the sandbox", error.errno or 0, "its init died early", "Run `houseroom doctor`.") from None

    def _send(self, steps: Sequence[Step], order: Order) -> None:
        self.start_packed(wire.pack(tuple(steps), os.uname().machine), order)

    def wait(self, seconds: float | None) -> Ended:
        """Until the command has ended, or its time is up. Raises SetupFailed when it never began."""
        waiting = poll()
        waiting.register(self.control, POLLIN)
        end = None if seconds is None else monotonic() + seconds
        failed = unwatched = 0
        while True:
            left = None if end is None else max(0, int((end - monotonic()) * 1000))
            if not waiting.poll(left):
                return Ended("timed-out", 0)
            status = wire.receive_status(self.control)
            match status:
                case (wire.NOT_EXECUTED, number):
                    failed = number
                case (wire.UNWATCHED, _):
                    unwatched = 1
                case (wire.EXITED, number) if failed:
                    return Ended("not-started", failed)
                case (wire.EXITED, number) if os.WIFSIGNALED(number):
                    return Ended("signalled", os.WTERMSIG(number), unwatched=bool(unwatched))
                case (wire.EXITED, number):
                    return Ended("exited", os.waitstatus_to_exitcode(number), unwatched=bool(unwatched))
                case _:
                    raise SetupFailed("keep", "the sandbox", 0, "its init was killed")

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
        """The command may begin. Raises SetupFailed where init is gone."""
        try:
            wire.tell(self.control, wire.GO)
        except OSError as error:
            raise SetupFailed("start", "the command", error.errno or 0, "its init died early", "Run `houseroom doctor`.") from None

    def forward_signals(self) -> None:
        """From now on signals to the supervisor are the command's; what the terminal sends reaches it by itself."""
        foreground = _in_foreground()
        for number in FORWARDED if foreground else (*FORWARDED, *FROM_TERMINAL):
            if _signal.getsignal(number) != _signal.SIG_IGN:
                _signal.signal(number, lambda which, _frame: self.signal(which))
        if foreground:
            for number in FROM_TERMINAL:
                _signal.signal(number, _signal.SIG_IGN)

    def signal(self, number: int) -> None:
        """Send a signal to the command."""
        try:
            wire.tell(self.control, wire.SIGNAL, number)
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

    def __enter__(self) -> Cradle:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def _in_foreground() -> bool:
    """Whether a terminal's Ctrl-C reaches us and the command alike."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False
