"""Where a credential's value comes from: what a rule may say, and where the caret stands when it says something else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from houseroom.errors import PolicyError
from houseroom.policy import credentials, export, parse
from houseroom.policy.layers import Document, merge
from houseroom.policy.model import Origin, Policy, Rule, Stratum
from houseroom.policy.sources import Source

HEAD = "TOKEN x.org from "


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("env:WORK_TOKEN", "env", ("WORK_TOKEN",)),
        ("file:~/.tokens/work", "file", ("~/.tokens/work",)),
        ("file:/srv/a token", "file", ("/srv/a token",)),
        ("command:gh auth token", "command", ("gh", "auth", "token")),
        ("command:~/bin/token  -v", "command", ("~/bin/token", "-v")),
        ("command:op read 'op://Private/two words/credential'", "command", ("op", "read", "op://Private/two words/credential")),
        ('command:x --a="b c"d "" \'$HOME|"\'', "command", ("x", "--a=b cd", "", '$HOME|"')),
        ("keyring:https://x.org/ann", "keyring", ("https://x.org", "ann")),
    ],
)
def test_what_a_source_says(text: str, kind: str, words: tuple[str, ...]) -> None:
    found = credentials.parse(HEAD + text)
    assert (found.variable, str(found.where), found.source) == ("TOKEN", "x.org:443", Source(kind, words))
    assert credentials.parse(HEAD + str(found.source)).source == found.source


def test_without_one_it_is_the_callers_own_variable() -> None:
    assert credentials.parse("TOKEN x.org").source == credentials.parse(HEAD + "env:TOKEN").source == Source("env", ("TOKEN",))


@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12), max_size=4))
def test_a_commands_words_are_spelt_so_that_they_are_read_again(words: list[str]) -> None:
    source = Source("command", ("program", *words))
    assert credentials.parse(HEAD + str(source)).source == source


@pytest.mark.parametrize(
    ("text", "caret", "says"),
    [
        (" from ", "", "Write env:NAME"),
        (" from", "from", "does not say where from"),
        (" file:~/x", "file:", "does not say where from"),
        (" command:gh auth", "command:", "does not say where from"),
        (" from ~/token", "~/token", "Write file:~/token"),
        (" from files:~/x", "files", 'Did you mean "file:"?'),
        (" from gh auth token", "gh auth", "Write env:NAME"),
        (" from file:", "", "nothing stands behind file:"),
        (" from file: ~/x", " ~/x", "begins or ends with a blank"),
        (" from file:~/x ", "~/x ", "begins or ends with a blank"),
        (" from file:~/a\tb", "~/a\tb", "control character"),
        (" from file:token", "token", "not a whole path"),
        (" from file:~ann/x", "~ann", "not a whole path"),
        (" from file:/a/../b", "/a/../b", "'..'"),
        (" from env:A-B", "A-B", "not the name of a variable"),
        (" from env:$A", "$A", "not the name of a variable"),
        (" from command:./x", "./x", "neither a program's name nor its whole path"),
        (" from command:bin/x", "bin/x", "neither a program's name nor its whole path"),
        (" from command:'' x", "''", "neither a program's name nor its whole path"),
        (" from command:/a/../x", "/a/../x", "'..'"),
        (" from command:gh auth token | head", "| head", "no shell reads this"),
        (" from command:gh auth $X", "$X", "no shell reads this"),
        (" from command:cat `x`", "`x`", "no shell reads this"),
        (" from command:x 'y z", "'y z", "does not end"),
        (" from command:x \"y 'z'", "\"y 'z'", "does not end"),
        (" from keyring:ann", "ann", "does not name a service and a user"),
        (" from keyring:/ann", "/ann", "does not name a service and a user"),
        (" from keyring:x.org/", "x.org/", "does not name a service and a user"),
    ],
)
def test_a_mistake_is_shown_where_it_is(text: str, caret: str, says: str) -> None:
    whole = f"TOKEN x.org{text}"
    with pytest.raises(PolicyError) as caught:
        credentials.parse(whole)
    assert says in str(caught.value) + caught.value.hint
    if caret:
        assert whole[caught.value.column - 1 :].startswith(caret), caught.value
        shown, under = str(caught.value).split("\n")[1:3]
        assert shown[under.index("^") :].startswith(caret.replace("\t", " ")), caught.value


def test_a_mistake_in_a_file_is_shown_in_its_line() -> None:
    text = '[network]\ncredentials = ["TOKEN x.org from command:gh | head"]\n'
    with pytest.raises(PolicyError) as caught:
        parse.parse(text, layer="user", file="policy.toml")
    error = caught.value
    assert (error.file, error.line, error.text[error.column - 1 :]) == ("policy.toml", 2, '| head"]')


@pytest.mark.parametrize("source", ["", " from file:~/x", " from command:gh auth token", " from keyring:x.org/ann", " from env:OTHER"])
def test_a_projects_file_names_none(source: str) -> None:
    text = f'[network]\ncredentials = ["TOKEN x.org{source}"]\n'
    assert parse.parse(text, layer="user", file="x").rules
    with pytest.raises(PolicyError, match="project's file can't say where your credentials go"):
        parse.parse(text, layer="project", file="x")


def policy_of(*layers: tuple[str, str], trusted: bool = False) -> Policy:
    texts = {"user": "", "project": "", **dict(layers)}
    documents = [parse.parse(text, layer=layer, file=layer) for layer, text in texts.items() if layer in ("user", "project") and text]
    work = parse.parse(texts.get("work", ""), layer="user", file="work")
    presets = {"workspace": Stratum("workspace")}
    return merge(presets["workspace"], documents, profiles={"work": work}, trusted=trusted, name="project", presets=presets)


def test_a_profile_that_only_a_project_asks_for_runs_nothing() -> None:
    work = ("work", '[network]\ncredentials = ["TOKEN x.org from command:gh auth token"]\n')
    for asked, layer, trusted in ((0, "project", False), (1, "project", True), (1, "user", False)):
        policy = policy_of((layer, 'extends = "work"\n'), work, trusted=trusted)
        assert any(stratum.under(credentials.KEY) for stratum in policy.strata)
        assert len(credentials.credentials(policy)) == asked, (layer, trusted)


def test_a_later_layer_says_where_the_same_one_comes_from() -> None:
    user = Document("user", "user", rules=(Rule(credentials.KEY, "TOKEN x.org from file:~/x", Origin("user", "user")),))
    rules = [Rule(credentials.KEY, text, Origin("session", "x")) for text in ("TOKEN x.org from env:A", "TOKEN y.org")]
    policy = merge(Stratum("workspace"), [user, Document("session", "x", rules=tuple(rules))], profiles={}, trusted=False, name="x")
    found = [(str(each.where), str(each.source)) for each, _ in credentials.credentials(policy)]
    assert found == [("x.org:443", "env:A"), ("y.org:443", "env:TOKEN")]
    assert "file:" not in export.as_toml(policy)


def test_what_no_command_gets_as_it_is() -> None:
    rules = [
        Rule(credentials.KEY, text, Origin("user", "x")) for text in ("A x.org", "B x.org from env:C", "D x.org from command:gh auth token")
    ]
    assert set(credentials.variables(Policy("x", (Stratum("x", tuple(rules)),)))) == {"A", "B", "C", "D"}
