"""The commands as a user runs them, in real sandboxes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
Snapshot = Callable[[str, str], None]


class TestRun:
    def test_nothing_of_ours_is_printed(self, houseroom: Cli) -> None:
        done = houseroom("run", "--", "sh", "-c", "echo out; echo err >&2")
        assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "err\n")

    @pytest.mark.parametrize(
        ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
    )
    def test_the_exit_code_is_the_commands(self, houseroom: Cli, script: str, code: int) -> None:
        done = houseroom("run", "--", "sh", "-c", script)
        assert (done.returncode, done.stdout, done.stderr) == (code, "", "")

    def test_a_command_that_does_not_exist(self, houseroom: Cli) -> None:
        done = houseroom("run", "--", "no-such-command-here")
        assert done.returncode == 127
        assert done.stdout == ""
        assert done.stderr.startswith("houseroom: ")
        assert "no-such-command-here" in done.stderr

    def test_a_command_that_can_not_be_executed(self, houseroom: Cli, home: Path) -> None:
        (home / "project" / "plain").write_text("text")
        done = houseroom("run", "--", "./plain")
        assert done.returncode == 126
        assert done.stderr.startswith("houseroom: ")

    def test_two_dashes_may_be_left_out(self, houseroom: Cli) -> None:
        assert houseroom("run", "echo", "--dry-run", "-h").stdout == "--dry-run -h\n"

    def test_arguments_arrive_byte_for_byte(self, houseroom: Cli) -> None:
        odd = [b"", b"--", b"-p", b"two words", b"new\nline", b"\xff\xfe", "größer".encode(), b"$HOME `x` \\"]
        done = houseroom("run", "--", "printf", r"%s\0", *odd)
        assert os.fsencode(done.stdout) == b"\0".join(odd) + b"\0"

    @pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8"])
    def test_also_in_another_locale(self, houseroom: Cli, locale: str) -> None:
        done = houseroom("run", "--", "printf", "%s", b"\xc3\xa4\xff", LC_ALL=locale)
        assert os.fsencode(done.stdout) == b"\xc3\xa4\xff"

    def test_standard_input_arrives(self, houseroom: Cli) -> None:
        text = "x" * 300_000
        assert houseroom("run", "--", "cat", stdin=text).stdout == text

    def test_the_time_limit(self, houseroom: Cli) -> None:
        done = houseroom("run", "--time", "1s", "--", "sleep", "50")
        assert (done.returncode, done.stdout) == (124, "")
        assert done.stderr.startswith("houseroom: stopped after 1s: limits.time (command line)")
        assert houseroom("run", "--time", "50s", "--", "sleep", "0").returncode == 0

    def test_quiet_leaves_the_note_out(self, houseroom: Cli) -> None:
        done = houseroom("run", "--quiet", "--time", "1s", "--", "sleep", "50")
        assert (done.returncode, done.stderr) == (124, "")

    def test_json_says_how_it_ended_on_standard_error(self, houseroom: Cli) -> None:
        done = houseroom("run", "--json", "--", "sh", "-c", "echo out; exit 3")
        assert done.stdout == "out\n"
        report = json.loads(done.stderr)
        assert (report["outcome"], report["code"], report["exit_code"]) == ("exited", 3, 3)
        assert report["rung"] in ("namespaces", "bubblewrap", "landlock")
        assert {row["rule"] for row in report["coverage"]} >= {"files.write", "files.hide"}

    def test_verbose_says_what_is_withheld(self, houseroom: Cli) -> None:
        done = houseroom("run", "--verbose", "--", "true", GITHUB_TOKEN="secret-value")
        assert "GITHUB_TOKEN" in done.stderr
        assert "secret-value" not in done.stderr

    def test_a_dry_run_starts_nothing(self, houseroom: Cli, home: Path) -> None:
        done = houseroom("run", "--dry-run", "--", "touch", "made")
        assert done.returncode == 0
        assert done.stdout
        assert not (home / "project" / "made").exists()
        assert houseroom("run", "--", "touch", "made").returncode == 0  # the twin: without --dry-run it does
        assert (home / "project" / "made").exists()

    def test_a_dry_run_as_json(self, houseroom: Cli) -> None:
        plan = json.loads(houseroom("run", "--dry-run", "--json", "--", "true").stdout)
        assert plan["command"] == ["true"]
        assert plan["steps"]
        assert all(step["step"] and "why" in step for step in plan["steps"])

    def test_the_options_are_rules(self, houseroom: Cli, home: Path) -> None:
        beside = home / "beside"
        beside.mkdir()
        touch = ["--", "touch", str(beside / "made")]
        assert houseroom("run", *touch).returncode != 0
        assert not (beside / "made").exists()
        assert houseroom("run", "--write", "../beside", *touch).returncode == 0  # relative to the current directory
        assert (beside / "made").exists()

    def test_hide_and_its_twin(self, houseroom: Cli, home: Path) -> None:
        (home / "project" / "plain").write_text("content\n")
        assert houseroom("run", "--", "cat", "plain").stdout == "content\n"
        assert houseroom("run", "--hide", "plain", "--", "cat", "plain").stdout == ""

    def test_variables(self, houseroom: Cli) -> None:
        show = ["--", "sh", "-c", 'echo "$GITHUB_TOKEN"']
        assert houseroom("run", *show, GITHUB_TOKEN="x").stdout == "\n"
        assert houseroom("run", "--pass", "GITHUB_TOKEN", *show, GITHUB_TOKEN="x").stdout == "x\n"

    def test_cwd(self, houseroom: Cli, home: Path) -> None:
        (home / "project" / "sub").mkdir()
        assert houseroom("run", "--cwd", "sub", "--", "pwd").stdout == f"{os.path.realpath(home)}/project/sub\n"

    def test_a_policy_error_is_123(self, houseroom: Cli, home: Path) -> None:
        (home / ".config" / "houseroom").mkdir(parents=True)
        (home / ".config" / "houseroom" / "policy.toml").write_text('[files]\nhied = ["~/x"]\n')
        done = houseroom("run", "--", "true")
        assert (done.returncode, done.stdout) == (123, "")
        assert "policy.toml:2:1" in done.stderr
        assert "^" in done.stderr
        assert "hide" in done.stderr

    def test_what_can_not_be_enforced_is_125(self, houseroom: Cli, home: Path) -> None:
        (home / ".config" / "houseroom").mkdir(parents=True)
        (home / ".config" / "houseroom" / "policy.toml").write_text('[git]\nmode = "guarded"\n')
        done = houseroom("run", "--", "touch", "made")
        assert (done.returncode, done.stdout) == (125, "")
        assert "git.mode" in done.stderr
        assert not (home / "project" / "made").exists()


HEAVY = frozenset(
    "typing dataclasses enum re json argparse pathlib subprocess tomllib difflib shutil tempfile contextlib socket logging signal "
    "functools rich asyncio inspect site".split()
)


def test_the_hot_path_imports_little(home: Path, start: tuple[str, ...]) -> None:
    done = subprocess.run(
        [*start[:-1], "-X", "importtime", start[-1], "run", "--", "true"],
        cwd=home / "project",
        env={"HOME": str(home), "PATH": os.defpath},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "houseroom.session.sandbox" in imported
    assert not imported & HEAVY
    assert not {name for name in imported if name.startswith("houseroom.frontends.cli.")} - {
        f"houseroom.frontends.cli.{name}" for name in ("main", "dispatch", "options", "run_options", "request", "run")
    }


class TestExplain:
    def test_agrees_with_the_run_and_its_grant_works(self, houseroom: Cli, home: Path) -> None:
        (home / ".ssh").mkdir()
        (home / ".ssh" / "id").write_text("key\n")
        said = houseroom("explain", "read", "~/.ssh/id", "--json")
        assert said.returncode == 1
        (answer,) = json.loads(said.stdout)["answers"]
        assert answer["decision"] == "deny"
        assert answer["rule"]["key"] == "files.hide"
        cat = ["--", "cat", str(home / ".ssh" / "id")]
        assert houseroom("run", *cat).stdout == ""
        assert houseroom("run", *answer["grant"]["options"], *cat).stdout == "key\n"
        assert houseroom("explain", "read", "~/.ssh/id", *answer["grant"]["options"]).returncode == 0

    def test_the_policy_line_works_too(self, houseroom: Cli, home: Path) -> None:
        (home / "beside").mkdir()
        (answer,) = json.loads(houseroom("explain", "write", "~/beside", "--json").stdout)["answers"]
        (home / ".config" / "houseroom").mkdir(parents=True)
        (home / ".config" / "houseroom" / "policy.toml").write_text(answer["grant"]["policy"])
        assert houseroom("explain", "write", "~/beside").returncode == 0
        assert houseroom("run", "--", "touch", str(home / "beside" / "made")).returncode == 0
        assert (home / "beside" / "made").exists()

    def test_without_a_verb_it_is_reading_and_writing(self, houseroom: Cli) -> None:
        acts = json.loads(houseroom("explain", "/etc/passwd", "--json").stdout)["answers"]
        assert [(act["act"], act["decision"]) for act in acts] == [("read", "allow"), ("write", "deny")]
        assert houseroom("explain", "/etc/passwd").returncode == 1
        assert houseroom("explain", "read", "/etc/passwd").returncode == 0

    def test_links_are_shown(self, houseroom: Cli, home: Path) -> None:
        (home / ".ssh").mkdir()
        (home / ".ssh" / "id").write_text("key\n")
        (home / "project" / "innocent").symlink_to(home / ".ssh" / "id")
        done = houseroom("explain", "read", "innocent")
        assert done.returncode == 1
        assert "→" in done.stdout
        assert houseroom("run", "--", "cat", "innocent").stdout == ""

    def test_programs_are_found_on_the_path(self, houseroom: Cli) -> None:
        done = houseroom("explain", "run", "sh", "--json")
        assert done.returncode == 0
        assert json.loads(done.stdout)["resolved"] == os.path.realpath("/bin/sh")
        assert houseroom("explain", "run", "no-such-program-here").returncode == 2

    def test_variables(self, houseroom: Cli) -> None:
        assert houseroom("explain", "variable", "GITHUB_TOKEN").returncode == 1
        assert houseroom("explain", "variable", "EDITOR").returncode == 0

    def test_the_organisation_is_not_overruled(self, houseroom: Cli, home: Path) -> None:
        """An untrusted project's file narrows in a voice of its own, as an organisation's does; no option widens that."""
        (home / "project" / ".houseroom").mkdir()
        (home / "project" / ".houseroom" / "policy.toml").write_text('[files]\nhide = ["secret"]\n')
        (home / "project" / "secret").write_text("x\n")
        done = houseroom("explain", "read", "secret", "--json")
        (answer,) = json.loads(done.stdout)["answers"]
        assert "houseroom trust" in answer["grant"]["obstacle"]
        assert houseroom("run", *answer["grant"]["options"], "--", "cat", "secret").stdout == ""

    def test_what_is_missing_is_said(self, houseroom: Cli, home: Path) -> None:
        (answer,) = json.loads(houseroom("explain", "write", "~/not/there", "--json").stdout)["answers"]
        assert "does not exist" in answer["grant"]["obstacle"]


class TestDoctor:
    def test_says_whether_a_run_would_start(self, houseroom: Cli) -> None:
        done = houseroom("doctor", "--json")
        report = json.loads(done.stdout)
        assert (done.returncode == 0) is report["ok"]
        assert (houseroom("run", "--", "true").returncode == 0) is report["ok"]
        assert report["checks"]
        assert all(check["state"] in ("works", "missing", "unused") for check in report["checks"])

    def test_is_readable(self, houseroom: Cli) -> None:
        text = houseroom("doctor").stdout
        assert "Mechanisms" in text
        assert max(map(len, text.split("\n"))) <= 80


class TestPolicy:
    def test_show(self, houseroom: Cli, snapshot: Snapshot) -> None:
        done = houseroom("policy", "show", "--write", "../beside", "--net", "open")
        assert done.returncode == 0
        assert max(map(len, done.stdout.split("\n"))) <= 80
        assert "command line" in done.stdout

    def test_one_key(self, houseroom: Cli, snapshot: Snapshot) -> None:
        snapshot("policy-show-network", houseroom("policy", "show", "network", "--net", "open").stdout)
        assert houseroom("policy", "show", "nettwork").returncode == 2

    def test_json_and_toml_are_what_they_say(self, houseroom: Cli, tmp_path: Path) -> None:
        import tomllib

        assert json.loads(houseroom("policy", "show", "--json").stdout)["strata"]
        text = houseroom("policy", "show", "--toml").stdout
        assert tomllib.loads(text)["files"]["hide"]
        (tmp_path / "shown.toml").write_text(text)
        assert houseroom("policy", "check", str(tmp_path / "shown.toml")).returncode == 0

    def test_check(self, houseroom: Cli, home: Path, snapshot: Snapshot) -> None:
        files = {
            "right": 'extends = "read-only"\n[files]\nwrite = ["build"]\n',
            "key": '[files]\nhied = ["~/x"]\n',
            "syntax": '[files\nhide = ["~/x"]\n',
            "extends": 'extends = "worskpace"\n',
            "example": '[files]\nhide = [{ path = "~/x", allows = ["read ~/x/y"] }]\n',
            "waiting": '[git]\nmode = "guarded"\n',
        }
        shown = []
        for name, text in files.items():
            (home / "project" / f"{name}.toml").write_text(text)
            done = houseroom("policy", "check", f"{name}.toml")
            assert done.returncode == (0 if name in ("right", "waiting") else 123), name
            shown.append(f"$ houseroom policy check {name}.toml\n{done.stdout}{done.stderr}")
            as_json = houseroom("policy", "check", "--json", f"{name}.toml")
            assert as_json.returncode == done.returncode
            assert json.loads(as_json.stdout)["ok"] is (done.returncode == 0)
        snapshot("policy-check", "\n".join(shown).replace(str(home), "HOME"))
        assert houseroom("policy", "check", "missing.toml").returncode == 2

    def test_schema(self, houseroom: Cli) -> None:
        assert "$schema" in json.loads(houseroom("policy", "schema").stdout)

    def test_presets(self, houseroom: Cli, snapshot: Snapshot) -> None:
        snapshot("policy-presets", houseroom("policy", "presets").stdout)
        assert set(json.loads(houseroom("policy", "presets", "--json").stdout)) == {"read-only", "workspace", "full-access"}

    def test_a_reader_that_goes_away_is_no_error(self, home: Path, start: tuple[str, ...]) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing) as stdout:
            done = subprocess.run(
                [*start, "policy", "show"],
                cwd=home / "project",
                env={"HOME": str(home), "PATH": os.defpath},
                stdout=stdout,
                stderr=subprocess.PIPE,
                text=True,
                timeout=60,
                check=False,
            )
        assert done.stderr == ""
