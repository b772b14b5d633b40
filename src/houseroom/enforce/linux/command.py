"""The process that becomes the command: its last locks, in the order in which the kernel wants them, and exec.

After ``become`` nothing here runs in a process that could lift any of it: capabilities first, since dropping them
needs one; then no_new_privs, without which Landlock and seccomp refuse an ordinary user; Landlock before seccomp, since the
filter refuses nothing that Landlock needs but leaves less to go wrong after it; the filter last.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import _socket
import os
from stat import S_ISDIR, S_ISSOCK

from houseroom.enforce.linux import landlock_sys, process_sys, seccomp_sys
from houseroom.enforce.linux.limits_sys import set_limits
from houseroom.plan import landlock
from houseroom.plan import steps as plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, NotRequired, TypedDict

    class Order(TypedDict):
        """What the supervisor asks init for: the packed plan, and the command as bytes as the caller gave them, or starters instead.

        ``domain``: a packed Landlock step for init itself. ``terminal``: rows, columns, and the descriptors that the command
        has its own terminal at.
        """

        steps: bytes
        filters: dict[str, bytes]
        argv: NotRequired[list[bytes]]
        environment: NotRequired[dict[bytes, bytes]]
        cwd: NotRequired[bytes]
        domain: NotRequired[bytes]
        terminal: NotRequired[tuple[int, int, tuple[int, ...]]]
        streams: NotRequired[dict[int, int]]  # what the command is to have instead of ours, by its numbers; they follow the order
        authorities: NotRequired[bytes]  # certificates, for plan.Trust
        group: NotRequired[list[tuple[int, int]]]  # memory and processes of the control group that init is in by then


def become(
    order: Order, steps: tuple[plan.Step, ...], line: _socket.socket, *, umask: int, ignored: tuple[int, ...], settle: Callable[[], object]
) -> NoReturn:
    """Lock this process and execute the command in it. ``settle`` is called before, to give it a terminal of its own.

    Talks to init by ``line``: what ``lock`` says, then a byte to go, then the errno of an execve(2) that failed, or nothing.
    """
    restore_signals(ignored)  # init has some ignored; when it has our word, one that is passed on must not be lost
    lock(order, steps, line, umask=umask, cwd=order["cwd"])
    try:
        settle()
        process_sys.close_except(3, line.fileno())
        argv, environment = order["argv"], order["environment"]
        search(argv[0], environment, lambda path: os.execve(path, argv, environment))
    except OSError as error:
        line.send(b"%d" % (error.errno or 5))
    os._exit(127)


def lock(order: Order, steps: tuple[plan.Step, ...], line: _socket.socket, *, umask: int, cwd: bytes) -> None:
    """Take on all locks, and wait for init's word to go on.

    Sends ``L`` when locked, with the listener as a descriptor where there is one; "doing NUL subject NUL errno NUL words" when
    that failed, and ends.
    """
    doing = ("change into", os.fsdecode(cwd))
    network = any(isinstance(step, plan.Seccomp) and step.network == "open" for step in steps)
    try:
        os.umask(umask)
        os.chdir(cwd)
        doing = ("pass on", "the standard streams")
        _refuse_ways_out(network=network)
        listener = -1
        for step in steps:
            match step:
                case plan.Lock():
                    doing = ("drop", "privileges")
                    set_limits(step.rlimits)
                    _drop_privileges()
                case plan.Landlock():
                    doing = ("enter", "Landlock")
                    enter_landlock(step)
                case plan.Seccomp("command", _, mediated):
                    doing = ("install", "the system call filter")
                    listener = _filter(order["filters"]["command"], mediated=mediated)
        if not hand_over(line, listener):
            os._exit(1)
    except OSError as error:
        line.send("\0".join((*doing, str(error.errno or 0), error.strerror or str(error))).encode()[:4000])
        os._exit(1)


def hand_over(line: _socket.socket, listener: int) -> bool:
    """Give init the listener, which only it may hold, and wait. False where init does not want us any more."""
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, listener.to_bytes(4, sys.byteorder))] if listener >= 0 else []
    line.sendmsg([b"L"], rights)
    if listener >= 0:
        os.close(listener)
    return bool(line.recv(1))


def _refuse_ways_out(*, network: bool) -> None:
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)  # a closed stream would be taken by the next file opened
            continue
        if is_way_out(fd, network=network):
            raise OSError(1, f"descriptor {fd} is a directory of the host, or a socket of its network; pass the data through a pipe")


def is_way_out(fd: int, *, network: bool) -> bool:
    """Whether a descriptor leads round what was built: a directory of the host round every mount, by openat(2) below it; a
    socket of the host's network, which can be connected anew, or a datagram socket, which sends anywhere, round its namespace."""
    mode = os.fstat(fd).st_mode
    return S_ISDIR(mode) or (S_ISSOCK(mode) and not network and not _is_plain_connection(fd))


