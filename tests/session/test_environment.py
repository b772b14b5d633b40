"""The command's environment, from the policy's word on names and the values themselves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from houseroom.policy import caches, presets
from houseroom.policy.decide import PlacedPolicy
from houseroom.policy.model import Origin, Places, Policy, Rule, Stratum
from houseroom.session.environment import BY_VALUE, PASSED, WITHHELD, Choice, build, choose

PLACES = Places("/nowhere/home/ws", "/nowhere/home", "/tmp", 1000)
TOKEN = b"ghp_" + b"a1B2" * 9


def placed(*passed: str, hidden: tuple[str, ...] = ()) -> PlacedPolicy:
    origin = Origin("session", "test")
    rules = (*(Rule("environment.pass", name, origin) for name in passed), *(Rule("environment.hide", name, origin) for name in hidden))
    preset = presets.preset("workspace")
    return PlacedPolicy(Policy("workspace", (preset.with_(rules=(*preset.rules, *rules)),)), PLACES)


def test_a_secret_name_is_withheld_an_ordinary_one_is_looked_at_and_one_on_purpose_passed() -> None:
    choice = choose(placed("MY_TOKEN"), ["EDITOR", "GITHUB_TOKEN", "MY_TOKEN"])
    assert choice.names == {"EDITOR": BY_VALUE, "GITHUB_TOKEN": WITHHELD, "MY_TOKEN": PASSED}


def test_values_decide_where_names_do_not() -> None:
    choice = Choice({"EDITOR": BY_VALUE, "ODD": BY_VALUE, "KNOWN": PASSED, "NEVER": WITHHELD})
    given, withheld = build(choice, {b"EDITOR": b"vi", b"ODD": TOKEN, b"KNOWN": TOKEN, b"NEVER": b"plain"})
    assert given == {b"EDITOR": b"vi", b"KNOWN": TOKEN, b"HOUSEROOM": b"1"}
    assert withheld == ("ODD", "NEVER")


def test_bytes_that_are_no_text_pass_unchanged() -> None:
    environ = {b"ODD": b"\xff\xfe", b"N\xe4ME": b"x"}
    given, withheld = build(choose(placed(), ["ODD", "N\udce4ME"]), environ)
    assert {name: given[name] for name in environ} == environ
    assert withheld == ()


def test_a_name_that_was_not_asked_about_is_no_guess() -> None:
    with pytest.raises(KeyError):
        build(Choice({"A": BY_VALUE}), {b"A": b"", b"B": b""})


def test_temporary_directories_are_the_private_one_where_the_caller_had_one() -> None:
    choice = choose(placed(), ["TMPDIR", "TMP"])
    assert choice.tmp == "/tmp"
    given, _ = build(choice, {b"TMPDIR": b"/var/tmp/me", b"TMP": b"/elsewhere"})
    assert (given[b"TMPDIR"], given[b"TMP"]) == (b"/tmp", b"/tmp")
    assert b"TEMP" not in given


def test_without_a_private_directory_nothing_is_pointed_to_it() -> None:
    open_all = Stratum("open", (Rule("files.write", "/", Origin("user", "test")),), {}, frozenset({"files.read", "files.write"}))
    choice = choose(PlacedPolicy(Policy("open", (open_all,)), PLACES), ["TMPDIR"])
    assert (choice.tmp, choice.redirects) == ("", ())
    assert build(choice, {b"TMPDIR": b"/var/tmp/me"})[0][b"TMPDIR"] == b"/var/tmp/me"


def test_a_tool_whose_cache_does_not_exist_gets_one_in_the_private_directory_unless_it_has_its_own(tmp_path: Path) -> None:
    for sign in {sign for _path, _variable, sign, _reason in caches.CACHES if sign}:
        (tmp_path / sign).touch(0o755)
    variables = {variable for _path, variable, _sign, _reason in caches.CACHES if variable}
    choice = choose(placed(), [])
    assert {name for name, _path, _sign in choice.redirects} == variables != set()  # none exists below /nowhere
    everything = choice.with_(names={"PATH": PASSED})
    given, _ = build(everything, {b"PATH": os.fsencode(f"/nowhere:{tmp_path}")})
    assert all(given[name.encode()].startswith(b"/tmp/") for name in variables)
    mine = min(variables)
    kept, _ = build(everything.with_(names={mine: PASSED}), {mine.encode(): b"/mine"})
    assert kept[mine.encode()] == b"/mine"


def test_a_tool_that_is_not_there_gets_no_variable(tmp_path: Path) -> None:
    (tmp_path / "cargo").touch(0o755)
    (tmp_path / "go").touch(0o644)
    path = os.fsencode(tmp_path)
    given, _ = build(choose(placed(), ["PATH"]), {b"PATH": path})
    assert given == {
        b"PATH": path,
        b"CARGO_HOME": b"/tmp/cargo",
        b"XDG_CACHE_HOME": b"/tmp/cache",
        b"XDG_STATE_HOME": b"/tmp/state",
        b"HOUSEROOM": b"1",
    }


def test_a_cache_that_exists_is_left_where_it_is(tmp_path: Path) -> None:
    path, variable = next((path, variable) for path, variable, _sign, _reason in caches.CACHES if variable)
    (tmp_path / path[2:]).mkdir(parents=True)
    policy = Policy("workspace", (presets.preset("workspace"),))
    there = choose(PlacedPolicy(policy, Places(str(tmp_path / "ws"), str(tmp_path), "/tmp", 1000)), [])
    assert variable not in {name for name, _path, _sign in there.redirects}
    assert variable in {name for name, _path, _sign in choose(placed(), []).redirects}


def test_a_choice_survives_being_kept() -> None:
    """Its values are plain, so a remembered start makes the same environment."""
    import marshal

    choice = choose(placed("MY_TOKEN"), ["EDITOR", "GITHUB_TOKEN", "MY_TOKEN"])
    assert Choice(*marshal.loads(marshal.dumps(choice.values()))) == choice
