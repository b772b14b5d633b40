"""What `houseroom explain` says, from decisions to words. The commands themselves are in test_commands.py."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from houseroom.frontends.cli import explain, mechanism
from houseroom.frontends.cli.explain import Answer, Grant, Report
from houseroom.frontends.cli.paper import Paper
from houseroom.plan.steps import Bind, Covered, Devices, Landlock, Mask, Mediate, Plan, Private, Proc, Root, Scratch, Watch
from houseroom.policy.decide import Allow, Deny, PlacedPolicy, Read, Run, Variable, Write, decide
from houseroom.policy.model import Origin, Places, Policy, Rule, Stratum

Snapshot = Callable[[str, str], None]

WHERE = Places("/home/ada/project", "/home/ada")
MINE = Origin("user", "/home/ada/.config/houseroom/policy.toml", 7, 3)
BUILT_IN = Origin("preset", "built in")
POLICY = Policy(
    "workspace",
    (
        Stratum(
            "workspace",
            (
                Rule("files.read", "/", BUILT_IN, "tools and libraries lie everywhere"),
                Rule("files.write", "{workspace}", BUILT_IN, "the directory the work is about"),
                Rule("files.private", "/tmp", BUILT_IN, "other programs' files lie here"),
                Rule("files.scratch", "~/.cache", BUILT_IN, "a poisoned cache would run on the host"),
                Rule("files.protect", "**/.git", BUILT_IN, "hooks and config run programs at your next git command"),
                Rule("files.hide", "~/.ssh", BUILT_IN, "private keys log in as you elsewhere"),
                Rule("files.hide", "**/.env", MINE, "ours holds the database password"),
                Rule("environment.withhold", "*_TOKEN", BUILT_IN, "tokens act as you elsewhere"),
            ),
            closed=frozenset({"files.read", "files.write"}),
        ),
    ),
)
PLACED = PlacedPolicy(POLICY, WHERE)
LANDLOCK = Landlock(rules=(), handled=(), abi=7, network=False, why="a second wall")
PLAN = Plan(
    "namespaces",
    (
        Root("host", "read broadly"),
        Devices("the devices programs need"),
        Proc(fresh=True, read_only=(), masked=(), why="only the sandbox's processes"),
        Private("/tmp", 0o1777, "other programs' files lie here"),
        Bind("/home/ada/project", write=True, why="the directory the work is about"),
        Bind("/home/ada/project/.git", write=False, why="hooks"),
        Scratch("/home/ada/.cache", "a poisoned cache would run on the host"),
        Mask("/home/ada/.ssh", "dir", "keys"),
        Mediate(("/home/ada/project",), ("/home/ada/project/**/.git",), (), "protected names"),
        Watch((), (), (), (), "masks what appears"),
        LANDLOCK,
    ),
    (Covered("files.hide", "enforced", ("mounts",)),),
)


@pytest.mark.parametrize(
    ("act", "by"),
    [
        (Read("/home/ada/.ssh/id_ed25519"), ("empty mask over /home/ada/.ssh",)),
        (Read("/home/ada/project/missing/.env"), ("masked as soon as it exists (inotify)",)),
        (Write("/home/ada/project/a.py"), ("writable mount of /home/ada/project",)),
        (
            Write("/home/ada/project/.git/hooks/pre-commit"),
            ("read-only mount of /home/ada/project/.git", "names are created by init, which checks them", "Landlock"),
        ),
        (
            Write("/home/ada/project/vendor/.git/config"),
            ("names are created by init, which checks them", "Landlock"),
        ),
        (Write("/usr/bin/ls"), ("read-only view of the host's root", "Landlock")),
        (Run("/usr/bin/ls"), ("read-only view of the host's root",)),
        (Write("/home/ada/.cache/pip/x"), ("overlay over /home/ada/.cache",)),
        (Read("/tmp/x"), ("private directory in memory at /tmp",)),
        (Read("/dev/null"), ("minimal /dev of the sandbox's own",)),
        (Read("/proc/self/status"), ("/proc of the sandbox's own processes",)),
        (Variable("GITHUB_TOKEN"), ("left out of the environment before the command starts",)),
        (Variable("EDITOR"), ("passed in the environment",)),
    ],
    ids=repr,
)
def test_the_mechanism_is_the_deepest_step_and_the_walls_behind_it(act: Read | Write | Run | Variable, by: tuple[str, ...]) -> None:
    assert mechanism.mechanism(PLAN, decide(PLACED, act)) == by


def test_without_mounts_landlock_alone_is_named() -> None:
    plan = Plan("landlock", (LANDLOCK,), ())
    assert mechanism.mechanism(plan, decide(PLACED, Write("/usr/bin/ls"))) == ("Landlock",)
    assert mechanism.mechanism(plan, decide(PLACED, Read("/home/ada/.ssh/id"))) == ("Landlock",)


def test_a_rule_that_is_not_enforced_here_is_not_called_enforced() -> None:
    plan = PLAN.with_(coverage=(Covered("files.hide", "missing", (), ("hidden files can be read",)),))
    denied = decide(PLACED, Read("/home/ada/.ssh/id"))
    assert mechanism.state(plan, denied) == ("missing", ("hidden files can be read",))
    assert mechanism.state(PLAN, denied) == ("enforced", ())


class TestFollow:
    """Where a path leads, as path_resolution(7) has it."""

    def test_agrees_with_realpath(self, tmp_path: Path) -> None:
        base = Path(os.path.realpath(tmp_path))
        (base / "real" / "deep").mkdir(parents=True)
        (base / "one").symlink_to("real")
        (base / "two").symlink_to(base / "one" / "deep")
        (base / "up").symlink_to("two/..")
        for name in ("one/x", "two/y/z", "up/deep", "two/../missing", "./one//deep/."):
            path = f"{base}/{name}"
            assert explain.follow(path)[0] == os.path.realpath(path), name

    def test_names_each_link(self, tmp_path: Path) -> None:
        base = Path(os.path.realpath(tmp_path))
        (base / "a").symlink_to("b")
        (base / "b").symlink_to("/etc")
        assert explain.follow(f"{base}/a/passwd") == ("/etc/passwd", ((f"{base}/a", "b"), (f"{base}/b", "/etc")))

    def test_a_circle_ends(self, tmp_path: Path) -> None:
        base = Path(os.path.realpath(tmp_path))
        (base / "a").symlink_to("b")
        (base / "b").symlink_to("a")
        assert len(explain.follow(f"{base}/a")[1]) == explain.MOST_LINKS


def test_a_link_that_is_out_of_reach_denies_what_it_leads_to() -> None:
    act = Read("/usr/share/key")
    assert isinstance(decide(PLACED, act), Allow)
    denied = explain.through(PLACED, act, (("/home/ada/.ssh/link", "/usr/share/key"),))
    assert isinstance(denied, Deny)
    assert denied.act == Read("/home/ada/.ssh/link")


def _report(*acts: tuple[str, Read | Write | Run | Variable], subject: str, links: tuple[tuple[str, str], ...] = ()) -> Report:
    answers = []
    for verb, act in acts:
        decision = decide(PLACED, act)
        by = mechanism.mechanism(PLAN, decision)
        if isinstance(decision, Allow):
            answers.append(Answer(verb, decision, by))
            continue
        option, at = decision.why.grant[-2:]
        section, key = ("environment", "pass") if verb == "variable" else ("files", option[2:])
        answers.append(Answer(verb, decision, by, grant=Grant((option, at), f'[{section}]\n{key} = ["{at.replace("/home/ada", "~")}"]')))
    return Report(subject, acts[0][1].values()[0], links, tuple(answers))


REPORTS = {
    "explain-hidden": _report(("read", Read("/home/ada/.ssh/id")), ("write", Write("/home/ada/.ssh/id")), subject="~/.ssh/id"),
    "explain-allowed": _report(("write", Write("/home/ada/project/a.py")), subject="a.py"),
    "explain-protected": _report(("write", Write("/home/ada/project/.git/hooks/pre commit")), subject=".git/hooks/pre commit"),
    "explain-from-a-file": _report(("read", Read("/home/ada/project/.env")), subject=".env"),
    "explain-link": _report(("read", Read("/etc/passwd")), subject="here", links=(("/home/ada/project/here", "/etc/passwd"),)),
    "explain-run": _report(("run", Run("/usr/bin/node")), subject="node"),
    "explain-variable": _report(("variable", Variable("GITHUB_TOKEN")), subject="GITHUB_TOKEN"),
    "explain-escape-sequence": _report(("read", Read("/home/ada/project/\x1b[2J.env/.env")), subject="x"),
}


@pytest.mark.parametrize("name", REPORTS)
def test_what_is_shown(snapshot: Snapshot, name: str) -> None:
    text = explain.as_text(REPORTS[name], WHERE, Paper(80, colour=False))
    assert max(map(len, text.split("\n"))) <= 80
    assert "\x1b" not in text
    snapshot(name, text)


def test_what_can_not_be_granted_and_what_is_not_enforced_is_said(snapshot: Snapshot) -> None:
    report = REPORTS["explain-hidden"]
    answer = report.answers[0]
    assert answer.grant is not None
    obstacle = "files.hide ~/.ssh (/etc/houseroom/policy.toml:3) forbids it. Only who wrote it can change that."
    answer = answer.with_(state="missing", loses=("hidden files can be read",), grant=answer.grant.with_(obstacle=obstacle))
    snapshot("explain-obstacle", explain.as_text(report.with_(answers=(answer,)), WHERE, Paper(80, colour=False)))


def test_json_has_all_of_it() -> None:
    document = json.loads(json.dumps(explain.as_document(REPORTS["explain-hidden"])))
    assert document["allowed"] is False
    first = document["answers"][0]
    assert first["decision"] == "deny"
    assert first["rule"] == {
        "key": "files.hide",
        "subject": "~/.ssh",
        "reason": "private keys log in as you elsewhere",
        "layer": "preset",
        "file": "built in",
        "line": 0,
    }
    assert first["mechanism"] == ["empty mask over /home/ada/.ssh"]
    assert first["grant"]["options"] == ["--read", "/home/ada/.ssh/id"]
