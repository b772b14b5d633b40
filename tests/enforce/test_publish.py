"""Published ports: this host reaches what listens inside, at its own loopback and nowhere else; nothing else is opened by it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from by_name import Sessions
from runner import PATIENCE, Bench, alive, eventually
from test_session import application, said

from houseroom.session.proxy.buffers import SHARES

pytestmark = pytest.mark.needs("userns")

HOSTS = ("127.0.0.1", "::1")
# Servers for the inside: ADDRESS PORT. Each says READY once it listens.
_BEGIN = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listener = socket.socket(family)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if family == socket.AF_INET6:
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, "both" not in sys.argv)
listener.bind((sys.argv[1], int(sys.argv[2])))
listener.listen(4096)
print("READY", flush=True)
"""
UPPER = (
    _BEGIN
    + """
import threading
def serve(connection):
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data.upper())
while True:
    threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()
"""
)
# Reads to the end and only then says what it has, and all of it again; and waits for a word before it reads at all.
STORE = (
    _BEGIN
    + """
connection = listener.accept()[0]
sys.stdin.readline()
kept = []
while data := connection.recv(1 << 18):
    kept.append(data)
connection.sendall(str(sum(map(len, kept))).encode() + b"\\n")
for data in kept:
    connection.sendall(data)
connection.shutdown(socket.SHUT_WR)
"""
)


def free_port() -> int:
    """One that nobody listens at, on either loopback."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = int(found.getsockname()[1])
            try:
                socket.create_server(("::1", port), family=socket.AF_INET6).close()
            except OSError as error:
                if error.errno != 99 and socket.has_ipv6:
                    continue
            return port


@contextmanager
def server(
    bench: Bench, program: str, *arguments: object, options: tuple[str, ...], inside: bool = True
) -> Iterator[subprocess.Popen[bytes]]:
    argv = [bench.identity.python, "-S", "-c", program, *map(str, arguments)]
    process = bench.start(argv, inside=inside, options=options, stdin=subprocess.PIPE)
    try:
        heard = Bench.until_ready(process)
        assert b"READY" in heard, (heard, process.communicate(timeout=PATIENCE))
        yield process
    finally:
        Bench.end(process)


def talk(host: str, port: int, data: bytes = b"hello") -> bytes:
    """What a client gets that says something and ends its side; b"" where it is refused or cut off."""
    try:
        with socket.create_connection((host, port), timeout=PATIENCE) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            heard = b""
            while part := client.recv(65536):
                heard += part
            return heard
    except ConnectionError:
        return b""


def publishers(port: int, *others: int) -> list[int]:
    """Processes that were forked from a run with this option and have left it."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
            settled = os.getsid(int(entry)) == int(entry)
            if os.geteuid() == 0:  # it is not dumpable: others see none of its descriptors
                settled = settled and os.readlink(f"/proc/{entry}/fd/0") == os.devnull
        except OSError:
            continue  # it has just ended
        if b"--publish" in words and b"%d" % port in words and settled and int(entry) not in others and alive(int(entry)):
            found.append(int(entry))
    return found


def publisher(process: subprocess.Popen[bytes], port: int) -> int:
    assert eventually(lambda: len(publishers(port, process.pid)) == 1)
    return publishers(port, process.pid)[0]


def closed(port: int) -> bool:
    return eventually(lambda: all(refused(host, port) for host in HOSTS))


def refused(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=PATIENCE).close()
    except OSError:
        return True
    return False


# -- what is reached ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_the_host_reaches_what_listens_inside(bench: Bench, address: str) -> None:
    port = free_port()
    for _again in range(2):  # from the policy, and from what is remembered
        with server(bench, UPPER, address, port, options=("--publish", str(port))):
            assert [talk(host, port) for host in HOSTS] == [b"HELLO", b"HELLO"]
    with server(bench, UPPER, address, port, options=()):
        assert [talk(host, port) for host in HOSTS] == [b"", b""]


def test_several_ports_and_only_those(bench: Bench) -> None:
    first, second, third = sorted({free_port() for _ in range(40)})[:3]
    options = ("--publish", str(first), f"--publish={second}")
    each = 'for port in "$@"; do "$0" -S -c "$PROGRAM" 127.0.0.1 "$port" & done; wait'
    argv = ["sh", "-c", each, bench.identity.python, str(first), str(second), str(third)]
    process = bench.start(argv, inside=True, options=options, env={"PROGRAM": UPPER})
    try:
        assert eventually(lambda: talk("127.0.0.1", first) == talk("127.0.0.1", second) == b"HELLO")
        assert talk("127.0.0.1", third) == b""
    finally:
        Bench.end(process)


