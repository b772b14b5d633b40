"""Process 1 of the sandbox. Born early from a small single-threaded parent, it asks the kernel what works, builds the
sandbox from the plan, starts the command, or a session's first starter (``household``), and from then on mediates, watches,
reaps, and dies with everything inside.

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
import _socket
import gc
import os
from errno import EINTR, EIO
from select import POLLHUP, POLLIN, poll

from houseroom.bundle import hold, seal
from houseroom.enforce.linux import process_sys, seccomp_sys, wire
from houseroom.enforce.linux.build import Build
from houseroom.enforce.linux.command import become, enter_landlock
from houseroom.enforce.linux.launch import LATER
from houseroom.enforce.linux.words_sys import wipe_own_words
from houseroom.errors import SetupFailed
from houseroom.plan import steps as plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import NoReturn

    from houseroom.enforce.linux.command import Order
    from houseroom.enforce.linux.mediate import Mediator
    from houseroom.enforce.linux.observe import Observer
    from houseroom.enforce.linux.tally import Tally
    from houseroom.enforce.linux.watch import Watcher

_KEPT = (process_sys.CAP_SYS_ADMIN, process_sys.CAP_SYS_PTRACE)
_UNTIL_WATCH = 5  # milliseconds of quiet: a command that ends at once never pays for watching
_BUSY_TURNS = 64  # between mediated calls the walk goes on too
_RETRY = 1  # milliseconds between tries of a call that would block


def live(control: int, ignored: tuple[int, ...]) -> NoReturn:
    """The life of init from its order on: never returns. ``control`` leads to the supervisor, its end is ours too.

    ``ignored`` are the signals that the caller of the supervisor had ignored; the command inherits that.
    """
    status = 1
    try:
        umask = os.umask(0)
        order = wire.receive(control)
        if order is not None:
            hold(LATER)
            kind = OneCommand if "argv" in order else _of_a_session()
            kind(control, umask, ignored, order).live()
        status = 0
    except SetupFailed as failure:
        wire.send(control, ("failed", failure.doing, failure.subject, failure.errno or 0, failure.strerror or "", failure.hint))
    except OSError as error:
        wire.send(control, ("failed", "set up", "the sandbox", error.errno or 0, error.strerror or str(error)))
    except BaseException:
        sys.__excepthook__(*sys.exc_info())  # ours to mend: shown whole, and the supervisor sees the stream end
    finally:
        if os.getpid() != 1:
            process_sys.close_from(3)  # a command's process that waits to begin ends by itself; while we mount, /proc would not show it
            _below().end_all()
        os._exit(status)


class Init:
    """One sandbox from its plan to its end; what is common to one command and to a session."""

    def __init__(self, control: int, umask: int, ignored: tuple[int, ...], order: Order):
        self.control, self.umask, self.ignored, self.order = control, umask, ignored, order
        self.steps = wire.unpack_steps(order["steps"])
        self.build = Build(self.steps, order.get("authorities", b""))
        self.child = -1  # the command's process, or the first starter
        self.listener = -1  # of the calls that are mediated
        self.mediator: Mediator | None = None  # from the first of them on
        self.observer: Observer | None = None
        self.made_fifos: set[tuple[int, int]] = set()  # by the mediator for commands: the watcher leaves them alone
        self.watching = True  # whether there is something to keep masks from
        self.watcher: Watcher | None = None
        self.told = self.walking = False
        self.waiting = poll()
        self.tally: Tally | None = None
        self.noticed = os.WNOHANG  # what of its children it hears, as waitpid(2) has it

    def live(self) -> None:
        """Build, start, and wait for everything at once until the supervisor, or what was started, ends."""
        self._surround()
        counting = next((step for step in self.steps if isinstance(step, plan.Tally)), None)
        tally = _tally() if counting else None
        if any(isinstance(step, plan.Root) for step in self.steps):
            _make_input_read_only()  # while the host's own view is still there
            self.build.run()
        wipe_own_words()
        seal()  # the view is built
        if process_sys.permitted() >> process_sys.CAP_SETPCAP & 1:
            process_sys.drop_bounding_set()  # for whatever descends from here too
        line = self._bear()
        # While the new process takes on its locks. It is alone in the sandbox until it is told to go.
        process_sys.prctl(process_sys.PR_SET_DUMPABLE, 0)
        namespaces = any(isinstance(step, plan.Namespaces) for step in self.steps)
        _lock_down(self.order["filters"].get("init"), keep=_KEPT if namespaces else ())
        self.listener = _take_listener(line)
        wire.send(self.control, ("built",))
        for listener in self.build.listeners:
            wire.send_descriptor(self.control, listener)
            os.close(listener)
        self._pass_on()
        if wire.hear(self.control) != (wire.GO, 0, 0):
            return  # the supervisor does not want it after all
        line.send(b"g")
        if tally and counting:
            self.tally = tally(counting, None if os.getpid() == 1 else _all_below)
        try:
            self._wait()
        except OSError as error:  # from now on the supervisor reads nothing but frames
            wire.send_status(self.control, wire.BROKEN, error.errno or EIO)

    def _surround(self) -> None:
        """What only an init below the highest rung needs."""
        if os.getpid() != 1:
            _below().keep()
        for domain in wire.unpack_steps(self.order.get("domain", b"")):
            assert isinstance(domain, plan.Landlock)
            process_sys.prctl(process_sys.PR_SET_NO_NEW_PRIVS, 1)
            enter_landlock(domain)

    def _bear(self) -> _socket.socket:
        """Fork the process that everything inside descends from; the socket is our line to it."""
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self.child = os.fork()
        if self.child == 0:
            try:
                os.close(self.control)
                ours.close()
                self._begin(theirs)
            finally:
                os._exit(1)
        process_sys.move_away(self.child)
        theirs.close()
        return ours

    def _begin(self, line: _socket.socket) -> NoReturn:
        """In the new process: lock, wait for the word to go, and become what it is for."""
        raise NotImplementedError

    def _pass_on(self) -> None:
        """Give the supervisor what it needs to talk to what was started."""

    def _wait(self) -> None:
        gc.freeze()  # what the start made lives as long as we do
        gc.enable()  # switched off for the start; a sandbox may live for days
        _signal.signal(_signal.SIGCHLD, self._reap)
        self._reap()  # of what came before nobody heard
        for fd in self._sources():
            self.waiting.register(fd, POLLIN)
        turn = 0
        while not self._over():
            ready = self.waiting.poll(self._patience())
            turn += 1
            for fd, events in ready:
                self._act(fd, events)
            if not ready or turn % _BUSY_TURNS == 0:
                self._idle()
            if self.tally and not self.tally.due():
                self._count(self.tally)

    def _count(self, tally: Tally) -> None:
        over = tally.look()
        if over and tally.relieve():
            wire.notify(self.control, wire.LIMIT, tally.kinds.index(over))

    def _sources(self) -> list[int]:
        return [self.control, *([self.listener] if self.listener >= 0 else [])]

    def _act(self, fd: int, events: int) -> None:
        if fd == self.control:
            self._hear_supervisor()
        elif fd == self.listener:
            if events & POLLIN:
                self._mediate().serve()
            elif events & POLLHUP:  # every process under this filter is gone (seccomp_unotify(2))
                self.waiting.unregister(fd)
                os.close(fd)
                self.listener, self.mediator = -1, None
        elif self.watcher and fd == self.watcher.queue:
            self.watcher.hear()
        else:
            self._reap()

    def _over(self) -> bool:
        raise NotImplementedError

    def _obey(self, kind: int, number: int, more: int) -> None:
        """What the supervisor tells."""
        raise NotImplementedError

    def _ended(self, pid: int, status: int) -> None:
        """A child has ended: ours, or an orphan."""
        raise NotImplementedError

    def _whose(self, _pid: int) -> int:
        """Which command a process belongs to, for the observer's notes."""
        return 0

    def _tell_notes(self, command: int = 0) -> None:
        wire.send_notes(self.control, self.observer.take(command) if self.observer else b"")

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
        work = self._until_work()
        look = self.tally.due() if self.tally else None
        return work if look is None or (work is not None and work < look) else look

    def _until_work(self) -> int | None:
        if self.mediator and self.mediator.waiting:
            return _RETRY
        if self._behind():
            return 0 if self.walking else _UNTIL_WATCH
        return None

    def _behind(self) -> bool:
        """Whether there is still something to begin to watch."""
        return self.watcher.behind if self.watcher else self.watching

    def _idle(self) -> None:
        if self.mediator and self.mediator.waiting:
            self.mediator.retry()
        if self._behind():
            self._watch()

    def _mediate(self) -> Mediator:
        """Who answers the commands' calls, made when there is the first one: many a command makes none."""
        if self.mediator is None:
            from houseroom.enforce.linux import attending

            self.mediator = attending.mediator(self.steps, self.build, self.umask, self.listener, self.made_fifos)
            self.observer = self.mediator.observer = attending.observer(self.steps, self._whose)
        return self.mediator

    def _watch(self) -> None:
        """Begin to keep masks in place, or go on with that."""
        if not self.walking:
            from houseroom.enforce.linux import attending

            self.walking, self.watching = True, False
            try:
                self.watcher = attending.watcher(self.steps, self.build, self.made_fifos)
            except OSError:  # the user's other sandboxes hold all the queues there may be (fs.inotify.max_user_instances)
                self.told = True
                wire.notify(self.control, wire.UNWATCHED, 0)
            if self.watcher:
                self.waiting.register(self.watcher.queue, POLLIN)
        if self.watcher:
            self.watcher.walk()
            if self.watcher.incomplete and not self.told:
                self.told = True
                wire.notify(self.control, wire.UNWATCHED, 0)

    def _reap(self, *_signal_arguments: object) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, self.noticed)
            except ChildProcessError:
                return
            except OSError as error:
                if error.errno == EINTR:
                    continue
                raise
            if pid == 0:
                return
            self._ended(pid, status)

    def _hear_supervisor(self) -> None:
        said = wire.hear(self.control)
        if said is None:
            self._leave()  # the supervisor is gone: so are we, and with us everything inside
        self._obey(*said)

    def _leave(self) -> NoReturn:
        """The end of the stream tells a waiting supervisor that nothing is alive; our own end takes the kernel ten times as long."""
        self._end_everything()
        os.close(self.control)
        os._exit(0)


