from __future__ import annotations

import pytest
from policy_strategies import PLACES

from houseroom.errors import PolicyError
from houseroom.policy.decide import PlacedPolicy
from houseroom.policy.examples import check_examples
from houseroom.policy.layers import merge
from houseroom.policy.model import Policy
from houseroom.policy.parse import parse
from houseroom.policy.presets import preset


def placed(item: str, key: str = "files.write", layer: str = "user") -> tuple[PlacedPolicy, dict[str, str]]:
    section, _, leaf = key.partition(".")
    text = f"[{section}]\n{leaf} = [{item}]\n"
    policy: Policy = merge(preset("workspace"), (parse(text, layer=layer, file="p.toml"),), profiles={}, trusted=False, name="p")
    return PlacedPolicy(policy, PLACES), {"p.toml": text}


RIGHT = [
    ("files.write", '{ path = "~/notes", allows = ["~/notes/a", "write ~/notes/b", "read /etc/x"], denies = ["/etc/x", "~/.ssh/id"] }'),
    ("files.hide", '{ path = "~/diary", denies = ["~/diary/a", "write ~/diary"], allows = ["read src/a"] }'),
    ("files.protect", '{ path = "**/gen", denies = ["a/gen/x"], allows = ["read a/gen/x", "a/b"] }'),
    ("files.read", '{ path = "~/x", allows = ["~/x", "run /usr/bin/cc"], denies = ["write ~/x"] }'),
    ("environment.pass", '{ name = "HF_*", allows = ["HF_TOKEN"], denies = ["GH_TOKEN"] }'),
    ("environment.withhold", '{ name = "MINE", denies = ["MINE"], allows = ["PATH"] }'),
]


@pytest.mark.parametrize(("key", "item"), RIGHT)
def test_right_examples_pass(key: str, item: str) -> None:
    check_examples(*placed(item, key))


@pytest.mark.parametrize(("key", "item"), RIGHT)
def test_the_same_examples_turned_round_fail(key: str, item: str) -> None:
    turned = item.replace("allows", "?").replace("denies", "allows").replace("?", "denies")
    with pytest.raises(PolicyError) as caught:
        check_examples(*placed(turned, key))
    assert (caught.value.file, caught.value.line) == ("p.toml", 2)
    assert caught.value.text


def test_the_message_says_which_rule_decided() -> None:
    with pytest.raises(PolicyError) as caught:
        check_examples(*placed('{ path = "~/.ssh/x", allows = ["~/.ssh/id"] }'))
    assert caught.value.message.startswith("the example '~/.ssh/id' should be allowed and is denied by files.hide ~/.ssh")


@pytest.mark.parametrize("example", ["**/x", "read a/*", "../x", "read {nowhere}/x"])
def test_an_example_must_be_one_path(example: str) -> None:
    with pytest.raises(PolicyError, match="can't be checked"):
        check_examples(*placed(f'{{ path = "src", allows = ["{example}"] }}'))


def test_an_example_is_about_what_its_author_says() -> None:
    """What an untrusted project narrows does not make the user's example wrong."""
    user = parse('[files]\nwrite = [{ path = "~/notes", allows = ["~/notes/a"] }]', layer="user", file="u")
    project = parse("[files]\nwrite = []", layer="project", file="p")
    check_examples(PlacedPolicy(merge(preset("workspace"), (user, project), profiles={}, trusted=False, name="p"), PLACES))
