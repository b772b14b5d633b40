"""``houseroom session exec NAME -- COMMAND``: the fast way, taken before anything else is imported.

Scripts and hooks start many commands in a session, and each pays for all that is loaded here. So this reads the plain form of the
command line by itself, imports nothing but a socket, and leaves options, terminals, help and errors to ``session``.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import _socket
import posix

from houseroom.session import errands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

FORWARDED = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT, _signal.SIGUSR1, _signal.SIGUSR2, _signal.SIGTSTP)
NOT_DONE, INTERRUPTED = -1, 130
_ADDRESS = b"/.local/state/houseroom/sessions/%s/socket"
_SIGNS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_STREAMS = b"".join([stream.to_bytes(4, sys.byteorder) for stream in (0, 1, 2)])
_CREDENTIALS = 12  # bytes of struct ucred: pid, uid, gid (unix(7), SO_PEERCRED)
_AT_ONCE = 1 << 16


def run(words: Sequence[str]) -> int:
    """The exit code; NOT_DONE where it takes more than this: an option, a terminal, a session that is not there, a closed stream."""
    name, argv = "".join(words[:1]), words[1:]
    if argv[:1] == ["--"]:
        argv = argv[1:]
    elif "".join(argv[:1])[:1] == "-":
        return NOT_DONE
    if not argv or not _SIGNS.issuperset(name) or not name[:1].isalnum() or not all(map(_is_plain, (0, 1, 2))):
        return NOT_DONE
    try:
        return _ask(name, argv)
    except KeyboardInterrupt:  # before the signal could be passed on: with our end the command's comes too
        return INTERRUPTED


def _is_plain(stream: int) -> bool:
    """Whether a stream is open and no terminal. A number that is free would be taken by the next descriptor that is opened."""
    try:
        posix.fstat(stream)
    except OSError:
        return False
    return not posix.isatty(stream)


def _ask(name: str, argv: Sequence[str]) -> int:
    encoding, errors = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
    raw = [word.encode(encoding, errors) for word in argv]
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        message = errands.run(raw, [b"%s=%s" % variable for variable in posix.environ.items()], posix.getcwdb(), (0, 1, 2))
        sock.connect(posix.environ.get(b"HOME", b"") + _ADDRESS % name.encode())
        peer = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _CREDENTIALS)
        if int.from_bytes(peer[4:8], sys.byteorder) != posix.geteuid():
            return NOT_DONE
        sent = sock.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, _STREAMS)])
    except OSError:
        return NOT_DONE  # nothing was asked yet
    forward_signals(sock)
    try:
        if sent < len(message):
            sock.sendall(message[sent:])
        said = sock.recv(_AT_ONCE)
    except OSError:
        said = b""
    if said[3:4] == b"%c" % errands.ENDED:
        return exit_code(int.from_bytes(said[errands.HEAD :], "little"))
    from houseroom.frontends.cli import inside

    return inside.tell_why(said, sock, name, argv)


def forward_signals(sock: _socket.socket) -> None:
    """From now on signals to us are the command's."""

    def forward(number: int, _frame: object) -> None:
        try:
            sock.sendall(errands.number(errands.SIGNAL, number))
            if number == _signal.SIGTSTP:
                posix.kill(posix.getpid(), _signal.SIGSTOP)
                sock.sendall(errands.number(errands.SIGNAL, _signal.SIGCONT))
        except OSError:
            return  # it has just ended

    for number in FORWARDED:
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, forward)


def exit_code(status: int) -> int:
    """The exit status of a wait status as a shell gives it: 128 + n for a signal."""
    code = posix.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code
