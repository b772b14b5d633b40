"""The host's own proxy, where there is no other way out: used where its user says so, for what the rules list, and never otherwise."""

from __future__ import annotations

import json
import socket
import threading
from base64 import b64encode
from collections.abc import Iterator

import pytest
from runner import Bench, Outcome
from small_world import GOOD, World, greet, made, outcomes

pytestmark = pytest.mark.needs("userns")

OTHER = "other.example.org"
USER = "me:hunter2"
HOST = ("--upstream", "host")
RESOLVED = {"blocking", "nonblocking", "patient", "mapped", "connect_address", "socks_address", "forged"}
EVERY = RESOLVED | {"connect", "socks", "absolute"}


class Corporation:
    """A proxy of the host's network. It alone knows where ``names`` lead; ``asked`` are the requests that it heard."""

    def __init__(self, world: World):
        self.world = world
        self.names = {GOOD: "127.0.0.1", OTHER: "127.0.0.1"}
        self.asked: list[str] = []
        self.first = b""  # that is said in one piece with the answer
        self.port = world.serve(self._talk)

    @property
    def variables(self) -> dict[str, str]:
        return {"https_proxy": f"http://{USER}@127.0.0.1:{self.port}", "no_proxy": "direct.example.org"}

    def _talk(self, connection: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            part = connection.recv(1)
            if not part:
                return
            data += part
        request, *fields = data.decode().split("\r\n")
        method, target, _ = request.split()
        self.asked.append(f"{method} {target}")
        host, _, port = target.rpartition(":")
        if f"Proxy-Authorization: Basic {b64encode(USER.encode()).decode()}" not in fields:
            connection.sendall(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
        elif host not in self.names:
            connection.sendall(b"HTTP/1.1 503 Unknown\r\nContent-Length: 0\r\n\r\n")
        else:
            with socket.create_connection((self.names[host], int(port))) as server:
                greeting = server.recv(1000) if self.first else b""
                connection.sendall(b"HTTP/1.1 200 OK\r\nVia: corporation\r\n\r\n" + greeting)
                back = threading.Thread(target=_pass_on, args=(server, connection), daemon=True)
                back.start()
                _pass_on(connection, server)
                back.join()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    try:
        while part := source.recv(65536):
            sink.sendall(part)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


@pytest.fixture
def world(bench: Bench) -> Iterator[World]:
    with made(bench) as world:
        world.names = {}  # the host itself can resolve nothing
        yield world


@pytest.fixture
def corporation(world: World) -> Corporation:
    return Corporation(world)


def by_all(world: World, host: str, port: int, *allow: str, **how: object) -> dict[str, set[str]]:
    lines = world.probe("by_all", json.dumps([(host, port)]), allow=allow, **how)
    return {words: {road.split()[0] for road in found} for words, found in outcomes(lines).items()}


def got(found: dict[str, set[str]]) -> set[str]:
    return {words for words in found if words.startswith("got")}


def test_every_road_leads_through_it_to_what_is_listed(world: World, corporation: Corporation) -> None:
    """The twin: nothing is reached where nobody said so."""
    port = world.web()
    assert by_all(world, GOOD, port, GOOD, options=HOST, env=corporation.variables) == {"got welcome": EVERY}
    assert corporation.asked == [f"CONNECT {GOOD}:{port}"] * len(EVERY)
    assert world.reached[port] == len(EVERY)
    corporation.asked.clear()
    for options in ((), ("--upstream", "none")):
        assert not got(by_all(world, GOOD, port, GOOD, options=options, env=corporation.variables))
    assert (corporation.asked, world.reached[port], world.reached[corporation.port]) == ([], 0, 0)


def test_what_is_not_listed_does_not_reach_it(world: World, corporation: Corporation) -> None:
    port = world.web()
    assert got(by_all(world, OTHER, port, OTHER, options=HOST, env=corporation.variables))
    corporation.asked.clear()
    assert not got(by_all(world, OTHER, port, GOOD, options=HOST, env=corporation.variables))
    assert not got(by_all(world, GOOD, port, f"{GOOD}:1", options=HOST, env=corporation.variables))
    lines = world.probe("by_address", json.dumps([("10.1.2.3", port)]), allow=(GOOD,), options=HOST, env=corporation.variables)
    assert not got(outcomes(lines))
    assert (corporation.asked, world.asked()) == ([], set())


@pytest.mark.parametrize("addresses", [["10.1.2.3"], ["127.0.0.1", "169.254.169.254"], ["fd00::1"]])
def test_a_name_that_the_host_knows_to_be_private_is_refused(world: World, corporation: Corporation, addresses: list[str]) -> None:
    """One such address among those of a name is enough: which of them the proxy takes is not ours to say."""
    port = world.web()
    world.names[GOOD] = [["127.0.0.1"]]
    assert got(by_all(world, GOOD, port, GOOD, options=HOST, env=corporation.variables))
    corporation.asked.clear()
    world.names[GOOD] = [addresses]
    assert not got(by_all(world, GOOD, port, GOOD, options=HOST, env=corporation.variables))
    assert corporation.asked == []
    assert got(by_all(world, GOOD, port, GOOD, *addresses, options=HOST, env=corporation.variables))


def test_a_listed_address_goes_through_it(world: World, corporation: Corporation) -> None:
    port = world.web()
    corporation.names["10.1.2.3"] = "127.0.0.1"
    probe = ("by_address", json.dumps([("10.1.2.3", port)]))
    assert got(outcomes(world.probe(*probe, allow=("10.0.0.0/8",), options=HOST, env=corporation.variables))) == {"got welcome"}
    assert set(corporation.asked) == {f"CONNECT 10.1.2.3:{port}"}


def test_one_that_has_a_name(world: World, corporation: Corporation) -> None:
    """It is looked up as often as it was not reached; that it is on a private address is the host's own matter."""
    port, name = world.web(), "proxy.corp.example"
    world.names[name] = [["127.0.0.1"]]
    variables = {"HTTPS_PROXY": f"http://{USER}@{name}:{corporation.port}"}
    world.public = []
    assert by_all(world, GOOD, port, GOOD, options=HOST, env=variables) == {"got welcome": EVERY}
    world.names[name] = [["127.0.0.2"], ["127.0.0.1"]]  # nobody listens at the first one
    found = by_all(world, GOOD, port, GOOD, options=HOST, env=variables)
    assert len(found.pop("got welcome")) == len(EVERY) - 1
    assert len(found) == 1


def test_what_no_proxy_lists_is_reached_directly(world: World, corporation: Corporation) -> None:
    port, direct = world.web(), "direct.example.org"
    world.names[direct] = [["127.0.0.1"]]
    assert by_all(world, direct, port, direct, options=HOST, env=corporation.variables) == {"got welcome": EVERY}
    assert corporation.asked == []


@pytest.mark.parametrize("together", [False, True])
def test_servers_that_speak_first(world: World, corporation: Corporation, together: bool) -> None:
    """Also where their first word comes in one piece with the proxy's answer."""
    port = world.serve(greet)
    corporation.first = b"x" if together else b""
    lines = world.probe("talk_first", GOOD, port, allow=(GOOD,), options=HOST, env=corporation.variables)
    assert outcomes(lines).keys() - {"502"} == {"got SSH-2.0-world HELLO"}, lines


# -- who is told what -----------------------------------------------------------------------------------------------------


def test_a_failure_says_that_the_host_has_one_and_how_to_have_it_used(world: World, corporation: Corporation) -> None:
    port = world.web()
    probe = world.bench.probe("egress_roads", "by_name", json.dumps([(GOOD, port)]))

    def words(*options: str, **variables: str) -> str:
        outcome = world.run(["sh", "-c", '"$@"; exit 1', "sh", *probe], GOOD, options=options, env=variables)
        return " ".join(outcome.err.split())

    said = words(**corporation.variables)
    assert "this host has a proxy of its own (https_proxy), which is not used" in said, said
    assert "allow: houseroom run --upstream host" in said and "hunter2" not in said
    assert "proxy of its own" not in words()
    assert "proxy of its own" not in words(*HOST, **corporation.variables)
    organisation = {**corporation.variables, "no_proxy": GOOD}
    assert "proxy of its own" not in words(**organisation), "it would not be used for this host"


LOOK = "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2> /dev/null | tr '\\0' '\\n'; mount; cat /etc/resolv.conf"


def test_its_password_is_nowhere_inside(world: World, corporation: Corporation) -> None:
    variables = {**corporation.variables, "HTTPS_PROXY": corporation.variables["https_proxy"]}
    variables |= {"ALL_PROXY": variables["https_proxy"], "http_proxy": variables["https_proxy"]}
    assert "hunter2" in world.bench.run(["sh", "-c", LOOK], inside=False, env=variables).out
    outcome = world.run(["sh", "-c", f"echo probe; {LOOK}"], GOOD, options=HOST, env=variables)
    assert "probe" in outcome.out and "hunter2" not in outcome.out + outcome.err and str(corporation.port) not in outcome.out
    kept = [path for path in world.bench.stage.home.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert not kept, "nor in what is remembered"


def test_what_it_answers_is_told_without_what_it_was_told(world: World, corporation: Corporation) -> None:
    port = world.web()
    wrong = {"https_proxy": f"http://me:hunter3@127.0.0.1:{corporation.port}"}
    gone = {"https_proxy": f"http://{USER}@127.0.0.1:1"}
    for variables, said in (
        (wrong, "the host's proxy (https_proxy) answered 407"),
        (gone, "the host's proxy (https_proxy) can't be reached"),
    ):
        ask = f"GET http://{GOOD}:{port}/ HTTP/1.1\\r\\nHost: {GOOD}:{port}\\r\\nConnection: close\\r\\n\\r\\n"
        script = f"exec 3<>/dev/tcp/198.18.0.1/4128; printf '{ask}' >&3; cat <&3"
        outcome = world.run(["bash", "-c", script], GOOD, options=HOST, env=variables)
        assert said in outcome.out and "HTTP/1.1 502" in outcome.out, outcome
        assert "hunter" not in outcome.out + outcome.err and "127.0.0.1" not in outcome.out
    assert world.reached[port] == 0


def test_one_that_can_not_be_spoken_to_stops_the_start(world: World, corporation: Corporation) -> None:
    """Also where a plan is remembered. The twin is the same variable where it is not used."""
    variables = {"https_proxy": f"https://{USER}@127.0.0.1:{corporation.port}"}
    argv = ["sh", "-c", "echo ran"]

    def run(variables: dict[str, str], *options: str) -> Outcome:
        return world.run(argv, GOOD, options=options, env=variables)

    assert run(corporation.variables, *HOST).out == "ran\n"
    for _ in range(2):
        outcome = run(variables, *HOST)
        assert (outcome.status, outcome.out) == (125, ""), outcome
        assert "(https_proxy)" in outcome.err and "http://" in outcome.err and "hunter2" not in outcome.err
    assert run(variables).out == "ran\n"


# -- who may say it -------------------------------------------------------------------------------------------------------


def test_a_project_can_not_have_it_used(world: World, corporation: Corporation) -> None:
    """Neither by its own word nor by a profile of the user's that says it; the twin is the same word in the user's own policy."""
    port = world.web()
    stage = world.bench.stage
    mine, project = stage.home / ".config/houseroom/policy.toml", stage.workspace / ".houseroom/policy.toml"
    word = '[network]\nupstream = "host"\n'
    stage.plant(project, word)
    outcome = world.run(["true"], GOOD, env=corporation.variables)
    assert outcome.status == 123 and "a project can't have the host's proxy used" in outcome.err, outcome
    profile = f'extends = "workspace"\n{word}reach = "listed"\nallow = ["{GOOD}"]\n'
    stage.plant(stage.home / ".config/houseroom/profiles/corporate.toml", profile)
    stage.plant(project, 'extends = "corporate"\n')
    world.names[GOOD] = [["127.0.0.1"]]
    assert by_all(world, GOOD, port, GOOD, env=corporation.variables) == {"got welcome": EVERY}
    assert corporation.asked == [], "it was reached directly"
    del world.names[GOOD]
    project.unlink()
    stage.plant(mine, word)
    assert got(by_all(world, GOOD, port, GOOD, env=corporation.variables)) == {"got welcome"}
    stage.plant(project, word.replace("host", "none"))
    corporation.asked.clear()
    assert not got(by_all(world, GOOD, port, GOOD, env=corporation.variables)), "a project may forbid it"
    assert corporation.asked == []


SESSIONS = """
import os, sys
from houseroom import Session
from houseroom.session import keepers
keepers._PROGRAM = sys.argv[1]
def code(session):
    argv = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"http://{sys.argv[3]}:{sys.argv[2]}/"]
    return session.run(argv, capture_output=True, text=True).stdout
other = {name: value for name, value in os.environ.items() if "proxy" not in name}
for env in (None, other):
    with Session(allow=[sys.argv[3]], env=env) as session:
        print(code(session))
"""


def test_in_a_session_the_variables_are_those_that_it_began_with(world: World, corporation: Corporation) -> None:
    port, bench = world.web(), world.bench
    bench.stage.plant(bench.stage.home / ".config/houseroom/policy.toml", '[network]\nupstream = "host"\n')
    argv = [bench.identity.python, "-c", SESSIONS, str(world.keeper()), str(port), GOOD]
    outcome = bench.run(argv, inside=False, env={"PYTHONPATH": str(bench.identity.base / "src"), **corporation.variables})
    assert (outcome.out.split(), outcome.err) == (["200", "502"], ""), outcome
    assert corporation.asked == [f"CONNECT {GOOD}:{port}"]
