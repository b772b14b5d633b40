"""Rules with a method or a path: real programs are let do what a rule allows, inside TLS too, and nothing else, by every road."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from authority_kit import OuterAuthority
from runner import Bench, Outcome, eventually, lacking
from small_world import GOOD, World, made, need_sight, proxies, watched
from test_egress_upstream import Corporation

pytestmark = pytest.mark.needs("userns")

OTHER = "other.example.org"
SYSTEM_FILE = "/etc/ssl/certs/ca-certificates.crt"
ISSUER = """
import socket, ssl, sys
host, port = sys.argv[1], int(sys.argv[2])
with ssl.create_default_context().wrap_socket(socket.create_connection((host, port)), server_hostname=host) as sock:
    print(dict(part[0] for part in sock.getpeercert()["issuer"])["commonName"])
"""
KEPT = """
import http.client, ssl, sys
kind = http.client.HTTPSConnection if sys.argv[1] == "https" else http.client.HTTPConnection
connection = kind(sys.argv[2], int(sys.argv[3]), timeout=20)
for method, path in (("GET", "/v1/a"), ("DELETE", "/v1/a"), ("GET", "/v1/b"), ("GET", "/admin")):
    connection.request(method, path)
    answer = connection.getresponse()
    print(method, path, answer.status, answer.read().decode().split()[0])
"""
URLLIB = """
import sys, urllib.error, urllib.request as r
for method in ("GET", "PUT"):
    try:
        print(method, r.urlopen(r.Request(sys.argv[1], method=method), timeout=20).read().decode())
    except urllib.error.HTTPError as error:
        print(method, error.code, error.headers["X-Houseroom-Reason"])
