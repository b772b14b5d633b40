"""Credentials from files and programs of the host: the bare program reads them, the sandboxed one uses them and never sees them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from by_name import Sessions
from runner import Bench, Outcome
from small_world import GOOD, World
from test_credentials import LOOK, TOKEN, fields, world
from test_inspect import OTHER, Outer, extra, need, outer

__all__ = ["extra", "outer", "world"]

pytestmark = pytest.mark.needs("userns")

SHOW = 'echo "$API_TOKEN"'
ALL_ROADS = """
cat {file}; cat /proc/self/root{file}; dd if={file} status=none; cp {file} copy; cat copy
ln -f {file} hard; cat hard; ln -sf {file} soft; cat soft
{program}; cp {program} ran; sh ran; mv {file} moved; cat moved
"""


class Kept:
    """A credential in a file that a policy hides, and a program that prints it."""

    def __init__(self, bench: Bench):
        self.bench = bench
        self.file = bench.stage.plant(bench.stage.home / ".tokens" / "api", f"{TOKEN}\n")
        self.asked = bench.stage.home / "asked"
        self.program = self.tell(bench.stage.home / ".local" / "bin" / "teller")
        self.hide = ("--hide", str(self.file.parent))

    def tell(self, path: Path) -> Path:
        """A program that leaves a line on the host each time that it runs."""
        return self.bench.stage.plant(path, f"#!/bin/sh\necho asked >> {self.asked}\nexec cat {self.file}\n", 0o755)

    def times(self) -> int:
        """How often it has run."""
        return self.asked.read_text().count("asked") if self.asked.exists() else 0


@pytest.fixture
def kept(bench: Bench) -> Kept:
    return Kept(bench)


def own_policy(bench: Bench, text: str, *profile: str) -> Path:
    place = bench.stage.home / ".config" / "houseroom"
    return bench.stage.plant(place.joinpath("profiles", *profile) if profile else place / "policy.toml", text, 0o644)


@pytest.mark.parametrize("kind", ["file", "command"])
def test_it_is_used_and_not_seen(world: World, bench: Bench, outer: Outer, kept: Kept, kind: str) -> None:
    need("curl")
    port = outer.web()
    source = f"file:{kept.file}" if kind == "file" else f"command:{kept.program}"
    options = ("--credential", f"API_TOKEN {GOOD}:{port} from {source}", *kept.hide)
    script = f'{SHOW}; curl -sS -H "Authorization: Bearer $API_TOKEN" https://{GOOD}:{port}/a'
    outcome = outer.run(["sh", "-c", script], f"{GOOD}:{port}", options=options)
    shown, answer = outcome.out.split()
    assert answer == "welcome" and shown != TOKEN and (len(shown), shown[:4]) == (len(TOKEN), "ghp_"), outcome
    assert [said.split()[-1] for said in fields(world)] == [TOKEN.encode()]
    assert kept.times() == (kind == "command")
    # Not by any road to the file or the program, of which each leads there without the sandbox.
    roads = ["sh", "-c", ALL_ROADS.format(file=kept.file, program=kept.program)]
    inside = outer.run(roads, f"{GOOD}:{port}", options=options)
    assert TOKEN not in inside.out + inside.err and kept.file.read_text() == f"{TOKEN}\n", inside
    assert bench.run(roads, inside=False).out.count(TOKEN) == 9


@pytest.mark.parametrize("kind", ["file", "command"])
def test_it_is_nowhere_inside(world: World, bench: Bench, outer: Outer, kept: Kept, kind: str) -> None:
    source = f"file:{kept.file}" if kind == "file" else f"command:{kept.program}"
    look = [bench.identity.python, "-c", LOOK, TOKEN[::-1]]
    outcome = outer.run(look, GOOD, options=("--credential", f"API_TOKEN {GOOD} from {source}", *kept.hide))
    assert "found" not in outcome.out and "looked True ghp_" in outcome.out, outcome
    outcome = outer.run(look, GOOD, options=("--pass", "API_TOKEN"), env={"API_TOKEN": kept.file.read_text()})
    assert "found in /proc/self/environ" in outcome.out, outcome


def refused(outcome: Outcome, *says: str) -> None:
    """Nothing has started, and the value is in no word about it."""
    assert outcome.status == 123 and outcome.out == "", outcome
    assert TOKEN not in outcome.err and all(each in outcome.err for each in says), outcome


def test_a_file_that_protects_nothing(bench: Bench, outer: Outer, kept: Kept) -> None:
    """Readable, below the workspace, replaced by a link into it, or known by another name: bare each is read, inside nothing starts."""
    stage = bench.stage
    inner = stage.plant(stage.workspace / "secret" / "api", TOKEN)
    linked, turned, plain = stage.home / ".tokens" / "linked", stage.workspace / "turned", stage.plant(stage.home / "plain", TOKEN)
    linked.symlink_to(inner)
    turned.symlink_to(kept.file)
    options = (*kept.hide, "--hide", str(inner.parent))
    for path, says in (
        (plain, f"commands may read {plain}"),
        (inner, "lies where commands may write"),
        (linked, "lies where commands may write"),
        (turned, "lies where commands may write"),
    ):
        assert TOKEN in bench.run(["cat", str(path)], inside=False).out
        outcome = outer.run(["sh", "-c", SHOW], GOOD, options=("--credential", f"API_TOKEN {GOOD} from file:{path}", *options))
        refused(outcome, says, f"API_TOKEN can't come from file:{path}")
    credential = ("--credential", f"API_TOKEN {GOOD} from file:{kept.file}")
    refused(outer.run(["sh", "-c", SHOW], GOOD, options=credential), "commands may read", f"--hide {kept.file}")
    other = stage.home / "other-name"
    os.link(kept.file, other)
    assert TOKEN in bench.run(["cat", str(other)], inside=True, options=kept.hide).out  # what the refusal is for
    refused(outer.run(["sh", "-c", SHOW], GOOD, options=(*credential, *kept.hide)), "has 2 names")
    other.unlink()
    assert outer.run(["sh", "-c", SHOW], GOOD, options=(*credential, *kept.hide)).out.startswith("ghp_")
    kept.file.unlink()
    refused(outer.run(["sh", "-c", SHOW], GOOD, options=(*credential, *kept.hide)), "No such file")


def test_a_program_that_commands_could_have_written(bench: Bench, outer: Outer, kept: Kept) -> None:
    """A virtual environment in the workspace: a program in it, an interpreter in it, one that it puts before others on the PATH."""
    stage = bench.stage
    venv = stage.workspace / ".venv" / "bin"
    own = kept.tell(venv / "teller")
    script = stage.plant(stage.home / ".local" / "bin" / "script", f"#!{own}\n", 0o755)
    paths = f"{venv}:{kept.program.parent}:/usr/bin:/bin"
    for source in (own, script, "teller", f"{kept.program} {own}"):
        bare = bench.run(["sh", "-c", str(source)], inside=False, env={"PATH": paths})
        assert TOKEN in bare.out and kept.times(), bare
        kept.asked.unlink()
        options = ("--credential", f"API_TOKEN {GOOD} from command:{source}", *kept.hide)
        refused(outer.run(["sh", "-c", SHOW], GOOD, options=options, env={"PATH": paths}), "where commands may write")
        assert not kept.times()
    # What the program itself looks for on the PATH is not found there either.
    asks = stage.plant(stage.home / ".local" / "bin" / "asks", "#!/bin/sh\nexec helper\n", 0o755)
    stage.plant(venv / "helper", f"#!/bin/sh\ntouch {stage.home}/executed\n", 0o755)
    stage.plant(kept.program.parent / "helper", f"#!/bin/sh\nexec cat {kept.file}\n", 0o755)
    bench.run([str(asks)], inside=False, env={"PATH": paths})
    assert (stage.home / "executed").exists()
    (stage.home / "executed").unlink()
    options = ("--credential", f"API_TOKEN {GOOD} from command:asks", *kept.hide)
    assert outer.run(["sh", "-c", SHOW], GOOD, options=options, env={"PATH": paths}).out.startswith("ghp_")
    assert not (stage.home / "executed").exists()


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo {token}; echo {token}", "has a value of several lines"),
        ("printf '{token}\\0'", "that no field of a request may have"),
        ("echo {token}; echo no {token} here >&2; exit 4", "it ended with status 4\nIt said: no … here"),
        ("true", "has no value: it is empty"),
    ],
)
def test_a_program_that_fails(bench: Bench, outer: Outer, kept: Kept, script: str, says: str) -> None:
    bench.stage.plant(kept.program, f"#!/bin/sh\n{script.format(token=TOKEN)}\n", 0o755)
    options = ("--credential", f"API_TOKEN {GOOD} from command:{kept.program}")
    refused(outer.run(["sh", "-c", SHOW], GOOD, options=options), says)


def test_no_project_has_anything_run_or_read(bench: Bench, outer: Outer, kept: Kept) -> None:
    """Neither by its own words, trusted or not, nor by asking for a profile of the user's."""
    project = bench.stage.workspace / ".houseroom" / "policy.toml"
    for source in (f"command:{kept.program}", f"file:{kept.file}", "env:HOME", "keyring:a/b"):
        bench.stage.plant(project, f'[network]\ncredentials = ["API_TOKEN {GOOD} from {source}"]\n')
        refused(outer.run(["sh", "-c", SHOW], GOOD, options=kept.hide), "a project's file can't say where your credentials go", "^")
    bench.stage.plant(project, 'extends = "work"\n')
    credential = f"API_TOKEN {GOOD} from command:{kept.program}"
    own_policy(bench, f'[network]\ncredentials = ["{credential}"]\n', "work.toml")
    outcome = outer.run(["sh", "-c", SHOW], GOOD, options=kept.hide)
    assert (outcome.status, outcome.out) == (0, "\n") and not kept.times(), outcome
    project.unlink()
    outcome = outer.run(["sh", "-c", SHOW], GOOD, options=(*kept.hide, "--profile", "work", "--read", "/"))  # the twin: the user asks
    assert outcome.out.startswith("ghp_") and kept.times() == 1, outcome