def test_only_at_the_loopback(bench: Bench) -> None:
    """A server on all addresses of the host is reached at each of them; one that is published at 127.0.0.1 and ::1."""
    port = free_port()
    others = ["127.0.0.2", *_own_addresses()]
    with server(bench, UPPER, "0.0.0.0", port, options=(), inside=False):
        assert [talk(host, port) for host in others] == [b"HELLO"] * len(others)
    with server(bench, UPPER, "0.0.0.0", port, options=("--publish", str(port))):
        assert talk("127.0.0.1", port) == b"HELLO"
        assert [refused(host, port) for host in others] == [True] * len(others)


def _own_addresses() -> list[str]:
    """The address by which this host reaches others, where it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return []
        found = str(sock.getsockname()[0])
        return [] if found.startswith("127.") else [found]


def test_before_anything_listens_a_client_is_cut_off_and_a_later_one_is_not(bench: Bench) -> None:
    port = free_port()
    waits = "import sys\nprint('READY', flush=True)\nsys.stdin.readline()\n" + UPPER
    with server(bench, waits, "127.0.0.1", port, options=("--publish", str(port))) as process:
        assert talk("127.0.0.1", port) == b""
        assert process.stdin
        process.stdin.write(b"go\n")
        process.stdin.flush()
        assert b"READY" in Bench.until_ready(process)
        assert talk("127.0.0.1", port) == b"HELLO"


def test_with_listed_hosts_too(bench: Bench) -> None:
    port = free_port()
    with server(bench, UPPER, "127.0.0.1", port, options=("--publish", str(port), "--allow", "nowhere.invalid")):
        assert talk("127.0.0.1", port) == b"HELLO"


def test_the_hosts_own_network_needs_none(bench: Bench) -> None:
    """A program inside listens on the host itself: there is nothing to publish, and nobody who could be in its way."""
    port = free_port()
    with server(bench, UPPER, "127.0.0.1", port, options=("--publish", str(port), "--net", "open")) as process:
        assert talk("127.0.0.1", port) == b"HELLO"
        assert publishers(port, process.pid) == []


# -- much, slowly, and often ----------------------------------------------------------------------------------------------


def test_much_in_both_directions_and_an_end_on_each_side(bench: Bench) -> None:
    """All that is sent arrives, the end of one direction too, while the other one goes on. Who does not read holds up the sender."""
    port, data = free_port(), os.urandom(1 << 20) * 48
    with (
        server(bench, STORE, "127.0.0.1", port, options=("--publish", str(port))) as process,
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client,
    ):
        client.setblocking(False)
        sent = _send_until_full(client, data)
        assert 0 < sent < len(data)
        assert process.stdin
        process.stdin.write(b"go\n")
        process.stdin.flush()
        client.settimeout(PATIENCE)
        client.sendall(data[sent:])
        client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as lines:
            assert int(lines.readline()) == len(data)
            assert lines.read() == data


FILL = (
    _BEGIN
    + """
connection = listener.accept()[0]
connection.setblocking(False)
sent = 0
try:
    while True:
        sent += connection.send(bytes(1 << 16))
except BlockingIOError:
    print(sent, flush=True)
"""
)


def test_what_was_sent_before_the_end_is_still_fetched(bench: Bench) -> None:
    port = free_port()
    with (
        server(bench, FILL, "127.0.0.1", port, options=("--publish", str(port))) as process,
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client,
    ):
        sent = int(process.communicate(timeout=PATIENCE)[0].split()[-1])
        assert process.returncode == 0 and sent > 1 << 18
        assert closed(port)
        received = 0
        while part := client.recv(1 << 18):
            received += len(part)
        assert received == sent


def _send_until_full(client: socket.socket, data: bytes) -> int:
    """Send until nothing more is taken, and not a moment later either."""
    sent = 0

    def stuck() -> bool:
        nonlocal sent
        before = sent
        try:
            while sent < len(data):
                sent += client.send(data[sent : sent + (1 << 16)])
        except BlockingIOError:
            pass
        return sent == before

    assert eventually(stuck)
    return sent


def test_a_thousand_at_once_and_more(bench: Bench) -> None:
    port, count = free_port(), 1100
    _room_for(count + 200)
    options = ("--publish", str(port))
    # One thread: a thousand of them are too many for some hosts.
    program = (
        _BEGIN
        + """