"""
FETCH = """
(async () => { for (const method of ["GET", "PUT"]) {
    const answer = await fetch(process.argv[1], { method }); console.log(method, answer.status, (await answer.text()).split("\\n")[0]);
} })();
"""


def place_extra(source: Path) -> None:
    """The extra beside the package, where the identity can read it."""
    for name in ("cryptography", "_cffi_backend"):
        found = find_spec(name)
        assert found and found.origin
        origin = Path(found.origin)
        if origin.name == "__init__.py":
            shutil.copytree(origin.parent, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, source)
    subprocess.run(["chmod", "-R", "a+rX", str(source)], check=True)


def take_extra(source: Path) -> None:
    shutil.rmtree(source / "cryptography", ignore_errors=True)
    for each in source.glob("_cffi_backend*"):
        each.unlink()


@pytest.fixture
def extra(bench: Bench) -> Iterator[Path]:
    source = bench.identity.base / "src"
    take_extra(source)
    place_extra(source)
    program = f"import sys; sys.path.insert(0, {str(source)!r}); import cryptography.hazmat.primitives.asymmetric.ec"
    if subprocess.run([bench.identity.python, "-c", program], capture_output=True, check=False, cwd="/").returncode:
        lacking(f"the extra for {bench.identity.python}")
    yield source
    take_extra(source)


@pytest.fixture
def world(bench: Bench) -> Iterator[World]:
    with made(bench) as world:
        world.names[OTHER] = [["127.0.0.1"]]
        yield world


class Outer:
    """Servers whose certificates the caller trusts by SSL_CERT_FILE, as curl and Python do."""

    def __init__(self, world: World, directory: Path):
        self.world, self.directory, self.authority = world, directory, OuterAuthority()
        directory.mkdir()
        self.trusted = directory / "trusted.pem"
        self.trusted.write_text(self.authority.pem)
        world.bench.stage.give(self.trusted)
        for each in (directory, self.trusted):
            each.chmod(0o755)

    def web(self, body: str = "welcome", *names: str) -> int:
        return self.world.web(body, context=self.authority.server(self.directory / "pem", *(names or (GOOD, OTHER))))

    def run(self, argv: list[str], *allowed: str, options: tuple[str, ...] = (), env: dict[str, str] | None = None) -> Outcome:
        return self.world.run(argv, *allowed, options=options, env={"SSL_CERT_FILE": str(self.trusted), **(env or {})})


@pytest.fixture
def outer(world: World, bench: Bench, extra: Path) -> Iterator[Outer]:
    directory = bench.identity.base / "outer"
    yield Outer(world, directory)
    shutil.rmtree(directory)


def need(program: str) -> str:
    found = shutil.which(program, path="/usr/local/bin:/usr/bin:/bin")
    if not found:
        lacking(program)
    return str(found)


def rules(port: int) -> tuple[str, ...]:
    return (f"GET {GOOD}:{port}/v1/**", f"{OTHER}:{port}")


# -- programs -------------------------------------------------------------------------------------------------------------

ROADS = {"told of the proxy": [], "by itself": ["--noproxy", "*"], "SOCKS": ["--noproxy", "", "-x", "socks5h://198.18.0.1:4128"]}


OVERRIDE = ["-H", "X-HTTP-Method-Override: DELETE", "/v1/a"]  # which some frameworks take for the method


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_curl_by_every_road(world: World, outer: Outer, scheme: str, road: str) -> None:
    need("curl")
    port = outer.web() if scheme == "https" else world.web()
    curl = ["curl", "-sS", "-i", "--suppress-connect-headers", *ROADS[road]]
    outcome = outer.run([*curl, f"{scheme}://{GOOD}:{port}/v1/a?q=1"], *rules(port))
    assert outcome.status == 0 and outcome.out.startswith("HTTP/1.1 200") and outcome.out.endswith("welcome"), outcome
    assert [head.split(b"\r\n")[0] for head in world.heads] == [b"GET /v1/a?q=1 HTTP/1.1"]
    for words in (
        ["-X", "DELETE", "/v1/a"],
        ["/admin"],
        ["--path-as-is", "/v1/../admin"],
        ["/v1/%2e%2e/admin"],
        ["-d", "x=y", "/v1/a"],
        OVERRIDE,
    ):
        refused = [*curl, *words[:-1], f"{scheme}://{GOOD}:{port}{words[-1]}"]
        outcome = outer.run(refused, *rules(port))
        assert outcome.out.startswith("HTTP/1.1 403") and "X-Houseroom-Reason: " in outcome.out, outcome
        assert "welcome" not in outcome.out and not world.heads, outcome
        # Its twin: the same where the host is allowed whole.
        assert "welcome" in outer.run(refused, f"{GOOD}:{port}").out


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_every_request_of_a_kept_connection(world: World, bench: Bench, outer: Outer, scheme: str) -> None:
    port = outer.web() if scheme == "https" else world.web()
    outcome = outer.run([bench.identity.python, "-c", KEPT, scheme, GOOD, str(port)], *rules(port), options=("--verbose",))
    assert outcome.out.splitlines() == [
        "GET /v1/a 200 welcome",
        "DELETE /v1/a 403 houseroom:",
        "GET /v1/b 200 welcome",
        "GET /admin 403 houseroom:",
    ], outcome
    assert [head.split(b" ")[:2] for head in world.heads] == [[b"GET", b"/v1/a"], [b"GET", b"/v1/b"]]
    told = " ".join(outcome.err.split())
    assert f"DELETE {GOOD}:{port}/v1/a: no rule" in told and f"--allow 'DELETE {GOOD}:{port}/v1/a'" in told, outcome
    outcome = outer.run([bench.identity.python, "-c", KEPT, scheme, GOOD, str(port)], f"{GOOD}:{port}")
    assert outcome.out.count("welcome") == 4, outcome


def test_python(world: World, bench: Bench, outer: Outer) -> None:
    port = outer.web()
    outcome = outer.run([bench.identity.python, "-c", URLLIB, f"https://{GOOD}:{port}/v1/a"], *rules(port))
    assert outcome.out.splitlines() == ["GET welcome", "PUT 403 no rule of the workspace policy allows this request"], outcome


@pytest.mark.needs("node")
def test_node(world: World, outer: Outer) -> None:
    port = outer.web()
    outcome = outer.run([need("node"), "-e", FETCH, f"https://{GOOD}:{port}/v1/a"], *rules(port))
    first, second = outcome.out.splitlines() or ["", ""]
    assert first == "GET 200 welcome" and second.startswith("PUT 403 houseroom: no rule"), outcome
    assert len(world.heads) == 1


@pytest.mark.needs("git")
def test_git(world: World, bench: Bench, outer: Outer) -> None:
    served = outer.directory / "served"
    environment = {"PATH": "/usr/bin:/bin", "GIT_CONFIG_GLOBAL": os.devnull, "HOME": str(served)}
    script = """git init -q made && cd made && echo content > file && git add file
        git -c user.name=x -c user.email=x@example.org commit -q -m x && git update-server-info"""
    served.mkdir()
    subprocess.run(["sh", "-e", "-c", script], cwd=served, env=environment, check=True)
    port = world.files(served, context=outer.authority.server(outer.directory / "pem", GOOD))
    clone = ["sh", "-c", 'git clone -q "$0" /tmp/cloned && cat /tmp/cloned/file', f"https://{GOOD}:{port}/made/.git"]
    outcome = outer.run(clone, f"GET {GOOD}:{port}/made/**")
    assert (outcome.status, outcome.out) == (0, "content\n"), outcome
    outcome = outer.run(clone, f"GET {GOOD}:{port}/others/**")
    assert outcome.status != 0 and "403" in outcome.err and not world.heads, outcome


# -- trust ----------------------------------------------------------------------------------------------------------------


def test_only_hosts_with_such_rules_are_answered_for(bench: Bench, world: World, outer: Outer) -> None:
    """A host that is allowed whole shows its own certificate, and a pinned one passes; the authority is another one each time."""
    port = outer.web()
    asked = [outer.run([bench.identity.python, "-c", ISSUER, host, str(port)], *rules(port)) for host in (OTHER, GOOD, GOOD)]
    issuers = [outcome.out.strip() for outcome in asked]
    assert issuers[0].startswith("a test "), asked[0]
    assert all(issuer.startswith("houseroom, of one sandbox, ") for issuer in issuers[1:]), asked[1]
    assert issuers[1] != issuers[2]


def test_trust_is_the_sandboxs_own_and_read_only(bench: Bench, world: World, outer: Outer) -> None:
    if not os.path.exists(SYSTEM_FILE):
        lacking(SYSTEM_FILE)
    port = outer.web()
    before = hashlib.sha256(Path(SYSTEM_FILE).read_bytes()).hexdigest()
    script = f"""
        env | grep -c '={SYSTEM_FILE}$'
        grep -c BEGIN {SYSTEM_FILE}
        for act in 'echo x >> {SYSTEM_FILE}' 'rm {SYSTEM_FILE}' 'mv {SYSTEM_FILE} /tmp/x' 'chmod 0600 {SYSTEM_FILE}'; do
            sh -c "$act" 2> /dev/null && echo "done: $act"
        done
        env -i {need("curl")} -sS https://{GOOD}:{port}/v1/a
    """
    outcome = outer.run(["sh", "-c", script], *rules(port))
    variables, certificates, *rest = outcome.out.splitlines()
    own = Path(SYSTEM_FILE).read_text().count("BEGIN CERTIFICATE")
    assert int(variables) >= 10 and int(certificates) == own + 2, outcome  # the caller's, and the sandbox's
    assert rest == ["welcome"], outcome  # and a program that is told nothing
    assert hashlib.sha256(Path(SYSTEM_FILE).read_bytes()).hexdigest() == before
    plain = outer.run(["sh", "-c", f"env | grep -c '={SYSTEM_FILE}$'; grep -c BEGIN {SYSTEM_FILE}"], GOOD)
    assert plain.out.split() == ["0", str(own)], plain


def test_a_server_that_does_not_prove_who_it_is(world: World, outer: Outer) -> None:
    need("curl")
    port = outer.web("welcome", OTHER)  # a good certificate for another name
    asked = ["curl", "-ksSi", "--suppress-connect-headers", f"https://{GOOD}:{port}/v1/a"]
    outcome = outer.run(asked, *rules(port), options=("--verbose",))
    assert outcome.out.startswith("HTTP/1.1 502") and "its certificate is not accepted: Hostname mismatch" in outcome.out, outcome
    assert "its certificate is not accepted" in outcome.err and not world.heads, outcome
    outcome = world.run(
        ["curl", "-ksSi", "--suppress-connect-headers", f"https://{OTHER}:{port}/v1/a"], f"GET {OTHER}:{port}/v1/**"
    )  # nobody trusts its authority
    assert outcome.out.startswith("HTTP/1.1 502") and not world.heads, outcome
    assert "welcome" in world.run(["curl", "-ksS", f"https://{GOOD}:{port}/v1/a"], f"{GOOD}:{port}").out


def test_other_protocols_to_such_a_host_are_refused(bench: Bench, world: World, outer: Outer) -> None:
    heard: list[bytes] = []

    def talk(connection: object) -> None:
        heard.append(connection.recv(100))  # type: ignore[attr-defined]
        connection.sendall(b"yes")  # type: ignore[attr-defined]

    port = world.serve(talk)
    program = f"import socket; s = socket.create_connection(('{GOOD}', {port})); s.sendall(b'EHLO x\\r\\n\\r\\n'); print(s.recv(100)[:12])"
    outcome = outer.run([bench.identity.python, "-c", program], *rules(port))
    assert "yes" not in outcome.out and not any(heard), outcome
    assert "yes" in outer.run([bench.identity.python, "-c", program], GOOD).out and any(heard)


# -- the extra ------------------------------------------------------------------------------------------------------------


def test_without_the_extra_nothing_starts(world: World, outer: Outer, extra: Path) -> None:
    act, world.site = ["sh", "-c", "echo started"], str(extra)
    assert outer.run(act, *rules(1)).out == "started\n"
    take_extra(extra)
    outcome = outer.run(act, *rules(1))
    assert outcome.status == 125 and "started" not in outcome.out, outcome
    assert "needs the extra" in outcome.err and "pip install 'houseroom[inspect]'" in outcome.err, outcome
    assert outer.run(act, GOOD).out == "started\n"


def test_what_commands_may_write_is_never_imported(world: World, outer: Outer, extra: Path) -> None:
    act, world.site = ["sh", "-c", "echo started"], str(extra)
    for writable in (extra, extra / "cryptography", extra / "cryptography" / "hazmat" / "bindings"):
        outcome = outer.run(act, *rules(1), options=("--write", str(writable)))
        assert outcome.status == 125 and "which commands may write" in outcome.err and "started" not in outcome.out, outcome
        assert outer.run(act, GOOD, options=("--write", str(writable))).out == "started\n"
    moved = world.bench.stage.workspace / "elsewhere"
    shutil.move(extra / "cryptography", moved)
    (extra / "cryptography").symlink_to(moved)
    outcome = outer.run(act, *rules(1))
    assert outcome.status == 125 and "which commands may write" in outcome.err, outcome
    (extra / "cryptography").unlink()
    shutil.move(moved, extra / "cryptography")


def test_nothing_stays(world: World, outer: Outer) -> None:
    port = outer.web()
    outcome = outer.run(["sh", "-c", "exit 3"], *rules(port))
    assert outcome.status == 3, outcome
    outcome = outer.run(["/nowhere/nothing"], *rules(port))
    assert outcome.status == 127, outcome
    assert eventually(lambda: not proxies(world))


# -- as long as the sandbox, in sessions too ------------------------------------------------------------------------------

SESSION = """
import sys
from houseroom import Session
from houseroom.session import keepers
keepers._PROGRAM = sys.argv[1]