def test_what_only_looks_asks_nobody_and_tells_no_value(bench: Bench, world: World, outer: Outer, kept: Kept) -> None:
    options = ("--allow", GOOD, "--credential", f"API_TOKEN {GOOD} from command:{kept.program}", *kept.hide)
    options += ("--credential", f"FILE_TOKEN {GOOD} from file:{kept.file}")
    env = {"PYTHONPATH": str(bench.identity.base / "src"), "SSL_CERT_FILE": str(outer.trusted), "API_TOKEN": TOKEN}
    for words, status in (
        (("run", *options, "--dry-run", "--json", "--", "true"), 0),
        (("run", *options, "--dry-run", "--", "true"), 0),
        (("policy", "show", *options), 0),
        (("policy", "show", *options, "--json"), 0),
        (("explain", "connect", GOOD, *options), 0),
        (("explain", "read", str(kept.file), *options), 1),
    ):
        world.prepare()
        outcome = bench.run(world.argv(*words), inside=False, env=env)
        assert outcome.status == status and TOKEN not in outcome.out + outcome.err and not kept.times(), outcome
        if words[:2] == ("explain", "connect"):
            assert f"comes from the command {kept.program}" in " ".join(outcome.out.split()), outcome
        if "--json" in words and "--dry-run" in words:
            plan = json.loads(outcome.out)
            assert plan["placeholders"] == ["API_TOKEN", "FILE_TOKEN"] and "API_TOKEN" not in plan["withheld"]
    missing = ("--credential", f"X {GOOD} from file:/no/such/file")  # which keeps nobody from asking about something else
    assert bench.run(world.argv("explain", "read", str(kept.program), *missing), inside=False, env=env).status == 0
    refused_dry = bench.run(world.argv("run", *options[:4], "--credential", f"X {GOOD} from file:{kept.file}", "--dry-run", "--", "true"),
                            inside=False, env=env)  # fmt: skip
    refused(refused_dry, "commands may read")
    outcome = outer.run(["sh", "-c", SHOW], options=("--verbose", *options), env=env)
    told = " ".join(outcome.err.split())
    assert "placeholders in the environment: API_TOKEN, FILE_TOKEN" in told and TOKEN not in told and kept.times() == 1, outcome
    assert not any("withheld" in line and "API_TOKEN" in line for line in outcome.err.splitlines()), outcome


