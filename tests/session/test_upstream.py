"""The host's own proxy: what its variables mean, for which hosts, and who may have it used."""

from __future__ import annotations

import base64
import sys

import pytest

if sys.platform != "linux":
    pytest.skip("the egress proxy is Linux's", allow_module_level=True)

from houseroom.errors import PolicyError, SetupFailed
from houseroom.policy import hosts
from houseroom.policy.connect import forbids_upstream, takes_upstream
from houseroom.policy.model import Origin, Policy, Setting, Stratum
from houseroom.policy.parse import parse
from houseroom.session import upstream
from houseroom.session.proxy.upstream import Upstream

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "host", "port", "user"),
    [
        ("http://proxy.corp.example:3128", "proxy.corp.example", 3128, ""),
        ("proxy.corp.example:3128/", "proxy.corp.example", 3128, ""),
        ("HTTP://Proxy.Corp.Example", "proxy.corp.example", 80, ""),
        ("http://me:hunter2@10.0.0.1:8080/x", "10.0.0.1", 8080, "me:hunter2"),
        ("http://me%40corp:p%3Aw%2f@[fd00::1]:8080", "fd00::1", 8080, "me@corp:p:w/"),
        ("http://only@proxy", "proxy", 80, "only:"),
    ],
)
def test_a_variable_names_a_proxy(url: str, host: str, port: int, user: str) -> None:
    found = upstream.read("https_proxy", url)
    assert (str(found.host), found.port) == (host, port)
    assert found.authorization == (b"Basic " + base64.b64encode(user.encode()) if user else b"")


@pytest.mark.parametrize(
    "url",
    ["https://me:hunter2@proxy:1", "socks5://me:hunter2@proxy:1", "http://me:hunter2@proxy:0", "http://me:hunter2@proxy:port",
     "http://me:hunter2@proxy:99999", "http://me:hunter2@a b:1", "http://me:hunter2%zz@proxy:1", "http://me:hunter2@:1",
     "http://me:hunter2@proxy\r\n:1", "http://me:hunter2@proxy:"],
)  # fmt: skip
def test_what_names_none_is_refused_without_its_password(url: str) -> None:
    environ = {b"https_proxy": url.encode()}
    with pytest.raises(SetupFailed) as refused:
        upstream.given(environ, used=True)
    assert "https_proxy" in str(refused.value) and SECRET not in str(refused.value) and "proxy:" not in str(refused.value.strerror)
    assert upstream.given(environ, used=False) == {"https_proxy": url}, "what is not used is no matter of ours"


def test_lower_case_wins_and_no_other_variable_is_taken() -> None:
    environ = {b"HTTP_PROXY": b"http://upper:1", b"http_proxy": b"http://lower:1", b"NO_PROXY": b"x.org", b"HOME": b"/", b"all_proxy": b""}
    assert upstream.given(environ, used=True) == {"http_proxy": "http://lower:1", "no_proxy": "x.org"}


ALL = {"http_proxy": "http://a:1", "https_proxy": "http://b:1", "all_proxy": "http://c:1"}


@pytest.mark.parametrize(
    ("variables", "host", "port", "variable"),
    [
        (ALL, "x.org", 80, "http_proxy"),
        (ALL, "x.org", 443, "https_proxy"),
        (ALL, "x.org", 22, "https_proxy"),
        ({"all_proxy": "http://c:1"}, "x.org", 80, "all_proxy"),
        ({"http_proxy": "http://a:1"}, "x.org", 443, ""),
        ({"http_proxy": "http://a:1"}, "x.org", 0, "http_proxy"),
        ({}, "x.org", 80, ""),
        (ALL, "localhost", 80, ""),
        (ALL, "deep.localhost", 80, ""),
        (ALL, "127.0.0.9", 80, ""),
        (ALL, "::1", 80, ""),
        (ALL, "::ffff:127.0.0.1", 80, ""),
        (ALL, "10.0.0.1", 80, "http_proxy"),
    ],
)
def test_which_proxy_a_connection_takes(variables: dict[str, str], host: str, port: int, variable: str) -> None:
    assert Upstream(variables, used=True).of(hosts.host(host), port) == variable


@pytest.mark.parametrize(
    ("words", "direct", "proxied"),
    [
        ("*", ["x.org", "10.0.0.1"], []),
        ("corp.example, other.org", ["corp.example", "a.b.corp.example", "other.org"], ["xcorp.example", "example", "corp.example.org"]),
        (".corp.example", ["corp.example", "a.corp.example"], ["xcorp.example"]),
        ("*.corp.example CORP2.example", ["a.corp.example", "corp2.example"], ["x.org"]),
        (
            "10.0.0.0/8,192.168.1.1,fd00::/8,[2001:db8::1]",
            ["10.1.2.3", "192.168.1.1", "fd00::5", "2001:db8::1"],
            ["11.0.0.1", "192.168.1.2"],
        ),
        ("corp.example:80", ["corp.example"], ["x.org"]),
        ("corp.example:443", [], ["corp.example"]),
        ("/8,:,::::,10.0.0.0/99,:80", [], ["x.org", "10.0.0.1"]),
    ],
)
def test_what_no_proxy_lists_is_reached_directly(words: str, direct: list[str], proxied: list[str]) -> None:
    found = Upstream({**ALL, "no_proxy": words}, used=True)
    assert [host for host in direct if found.of(hosts.host(host), 80)] == []
    assert [host for host in proxied if not found.of(hosts.host(host), 80)] == []


def policy(*said: tuple[str, str]) -> Policy:
    """Of strata with these names, each with what it says of the proxy, "" for nothing."""
    where = Origin("session", "a test")
    return Policy("x", tuple(Stratum(name, (), {"network.upstream": Setting(value, where)} if value else {}) for name, value in said))


@pytest.mark.parametrize(
    ("said", "used", "forbidden_above"),
    [
        ([("workspace", "")], False, False),
        ([("workspace", "host")], True, False),
        ([("workspace", "none")], False, False),
        ([("workspace", ""), ("organisation", "host")], True, False),
        ([("workspace", "host"), ("organisation", "none")], False, True),
        ([("workspace", "none"), ("organisation", "host")], False, False),
        ([("workspace", ""), ("project", "host")], False, False),
        ([("workspace", "host"), ("project", "none")], False, True),
        ([("project", "host"), ("project", "")], True, False),  # a profile of that name: the first voice is the user's
    ],
)
def test_who_may_have_it_used(said: list[tuple[str, str]], used: bool, forbidden_above: bool) -> None:
    assert takes_upstream(policy(*said)) is used
    assert forbids_upstream(policy(*said), above=True) is forbidden_above


def test_a_projects_file_may_not_say_it() -> None:
    text = '[network]\nupstream = "host"\n'
    for layer in ("user", "organisation"):
        assert parse(text, layer=layer, file="policy.toml").settings["network.upstream"].value == "host"
    with pytest.raises(PolicyError, match="a project can't have the host's proxy used"):
        parse(text, layer="project", file="policy.toml")
    assert parse(text.replace("host", "none"), layer="project", file="policy.toml").settings["network.upstream"].value == "none"
