"""Rules on hosts: what they name, and which of their author's mistakes are told."""

from __future__ import annotations

import pytest

from houseroom.errors import PolicyError
from houseroom.policy import destinations, hosts
from houseroom.policy.destinations import parse
from houseroom.policy.parse import parse as parse_policy

SAME = [
    "pypi.org",
    "*.example.org",
    "*.example.org:443",
    "example.org:8000-8080",
    "10.0.0.5",
    "10.0.0.5:80",
    "10.0.0.0/8",
    "10.0.0.0/8:443",
    "fd00::1",
    "[fd00::1]:443",
    "fd00::/8",
    "[fd00::/8]:443",
    "GET example.org",
    "GET,POST example.org:80/a/*/b/**",
    "GET example.org/",
    "example.org/@scope/x",
    "[fd00::1]/x",
    "10.0.0.5:80/8",
    "PUT example.org/a%20b/%C3%BC",
]


@pytest.mark.parametrize("text", SAME)
def test_a_plain_spelling_comes_back(text: str) -> None:
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Example.ORG.", "example.org"),
        ("FD00::1", "fd00::1"),
        ("[fd00::1]", "fd00::1"),
        ("example.org/**", "example.org"),
        ("GET,GET example.org/**", "GET example.org"),
        ("example.org:1-65535", "example.org"),
        ("10.0.0.5/32", "10.0.0.5"),
        ("10.0.0.5/x", "10.0.0.5:1-65535/x"),
    ],
)
def test_other_spellings_have_one_form(text: str, plain: str) -> None:
    assert str(parse(text)) == plain


# What is wrong, at which column, and what the hint has in it.
WRONG = [
    ("", 1, "pypi.org"),
    (" example.org", 1, "pypi.org"),
    ("*", 1, 'reach = "open"'),
    ("0.0.0.0/0", 1, 'reach = "open"'),
    ("::/0", 1, 'reach = "open"'),
    ("https://example.org/", 1, '"example.org"'),
    ("https://me:secret@example.org:8443/a/?q=1#x", 1, '"example.org:8443/a"'),
    ("example.org/", 12, "/**"),
    ("example.org/a/", 14, '"example.org/a"'),
    ("*example.org", 1, "*.example.org"),
    ("a.*.example.org", 3, "*.example.org"),
    ("*.*.example.org", 3, "*.example.org"),
    ("example.*", 9, "pypi.org"),
    ("*.10.0.0.1", 1, "10.0.0.0/8"),
    ("me@example.org", 3, "behind the @"),
    ("example.org?x", 12, "question mark"),
    ("example.org/a#b", 14, "#"),
    ("example.org\\a", 12, "pypi.org"),
    ("example_1.org", 1, "pypi.org"),
    ("bücher.example", 1, "pypi.org"),
    ("example.org:*", 13, "Leave the colon out"),
    ("example.org:0", 13, "1 to 65535"),
    ("example.org:65536", 13, "1 to 65535"),
    ("example.org:080", 13, "1 to 65535"),
    ("example.org:90-80", 13, "8000-8080"),
    ("example.org:http", 13, "8000-8080"),
    ("get example.org", 1, '"GET example.org"'),
    ("GET, example.org", 1, "pypi.org"),
    ("CONNECT example.org", 1, "Leave the method out"),
    ("GET POST example.org", 9, "pypi.org"),
    ("GET 10.0.0.0/8", 5, "single hosts"),
    ("127.1", 1, '"127.0.0.1"'),
    ("0x7f000001:80", 1, '"127.0.0.1"'),
    ("::ffff:10.0.0.1", 1, '"10.0.0.1"'),
    ("::ffff:10.0.0.0/104", 1, "10.0.0.0/8"),
    ("10.0.0.1/8", 1, "10.0.0.0/8"),
    ("fe80::1%eth0", 1, "pypi.org"),
    ("[example.org]:80", 1, "[fd00::1]:443"),
    ("[fd00::1:443", 1, "[fd00::1]:443"),
    ("example.org/a/../b", 12, "/v1/**"),
    ("example.org/a%2fb", 12, "/v1/**"),
    ("example.org//a", 12, "/v1/**"),
    ("example.org/a;b", 12, "/v1/**"),
    ("example.org/a%2ab", 12, "star"),
    ("example.org/%3f", 12, "question"),
    ("example.org/a**", 12, "alone"),
]


