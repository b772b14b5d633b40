"""The egress proxy begins and ends with its sandbox, and without it the sandbox is closed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from runner import Bench, Outcome, eventually
from small_world import GOOD, World, made, need_sight, outcomes, proxies, status, watched

pytestmark = pytest.mark.needs("userns")

OTHER = "other.example.org"


@pytest.fixture
def world(bench: Bench) -> Iterator[World]:
    with made(bench) as world:
        yield world


@pytest.fixture
def standing(world: World) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A sandbox whose command waits, and its proxy."""
    process = world.start(["sh", "-c", "echo READY; read line"], GOOD)
    try:
        assert b"READY" in Bench.until_ready(process)
        assert eventually(lambda: settled(world, process.pid))
        yield process, proxies(world, process.pid)[0]
    finally:
        Bench.end(process)


def settled(world: World, supervisor: int) -> bool:
    """Whether there is one proxy and nobody else: no longer the process between, which forks it and ends."""
    found = proxies(world, supervisor)
    try:
        return len(found) == 1 and os.getsid(found[0]) == found[0] and status(found[0])["NoNewPrivs"] == 1
    except OSError:
        return False


def gone(world: World) -> bool:
    return eventually(lambda: not proxies(world))


def test_it_ends_with_the_command(world: World, standing: tuple[subprocess.Popen[bytes], int]) -> None:
    process, _ = standing
    process.communicate(b"\n", timeout=60)
    assert process.returncode == 0
    assert gone(world)


def test_it_ends_with_the_supervisor(world: World, standing: tuple[subprocess.Popen[bytes], int]) -> None:
    process, _ = standing
    process.kill()
    process.wait()
    assert gone(world)


