"""Process 1 of the sandbox. Born early from a small single-threaded parent, it asks the kernel what works, builds the
sandbox from the plan, starts the command, and from then on mediates, watches, reaps, and dies with everything inside.

It stays outside the commands' Landlock domain, so they can neither trace nor signal it, and it is not dumpable, so /proc
shows them nothing of it. Of its capabilities in the sandbox's user namespace it keeps two: to mount masks again
(CAP_SYS_ADMIN) and to read the arguments of calls it mediates (CAP_SYS_PTRACE).

Where it is not process 1 it is a child subreaper and ends everything below it itself. Where there are no mounts it lives in a
Landlock domain of its own, in which the command's is nested: what it does for others, it can do only where they may write.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import gc
import os
from errno import EINTR
from select import POLLIN, poll

from houseroom.enforce.linux import process_sys, seccomp_sys, wire
from houseroom.enforce.linux.build import Build
from houseroom.enforce.linux.command import become, enter_landlock
from houseroom.enforce.linux.mediate import Mediator
from houseroom.enforce.linux.memory_sys import wipe_own_words
from houseroom.enforce.linux.streams import make_input_read_only
from houseroom.enforce.linux.watch import Watcher
from houseroom.errors import SetupFailed
from houseroom.plan import steps as plan
from houseroom.plan.syscalls import numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import NoReturn

    from houseroom.enforce.linux.command import Order

_KEPT = (process_sys.CAP_SYS_ADMIN, process_sys.CAP_SYS_PTRACE)
_IDLE_BEFORE_WALK = 2  # milliseconds: a command that ends at once never pays for watching
_BUSY_TURNS = 64  # between mediated calls the walk goes on too
_RETRY = 5  # milliseconds between tries of a call that would block


def live(control: int, ignored: tuple[int, ...]) -> NoReturn:
    """The life of init from its order on: never returns. ``control`` leads to the supervisor, its end is ours too.

    ``ignored`` are the signals that the caller of the supervisor had ignored; the command inherits that.
    """
    status = 1
    try:
        umask = os.umask(0)
        order = wire.receive(control)
        if order is not None:
            _sandbox(control, umask, ignored, order)
        status = 0
    except SetupFailed as failure:
        wire.send(control, ("failed", failure.doing, failure.subject, failure.errno or 0, failure.strerror or "", failure.hint))
    except OSError as error:
        wire.send(control, ("failed", "set up", "the sandbox", error.errno or 0, error.strerror or str(error)))
    except BaseException:
        import traceback  # ours to mend: shown whole, and the supervisor sees the stream end

        traceback.print_exc()
    finally:
        if os.getpid() != 1:
            process_sys.close_from(3)  # a command's process that waits to begin ends by itself; while we mount, /proc would not show it
            _below().end_all()
        os._exit(status)


def _sandbox(control: int, umask: int, ignored: tuple[int, ...], order: Order) -> None:
    steps = wire.unpack_steps(order["steps"])
    if os.getpid() != 1:
        _below().keep()
    for domain in wire.unpack_steps(order.get("domain", [])):
        assert isinstance(domain, plan.Landlock)
        process_sys.prctl(process_sys.PR_SET_NO_NEW_PRIVS, 1)
        enter_landlock(domain)
    alone = any(isinstance(step, plan.Namespaces) and step.network for step in steps)
    kind = Mediator if alone else _among_neighbours()  # nothing of ours may be importable any more once the view is built
    build = Build(steps)
    if any(isinstance(step, plan.Root) for step in steps):
        _make_input_read_only()  # while the host's own view is still there
        build.run()
    # The command's process is born into what was built; while it takes on its locks, all that needs no listener is made here.
    go, ready = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        os.close(control)
        os.close(go[1])
        become(order, steps, umask=umask, ignored=ignored, ready=ready[1], go=go[0])
    os.close(go[0])
    os.close(ready[1])
    namespaces = next((step for step in steps if isinstance(step, plan.Namespaces)), None)
    mediator, watcher = _attendants(steps, build, umask, kind)
    process = process_sys.pidfd_open(child)
    listener = _take_listener(process, ready[0])
    if mediator:
        mediator.listener = listener
    wipe_own_words()
    # Not before: the command's process, our copy, must be open to us until now. It is alone in the sandbox and not yet executed.
    process_sys.prctl(process_sys.PR_SET_DUMPABLE, 0)
    _lock_down(order["filters"].get("init"), keep=_KEPT if namespaces else ())
    wire.send(control, ("built",))
    if not os.read(control, 1):
        return  # the supervisor does not want it after all
    os.write(go[1], b"g")
    os.close(go[1])
    Loop(control, child, process, ready[0], mediator, watcher).run()


def _make_input_read_only() -> None:
    try:
        make_input_read_only()
    except OSError as error:
        hint = "Pass it through a pipe: cat FILE | houseroom run …"
        raise SetupFailed("pass on", "standard input", error.errno or 0, error.strerror or str(error), hint) from None


def _attendants(steps: tuple[plan.Step, ...], build: Build, umask: int, kind: type[Mediator]) -> tuple[Mediator | None, Watcher | None]:
    """Who answers the command's calls, and who keeps its masks."""
    mediate = next((step for step in steps if isinstance(step, plan.Mediate)), None)
    watch = next((step for step in steps if isinstance(step, plan.Watch)), None)
    mediator = kind(mediate, numbers(os.uname().machine), umask) if mediate else None
    watcher = Watcher(watch, build) if watch else None
    if mediator and watcher:
        mediator.made_fifos = watcher.made_inside
    return mediator, watcher


