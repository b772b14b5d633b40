"""``session exec`` in all its forms, and ``session attach``: with options, at a terminal, and what is said where it fails.

A command of a session may leave processes behind that live on. So what it gets is never the user's own terminal: at a terminal it has
one of its own while it runs. Where only its messages or its output would go to the terminal, nothing is read from the keyboard: a
pager, or the shell after us, is to have what is typed.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import _socket
import os

from houseroom.enforce.linux import frames
from houseroom.errors import SetupFailed
from houseroom.frontends.cli import exec_client, paper, session
from houseroom.frontends.cli.options import UsageError
from houseroom.frontends.cli.terminal import Terminal, same_terminal
from houseroom.policy.model import Places
from houseroom.session import errands, sessions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from houseroom.frontends.cli.options import Given

STOPPED, SETUP, NOT_EXECUTABLE, NOT_FOUND, KILLED = 124, 125, 126, 127, 137
_STREAMS = (0, 1, 2)
_CARRIER = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS)
_USUAL = (24, 80)  # of a terminal that does not know its size
_MSG_CMSG_CLOEXEC = 0x40000000

Answer = tuple[int, bytes]


def execute(given: Given) -> int:
    """``session exec``: one command, and its exit code."""
    name, *argv = given.words
    if argv[0] == "--":
        del argv[0]
    elif argv[0][:1] == "-":
        raise UsageError(f"session exec has no use for {argv[0]!r} after {name!r}", "Its options come before the name.", given.spec.name)
    if not argv:
        raise UsageError("session exec needs a command", f"For example: houseroom session exec {name} -- make", given.spec.name)
    return _in_session(name, argv, given, dict(os.environb), keyboard=given.flag("terminal"))


def attach(given: Given) -> int:
    """``session attach``: an interactive shell."""
    from houseroom.frontends.cli import shell

    if same_terminal(*_STREAMS)[:2] != (0, 1):
        raise UsageError("session attach needs a terminal", "To run a command: houseroom session exec NAME -- COMMAND", given.spec.name)
    return _in_session(session.which(given), shell.argv(), given, shell.environment(), keyboard=True)


def _in_session(name: str, argv: Sequence[str], given: Given, environ: dict[bytes, bytes], *, keyboard: bool) -> int:
    _fill_streams()
    try:
        sock = sessions.connect(session.home(), name)
    except sessions.NoSession:
        return session.no_session(name)
    sock.settimeout(None)
    call = _Call(sock, [os.fsencode(word) for word in argv], environ, os.fsencode(os.path.abspath(given.one("cwd") or os.getcwd())))
    shown = same_terminal(*_STREAMS)
    if keyboard and 0 not in shown:
        raise UsageError(f"{given.spec.name} --terminal needs a terminal as its standard input", "Leave the option out.", given.spec.name)
    try:
        answer = call.at(shown, keyboard=keyboard or shown[:2] == (0, 1)) if shown else call.plainly()
    finally:
        sock.close()
    return _tell(answer, name, argv, interactive=given.spec.name == "session attach")


def tell_why(said: bytes, sock: _socket.socket, name: str, argv: Sequence[str]) -> int:
    """Explain an answer, or its beginning, that was not the plain end of a command; its exit code."""
    try:
        kind, length = errands.read_head(said[: errands.HEAD])
        body = said[errands.HEAD : errands.HEAD + length]
        body += sessions.exactly(sock, length - len(body))
    except (OSError, ValueError):
        return _tell((0, b""), name, argv)
    return _tell((kind, body), name, argv)


class _Call:
    """One command that is asked for on a connection."""

    def __init__(self, sock: _socket.socket, argv: list[bytes], environ: dict[bytes, bytes], cwd: bytes):
        self.sock, self.argv, self.cwd = sock, argv, cwd
        self.environment = [b"%s=%s" % variable for variable in environ.items()]

    def plainly(self) -> Answer:
        """With our own streams."""
        self._ask({stream: stream for stream in _STREAMS}, (0, 0))
        exec_client.forward_signals(self.sock)
        return self._hear()

    def at(self, shown: tuple[int, ...], *, keyboard: bool) -> Answer:
        """With a terminal of its own in the place of the streams that are the user's."""
        streams = {stream: stream for stream in _STREAMS if stream not in shown}
        if 0 in shown and not keyboard:
            streams[0] = -1
        with Terminal(shown[0], keyboard=keyboard, whole=1 in shown) as terminal:
            rows, columns = terminal.size
            self._ask(streams, (rows or _USUAL[0], columns or _USUAL[1]))
            kind, body, outer = self._begun()
            if outer < 0:
                return kind, body
            terminal.join(outer, self._signal)

            def hear() -> Answer | None:
                answer = self._hear()
                if answer[0] == errands.STOPPED:
                    terminal.suspend()
                    return None
                return answer

            return terminal.attend(self.sock.fileno(), hear) or (errands.ENDED, int(_signal.SIGHUP).to_bytes(4, "little"))

    def _ask(self, streams: dict[int, int], size: tuple[int, int]) -> None:
        """Send the request with our descriptors; -1 stands for an empty one."""
        empty = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        numbers = b"".join((fd if fd >= 0 else empty).to_bytes(4, sys.byteorder) for _, fd in sorted(streams.items()))
        message = errands.run(self.argv, self.environment, self.cwd, tuple(sorted(streams)), size)
        try:
            sent = self.sock.sendmsg([message], [(*_CARRIER, numbers)] if numbers else [])
            self.sock.sendall(message[sent:])
        except OSError:
            return  # its holder has just ended, which the answer tells
        finally:
            os.close(empty)

    def _begun(self) -> tuple[int, bytes, int]:
        """The first answer, and the outer end of the command's terminal, -1 where it was not started."""
        try:
            head, ancillary, _flags, _address = self.sock.recvmsg(errands.HEAD, _socket.CMSG_SPACE(4), _MSG_CMSG_CLOEXEC)
            kind, length = errands.read_head(head)
            body = sessions.exactly(self.sock, length)
        except (OSError, ValueError):
            return 0, b"", -1
        came = [content for level, carrier, content in ancillary if (level, carrier) == _CARRIER]
        return kind, body, int.from_bytes(came[0][:4], sys.byteorder) if came else -1

    def _hear(self) -> Answer:
        try:
            return sessions.receive(self.sock)
        except (OSError, ValueError):
            return 0, b""

    def _signal(self, number: int) -> None:
        try:
            self.sock.sendall(errands.number(errands.SIGNAL, number))
        except OSError:
            return  # it has just ended


