"""Sockets of the host that are let through: exactly those, by whatever path, and nothing that a command does leads elsewhere."""

from __future__ import annotations

import os
import shutil
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from by_name import Sessions
from runner import Bench, Ear
from test_session import said
from test_sockets import KINDS, PLACES, place

pytestmark = pytest.mark.needs("userns")

# KIND PATH…: connects to each and says what came of it.
CLIENT = """
import errno, os, socket, sys
kinds = {"stream": socket.SOCK_STREAM, "seqpacket": socket.SOCK_SEQPACKET, "dgram": socket.SOCK_DGRAM}
def go(path, kind="stream"):
    home = os.getcwd()
    try:
        client = socket.socket(socket.AF_UNIX, kinds[kind])
        if path[:1] == "@":
            client.connect("\\0" + path[1:])
        else:
            if "/" in path:
                os.chdir(os.path.dirname(path))  # an address has room for 107 bytes
            client.connect(os.path.basename(path))
        client.send(b"hello")
        return "reached"
    except OSError as error:
        return errno.errorcode[error.errno]
    finally:
        os.chdir(home)
print("probe: client")
"""
EACH = CLIENT + "for path in sys.argv[2:]: print(go(path, sys.argv[1]), flush=True)\n"


@pytest.fixture
def ear() -> Iterator[Ear]:
    listening = Ear()
    yield listening
    listening.close()


class Server:
    """A listener of the host; what it has heard is told once."""

    def __init__(self, bench: Bench, path: Path, kind: str = "stream"):
        self.bench, self.path, self.kind, self.ear = bench, path, kind, Ear()
        self.begin()

    def begin(self) -> None:
        self.end()
        self.ear.unix(self.bench.stage, self.path, KINDS[self.kind])

    def heard(self) -> int:
        """How many connections it has taken since it was last asked."""
        (listener,) = self.ear.sockets
        listener.setblocking(False)
        count = 0
        while True:
            try:
                listener.accept()[0].close()
            except BlockingIOError:
                return count
            count += 1

    def end(self) -> None:
        self.ear.close()
        self.path.unlink(missing_ok=True)


@pytest.fixture
def servers(bench: Bench) -> Iterator[list[Server]]:
    made: list[Server] = []
    yield made
    for server in made:
        server.end()


def listen(servers: list[Server], bench: Bench, path: Path, kind: str = "stream") -> Server:
    servers.append(Server(bench, path, kind))
    return servers[-1]


def allowed(*paths: Path | str) -> tuple[str, ...]:
    return tuple(word for path in paths for word in ("--socket", str(path)))


def script(bench: Bench, program: str, *arguments: object) -> list[str]:
    return [bench.identity.python, "-S", "-c", program, *map(str, arguments)]


def answers(bench: Bench, program: str, *arguments: object, options: tuple[str, ...] = (), **how: object) -> list[str]:
    """What a program says inside, without its first line."""
    outcome = bench.run(script(bench, program, *arguments), inside=True, options=options, **how)  # type: ignore[arg-type]
    assert outcome.out.startswith("probe: client\n") and outcome.status == 0, outcome
    return outcome.out.splitlines()[1:]


# -- what is reached ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["stream", "seqpacket"])
@pytest.mark.parametrize("where", [where for where in PLACES if where != "dev shm"])
def test_what_is_let_through_is_reached_and_nothing_beside_it(bench: Bench, servers: list[Server], where: str, kind: str) -> None:
    path = place(bench, where, "ear.sock")
    if not os.access(path.parent, os.W_OK):
        pytest.skip(f"pytest may not create {path}")
    server, other = listen(servers, bench, path, kind), listen(servers, bench, path.with_name(path.name + "2"), kind)
    for _again in range(2):  # from the policy, and from what is remembered
        first, second = answers(bench, EACH, kind, path, other.path, options=allowed(path))
        assert first == "reached" and second in ("EACCES", "ENOENT", "ECONNREFUSED")
        assert (server.heard(), other.heard()) == (1, 0)
    (refused,) = answers(bench, EACH, kind, path)
    assert refused in ("EACCES", "ENOENT", "ECONNREFUSED")
    assert server.heard() == 0


