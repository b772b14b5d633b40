"""Reach "listed": an allowed name works from every program and by every road; what is not allowed is refused the same by all, at once."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator

import pytest
from runner import Bench, Ear, Outcome, Said, lacking
from small_world import GOOD, World, greet, made, outcomes, store

pytestmark = pytest.mark.needs("userns")

RESOLVED = {"blocking", "nonblocking", "patient", "mapped", "connect_address", "socks_address", "forged"}
NAMED = {"connect", "socks", "absolute"}
EVERY = RESOLVED | NAMED
UNLISTED = {"no name": RESOLVED, "403": {"connect", "absolute"}, "socks 2": {"socks"}}
# Refused after the name was resolved: a plain connection is told an errno, one that does not wait finds itself reset.
FORBIDDEN = {
    "EACCES": {"blocking", "mapped", "forged"},
    "ECONNRESET": {"nonblocking", "patient"},
    "403": {"connect", "connect_address", "absolute"},
    "socks 2": {"socks", "socks_address"},
}


@pytest.fixture
def world(bench: Bench) -> Iterator[World]:
    with made(bench) as world:
        yield world


def roads(lines: list[str]) -> dict[str, set[str]]:
    """Outcome → the roads alone, where all went to one host."""
    return {words: {road.split()[0] for road in found} for words, found in outcomes(lines).items()}


def by_all(world: World, host: str, port: int, *allow: str) -> dict[str, set[str]]:
    return roads(world.probe("by_all", json.dumps([(host, port)]), allow=allow))


# -- what is allowed works ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [GOOD, "*.example.org", f"{GOOD}:{{port}}", "GOOD.example.ORG.:{port}"])
def test_every_road_leads_to_an_allowed_host(world: World, rule: str) -> None:
    port = world.web()
    assert by_all(world, GOOD, port, rule.format(port=port)) == {"got welcome": EVERY}
    assert world.asked() == {GOOD}


@pytest.mark.parametrize("spelling", ["GOOD.Example.ORG", f"{GOOD}.", "gOOd.example.org."])
def test_other_spellings_of_an_allowed_name(world: World, spelling: str) -> None:
    port = world.web()
    assert by_all(world, spelling, port, GOOD) == {"got welcome": EVERY}
    assert world.asked() == {GOOD}


def test_servers_that_speak_first(world: World) -> None:
    port = world.serve(greet)
    assert roads(world.probe("talk_first", GOOD, port, allow=(GOOD,))) == {"got SSH-2.0-world HELLO": EVERY - {"absolute"}}


def test_much_in_both_directions_and_half_closed(world: World) -> None:
    port, size = world.serve(store), 64 << 20
    assert roads(world.probe("carry", GOOD, port, size, allow=(GOOD,), patience=300)) == {
        f"got {size} True": {"blocking", "patient", "connect", "socks"}
    }


def test_many_connections_at_a_time(world: World) -> None:
    port = world.serve(store)
    assert world.probe("many", GOOD, port, 200, allow=(GOOD,)) == ["good: 200"]


def test_own_loopback_works(world: World) -> None:
    assert world.probe("own_servers", allow=(GOOD,)) == ["served"]


def test_questions_for_names(world: World) -> None:
    lines = world.probe("question", json.dumps([GOOD, "localhost", "other.example.org", "_dns.good.example.org", ""]), allow=(GOOD,))
    expected = [f"{GOOD} 1: 0 1", f"{GOOD} 28: 0 0", f"{GOOD} 16: 0 0", f"{GOOD} 65: 0 0", f"{GOOD} 255: 0 0"]
    expected += ["localhost 1: 0 1", "localhost 28: 0 1", "localhost 16: 0 0", "localhost 65: 0 0", "localhost 255: 0 0"]
    for name in ("other.example.org", "_dns.good.example.org", ""):
        expected += [f"{name} {kind}: 3 0" for kind in (1, 28, 16, 65, 255)]
    assert lines == expected
    assert world.asked() == {GOOD}


# -- what is not allowed is refused, whichever way ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "other.example.org",
        f"evil{GOOD}",
        f"{GOOD}.evil.org",
        "example.org",
        f"sub.{GOOD}",
        f"{GOOD}x",
        "good-example.org",
        "xn--gd-fka.example.org",
    ],
)
def test_a_name_that_is_not_listed(world: World, host: str) -> None:
    port = world.web()
    world.names[host] = [["127.0.0.1"]]
    assert by_all(world, host, port, host) == {"got welcome": EVERY}
    assert by_all(world, host, port, GOOD) == UNLISTED
    assert world.reached[port] == 0
    assert world.asked() == set()


@pytest.mark.parametrize("rule", ["*.good.example.org", "*.example.com", "deep.good.example.org"])
def test_a_wildcard_is_for_whole_labels_below(world: World, rule: str) -> None:
    port = world.web()
    assert by_all(world, GOOD, port, rule) == UNLISTED
    assert (world.reached[port], world.asked()) == (0, set())


def test_a_port_that_is_not_listed(world: World) -> None:
    port, listed = world.web("other"), world.web()
    assert by_all(world, GOOD, port, f"{GOOD}:{port}") == {"got other": EVERY}
    assert by_all(world, GOOD, port, f"{GOOD}:{listed}") == FORBIDDEN
    assert world.reached[port] == 0
    assert by_all(world, GOOD, listed, f"{GOOD}:{listed}") == {"got welcome": EVERY}


DENYING = """
[network]
deny = ["other.example.org", "127.0.0.3", "*.closed.example.org:{port}"]
"""


def test_what_a_policy_denies_is_refused_although_it_is_listed(world: World) -> None:
    """A name, an address behind a name, and whatever ends in a name, at one port. The twin is the same list without the denials."""
    port = world.web()
    behind, deep = "behind.example.org", "deep.closed.example.org"
    world.web("denied", "127.0.0.3", port)
    world.public = ["127.0.0.1", "127.0.0.3"]
    world.names |= {"other.example.org": [["127.0.0.1"]], behind: [["127.0.0.3"]], deep: [["127.0.0.1"]]}
    hosts = {"other.example.org": "welcome", behind: "denied", deep: "welcome"}
    for host, body in hosts.items():
        assert by_all(world, host, port, "*.example.org") == {f"got {body}": EVERY}
    world.bench.stage.plant(world.bench.stage.home / ".config/houseroom/policy.toml", DENYING.replace("{port}", str(port)))
    assert by_all(world, GOOD, port, "*.example.org") == {"got welcome": EVERY}
    for host, refused in (("other.example.org", UNLISTED), (behind, FORBIDDEN), (deep, FORBIDDEN)):
        assert by_all(world, host, port, "*.example.org") == refused, host
        assert world.reached[port] == 0
    assert world.asked() == {deep}, "at another port it may be reached"
    outcome = world.run(world.bench.probe("egress_roads", "by_name", json.dumps([("other.example.org", port)])), "*.example.org")
    assert "got" not in outcome.out


def test_a_command_that_fails_is_told_what_was_refused(world: World) -> None:
    port = world.web()
    for host, told in (("other.example.org", True), (GOOD, False)):
        probe = world.bench.probe("egress_roads", "by_name", json.dumps([(host, port)]))
        outcome = world.run(["sh", "-c", '"$@"; exit 1', "sh", *probe], GOOD)
        words = " ".join(outcome.err.split())
        assert (f"connect {host}:{port}: no rule of the workspace policy allows {host}:{port}" in words) == told, outcome
        assert (f"--allow {host}:{port}" in words) == told, outcome


UNCLEAN = [
    f"{GOOD}\0", f"{GOOD}\0.evil.org", f"evil.org\0.{GOOD}", f"{GOOD}%00", f"{GOOD}%2eevil.org", f" {GOOD}", f"{GOOD} ", f"user@{GOOD}",
    f"{GOOD}@evil.org", f"{GOOD}#", f"evil.org#@{GOOD}", f"evil.org\\.{GOOD}", f"{GOOD}\\", f"evil.org/{GOOD}", f"{GOOD}..", f".{GOOD}",
    "good..example.org", f"{GOOD}\r\nX: y", f"{GOOD}\t", "g\xf6od.example.org", "good.example\xad.org", f"[{GOOD}]", f"{GOOD}:1",
    "*.example.org", "good_.example.org", "-good.example.org", "a" * 64 + ".example.org", ".".join(["a" * 60] * 4) + ".example.org",
]  # fmt: skip


def test_unclean_names(world: World) -> None:
    port = world.web()
    wanted = [(GOOD, port), *((name, port) for name in UNCLEAN if len(name) < 256)]
    found = outcomes(world.probe("by_name", json.dumps(wanted), allow=(GOOD, "*.example.org", "*.evil.org")))
    assert found.pop("got welcome") == {f"{road} {GOOD} {port}" for road in NAMED}
    assert set(found) <= {"400", "403", "socks 1", "socks 2", "nothing"}, found
    assert len(set().union(*found.values())) == 3 * (len(wanted) - 1)
    assert world.reached[port] == 3
    assert world.asked() == {GOOD}


# Spellings of this host's loopback, where a server listens, and of addresses that nothing of a sandbox has any business with.
LITERALS = [
    "127.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "127.0.1", "0177.0.0.1", "127.0.0.1", "127.0.0.2", "0", "0.0.0.0",
    "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]", "[::ffff:0:127.0.0.1]", "[fe80::1]", "169.254.169.254", "[fd00:ec2::254]", "[::ffff:169.254.169.254]",
    "100.100.100.200",
    "168.63.129.16", "10.0.0.1", "192.168.1.1", "172.16.0.1", "198.18.0.1", "255.255.255.255", "224.0.0.1", "1.1.1.1", "[2606:4700::1111]",
]  # fmt: skip


def test_literals_in_all_spellings(world: World) -> None:
    """With a server on the host's loopback; the twin lists the address itself, which is the only way to it."""
    port = world.web()
    world.public = []
    wanted = json.dumps([(literal, port) for literal in LITERALS])
    found = outcomes(world.probe("by_name", wanted, allow=(GOOD, "*.example.org")))
    assert set(found) <= {"400", "403", "502", "socks 1", "socks 2", "socks 4"}, found
    assert world.reached[port] == 0
    assert world.asked() == set()
    assert roads(world.probe("by_name", json.dumps([("127.1", port)]), allow=(f"127.0.0.1:{port}",))) == {"got welcome": NAMED}