class OneCommand(Init):
    """The sandbox of one command, which the first process inside becomes."""

    def __init__(self, control: int, umask: int, ignored: tuple[int, ...], order: Order):
        super().__init__(control, umask, ignored, order)
        self.status: int | None = None
        self.heard = False
        self.outer = self.inner = -1  # of the command's own terminal
        self.terminal = _terminals() if "terminal" in order else None
        self.streams = {number: wire.receive_descriptor(control) for number in order.get("streams", {})}

    def _surround(self) -> None:
        if "domain" in self.order:  # which lets nobody open the host's terminals
            self._open_terminal()
        super()._surround()

    def _open_terminal(self) -> None:
        if self.terminal and self.outer < 0:
            self.noticed |= os.WUNTRACED
            self.outer, path = self.terminal.open_pair(self.order["terminal"][:2])
            self.inner = self.terminal.take_control(self.terminal.open_inner(path))

    def _bear(self) -> _socket.socket:
        self._open_terminal()
        self.line = super()._bear()
        for descriptor in self.streams.values():
            os.close(descriptor)
        return self.line

    def _begin(self, line: _socket.socket) -> NoReturn:
        for number, descriptor in self.streams.items():
            os.dup2(descriptor, number)
        become(self.order, self.steps, line, umask=self.umask, ignored=self.ignored, settle=self._settle)

    def _settle(self) -> None:
        if self.terminal:
            self.terminal.step_forward(self.inner, self.order["terminal"][2])

    def _pass_on(self) -> None:
        if self.outer >= 0:
            wire.send_descriptor(self.control, self.outer)
            os.close(self.outer)

    def _wait(self) -> None:
        process = process_sys.pidfd_open(self.child)
        self.waiting.register(process, POLLIN)  # its end wakes us; _reap says which it was
        super()._wait()
        self._hear_exec()  # its end may have been noticed first
        self._end_everything()
        if self.inner >= 0:
            os.close(self.inner)  # the last one: who reads at the outer end meets the end of it
        assert self.status is not None
        if self.observer:
            self._tell_notes()
        wire.send_status(self.control, wire.EXITED, self.status)

    def _sources(self) -> list[int]:
        return [self.line.fileno(), *super()._sources()]

    def _act(self, fd: int, events: int) -> None:
        if fd == self.line.fileno():
            self.waiting.unregister(fd)
            self._hear_exec()
            return
        super()._act(fd, events)

    def _over(self) -> bool:
        return self.status is not None

    def _ended(self, pid: int, status: int) -> None:
        if pid != self.child:
            return
        if os.WIFSTOPPED(status):
            wire.send_status(self.control, wire.STOPPED, os.WSTOPSIG(status))
        else:
            self.status = status

    def _obey(self, kind: int, number: int, more: int) -> None:
        if kind == wire.NOTES:
            self._tell_notes()
        elif more == 0 and kind in (wire.SIGNAL, wire.SIGNAL_GROUP):
            try:
                os.kill(self.child if kind == wire.SIGNAL else -self.child, number)
            except OSError:
                return  # it has just ended, or there is no such signal

    def _hear_exec(self) -> None:
        """The line closes when the command's program has started; it carries an errno when it could not."""
        said = b"" if self.heard else self.line.recv(16)
        self.heard = True
        if said:
            wire.send_status(self.control, wire.NOT_EXECUTED, int(said))


