from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_strategies import PATHS, PLACES, rules

from houseroom.errors import CannotEnforce, PolicyError
from houseroom.policy import pattern
from houseroom.policy.decide import Allow, PlacedPolicy, Read, Write, decide
from houseroom.policy.layers import Document, merge, refuse_unenforced, unenforced
from houseroom.policy.model import RANK, Origin, Policy, Rule, Setting, Stratum
from houseroom.policy.parse import parse

BUILT_IN = Origin("preset", "built in")


def preset(name: str, write: list[str], reach: str = "none") -> Stratum:
    lists = {"files.read": ["/"], "files.write": write, "files.hide": ["~/.ssh"], "floor.require": ["files.write"]}
    written = tuple(Rule(key, subject, BUILT_IN) for key, subjects in lists.items() for subject in subjects)
    settings = {"network.reach": Setting(reach, BUILT_IN), "git.mode": Setting("read-only", BUILT_IN)}
    return Stratum(name, written, settings, frozenset({"files.read", "files.write"}))


PRESETS = {
    "read-only": preset("read-only", []),
    "workspace": preset("workspace", ["{workspace}"]),
    "full-access": preset("full-access", ["/"], "open"),
}


def doc(layer: str, text: str, file: str = "") -> Document:
    return parse(text, layer=layer, file=file or f"{layer}.toml")


def merged(
    *documents: Document, trusted: bool = False, profiles: dict[str, str] | None = None, theirs: dict[str, str] | None = None
) -> Policy:
    return merge(
        PRESETS["workspace"],
        documents,
        profiles={name: doc("user", text, f"{name}.toml") for name, text in (profiles or {}).items()},
        organisation_profiles={name: doc("organisation", text, f"org-{name}.toml") for name, text in (theirs or {}).items()},
        trusted=trusted,
        name="test",
        presets=PRESETS,
    )


def can(policy: Policy, path: str) -> str:
    placed = PlacedPolicy(policy, PLACES)
    full = path if path.startswith("/") else f"/home/u/ws/{path}"
    read, write = (isinstance(decide(placed, act(full)), Allow) for act in (Read, Write))
    return "r" * read + "w" * write


def test_without_documents_it_is_the_preset() -> None:
    policy = merged()
    assert [can(policy, path) for path in ("a", "/etc/x", "/home/u/.ssh/x")] == ["rw", "r", ""]
    assert [rule.subject for rule in policy.floor] == ["files.write"]
    assert len(policy.strata) == 1
    assert not policy.strata[0].under("floor.require")


def test_the_users_file_adds_to_the_preset() -> None:
    policy = merged(doc("user", '[files]\nwrite = ["~/notes"]\nhide = ["~/diary"]\nread = ["~/.ssh"]'))
    shown = [can(policy, path) for path in ("a", "/home/u/notes/x", "/home/u/diary", "/home/u/.ssh/x", "/etc/x")]
    assert shown == ["rw", "rw", "", "r", "r"]


def test_an_empty_write_list_takes_back_what_was_granted() -> None:
    assert can(merged(), "a") == "rw"
    assert can(merged(doc("user", "[files]\nwrite = []")), "a") == "r"


def test_an_empty_hide_list_uncovers_nothing() -> None:
    assert can(merged(doc("user", "[files]\nhide = []\nprotect = []")), "/home/u/.ssh/x") == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[files]\nwrite = ["src"]', {"src/a": "rw", "docs": "r", "/etc/x": "r", "/home/u/.ssh/x": ""}),
        ('[files]\nwrite = ["/"]', {"src/a": "rw", "/etc/x": "r", "/home/u/.ssh/x": ""}),
        ('[files]\nread = ["."]', {"src/a": "rw", "/etc/x": "", "/home/u/.ssh/x": ""}),
        ('[files]\nread = ["~/.ssh"]', {"src/a": "", "/home/u/.ssh/x": ""}),
        ('[files]\nhide = ["/secret"]', {"src/a": "rw", "/secret": "", "/etc/x": "r"}),
        ('[files]\nprotect = ["**/gen"]', {"src/gen/x": "r", "src/a": "rw"}),
        ('extends = "read-only"', {"src/a": "r", "/etc/x": "r"}),
        ('extends = "full-access"', {"src/a": "rw", "/etc/x": "r", "/home/u/.ssh/x": ""}),
        ("", {"src/a": "rw", "/etc/x": "r"}),
    ],
)
def test_an_untrusted_project_only_narrows(text: str, expected: dict[str, str]) -> None:
    policy = merged(doc("project", text))
    assert {path: can(policy, path) for path in expected} == expected