def test_addresses_as_they_are(world: World) -> None:
    """Sockaddrs, SOCKS addresses, and words of init that the command says itself."""
    port = world.web()
    world.public = []
    world.serve(greet, "127.0.0.2", port)
    addresses = [
        "127.0.0.2", "169.254.169.254", "10.0.0.1", "192.0.2.1", "::ffff:127.0.0.2", "::ffff:169.254.169.254", "64:ff9b::7f00:1",
        "fd00:ec2::254", "2606:4700::1111", "::127.0.0.1", "1.1.1.1",
    ]  # fmt: skip
    found = outcomes(world.probe("by_address", json.dumps([(address, port) for address in addresses]), allow=(GOOD,)))
    own = {f"direct 127.0.0.2 {port}", f"direct ::ffff:127.0.0.2 {port}"}  # the sandbox's own loopback, where nobody listens
    assert found.pop("ECONNREFUSED") == own
    assert set(found) == {"EACCES", "403", "socks 2"}, found
    assert world.reached[port] == 0
    found = outcomes(world.probe("by_address", json.dumps([("127.0.0.1", port)]), allow=(f"127.0.0.1:{port}",)))
    assert found == {
        "ECONNREFUSED": {f"direct 127.0.0.1 {port}"},
        "got welcome": {f"{road} 127.0.0.1 {port}" for road in ("connect", "socks", "forged")},
    }