def _below() -> ModuleType:
    """Only an init that is not process 1 needs it."""
    from houseroom.enforce.linux import descendants

    return descendants


def _among_neighbours() -> type[Mediator]:
    from houseroom.enforce.linux.neighbours import AmongNeighbours

    return AmongNeighbours


def _take_listener(process: int, pipe: int) -> int:
    """The command's process says under which number it holds the listener, -1 for none. Raises SetupFailed as told."""
    said = os.read(pipe, 4096)
    if said[:1] != b"L":
        doing, subject, errno, words = [*said.decode("utf-8", "replace").split("\0"), "lock", "the command", "0", "it died"][:4]
        raise SetupFailed(doing, subject, int(errno), words)
    number = int(said[1:])
    if number < 0:
        return -1
    listener = process_sys.pidfd_getfd(process, number)
    seccomp_sys.wake_on_same_cpu(listener)
    return listener


def _lock_down(program: bytes | None, *, keep: tuple[int, ...]) -> None:
    held = process_sys.permitted()
    if held >> process_sys.CAP_SETPCAP & 1:
        process_sys.drop_bounding_set(keep=keep)
    process_sys.capset(held & sum(1 << capability for capability in keep))
    process_sys.prctl(process_sys.PR_SET_NO_NEW_PRIVS, 1)
    if program:
        seccomp_sys.install(program)


class Loop:
    """Waits for everything at once: calls to mediate, file events, the supervisor, the command's end, orphans."""

    def __init__(self, control: int, child: int, process: int, executed: int, mediator: Mediator | None, watcher: Watcher | None):
        self.control, self.child, self.process, self.executed = control, child, process, executed
        self.mediator, self.watcher = mediator, watcher
        self.status: int | None = None
        self.told = self.walking = self.heard = False

    def run(self) -> None:
        """Until the command or the supervisor ends."""
        gc.enable()  # switched off for the start; a sandbox may live for days
        _signal.signal(_signal.SIGCHLD, self._reap)
        waiting = poll()
        actions = {self.control: self._hear_supervisor, self.process: self._reap, self.executed: self._hear_exec}
        if self.mediator and self.mediator.listener >= 0:
            actions[self.mediator.listener] = self.mediator.serve
        if self.watcher:
            actions[self.watcher.queue] = self.watcher.hear
        for fd in actions:
            waiting.register(fd, POLLIN)
        turn = 0
        while self.status is None:
            ready = waiting.poll(self._patience())
            turn += 1
            for fd, _events in ready:
                if fd == self.executed:
                    waiting.unregister(fd)
                actions[fd]()
            if not ready or turn % _BUSY_TURNS == 0:
                self._idle()
        self._hear_exec()  # its end may have been noticed first
        self._end_everything()
        wire.send_status(self.control, wire.EXITED, self.status)

    def _end_everything(self) -> None:
        """No process of the sandbox is alive when its end is told: kill(2) of -1 reaches all but process 1."""
        if os.getpid() != 1:
            _below().end_all()  # in the host's pid namespace, -1 would be every process of the user
            return
        try:
            os.kill(-1, _signal.SIGKILL)
        except ProcessLookupError:
            return
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return

    def _patience(self) -> int | None:
        if self.mediator and self.mediator.waiting:
            return _RETRY
        if self.watcher and self.watcher.behind:
            return 0 if self.walking else _IDLE_BEFORE_WALK
        return None

    def _idle(self) -> None:
        if self.mediator and self.mediator.waiting:
            self.mediator.retry()
        if self.watcher and self.watcher.behind:
            self.walking = True
            self.watcher.walk()
            if self.watcher.incomplete and not self.told:
                self.told = True
                wire.send_status(self.control, wire.UNWATCHED, 0)

    def _reap(self, *_signal_arguments: object) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            except OSError as error:
                if error.errno == EINTR:
                    continue
                raise
            if pid == 0:
                return
            if pid == self.child:
                self.status = status

    def _hear_supervisor(self) -> None:
        said = os.read(self.control, 1)
        if not said:
            self._end_everything()
            os._exit(0)  # the supervisor is gone: so are we, and with us everything inside
        os.kill(self.child, said[0])

    def _hear_exec(self) -> None:
        """The pipe closes when the command's program has started; it carries an errno when it could not."""
        said = b"" if self.heard else os.read(self.executed, 16)
        self.heard = True
        if said:
            wire.send_status(self.control, wire.NOT_EXECUTED, int(said))