def test_a_session_asks_once_at_its_start(bench: Bench, world: World, outer: Outer, kept: Kept) -> None:
    need("curl")
    port = outer.web()
    world.prepare()
    sessions = Sessions(bench)
    sessions.argv = world.argv  # type: ignore[method-assign]
    options = ("--allow", f"{GOOD}:{port}", "--credential", f"API_TOKEN {GOOD}:{port} from command:{kept.program}", *kept.hide)
    environment = {"SSL_CERT_FILE": str(outer.trusted)}
    try:
        sessions.start("work", *options, environment=environment)
        script = f'{SHOW}; curl -sS -H "Authorization: Bearer $API_TOKEN" https://{GOOD}:{port}/a'
        found = [sessions.sh("work", script, environment={**environment, "API_TOKEN": "the client's"}).stdout.split() for _ in range(2)]
        assert found[0] == found[1] and found[0][1] == b"welcome" and found[0][0] != TOKEN.encode(), found
        assert [said.split()[-1] for said in fields(world)] == [TOKEN.encode()] * 2 and kept.times() == 1
        kept.program.write_text("#!/bin/sh\nexit 1\n")
        failed = sessions.call("session", "start", "other", *options, environment=environment)
        assert failed.returncode == 123 and b"it ended with status 1" in failed.stderr, failed
        assert sessions.names() == ["work"]
    finally:
        sessions.end()


def test_what_only_the_proxy_is_to_know_is_nobodys_without_one(bench: Bench, outer: Outer) -> None:
    """A variable whose name tells nothing, while no host is listed; and one that has the value under another name."""
    act, env = ["sh", "-c", 'echo "${PLAIN-nothing} ${MINE-nothing}"'], {"PLAIN": "x" * 20, "MINE": TOKEN[4:]}
    credential = ("--credential", f"PLAIN {GOOD} from env:MINE")
    assert bench.run(act, inside=True, env=env).out == f"{env['PLAIN']} {env['MINE']}\n"
    assert bench.run(act, inside=True, options=credential, env=env).out == "nothing nothing\n"
    shown, mine = outer.run(act, GOOD, options=credential, env=env).out.split()
    assert mine == "nothing" and len(shown) == len(env["MINE"]) and shown != env["MINE"]
    assert outer.run(act, OTHER, options=("--pass", "MINE", *credential), env=env).out.split()[1] == "nothing"