import asyncio
async def serve(reader, writer):
    writer.write((await reader.readline()).upper())
    await writer.drain()
    writer.close()
async def main():
    await (await asyncio.start_server(serve, sock=listener, backlog=4096)).serve_forever()
asyncio.run(main())
"""
    )
    with server(bench, program, "127.0.0.1", port, options=options):
        clients = [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) for _ in range(count)]
        heard = []
        for at, client in enumerate(clients):  # those beyond the first thousand wait until these end
            with client:
                client.sendall(b"%dx\n" % at)
                heard.append(client.recv(100))
        assert heard == [b"%dX\n" % at for at in range(count)]
        assert talk("127.0.0.1", port, b"last\n") == b"LAST\n"


def _room_for(count: int) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            pytest.skip(f"needs {count} descriptors")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


# -- ports that are taken -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0"])
def test_a_port_that_is_taken_stops_the_start(bench: Bench, host: str) -> None:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as taken:
        port = str(taken.getsockname()[1])
        outcome = bench.run(["touch", "made"], inside=True, options=("--publish", port))
    assert outcome.status == 125
    assert f"can't publish port {port}: Address already in use" in outcome.err and "publish another port" in outcome.err, outcome
    assert not (bench.stage.workspace / "made").exists()
    assert bench.run(["touch", "made"], inside=True, options=("--publish", port)).status == 0
    assert (bench.stage.workspace / "made").exists()


def test_two_sandboxes_listen_at_the_same_port_inside(bench: Bench) -> None:
    port = free_port()
    with server(bench, UPPER, "127.0.0.1", port, options=("--publish", str(port))):
        with server(bench, UPPER.replace("upper", "title"), "127.0.0.1", port, options=()):
            assert talk("127.0.0.1", port) == b"HELLO"
        refusal = bench.run(["true"], inside=True, options=("--publish", str(port)))
        assert refusal.status == 125 and f"port {port}" in refusal.err, refusal
        assert talk("127.0.0.1", port) == b"HELLO"


def test_doctor_takes_no_port(bench: Bench) -> None:
    port = free_port()
    bench.stage.plant(bench.stage.home / ".config/houseroom/policy.toml", f"[network]\npublish = [{port}]\n", 0o644)
    with server(bench, UPPER, "127.0.0.1", port, options=()):
        assert talk("127.0.0.1", port) == b"HELLO"
        assert bench.run(["true"], inside=True).status == 125
        done = Sessions(bench).call("doctor")
        assert done.returncode == 0 and b"nothing was tried" not in done.stdout, done


def test_one_after_the_other(bench: Bench) -> None:
    """Who publishes for a sandbox that has ended lets go of its port by himself, a moment later: the next start waits for it."""
    port = str(free_port())
    assert [bench.run(["true"], inside=True, options=("--publish", port)).status for _ in range(5)] == [0] * 5


def test_ports_at_which_nobody_inside_may_listen(bench: Bench) -> None:
    outcome = bench.run(["true"], inside=True, options=("--publish", "80"))
    assert outcome.status == 125 and "port 80" in outcome.err, outcome


# -- life and death -------------------------------------------------------------------------------------------------------


def test_it_ends_with_the_command(bench: Bench) -> None:
    port = free_port()
    with server(bench, UPPER + "\n", "127.0.0.1", port, options=("--publish", str(port))) as process:
        found = publisher(process, port)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=PATIENCE)
        assert closed(port) and eventually(lambda: not alive(found))


def test_it_ends_with_the_supervisor(bench: Bench) -> None:
    port = free_port()
    with server(bench, UPPER, "127.0.0.1", port, options=("--publish", str(port))) as process:
        found = publisher(process, port)
        process.kill()
        process.wait()
        assert closed(port) and eventually(lambda: not alive(found))


def test_it_ends_with_init_and_cuts_off_who_is_connected(bench: Bench) -> None:
    port = free_port()
    with server(bench, UPPER, "127.0.0.1", port, options=("--publish", str(port))) as process:
        found = publisher(process, port)
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"HELLO"
            (init,) = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
            os.kill(init, signal.SIGKILL)
            with pytest.raises(ConnectionError):
                client.recv(100) or _reset()
        assert closed(port) and eventually(lambda: not alive(found))


# Sends to each client as much as is taken; how much that was is told in the order of their coming.
FLOOD = (
    _BEGIN
    + """