def _is_plain_connection(fd: int) -> bool:
    """Whether a socket is one end of a Unix stream, as good as a pipe."""
    sock = _socket.socket(fileno=os.dup(fd))
    try:
        accepts = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN)
        return sock.family == _socket.AF_UNIX and sock.type == _socket.SOCK_STREAM and not accepts
    finally:
        sock.close()


def _drop_privileges() -> None:
    if process_sys.permitted() >> process_sys.CAP_SETPCAP & 1:
        process_sys.prctl(process_sys.PR_SET_SECUREBITS, process_sys.SECUREBITS_LOCKED)
    # Below namespaces an ordinary user holds no capability, nor CAP_SETPCAP to lock anything; no_new_privs then lets no
    # execve(2) gain what is not held here, root's included (capabilities(7), prctl(2)).
    process_sys.prctl(process_sys.PR_CAP_AMBIENT, process_sys.PR_CAP_AMBIENT_CLEAR_ALL)
    process_sys.capset(0)
    process_sys.prctl(process_sys.PR_SET_NO_NEW_PRIVS, 1)


def enter_landlock(step: plan.Landlock) -> None:
    """Restrict the calling thread; needs no_new_privs. Raises OSError."""
    _, ports, scopes = landlock.handled(step.abi)
    files = landlock.bits(step.handled, step.abi)
    if step.network:
        ports = 0
    if not (files or ports or scopes):
        return
    ruleset = landlock_sys.create_ruleset((files, ports, scopes), step.abi)
    on_files = landlock.bits(landlock.ON_FILES, step.abi)
    for path, names in step.rules:
        rights = landlock.bits(names, step.abi) & files
        if rights:
            landlock_sys.add_path(ruleset, os.fsencode(path), rights, on_files)
    landlock_sys.restrict_self(ruleset)
    os.close(ruleset)


def _filter(program: bytes, *, mediated: bool) -> int:
    if mediated:
        return seccomp_sys.install_with_listener(program)
    seccomp_sys.install(program)
    return -1


def restore_signals(ignored: tuple[int, ...]) -> None:
    """As a program expects them: all at their defaults, except what the caller had ignored."""
    for number in range(1, _signal.NSIG):
        wanted = _signal.SIG_IGN if number in ignored else _signal.SIG_DFL
        if _signal.getsignal(number) not in (wanted, None):  # None: of a few numbers that the C library keeps for itself
            _signal.signal(number, wanted)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def search(name: bytes, environment: dict[bytes, bytes], run: Callable[[bytes], int]) -> int:
    """execvp(3): a name without a slash is looked up in the command's own PATH. Raises OSError when nothing could be run."""
    if b"/" in name:
        return run(name)
    failure: OSError = FileNotFoundError(2, "not found")
    for directory in environment.get(b"PATH", b"/usr/local/bin:/usr/bin:/bin").split(b":"):
        try:
            return run(os.path.join(directory or b".", name))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            if os.access(directory or b".", os.X_OK):  # what can't even be searched has nothing to tell
                failure = error  # execvp goes on looking, and tells of this when nothing else is found
    try:
        raise failure
    finally:
        del failure  # an error that its own frame holds is a cycle, and nothing collects those in a starter
