"""What may be reached: strata, lists, resolved addresses, requests, and what would grant a refused one."""

from __future__ import annotations

import pytest

from houseroom.errors import PolicyError
from houseroom.policy import hosts
from houseroom.policy.connect import ANY_PORT, Connect, PlacedNetwork, Reachable, Unreachable, decide, decide_resolved, smallest
from houseroom.policy.decide import PlacedPolicy
from houseroom.policy.examples import check_examples
from houseroom.policy.hosts import Address
from houseroom.policy.layers import merge
from houseroom.policy.model import Origin, Places, Policy, Rule, Setting
from houseroom.policy.parse import parse
from houseroom.policy.presets import preset

OWN = frozenset({hosts.address("1.2.3.4")})


def network(user: str = "", *, organisation: str | None = None, project: str | None = None) -> PlacedNetwork:
    texts = {"user": user, "organisation": organisation, "project": project}
    documents = tuple(parse(f"[network]\n{text}\n", layer=layer, file=f"{layer}.toml") for layer, text in texts.items() if text is not None)
    return PlacedNetwork(merge(preset("workspace"), documents, profiles={}, trusted=False, name="p"), OWN)


def listed(*allow: str, deny: tuple[str, ...] = ()) -> PlacedNetwork:
    return network(f'reach = "listed"\nallow = {list(allow)!r}\ndeny = {list(deny)!r}')


def asked(where: str, port: int = 443, method: str = "", path: str = "") -> Connect:
    return Connect(hosts.host(where), port, method, path)


def reachable(placed: PlacedNetwork, act: Connect, address: str = "") -> bool:
    answer = decide_resolved(placed, act, hosts.address(address)) if address else decide(placed, act)
    assert answer.why.sentence
    return isinstance(answer, Reachable)


@pytest.mark.parametrize(
    "text", ["", "allow = []", 'allow = ["example.org"]', 'reach = "listed"', 'reach = "listed"\nallow = []', 'reach = "none"']
)
def test_nothing_said_means_nothing_granted(text: str) -> None:
    assert not reachable(network(text), asked("example.org"))
    assert not reachable(network(text), asked("8.8.8.8"))
    assert reachable(network('reach = "listed"\nallow = ["example.org"]'), asked("example.org"))  # the twin


def test_a_policy_that_says_nothing_at_all_opens_nothing() -> None:
    assert not reachable(PlacedNetwork(Policy("p", ())), asked("example.org"))
    bare = preset("workspace").with_(settings={})
    assert not reachable(PlacedNetwork(Policy("p", (bare,))), asked("example.org"))
    opened = bare.with_(settings={"network.reach": Setting("open", Origin("user", "u", 1, 1))})
    assert reachable(PlacedNetwork(Policy("p", (opened,))), asked("example.org"))


SAYS = [
    "",
    'reach = "none"',
    'reach = "listed"',
    'reach = "open"',
    "allow = []",
    'allow = ["example.org"]',
    'reach = "open"\nallow = ["example.org"]',
]


@pytest.mark.parametrize("user", SAYS)
@pytest.mark.parametrize("organisation", SAYS)
@pytest.mark.parametrize("project", SAYS)
def test_what_is_built_and_what_is_decided_is_one_reach(user: str, organisation: str, project: str) -> None:
    """An organisation that lists hosts and says no reach leaves nobody the whole network."""
    placed = network(user, organisation=organisation, project=project)
    setting = placed.policy.setting("network.reach")
    assert setting is not None and setting.value == placed.reach
    if "allow" in organisation and "reach" not in organisation:
        assert placed.reach != "open"


def test_what_nobody_says_first_is_not_opened_by_others() -> None:
    bare = preset("workspace").with_(settings={})
    opened = bare.with_(settings={"network.reach": Setting("open", Origin("user", "u", 1, 1))})
    assert Policy("p", (bare, opened)).setting("network.reach") is None
    assert PlacedNetwork(Policy("p", (bare, opened))).reach == "none"
    assert PlacedNetwork(Policy("p", (opened, bare))).reach == "open"  # the twin


def test_open_is_everything_but_what_is_denied() -> None:
    placed = network('reach = "open"\ndeny = ["*.example.org", "10.0.0.0/8", "POST example.com/x/**"]')
    for where in ("example.org", "8.8.8.8", "127.0.0.1", "1.2.3.4"):
        assert reachable(placed, asked(where))
    assert reachable(placed, asked("example.org"), "127.0.0.1")
    for where in ("w.example.org", "10.1.1.1", "::ffff:10.1.1.1", "64:ff9b::a01:101", "2002:a01:101::1"):
        assert not reachable(placed, asked(where))
    assert not reachable(placed, asked("example.net"), "10.1.1.1")
    assert not reachable(placed, asked("example.net"), "64:ff9b::a01:101")
    assert decide(placed, asked("example.com")).inspects  # type: ignore[union-attr]
    assert not reachable(placed, asked("example.com", 443, "POST", "/x/y"))
    assert reachable(placed, asked("example.com", 443, "GET", "/x/y"))