@pytest.mark.parametrize(("text", "column", "hint"), WRONG)
def test_a_mistake_is_told_with_its_place_and_what_would_be_right(text: str, column: int, hint: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse(text)
    assert hint in f"{caught.value.message} {caught.value.hint}"
    assert (caught.value.column, caught.value.message[: len(repr(text))]) == (column, repr(text))


def test_the_caret_stands_below_the_mistake() -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy('[network]\nallow = ["pypi.org", "example.org:x"]\n', layer="user", file="p")
    assert caught.value.text[caught.value.column - 1] == "x"
    with pytest.raises(PolicyError) as caught:  # what is written with escapes has no place of its own
        parse_policy('[network]\nallow = ["pypi.org", "example.org\\u003ax"]\n', layer="user", file="p")
    assert caught.value.text[caught.value.column - 1] == '"'


NAMES = [
    ("example.org", ["example.org"], ["w.example.org", "evilexample.org", "example.org.evil.org", "example.com"]),
    ("*.example.org", ["w.example.org", "a.b.example.org"], ["example.org", "evilexample.org", "w.example.org.evil.org"]),
    ("*.org", ["example.org", "w.example.org"], ["org", "example.com"]),
    ("10.0.0.5", ["10.0.0.5"], ["10.0.0.6", "example.org", "::a00:5"]),
    ("10.0.0.0/8", ["10.0.0.5", "10.255.0.1"], ["11.0.0.1", "a00::"]),
    ("fd00::/8", ["fd12::1"], ["fc00::1", "253.0.0.0"]),
]


@pytest.mark.parametrize(("rule", "named", "not_named"), NAMES)
def test_names_are_compared_by_labels_and_addresses_by_bits(rule: str, named: list[str], not_named: list[str]) -> None:
    assert [text for text in (*named, *not_named) if parse(rule).names(hosts.host(text))] == named


PATHS = [
    ("/repos/**", ["/repos", "/repos/", "/repos/a", "/repos/a/b", "/%72epos/a"], ["/", "/repo", "/repository", "/x/repos"]),
    ("/repos/*", ["/repos/a", "/repos/a/", "/repos/%C3%BC"], ["/repos", "/repos/", "/repos/a/b"]),
    ("/a*/b", ["/a/b", "/abc/b"], ["/b/b", "/a/c/b"]),
    ("/**/x", ["/x", "/a/x", "/a/b/x"], ["/", "/x/a"]),
    ("/a%20b", ["/a%20b"], ["/a+b", "/ab"]),
]


@pytest.mark.parametrize(("path", "matched", "unmatched"), PATHS)
def test_paths_are_compared_by_decoded_segments(path: str, matched: list[str], unmatched: list[str]) -> None:
    rule = parse(f"GET example.org{path}")
    assert [text for text in (*matched, *unmatched) if rule.has_path(destinations.segments_of(text))] == matched


@pytest.mark.parametrize(
    ("ambiguous", "clear"),
    [
        ("", "/"),
        ("*", "/*"),
        ("a", "/a"),
        ("/a//b", "/a/b"),
        ("//", "/"),
        ("/./a", "/.a"),
        ("/../a", "/..a"),
        ("/%2e%2e/a", "/%2ea"),
        ("/.%2E/a", "/..%2Ea"),
        ("/a%2fb", "/a%2db"),
        ("/a%5cb", "/a%5bb"),
        ("/a\\b", "/ab"),
        ("/a;x", "/a,x"),
        ("/..;/a", "/..,/a"),
        ("/a%3bx", "/a%3ax"),
        ("/%252e", "/%2e2e"),
        ("/%", "/%30"),
        ("/%2", "/%20"),
        ("/%zz", "/zz"),
        ("/%00", "/%30"),
        ("/%0a", "/%4a"),
        ("/%ff", "/%c3%bf"),
        ("/%c0%ae", "/%c2%ae"),
        ("/a b", "/a%20b"),
        ("/\u00fc", "/%c3%bc"),
        ("/" + "a" * 8192, "/" + "a" * 8191),
    ],
)
def test_a_path_that_two_servers_read_in_two_ways_is_not_judged(ambiguous: str, clear: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        destinations.segments_of(ambiguous)
    assert isinstance(destinations.segments_of(clear), tuple)
