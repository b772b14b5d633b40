"""Reach a host by every road there is inside, and say of each what came of it: ``ROAD HOST PORT: OUTCOME``, a line each.

OUTCOME is ``got BODY``, or how it was refused: an errno's name, ``no name``, an HTTP status, ``socks CODE``.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable

from probe_kit import LIBC, main, say, wait_for_host

PROXY = ("198.18.0.1", 4128)
PATIENCE = 50.0  # seconds after which something hangs; nothing is judged by time


class Refused(Exception):
    """In words."""


def _request(host: str) -> bytes:
    return f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("latin-1")


def _rest(connection: socket.socket) -> bytes:
    data = b""
    while part := connection.recv(65536):
        data += part
    return data


def _answer(data: bytes) -> str:
    """The body of a response, or its status. Raises Refused."""
    head, _, body = data.partition(b"\r\n\r\n")
    status = head[9:12].decode("latin-1")
    if status != "200":
        raise Refused(status or "nothing")
    return body.decode("latin-1").strip()


def _ask(connection: socket.socket, host: str) -> str:
    connection.sendall(_request(host))
    return _answer(_rest(connection))


def _resolved(host: str) -> str:
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise Refused("no name") from None
    return str(found[0][4][0])


def _proxy() -> socket.socket:
    connection = socket.create_connection(PROXY)
    connection.settimeout(PATIENCE)
    return connection


def blocking(host: str, port: int) -> socket.socket:
    connection = socket.socket()
    connection.connect((_resolved(host), port))
    return connection


def nonblocking(host: str, port: int) -> socket.socket:
    address = _resolved(host)
    connection = socket.socket()
    connection.setblocking(False)
    code = connection.connect_ex((address, port))
    if code not in (0, errno.EINPROGRESS):
        raise OSError(code, "connect")
    select.select([], [connection], [], PATIENCE)
    connection.setblocking(True)
    return connection


def patient(host: str, port: int) -> socket.socket:
    """As Python does it with a time-out: not blocking for the kernel."""
    return socket.create_connection((_resolved(host), port), PATIENCE)


def mapped(host: str, port: int) -> socket.socket:
    address = _resolved(host)
    connection = socket.socket(socket.AF_INET6)
    connection.connect((f"::ffff:{address}", port))
    return connection


def connect(host: str, port: int) -> socket.socket:
    return _connect(host, port, host)


def connect_address(host: str, port: int) -> socket.socket:
    """CONNECT to the address that stands for the name."""
    address = _resolved(host)
    return _connect(address, port, address)


def _connect(host: str, port: int, named: str) -> socket.socket:
    connection = _proxy()
    connection.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {named}:{port}\r\n\r\n".encode("latin-1"))
    head = b""
    while b"\r\n\r\n" not in head:
        part = connection.recv(1)  # what follows is the server's, which may speak first
        if not part:
            raise Refused("nothing")
        head += part
    if head[9:12] != b"200":
        raise Refused(head[9:12].decode("latin-1"))
    return connection


def socks(host: str, port: int) -> socket.socket:
    return _socks(b"\3" + bytes((len(host),)) + host.encode("latin-1"), port)


def socks_address(host: str, port: int) -> socket.socket:
    return _socks(b"\1" + socket.inet_aton(_resolved(host)), port)


def _socks(where: bytes, port: int) -> socket.socket:
    connection = _proxy()
    connection.sendall(b"\5\1\0")
    if connection.recv(2) != b"\5\0":
        raise Refused("no socks")
    connection.sendall(b"\5\1\0" + where + port.to_bytes(2, "big"))
    reply = connection.recv(10)
    if len(reply) != 10 or reply[1]:
        raise Refused(f"socks {reply[1]}" if len(reply) > 1 else "nothing")
    return connection


def forged(host: str, port: int) -> socket.socket:
    """The words with which init hands a connection over, said by the command itself."""
    return _forged(4, socket.inet_aton(_resolved(host)), port)


def _forged(family: int, address: bytes, port: int) -> socket.socket:
    connection = _proxy()
    connection.sendall(b"\0houseroom1" + bytes((1, family)) + address + port.to_bytes(2, "big"))
    said = connection.recv(1)
    if said != b"\0":
        raise Refused(errno.errorcode.get(said[0], "?") if said else "nothing")
    return connection


def absolute(host: str, port: int) -> str:
    return _absolute(host, port, f"{host}:{port}")


def _absolute(host: str, port: int, named: str) -> str:
    with _proxy() as connection:
        connection.sendall(f"GET http://{host}:{port}/ HTTP/1.1\r\nHost: {named}\r\nConnection: close\r\n\r\n".encode("latin-1"))
        return _answer(_rest(connection))


NAMED: dict[str, Callable[[str, int], socket.socket]] = {"connect": connect, "socks": socks}  # roads that take any octets as a name
RESOLVED: dict[str, Callable[[str, int], socket.socket]] = {
    "blocking": blocking, "nonblocking": nonblocking, "patient": patient, "mapped": mapped, "connect_address": connect_address,
    "socks_address": socks_address, "forged": forged,
}  # fmt: skip


def _tell(road: str, host: str, port: int, act: Callable[[], str]) -> None:
    try:
        words = f"got {act()}"
    except Refused as refused:
        words = str(refused)
    except OSError as error:
        words = errno.errorcode.get(error.errno or 0, str(error))
    say(f"{road} {ascii(host)[1:-1]} {port}: {words}")


def _tell_all(ways: dict[str, Callable[[str, int], socket.socket]], host: str, port: int, named: str) -> None:
    for road, way in ways.items():
        _tell(road, host, port, lambda way=way: _ask(way(host, port), named))  # type: ignore[misc]
    _tell("absolute", host, port, lambda: absolute(host, port))


def by_all(root: str, wanted: str) -> None:
    """``wanted``: JSON, a list of (host, port)."""
    for host, port in json.loads(wanted):
        _tell_all({**RESOLVED, **NAMED}, host, port, host)


def by_name(root: str, wanted: str) -> None:
    """The roads on which a program says a name of its own making."""
    for host, port in json.loads(wanted):
        _tell_all(NAMED, host, port, "good.example.org")


def for_another(root: str, host: str, port: str, other: str) -> None:
    """Requests for another host than the one that the connection is to."""
    _tell_all({**NAMED, **RESOLVED}, host, int(port), other)


def by_address(root: str, wanted: str) -> None:
    """The roads that take an address as it is."""
    for address, port in json.loads(wanted):
        number = 6 if ":" in address else 4
        family, text = (socket.AF_INET6, f"[{address}]") if number == 6 else (socket.AF_INET, address)
        packed = socket.inet_pton(family, address)
        ways: dict[str, Callable[[str, int], socket.socket]] = {
            "direct": lambda address, port, family=family: _direct(family, address, port),  # type: ignore[misc]
            "connect": lambda _, port, text=text: _connect(text, port, text),  # type: ignore[misc]
            "socks": lambda _, port, packed=packed: _socks(bytes((1 if len(packed) == 4 else 4,)) + packed, port),  # type: ignore[misc]
            "forged": lambda _, port, number=number, packed=packed: _forged(number, packed, port),  # type: ignore[misc]
        }
        for road, way in ways.items():
            _tell(road, address, port, lambda way=way, address=address, port=port: _ask(way(address, port), "x"))  # type: ignore[misc]


def _direct(family: int, address: str, port: int) -> socket.socket:
    connection = socket.socket(family)
    connection.connect((address, port))
    return connection


def send(root: str, wanted: str) -> None:
    """Say octets to the proxy and show what it answers: statuses of all responses. ``wanted``: JSON, label → text in Latin-1."""
    for label, text in json.loads(wanted).items():
        with _proxy() as connection:
            try:
                connection.sendall(text.encode("latin-1"))
                with contextlib.suppress(OSError):  # ENOTCONN: it has answered with a reset already, which reading shows
                    connection.shutdown(socket.SHUT_WR)
                data = _rest(connection)
            except (BrokenPipeError, ConnectionResetError):
                data = b"HTTP/1.1 RST"
        statuses = [part[:3].decode("latin-1") for part in data.split(b"HTTP/1.1 ")[1:]]
        say(f"{label}: {' '.join(statuses) or 'nothing'}")


def _hello(server_name: str | None) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=server_name).do_handshake()
    return outgoing.read()


def hello(root: str, host: str, port: str, server_name: str, pieces: str) -> None:
    """A client's hello that names ``server_name``, in so many pieces, by every road; the server answers one with a word."""
    data = _hello(server_name or None)
    step = -(-len(data) // int(pieces))

    def say_hello(connection: socket.socket) -> str:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(data), step):
            connection.sendall(data[at : at + step])
        said = connection.recv(100)
        if not said:
            raise Refused("nothing")
        return said.decode("latin-1")

    for road, way in {**RESOLVED, **NAMED}.items():
        _tell(road, host, int(port), lambda way=way: say_hello(way(host, int(port))))  # type: ignore[misc]