def _fill_streams() -> None:
    """A stream that is closed becomes an empty one, before what is opened next takes its number."""
    while (fd := os.open("/dev/null", os.O_RDWR)) in _STREAMS:
        pass
    os.close(fd)


def _tell(answer: Answer, name: str, argv: Sequence[str], *, interactive: bool = False) -> int:
    """Say what an exit code alone does not, and return it. What was refused in the user's own shell, that user has seen."""
    match answer:
        case errands.ENDED, body:
            return exec_client.exit_code(*errands.read_numbers(body))
        case errands.FAILED, body:
            return _not_started(name, argv, *errands.read_numbers(body)[:2])
        case errands.REFUSED, body:
            words, _, hint = body.decode("utf-8", "replace").partition("\0")
            paper.fail(words, hint)
            return SETUP
        case errands.EXPLAINED, body:
            return _explain(body, name, refused=not interactive)
    paper.fail(f"the session {name} ended before the command did{session.unexpected(name)}")
    return KILLED


def _explain(body: bytes, name: str, *, refused: bool) -> int:
    """Say what stopped a command, and what was ``refused`` to it, as ``telling`` has it."""
    import json

    said = json.loads(body)
    if said["detail"]:
        paper.note(said["detail"])
    if said["denials"] and refused:
        from houseroom.frontends.cli import denials

        denials.tell_of_session(said, Places(said["workspace"], session.home()), name)
    return STOPPED if said["limited"] else exec_client.exit_code(said["status"])


def _not_started(name: str, argv: Sequence[str], errno: int, what: int) -> int:
    words = os.strerror(errno)
    match what:
        case frames.IN_COMMAND:
            paper.fail(f"can't run {argv[0]}: {words}")
            return NOT_FOUND if errno == 2 else NOT_EXECUTABLE
        case frames.IN_DIRECTORY:
            hint = f"The session sees other files than you do. Name a directory: houseroom session exec --cwd DIR {name} -- …"
            paper.fail(f"can't work in this directory in the session {name}: {words}", hint)
        case frames.IN_STREAMS:
            paper.fail(f"can't pass on the standard streams: {words}", "A directory or a network socket can't be one. Use a pipe.")
        case _:
            paper.fail(str(SetupFailed("open", "a terminal for the command", errno, words)))
    return SETUP