def test_it_ends_with_init(world: World, standing: tuple[subprocess.Popen[bytes], int]) -> None:
    need_sight()
    process, proxy = standing
    (init,) = watched(proxy) - {process.pid}
    os.kill(init, signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert gone(world)


def test_it_holds_nothing_of_the_caller(world: World, standing: tuple[subprocess.Popen[bytes], int]) -> None:
    """Neither streams nor directory nor group: whoever waits for their end does not wait for the proxy."""
    need_sight()
    process, proxy = standing
    for stream in (0, 1, 2):
        assert os.readlink(f"/proc/{proxy}/fd/{stream}") == os.devnull
    assert os.readlink(f"/proc/{proxy}/cwd") == "/"
    assert os.getpgid(proxy) == os.getsid(proxy) == proxy
    assert watched(proxy) > {process.pid}


def test_it_has_no_rights_and_nobody_looks_into_it(world: World, standing: tuple[subprocess.Popen[bytes], int]) -> None:
    """The twins: the process that forked it has what its user has, and an ordinary process is open to its user."""
    process, proxy = standing
    rights = ("CapInh", "CapPrm", "CapEff", "CapAmb")
    own, forked = status(process.pid), status(proxy)
    assert [forked[name] for name in rights] == [0, 0, 0, 0]
    assert (own["NoNewPrivs"], forked["NoNewPrivs"]) == (0, 1)
    if world.bench.identity.uid == 0:
        assert own["CapEff"]
    else:
        assert Path(f"/proc/{process.pid}/environ").stat().st_uid == world.bench.identity.uid
        assert Path(f"/proc/{proxy}/environ").stat().st_uid == 0
    outcome = world.bench.run(world.bench.probe("egress_rights", "looked_into", proxy), inside=False)
    lines = outcome.out.splitlines()[1:-1]
    assert outcomes(lines) == {
        "done": {f"ordinary {what}" for what in ("environ", "maps", "mem")},
        "refused": {f"{proxy} {what}" for what in ("environ", "maps", "mem")},
    }, outcome


@pytest.mark.needs("landlock")
def test_it_can_write_nothing(bench: Bench) -> None:
    """The same function in a process of its own: each act before, where it works, and after. A capability of root's is gone too."""
    place = bench.stage.workspace / "place"
    bench.stage.plant(place / "file", "content", 0o644)
    outcome = bench.run(bench.probe("egress_rights", "rights", place), inside=False, env={"PYTHONPATH": str(bench.identity.base / "src")})
    assert outcome.out.endswith("DONE\n"), outcome
    found: dict[str, dict[str, str]] = {"before": {}, "after": {}}
    for line in outcome.out.splitlines()[1:-1]:
        moment, _, rest = line.partition(" ")
        what, _, value = rest.partition(": ")
        found[moment][what] = value
    acts = {what for what, value in found["before"].items() if value == "done"}
    assert len(acts) == 11, outcome
    assert {found["after"][what] for what in acts} == {"refused"}, outcome
    rest = {what: value for what, value in found["after"].items() if what not in acts}
    assert rest == {"CapInh": "0", "CapPrm": "0", "CapEff": "0", "CapAmb": "0", "NoNewPrivs": "1", "dumpable": "0", "reads": "True"}
    before = found["before"]
    assert (before["NoNewPrivs"], before["dumpable"], before["CapEff"] != "0") == ("0", "1", bench.identity.uid == 0)
    assert (place / "file").read_text() == ""


# Sends as much as anybody takes, and ends without a look back.
FILL = """
import socket, sys, time
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
connection.setblocking(False)
sent = waited = 0
while waited < 20:
    try:
        sent += connection.send(b"x" * 65536)
        waited = 0
    except BlockingIOError:
        waited += 1
        time.sleep(0.02)
print("sent", sent)
"""


def test_what_was_sent_before_the_end_still_arrives(world: World) -> None:
    ended, received = threading.Event(), []

    def talk(connection: socket.socket) -> None:
        ended.wait(60)
        received.append(sum(iter(lambda: len(connection.recv(1 << 18)), 0)))

    port = world.serve(talk)
    for inside in (False, True):  # as it is outside
        ended.clear()
        received.clear()
        argv = ["python3", "-c", FILL, GOOD if inside else "127.0.0.1", str(port)]
        outcome = world.run(argv, GOOD) if inside else world.bench.run(argv, inside=False)
        sent = int(outcome.out.split()[-1])
        assert sent > 1 << 18
        assert not received
        ended.set()
        assert eventually(lambda sent=sent: received == [sent])  # type: ignore[misc]
    assert gone(world)


def test_without_its_proxy_a_sandbox_is_closed(world: World) -> None:
    port = world.web()
    argv = world.bench.probe("egress_roads", "twice", GOOD, port)
    found = outcomes(world.run(argv, GOOD, during=lambda: None).out.splitlines()[1:-1])
    assert set(found) == {"got welcome", "READY"}
    process = world.start(argv, GOOD)
    try:
        before = Bench.until_ready(process).decode().splitlines()
        assert set(outcomes(before[1:])) == {"got welcome", "READY"}
        reached = world.reached[port]
        (proxy,) = proxies(world, process.pid)
        os.kill(proxy, signal.SIGKILL)
        assert eventually(lambda: not proxies(world, process.pid))
        out, _ = process.communicate(b"go\n", timeout=60)
    finally:
        Bench.end(process)
    *lines, last = out.decode().splitlines()
    assert last == "DONE"
    assert set(outcomes(lines)) <= {"no name", "ECONNREFUSED"}, lines
    assert world.reached[port] == reached


def test_a_connection_does_not_outlive_the_proxy(world: World) -> None:
    port = world.web()
    argv = world.bench.probe("egress_roads", "kept_open", GOOD, port)
    assert f"kept {GOOD} {port}: got welcome" in world.run(argv, GOOD, during=lambda: None).out
    process = world.start(argv, GOOD)
    try:
        assert b"READY" in Bench.until_ready(process)
        (proxy,) = proxies(world, process.pid)
        os.kill(proxy, signal.SIGKILL)
        assert eventually(lambda: not proxies(world, process.pid))
        out, _ = process.communicate(b"go\n", timeout=60)
    finally:
        Bench.end(process)
    assert b"welcome" not in out
    assert f"kept {GOOD} {port}: " in out.decode()


def test_two_sandboxes_each_with_its_own_hosts(world: World) -> None:
    port = world.web()
    world.names[OTHER] = [["127.0.0.1"]]
    found = {}
    first, second = (
        world.start(world.bench.probe("egress_roads", "by_all", json.dumps([(GOOD, port), (OTHER, port)])), allowed)
        for allowed in (GOOD, OTHER)
    )
    try:
        for process, allowed in ((first, GOOD), (second, OTHER)):
            out, _ = process.communicate(timeout=60)
            found[allowed] = outcomes(out.decode().splitlines()[1:-1])
    finally:
        Bench.end(first)
        Bench.end(second)
    for allowed, lines in found.items():
        assert {words.split()[1] for words in lines.pop("got welcome")} == {allowed}
        assert {words.split()[1] for those in lines.values() for words in those} == {GOOD, OTHER} - {allowed}


# -- applications that hold a session -------------------------------------------------------------------------------------

BEGIN = """
import os, signal, sys
from houseroom import Session
from houseroom.session import keepers
keepers._PROGRAM = sys.argv[1]

def code(session, host):
    argv = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"http://{host}:{sys.argv[2]}/"]
    return session.run(argv, capture_output=True, text=True).stdout
"""


def application(world: World, program: str, port: int) -> list[str]:
    """Run a program that uses houseroom; the keeper of its sandboxes, from which proxies are forked, lives in the world."""
    bench = world.bench
    argv = [bench.identity.python, "-c", BEGIN + program, str(world.keeper()), str(port)]
    outcome = bench.run(argv, inside=False, env={"PYTHONPATH": str(bench.identity.base / "src")})
    assert (outcome.status, outcome.err) == (0, ""), outcome
    return outcome.out.splitlines()


@pytest.mark.parametrize(
    "prelude",
    [
        "",
        # What an application may have done with its own signals is no matter of the proxy's.
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL); signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "signal.signal(signal.SIGTERM, lambda *_: None); r, w = os.pipe2(os.O_NONBLOCK); signal.set_wakeup_fd(w)",
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
    ],
)
def test_a_session(world: World, prelude: str) -> None:
    port = world.web()
    world.names[OTHER] = [["127.0.0.1"]]
    program = f"""
{prelude}
with Session(allow=["{GOOD}"]) as s:
    print(code(s, "{GOOD}"), *(code(s, "{OTHER}") for _ in range(3)), code(s, "{GOOD}"))
with Session() as s:
    print(code(s, "{GOOD}"))
"""
    assert application(world, program, port) == ["200 403 403 403 200", "000"]
    assert world.reached[port] == 2
    assert gone(world)