def talk_first(root: str, host: str, port: str) -> None:
    """A server that speaks first, as ssh, SMTP and many databases do."""
    for road, way in {**RESOLVED, **NAMED}.items():

        def listen(way: Callable[[str, int], socket.socket] = way) -> str:
            with way(host, int(port)) as connection, connection.makefile("rwb") as lines:
                greeting = lines.readline().decode().strip()
                lines.write(b"hello\n")
                lines.flush()
                return f"{greeting} {lines.readline().decode().strip()}"

        _tell(road, host, int(port), listen)


def carry(root: str, host: str, port: str, size: str) -> None:
    """Send so many bytes, end, and only then read the same from the server: half-closed, both ways, on each kind of road."""
    import hashlib

    block = bytes(range(256)) * 256
    for road, way in {"blocking": blocking, "patient": patient, "connect": connect, "socks": socks}.items():

        def exchange(way: Callable[[str, int], socket.socket] = way) -> str:
            sent, read = hashlib.sha256(), hashlib.sha256()
            with way(host, int(port)) as connection:
                for at in range(int(size) // len(block)):
                    piece = at.to_bytes(8, "big") + block[8:]
                    connection.sendall(piece)
                    sent.update(piece)
                connection.shutdown(socket.SHUT_WR)
                count = 0
                while part := connection.recv(1 << 18):
                    read.update(part)
                    count += len(part)
            return f"{count} {sent.hexdigest() == read.hexdigest()}"

        _tell(road, host, int(port), exchange)


def many(root: str, host: str, port: str, count: str) -> None:
    """So many connections, all open before the first one is used; each carries its own number."""
    address = _resolved(host)
    connections: list[socket.socket | None] = [None] * int(count)

    def open_some(start: int) -> None:
        for at in range(start, int(count), 8):
            connections[at] = socket.socket()
            connections[at].connect((address, int(port)))  # type: ignore[union-attr]

    threads = [threading.Thread(target=open_some, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    good = 0
    for at, connection in enumerate(connections):
        assert connection is not None
        connection.sendall(b"%08d" % at)
    for at, connection in enumerate(connections):
        assert connection is not None
        connection.shutdown(socket.SHUT_WR)
        good += _rest(connection) == b"%08d" % at
    say(f"good: {good}")


def own_servers(root: str) -> None:
    """The sandbox's own loopback, at the proxy's port too, and on addresses of its own choosing."""
    for host, port in (("127.0.0.1", 4128), ("127.0.0.2", 0), ("::1", 0), ("0.0.0.0", 0), ("127.0.0.1", 5353)):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as listener, socket.socket(family) as client:
            listener.bind((host, port))
            listener.listen()
            client.connect(listener.getsockname())
            server, _ = listener.accept()
            with server:
                client.sendall(b"ping")
                assert server.recv(4) == b"ping"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hearing, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as saying:
        hearing.bind(("127.0.0.1", 0))
        saying.sendto(b"ping", hearing.getsockname())
        assert hearing.recv(4) == b"ping"
    say("served")


def fast_open(root: str, host: str, port: str) -> None:
    """sendto(2) and sendmsg(2) that connect, towards the address of an allowed name and past its connect(2)."""
    address = _resolved(host)
    for name in ("sendto", "sendmsg"):
        with socket.socket() as connection:
            connection.settimeout(5)

            def go(name: str = name, connection: socket.socket = connection) -> str:
                if name == "sendto":
                    connection.sendto(_request(host), socket.MSG_FASTOPEN, (address, int(port)))
                else:
                    connection.sendmsg([_request(host)], [], socket.MSG_FASTOPEN, (address, int(port)))
                return _answer(_rest(connection))

            _tell(name, host, int(port), go)
    _tell("mptcp", host, int(port), lambda: _mptcp(address, int(port), host))


def _mptcp(address: str, port: int, host: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as connection:
        connection.connect((address, port))
        return _ask(connection, host)


def datagrams(root: str, host: str, port: str) -> None:
    """UDP to the address of an allowed name, and to the world."""
    for target in (_resolved(host), "192.0.2.1", "169.254.169.254"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:

            def send_to(sock: socket.socket = sock, target: str = target) -> str:
                return str(sock.sendto(b"attack", (target, int(port))))

            _tell("sendto", target, int(port), send_to)

            def connected(sock: socket.socket = sock, target: str = target) -> str:
                sock.connect((target, int(port)))
                return str(sock.send(b"attack"))

            _tell("connected", target, int(port), connected)


def resolver_file(root: str) -> None:
    """Other servers for host names in /etc/resolv.conf, by every way to change it."""
    before = open("/etc/resolv.conf").read()

    def write() -> None:
        with open("/etc/resolv.conf", "w") as file:
            file.write("nameserver 192.0.2.1\n")

    def replace() -> None:
        os.symlink("/tmp/other", "/etc/.new")
        os.rename("/etc/.new", "/etc/resolv.conf")

    def mount() -> None:
        with open("/tmp/other", "w") as file:
            file.write("nameserver 192.0.2.1\n")
        if LIBC.mount(b"/tmp/other", os.path.realpath("/etc/resolv.conf").encode(), None, 4096, None):
            raise OSError(ctypes.get_errno(), "mount")

    ways = (write, replace, mount, lambda: os.unlink("/etc/resolv.conf"), lambda: os.chmod("/etc/resolv.conf", 0o666),
            lambda: os.truncate("/etc/resolv.conf", 0))  # fmt: skip
    for at, way in enumerate(ways):
        try:
            way()
            say(f"way {at}: it worked")
        except OSError as error:
            say(f"way {at}: {errno.errorcode.get(error.errno or 0)}")
    say("the same" if open("/etc/resolv.conf").read() == before else "changed")


def question(root: str, wanted: str) -> None:
    """DNS questions by UDP and TCP: the code of each answer and how many records it has. ``wanted``: JSON, names."""
    for name in json.loads(wanted):
        labels = b"".join(bytes((len(label),)) + label for label in name.encode("latin-1").split(b".") if label) + b"\0"
        for kind in (1, 28, 16, 65, 255):
            message = b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + labels + kind.to_bytes(2, "big") + b"\0\1"
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(PATIENCE)
                sock.sendto(message, ("198.18.0.1", 53))
                by_udp = sock.recv(4096)
            with socket.create_connection(("198.18.0.1", 53)) as stream:
                stream.sendall(len(message).to_bytes(2, "big") + message)
                by_tcp = stream.recv(4096)[2:]
            assert by_udp[:2] == b"\x12\x34"
            say(f"{ascii(name)[1:-1]} {kind}: {by_udp[3] & 15} {by_udp[7]}" + ("" if by_tcp == by_udp else " differs"))


def refused_body(root: str, host: str, port: str) -> None:
    """A request with a large body that is refused before it is read: the refusal has to arrive all the same."""
    with _proxy() as connection:
        size = 4 << 20
        connection.sendall(f"POST http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {size}\r\n\r\n".encode())
        try:
            connection.sendall(bytes(size))
        except OSError as error:
            say(f"sending: {errno.errorcode.get(error.errno or 0)}")
        _tell("post", host, int(port), lambda: _answer(_rest(connection)))


def racing(root: str, good: str, refused: str, port: str) -> None:
    """One thread connects, another writes the address of a refused host into the memory that connect(2) reads, as fast as it can."""
    import struct

    addresses = [socket.inet_aton(_resolved(good)), socket.inet_aton(refused)]
    memory = ctypes.create_string_buffer(16)
    memory.raw = struct.pack("=H", socket.AF_INET) + int(port).to_bytes(2, "big") + addresses[0] + bytes(8)
    over = threading.Event()

    def flip() -> None:
        at = 0
        while not over.is_set():
            at ^= 1
            ctypes.memmove(ctypes.addressof(memory) + 4, addresses[at], 4)

    thread = threading.Thread(target=flip)
    thread.start()
    seen: dict[str, int] = {}
    for _ in range(100):
        connection = socket.socket()
        failed = LIBC.connect(connection.fileno(), memory, 16)
        try:
            words = errno.errorcode.get(ctypes.get_errno(), "?") if failed else _ask(connection, good)
        except Refused:
            words = "garbled"  # the call was carried out in two steps: its own harm
        connection.close()
        seen[words] = seen.get(words, 0) + 1
    over.set()
    thread.join()
    say(f"seen: {' '.join(sorted(seen))}")


def twice(root: str, host: str, port: str) -> None:
    """Every road, and once more after the host has acted; then the address that the name had before, by itself."""
    address = _resolved(host)
    _tell_all({**RESOLVED, **NAMED}, host, int(port), host)
    wait_for_host()
    _tell_all({**RESOLVED, **NAMED}, host, int(port), host)
    _tell("direct", host, int(port), lambda: _ask(_direct(socket.AF_INET, address, int(port)), host))


def kept_open(root: str, host: str, port: str) -> None:
    """A connection that is there before the host acts, and is used after it."""
    with blocking(host, int(port)) as connection:
        connection.settimeout(PATIENCE)
        connection.sendall(b"GET / HTTP/1.1\r\n")
        wait_for_host()
        _tell("kept", host, int(port), lambda: _finish(connection, host))


def _finish(connection: socket.socket, host: str) -> str:
    connection.sendall(f"Host: {host}\r\nConnection: close\r\n\r\n".encode())
    return _answer(_rest(connection))


def sockets_inside(root: str) -> None:
    """What listens here, and which addresses there are."""
    for table in ("tcp", "tcp6", "udp", "udp6"):
        with open(f"/proc/net/{table}") as lines:
            for line in list(lines)[1:]:
                local, state = line.split()[1], line.split()[3]
                if state in ("0A", "07"):
                    say(f"{table} {local}")
    wait_for_host()


if __name__ == "__main__":
    main(globals())