@pytest.mark.parametrize("options", [("--net", "open"), ("--allow", "nowhere.invalid"), ("--profile", "read-only")], ids=" ".join)
def test_whatever_the_network_and_the_profile(bench: Bench, servers: list[Server], options: tuple[str, ...]) -> None:
    server, other = (listen(servers, bench, bench.stage.outside / name) for name in ("a.sock", "b.sock"))
    assert answers(bench, EACH, "stream", server.path, other.path, options=(*allowed(server.path), *options)) == ["reached", "EACCES"]
    assert (server.heard(), other.heard()) == (1, 0)


def test_in_a_hidden_directory(bench: Bench, servers: list[Server]) -> None:
    """The socket shows, and nothing else of it."""
    server = listen(servers, bench, bench.stage.home / ".gnupg/S.own")
    look = EACH + "print(os.listdir(os.path.dirname(sys.argv[2])) if os.access(os.path.dirname(sys.argv[2]), os.R_OK) else 'hidden')\n"
    look += "try: open(os.path.dirname(sys.argv[2]) + '/private-keys-v1.d/key.key')\nexcept OSError as error: print(error.strerror)\n"
    first, listed, key = answers(bench, look, "stream", server.path, options=allowed(server.path))
    assert (first, server.heard()) == ("reached", 1)
    assert listed in ("hidden", "['S.own']") and key == "No such file or directory"


def test_the_server_sees_the_user_and_no_more(bench: Bench, servers: list[Server]) -> None:
    server = listen(servers, bench, bench.stage.outside / "a.sock")
    assert answers(bench, EACH, "stream", server.path, options=allowed(server.path)) == ["reached"]
    connection, _ = server.ear.sockets[0].accept()
    with connection:
        _pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        assert (uid, gid) == (bench.identity.uid, bench.identity.gid)
        assert connection.recv(100) == b"hello"


SPELLINGS = (
    CLIENT
    + """
path = sys.argv[1]
directory, name = os.path.split(path)
os.symlink(path, "link")
os.symlink(directory, "directory-link")
held, place = os.open(path, os.O_PATH), os.open(directory, os.O_PATH)
for spelling in ("link", "directory-link/" + name, f"/proc/self/fd/{place}/{name}", "/proc/self/root" + path, directory + "/./" + name):
    print(go(spelling))
client = socket.socket(socket.AF_UNIX)
client.connect(f"/proc/self/fd/{held}")
print("reached")
client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
os.chdir(directory)
client.connect(name)
print("reached")
"""
)


@pytest.mark.parametrize("where", ["workspace below", "outside", "tmp"])
def test_every_spelling_leads_to_it(bench: Bench, servers: list[Server], where: str) -> None:
    server = listen(servers, bench, place(bench, where, "a.sock"))
    assert answers(bench, SPELLINGS, server.path, options=allowed(server.path)) == ["reached"] * 7
    assert server.heard() == 7


def test_as_the_policy_spells_it(bench: Bench, servers: list[Server]) -> None:
    """From a policy file: in the home directory, in the workspace, with a reason; a link on the way is followed once, at the start."""
    stage = bench.stage
    paths = [stage.home / "a.sock", stage.workspace / "b.sock", stage.outside / "c.sock"]
    own = [listen(servers, bench, path) for path in paths]
    (stage.outside / "way").symlink_to(stage.outside)
    text = f'[network]\nsockets = ["~/a.sock", "b.sock", {{ path = "{stage.outside}/way/c.sock", reason = "tests need it" }}]\n'
    stage.plant(stage.home / ".config/houseroom/policy.toml", text, 0o644)
    assert answers(bench, EACH, "stream", *paths, stage.outside / "way/c.sock") == ["reached"] * 4
    assert [server.heard() for server in own] == [1, 1, 2]


# -- servers that begin again ---------------------------------------------------------------------------------------------

TWICE = CLIENT + "print(go(sys.argv[1]))\nprint('READY', flush=True)\nsys.stdin.readline()\nprint(go(sys.argv[1]))\n"