def test_a_session_begun_while_an_event_loop_runs(world: World) -> None:
    port = world.web()
    program = f"""
import asyncio
async def main():
    with Session(allow=["{GOOD}"]) as s:
        print(code(s, "{GOOD}"), code(s, "{OTHER}"))
asyncio.run(main())
"""
    assert application(world, program, port) == ["200 403"]
    assert gone(world)


def test_two_sessions_of_one_application(world: World) -> None:
    """The later one's proxy holds nothing of the earlier one's."""
    port = world.web()
    world.names[OTHER] = [["127.0.0.1"]]
    program = f"""
with Session(allow=["{GOOD}"]) as a, Session(allow=["{OTHER}"]) as b:
    print(code(a, "{GOOD}"), code(a, "{OTHER}"), code(b, "{GOOD}"), code(b, "{OTHER}"))
    a.close()
    print(code(b, "{OTHER}"))
"""
    assert application(world, program, port) == ["200 403 403 200", "200"]
    assert gone(world)


def test_what_a_session_reached(world: World) -> None:
    """Of each command while it ran, of the session until its end, also of what asyncio runs; of another session nothing."""
    port, other = world.web(), world.web("more")
    program = f"""
import asyncio
from houseroom import AsyncSession, Sandbox
def seen(found):
    return [(each.where.split(":")[0], each.connections, each.sent > 0, each.received > 0) for each in found]
again = ["curl", "-sS", "-o", "/dev/null", "http://{GOOD}:{other}/", "-o", "/dev/null", "http://{GOOD}:{port}/"]
with Session(allow=["{GOOD}"]) as s, Session(allow=["{GOOD}"]) as idle:
    code(s, "{GOOD}")
    print(seen(s.run(again).reached))
    print(seen(s.run(["true"]).reached), seen(idle.reached))
    s.popen(again).wait()
print(seen(s.reached))
async def main():
    async with AsyncSession(allow=["{GOOD}"]) as session:
        print(seen((await session.run(again)).reached), seen(session.reached))
asyncio.run(main())
print(seen(Sandbox(allow=["{GOOD}"]).run(again).reached), seen(Sandbox().run(["true"]).reached))
"""
    one, two = [(GOOD, 1, True, True)] * 2, [(GOOD, 3, True, True), (GOOD, 2, True, True)]
    assert application(world, program, port) == [f"{one}", "[] []", f"{two}", f"{one} {one}", f"{one} []"]