def test_addresses_that_stand_for_no_name(world: World) -> None:
    port = world.web()
    wanted = json.dumps([(address, port) for address in ("198.18.0.0", "198.18.0.2", "198.18.7.7", "198.19.255.255")])
    found = outcomes(world.probe("by_address", wanted, allow=(GOOD,)))
    assert set(found) == {"EHOSTUNREACH", "502", "socks 4"}, found
    assert world.reached[port] == 0


PRIVATE = [
    "127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "10.1.2.3", "172.31.0.1", "192.168.0.1", "169.254.169.254",
    "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "0.0.0.0", "198.18.0.1", "fe80::1", "224.0.0.1",
]  # fmt: skip


def test_an_allowed_name_that_leads_to_a_private_address(world: World) -> None:
    port = world.web()
    assert by_all(world, GOOD, port, GOOD) == {"got welcome": EVERY}
    world.public = []
    for address in PRIVATE:
        world.names[GOOD] = [[address]]
        assert by_all(world, GOOD, port, GOOD) == FORBIDDEN, address
        assert world.reached[port] == 0


def test_an_address_of_the_host_itself(world: World) -> None:
    """A public one too. The twin lists the address with the name."""
    from test_network_off import own_address

    address = own_address()
    if not address:
        pytest.skip("this host has no address beyond loopback")
    port = world.web(host=address)
    world.names[GOOD] = [[address]]
    world.public = []
    assert by_all(world, GOOD, port, GOOD, address) == {"got welcome": EVERY}
    assert by_all(world, GOOD, port, GOOD) == FORBIDDEN
    assert world.reached[port] == 0