@pytest.mark.parametrize("where", ["outside", "home", "tmp", "runtime"])
def test_a_server_that_begins_again_is_reached_again(bench: Bench, servers: list[Server], where: str) -> None:
    directory = place(bench, where, "service")
    directory.mkdir()
    try:
        bench.stage.give(directory)
        server = listen(servers, bench, directory / "a.sock")

        def again() -> None:
            assert server.heard() == 1
            server.end()
            shutil.rmtree(directory)  # as a service manager does
            directory.mkdir()
            bench.stage.give(directory)
            server.begin()

        lines = answers(bench, TWICE, server.path, options=allowed(server.path), during=again)
        assert (lines, server.heard()) == (["reached", "READY", "reached"], 1)
    finally:
        shutil.rmtree(directory)


def test_where_a_command_could_have_made_it_another_one_is_refused(bench: Bench, servers: list[Server]) -> None:
    server = listen(servers, bench, bench.stage.workspace / "a.sock")
    lines = answers(bench, TWICE, server.path, options=allowed(server.path), during=server.begin)
    assert (lines, server.heard()) == (["reached", "READY", "EACCES"], 0)


def test_a_server_that_has_gone_refuses(bench: Bench, servers: list[Server]) -> None:
    server = listen(servers, bench, bench.stage.outside / "a.sock")
    lines = answers(bench, TWICE, server.path, options=allowed(server.path), during=server.end)
    assert lines[:2] == ["reached", "READY"] and lines[2] in ("ECONNREFUSED", "ENOENT")
    server.begin()


# -- leading it elsewhere -------------------------------------------------------------------------------------------------

ATTEMPTS = (
    CLIENT
    + """
import ctypes
granted, wanted = sys.argv[1:3]
libc = ctypes.CDLL(None, use_errno=True)
def attempt(act):
    try:
        act()
    except OSError as error:
        print(errno.errorcode[error.errno], end=" ")
    print(go(granted))
def exchange():
    if libc.renameat2(-100, granted.encode(), -100, wanted.encode(), 2) < 0:
        raise OSError(ctypes.get_errno(), "exchange")
def replace_by_link():
    os.unlink(granted)
    os.symlink(wanted, granted)
attempt(lambda: os.rename(wanted, granted))
attempt(exchange)
attempt(replace_by_link)
attempt(lambda: os.link(wanted, granted))
attempt(lambda: os.rename(granted, granted + ".old"))
"""
)


@pytest.mark.parametrize("where", ["workspace", "workspace below"])
def test_another_socket_in_its_place(bench: Bench, servers: list[Server], where: str) -> None:
    """Each is done without a sandbox first, where the other socket hears of it."""
    granted, wanted = (place(bench, where, name) for name in ("granted.sock", "wanted.sock"))
    own, other = listen(servers, bench, granted), listen(servers, bench, wanted)
    bare = bench.run(script(bench, ATTEMPTS, granted, wanted), inside=False)
    assert bare.status == 0 and other.heard() >= 1, bare
    for server in (own, other):
        wanted.unlink(missing_ok=True) if server is own else None
        server.begin()
    lines = answers(bench, ATTEMPTS, granted, wanted, options=allowed(granted))
    assert other.heard() == 0, lines
    assert own.heard() == len([line for line in lines if line.endswith("reached")]) == 5, lines


DIRECTORIES = (
    CLIENT
    + """
os.rename("d", "moved")
os.rename("e", "d")
print(go("d/a.sock"), go("moved/a.sock"))
os.mkdir("f")
os.symlink(os.path.abspath("d/a.sock"), "f/a.sock")
print(go("f/a.sock"))
"""
)


def test_another_directory_in_the_place_of_its_own(bench: Bench, servers: list[Server]) -> None:
    for name in ("d", "e"):
        (bench.stage.workspace / name).mkdir()
        bench.stage.give(bench.stage.workspace / name)
    own, other = (listen(servers, bench, bench.stage.workspace / name / "a.sock") for name in ("d", "e"))
    lines = answers(bench, DIRECTORIES, options=allowed(own.path))
    assert other.heard() == 0, lines
    assert (lines, own.heard()) == (["EACCES reached", "EACCES"], 1)


