"""What doctor tries, as a program of its own: it is run outside and inside, so that a refusal has its twin.

``python -I -S -c TEXT ACTS``: ACTS is JSON, a list of ``[name, verb, *arguments]``. Each act prints a line of JSON at once, so a
filter that kills the process leaves what came before: ``[name, true, what was seen]`` or ``[name, false, the kernel's words]``.
Needs nothing but the standard library: the package may not be readable inside.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from ctypes import CDLL, c_long, create_string_buffer, get_errno

assert sys.platform == "linux"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_NEWUSER = 0x10000000
_UNSHARE = {"x86_64": 272, "aarch64": 97}  # asm/unistd.h; libc has a wrapper, but not every libc
_INOTIFY_INIT1 = {"x86_64": 294, "aarch64": 26}
_IO_URING_SETUP = 425
_IO_URING_PARAMS = 120  # bytes of struct io_uring_params
_PATIENCE = 2  # seconds for a connection
_PROXY = ("198.18.0.1", 4128)  # houseroom.plan.egress, which can't be imported here
_LINE = b"\r\n"
_CHUNK = 1 << 20
_HELD = 0.6  # seconds that memory is held, for whoever looks now and then
_KILLED = "the process was killed"


def read_each(paths: list[str]) -> dict[str, object]:
    """Path → how many bytes (at most one) or names were read, or the kernel's words."""
    out: dict[str, object] = {}
    for path in paths:
        try:
            out[path] = _read(path)
        except OSError as error:
            out[path] = _words(error)
    return out


def _read(path: str) -> int:
    if os.path.isdir(path):
        return len(os.listdir(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        return len(os.read(descriptor, 1))
    finally:
        os.close(descriptor)


def create(path: str) -> None:
    """Make an empty file that was not there."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def make_and_remove(path: str) -> list[int]:
    """Make an empty file and remove it: device and inode of its directory."""
    create(path)
    os.unlink(path)
    found = os.stat(os.path.dirname(path))
    return [found.st_dev, found.st_ino]


def make_and_remove_directory(path: str) -> None:
    """Make a directory and remove it."""
    os.mkdir(path, 0o700)
    os.rmdir(path)


def tcp(port: int) -> None:
    """Connect to a listener on this loopback."""
    socket.create_connection(("127.0.0.1", port), _PATIENCE).close()


def through_proxy(host: str, port: int, word: str) -> str:
    """Say a word to a server by way of the egress proxy, by the server's name; what it said."""
    with socket.create_connection(_PROXY, _PATIENCE) as client:
        client.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            part = client.recv(1)
            if not part:
                break
            head += part
        if head[9:12] != b"200":
            raise OSError(0, f"the proxy answered {head.partition(_LINE)[0][9:].decode('ascii', 'replace') or 'nothing'}")
        client.sendall(word.encode())
        return client.recv(len(word), socket.MSG_WAITALL).decode("ascii", "replace")


def connect_to(address: str, port: int) -> None:
    """Connect to an address as a program does that knows no proxy, and waits."""
    with socket.socket() as client:
        client.connect((address, port))


def unix(path: str) -> None:
    """Connect to a Unix stream socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_PATIENCE)
        client.connect(path)


def loopback() -> str:
    """Listen and connect here; what came through."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(_PATIENCE)
        with socket.create_connection(server.getsockname(), _PATIENCE) as client:
            client.sendall(b"hello")
            with server.accept()[0] as served:
                served.settimeout(_PATIENCE)
                return served.recv(5).decode()


def _start(pid: int) -> str | None:
    """When a process started, in clock ticks since the boot (proc_pid_stat(5)): with its number, who it is."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return None


def see(pid: int, start: str) -> None:
    """Find a process in /proc. The sandbox may have one of the same number."""
    if _start(pid) != start:
        raise ProcessLookupError(3, "No such process")


def signal(pid: int, start: str) -> None:
    """Signal 0: may we, without doing it."""
    os.kill(pid, 0)
    if _start(pid) not in (start, None):
        raise ProcessLookupError(3, "No such process")  # it went to one of ours


def status() -> dict[str, str]:
    """This process's capability sets, NoNewPrivs and Seccomp (proc_pid_status(5))."""
    with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    return {name: text.strip() for name, text in fields.items() if name.startswith(("Cap", "NoNewPrivs", "Seccomp"))}


def limits() -> dict[str, str]:
    """Soft limits by their names in proc_pid_limits(5), such as "Max open files"."""
    with open("/proc/self/limits", encoding="ascii", errors="replace") as file:
        return {line[:26].strip(): line[26:].split()[0] for line in file if line[26:].strip()}


def crowd(number: int) -> None:
    """So many processes at one time, which end at once when they are there or one of them can't be."""
    wait, let_go = os.pipe()
    made = 0
    try:
        for _ in range(number):
            if os.fork() == 0:
                os.close(let_go)
                os.read(wait, 1)
                os._exit(0)
            made += 1
    finally:
        os.close(let_go)
        os.close(wait)
        for _ in range(made):
            os.wait()


def fill(number: int) -> None:
    """So many bytes of memory, filled by a process that may be killed for it."""
    pid = os.fork()
    if pid == 0:
        try:
            held = [b"x" * _CHUNK for _ in range(number // _CHUNK)]
            time.sleep(_HELD)
            os._exit(len(held) == 0)
        finally:
            os._exit(1)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise MemoryError(_KILLED)


def size(path: str) -> int:
    """Bytes that the file system of a path can hold."""
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize


def variable(name: str) -> str:
    """A variable's value."""
    try:
        return os.environ[name]
    except KeyError:
        raise FileNotFoundError(2, "not set") from None


def new_namespace() -> None:
    """Enter a user namespace of our own. Last of the acts: there is no way back."""
    _call(_UNSHARE[os.uname().machine], _NEWUSER)


def io_uring() -> None:
    """Set up a ring of one entry."""
    os.close(_call(_IO_URING_SETUP, 1, create_string_buffer(_IO_URING_PARAMS)))


def inotify() -> None:
    """One more inotify queue for this user."""
    os.close(_call(_INOTIFY_INIT1[os.uname().machine], 0))


def _call(number: int, *arguments: object) -> int:
    sys_call = CDLL(None, use_errno=True).syscall
    sys_call.restype = c_long
    result: int = sys_call(c_long(number), *(c_long(one) if isinstance(one, int) else one for one in arguments))
    if result < 0:
        raise OSError(get_errno(), os.strerror(get_errno()))
    return result


def _words(error: OSError) -> str:
    return error.strerror or str(error)


VERBS: tuple[Callable[..., object], ...] = (
    read_each,
    create,
    make_and_remove,
    make_and_remove_directory,
    os.listdir,
    tcp,
    through_proxy,
    connect_to,
    unix,
    loopback,
    see,
    signal,
    status,
    limits,
    crowd,
    fill,
    size,
    variable,
    new_namespace,
    io_uring,
    inotify,
)


def main(acts: list[list[object]]) -> None:
    """Do each act, whatever came of those before."""
    verbs = {verb.__name__: verb for verb in VERBS}
    for name, verb, *arguments in acts:
        try:
            said = [name, True, verbs[str(verb)](*arguments)]
        except OSError as error:
            said = [name, False, _words(error)]
        except MemoryError as error:
            said = [name, False, str(error)]
        except Exception as error:  # one act's fault must not silence the others
            said = [name, False, f"{type(error).__name__}: {error}"]
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
