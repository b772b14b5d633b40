"""Starters: processes inside that start commands on request, each command at about the price of a spawn.

Init bears a process that locks itself as a command would be locked; that one forks the first starter, which forks the others. So
all commands of a sandbox live under the same locks, in one Landlock domain: they can signal and trace each other as on
any machine. A starter is not dumpable: they can't trace it or take its descriptors (ptrace(2)).

A starter has one command at a time and is the reaper of all that this command starts (PR_SET_CHILD_SUBREAPER): what leaves its
parents stays below the starter, so that init can end a command with everything it ever started. A starter whose command
left something running starts nothing more; it waits for the rest and goes.

A command may end starters, they are the same user. It gains nothing by it: a starter holds no right that its commands lack, and what
was below it falls to init, which ends it. Where the first one is ended (``kill -9 -1``) the house is cleared and another begins.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import _socket
import os
import resource  # noqa: F401 — os.wait4 imports it, and here no file can be found any more when it does
from fcntl import F_DUPFD_CLOEXEC, fcntl

from houseroom.enforce.linux import frames, process_sys
from houseroom.enforce.linux.command import is_way_out, search
from houseroom.enforce.linux.own_terminal import OwnTerminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import NoReturn

_AT_ONCE = 1 << 16
_SPACE = _socket.CMSG_SPACE(4 * frames.MOST_DESCRIPTORS)
_MSG_CMSG_CLOEXEC = 0x40000000
_ABOVE_TARGETS = 1 << 10  # where descriptors wait that could be in the way of a number they are to get
_BAD_FRAME = 22
_KEPT_BY_LIBC = (32, 33)  # nptl(7)


def keep_starting(sock: _socket.socket, line: _socket.socket, scope: Callable[[], None], *, network: bool) -> NoReturn:
    """The life of the process that init bore: to have a first starter, and another one where a command has ended it.

    ``scope`` puts the first starter where commands can't signal us. ``line`` leads to init, which clears away what is left before
    we begin again. ``network``: sockets may be passed to commands.
    """
    while True:
        pid = os.fork()
        if pid == 0:
            line.close()
            os.setpgid(0, 0)  # a signal to one of us as a group reaches no other
            scope()
            _serve_first(sock, network=network)
        if os.waitpid(pid, 0)[1] == 0:
            os._exit(0)  # nobody asks any more
        line.send(b"e")
        if not line.recv(1):
            os._exit(0)
        _answer(sock, frames.answer(frames.FAILED))  # whoever asked before must ask again


def _serve_first(sock: _socket.socket, *, network: bool) -> NoReturn:
    """The first starter starts others."""
    _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)  # those that have ended are nobody's to wait for
    while True:
        kind, body, received = _receive(sock)
        _close(received)
        if kind != frames.ANOTHER:
            os._exit(0)
        turn = int.from_bytes(body[:4], "little")
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            pid = os.fork()
        except OSError as error:  # a command has used up all the processes that there may be
            ours.close()
            theirs.close()
            _answer(sock, frames.answer(frames.FAILED, error.errno or 0, turn))
            continue
        if pid == 0:
            os.setsid()  # as above, and it can lead a terminal
            sock.close()
            theirs.close()
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
            Starter(ours, network=network).serve()
        ours.close()
        _answer(sock, frames.answer(frames.STARTER, pid, turn), theirs.fileno())
        theirs.close()


class Starter:
    """One starter's side of its socket."""

    def __init__(self, sock: _socket.socket, *, network: bool):
        self.sock, self.network = sock, network
        self.quiet = False
        self.terminal: OwnTerminal | None = None  # of the command
        self.block = b""
        self.environment: dict[bytes, bytes] = {}
        self.defaults = tuple(_not_ignored())
        process_sys.prctl(process_sys.PR_SET_CHILD_SUBREAPER, 1)

    def serve(self) -> NoReturn:
        """Commands, one after the other, until the other end closes or a command leaves something behind."""
        while True:
            kind, body, received = _receive(self.sock)
            if kind != frames.START:
                os._exit(0)
            pid = self._start(body, received)
            _close(received)
            if pid:
                outer = self.terminal.pass_on() if self.terminal else -1
                if outer >= 0 or not self.quiet:
                    _answer(self.sock, frames.answer(frames.STARTED, pid), outer)
                if outer >= 0:
                    os.close(outer)
                if not self._await(pid):
                    self._outlive()

    def _start(self, body: bytes, received: list[int]) -> int:
        """The command's process id; 0 where it failed, which has been told then."""
        what = frames.IN_STREAMS
        try:
            argv, block, cwd, targets, size, self.quiet = frames.read_start(body)
            given = received.pop() if size != (0, 0) and len(received) == len(targets) + 1 else -1  # the inner end of a terminal
            if len(received) != len(targets):
                raise ValueError("descriptors that were not sent")
            for fd in received:
                if is_way_out(fd, network=self.network):
                    raise PermissionError(1, "a way out")
            if block != self.block:
                self.environment, self.block = frames.unblock(block), block
            moves = _moves(received, targets)
            what = frames.IN_TERMINAL
            if size != (0, 0):
                self.terminal = OwnTerminal(size, given)
            what = frames.IN_DIRECTORY
            os.chdir(cwd)
            what = frames.IN_COMMAND
            return self._spawn_in_terminal(argv, moves) if self.terminal else self._spawn(argv, moves)
        except (OSError, ValueError) as error:
            self._let_go()
            errno = (error.errno or _BAD_FRAME) if isinstance(error, OSError) else _BAD_FRAME
            _answer(self.sock, frames.answer(frames.FAILED, errno, what))
            return 0

    def _spawn(self, argv: list[bytes], moves: list[tuple[int, int]]) -> int:
        """posix_spawn(3), which shares our memory until the program runs: no copy is made of it. Raises OSError."""
        actions = [(os.POSIX_SPAWN_DUP2, fd, to) for fd, to in moves]

        def spawn(path: bytes) -> int:
            if not os.access(path, os.F_OK):  # a failing spawn costs a hundred times as much
                raise FileNotFoundError(2, "not found")
            return os.posix_spawn(path, argv, self.environment, file_actions=actions, setsigmask=(), setsigdef=self.defaults, setpgroup=0)

        return search(argv[0], self.environment, spawn)

    def _spawn_in_terminal(self, argv: list[bytes], moves: list[tuple[int, int]]) -> int:
        assert self.terminal
        return self.terminal.spawn(moves, lambda: search(argv[0], self.environment, lambda path: os.execve(path, argv, self.environment)))

    def _let_go(self) -> None:
        if self.terminal:
            self.terminal.close()
            self.terminal = None

    def _await(self, pid: int) -> bool:
        """Tell how the command ended. Returns whether nothing that it started is alive."""
        noticed = os.WUNTRACED if self.terminal else 0
        while True:
            ended, status, used = os.wait4(-1, noticed)
            if ended != pid:
                continue
            if not os.WIFSTOPPED(status):
                break
            _answer(self.sock, frames.answer(frames.STOPPED, os.WSTOPSIG(status)))
        self._let_go()
        alone = _alone()
        times = (int(used.ru_utime * 1_000_000), int(used.ru_stime * 1_000_000))
        _answer(self.sock, frames.answer(frames.EXITED, status, alone, *times, used.ru_maxrss))
        return alone

    def _outlive(self) -> NoReturn:
        self.sock.close()
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                os._exit(0)


