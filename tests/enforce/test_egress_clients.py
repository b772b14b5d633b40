"""Clients that people build on reach an allowed host through the egress proxy as they are: libraries, git both ways, ssh, other runtimes.

Each is tried with the proxy's variables, where it knows them, and without; in TLS its own checks of the certificate hold.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from runner import Bench, Outcome
from small_world import GOOD, World, made

pytestmark = pytest.mark.needs("userns")

OTHER = "other.example.org"
CLOSED = {"http_proxy": "", "https_proxy": "", "HTTP_PROXY": "", "HTTPS_PROXY": ""}  # as for a program that looks at none of them

REQUESTS = """
import sys, requests
session = requests.Session()
session.trust_env = sys.argv[2] == "told"
answer = session.get(sys.argv[1], verify=sys.argv[3])
answer.raise_for_status()
print(answer.text)
"""
HTTPX = """
import ssl, sys, httpx
with httpx.Client(trust_env=sys.argv[2] == "told", verify=ssl.create_default_context(cafile=sys.argv[3])) as client:
    print(client.get(sys.argv[1]).raise_for_status().text)
"""
HTTPX_ASYNC = """
import asyncio, ssl, sys, httpx
async def main():
    async with httpx.AsyncClient(trust_env=sys.argv[2] == "told", verify=ssl.create_default_context(cafile=sys.argv[3])) as client:
        answers = await asyncio.gather(*(client.get(sys.argv[1]) for _ in range(8)))
        print(*{answer.raise_for_status().text for answer in answers})