def test_a_trusted_project_refines() -> None:
    project = doc("project", '[files]\nwrite = ["~/shared"]\n[network]\nreach = "open"')
    for trusted, expected, reach in ((True, "rw", "open"), (False, "r", "none")):
        policy = merged(project, trusted=trusted)
        assert can(policy, "/home/u/shared/x") == expected
        setting = policy.setting("network.reach")
        assert setting is not None
        assert setting.value == reach


def test_an_organisation_can_not_be_widened() -> None:
    organisation = doc("organisation", '[files]\nhide = ["/secret"]\n[limits]\ntime = "10m"\n[network]\nreach = "none"')
    wide = doc("session", 'extends = "full-access"\n[files]\nwrite = ["/secret"]\n[limits]\ntime = "8h"\n[network]\nreach = "open"')
    assert can(merged(wide), "/secret/x") == "rw"
    policy = merged(organisation, wide)
    assert [can(policy, path) for path in ("/secret/x", "/etc/x")] == ["", "rw"]
    assert [policy.setting(key).value for key in ("limits.time", "network.reach")] == [600.0, "none"]  # type: ignore[union-attr]


def test_an_organisation_that_extends_a_preset_has_its_opinions() -> None:
    policy = merged(doc("organisation", 'extends = "workspace"'), doc("user", 'extends = "full-access"\n[files]\nread = ["~/.ssh"]'))
    assert [can(policy, path) for path in ("a", "/etc/x", "/home/u/.ssh/x")] == ["rw", "r", ""]


def test_an_organisation_extends_its_own_profiles_only() -> None:
    organisation = doc("organisation", 'extends = "corp"')
    mine, theirs = {"corp": 'extends = "full-access"'}, {"corp": 'extends = "read-only"'}
    assert can(merged(organisation, profiles=mine, theirs=theirs), "a") == "r"
    with pytest.raises(PolicyError, match="no preset or profile 'corp'"):
        merged(organisation, profiles=mine)


def test_profiles_extend_one_another() -> None:
    profiles = {"web": 'extends = "base"\n[files]\nwrite = ["~/web"]', "base": 'extends = "read-only"\n[files]\nhide = ["~/web/key"]'}
    policy = merged(doc("user", 'extends = "web"'), profiles=profiles)
    assert [can(policy, path) for path in ("a", "/home/u/web/x", "/home/u/web/key")] == ["r", "rw", ""]


def test_in_a_chain_the_later_document_wins_on_the_same_path() -> None:
    profiles = {"base": 'extends = "workspace"\n[files]\nhide = ["~/web/"]'}
    policy = merged(doc("user", 'extends = "base"\n[files]\nread = ["{home}/web"]'), profiles=profiles)
    assert can(policy, "/home/u/web") == "r"


def test_a_profile_without_a_preset_starts_from_nothing() -> None:
    policy = merged(doc("session", 'extends = "tiny"'), profiles={"tiny": '[files]\nread = ["/usr"]'})
    assert [can(policy, path) for path in ("a", "/usr/bin", "/etc/x")] == ["", "r", ""]


def test_a_profile_chosen_for_a_run_stands_in_for_what_the_users_file_grants() -> None:
    user = doc("user", '[files]\nwrite = ["~/notes"]\nhide = ["~/diary"]\n[limits]\ntime = "10m"\n[network]\nreach = "open"')
    assert can(merged(user), "/home/u/notes/x") == "rw"
    policy = merged(user, doc("session", 'extends = "read-only"'))
    assert [can(policy, path) for path in ("a", "/home/u/notes/x", "/home/u/diary")] == ["r", "r", ""]
    assert [policy.setting(key).value for key in ("limits.time", "network.reach")] == [600.0, "none"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("profiles", "user", "message", "hint"),
    [
        ({"a": 'extends = "b"', "b": 'extends = "a"'}, 'extends = "a"', "a → b → a", ""),
        ({"a": 'extends = "a"'}, 'extends = "a"', "a → a", ""),
        ({}, '# mine\nextends = "worskpace"', "no preset or profile 'worskpace'", 'Did you mean "workspace"?'),
        ({}, '# mine\nextends = "zzz"', "no preset or profile 'zzz'", "There are full-access, read-only, workspace."),
    ],
)
def test_extends_that_leads_nowhere(profiles: dict[str, str], user: str, message: str, hint: str) -> None:
    with pytest.raises(PolicyError) as caught:
        merged(doc("user", user), profiles=profiles)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.line == (2 if hint else 1)
    assert "extends" in caught.value.text