@pytest.mark.parametrize("where", ["example.org", "w.example.org"])
def test_deny_beats_a_more_specific_allow(where: str) -> None:
    assert reachable(listed("example.org", "w.example.org"), asked(where))
    answer = decide(listed("example.org", "w.example.org", deny=("*.example.org", "example.org")), asked(where))
    assert isinstance(answer, Unreachable)
    assert answer.why.rule is not None and answer.why.rule.key == "network.deny"
    assert "user.toml:4" in answer.why.sentence
    assert answer.why.grant == ()  # no option helps against a rule that denies


def test_ports() -> None:
    placed = listed("example.org:443", "db.example.org:5000-5002", "any.example.org")
    assert [port for port in (80, 443, 444) if reachable(placed, asked("example.org", port))] == [443]
    assert [port for port in (4999, 5000, 5002, 5003) if reachable(placed, asked("db.example.org", port))] == [5000, 5002]
    assert reachable(placed, asked("any.example.org", 22))


def test_a_name_may_be_looked_up_where_some_port_of_it_may_be_reached() -> None:
    placed = listed("example.org:443", "GET *.example.com", deny=("example.net", "example.org:22", "POST w.example.com"))
    for where, known in (("example.org", True), ("w.example.com", True), ("example.net", False), ("example.com", False)):
        assert reachable(placed, asked(where, ANY_PORT)) == known
    opened = network('reach = "open"\ndeny = ["example.net", "example.org:22"]')
    assert [where for where in ("example.org", "example.net") if reachable(opened, asked(where, ANY_PORT))] == ["example.org"]
    answer = decide(listed(), asked("example.org", ANY_PORT))
    assert answer.why.grant == ("houseroom", "run", "--allow", "example.org")
    assert str(answer.act) == "example.org" and "allows example.org" in answer.why.sentence


def test_whether_anything_has_to_be_read() -> None:
    assert not listed("example.org:443", "*.example.com", "10.0.0.0/8", deny=("example.net",)).inspected()
    for rule in ("GET example.org", "*.example.org/a", "POST 10.0.0.5"):
        assert [str(each) for each in listed("example.com", rule).inspected()] == [rule]
        assert [str(each) for each in listed(rule, deny=("example.com", rule)).inspected()] == [rule]


