"""From observations to denials: the rule, what would grant it, what belongs together, and what is nobody's doing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from houseroom.policy import denials
from houseroom.policy.decide import Allow, PlacedPolicy, Write, decide
from houseroom.policy.denials import CREATE_FIRST, NO_NEW_REPOSITORY, TOO_MUCH, Denial, Ground, explain, fold, is_broad, unit
from houseroom.policy.model import Origin, Places, Policy, Rule, Setting, Stratum
from houseroom.policy.observation import KINDS, Observation, Observed
from houseroom.policy.pattern import components, join
from houseroom.policy.presets import preset

HOME, WORK = "/home/me", "/home/me/work"
PLACES = Places(WORK, HOME)
EROFS, EACCES, ENETUNREACH, ECONNREFUSED = 30, 13, 101, 111
PLACED = PlacedPolicy(Policy("workspace", (preset("workspace"),)), PLACES)
DIRECTORIES = (
    "/", "/etc", "/etc/app", "/home", HOME, WORK, f"{WORK}/.git", f"{HOME}/.config", f"{HOME}/.config/tool",
    f"{HOME}/lib", f"{HOME}/lib/src", f"{HOME}/lib/out",
)  # fmt: skip
GROUND = Ground(
    frozenset(DIRECTORIES),
    frozenset({"/etc/hosts", f"{HOME}/.ssh/id", f"{HOME}/.bashrc", f"{HOME}/lib/Makefile", "/run/docker.sock"}),
    frozenset({f"{HOME}/lib", WORK}),
)


def refused(kind: str, path: str, errno: int = EROFS, **more: object) -> Observation:
    return Observation(kind, path, errno, **more)  # type: ignore[arg-type]


def told(*seen: Observation, placed: PlacedPolicy = PLACED, ground: Ground = GROUND) -> tuple[Denial, ...]:
    return explain(placed, Observed(seen), ground)


def one(*seen: Observation, placed: PlacedPolicy = PLACED, ground: Ground = GROUND) -> Denial:
    (denial,) = told(*seen, placed=placed, ground=ground)
    return denial


GRANTS = {
    "a file that exists": (refused("create", "/etc/hosts"), ("--write", "/etc/hosts")),
    "a file that is to be made": (refused("create", f"{HOME}/.config/tool/new"), ("--write", f"{HOME}/.config/tool")),
    "a name that is to go": (refused("remove", f"{HOME}/lib/Makefile"), ("--write", f"{HOME}/lib")),
    "a directory that is changed": (refused("write", f"{HOME}/lib"), ("--write", f"{HOME}/lib")),
    "the repository": (refused("create", f"{WORK}/.git/index.lock"), ("--git", "free")),
    "a hidden file": (refused("read", f"{HOME}/.ssh/id", EACCES), ("--read", f"{HOME}/.ssh/id")),
    "a protected file": (refused("write", f"{HOME}/.bashrc"), ("--write", f"{HOME}/.bashrc")),
    "an address": (refused("connect", "192.0.2.1:443", ENETUNREACH), ("--net", "open")),
    "a name server": (refused("connect", "127.0.0.53:53", ECONNREFUSED), ("--net", "open")),
}
OBSTACLES = {
    "below what belongs to many": (refused("create", f"{HOME}/.tool"), CREATE_FIRST),
    "out of what belongs to many": (refused("remove", "/etc/hosts"), TOO_MUCH),
    "a repository": (refused("create", f"{WORK}/new/.git"), NO_NEW_REPOSITORY),
    "init's own refusal": (refused("create", f"{WORK}/x/objects", words="this would make a git repository"), "no option allows it"),
}


@pytest.mark.parametrize("name", GRANTS)
def test_what_would_grant_it(name: str) -> None:
    seen, grant = GRANTS[name]
    denial = one(seen)
    assert denial.grant == grant
    assert denial.obstacle == ""
    assert denial.rule
    assert denial.origin == "built in"


@pytest.mark.parametrize("name", OBSTACLES)
def test_why_nothing_would(name: str) -> None:
    seen, obstacle = OBSTACLES[name]
    denial = one(seen)
    assert (denial.grant, denial.obstacle) == ((), obstacle)


def test_a_grant_that_is_told_grants() -> None:
    """Deciding again with it added: all that the denial holds is allowed then."""
    for seen, grant in GRANTS.values():
        if grant[0] != "--write":
            continue
        rule = Rule("files.write", grant[1], Origin("session", "command line"))
        stratum = preset("workspace")
        after = PlacedPolicy(Policy("workspace", (stratum.with_(rules=(*stratum.rules, rule)),)), PLACES)
        assert isinstance(decide(after, Write(seen.path)), Allow), seen


def test_another_layer_is_named_where_it_forbids_it() -> None:
    organisation = Stratum(
        "organisation",
        (Rule("files.protect", "/etc", Origin("organisation", "/etc/houseroom/policy.toml", 3, 1), "machines are ours"),),
        {"network.reach": Setting("none", Origin("organisation", "/etc/houseroom/policy.toml", 9, 1))},
    )
    placed = PlacedPolicy(Policy("workspace", (preset("workspace"), organisation)), PLACES)
    denial = one(refused("create", "/etc/hosts"), placed=placed)
    assert denial.grant == ()
    assert "/etc/houseroom/policy.toml:3" in denial.obstacle
    assert "only who wrote it" in denial.obstacle
    assert "/etc/houseroom/policy.toml:9" in one(refused("connect", "192.0.2.1:1", ENETUNREACH), placed=placed).obstacle


@pytest.mark.parametrize(
    "seen",
    [
        refused("write", f"{WORK}/readonly", EACCES),  # its own mode
        refused("create", "/tmp/x", EACCES),
        Observation("write", "/etc/hosts"),  # not refused at all
        refused("connect", "/run/nobody.sock", EACCES),  # nobody listens outside either
    ],
)
def test_what_is_not_the_policys_doing_is_not_told(seen: Observation) -> None:
    assert told(seen) == ()


def test_what_the_caller_may_not_do_outside_is_not_told() -> None:
    seen = refused("create", "/etc/hosts")
    assert told(seen, ground=GROUND.with_(refused=frozenset({("create", "/etc/hosts")}))) == ()


def test_an_open_network_that_is_out_of_reach_is_the_hosts() -> None:
    assert told(refused("connect", "192.0.2.1:443", ENETUNREACH), placed=PlacedPolicy(Policy("f", (preset("full-access"),)), PLACES)) == ()


def test_a_socket_of_the_host_is_told_where_somebody_listens() -> None:
    denial = one(refused("connect", "/run/docker.sock", EACCES))
    assert (denial.path, denial.grant) == ("/run/docker.sock", ("--socket", "/run/docker.sock", "--accept", "sockets"))
    assert not denial.obstacle


def test_an_abstract_socket_is_let_through_by_nothing() -> None:
    denial = one(refused("connect", "@/tmp/.X11-unix/X0", EACCES).with_(words="an abstract socket of the host"))
    assert (denial.grant, denial.obstacle.partition(" ")[0]) == ((), "an")


# Together and in which order


def test_what_belongs_together_is_told_together() -> None:
    denial = one(*(refused("create", f"{HOME}/lib/out/{n}.o", program="ld", count=2) for n in range(9)))
    assert (denial.path, len(denial.paths), denial.programs, denial.count) == (f"{HOME}/lib/out", 9, ("ld",), 18)
    assert denial.grant == ("--write", f"{HOME}/lib/out")
    names = [denial.path for denial in told(*(refused("create", f"{HOME}/lib/{name}") for name in ("out/a", "out/b", "src/c")))]
    assert sorted(names) == [f"{HOME}/lib/out", f"{HOME}/lib/src/c"], "the directories themselves, not what is above them"
    assert one(refused("write", f"{WORK}/.git/config"), refused("create", f"{WORK}/.git/HEAD.lock")).path == f"{WORK}/.git"
    addresses = one(*(refused("connect", f"192.0.2.{n}:443", ENETUNREACH) for n in range(5)))
    assert (addresses.path, len(addresses.paths)) == ("5 addresses", 5)


def test_the_latest_is_first_and_noise_is_last() -> None:
    found = told(
        refused("create", "/usr/lib/x/__pycache__/a.pyc.1", last=9),
        refused("create", f"{WORK}/.git/index.lock", last=8),
        refused("create", "/etc/hosts", last=3),
        refused("create", f"{HOME}/.config/tool/x", last=5),
    )
    assert [(denial.path, denial.noise) for denial in found] == [
        (f"{HOME}/.config/tool/x", 0),
        ("/etc/hosts", 0),
        (f"{WORK}/.git/index.lock", 1),
        ("/usr/lib/x/__pycache__/a.pyc.1", 2),
    ]


def test_noise_has_reasons() -> None:
    assert all(reason and weight in (1, 2) for _, weight, reason in denials.NOISE)


@pytest.mark.parametrize(
    "path", ["/", "/home", HOME, "/etc", "/usr", "/usr/lib", "/var/lib", f"{HOME}/.config", f"{HOME}/.local/share", "/home/you"]
)
def test_what_belongs_to_many_is_broad(path: str) -> None:
    assert is_broad(path, HOME)


@pytest.mark.parametrize("path", ["/etc/hosts", "/var/lib/app", "/usr/lib/app", f"{HOME}/lib", f"{HOME}/.config/tool", f"{HOME}/work/x"])
def test_what_belongs_to_one_is_not(path: str) -> None:
    assert not is_broad(path, HOME)


NAMES = st.sampled_from(["a", "b", "c", "etc", "usr", "lib", "home", "me", ".config", "work", "src"])
PATHS = st.lists(NAMES, min_size=1, max_size=6).map(lambda parts: "/" + "/".join(parts))


@given(st.lists(PATHS, min_size=1, max_size=12, unique=True))
def test_folding_loses_nothing_and_never_stands_for_what_belongs_to_many(paths: list[str]) -> None:
    folded = fold(paths, HOME, Ground())
    assert sorted(path for _, members in folded for path in members) == sorted(paths)
    for place, members in folded:
        assert all(components(path)[: len(components(place))] == components(place) for path in members)
        assert len(members) == 1 or not is_broad(place, HOME)
        assert len({unit(path, HOME, Ground()) for path in members}) == 1


@given(st.lists(st.tuples(st.sampled_from(KINDS), PATHS | st.text(max_size=12), st.integers(0, 200), st.text(max_size=4)), max_size=12))
def test_nothing_that_init_says_brings_it_down(raw: list[tuple[str, str, int, str]]) -> None:
    seen = [Observation(kind, path, errno, words) for kind, path, errno, words in raw]
    directories = frozenset(join(components(one.path)[:depth]) for one in seen for depth in range(4))
    for denial in explain(PLACED, Observed(tuple(seen)), Ground(directories)):
        assert denial.paths
        assert denial.grant or denial.obstacle
        if denial.grant[:1] == ("--write",):
            assert not is_broad(denial.grant[1], HOME) or denial.grant[1] in denial.paths
