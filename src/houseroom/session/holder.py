"""The holder of a session: a background process that keeps its sandbox, and starts commands in it for whoever asks by name.

It is the supervisor of the sandbox: killed, it takes everything inside along. It has one thread and one loop and never waits for any
one of its clients or commands. What a client asks is carried out under the policy that the session began with: a client chooses
argv, directory, streams and variables, and of the variables the commands get what they would have got at the start.

A client that goes away before its command has ended takes along everything that the command ever started. What a command that ended
by itself has left running lives on until the session ends.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import _socket
import os
from select import POLLIN, poll
from time import monotonic, time

from houseroom.enforce.linux import frames, inotify_sys, terminal_sys, wire
from houseroom.enforce.linux.starters import Gone, readable
from houseroom.errors import SetupFailed
from houseroom.session import errands, sessions, telling
from houseroom.session.exchange import LINGER
from houseroom.session.held import NEVER, Client, Command, Loans, has_ended, plausible
from houseroom.session.session_limits import EXPIRES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from houseroom.enforce.linux.starters import Starter, Starters
    from houseroom.session.held import Terms
    from houseroom.session.sessions import Seat

_AT_ONCE = 1 << 17
_MSG_CMSG_CLOEXEC = 0x40000000
_CARRIER = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS)
_SPACE = _socket.CMSG_SPACE(4 * 3)
_SPARE_AFTER = 0.02  # seconds without anything to do until the next command's starter is made
_SPARES = 4  # starters kept after many commands at once
_LAST = 5.0  # seconds: for a starter to take a request, for everything inside to end
_ENDING = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP)
_INTERRUPTING = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT)
_IDLE = "idle"


class Holder:
    """The loop. ``end_sandbox`` kills what might be left of the sandbox, whatever happened."""

    def __init__(self, seat: Seat, starters: Starters, terms: Terms, end_sandbox: Callable[[], object]):
        self.seat, self.starters, self.terms, self.end_sandbox = seat, starters, terms, end_sandbox
        self.waiting = poll()
        seat.listener.listen(sessions.BACKLOG)  # again: now it is this process that a client sees at the other end (unix(7))
        self.clients: dict[int, Client] = {}  # by the descriptor of the connection
        self.queue: list[Command] = []  # that wait for a starter
        self.commands: dict[int, Command] = {}  # by the descriptor of the starter's socket
        self.endings: dict[int, Command] = {}  # by the number of the starter below which all is being ended
        self.free: list[Starter] = []
        self.spares = True  # whether the sandbox lets us have starters before they are needed
        self.noting: list[Command] = []  # of which init was asked what it noted, in that order
        self.unsettled: list[Command] = []  # that have ended, and whose output is still being passed on
        self.counted: list[Command] = []  # whose output has been passed on, or was too much; other threads add to it
        self.loans = Loans(wanted=terms.own_mounts)
        self.unwatched = False
        self.started = self.idle_since = monotonic()
        self.over = False
        self.stoppers: list[Client] = []
        self.bell = -1

    def live(self) -> None:
        """Until the session is idle for too long, has expired, is stopped, or its directory is taken away."""
        self.starters.tell_to_watch()
        listener, first = self.seat.listener.fileno(), self.starters.first.sock.fileno()
        wakes = self._hear_of_ends()
        bell, self.bell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)  # for other threads
        if self.terms.limits.output:
            self.loans.begin()
        for fd in (listener, first, self.starters.control, bell, *wakes):
            self.waiting.register(fd, POLLIN)
        try:
            while not self.over:
                ready = self.waiting.poll(self._patience())
                for fd, _events in ready:
                    if fd in self.commands:
                        self._hear_command(self.commands[fd])
                    elif fd in self.clients:
                        self._hear_client(self.clients[fd])
                    elif fd == listener:
                        self._welcome()
                    elif fd == self.starters.control:
                        self._hear_init()
                    elif fd == first:
                        self._hear_of_starter()
                    elif fd == bell:
                        self._hear_of_output(bell)
                    elif fd in wakes:
                        self.over = True
                self._look_at_clock(idle=not ready)
        finally:
            self._end()

    def _hear_of_ends(self) -> tuple[int, ...]:
        """Descriptors that become readable when somebody wants the session's end: by a signal, or by removing its directory."""
        hear, tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        _signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
        for number in _ENDING:
            _signal.signal(number, lambda _which, _frame: None)
        try:
            queue = inotify_sys.open_queue()
            inotify_sys.add_end(queue, os.fsencode(f"/proc/self/fd/{self.seat.directory}/."))
        except OSError:
            return (hear,)  # too many watches of the user's: then it ends with its idle time
        return hear, queue

    # Time

    def _ends(self) -> tuple[float, str]:
        """When the session ends by itself, by ``monotonic``, and what says so."""
        ends = (self.started + self.terms.expires, EXPIRES if self.terms.expires < NEVER else "")
        if self.commands or self.queue or self.endings or self.unsettled:
            return ends
        return min(ends, (self.idle_since + self.terms.idle, _IDLE))

    def _patience(self) -> float | None:
        """Milliseconds until something must be done."""
        until = [command.since + self.terms.time for command in self.commands.values()]
        left = min([self._ends()[0], *until, *(command.settled for command in self.unsettled)]) - monotonic()
        if self._wants_spare():
            left = min(left, _SPARE_AFTER)
        return None if left == NEVER else max(0.0, left * 1000 + 1)

    def _wants_spare(self) -> bool:
        return self.spares and not self.free and not self.starters.asked

    def _look_at_clock(self, *, idle: bool) -> None:
        now = monotonic()
        if now >= self._ends()[0]:
            self.over = True
        for command in list(self.commands.values()):
            if now >= command.since + self.terms.time:
                command.late = True
                self._end_below(command)
        for command in [command for command in self.unsettled if now >= command.settled]:
            self._settle(command)
        if idle and self._wants_spare():
            self._ask_for_starter()
        while len(self.free) > _SPARES:
            self.free.pop(0).close()

    # Clients

    def _welcome(self) -> None:
        fd, _address = self.seat.listener._accept()  # type: ignore[attr-defined]  # what socket.accept is made of
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
        if sessions.peer(sock) != os.geteuid():
            sock.close()
            return
        sock.setblocking(False)  # noqa: FBT003 — it takes no keyword
        self.clients[fd] = Client(sock)
        self.waiting.register(fd, POLLIN)
        self._hear_client(self.clients[fd])

    def _hear_client(self, client: Client) -> None:
        """Read what is there; carry out what is complete. A client that says what makes no sense is as good as gone."""
        try:
            data, ancillary, _flags, _address = client.sock.recvmsg(_AT_ONCE, _SPACE, _MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        for level, kind, content in ancillary:
            if (level, kind) == _CARRIER:
                client.received += [int.from_bytes(content[at : at + 4], sys.byteorder) for at in range(0, len(content) - 3, 4)]
        client.data += data
        try:
            if not data:
                raise ValueError("the end")
            while len(client.data) >= errands.HEAD:
                kind, length = errands.read_head(client.data[: errands.HEAD])
                if len(client.data) < errands.HEAD + length:
                    return
                body, client.data = client.data[errands.HEAD : errands.HEAD + length], client.data[errands.HEAD + length :]
                self._carry_out(client, kind, body)
        except ValueError:
            self._lose(client)

    def _carry_out(self, client: Client, kind: int, body: bytes) -> None:
        if kind == errands.RUN and not client.command:
            self._run(client, body)
        elif kind == errands.SIGNAL and client.command:
            self._signal(client.command, *errands.read_numbers(body)[:1])
        elif kind == errands.LOOK:
            self._say(client, errands.message(errands.FACTS, self._facts()))
        elif kind == errands.STOP:
            self.stoppers.append(client)
            self.over = True
        else:
            raise ValueError("not to be asked for")

    def _run(self, client: Client, body: bytes) -> None:
        argv, variables, cwd, targets, size = errands.read_run(body)
        if len(client.received) != len(targets):
            raise ValueError("descriptors that were not sent")
        if not self.loans.exchange(client.received):
            self._refuse(client, "can't pass on a file that can't be made read-only here", "Pass it through a pipe: cat FILE | …")
            return
        try:
            request = frames.start(argv, self.terms.environment(variables), cwd, targets, size)
        except ValueError as error:
            self._refuse(client, f"can't run {os.fsdecode(argv[0])}: {error}")
            return
        command = client.command = Command(client, argv, request, targets, terminal=size != (0, 0))
        if command.terminal and not self.terms.own_terminals:
            try:
                command.outer, path = terminal_sys.open_pair(size)
                client.received.append(terminal_sys.open_inner(path))
            except OSError as error:
                self._refuse(client, str(SetupFailed("open", "a terminal for the command", error.errno or 0, error.strerror or "")))
                return
        if self.terms.limits.output:
            try:
                command.count(client.received, self.terms.limits.output, self._ring)
            except OSError as error:
                self._refuse(client, f"can't count what the command prints: {error}")
                return
        self.queue.append(command)
        self._serve_queue()

    def _signal(self, command: Command, number: int = 0) -> None:
        if number in _INTERRUPTING:
            command.interrupted = True  # then what the command leaves behind is not wanted either
        if command.pid:
            self.starters.signal(command.pid, number, group=True)
        else:
            command.signals.append(number)

    def _lose(self, client: Client) -> None:
        """A client has gone: so does its command with everything below."""
        self._part(client)
        command, client.command = client.command, None
        if command:
            command.client = None
            if command in self.queue:
                self.queue.remove(command)
                command.close_outer()
            elif command in self.commands.values():
                self._end_below(command)

    def _part(self, client: Client) -> None:
        fd = client.sock.fileno()
        if fd in self.clients:
            self.waiting.unregister(fd)
            del self.clients[fd]
        client.sock.close()
        _close_all(client.received)

    def _say(self, client: Client | None, message: bytes, descriptor: int = -1) -> None:
        """Tell a client something. One that does not read it is as good as gone."""
        if client is None:
            return
        rights = [(*_CARRIER, descriptor.to_bytes(4, sys.byteorder))] if descriptor >= 0 else []
        try:
            if client.sock.sendmsg([message], rights) == len(message):
                return
        except OSError:
            pass
        self._lose(client)

    def _refuse(self, client: Client | None, words: str, hint: str = "") -> None:
        self._say(client, errands.message(errands.REFUSED, f"{words}\0{hint}".encode("utf-8", "backslashreplace")))
        if client:
            self._part(client)

    def _facts(self) -> bytes:
        now, wall = monotonic(), time()
        ends, by = self._ends()
        running = (*self.commands.values(), *self.queue)
        return self.terms.told(
            running,
            started=wall - (now - self.started),
            ends=None if ends == NEVER else wall + (ends - now),
            ends_by=by,
            idle_for=0 if running else now - self.idle_since,
            unwatched=self.unwatched,
        )

    # Commands

    def _serve_queue(self) -> None:
        while self.queue and self.free:
            command, starter = self.queue[0], self.free.pop()
            client = command.client
            assert client
            try:
                command.before = self.terms.limits.hits()
                starter.ask(command.request, client.received)
            except (Gone, TimeoutError):  # a command has ended it, or keeps it stopped
                starter.close()
                continue
            del self.queue[0]
            _close_all(client.received)
            command.starter, command.request = starter, b""
            self.commands[starter.sock.fileno()] = command
            self.waiting.register(starter.sock, POLLIN)
        if self.queue:
            self._ask_for_starter()

    def _ask_for_starter(self) -> None:
        try:
            self.starters.ask_for_another()
        except SetupFailed:
            self.over = True

    def _hear_of_starter(self) -> None:
        try:
            starter = self.starters.hear_of_another()
        except SetupFailed as error:
            self.spares = False
            self.over = not error.errno  # with an errno it is only this one that can't be had
            while self.queue:
                command = self.queue.pop(0)
                command.close_outer()
                self._refuse(command.client, str(error))
            return
        if starter is not None:
            starter.sock.settimeout(_LAST)
            self.free.append(starter)
        self._serve_queue()

    def _hear_command(self, command: Command) -> None:
        assert command.starter
        try:
            kind, numbers, descriptor = command.starter.answer()
        except (Gone, TimeoutError):
            self._end_below(command, gone=True)
            return
        if kind == frames.STARTED:
            self._begun(command, numbers[0], descriptor)
        elif kind == frames.STOPPED:
            self._say(command.client, errands.number(errands.STOPPED, numbers[0] & 0xFF))
        elif kind == frames.FAILED:
            self._finish(command, errands.number(errands.FAILED, numbers[0] & 0xFFFF, numbers[1] & 0xFFFF), again=True)
        elif kind == frames.EXITED:
            command.status = plausible(numbers[0])
            if command.terminal and os.WIFSIGNALED(command.status) and os.WTERMSIG(command.status) in _INTERRUPTING:
                command.interrupted = True  # by a key
            if command.interrupted and not numbers[1]:
                self._end_below(command)
            else:
                self._finish(command, again=bool(numbers[1]))
        if descriptor >= 0:
            os.close(descriptor)

    def _begun(self, command: Command, pid: int, descriptor: int) -> None:
        command.pid = pid & 0x7FFFFFFF
        outer = command.outer if command.outer >= 0 else descriptor
        if command.terminal and outer >= 0 and terminal_sys.is_outer_end(outer):
            self._say(command.client, errands.message(errands.STARTED), outer)
            command.close_outer()
        elif command.terminal and (client := command.client):
            self._refuse(client, "can't open a terminal for the command: the sandbox gave something else")
            self._lose(client)
        for number in command.signals:
            self.starters.signal(command.pid, number, group=True)

    def _end_below(self, command: Command, *, gone: bool = False) -> None:
        """Have everything below a command's starter killed; init says when that is done. ``gone``: it has ended, and left its to init."""
        self._let_go(command)
        self._kill_below(command, gone=gone)

    def _kill_below(self, command: Command, *, gone: bool) -> None:
        assert command.starter
        command.orphaned = gone
        self.endings[command.starter.number] = command
        if not self.starters.tell_to_end(command.starter, gone=gone):
            self.over = True

    def _let_go(self, command: Command) -> None:
        """Hear no more of a command."""
        assert command.starter
        command.close_outer()
        self.waiting.unregister(command.starter.sock)
        del self.commands[command.starter.sock.fileno()]

    def _hear_init(self) -> None:
        said = self.starters.hear()
        if said is None:
            self.over = True
        elif said[0] == wire.UNWATCHED:
            self.unwatched = True
        elif said[0] == wire.LIMIT:
            self.starters.heed(*said)
        elif said[0] == wire.OBSERVED:
            notes = wire.receive_notes(self.starters.control, said[1])  # init is writing them
            self._conclude(self.noting.pop(0), notes)
        elif said[0] == wire.ENDED and (command := self.endings.pop(said[1], None)):
            assert command.starter
            if not command.orphaned and has_ended(command.starter):
                self._kill_below(command, gone=True)
                return
            self._hear_notes(command)

    def _finish(self, command: Command, said: bytes = b"", *, again: bool) -> None:
        """A command is over. ``again``: its starter can start another."""
        self._let_go(command)
        command.said, command.again = said, again
        self._hear_notes(command)

    def _hear_notes(self, command: Command) -> None:
        """A command is over: where init has something to say of it, its end is told when that is known. One that went well goes first."""
        assert command.starter
        if self.terms.to_be_heard and self.starters.tell_notes(command.starter):
            self.noting.append(command)
            if command.said or not (command.status or command.counting or self.terms.limits.counts):
                self._tell_end(command)
        else:
            self._conclude(command)

    def _conclude(self, command: Command, notes: bytes = b"") -> None:
        assert command.starter
        command.notes = notes
        if command.again:
            self.free.append(command.starter)
            self._serve_queue()
        else:
            command.starter.close()
        command.hits = self.terms.limits.since(command.before)
        if command.passed_on:
            self._tell_end(command)
        else:
            command.settled = NEVER if command.again else monotonic() + LINGER  # something that it left may hold its pipes
            self.unsettled.append(command)

    def _ring(self, command: Command) -> None:
        """In another thread."""
        self.counted.append(command)
        os.write(self.bell, b"!")

    def _hear_of_output(self, bell: int) -> None:
        """What some commands printed has been passed on; where it was too much, they are ended."""
        os.read(bell, _AT_ONCE)
        while self.counted:
            command = self.counted.pop(0)
            assert command.counting
            command.passed_on = True
            if command in self.unsettled:
                self._settle(command)
            if command.counting.dropped and command in self.commands.values():
                self._end_below(command)
            elif command.counting.dropped and command.starter and not command.again:
                self.starters.tell_to_end(command.starter)  # what it has left running

    def _settle(self, command: Command) -> None:
        self.unsettled.remove(command)
        self._tell_end(command)

    def _tell_end(self, command: Command) -> None:
        self.idle_since, self.spares = monotonic(), True
        client, command.client = command.client, None
        if client:
            client.command = None
            self._say(client, command.said or telling.end(command, self.terms))
            self._part(client)

    # The end

    def _end(self) -> None:
        """Nobody finds the session any more, then nothing of it is alive, then those who wait for that hear of it."""
        expired = monotonic() >= self.started + self.terms.expires
        for command in (*self.commands.values(), *self.endings.values()):
            command.hits = self.terms.limits.since(command.before)
        self.seat.leave()
        self.starters.leave()
        until = monotonic() + _LAST
        while (left := until - monotonic()) > 0 and readable(self.starters.control, left):
            if self.starters.hear() is None:
                break
        self.starters.let_go()
        self.end_sandbox()
        self.loans.end()
        for command in (*self.commands.values(), *self.endings.values(), *self.noting, *self.unsettled, *self.queue):
            self._say(command.client, telling.end(command, self.terms, expired=expired))
        for client in self.stoppers:
            self._say(client, errands.number(errands.ENDED, 0))


def _close_all(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())