RACE = (
    CLIENT
    + """
import ctypes, threading, time
good, bad = sys.argv[1].encode(), sys.argv[2].encode()
assert len(good) == len(bad)
directory = os.path.dirname(sys.argv[1])
os.chdir(directory)
good, bad = os.path.basename(good), os.path.basename(bad)
libc = ctypes.CDLL(None, use_errno=True)
address = ctypes.create_string_buffer(bytes((1, 0)) + good + b"\\0")
at, over = ctypes.addressof(address) + 2, False
def flip():
    while not over:
        ctypes.memmove(at, bad, len(bad))
        ctypes.memmove(at, good, len(good))
flipper = threading.Thread(target=flip)
flipper.start()
outcomes = set()
until = time.monotonic() + 1.5
while time.monotonic() < until:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    outcomes.add("reached" if libc.connect(client.fileno(), address, len(address)) == 0 else errno.errorcode[ctypes.get_errno()])
    client.close()
over = True
flipper.join()
print(*sorted(outcomes))
"""
)


@pytest.mark.parametrize("where", ["workspace", "outside"])
def test_a_race_on_the_address(bench: Bench, servers: list[Server], where: str) -> None:
    own, other = (listen(servers, bench, place(bench, where, name)) for name in ("good.sock", "evil.sock"))
    bench.run(script(bench, RACE, own.path, other.path), inside=False)
    assert other.heard() > 0
    own.begin()
    other.begin()
    (outcomes,) = answers(bench, RACE, own.path, other.path, options=allowed(own.path))
    assert other.heard() == 0 and own.heard() > 0
    assert {"reached", "EACCES"} <= set(outcomes.split())  # both were tried


def test_an_abstract_socket_of_the_same_name(bench: Bench, servers: list[Server], ear: Ear) -> None:
    server = listen(servers, bench, bench.stage.outside / "a.sock")
    ear.unix(bench.stage, f"@{server.path}")
    argv = script(bench, EACH, "stream", f"@{server.path}")
    assert "reached" in bench.run(argv, inside=False).out
    ear.sockets[0].accept()[0].close()
    for options in (allowed(server.path), (*allowed(server.path), "--net", "open")):
        outcome = bench.run(argv, inside=True, options=options)
        assert "probe: client" in outcome.out and "reached" not in outcome.out
    assert ear.happened(outcome) == ""


def test_no_datagram_goes_there(bench: Bench, servers: list[Server]) -> None:
    server = listen(servers, bench, bench.stage.outside / "a.sock", "dgram")
    assert "reached" in bench.run(script(bench, EACH, "dgram", server.path), inside=False).out
    assert server.ear.sockets[0].recv(100) == b"hello"
    assert answers(bench, EACH, "dgram", server.path, options=allowed(server.path)) == ["ESOCKTNOSUPPORT"]
    assert answers(bench, EACH, "stream", server.path, options=allowed(server.path)) == ["EPROTOTYPE"]
    with pytest.raises(BlockingIOError):
        server.ear.sockets[0].recv(100, socket.MSG_DONTWAIT)


def test_a_link_that_a_command_could_have_made_lets_nothing_through(bench: Bench, servers: list[Server]) -> None:
    """Whoever grants a name in the workspace has not granted where a repository's link of that name leads."""
    stage = bench.stage
    server = listen(servers, bench, stage.outside / "a.sock")
    (stage.workspace / "db.sock").symlink_to(server.path)
    (stage.workspace / "way").symlink_to(stage.outside)
    (stage.outside / "far").symlink_to(stage.workspace / "way")
    (stage.outside / "near").symlink_to("a.sock")
    for name in ("db.sock", "way/a.sock", str(stage.outside / "far/a.sock")):
        outcome = bench.run(["true"], inside=True, options=allowed(name))
        assert outcome.status == 123 and "is a link, which commands may make" in outcome.err, outcome
    assert answers(bench, EACH, "stream", stage.outside / "near", server.path, options=allowed(stage.outside / "near")) == ["reached"] * 2
    assert server.heard() == 2


# -- what stops the start -------------------------------------------------------------------------------------------------


