"""Golden plans: fixed facts × policies. ``HOUSEROOM_RENEW=1 python -m pytest tests/plan`` writes them anew; review the diff."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from facts_kit import HOST, PLAIN, Files, of_preset, on_host, ordinary, policy, stratum, with_rules

from houseroom.errors import CannotEnforce, PolicyError
from houseroom.plan import steps
from houseroom.plan.compile import compile_plan
from houseroom.plan.facts import Host
from houseroom.plan.render import as_text, line_of, spell
from houseroom.policy.model import Origin, Policy, Setting

GOLDEN = Path(__file__).parent / "golden"


def limited(given: dict[str, object]) -> Policy:
    """The ordinary policy with limits."""
    base, origin = ordinary().strata[0], Origin("user", "user.toml", 1, 1)
    return policy(base.with_(settings={**base.settings, **{key: Setting(value, origin) for key, value in given.items()}}))


PROJECT: Files = {**PLAIN, "/home/me/work/.git": "dir", "/home/me/work/.env": "file", "/home/me/work/src": "dir"}
SOCKETS = ("/run/pg/s", "/home/me/.db/s", "/home/me/work/s", "/srv/s")
DOTS = (("protect", "**/.git"), ("hide", "**/.env"))

# name → what it shows, policy, files, host, forced rung
CASES: dict[str, tuple[Policy, Files, Host, str]] = {
    "preset-workspace": (of_preset("workspace"), {**PROJECT, "/home/me/.ssh": "dir", "/home/me/.cache": "dir", "/run": "dir"}, HOST, ""),
    "preset-read-only": (of_preset("read-only"), PROJECT, HOST, ""),
    "preset-full-access": (of_preset("full-access"), PROJECT, HOST, ""),
    "protected-existing": (ordinary(*DOTS), PROJECT, HOST, ""),
    "protected-missing": (ordinary(*DOTS, ("protect", ".mcp.json")), PLAIN, HOST, ""),
    "protected-link": (ordinary(*DOTS), {**PLAIN, "/home/me/work/.git": "-> /srv/real.git", "/srv/real.git": "dir"}, HOST, ""),
    "hidden-link": (ordinary(*DOTS), {**PLAIN, "/home/me/work/.env": "-> /home/me/work/secret", "/home/me/work/secret": "file"}, HOST, ""),
    "nested-repository": (
        ordinary(*DOTS),
        {**PROJECT, "/home/me/work/lib": "dir", "/home/me/work/lib/.git": "dir", "/home/me/work/lib/.env": "file"},
        HOST,
        "",
    ),
    "linked-worktree": (
        ordinary(*DOTS, ("protect", "/srv/main/.git")),
        {**PLAIN, "/home/me/work/.git": "file", "/srv/main/.git": "dir"},
        HOST,
        "",
    ),
    "hidden-in-scratch": (
        ordinary(("scratch", "~/.cache"), ("hide", "~/.cache/token"), ("write", "~/.cache/shared")),
        {**PLAIN, "/home/me/.cache": "dir", "/home/me/.cache/token": "file", "/home/me/.cache/shared": "dir"},
        HOST,
        "",
    ),
    "private-in-private": (
        ordinary(("private", "/run"), ("private", "{user}"), ("read", "/run/resolv.conf")),
        {**PLAIN, "/run": "dir", "/run/user/1000": "dir", "/run/resolv.conf": "file"},
        HOST,
        "",
    ),
    "single-files": (  # what can't be private or a layer gets less, never the host's own
        ordinary(("private", "notes"), ("scratch", "state")),
        {**PLAIN, "/home/me/work/notes": "file", "/home/me/work/state": "file"},
        HOST,
        "",
    ),
    "opened-below-hidden": (
        ordinary(("hide", "~"), ("protect", "~/work/.git"), ("read", "~/other")),
        {**PROJECT, "/home/me/other": "dir"},
        HOST,
        "",
    ),
    "empty-root": (
        policy(stratum(("read", "/usr"), ("read", "/bin"), ("write", "{workspace}"), ("private", "/tmp"), *DOTS)),
        {**PROJECT, "/bin": "-> /usr/bin", "/usr/bin": "dir"},
        HOST,
        "",
    ),
    "untrusted-project": (
        policy(
            stratum(("read", "/"), ("write", "{workspace}"), ("write", "~/notes")),
            stratum(("hide", "~/notes/diary"), ("read", "src"), layer="project", closed=frozenset()),
            stratum(("write", "{workspace}"), layer="organisation", closed=frozenset({"files.write"})),
        ),
        {**PROJECT, "/home/me/notes": "dir", "/home/me/notes/diary": "file"},
        HOST,
        "",
    ),
    "rung-bubblewrap": (ordinary(*DOTS, ("scratch", "~/.cache")), {**PROJECT, "/home/me/.cache": "dir"}, HOST, "bubblewrap"),
    "rung-landlock": (ordinary(*DOTS, ("scratch", "~/.cache")), {**PROJECT, "/home/me/.cache": "dir"}, HOST, "landlock"),
    "landlock-abi-1": (ordinary(*DOTS), PROJECT, HOST.with_(landlock_abi=1), ""),
    "landlock-abi-4": (ordinary(*DOTS), PROJECT, HOST.with_(landlock_abi=4), ""),
    "no-notify": (ordinary(*DOTS), PROJECT, HOST.with_(notify="Invalid argument"), ""),
    "no-overlay": (
        ordinary(("scratch", "~/.cache")),
        {**PLAIN, "/home/me/.cache": "dir"},
        HOST.with_(overlay="Operation not permitted"),
        "",
    ),
    "no-proc": (ordinary(*DOTS), PROJECT, HOST.with_(proc="Operation not permitted"), ""),
    "limits-by-group": (
        limited({"limits.memory": 4 << 30, "limits.processes": 512, "limits.output": 1 << 24, "limits.cpu": 90.5}),
        PLAIN,
        HOST.with_(cgroup_memory="v2", cgroup_pids="v2", cgroup=""),
        "",
    ),
    "limits-by-init": (
        limited({"limits.memory": 4 << 30, "limits.processes": 512}),
        PLAIN,
        HOST.with_(cgroup="cgroup v2 is not delegated to us"),
        "",
    ),
    "published-ports": (with_rules(ordinary(), "network.publish", "8000"), PROJECT, HOST, ""),
    "host-sockets": (
        with_rules(ordinary(("private", "/run"), ("hide", "~/.db")), "network.sockets", "/run/pg/s", "~/.db/s", "s", "/srv/s"),
        {**PROJECT, "/run": "dir", "/home/me/.db": "dir", "/srv": "dir", **dict.fromkeys(SOCKETS, "socket")},
        HOST,
        "",
    ),
    "listed-hosts": (limited({"network.reach": "listed"}), PROJECT, HOST, ""),
    "wsl-2": (ordinary(*DOTS), PROJECT, HOST.with_(wsl=2), ""),
    "odd-names": (
        ordinary(("hide", "**/*.key")),
        {**PLAIN, "/home/me/work/a\n  b.key": "file", "/home/me/work/ü \udcff.key": "file"},
        HOST,
        "",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_plan_is_the_golden_one(name: str) -> None:
    what, files, host, rung = CASES[name]
    text = as_text(compile_plan(*on_host(what, files, host), rung=rung))
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("HOUSEROOM_RENEW") == "1":
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    known = file.read_text(encoding="utf-8") if file.exists() else ""
    assert text == known, f"{file.name} differs; if the change is meant: HOUSEROOM_RENEW=1 python -m pytest tests/plan"


def test_no_golden_plan_is_left_over() -> None:
    assert {file.stem for file in GOLDEN.glob("*.txt")} == set(CASES)


def test_the_same_arguments_give_the_same_text() -> None:
    what, files, host, _ = CASES["preset-workspace"]
    assert as_text(compile_plan(*on_host(what, files, host))) == as_text(compile_plan(*on_host(what, files, host)))


def test_every_step_has_words_and_stays_on_its_line() -> None:
    for what, files, host, rung in CASES.values():
        made = compile_plan(*on_host(what, files, host), rung=rung)
        lines = as_text(made).split("\n")
        assert all(line == line.rstrip() and line.isprintable() for line in lines)
        for step in made.steps:
            line = line_of(step)
            assert any(line.verb in text and line.object in text and line.why in text for text in lines)


# A field that is new here must get its words in plan/render.py: a dry run that leaves out something lies.
FIELDS = {
    "Namespaces": "network pid why",
    "Root": "base why",
    "Cgroup": "memory processes why",
    "Tally": "memory processes areas why",
    "Area": "size why",
    "Private": "path mode why rule",
    "Scratch": "path why rule",
    "Bind": "path write why rule link covered",
    "Mask": "path kind why rule hollow",
    "Devices": "why",
    "Proc": "fresh read_only masked why",
    "Loopback": "why",
    "Lock": "rlimits why",
    "Landlock": "rules handled abi network why",
    "Seccomp": "program network mediated why observe",
    "Mediate": "roots rules pinned why proxy",
    "Egress": "address dns port why",
    "Publish": "ports why",
    "Socket": "path kept why rule",
    "Resolver": "path content why",
    "Trust": "paths why",
    "Watch": "roots rules hidden secrets why",
}


def test_every_field_of_every_step_has_words() -> None:
    printed = [step for step in steps.Step.__subclasses__() if step is not steps.Siblings]  # in no plan: see test_siblings.py
    assert {step.__name__: " ".join(step.__match_args__) for step in printed} == FIELDS


def test_thousands_of_masks_are_all_shown() -> None:
    files = {**PLAIN, **{f"/home/me/work/{number}/.env": "file" for number in range(3000)}}
    text = as_text(compile_plan(*on_host(ordinary(*DOTS), files)))
    assert sum(line.startswith("  mask") for line in text.split("\n")) == 3000


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/plain/ü", "/plain/ü"),
        ("/a b", "/a b"),
        ("/a  b", '"/a  b"'),
        ("/a ", '"/a "'),
        ('/a"b\\', '"/a\\"b\\\\"'),
        ("/a\nb\x1b[2J", '"/a\\nb\\x1b[2J"'),
        ("/\udcff\u202e", '"/\\xff\\u{202e}"'),
        ("", '""'),
    ],
)
def test_a_path_can_be_taken_for_no_other(path: str, shown: str) -> None:
    assert spell(path) == shown


def test_a_missing_writable_path_names_its_line() -> None:
    with pytest.raises(PolicyError, match=r"user\.toml:4:1: can't make /home/me/gone writable: it does not exist\nCreate it first"):
        compile_plan(*on_host(ordinary(("write", "~/gone")), PLAIN))


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (HOST.with_(wsl=1), "WSL 1"),
        (HOST.with_(seccomp="Function not implemented"), "Function not implemented"),
        (HOST.with_(namespaces="Operation not permitted", bubblewrap="", landlock_abi=0), "Operation not permitted"),
    ],
)
def test_a_host_that_can_enforce_nothing_is_refused(host: Host, words: str) -> None:
    with pytest.raises(CannotEnforce, match=words):
        compile_plan(*on_host(ordinary(), PLAIN, host))


def test_a_new_name_that_is_not_to_be_written_is_refused() -> None:
    """A missing path can't be made private, a layer or read-only by a mount; init refuses to make it instead."""
    made = compile_plan(*on_host(ordinary(("private", "p"), ("scratch", "s"), ("read", "r"), ("write", "src")), PROJECT))
    mediate = next(step for step in made.steps if isinstance(step, steps.Mediate))
    rules = dict(mediate.rules[0])
    assert {rules[f"/home/me/work/{name}"] for name in "psr"} == {"protect"}
    assert rules["/home/me/work/src"] == "write"
