"""Credentials: a command uses a token that it never sees, for one host, and nobody else gets it."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from runner import Bench
from small_world import GOOD, World, made
from test_inspect import OTHER, Outer, extra, need, outer

__all__ = ["extra", "outer"]

pytestmark = pytest.mark.needs("userns")

TOKEN = "ghp_t0ken0fMine12345678901234567890abcd"
LOOK = r"""
import glob, os, sys
looked = 0
places = ("/proc/[0-9]*/environ", "/proc/[0-9]*/cmdline", "/tmp/**", "/proc/self/environ")
for path in [path for each in places for path in glob.glob(each, recursive=True)]:
    try:
        data = open(path, "rb").read()
    except OSError:
        continue
    looked += 1
    if sys.argv[1][::-1].encode() in data:
        print("found in", path)
print("looked", looked > 1, os.environ.get("API_TOKEN", ""))
"""


@pytest.fixture
def world(bench: Bench) -> Iterator[World]:
    with made(bench) as world:
        world.names[OTHER] = [["127.0.0.1"]]
        yield world


def fields(world: World) -> list[bytes]:
    return [line for head in world.heads for line in head.split(b"\r\n") if line.lower().startswith(b"authorization:")]


@pytest.mark.parametrize("how", ["bearer", "basic", "by itself"])
def test_a_token_that_is_used_and_not_seen(world: World, outer: Outer, how: str) -> None:
    need("curl")
    port = outer.web()
    curl = {
        "bearer": 'curl -sS -H "Authorization: Bearer $API_TOKEN"',
        "basic": 'curl -sS -u "me:$API_TOKEN"',
        "by itself": 'curl -sS --noproxy "*" -H "Authorization: Bearer $API_TOKEN"',
    }[how]
    script = ["sh", "-c", f'echo "$API_TOKEN"; {curl} https://{GOOD}:{port}/a']
    rules, credential = (f"{GOOD}:{port}", OTHER), ("--credential", f"API_TOKEN {GOOD}:{port}")
    outcome = outer.run(script, *rules, options=credential, env={"API_TOKEN": TOKEN})
    shown, answer = outcome.out.split()
    assert answer == "welcome" and shown != TOKEN and (len(shown), shown[:4]) == (len(TOKEN), "ghp_"), outcome
    (said,) = fields(world)
    assert said.split()[-1] == (base64.b64encode(f"me:{TOKEN}".encode()) if how == "basic" else TOKEN.encode())
    assert shown.encode() not in said
    # Its twin: without the rule the command has nothing to send, or the value itself.
    assert TOKEN not in outer.run(script, *rules, env={"API_TOKEN": TOKEN}).out
    assert TOKEN in outer.run(script, *rules, options=("--pass", "API_TOKEN"), env={"API_TOKEN": TOKEN}).out


def test_nobody_else_gets_it(world: World, outer: Outer) -> None:
    """Neither another host, looked into or not, nor the same one in plain HTTP or at another port."""
    need("curl")
    port, plain, elsewhere = outer.web(), world.web(), outer.web()
    curl = 'for url; do curl -sS -o /dev/null -w "%{http_code} " -H "Authorization: Bearer $API_TOKEN" "$url"; done; echo "$API_TOKEN"'
    urls = [f"https://{OTHER}:{port}/", f"https://{OTHER}:{elsewhere}/", f"http://{GOOD}:{plain}/", f"https://{GOOD}:{elsewhere}/"]
    rules = (f"GET {OTHER}:{port}", f"{OTHER}:{elsewhere}", f"GET {GOOD}:{plain}", f"{GOOD}:{elsewhere}", f"{GOOD}:{port}")
    options = ("--credential", f"API_TOKEN {GOOD}:{port}", "--credential", f"API_TOKEN {GOOD}:{plain}")
    outcome = outer.run(["sh", "-c", curl, "sh", *urls], *rules, options=options, env={"API_TOKEN": TOKEN})
    *codes, shown = outcome.out.split()
    assert codes == ["200"] * 4 and shown.startswith("ghp_"), outcome
    assert [said.split()[-1] for said in fields(world)] == [shown.encode()] * 4
    assert not any(TOKEN.encode() in head for head in world.heads)
    outcome = outer.run(["sh", "-c", curl, "sh", f"https://{GOOD}:{port}/"], *rules, options=options, env={"API_TOKEN": TOKEN})
    assert fields(world)[0].split()[-1] == TOKEN.encode(), outcome


def test_it_is_nowhere_inside(world: World, bench: Bench, outer: Outer) -> None:
    look = [bench.identity.python, "-c", LOOK, TOKEN[::-1]]
    outcome = outer.run(look, GOOD, options=("--credential", f"API_TOKEN {GOOD}"), env={"API_TOKEN": TOKEN})
    assert "found" not in outcome.out and "looked True ghp_" in outcome.out, outcome
    outcome = outer.run(look, GOOD, options=("--pass", "API_TOKEN"), env={"API_TOKEN": TOKEN})
    assert "found in /proc/self/environ" in outcome.out, outcome


def test_a_placeholder_is_another_one_each_time_and_nothing_without_a_value(world: World, outer: Outer) -> None:
    options = ("--credential", f"API_TOKEN {GOOD}")
    act = ["sh", "-c", 'echo "${API_TOKEN-nothing}"']
    first, second = (outer.run(act, GOOD, options=options, env={"API_TOKEN": TOKEN}).out for _ in range(2))
    assert first != second
    assert outer.run(act, GOOD, options=options).out == "nothing\n"
    outcome = outer.run(act, GOOD, options=options, env={"API_TOKEN": "short"})
    assert outcome.status == 123 and "API_TOKEN has a value of 5 characters" in outcome.err and "short\n" not in outcome.out, outcome


def test_only_a_persons_own_files_may_say_so(world: World, bench: Bench, outer: Outer) -> None:
    planted = bench.stage.plant(bench.stage.workspace / ".houseroom" / "policy.toml", f'[network]\ncredentials = ["API_TOKEN {OTHER}"]\n')
    outcome = outer.run(["true"], GOOD, env={"API_TOKEN": TOKEN})
    assert outcome.status == 123 and "a project's file can't say where your credentials go" in outcome.err, outcome
    planted.unlink()
    assert outer.run(["true"], GOOD, env={"API_TOKEN": TOKEN}).status == 0