asyncio.run(main())
"""
FETCH = "fetch(process.argv[1]).then(a => a.text()).then(t => console.log(t), e => { console.error(e, e.cause); process.exit(1) })"
JAVA = """
import java.net.*;
import java.net.http.*;
class Client {
    public static void main(String[] words) throws Exception {
        var old = new String(new URL(words[0]).openStream().readAllBytes());
        var request = HttpRequest.newBuilder(URI.create(words[0])).build();
        var answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.statusCode() == 200 && answer.body().equals(old) ? old : "not the same");
    }
}
"""
LIBRARIES = {"requests": REQUESTS, "httpx": HTTPX, "httpx in a loop": HTTPX_ASYNC}
NEEDED = ("requests", "urllib3", "idna", "certifi", "charset_normalizer", "httpx", "httpcore", "h11", "anyio", "typing_extensions")


@pytest.fixture
def world(bench: Bench) -> Iterator[World]:
    with made(bench) as world:
        world.names[OTHER] = [["127.0.0.1"]]
        yield world


def need(program: str) -> str:
    """Its path. A program that is not here skips the test: it says nothing about what this host's kernel can enforce."""
    found = shutil.which(program, path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/usr/lib/git-core")
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def libraries(bench: Bench) -> str:
    """A directory with what the tests' own environment has of the libraries, where the identity can read it."""
    place = bench.identity.base / "libraries"
    for name in NEEDED:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            if name in ("requests", "httpx"):
                pytest.skip(f"{name} is not installed")
            continue
        origin = Path(spec.origin)
        if not (place / name).exists():
            place.mkdir(exist_ok=True)
            if origin.name == "__init__.py":
                shutil.copytree(origin.parent, place / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(origin, place)
    subprocess.run(["chmod", "-R", "a+rX", str(place)], check=True)
    return str(place)


def authority(bench: Bench) -> tuple[ssl.SSLContext, Path]:
    """A server's side of TLS for both names, and the certificate that clients are to trust."""
    key, certificate = bench.identity.base / "key.pem", bench.identity.base / "certificate.pem"
    if not certificate.exists():
        names = f"subjectAltName=DNS:{GOOD},DNS:{OTHER}"
        argv = [need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        argv += ["-subj", "/CN=small world", "-addext", names, "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(argv, check=True, capture_output=True)
        certificate.chmod(0o644)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate


def page(world: World, context: ssl.SSLContext | None) -> int:
    """A server of one page."""
    place = world.bench.identity.base / "pages"
    place.mkdir(exist_ok=True)
    (place / "index.html").write_text("welcome")
    return world.files(place, context=context)


def judge(world: World, argv: list[str], url: str, **how: object) -> None:
    """What works with the allowed host fails with the other one, whose server hears nothing of it."""
    outcome = world.run([word.replace("{url}", url.replace("{host}", GOOD)) for word in argv], GOOD, **how)
    assert (outcome.status, outcome.out.strip()) == (0, "welcome"), outcome
    assert world.heads
    outcome = world.run([word.replace("{url}", url.replace("{host}", OTHER)) for word in argv], GOOD, **how)
    assert outcome.status not in (0, -9) and "welcome" not in outcome.out, outcome
    assert (world.heads, world.asked()) == ([], set())


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("told", ["told", "not told"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_of_python(world: World, bench: Bench, library: str, told: str, scheme: str) -> None:
    context, certificate = authority(bench)
    port = page(world, context if scheme == "https" else None)
    argv = [bench.identity.python, "-c", f"import sys; sys.path.insert(0, {libraries(bench)!r})\n{LIBRARIES[library]}"]
    judge(world, [*argv, "{url}", told, str(certificate)], f"{scheme}://{{host}}:{port}/")


@pytest.mark.needs("node")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_fetch_of_node_which_knows_no_proxy(world: World, bench: Bench, scheme: str) -> None:
    context, certificate = authority(bench)
    port = page(world, context if scheme == "https" else None)
    judge(world, ["node", "-e", FETCH, "{url}"], f"{scheme}://{{host}}:{port}/", env={"NODE_EXTRA_CA_CERTS": str(certificate)})


@pytest.mark.parametrize("more", [[], ["--noproxy", "*"], ["--proxy", "socks5h://198.18.0.1:4128"]])
def test_curl_in_tls(world: World, bench: Bench, more: list[str]) -> None:
    context, certificate = authority(bench)
    port = page(world, context)
    judge(world, [need("curl"), "-sS", "--fail", "--cacert", str(certificate), *more, "{url}"], f"https://{{host}}:{port}/")


def test_java_which_knows_no_proxy(world: World, bench: Bench) -> None:
    need("javac")
    bench.stage.plant(bench.stage.workspace / "Client.java", JAVA, 0o644)
    done = bench.run(["javac", "Client.java"], inside=False)
    assert done.status == 0, done
    judge(world, [need("java"), "-XX:TieredStopAtLevel=1", "Client", "{url}"], f"http://{{host}}:{page(world, None)}/")


# -- git, with its own server ---------------------------------------------------------------------------------------------


def smart(world: World, root: Path, context: ssl.SSLContext | None) -> int:
    """git-http-backend(1) behind a web server; whoever asks may push."""
    backend = need("git-http-backend")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            path, _, query = self.path.partition("?")
            world.heads.append(self.path.encode())
            body = self._body()
            variables = {
                "GIT_PROJECT_ROOT": str(root), "GIT_HTTP_EXPORT_ALL": "1", "REMOTE_USER": "x", "REMOTE_ADDR": "127.0.0.1",
                "REQUEST_METHOD": self.command, "PATH_INFO": path, "QUERY_STRING": query, "CONTENT_LENGTH": str(len(body)),
                "CONTENT_TYPE": self.headers.get("Content-Type", ""), "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "HTTP_GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "GIT_CONFIG_GLOBAL": os.devnull, "PATH": "/usr/bin:/bin",
                "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
            }  # fmt: skip
            done = subprocess.run([backend], input=body, capture_output=True, env=variables, check=True)
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(fields.pop("Status", "200").split()[0]))
            for name, value in fields.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self.do_POST()

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class calls it so
            pass

    return world.http(Handler, context)


# Clone, commit something that is too large for one piece, push it, clone again.
GIT = """
set -e; cd /tmp
git clone -q "$0" first; cd first
head -c 3000000 /dev/urandom > large; git add large
git -c user.name=x -c user.email=x@example.org commit -q -m large
git push -q origin HEAD; cd ..
git clone -q "$0" second; cmp first/large second/large; cat second/file
"""


@pytest.mark.needs("git")
@pytest.mark.parametrize("told", ["told", "not told"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_git_clones_and_pushes(world: World, bench: Bench, scheme: str, told: str) -> None:
    context, certificate = authority(bench)
    root = bench.identity.base / "repositories"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    script = """git init -q work; cd work; echo welcome > file; git add file
        git -c user.name=x -c user.email=x@example.org commit -q -m x; cd ..; git clone -q --bare work made.git"""
    environment = {"PATH": "/usr/bin:/bin", "GIT_CONFIG_GLOBAL": os.devnull, "HOME": str(root)}
    subprocess.run(["sh", "-e", "-c", script], cwd=root, env=environment, check=True)
    port = smart(world, root, context if scheme == "https" else None)
    variables = {"GIT_SSL_CAINFO": str(certificate), "GIT_TERMINAL_PROMPT": "0", **(CLOSED if told == "not told" else {})}
    exports = "".join(f"export {name}={value}; " for name, value in variables.items())
    judge(world, ["sh", "-c", exports + GIT, "{url}"], f"{scheme}://{{host}}:{port}/made.git")
    commits = subprocess.run(["git", "-C", str(root / "made.git"), "log", "--oneline"], capture_output=True, env=environment, check=True)
    assert len(commits.stdout.splitlines()) == 2


# -- ssh ------------------------------------------------------------------------------------------------------------------

SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {place}/host
AuthorizedKeysFile {place}/client.pub
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
PidFile none
Subsystem sftp internal-sftp
"""


@pytest.fixture
def sshd(bench: Bench, world: World) -> Iterator[tuple[int, Path]]:
    """A server of the identity's own; its port, and the directory of its keys."""
    program = need("sshd")
    if bench.identity.uid == 0 and subprocess.run(["getent", "passwd", "sshd"], capture_output=True, check=False).returncode:
        pytest.skip("there is no user sshd, which root's sshd becomes")
    need("ssh")
    place = bench.stage.workspace / "keys"
    place.mkdir()
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / name)], check=True)
    port = world.serve(lambda _: None)
    world.close()  # which leaves us a port that nobody listens at
    world._listeners.clear()
    (place / "config").write_text(SSHD.format(port=port, place=place))
    public = (place / "host.pub").read_text()
    (place / "known").write_text(f"[{GOOD}]:{port} {public}[{OTHER}]:{port} {public}")
    for path in (place, *place.iterdir()):
        bench.stage.give(path)
    argv = [program, "-D", "-e", "-f", str(place / "config")]
    if bench.identity.uid == 0:  # it wants a directory of the system's, and finds it here
        argv = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec "$@"', "sh", *argv]
    process = bench.start(argv, inside=False)
    try:
        assert process.stderr
        assert b"listening" in process.stderr.readline()
        yield port, place
    finally:
        Bench.end(process)


def test_ssh_and_scp_by_name(world: World, bench: Bench, sshd: tuple[int, Path]) -> None:
    """They speak neither HTTP nor TLS, know no proxy, and the server speaks first."""
    port, place = sshd
    options = ["-F", "none", "-i", str(place / "client"), "-o", f"UserKnownHostsFile={place}/known", "-o", "StrictHostKeyChecking=yes"]
    options += ["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]
    data = os.urandom(300_000)
    (bench.stage.workspace / "sent").write_bytes(data)
    bench.stage.give(bench.stage.workspace / "sent")

    def both(host: str) -> Outcome:
        target = f"{bench.identity.login}@{host}"
        script = f'ssh -p {port} "$@" {target} echo hello && scp -q -P {port} "$@" sent {target}:{place}/received && echo copied'
        return world.run(["sh", "-c", script, "sh", *options], GOOD)

    outcome = both(GOOD)
    assert (outcome.status, outcome.out) == (0, "hello\ncopied\n"), outcome
    assert (place / "received").read_bytes() == data
    (place / "received").unlink()
    outcome = both(OTHER)
    assert outcome.status == 255 and "Could not resolve hostname" in outcome.err, outcome
    assert not (place / "received").exists()


# -- a name server that hears every question ------------------------------------------------------------------------------


def test_no_label_of_a_refused_name_reaches_a_name_server(bench: Bench) -> None:
    """The host's own resolver, in a network whose only server tells what it was asked. The twin asks it without the sandbox."""
    secret = f"{bench.stage.token[:30].lower()}.evil.org"
    names = [secret, f"x.{secret}", f"{GOOD}.evil.org", f"other.{GOOD}"]
    script = bench.identity.base / "probes" / "own_resolver.py"
    told: dict[str, list[str]] = {}
    for way in ("bare", "inside"):
        argv = ["unshare", "-Urmn", bench.identity.python, str(script), way, GOOD, *names]
        outcome = bench.run(argv, inside=False, env={"PYTHONPATH": str(bench.identity.base / "src")})
        assert (outcome.status, outcome.err) == (0, ""), outcome
        found = json.loads(outcome.out)
        assert found["got"][GOOD] == "welcome", found
        assert not [name for name in names if found["got"][name] == "welcome"], found
        told[way] = found["asked"]
    assert {GOOD, *names} <= set(told["bare"])
    assert set(told["inside"]) == {GOOD}, told
