"""In a network namespace of its own: a name server that notes each question, a web server, and somebody who asks for names.

``own_resolver.py bare|inside ALLOWED NAME…`` prints what each name led to and what the name server was asked, as JSON. Needs to be
root in a new user, mount and network namespace.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import threading

ASK = """
import http.client, json, sys
found = {}
for name in sys.argv[2:]:
    try:
        connection = http.client.HTTPConnection(name, int(sys.argv[1]), timeout=20)
        connection.request("GET", "/")
        found[name] = connection.getresponse().read().decode()
    except OSError as error:
        found[name] = str(error)
print(json.dumps(found))
"""
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        name = b"lo".ljust(16, b"\0")
        flags = struct.unpack("16xH", fcntl.ioctl(sock, SIOCGIFFLAGS, name + bytes(2))[:18])[0]
        fcntl.ioctl(sock, SIOCSIFFLAGS, name + struct.pack("H", flags | IFF_UP) + bytes(14))


def _put(path: str, text: str) -> None:
    """Another file in the place of one of the system's."""
    own = os.path.expanduser(f"~/own-{os.path.basename(path)}")
    with open(own, "w") as file:
        file.write(text)
    os.chmod(own, 0o644)
    subprocess.run(["mount", "--bind", own, path], check=True)


def _answer_names(sock: socket.socket, known: str, asked: list[str]) -> None:
    while True:
        message, where = sock.recvfrom(4096)
        labels, at = [], 12
        while message[at]:
            labels.append(message[at + 1 : at + 1 + message[at]].decode("latin-1"))
            at += 1 + message[at]
        name, kind = ".".join(labels).lower(), message[at + 1 : at + 3]
        asked.append(name)
        question = message[12 : at + 5]
        found = name == known and kind == b"\0\1"
        record = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\0\0\1" if found else b""
        code = 0x8400 | (0 if name == known else 3)
        sock.sendto(message[:2] + struct.pack(">5H", code, 1, int(found), 0, 0) + question + record, where)


def _serve_page(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nwelcome")


def main(way: str, allowed: str, *names: str) -> None:
    _raise_loopback()
    _put("/etc/resolv.conf", "nameserver 127.0.0.1\nsearch search.example.com\noptions timeout:2 attempts:1\n")
    _put("/etc/nsswitch.conf", "hosts: files dns\n")
    asked: list[str] = []
    questions = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    questions.bind(("127.0.0.1", 53))
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_answer_names, args=(questions, allowed, asked), daemon=True).start()
    threading.Thread(target=_serve_page, args=(listener,), daemon=True).start()
    argv = [sys.executable, "-S", "-c", ASK, str(listener.getsockname()[1]), allowed, *names]
    if way == "inside":
        argv = [sys.executable, "-m", "houseroom", "run", "-q", "--allow", allowed, "--allow", "127.0.0.1", "--", *argv]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
    print(json.dumps({"got": json.loads(done.stdout), "asked": asked}))


if __name__ == "__main__":
    main(*sys.argv[1:])