def code(session, method, path):
    argv = ["curl", "-sS", "-o", "/dev/null", "-w", "%{{http_code}}", "-X", method, "https://{good}:" + sys.argv[2] + path]
    return session.run(argv, capture_output=True, text=True).stdout

with Session(allow=["GET {good}:" + sys.argv[2] + "/v1/**"]) as s, Session(allow=["DELETE {good}"]) as t:
    for each in (s, t):
        print(*(code(each, *asked) for asked in (("GET", "/v1/a"), ("DELETE", "/v1/a"), ("GET", "/v1/b"), ("GET", "/x"))))
"""


def test_sessions_of_an_application(world: World, bench: Bench, outer: Outer) -> None:
    need("curl")
    port = outer.web()
    argv = [bench.identity.python, "-c", SESSION.format(good=GOOD), str(world.keeper()), str(port)]
    environment = {"PYTHONPATH": str(bench.identity.base / "src"), "SSL_CERT_FILE": str(outer.trusted)}
    outcome = bench.run(argv, inside=False, env=environment)
    assert outcome.out.splitlines() == ["200 403 200 403", "403 200 403 403"], outcome
    assert [head.split(b" ")[0] for head in world.heads] == [b"GET", b"GET", b"DELETE"]
    assert eventually(lambda: not proxies(world))


@pytest.mark.parametrize("end", ["command", "supervisor"])
def test_the_proxy_holds_nothing_of_the_caller_and_ends_with_its_sandbox(world: World, outer: Outer, end: str) -> None:
    need_sight()
    process = world.start(["sh", "-c", "echo READY; read line"], *rules(1))
    try:
        assert b"READY" in Bench.until_ready(process)
        assert eventually(lambda: len(proxies(world, process.pid)) == 1)
        (proxy,) = proxies(world, process.pid)
        assert [os.readlink(f"/proc/{proxy}/fd/{stream}") for stream in (0, 1, 2)] == [os.devnull] * 3
        assert os.readlink(f"/proc/{proxy}/cwd") == "/" and os.getpgid(proxy) == os.getsid(proxy) == proxy
        assert eventually(lambda: process.pid in watched(proxy))  # the command may begin before the proxy has its listeners
        status = Path(f"/proc/{proxy}/status").read_text()
        assert "CapEff:\t0000000000000000" in status and "NoNewPrivs:\t1" in status
        if end == "supervisor":
            process.kill()
        else:
            process.communicate(b"\n", timeout=60)
        process.wait()
        assert eventually(lambda: not proxies(world))
    finally:
        Bench.end(process)


def test_by_the_hosts_own_proxy(world: World, outer: Outer) -> None:
    """What it carries for us is inside TLS, to a server that has proved its name: it reads nothing and decides nothing."""
    need("curl")
    corporation, port = Corporation(world), outer.web()
    curl = ["sh", "-c", 'for method in GET DELETE; do curl -sS -X $method "$0" | head -c 9; echo; done', f"https://{GOOD}:{port}/v1/a"]
    outcome = outer.run(curl, *rules(port), options=("--upstream", "host"), env=corporation.variables)
    assert outcome.out.splitlines() == ["welcome", "houseroom"], outcome
    assert world.reached[corporation.port] > 0 and [head.split(b" ")[0] for head in world.heads] == [b"GET"]
