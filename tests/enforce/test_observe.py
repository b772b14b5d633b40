"""What commands try is told, with its path; observing lets nothing through, changes no answer and never grows."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import observed_acts
import pytest
from probe_kit import listed
from runner import Bench, Outcome, Said

pytestmark = pytest.mark.needs("userns")

# What is refused → the path below the directory outside that has to be told.
ACTS = {
    "append": "file",
    "copy_over": "file",
    "through_a_link": "file",
    "by_descriptor": "made",
    "from_the_directory": "made",
    "create": "made",
    "make_directory": "made",
    "make_fifo": "made",
    "make_link": "made",
    "hard_link": "made",
    "move": "file",
    "remove": "file",
    "remove_directory": "empty",
    "cut": "file",
    "mode": "file",
    "times": "file",
    "attribute": "file",
    "name_a_socket": "made",
    "in_place": "file",
}
# What changes something that exists, and makes no name: init is not asked for it, so it is shown from the second level on.
CHANGES = {"copy_over", "through_a_link", "remove", "remove_directory", "cut", "mode", "times", "attribute", "in_place"}
LEVELS = ("denials", "executions", "all")


def report(outcome: Outcome) -> dict[str, Any]:
    """The line that ``run --json`` ends with."""
    found: dict[str, Any] = json.loads(outcome.err.splitlines()[-1])
    return found


def paths(outcome: Outcome) -> list[str]:
    """Every path that was refused."""
    return [path for denial in report(outcome)["denials"] for path in denial["paths"]]


def test_every_act_is_here_or_has_a_test_of_its_own() -> None:
    others = {"strange_name", "many", "bad_addresses", "long_paths", "flip"}
    assert set(listed(vars(observed_acts), "observed_acts")) == {*ACTS, *others}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("act", ACTS)
def test_a_denied_write_is_told_with_its_path(bench: Bench, act: str, level: str) -> None:
    argv = bench.probe("observed_acts", act)
    outcome = bench.twin(argv, bench.outside(), options=["--json", "--observe", level])
    assert outcome.status == 1, outcome
    if level == "denials" and act in CHANGES:
        assert paths(outcome) == []
        return
    expected = f"{bench.stage.outside}/{ACTS[act]}"
    assert expected in paths(outcome), outcome
    denial = next(denial for denial in report(outcome)["denials"] if expected in denial["paths"])
    assert (denial["access"], denial["rule"], denial["grant"][0]) == ("write", "files.read /", "--write")


@pytest.mark.parametrize("act", ACTS)
def test_the_grant_that_is_told_brings_it_on(bench: Bench, act: str) -> None:
    """With what is told for the first refusal the act succeeds, or is refused for something else, which is told then."""
    argv = bench.probe("observed_acts", act)
    options = ["--json", "--observe", "executions"]
    told = report(bench.twin(argv, bench.outside(), options=options))["denials"]
    granted: list[str] = []
    for _ in range(3):
        granted += told[0]["grant"]
        effect = bench.outside()
        outcome = bench.attempt(argv, effect, inside=True, options=[*options, *granted])
        if effect.happened(outcome):
            return
        told = report(outcome)["denials"]
        assert told, f"refused and not told: {outcome}"
        if not told[0]["grant"] or granted[-1] == told[0]["grant"][1]:
            break
    raise AssertionError(f"no grant brings it on: {outcome}")


def test_what_is_off_is_not_told(bench: Bench) -> None:
    outcome = bench.twin(bench.probe("observed_acts", "append"), bench.outside(), options=["--json", "--observe", "off"])
    assert outcome.status == 1
    assert report(outcome)["denials"] == []


def test_a_hidden_file_is_told_when_all_is_observed(bench: Bench) -> None:
    key = bench.stage.home / ".ssh/id_ed25519"
    outcome = bench.twin(["sh", "-c", f"echo probe: read; cat {key}; false"], bench.leak(), options=["--json", "--observe", "all"])
    denial = report(outcome)["denials"][0]
    assert (denial["access"], denial["paths"], denial["rule"]) == ("read", [str(key)], "files.hide ~/.ssh")


def test_a_protected_name_is_told_with_its_rule(bench: Bench) -> None:
    outcome = bench.twin(["sh", "-c", "echo probe: make; mkdir -p deep/.claude"], bench.guarded(), options=["--json"])
    denial = report(outcome)["denials"][0]
    assert (denial["path"], denial["rule"]) == (str(bench.stage.workspace / "deep/.claude"), "files.protect **/.claude")


@pytest.mark.needs("git")
def test_git_that_may_not_commit_is_explained(bench: Bench) -> None:
    command = ["sh", "-c", "echo probe: commit; echo x >> file; git commit -qam x && echo DONE"]
    outcome = bench.twin(command, Said("DONE"), options=["--json"])
    denial = report(outcome)["denials"][0]
    assert (denial["path"], denial["grant"]) == (str(bench.stage.workspace / ".git/index.lock"), ["--git", "free"])


def test_a_closed_network_is_told_and_an_open_one_is_not(bench: Bench) -> None:
    code = "import socket; s = socket.socket(); s.settimeout(2); s.connect(('192.0.2.1', 443))"
    command = [bench.identity.python, "-S", "-c", code]
    denials = report(bench.run(command, inside=True, options=["--json"]))["denials"]
    told = [(denial["access"], denial["path"], denial["rule"], denial["grant"]) for denial in denials]
    assert told == [("connect", "192.0.2.1:443", "network.reach none", ["--net", "open"])]
    assert report(bench.run(command, inside=True, options=["--json", "--net", "open"]))["denials"] == []


def test_programs_are_told_from_the_second_level_on(bench: Bench) -> None:
    command = ["sh", "-c", "/bin/echo one; /bin/echo two; env true"]
    for level in LEVELS:
        outcome = bench.run(command, inside=True, options=["--json", "--observe", level])
        told = {Path(found["path"]).name: found["count"] for found in report(outcome)["executions"]}
        if level == "denials":
            assert told == {}
        else:
            assert told["echo"] == 2
            assert {"env", "true"} <= set(told)


def test_a_command_that_ran_out_of_time_is_explained(bench: Bench) -> None:
    command = ["sh", "-c", f"echo x >> {bench.stage.outside}/file; sleep 60"]
    outcome = bench.run(command, inside=True, options=["--json", "--time", "1s"])
    assert outcome.status == 124
    assert paths(outcome) == [f"{bench.stage.outside}/file"]


WITHOUT_MOUNTS = ["--backend", "landlock"]
for rule in ("files.write", "files.protect", "files.hide", "files.private", "files.scratch", "sockets", "network", "processes"):
    WITHOUT_MOUNTS += ["--accept", rule]


@pytest.mark.parametrize("act", [act for act in ACTS if act not in ("mode", "times", "attribute")])
def test_without_mounts_it_is_told_as_well(bench: Bench, act: str) -> None:
    """By the rules of Landlock, which govern all of them but metadata (docs/ladder.md)."""
    outcome = bench.twin(bench.probe("observed_acts", act), bench.outside(), options=["--json", "--observe", "executions", *WITHOUT_MOUNTS])
    assert f"{bench.stage.outside}/{ACTS[act]}" in paths(outcome), outcome
    assert report(outcome)["rung"] == "landlock"


# Observing is not deciding


@pytest.mark.parametrize("level", LEVELS)
def test_no_answer_changes(bench: Bench, level: str) -> None:
    bench.same(bench.probe("errno_oracle", "x"), options=["--observe", level])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("act", ["bad_addresses", "long_paths"])
def test_what_leads_nowhere_gets_the_same_answer(bench: Bench, act: str, level: str) -> None:
    argv = bench.probe("observed_acts", act)
    plain = bench.run(argv, inside=True, options=["--observe", "off"])
    assert plain.status == 0, plain
    seen = bench.run(argv, inside=True, options=["--observe", level])
    assert (seen.status, seen.out) == (plain.status, plain.out)


@pytest.mark.parametrize("level", ["denials", "all"])
def test_a_race_on_the_observed_path_gains_nothing(bench: Bench, level: str) -> None:
    def prepare() -> None:
        bench.stage.plant(bench.stage.workspace / "inside-file", "")

    bench.twin(bench.probe("observed_acts", "flip", "1.0"), bench.outside(), prepare=prepare, options=["--observe", level])


@pytest.mark.parametrize("act", ["open", "mkdir", "rename", "symlink", "link"])
def test_a_race_on_a_mediated_path_gains_nothing_while_observed(bench: Bench, act: str) -> None:
    bench.twin(bench.probe("attack_protect", "race", act, "1.0"), bench.guarded(), options=["--observe", "all"])


def test_what_is_kept_is_bounded_and_what_is_not_is_counted(bench: Bench) -> None:
    outcome = bench.twin(bench.probe("observed_acts", "many", 3000), Said("refused 0"), options=["--json"])
    assert "refused 3000" in outcome.out
    told = report(outcome)
    assert [len(denial["paths"]) for denial in told["denials"]] == [1000]
    assert told["lost"] == 2000


# What a person is told


def block(outcome: Outcome) -> str:
    return outcome.err.partition("houseroom:")[2]


def test_a_failed_command_is_followed_by_a_short_block(bench: Bench) -> None:
    file = f"{bench.stage.outside}/file"
    lines = block(bench.run(["sh", "-c", f"echo x >> {file}"], inside=True, env={"COLUMNS": "110"})).splitlines()
    said = " ".join(word for line in lines for word in line.split())
    assert f"write {file}" in said
    assert "files.read /, built in" in said
    assert f"allow: houseroom run --write {file}" in said
    assert len(lines) <= 5


def test_a_command_that_did_its_work_is_followed_by_nothing(bench: Bench) -> None:
    command = ["sh", "-c", f"echo x >> {bench.stage.outside}/file; exit $0"]
    assert block(bench.run([*command, "0"], inside=True)) == ""
    assert block(bench.run([*command, "1"], inside=True)) != ""
    assert block(bench.run([*command, "1"], inside=True, options=["--quiet"])) == ""
    assert "write " in block(bench.run([*command, "0"], inside=True, options=["--verbose"]))


def test_a_name_that_speaks_to_the_terminal_is_spelt_out(bench: Bench) -> None:
    said = block(bench.run(bench.probe("observed_acts", "strange_name"), inside=True, env={"COLUMNS": "110"}))
    assert "\\x1b[2Jcle\\nared" in said
    assert "\x1b" not in said


def test_what_fails_outside_too_is_not_the_sandboxs_doing(bench: Bench) -> None:
    if bench.identity.uid == 0:
        pytest.skip("outside, root may write every file")
    command = ["sh", "-c", "echo x >> /etc/passwd"]
    assert bench.run(command, inside=False).status != 0
    assert report(bench.run(command, inside=True, options=["--json"]))["denials"] == []


# Sessions: what was tried belongs to the command that tried it

AT_ONCE = """
import json, sys, threading
from houseroom import Session
outside, told = sys.argv[1], {}
with Session(observe="denials") as session:
    def work(number):
        for turn in range(3):
            script = f"(sleep 0.1; echo x >> {outside}/late{number}) & echo x >> {outside}/now{number}; wait; exit {turn}"
            done = session.run(["sh", "-c", script], stderr=-3)
            told.setdefault(number, []).append([done.returncode, sorted(path for denial in done.denials for path in denial.paths)])
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    quiet = session.run(["true"]).denials
print(json.dumps([told, quiet]))
"""


def test_what_was_refused_to_commands_of_a_session_is_told_of_each(bench: Bench) -> None:
    python, env = bench.identity.python, {"PYTHONPATH": str(bench.identity.base / "src")}
    outcome = bench.run([python, "-S", "-c", AT_ONCE, str(bench.stage.outside)], inside=False, env=env)
    assert outcome.status == 0, outcome
    told, quiet = json.loads(outcome.out)
    assert quiet == []
    for number in range(4):
        expected = [f"{bench.stage.outside}/{word}{number}" for word in ("late", "now")]
        assert told[str(number)] == [[turn, expected] for turn in range(3)]


AT_ONCE_IN_A_LOOP = """
import asyncio, json, sys
from houseroom import AsyncSession
outside = sys.argv[1]
def script(number, turn):
    return ["sh", "-c", f"(sleep 0.1; echo x >> {outside}/late{number}) & echo x >> {outside}/now{number}; wait; exit {turn}"]