@pytest.mark.parametrize("public", [["127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
def test_a_name_that_is_answered_otherwise_the_second_time(world: World, public: list[str]) -> None:
    """The first answer is for the question, the next ones for the connections; each is judged itself."""
    port = world.web()
    world.web("rebound", "127.0.0.2", port)
    world.names[GOOD] = [["127.0.0.1"], ["127.0.0.1"], ["127.0.0.2"]]
    world.public = public
    found = by_all(world, GOOD, port, GOOD)
    assert found.pop("got welcome") == {"blocking"}
    if "127.0.0.2" in public:
        assert found == {"got rebound": EVERY - {"blocking"}}
    else:
        assert found == {words: those - {"blocking"} for words, those in FORBIDDEN.items()}


def test_of_several_addresses_only_those_that_may_be(world: World) -> None:
    port = world.web()
    world.web("forbidden", "127.0.0.2", port)
    world.names[GOOD] = [["127.0.0.2", "::1", "127.0.0.1"]]
    assert by_all(world, GOOD, port, GOOD) == {"got welcome": EVERY}
    world.public = ["127.0.0.1", "127.0.0.2"]
    assert by_all(world, GOOD, port, GOOD) == {"got forbidden": EVERY}


def test_memory_that_changes_under_connect(world: World) -> None:
    port = world.web()
    world.web("forbidden", "127.0.0.2", port)
    for _ in range(20):  # who wins is chance: until the allowed one has won once
        (seen,) = world.probe("racing", GOOD, "127.0.0.2", port, allow=(GOOD,))
        assert "forbidden" not in seen
        if "welcome" in seen:
            break
    assert world.reached[port] > 0


# -- HTTP and TLS that say two things -------------------------------------------------------------------------------------


def test_requests_that_can_be_read_in_two_ways(world: World) -> None:
    port = world.web()
    other = f"other.example.org:{port}"
    good = f"{GOOD}:{port}"
    get = f"GET http://{good}/ HTTP/1.1\r\nHost: {good}\r\n"
    second = f"GET http://{other}/ HTTP/1.1\r\nHost: {other}\r\n\r\n"
    texts = {
        "plain": f"{get}\r\n",
        "twice": f"{get}\r\n{get}\r\n",
        "second host": f"{get}\r\n{second}",
        "other Host": f"GET http://{good}/ HTTP/1.1\r\nHost: {other}\r\n\r\n",
        "other CONNECT Host": f"CONNECT {good} HTTP/1.1\r\nHost: {other}\r\n\r\n",
        "no Host": f"GET http://{good}/ HTTP/1.1\r\n\r\n",
        "two Hosts": f"{get}Host: {other}\r\n\r\n",
        "two lengths": f"{get}Content-Length: 0\r\nContent-Length: {len(second)}\r\n\r\n{second}",
        "length and chunks": f"{get}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{second}",
        "odd coding": f"{get}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{second}",
        "folded": f"{get}X: y\r\n Transfer-Encoding: chunked\r\n\r\n",
        "blank before colon": f"{get}Content-Length : 5\r\n\r\n12345",
        "bare line feed": f"GET http://{good}/ HTTP/1.1\nHost: {good}\n\n",
        "NUL": f"{get}X: \0\r\n\r\n",
        "https": f"GET https://{good}/ HTTP/1.1\r\nHost: {good}\r\n\r\n",
        "path only": f"GET / HTTP/1.1\r\nHost: {good}\r\n\r\n",
        "user": f"GET http://{good}@{other}/ HTTP/1.1\r\nHost: {good}\r\n\r\n",
        "length of a request": f"{get}Content-Length: {len(second)}\r\n\r\n{second}",
        "chunk of a request": f"{get}Transfer-Encoding: chunked\r\n\r\n{len(second):x}\r\n{second}\r\n0\r\n\r\n",
        "no chunk": f"{get}Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        "host taken out": f"{get}Connection: host, x\r\n\r\n",
        "many fields": f"{get}{'X: y' * 1}\r\n" + "X: y\r\n" * 200 + "\r\n",
        "huge head": f"{get}X: {'y' * 70000}\r\n\r\n",
        "not HTTP": "\x80\x81\x82\r\n\r\n",
    }
    found = dict(line.split(": ") for line in world.probe("send", json.dumps(texts), allow=(GOOD,)))
    expected = dict.fromkeys(texts, "400")
    expected |= {
        "plain": "200",
        "twice": "200 200",
        "second host": "200 403",
        "odd coding": "501",
        "many fields": "431",
        "huge head": "431",
    }
    expected |= {"length of a request": "200", "chunk of a request": "200"}
    assert found == expected
    assert all(f"Host: {good}".lower().encode() in head.lower() for head in world.heads), world.heads
    assert world.asked() == {GOOD}


_TWICE = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 299 Not asked for\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "200"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n", "RST"),  # a 502 would be a part of the body
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "502"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", "502"),
        ("HTTP/1.1 200 OK\nX: y\n\n", "502"),
        (_TWICE, "200"),
        ("", "502"),
    ],
)
def test_answers_that_can_be_read_in_two_ways(world: World, answer: str, status: str) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer.encode())

    port = world.serve(talk)
    get = f"GET http://{GOOD}:{port}/ HTTP/1.1\r\nHost: {GOOD}:{port}\r\n\r\n"
    (line,) = world.probe("send", json.dumps({"it": get}), allow=(GOOD,))
    assert line.split(": ")[1] == status