def test_the_floor_is_the_union_of_all() -> None:
    texts = {layer: f'[floor]\nrequire = ["{rule}", "files.write"]' for layer, rule in (("user", "network"), ("project", "limits"))}
    policy = merged(*(doc(layer, text) for layer, text in texts.items()), doc("organisation", '[floor]\nrequire = ["files.hide"]'))
    assert sorted(rule.subject for rule in policy.floor) == ["files.hide", "files.write", "limits", "network"]


def test_later_settings_override_within_a_voice() -> None:
    policy = merged(doc("user", '[limits]\ntime = "10m"'), doc("session", '[limits]\ntime = "8h"'))
    setting = policy.setting("limits.time")
    assert setting is not None
    assert (setting.value, setting.origin.layer) == (28800.0, "session")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('[network]\nreach = "listed"\nallow = ["pypi.org"]', ()),
        ('[network]\nreach = "listed"\nallow = ["GET example.org/v1/**"]', ()),
        ('[network]\nreach = "open"\ndeny = ["DELETE example.org"]', ("network.deny",)),
        ('[network]\ndeny = ["x.org"]\npublish = [80]\nsockets = ["/run/x"]', ("network.deny",)),
        ('[network]\nallow = []\nreach = "open"', ()),
        ('[git]\nmode = "guarded"', ("git.mode",)),
        ('[git]\nmode = "free"', ()),
        ('[limits]\nmemory = "1G"\noutput = "1M"\ntime = "1m"', ()),
    ],
)
def test_what_nothing_enforces_is_refused_by_name(text: str, names: tuple[str, ...]) -> None:
    # Both lines open what the preset closes, so that the setting is the effective one.
    policy = merged(doc("session", 'extends = "full-access"\n' + text))
    assert len(unenforced(policy)) == len(names)
    refuse_unenforced(policy, frozenset(names))
    if names:
        with pytest.raises(CannotEnforce) as caught:
            refuse_unenforced(policy, frozenset())
        assert caught.value.missing == names
        assert all(f"--accept {name}" in caught.value.hint for name in names)


def test_accepting_one_name_accepts_no_other() -> None:
    policy = merged(doc("session", 'extends = "full-access"\n[network]\ndeny = ["x.org"]\n[git]\nmode = "guarded"'))
    with pytest.raises(CannotEnforce) as caught:
        refuse_unenforced(policy, frozenset({"network.deny"}))
    assert caught.value.missing == ("git.mode",)


KEYS = ["files.hide", "files.protect", "files.private", "files.scratch", "files.write", "files.read"]


@st.composite
def generated(draw: st.DrawFn, layer: str) -> Document:
    written = tuple(draw(rules([layer])))
    closed = frozenset(rule.key for rule in written) | frozenset(draw(st.lists(st.sampled_from(KEYS), max_size=2)))
    extends = draw(st.sampled_from([None, *PRESETS]))
    reach = draw(st.sampled_from([None, "none", "open"]))
    origin = Origin(layer, layer, 1, 1)
    settings = {"network.reach": Setting(reach, origin)} if reach else {}
    return Document(layer, layer, extends, origin, written, settings, closed)


@given(generated("user"), generated("project"), generated("organisation"), PATHS)
def test_a_narrowing_layer_never_widens(user: Document, project: Document, organisation: Document, path: str) -> None:
    parts = pattern.components(path)

    def rank(policy: Policy) -> int:
        return RANK[PlacedPolicy(policy, PLACES).access(parts)[0]]

    def reach(policy: Policy) -> object:
        setting = policy.setting("network.reach")
        return setting.value if setting else None

    plain, with_project = merged(user), merged(user, project)
    whole = merged(organisation, user, project)
    assert rank(whole) <= rank(with_project) <= rank(plain)
    if reach(plain) == "none":
        assert reach(with_project) == reach(whole) == "none"


@given(generated("user"), PATHS)
def test_an_empty_write_list_never_widens(user: Document, path: str) -> None:
    parts = pattern.components(path)
    before = merged(user)
    after = merged(user, doc("session", "[files]\nwrite = []"))
    assert RANK[PlacedPolicy(after, PLACES).access(parts)[0]] <= RANK[PlacedPolicy(before, PLACES).access(parts)[0]]