def _not_ignored() -> Iterator[int]:
    """The signals that are to be at their defaults in commands. Named, they cost posix_spawn(3) one call each and not two."""
    for number in range(1, _signal.NSIG):
        if number not in _KEPT_BY_LIBC and _signal.getsignal(number) != _signal.SIG_IGN:
            yield number


def _alone() -> bool:
    """Whether no child is left, after reaping those that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


def _moves(received: list[int], targets: tuple[int, ...]) -> list[tuple[int, int]]:
    """From where to where each descriptor goes to get its number, whatever numbers they have now."""
    if any(target > 2 for target in targets):
        for at, fd in enumerate(received):
            received[at] = fcntl(fd, F_DUPFD_CLOEXEC, _ABOVE_TARGETS)
            os.close(fd)
    return list(zip(received, targets, strict=True))


def _receive(sock: _socket.socket) -> tuple[int, bytes, list[int]]:
    """The next request's kind and body and the descriptors that came along; kind 0 where the stream ends, or has no sense any more."""
    received: list[int] = []
    data = b""
    kind, length = 0, frames.HEAD.size  # of what is read first; then of the whole
    while len(data) < length:
        part = _some(sock, min(length - len(data), _AT_ONCE), received)  # never into the next one
        if not part:
            return 0, b"", received
        data += part
        if not kind and len(data) >= frames.HEAD.size:
            try:
                kind, more = frames.read_head(data[: frames.HEAD.size])
            except ValueError:
                return 0, b"", received
            length += more
    return kind, data[frames.HEAD.size :], received


def _some(sock: _socket.socket, most: int, received: list[int]) -> bytes:
    data, ancillary, _flags, _address = sock.recvmsg(most, _SPACE, _MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            received += [int.from_bytes(content[at : at + 4], sys.byteorder) for at in range(0, len(content) - len(content) % 4, 4)]
    return data


def _answer(sock: _socket.socket, data: bytes, descriptor: int = -1) -> None:
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptor.to_bytes(4, sys.byteorder))] if descriptor >= 0 else []
    try:
        sock.sendmsg([data], ancillary)
    except OSError:
        os._exit(0)  # nobody is there any more; init hears of that too


def _close(descriptors: list[int]) -> None:
    for fd in descriptors:
        os.close(fd)