def test_a_refusal_arrives_although_a_body_is_on_its_way(world: World) -> None:
    port = world.web()
    lines = world.probe("refused_body", "other.example.org", port, allow=(GOOD,))
    assert lines == [f"post other.example.org {port}: 403"]


def test_the_host_of_a_request_is_the_one_that_was_allowed(world: World) -> None:
    port = world.web()
    every = {f"{road} {GOOD} {port}" for road in EVERY}
    assert outcomes(world.probe("for_another", GOOD, port, GOOD, allow=(GOOD,))) == {"got welcome": every}
    found = outcomes(world.probe("for_another", GOOD, port, "other.example.org", allow=(GOOD,)))
    assert found.pop("got welcome") == {f"absolute {GOOD} {port}"}, "its Host is that of its address"
    assert len(set().union(*found.values())) == len(every) - 1 and set(found) <= {"ECONNRESET", "nothing"}, found


@pytest.mark.parametrize("pieces", [1, 50])
@pytest.mark.parametrize(("server_name", "passes"), [(GOOD, True), ("", True), ("other.example.org", False), (f"sub.{GOOD}", False)])
def test_the_name_in_tls_is_the_one_that_was_allowed(world: World, server_name: str, passes: bool, pieces: int) -> None:
    def talk(connection: socket.socket) -> None:
        said = connection.recv(100)
        world.heard.append(said)
        connection.sendall(b"hello" if said[:1] == b"\x16" else b"what")
        while connection.recv(65536):
            pass  # a reset for what is unread would take the word back

    port = world.serve(talk)
    found = roads(world.probe("hello", GOOD, port, server_name, pieces, allow=(GOOD, "other.example.org")))
    if passes:
        assert found == {"got hello": EVERY - {"absolute"}}
    else:
        assert set(found) <= {"nothing", "ECONNRESET", "EPIPE"}, found
        assert not [said for said in world.heard if said]


# -- what is no TCP -------------------------------------------------------------------------------------------------------


def test_no_way_round_connect(world: World) -> None:
    port = world.web()
    found = roads(world.probe("fast_open", GOOD, port, allow=(GOOD,)))
    assert not [words for words in found if words.startswith("got")], found
    assert world.reached[port] == 0


@pytest.mark.parametrize("way", ["udp_send_to", "udp_connected", "udp_message", "udp_many", "dns_question"])
def test_no_datagram_reaches_the_host(bench: Bench, way: str) -> None:
    ear = Ear()
    try:
        port = ear.inet(socket.SOCK_DGRAM)
        bench.twin(bench.probe("attack_network", way, "127.0.0.1", port), ear, options=("--allow", GOOD), env={"HRPROBE": "1"})
    finally:
        ear.close()


@pytest.mark.parametrize(
    "way", ["tcp", "tcp_bound", "tcp_nonblocking", "tcp_mapped", "tcp_fast_open", "tcp_fast_open_message", "mptcp", "node_tcp"]
)
def test_no_connection_reaches_the_hosts_loopback(bench: Bench, way: str) -> None:
    if way == "node_tcp" and not shutil.which("node"):
        lacking("node")
    ear = Ear()
    try:
        port = ear.inet()
        bench.twin(bench.probe("attack_network", way, "127.0.0.1", port), ear, options=("--allow", GOOD), env={"HRPROBE": "1"})
    finally:
        ear.close()