async def main():
    async with AsyncSession(observe="denials") as session:
        async def work(number):
            told = []
            for turn in range(3):
                done = await session.run(script(number, turn), stderr=-3)
                told.append([done.returncode, sorted(path for denial in done.denials for path in denial.paths)])
            return told
        told = dict(enumerate(await asyncio.gather(*map(work, range(4)))))
        await (await session.popen(script(9, 1), stderr=-3)).wait()
        try:
            async with asyncio.timeout(0.5):
                await session.run(["sh", "-c", f"echo x >> {outside}/cancelled; sleep 60"], stderr=-3)
        except TimeoutError:
            pass
        print(json.dumps([told, (await session.run(["true"])).denials]))
asyncio.run(main())
"""


def test_what_was_refused_to_commands_of_an_event_loop_is_told_of_each(bench: Bench) -> None:
    """One that was not asked about, and one that was cancelled, leave nothing to the next."""
    python, env = bench.identity.python, {"PYTHONPATH": str(bench.identity.base / "src")}
    outcome = bench.run([python, "-S", "-c", AT_ONCE_IN_A_LOOP, str(bench.stage.outside)], inside=False, env=env)
    assert outcome.status == 0, outcome
    told, quiet = json.loads(outcome.out)
    assert quiet == []
    for number in range(4):
        expected = [f"{bench.stage.outside}/{word}{number}" for word in ("late", "now")]
        assert told[str(number)] == [[turn, expected] for turn in range(3)]


def test_nothing_is_told_where_nobody_asked(bench: Bench) -> None:
    code = "import sys; from houseroom import Sandbox; print(Sandbox().run(['touch', sys.argv[1]], stderr=-3).denials)"
    python, env = bench.identity.python, {"PYTHONPATH": str(bench.identity.base / "src")}
    assert bench.run([python, "-S", "-c", code, f"{bench.stage.outside}/new"], inside=False, env=env).out == "()\n"
    code = code.replace("Sandbox()", "Sandbox(observe='denials')")
    assert "outside/new" in bench.run([python, "-S", "-c", code, f"{bench.stage.outside}/new"], inside=False, env=env).out


# Learning


def test_what_was_learned_suffices_and_is_no_more(bench: Bench) -> None:
    """Refused first; then learned, saved and done, with the lines of the proposal and no others."""
    outside, policy = bench.stage.outside, bench.stage.home / ".config/houseroom/policy.toml"
    script = f"echo probe: work; set -e; echo x >> {outside}/file; touch {outside}/directory/a {outside}/directory/b"
    work = ["sh", "-c", script]
    bench.twin(work, bench.outside())
    bench.stage.restore()
    for _ in range(3):
        command = [bench.identity.python, "-m", "houseroom", "learn", "--save", "--yes", "--", *work]
        outcome = bench.run(command, inside=False, env={"PYTHONPATH": str(bench.identity.base / "src")})
        if "needs nothing" in outcome.err:
            break
    assert outcome.status == 0, outcome
    assert sorted(tomllib.loads(policy.read_text())["files"]["write"]) == [f"{outside}/directory", f"{outside}/file"]
    (outside / "directory/b").unlink()
    assert bench.run(work, inside=True).status == 0
    assert (outside / "directory/b").exists()
    refused = bench.run(["sh", "-c", f"touch {outside}/other"], inside=True)
    assert refused.status != 0
    assert not (outside / "other").exists()


def test_learning_writes_nothing_by_itself(bench: Bench) -> None:
    work = ["sh", "-c", f"touch {bench.stage.outside}/file; cat ~/.ssh/id_ed25519; false"]
    before = bench.stage.snapshot_outside()
    command = [bench.identity.python, "-m", "houseroom", "learn", "--json", "--", *work]
    outcome = bench.run(command, inside=False, env={"PYTHONPATH": str(bench.identity.base / "src")})
    assert bench.stage.snapshot_outside() == before
    told = report(outcome)
    assert outcome.status == told["exit_code"] == 1
    assert [line["value"] for line in told["add"]] == [f"{bench.stage.outside}/file"]
    assert [denial["rule"] for denial in told["kept"]] == ["files.hide ~/.ssh"], "a secret is never proposed"