NOT_PUBLIC = [
    "127.0.0.1",
    "10.1.2.3",
    "169.254.169.254",
    "fd00:ec2::254",
    "100.100.100.200",
    "168.63.129.16",
    "0.0.0.0",
    "::1",
    "::",
    "::ffff:10.1.2.3",
    "64:ff9b::a01:203",
    "2002:a01:203::",
    "1.2.3.4",
    "::ffff:1.2.3.4",
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_what_is_not_public_is_reached_only_where_a_literal_names_it(address: str) -> None:
    by_name, literal = asked("example.org"), asked(address)
    plain = str(hosts.address(address).reached)
    text = f"[{plain}]:443" if ":" in plain else f"{plain}:443"
    assert not reachable(listed("example.org"), by_name, address)
    assert not reachable(listed("example.org"), literal)
    assert not reachable(listed(text), by_name, address)  # an address lets no name in
    assert reachable(listed(text), literal)
    assert reachable(listed("example.org", text), by_name, address)
    assert not reachable(listed("example.org", text.replace(":443", ":80")), by_name, address)
    assert reachable(listed("example.org"), by_name, "8.8.8.8")  # the twin


def test_a_public_literal_needs_a_rule_of_its_own() -> None:
    assert not reachable(listed("example.org"), asked("8.8.8.8"))
    assert reachable(listed("8.8.8.0/24"), asked("8.8.8.8"))
    assert not reachable(listed("8.8.8.0/24"), asked("8.8.9.8"))


def test_an_address_that_is_denied_is_denied_behind_every_name() -> None:
    assert reachable(listed("example.org"), asked("example.org"), "8.8.8.8")
    assert not reachable(listed("example.org", deny=("8.8.8.0/24",)), asked("example.org"), "8.8.8.8")
    placed = listed("example.org", deny=("POST 8.8.8.8",))
    assert decide_resolved(placed, asked("example.org"), hosts.address("8.8.8.8")).inspects  # type: ignore[union-attr]
    assert not reachable(placed, asked("example.org", 443, "POST", "/"), "8.8.8.8")
    assert reachable(placed, asked("example.org", 443, "GET", "/"), "8.8.8.8")


REQUESTS = [
    (("GET example.org/repos/**",), [("GET", "/repos/a"), ("HEAD", "/repos")], [("POST", "/repos/a"), ("GET", "/x"), ("get", "/repos/a")]),
    (("GET,POST example.org",), [("POST", "/x"), ("GET", "/a//b")], [("PUT", "/x")]),
    (("example.org/a",), [("PUT", "/a"), ("GET", "/a/")], [("GET", "/a/b"), ("GET", "/A"), ("GET", "/")]),
    (("GET example.org/",), [("GET", "/")], [("GET", "/a"), ("POST", "/")]),
    (
        ("example.org/repos/**",),
        [("GET", "/repos/x")],
        [
            ("GET", path)
            for path in (
                "/repos/../x",
                "/repos/%2e%2e/x",
                "/repos//x",
                "/repos/;x",
                "/repos/a%2fb",
                "/repos/a%5cb",
                "/repos/%252e",
                "*",
                "",
            )
        ],
    ),
]


@pytest.mark.parametrize(("rules", "granted", "refused"), REQUESTS)
def test_requests(rules: tuple[str, ...], granted: list[tuple[str, str]], refused: list[tuple[str, str]]) -> None:
    placed = listed(*rules)
    opened = decide(placed, asked("example.org"))
    assert isinstance(opened, Reachable) and opened.inspects
    every = [*granted, *refused]
    assert [(method, path) for method, path in every if reachable(placed, asked("example.org", 443, method, path))] == granted
    assert all(reachable(listed(*rules, "example.org"), asked("example.org", 443, method, path)) for method, path in every)


def test_a_rule_on_paths_that_denies_takes_what_is_unclear_for_itself() -> None:
    placed = listed("example.org", deny=("example.org/admin/**",))
    assert reachable(placed, asked("example.org", 443, "GET", "/a"))
    for path in ("/admin", "/admin/x", "/ADMIN/x", "/%61dmin", "/x/../admin", "//admin", "/admin;x", "/x%2f..%2fadmin", "/a\\admin", "*"):
        assert not reachable(placed, asked("example.org", 443, "GET", path))
    assert decide(placed, asked("example.org")).inspects  # type: ignore[union-attr]
    assert not reachable(listed("example.org", deny=("POST example.org",)), asked("example.org", 443, "post", "/"))
    plain = decide(listed("example.org"), asked("example.org"))
    assert isinstance(plain, Reachable) and not plain.inspects


def test_an_organisation_and_an_untrusted_project_can_only_narrow() -> None:
    user = 'reach = "listed"\nallow = ["example.org", "other.org", "10.0.0.5"]'
    placed = network(user, organisation='reach = "listed"\nallow = ["example.org", "more.org"]\ndeny = ["10.0.0.0/8"]')
    assert [where for where in ("example.org", "other.org", "more.org", "10.0.0.5") if reachable(placed, asked(where))] == ["example.org"]
    assert not reachable(placed, asked("example.org"), "10.0.0.5")
    assert decide(placed, asked("other.org")).why.grant == ()
    assert decide(placed, asked("more.org")).why.grant == ("houseroom", "run", "--allow", "more.org:443")
    wide = network(user, project='reach = "open"\nallow = ["more.org"]')
    assert [where for where in ("example.org", "more.org", "10.0.0.5") if reachable(wide, asked(where))] == ["example.org", "10.0.0.5"]
    only = network('reach = "open"', project='allow = ["example.org"]')  # a list without a reach narrows as well
    assert [where for where in ("example.org", "other.org") if reachable(only, asked(where))] == ["example.org"]
    assert only.reach == "listed"
    denying = network('reach = "open"', project='deny = ["example.org"]')
    assert [where for where in ("example.org", "other.org") if reachable(denying, asked(where))] == ["other.org"]


GRANTS = [
    ("", asked("example.org"), "", ("--allow", "example.org:443")),
    ('reach = "listed"', asked("example.org", 22), "", ("--allow", "example.org:22")),
    ('reach = "listed"', asked("fd00::1"), "", ("--allow", "[fd00::1]:443")),
    ('reach = "listed"', asked("::ffff:10.0.0.5"), "", ("--allow", "10.0.0.5:443")),
    ('reach = "listed"\nallow = ["example.org"]', asked("example.org"), "10.0.0.5", ("--allow", "10.0.0.5:443")),
    ('reach = "listed"', asked("example.org"), "10.0.0.5", ("--allow", "example.org:443", "--allow", "10.0.0.5:443")),
    (
        'reach = "listed"\nallow = ["GET example.org"]',
        asked("example.org", 443, "POST", "/a%20b"),
        "",
        ("--allow", "POST example.org:443/a%20b"),
    ),
    ('reach = "listed"\nallow = ["GET example.org"]', asked("example.org", 443, "POST", "/"), "", ("--allow", "POST example.org:443/")),
]


@pytest.mark.parametrize(("text", "act", "address", "options"), GRANTS)
def test_the_smallest_grant_grants(text: str, act: Connect, address: str, options: tuple[str, ...]) -> None:
    placed = network(text)
    answer = decide_resolved(placed, act, hosts.address(address)) if address else decide(placed, act)
    assert answer.why.grant == ("houseroom", "run", *options)
    first, *others = placed.policy.strata
    said = tuple(
        Rule("network.allow", rule, Origin("session", "--allow")) for flag, rule in zip(options[::2], options[1::2]) if flag == "--allow"
    )
    settings = {**first.settings, "network.reach": Setting("listed", Origin("session", "--net"))}
    granted = PlacedNetwork(Policy("p", (first.with_(rules=(*first.rules, *said), settings=settings), *others)), OWN)
    assert reachable(granted, act, address)
    assert not reachable(granted, act.with_(port=act.port + 1), address)


@pytest.mark.parametrize("path", ["/a*", "/a%2a", "/a%3f", "/a//b", "*"])
def test_what_no_rule_can_name_has_no_grant(path: str) -> None:
    assert smallest(asked("example.org", 443, "GET", path)) == ""
    assert smallest(asked("example.org", 443, "GET", "/a")) == "GET example.org:443/a"


def test_the_decision_names_its_rule() -> None:
    answer = decide(listed("example.org"), asked("example.org"))
    assert answer.why.rule is not None
    assert (str(answer.why.rule), str(answer.why.rule.origin)) == ("network.allow example.org", "user.toml:3")
    assert "network.reach is none (built in)" in decide(network(), asked("example.org")).why.sentence
    assert (
        "leads to 10.0.0.5, which is private (RFC 1918)"
        in decide_resolved(listed("example.org"), asked("example.org"), Address(bytes((10, 0, 0, 5)))).why.sentence
    )
    assert "has a dot segment" in decide(listed("example.org/a/**"), asked("example.org", 443, "GET", "/a/../b")).why.sentence


def test_only_canonical_names_and_the_address_that_was_asked_for() -> None:
    for host in ("Example.org", "example.org.", "127.1", "a b"):
        with pytest.raises(ValueError):  # noqa: PT011
            decide(network('reach = "open"'), Connect(host, 443))
    with pytest.raises(ValueError, match="is not the address"):
        decide_resolved(listed("8.8.8.8"), asked("8.8.8.8"), hosts.address("10.0.0.1"))


def examples(text: str) -> None:
    document = parse(f"[network]\n{text}\n", layer="user", file="p.toml")
    merged = merge(preset("workspace"), (document,), profiles={}, trusted=False, name="p")
    check_examples(PlacedPolicy(merged, Places("/w", "/h")), {"p.toml": f"[network]\n{text}\n"})


RIGHT = [
    'allow = [{ host = "*.example.org", allows = ["w.example.org", "w.example.org:80"], denies = ["example.org", "evilexample.org"] }]',
    'allow = [{ host = "example.org:8080", allows = ["example.org", "example.org/x"], denies = ["example.org:443"] }]',
    'allow = [{ host = "GET example.org/a/**", allows = ["example.org/a/b", "HEAD example.org/a"], denies = ["PUT example.org/a"] }]',
    'allow = [{ host = "[fd00::1]:80", allows = ["fd00::1", "[fd00::1]", "[fd00::1]:80/x"], denies = ["[fd00::1]:81", "fd00::2"] }]',
    'deny = [{ host = "*.example.org", denies = ["w.example.org"], allows = ["example.org", "10.0.0.1"] }]',
]


@pytest.mark.parametrize("text", RIGHT)
def test_examples_of_hosts_are_checked(text: str) -> None:
    examples(text)
    with pytest.raises(PolicyError) as caught:
        examples(text.replace("allows", "?").replace("denies", "allows").replace("?", "denies"))
    assert (caught.value.file, caught.value.line) == ("p.toml", 2)
    assert "should be" in caught.value.message


@pytest.mark.parametrize(
    "example",
    [
        "*.example.org",
        "a b",
        "https://example.org",
        "example.org:x",
        "example.org:80-90",
        "example.org:80-65535",
        "GET,PUT example.org",
        "GET  example.org",
    ],
)
def test_an_example_of_a_host_is_one_destination(example: str) -> None:
    with pytest.raises(PolicyError, match="can't be checked"):
        examples(f'allow = [{{ host = "example.org", allows = ["{example}"] }}]')