def test_a_session_in_the_background(world: World) -> None:
    """What its policy lists is reached by each of its commands; what was refused is told of the one that failed; its proxy ends with it."""
    port = world.web()
    world.names[OTHER] = [["127.0.0.1"]]
    world.prepare()
    bench, name = world.bench, "listed"

    def call(*arguments: str) -> Outcome:
        return bench.run(world.argv("session", *arguments), inside=False, env={"PYTHONPATH": str(bench.identity.base / "src")})

    probe = bench.probe("egress_roads", "by_all", json.dumps([(GOOD, port), (OTHER, port)]))
    try:
        assert call("start", name, "--allow", GOOD).out == f"{name}\n"
        for turn in range(2):
            outcome = call("exec", name, "--", "sh", "-c", '"$@"; exit 3', "sh", *probe)
            lines = outcomes(outcome.out.splitlines()[1:-1])
            assert {words.split()[1] for words in lines.pop("got welcome")} == {GOOD}, outcome
            assert {words.split()[1] for those in lines.values() for words in those} == {OTHER}
            assert outcome.status == 3
            assert (f"--allow {OTHER}:{port}" in outcome.err) == (turn == 0), "each is told once"
        assert world.asked() == {GOOD}
        assert len(proxies(world)) == 2
        told = json.loads(call("show", name, "--json").out)["reached"]
        assert [(each["where"], each["connections"]) for each in told] == [(f"{GOOD}:{port}", world.reached[port])]
        assert f"{GOOD}:{port}  ({world.reached[port]} connections, " in call("show", name).out
    finally:
        call("stop", name)
    assert gone(world)
    try:
        assert call("start", name).out == f"{name}\n"
        outcome = call("exec", name, "--", *probe)
        assert "got welcome" not in outcome.out and f"blocking {GOOD}" in outcome.out, outcome
    finally:
        call("stop", name)


# -- without listed hosts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("allow", "options", "there"), [((GOOD,), (), True), ((), (), False), ((), ("--net", "none"), False)])
def test_nothing_of_it_is_there_where_no_hosts_are_listed(
    world: World, allow: tuple[str, ...], options: tuple[str, ...], there: bool
) -> None:
    seen: list[int] = []
    argv = world.bench.probe("egress_roads", "sockets_inside")
    outcome = world.run(argv, *allow, options=options, during=lambda: seen.append(len(proxies(world))))
    lines = [line for line in outcome.out.splitlines() if line.split()[0] in ("tcp", "tcp6", "udp", "udp6")]
    assert sorted(lines) == (["tcp 010012C6:0035", "tcp 010012C6:1020", "udp 010012C6:0035"] if there else []), outcome
    assert seen == [2 if there else 1]
    assert "198.18" in world.run(["cat", "/etc/resolv.conf"], GOOD).out
    assert "198.18" not in world.run(["sh", "-c", "cat /etc/resolv.conf; env"], *(), options=options).out