def test_what_is_missing_or_no_socket_stops_the_start(bench: Bench) -> None:
    for path, words in (
        (bench.stage.outside / "no.sock", "does not exist"),
        (Path("/run/houseroom-no.sock"), "does not exist"),
        (bench.stage.outside / "file", "is no socket"),
        (bench.stage.outside / "directory", "is no socket"),
        (bench.stage.outside / "*.sock", "more than one"),
        (Path("/dev/shm/houseroom-no.sock"), "is the sandbox's own"),
    ):
        outcome = bench.run(["touch", "made"], inside=True, options=allowed(path))
        assert outcome.status == 123 and words in outcome.err and str(path) in outcome.err, outcome
    assert not (bench.stage.workspace / "made").exists()


def test_what_is_hidden_stays_hidden_by_every_name(bench: Bench, servers: list[Server]) -> None:
    stage = bench.stage
    server = listen(servers, bench, stage.outside / "a.sock")
    (stage.outside / "near").symlink_to("a.sock")
    for path in (server.path, stage.outside / "near"):
        text = f'[files]\nhide = ["{server.path}"]\n[network]\nsockets = ["{path}"]\n'
        stage.plant(stage.home / ".config/houseroom/policy.toml", text, 0o644)
        outcome = bench.run(["true"], inside=True)
        assert outcome.status == 123 and f"files.hide {server.path}" in outcome.err, outcome
        assert bench.run(script(bench, EACH, "stream", server.path), inside=True, options=allowed(path)).out.endswith("reached\n")


def test_a_door_round_the_policy_must_be_accepted_by_name(bench: Bench, servers: list[Server]) -> None:
    server = listen(servers, bench, bench.stage.outside / "docker.sock")
    refusal = bench.run(["touch", "made"], inside=True, options=allowed(server.path))
    assert refusal.status == 125 and "Docker" in refusal.err and "--accept sockets" in refusal.err, refusal
    assert not (bench.stage.workspace / "made").exists()
    assert answers(bench, EACH, "stream", server.path, options=(*allowed(server.path), "--accept", "sockets")) == ["reached"]


def test_a_project_that_nobody_trusts_adds_none(bench: Bench, servers: list[Server]) -> None:
    stage = bench.stage
    own, other = (listen(servers, bench, stage.outside / name) for name in ("a.sock", "b.sock"))
    stage.plant(stage.workspace / ".houseroom/policy.toml", f'[network]\nsockets = ["{other.path}"]\n', 0o644)
    assert answers(bench, EACH, "stream", own.path, other.path) == ["EACCES", "EACCES"]
    assert answers(bench, EACH, "stream", own.path, other.path, options=allowed(own.path)) == ["EACCES", "EACCES"]
    assert answers(bench, EACH, "stream", own.path, other.path, options=allowed(own.path, other.path)) == ["EACCES", "reached"]
    assert (own.heard(), other.heard()) == (0, 1)


def test_what_was_refused_is_told_with_the_option(bench: Bench, servers: list[Server]) -> None:
    server = listen(servers, bench, bench.stage.outside / "a.sock")
    outcome = bench.run(script(bench, EACH + "sys.exit(1)\n", "stream", server.path), inside=True)
    assert f"--socket {server.path}" in outcome.err, outcome


# -- sessions -------------------------------------------------------------------------------------------------------------


def test_in_sessions(bench: Bench, servers: list[Server]) -> None:
    server, other = (listen(servers, bench, bench.stage.outside / name) for name in ("a.sock", "b.sock"))
    program = """
import asyncio
from houseroom import AsyncSession
path, other, client = sys.argv[1:]
command = [sys.executable, "-S", "-c", client, "stream", path, other]
with Session(sockets=[path]) as s:
    print(*(out(s, *command).split()[2:] for _ in range(2)))
with Session() as s:
    print(out(s, *command).split()[2:])
async def main():
    async with AsyncSession(sockets=[path]) as s:
        print((await s.run(command, capture_output=True, text=True)).stdout.split()[2:])
asyncio.run(main())
"""
    good = "['reached', 'EACCES']"
    assert said(bench, program, str(server.path), str(other.path), EACH) == [f"{good} {good}", "['EACCES', 'EACCES']", good]
    sessions = Sessions(bench)
    try:
        sessions.start("database", "--socket", str(server.path))
        done = sessions.exec("database", *script(bench, EACH, "stream", server.path, other.path))
        assert done.stdout.split()[2:] == [b"reached", b"EACCES"], done
    finally:
        sessions.end()
    assert (server.heard(), other.heard()) == (4, 0)