def _make_input_read_only() -> None:
    from houseroom.enforce.linux.streams import make_input_read_only

    try:
        make_input_read_only()
    except OSError as error:
        hint = "Pass it through a pipe: cat FILE | houseroom run …"
        raise SetupFailed("pass on", "standard input", error.errno or 0, error.strerror or str(error), hint) from None


def _tally() -> type[Tally]:
    """Only a sandbox whose memory or number of processes no control group limits needs it; the view is not built yet."""
    from houseroom.enforce.linux.tally import Tally

    return Tally


def _all_below() -> list[int]:
    return list(_below().below(os.getpid()))


def _below() -> ModuleType:
    """Only an init that is not process 1 needs it."""
    from houseroom.enforce.linux import descendants

    return descendants


def _terminals() -> ModuleType:
    from houseroom.enforce.linux import terminal_sys

    return terminal_sys


def _of_a_session() -> type[Init]:
    from houseroom.enforce.linux.household import Household

    return Household


def _take_listener(line: _socket.socket) -> int:
    """The listener that the new process hands over when it is locked, -1 for none. Raises SetupFailed as told."""
    said, ancillary, _flags, _address = line.recvmsg(4096, _socket.CMSG_SPACE(4))
    if said != b"L":
        doing, subject, errno, words = [*said.decode("utf-8", "replace").split("\0"), "lock", "the command", "0", "it died"][:4]
        raise SetupFailed(doing, subject, int(errno), words)
    for _level, _kind, content in ancillary:
        listener = int.from_bytes(content[:4], sys.byteorder)
        os.set_inheritable(listener, False)  # noqa: FBT003 — it takes no keyword
        seccomp_sys.wake_on_same_cpu(listener)
        return listener
    return -1


def _lock_down(program: bytes | None, *, keep: tuple[int, ...]) -> None:
    process_sys.capset(process_sys.permitted() & sum(1 << capability for capability in keep))
    process_sys.prctl(process_sys.PR_SET_NO_NEW_PRIVS, 1)
    if program:
        seccomp_sys.install(program)