import select, time
connections, sent, last = [], {}, time.monotonic()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
listener.setblocking(False)
while True:
    reading, writing, _ = select.select([sys.stdin, listener], connections, [], 5)
    if sys.stdin in reading:
        break
    if listener in reading:
        connections.append(listener.accept()[0])
        connections[-1].setblocking(False)
    for one in writing:
        try:
            sent[one] = sent.get(one, 0) + one.send(bytes(1 << 16))
        except BlockingIOError:
            pass
print(*(sent.get(one, 0) for one in connections), flush=True)
"""
)


def _stalled(port: int, read: int) -> socket.socket:
    """A client that has been quick once, which makes the kernel let buffers grow, and reads nothing more."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    client.settimeout(PATIENCE)
    client.connect(("127.0.0.1", port))
    while read:
        read -= len(client.recv(min(read, 1 << 16)))
    return client


def test_what_clients_do_not_fetch_is_bounded(bench: Bench) -> None:
    """The twin goes without the publisher's shares: one connection on the host, of the kernel's choice, takes more than a late one here."""
    port, count, read = free_port(), 80, 4 << 20
    with ExitStack() as stack, server(bench, FLOOD, "127.0.0.1", port, options=("--publish", str(port))) as process:
        for _ in range(count):
            stack.enter_context(_stalled(port, read))
        time.sleep(1)  # until nothing more is taken; a bound that is not kept shows all the more
        said, _ = process.communicate(b"\n", timeout=PATIENCE)
    held = [int(word) - read for word in said.split()]
    assert len(held) == count and min(held) >= 0
    share = next(size for most, size in SHARES if count <= most)
    bound = (
        2 * 2 * share + 2 * (2 << 16) + (4 << 16)
    )  # the publisher's two buffers; both ends; a packet of the loopback for each of the four
    assert max(held[64:]) <= bound
    with socket.create_server(("127.0.0.1", 0)) as listener, _stalled(listener.getsockname()[1], 0):
        plain, taken = listener.accept()[0], 0
        plain.setblocking(False)
        with plain, suppress(BlockingIOError):
            while True:
                taken += plain.send(bytes(1 << 16))
    assert taken > bound


def _reset() -> None:
    raise ConnectionError("an end is as good as a reset")


def test_a_killed_publisher_closes_the_port_and_leaves_the_command_alone(bench: Bench) -> None:
    port = free_port()
    with server(bench, STORE, "127.0.0.1", port, options=("--publish", str(port))) as process:
        os.kill(publisher(process, port), signal.SIGKILL)
        assert closed(port)
        assert process.poll() is None


# -- what those inside see of it, and it of others ------------------------------------------------------------------------

LOOK = """
import os, socket
for entry in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
    print("process", entry, open(f"/proc/{entry}/comm").read().strip())
for name in ("tcp", "tcp6", "udp", "udp6"):
    for line in open("/proc/net/" + name).read().splitlines()[1:]:
        print("socket", name, *line.split()[1:4])
"""


def test_nothing_of_it_is_inside(bench: Bench) -> None:
    """The same processes and sockets as without; and what it connects with is a peer on the loopback like any other."""
    port = free_port()
    argv = [bench.identity.python, "-S", "-c", LOOK]
    plain, published = (bench.run(argv, inside=True, options=options) for options in ((), ("--publish", str(port))))
    assert plain.status == 0 and plain.out.count("process") >= 1
    assert published.out == plain.out
    peers = _BEGIN + "while True:\n    c, a = listener.accept(); c.recv(100); c.sendall(a[0].encode()); c.close()\n"
    with server(bench, peers, "127.0.0.1", port, options=("--publish", str(port))):
        assert talk("127.0.0.1", port) == b"127.0.0.1"


