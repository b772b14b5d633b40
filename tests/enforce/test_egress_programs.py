"""Programs as they are reach an allowed host through the egress proxy, and learn at once that another one is refused."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from functools import reduce

import pytest
from runner import Bench, lacking
from small_world import GOOD, World, made

pytestmark = pytest.mark.needs("userns")

OTHER = "other.example.org"

RAW_C = r"""
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(int count, char **words) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(words[2]))};
    const char *ask = "GET / HTTP/1.0\r\nHost: good.example.org\r\nConnection: close\r\n\r\n";
    char said[4096];
    ssize_t size, all = 0;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    (void) count;
    if (!inet_pton(AF_INET, words[1], &to.sin_addr)) return 2;
    if (connect(fd, (void *) &to, sizeof to)) { perror("connect"); return 1; }
    if (write(fd, ask, strlen(ask)) < 0) { perror("write"); return 1; }
    while ((size = read(fd, said + all, sizeof said - 1 - all)) > 0) all += size;
    said[all] = 0;
    puts(strstr(said, "\r\n\r\n") ? strstr(said, "\r\n\r\n") + 4 : "nothing");
    return 0;
}
"""

URLLIB = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"
CLIENT = """
import http.client, sys, urllib.parse
where = urllib.parse.urlsplit(sys.argv[1])
connection = http.client.HTTPConnection(where.hostname, where.port)
connection.request("GET", "/")
print(connection.getresponse().read().decode())
"""
ASYNCIO = """
import asyncio, sys, urllib.parse
async def ask(where):
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(f"GET / HTTP/1.1\\r\\nHost: {where.hostname}\\r\\nConnection: close\\r\\n\\r\\n".encode())
    print((await reader.read()).partition(b"\\r\\n\\r\\n")[2].decode())
