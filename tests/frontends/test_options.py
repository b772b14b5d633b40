"""Reading a command line."""

from __future__ import annotations

import pytest

from houseroom.frontends.cli.commands import EXPLAIN, RUN, SCHEMA, SPECS
from houseroom.frontends.cli.options import HELP, UsageError, parse


def test_values_come_beside_or_after_an_equals_sign() -> None:
    assert parse(RUN, ["--read", "/a", "--read=/b", "x"]).all("read") == ("/a", "/b")
    assert parse(RUN, ["-p", "read-only", "x"]).one("profile") == "read-only"
    assert parse(RUN, ["--limit=processes=5", "x"]).all("limit") == ("processes=5",)


def test_nothing_after_two_dashes_is_ours() -> None:
    given = parse(RUN, ["--dry-run", "--", "--json", "-h", "--", ""])
    assert given.words == ("--json", "-h", "--", "")
    assert given.flag("dry-run")
    assert not given.flag("json")
    assert not given.flag("help")


def test_the_first_word_starts_the_command() -> None:
    given = parse(RUN, ["--quiet", "git", "--version", "--quiet"])
    assert given.words == ("git", "--version", "--quiet")


def test_words_and_options_mix_where_no_command_follows() -> None:
    given = parse(EXPLAIN, ["read", "--json", "/x"])
    assert given.words == ("read", "/x")
    assert given.flag("json")


def test_a_dash_alone_is_a_word() -> None:
    assert parse(RUN, ["-", "x"]).words == ("-", "x")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--writ", "/x", "true"], "--write"),
        (["--dry", "true"], "has no option --dry"),
        (["--read"], "--read needs a value"),
        (["--read", "--", "true"], "--read needs a value"),
        (["--read", "--write", "/x", "true"], "--read needs a value"),
        (["--read=", "true"], "--read needs a value"),
        (["--profile", "a", "--profile", "b", "true"], "--profile was given twice"),
        (["--net", "some", "true"], "none, listed, open"),
        (["--json=yes", "true"], "--json takes no value"),
        (["-x", "true"], "has no option -x"),
        ([], "needs COMMAND"),
        (["--"], "needs COMMAND"),
    ],
)
def test_mistakes_are_named(arguments: list[str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(RUN, arguments)
    assert says in f"{caught.value.message}. {caught.value.hint}"


def test_too_many_words() -> None:
    with pytest.raises(UsageError, match="no use for 'x'"):
        parse(SCHEMA, ["x"])


def test_help_needs_nothing_else() -> None:
    assert parse(RUN, ["--help"]).flag("help")
    assert parse(EXPLAIN, ["-h"]).flag("help")


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_each_command_is_described(spec: object) -> None:
    from houseroom.frontends.cli.options import Spec

    assert isinstance(spec, Spec)
    names = [name for option in (*spec.options, HELP) for name in option.names]
    assert len(names) == len(set(names))
    assert spec.summary.endswith(".")
    assert spec.examples
    assert spec.exits
    assert all(option.help.endswith(".") for option in spec.options)