def test_it_keeps_no_right_and_nothing_of_the_callers(bench: Bench) -> None:
    port = free_port()
    with server(bench, UPPER, "127.0.0.1", port, options=("--publish", str(port))) as process:
        assert talk("127.0.0.1", port) == b"HELLO"  # it is at work
        found = publisher(process, port)
        status = dict(line.split(":", 1) for line in Path(f"/proc/{found}/status").read_text().splitlines())
        assert {status[name].strip() for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {"0" * 16}
        assert status["NoNewPrivs"].strip() == "1"
        assert os.stat(f"/proc/{found}/environ").st_uid == 0  # not dumpable (proc(5))
        if os.geteuid() == 0:
            (init,) = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
            spaces = {name: os.readlink(f"/proc/{found}/ns/{name}") for name in ("net", "user", "pid", "mnt")}
            assert {name for name in spaces if spaces[name] == os.readlink(f"/proc/{init}/ns/{name}")} == {"net", "user"}
            assert {name for name in spaces if spaces[name] == os.readlink(f"/proc/self/ns/{name}")} == {"pid", "mnt"}
            assert os.readlink(f"/proc/{found}/cwd") == "/"
            kinds = {os.readlink(entry).partition(":")[0] for entry in Path(f"/proc/{found}/fd").iterdir()}
            bundle = {kind for kind in kinds if kind.endswith(".bundle")}
            assert kinds - bundle <= {os.devnull, "socket", "anon_inode"}, kinds


# -- sessions -------------------------------------------------------------------------------------------------------------

WITH_A_SERVER = """
import socket
SERVER = sys.argv[2]
def hear(port, host="127.0.0.1"):
    try:
        with socket.create_connection((host, port)) as client:
            client.sendall(b"hello"); client.shutdown(socket.SHUT_WR)
            return client.recv(100).decode()
    except ConnectionError:
        return "refused"
port = int(sys.argv[1])
"""


def test_in_a_session(bench: Bench) -> None:
    program = """
with Session(publish=[port]) as s:
    served = s.popen([sys.executable, "-S", "-c", SERVER, "127.0.0.1", str(port)], stdout=PIPE)
    served.stdout.readline()
    print(hear(port), hear(port, "::1"))
    try:
        Session(publish=[port])
    except OSError as error:
        print(error.subject, error.errno)
    print(hear(port))
with Session(publish=[port]) as s:
    print(hear(port))
with Session() as s:
    served = s.popen([sys.executable, "-S", "-c", SERVER, "127.0.0.1", str(port)], stdout=PIPE)
    served.stdout.readline()
    print(hear(port))
"""
    port = free_port()
    lines = said(bench, WITH_A_SERVER + program, str(port), UPPER)
    assert lines == ["HELLO HELLO", f"port {port} 98", "HELLO", "refused", "refused"]
    assert closed(port)


def test_in_an_asynchronous_session(bench: Bench) -> None:
    program = """
import asyncio
from houseroom import AsyncSession
async def main():
    async with AsyncSession(publish=[port]) as s:
        served = await s.popen([sys.executable, "-S", "-c", SERVER, "127.0.0.1", str(port)], stdout=PIPE)
        await served.stdout.readline()
        print(await asyncio.to_thread(hear, port))
asyncio.run(main())
"""
    port = free_port()
    assert said(bench, WITH_A_SERVER + program, str(port), UPPER) == ["HELLO"]
    assert closed(port)


def test_in_a_session_in_the_background(bench: Bench) -> None:
    port = free_port()
    sessions = Sessions(bench)
    try:
        sessions.start("served", "--publish", str(port))
        script = f'"$0" -S -c "$1" 127.0.0.1 {port} > served 2>&1 & until grep -q READY served; do sleep 0.02; done'
        assert sessions.exec("served", "sh", "-c", script, bench.identity.python, UPPER).returncode == 0
        assert talk("127.0.0.1", port) == b"HELLO"
        taken = sessions.call("session", "start", "other", "--publish", str(port))
        assert taken.returncode == 125 and b"port %d" % port in taken.stderr, taken
        assert sessions.call("session", "stop", "served").returncode == 0
        assert closed(port)
    finally:
        sessions.end()


def test_what_is_no_port_is_an_error_of_the_caller(bench: Bench) -> None:
    outcome = application(bench, "Session(publish=[0])")
    assert outcome.status == 1 and "ValueError: 0 is not a port" in outcome.err
    for word in ("0", "65536", "http", "80:80", "-1", ""):
        refusal = bench.run(["true"], inside=True, options=(f"--publish={word}",))
        assert refusal.status == 2 and "--publish" in refusal.err, refusal