asyncio.run(ask(urllib.parse.urlsplit(sys.argv[1])))
"""
FETCH = "fetch(process.argv[1]).then(a => a.text()).then(t => console.log(t), e => { console.error(e, e.cause); process.exit(1) })"
NODE_CONNECT = r"""
const where = new URL(process.argv[1]);
const socket = require("net").connect(where.port, where.hostname);
let data = "";
socket.on("data", part => data += part);
socket.on("end", () => console.log(data.split("\r\n\r\n")[1]));
socket.on("error", error => { console.error(error); process.exit(1) });
socket.write(`GET / HTTP/1.1\r\nHost: ${where.hostname}\r\nConnection: close\r\n\r\n`);
"""

CURL = ["curl", "-sS", "--fail"]
PROGRAMS: dict[str, list[str]] = {
    "curl": [*CURL, "{url}"],
    "curl plain": [*CURL, "--noproxy", "*", "{url}"],
    "curl connect": [*CURL, "--proxytunnel", "{url}"],
    "curl socks5h": [*CURL, "--proxy", "socks5h://198.18.0.1:4128", "{url}"],
    "curl socks5": [*CURL, "--proxy", "socks5://198.18.0.1:4128", "{url}"],
    "curl ipv6": [*CURL, "--noproxy", "*", "--resolve", "{host}:{port}:[::ffff:198.18.0.2]", "{url}"],
    "urllib": ["{python}", "-c", URLLIB, "{url}"],
    "http.client": ["{python}", "-c", CLIENT, "{url}"],
    "asyncio": ["{python}", "-c", ASYNCIO, "{url}"],
    "fetch": ["node", "-e", FETCH, "{url}"],
    "net.connect": ["node", "-e", NODE_CONNECT, "{url}"],
}


@pytest.fixture
def world(bench: Bench) -> Iterator[World]:
    with made(bench) as world:
        yield world


def filled(world: World, words: list[str], host: str, port: int) -> list[str]:
    values = {"{url}": f"http://{host}:{port}/", "{host}": host, "{port}": str(port), "{python}": world.bench.identity.python}
    return [reduce(lambda text, value: text.replace(*value), values.items(), word) for word in words]


def need(program: str) -> None:
    if not shutil.which(program, path="/usr/local/bin:/usr/bin:/bin"):
        lacking(program)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_reaches_what_is_allowed(world: World, program: str) -> None:
    if PROGRAMS[program][0] in ("curl", "node"):
        need(PROGRAMS[program][0])
    port = world.web()
    world.names[OTHER] = [["127.0.0.1"]]
    if program == "curl ipv6":  # the first address that is given to a name
        argv = ["sh", "-c", 'getent hosts "$0" > /dev/null; exec "$@"', GOOD, *filled(world, PROGRAMS[program], GOOD, port)]
    else:
        argv = filled(world, PROGRAMS[program], GOOD, port)
    outcome = world.run(argv, GOOD)
    assert (outcome.status, outcome.out.strip()) == (0, "welcome"), outcome
    assert world.asked() == {GOOD}
    outcome = world.run(filled(world, PROGRAMS[program], OTHER, port), GOOD)
    assert outcome.status not in (0, -9), outcome
    assert "welcome" not in outcome.out
    assert (world.reached[port], world.asked()) == (0, set())


def test_the_reason_is_in_the_answer(world: World) -> None:
    need("curl")
    port = world.web()
    outcome = world.run(["curl", "-sS", "-i", f"http://{OTHER}:{port}/"], GOOD)
    assert "HTTP/1.1 403" in outcome.out and "X-Houseroom-Reason: no rule" in outcome.out, outcome
    assert f"--allow {OTHER}:{port}" in outcome.out
    outcome = world.run(["curl", "-sS", "-i", f"http://{GOOD}:{port}/"], GOOD)
    assert "HTTP/1.1 200" in outcome.out and "X-Houseroom-Reason" not in outcome.out, outcome


@pytest.mark.parametrize("how", [["--data-binary", "@-"], ["-H", "Expect: 100-continue", "-T", "-"]])
def test_bodies_with_a_length_and_in_chunks(world: World, how: list[str]) -> None:
    need("curl")
    port = world.web()
    for host, status in ((GOOD, "200"), (OTHER, "403")):
        script = 'head -c 300000 /dev/zero | curl -sS -o /dev/null -w "%{http_code}" "$@"'
        outcome = world.run(["sh", "-c", script, "sh", *how, f"http://{host}:{port}/"], GOOD)
        assert (outcome.status, outcome.out) == (0, status), outcome


def test_getent(world: World) -> None:
    for database in ("hosts", "ahosts", "ahostsv4"):
        outcome = world.run(["getent", database, GOOD], GOOD)
        assert outcome.status == 0 and outcome.out.startswith("198.18.0.2"), outcome
        outcome = world.run(["getent", database, OTHER], GOOD)
        assert (outcome.status, outcome.out) == (2, ""), outcome
        assert world.asked() == set()


@pytest.mark.needs("gcc")
def test_a_static_program_that_knows_only_addresses(world: World, bench: Bench) -> None:
    source = bench.stage.plant(bench.stage.workspace / "raw.c", RAW_C)
    program = bench.stage.workspace / "raw"
    subprocess.run(["gcc", "-O1", "-static", "-o", str(program), str(source)], check=True)
    program.chmod(0o755)
    bench.stage.give(program)
    port, unlisted = world.web(), world.web("other")
    script = './raw "$(getent hosts "$0" | cut -d" " -f1)" "$1"'
    rule = f"{GOOD}:{port}"
    outcome = world.run(["sh", "-c", script, GOOD, str(port)], rule)
    assert (outcome.status, outcome.out.strip()) == (0, "welcome"), outcome
    outcome = world.run(["sh", "-c", script, GOOD, str(unlisted)], rule)
    assert outcome.status == 1 and "connect: Permission denied" in outcome.err, outcome
    assert world.reached[unlisted] == 0
    outcome = world.run(["./raw", "192.0.2.1", str(port)], rule)
    assert outcome.status == 1 and "connect: Permission denied" in outcome.err, outcome


@pytest.mark.needs("git")
def test_git(world: World, bench: Bench) -> None:
    served = bench.identity.base / "served"
    shutil.rmtree(served, ignore_errors=True)
    environment = {"PATH": "/usr/bin:/bin", "GIT_CONFIG_GLOBAL": os.devnull, "HOME": str(served)}
    script = """git init -q made && cd made && echo content > file && git add file
        git -c user.name=x -c user.email=x@example.org commit -q -m x && git update-server-info"""
    served.mkdir()
    subprocess.run(["sh", "-e", "-c", script], cwd=served, env=environment, check=True)
    port = world.files(served)
    world.names[OTHER] = [["127.0.0.1"]]
    for variables in ({}, {"http_proxy": "", "HTTP_PROXY": ""}):
        script = (
            "".join(f"export {name}={value}; " for name, value in variables.items())
            + 'git clone -q "$0" /tmp/cloned && cat /tmp/cloned/file'
        )
        outcome = world.run(["sh", "-c", script, f"http://{GOOD}:{port}/made/.git"], GOOD)
        assert (outcome.status, outcome.out) == (0, "content\n"), outcome
        outcome = world.run(["sh", "-c", script, f"http://{OTHER}:{port}/made/.git"], GOOD)
        assert outcome.status != 0 and "fatal: unable to access" in outcome.err, outcome
        assert not world.heads


def wheel() -> bytes:
    """A package of one module."""
    files = {
        "world_package.py": "",
        "world_package-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: world-package\nVersion: 1.0\n",
        "world_package-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "world_package-1.0.dist-info/RECORD": "",
    }
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return data.getvalue()


def test_pip(world: World, bench: Bench) -> None:
    python = bench.identity.python
    if subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False, cwd="/").returncode:
        lacking("pip")
    served = bench.identity.base / "index"
    place = served / "simple" / "world-package"
    place.mkdir(parents=True, exist_ok=True)
    name = "world_package-1.0-py3-none-any.whl"
    (place / name).write_bytes(wheel())
    (place / "index.html").write_text(f'<!DOCTYPE html><html><body><a href="{name}">{name}</a></body></html>')
    port = world.files(served)
    world.names[OTHER] = [["127.0.0.1"]]
    for host in (GOOD, OTHER):
        command = [python, "-m", "pip", "download", "-q", "--no-deps", "--retries", "0", "--disable-pip-version-check", "-d", "/tmp/got"]
        index = ["--index-url", f"http://{host}:{port}/simple", "--trusted-host", host, "world-package"]
        outcome = world.run(["sh", "-c", '"$@" && ls /tmp/got', "sh", *command, *index], GOOD)
        if host == GOOD:
            assert (outcome.status, outcome.out.strip()) == (0, name), outcome
        else:
            assert outcome.status != 0, outcome
            assert not world.heads


@pytest.mark.needs("node", "npm")
def test_npm(world: World, bench: Bench) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        text = json.dumps({"name": "world-package", "version": "1.0.0"}).encode()
        entry = tarfile.TarInfo("package/package.json")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    packed = data.getvalue()
    special: dict[str, bytes] = {"/world-package.tgz": packed}
    served = bench.identity.base / "registry"
    served.mkdir(exist_ok=True)
    port = world.files(served, special)
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(packed).digest()).decode()
    dist = {"tarball": f"http://{GOOD}:{port}/world-package.tgz", "integrity": integrity}
    version = {"name": "world-package", "version": "1.0.0", "dist": dist}
    special["/world-package"] = json.dumps(
        {"name": "world-package", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    ).encode()
    world.names[OTHER] = [["127.0.0.1"]]
    for host in (GOOD, OTHER):
        options = [
            "--cache",
            "/tmp/npm",
            "--no-audit",
            "--no-fund",
            "--no-update-notifier",
            "--fetch-retries",
            "0",
            "--prefix",
            "/tmp/there",
        ]
        command = ["npm", "install", *options, "--registry", f"http://{host}:{port}/", "world-package"]
        outcome = world.run(["sh", "-c", 'mkdir -p /tmp/there; "$@" >&2 && ls /tmp/there/node_modules', "sh", *command], GOOD, patience=120)
        if host == GOOD:
            assert (outcome.status, outcome.out.strip()) == (0, "world-package"), outcome
        else:
            assert outcome.status != 0, outcome
            assert not world.heads


def test_variables_name_the_proxy_and_keep_no_other(world: World) -> None:
    given = {"HTTP_PROXY": "http://192.0.2.1:1", "all_proxy": "socks5://192.0.2.1:1", "ALL_PROXY": "socks5://192.0.2.1:1", "no_proxy": "*"}
    outcome = world.run(["env"], GOOD, env=given)
    assert "192.0.2.1" not in outcome.out, outcome
    found = dict(line.split("=", 1) for line in outcome.out.splitlines() if "proxy" in line.lower())
    proxy, direct = "http://198.18.0.1:4128", "localhost,127.0.0.1,::1"
    assert found == dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), proxy) | dict.fromkeys(
        ("no_proxy", "NO_PROXY"), direct
    )


def test_names_by_files_of_the_sandbox_lead_nowhere_else(world: World) -> None:
    """HOSTALIASES, RES_OPTIONS and the like only change which of the allowed names is meant."""
    aliases = "/tmp/aliases"
    script = f'echo "alias {OTHER}" > {aliases}; HOSTALIASES={aliases} getent hosts alias; LOCALDOMAIN=evil.org getent hosts x'
    outcome = world.run(["sh", "-c", script], GOOD)
    assert (outcome.status, outcome.out) == (2, ""), outcome
    script = f'echo "alias {GOOD}" > {aliases}; HOSTALIASES={aliases} getent hosts alias'
    outcome = world.run(["sh", "-c", script], GOOD)
    assert outcome.out.startswith("198.18.0.2"), outcome
