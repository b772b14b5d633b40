"""Hosts, addresses and rules against the standard library, and against anything at all."""

from __future__ import annotations

import ipaddress
import socket

from hypothesis import example, given
from hypothesis import strategies as st

from houseroom.errors import PolicyError
from houseroom.policy import destinations, hosts
from houseroom.policy.hosts import Address, Network

PACKED = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16))
# IPv6 with runs of zeros, which is where its text is hard.
GROUPS = st.lists(st.sampled_from([b"\0\0", b"\0\1", b"\xff\xff", b"\x0a\x00"]), min_size=8, max_size=8).map(b"".join)
NUMBERS = st.one_of(
    st.integers(0, 2**33).map(str),
    st.integers(0, 2**33).map(lambda n: f"0{n:o}"),
    st.integers(0, 2**33).map(hex),
    st.integers(0, 300).map(str),
    st.integers(0, 300).map(lambda n: f"0X{n:X}"),
    st.sampled_from(["", "0", "00", "0x", "08", "09", "0xg", "-1", "+1", " 1", "1e1", "0b1", "1_0"]),
)
LITERALS = st.lists(NUMBERS, min_size=1, max_size=5).map(".".join)
ODD = st.text(alphabet="aZ09.-_:*/[]%@#?\\ \0,;é\u3002xGETfF", max_size=40)
LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
NAMES = st.lists(LABELS, min_size=1, max_size=5).map(lambda labels: ".".join([*labels, "org"]))


@given(st.one_of(PACKED, GROUPS))
def test_the_text_of_an_address_is_the_standard_librarys(packed: bytes) -> None:
    found, known = Address(packed), ipaddress.ip_address(packed)
    assert hosts.address(str(found)) == found
    assert ipaddress.ip_address(str(found)).packed == packed
    if found.reached == found:  # mapped ones are written with dots from Python 3.13 on
        assert str(found) == str(known)
    assert hosts.address(known.exploded) == found


@given(st.one_of(LITERALS, ODD))
def test_every_spelling_that_the_c_library_takes_is_taken_and_no_other(text: str) -> None:
    try:
        known = socket.inet_aton(text) if text.isascii() and not any(char.isspace() for char in text) else None
    except (OSError, ValueError):
        known = None
    try:
        found = hosts.host(text)
    except ValueError:
        found = None
    if known is not None:
        assert found == Address(known)
    elif found is not None and ":" not in text:
        assert isinstance(found, str), "an address that connect would not know"


@given(
    st.one_of(st.lists(st.sampled_from(["", "0", "1", "ffff", "00a", "12345", "g", "1.2.3.4", "01.2.3.4"]), max_size=10).map(":".join), ODD)
)
@example("::")
@example("::1.2.3.4")
def test_ipv6_is_read_as_the_standard_library_reads_it(text: str) -> None:
    try:
        known = ipaddress.IPv6Address(text).packed if "%" not in text else None
    except ValueError:
        known = None
    try:
        found = hosts.address(text) if ":" in text and "[" not in text else None
    except ValueError:
        found = None
    assert (found.packed if found is not None else None) == known


@given(PACKED)
def test_what_the_standard_library_calls_private_is_never_public(packed: bytes) -> None:
    known = ipaddress.ip_address(packed)
    special = (
        known.is_private or known.is_loopback or known.is_link_local or known.is_multicast or known.is_reserved or known.is_unspecified
    )
    known_public = {"64:ff9b::/96", "2002::/16", "2001::/23", "::ffff:0:0/96", "192.0.0.0/24"}
    if special and not any(known in net for net in map(ipaddress.ip_network, known_public) if net.version == known.version):
        assert hosts.judge(Address(packed))


@given(st.sampled_from(["127.0.0.1", "10.0.0.1", "169.254.169.254", "8.8.8.8", "1.2.3.4"]), st.integers(0, 2**32 - 1))
def test_an_address_in_an_address_is_judged_like_itself(inside: str, noise: int) -> None:
    inner, own = hosts.address(inside), frozenset({hosts.address("1.2.3.4")})
    low, rest = inner.packed, noise.to_bytes(4, "big")
    wrapped = [
        bytes(10) + b"\xff\xff" + low,
        b"\0\x64\xff\x9b" + bytes(8) + low,
        b"\x20\x02" + low + bytes(6) + rest,
        b"\x20\1\0\0" + bytes((8, 8, 8, 8)) + rest + bytes(octet ^ 255 for octet in low),
        b"\x20\1\0\0" + low + rest + bytes((0xF7, 0xF7, 0xF7, 0xF7)),
        b"\x26\0" + bytes(6) + b"\0\0\x5e\xfe" + low,
    ]
    for packed in wrapped:
        assert inner in Address(packed).embedded()
        assert bool(hosts.judge(Address(packed), own)) == bool(hosts.judge(inner, own))


@given(st.one_of(NAMES, NAMES.map(str.upper), NAMES.map(lambda name: f"{name}.")))
def test_a_name_is_its_own_canonical_form(text: str) -> None:
    found = hosts.host(text)
    assert isinstance(found, str)
    assert hosts.host(found) == found == text.lower().rstrip(".")


@given(ODD | st.text(max_size=60))
def test_any_text_is_a_host_or_a_value_error(text: str) -> None:
    try:
        found = hosts.host(text)
    except ValueError:
        return
    assert hosts.host(str(found)) == found
    if isinstance(found, str):
        assert set(found) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")


RULES = st.builds(
    lambda methods, host, ports, path: (",".join(methods) + " " if methods else "") + host + ports + path,
    st.lists(st.sampled_from(["GET", "POST", "M-SEARCH"]), max_size=2, unique=True),
    st.one_of(NAMES, NAMES.map("*.{}".format), PACKED.map(lambda packed: ("{}" if len(packed) == 4 else "[{}]").format(Address(packed)))),
    st.sampled_from(["", ":1", ":443", ":8000-8080", ":1-65535"]),
    st.sampled_from(["", "/", "/**", "/a", "/a/**/b*", "/%41%20", "/@a/b,c"]),
)


@given(st.one_of(RULES, ODD, st.text(max_size=30)))
def test_any_text_is_a_rule_that_comes_back_or_a_policy_error(text: str) -> None:
    try:
        found = destinations.parse(text)
    except PolicyError as error:
        found, said = None, error
    if found is None:
        assert said.message and said.hint
        assert 1 <= said.column <= max(len(text), 1)
        return
    assert destinations.parse(str(found)) == found
    if isinstance(found.host, Network):
        assert found.names(found.host.base)
    else:
        assert found.names(f"a.{found.host}") == found.wild
        assert found.names(found.host) != found.wild


@given(st.one_of(st.text(alphabet="/.%2eEfF5cC;a\\\0 é", max_size=20), st.text(max_size=20)).map(lambda text: f"/{text}"))
def test_a_path_is_judged_or_refused(path: str) -> None:
    try:
        segments = destinations.segments_of(path)
    except ValueError:
        return
    assert not any(segment in ("", ".", "..") or set(segment) & set("/\\;%\0") for segment in segments)
    again = "/" + "/".join("".join(f"%{octet:02x}" for octet in segment.encode()) for segment in segments)
    assert destinations.segments_of(again) == segments