def test_no_raw_packets(bench: Bench) -> None:
    control = bench.identity.uid == 0 or "needs root"
    bench.twin(bench.probe("attack_network", "raw_icmp", "127.0.0.1", "0"), Said("DONE"), control=control, options=("--allow", GOOD))


def test_no_datagrams(world: World) -> None:
    found = roads(world.probe("datagrams", GOOD, 53, allow=(GOOD,)))
    assert found == {"ENETUNREACH": {"sendto", "connected"}}


def test_the_resolver_of_the_sandbox_stays(world: World) -> None:
    *ways, last = world.probe("resolver_file", allow=(GOOD,))
    assert last == "the same"
    assert not [way for way in ways if way.endswith("it worked")], ways


# -- what was reached -----------------------------------------------------------------------------------------------------


def counted(outcome: Outcome) -> dict[str, tuple[int, int, int]]:
    """Of a run with ``--json``: destination → connections, bytes out, bytes in."""
    said = json.loads(outcome.err.splitlines()[-1])
    return {each["where"]: (each["connections"], each["sent"], each["received"]) for each in said["reached"]}


def test_connections_and_bytes_of_each_destination_are_told(world: World) -> None:
    """By every road, also of what the kernel moved and of a connection that was open at the end; of what was refused nothing."""
    port, other = world.serve(store), world.web()
    size = 4 << 20
    carry = world.bench.probe("egress_roads", "carry", GOOD, port, size)
    outcome = world.run(carry, GOOD, options=("--json",))
    assert counted(outcome) == {f"{GOOD}:{port}": (4, 4 * size, 4 * size)}
    world.names["other.example.org"] = [["127.0.0.1"]]
    every = world.bench.probe("egress_roads", "by_all", json.dumps([(GOOD, other), ("other.example.org", other)]))
    outcome = world.run(every, GOOD, options=("--json",))
    found = counted(outcome)
    assert found.keys() == {f"{GOOD}:{other}"}
    connections, sent, received = found[f"{GOOD}:{other}"]
    assert (connections, world.reached[other]) == (len(EVERY), len(EVERY))
    assert sent == sum(len(head) + 4 for head in world.heads)
    kept, closed = (len(f"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n{field}\r\n\r\nwelcome") for field in ("X: y", "Connection: close"))
    assert received == (len(EVERY) - 1) * closed + kept, "a request to the proxy itself is carried on without its Connection field"
    left_open = "exec 3<>/dev/tcp/$0/$1; printf 'GET / HTTP/1.1\\r\\nHost: %s\\r\\n\\r\\n' $0 >&3; read -r line <&3; kill -9 $$"
    outcome = world.run(["bash", "-c", left_open, GOOD, str(other)], GOOD, options=("--json",))
    assert counted(outcome)[f"{GOOD}:{other}"] == (1, len(world.heads[0]) + 4, kept), outcome


def test_nothing_is_told_of_where_nothing_was_reached(world: World) -> None:
    port = world.web()
    probe = world.bench.probe("egress_roads", "by_name", json.dumps([("other.example.org", port)]))
    assert counted(world.run(probe, GOOD, options=("--json",))) == {}
    for host, options, told in ((GOOD, ("--verbose",), True), (GOOD, (), False), ("other.example.org", ("--verbose",), False)):
        probe = world.bench.probe("egress_roads", "by_name", json.dumps([(host, port)]))
        outcome = world.run(probe, GOOD, options=options)
        assert (f"reached {GOOD}:{port} (3 connections, " in " ".join(outcome.err.split())) == told, outcome


def test_a_run_with_a_refusal_tells_both_in_its_end(world: World) -> None:
    port = world.web()
    world.names["other.example.org"] = [["127.0.0.1"]]
    probe = world.bench.probe("egress_roads", "by_name", json.dumps([(GOOD, port), ("other.example.org", port)]))
    outcome = world.run(["sh", "-c", '"$@"; exit 1', "sh", *probe], GOOD)
    words = " ".join(outcome.err.split())
    assert f"connect other.example.org:{port}" in words and f"houseroom: reached {GOOD}:{port} (3 connections, " in words
