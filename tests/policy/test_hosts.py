"""Host names and addresses: one canonical form, or refused; and which addresses are public."""

from __future__ import annotations

import pytest

from houseroom.policy import hosts
from houseroom.policy.hosts import Address

# What is refused, with its twin: the nearest thing that is right.
REFUSED_AND_RIGHT = [
    ("", "a"),
    (".", "a."),
    ("example..org", "example.org"),
    (".example.org", "example.org."),
    ("example.org..", "example.org."),
    ("exa mple.org", "example.org"),
    ("example.org ", "example.org"),
    ("example.org\n", "example.org"),
    ("example.org\0.evil.org", "example.org.evil.org"),
    ("example.org%00.evil.org", "example.org.evil.org"),
    ("user@example.org", "user.example.org"),
    ("example.org#x", "example.org"),
    ("example.org\\x", "example.org"),
    ("example.org/x", "example.org"),
    ("example.org?x", "example.org"),
    ("_dmarc.example.org", "dmarc.example.org"),
    ("my_host.example.org", "my-host.example.org"),
    ("-a.example.org", "a-b.example.org"),
    ("a-.example.org", "r3---sn-abc.example.org"),
    ("*.example.org", "w.example.org"),
    ("bücher.example", "xn--bcher-kva.example"),
    ("ex\u0430mple.org", "example.org"),  # a Cyrillic letter
    ("example\u3002org", "example.org"),  # an ideographic full stop, which some take for a dot
    ("\uff11\uff12\uff17.0.0.1", "127.example.org"),  # wide digits
    ("a" * 64 + ".org", "a" * 63 + ".org"),
    (".".join(["a" * 63] * 4), ".".join(["a" * 63] * 3 + ["a" * 61])),
    ("1.2.3.4.5", "1.2.3.4.5.org"),
    ("example.1", "1.example"),
    ("example.0x1f", "0x1f.example"),
    ("0x", "0x.org"),
    ("127.0.0.1.", "127.0.0.1.org"),
    ("256.1.1.1", "256.1.1.org"),
    ("1.2.3.08", "1.2.3.org"),
    ("4294967296", "a4294967296"),
]


@pytest.mark.parametrize(("refused", "right"), REFUSED_AND_RIGHT, ids=lambda text: ascii(text)[:40])
def test_what_two_readers_could_take_for_two_names_is_refused(refused: str, right: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the words differ
        hosts.host(refused)
    assert hosts.host(right) == right.removesuffix(".")


@pytest.mark.parametrize("text", ["Example.ORG", "EXAMPLE.org.", "example.org"])
def test_names_have_one_form(text: str) -> None:
    assert hosts.host(text) == "example.org"


ADDRESSES = {
    "127.0.0.1": ["127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0X7F.1", "0177.0.0.1", "017700000001", "127.0x0.0.01"],
    "0.0.0.0": ["0", "0.0", "0x0", "00"],
    "169.254.169.254": ["169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.16689662"],
    "::1": ["::1", "[::1]", "0:0:0:0:0:0:0:1", "0000::0001", "::0.0.0.1"],
    "::ffff:10.0.0.1": ["::ffff:10.0.0.1", "::FFFF:a00:1", "[0:0:0:0:0:ffff:0a00:0001]"],
    "1:0:0:2::3": ["1:0:0:2:0:0:0:3", "1:0:0:2::3"],
    "1::2:0:0:3": ["1::2:0:0:3", "1:0:0:0:2:0:0:3"],
    "2001:db8:0:1:1:1:1:1": ["2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    "fd00::": ["fd00::", "FD00:0::0"],
}


@pytest.mark.parametrize(("canonical", "text"), [(canonical, text) for canonical, texts in ADDRESSES.items() for text in texts])
def test_every_spelling_of_an_address_is_that_address(canonical: str, text: str) -> None:
    found = hosts.host(text)
    assert isinstance(found, Address)
    assert str(found) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "fe80::1%eth0",
        "[fe80::1%25eth0]",
        "::1%",
        "[::1",
        "::1]",
        "[127.0.0.1]",
        "[example.org]",
        "1::2::3",
        ":::",
        ":1",
        "1:",
        "1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8:9",
        "1:2:3:4:5:6:7::8",
        "12345::",
        "::g",
        "::1.2.3",
        "::1.2.3.4.5",
        "::01.2.3.4",
        "1.2.3.4::",
        "::256.0.0.1",
        "::1.2.3.4:5",
        "+1",
        "-1",
        "1_0",
        "0b1",
        "1e3",
        "127.0.0.1:80",
        "\u0661",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        hosts.address(text)


JUDGED = {
    "unspecified": ["0.0.0.0", "::"],
    "this network": ["0.1.2.3"],
    "loopback": ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1", "::127.0.0.1"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fd00::1", "fc00::1", "fec0::1", "::ffff:192.168.0.1"],
    "shared": ["100.64.0.1", "100.127.255.255"],
    "link-local": ["169.254.1.1", "fe80::1", "febf::1"],
    "metadata": ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "192.0.0.192", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"],
    "host agent": ["168.63.129.16", "2002:a83f:8110::1"],
    "benchmarks": ["198.18.0.1", "198.19.255.255", "2001:2::1"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1"],
    "broadcast": ["255.255.255.255"],
    "reserved": ["240.0.0.1", "4000::1", "::5", "8000::", "::8.8.8.8"],
    "thrown away": ["100::1"],
    "ORCHID": ["2001:10::1", "2001:2f::1"],
    "translated within": ["64:ff9b:1::808:808"],
    "10.1.2.3 in IPv6": [
        "2001:0:808:808::f5fe:fdfc",
        "2001:0:a01:203::f7f7:f7f7",
        "2606:4700::5efe:a01:203",
        "2606:4700::200:5efe:a01:203",
    ],
    "protocols": ["192.0.0.1", "2001:1::1"],
}


@pytest.mark.parametrize(("words", "text"), [(words, text) for words, texts in JUDGED.items() for text in texts])
def test_what_is_not_public_says_why(words: str, text: str) -> None:
    assert words in hosts.judge(hosts.address(text))


@pytest.mark.parametrize(
    "text",
    [
        "8.8.8.8",
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "172.15.0.1",
        "172.32.0.1",
        "100.63.255.255",
        "100.128.0.0",
        "126.1.1.1",
        "128.0.0.1",
        "169.253.1.1",
        "168.63.129.17",
        "192.167.1.1",
        "192.169.0.1",
        "198.17.1.1",
        "198.20.0.1",
        "223.255.255.255",
        "2606:4700::1111",
        "2a00:1450::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
        "2001:200::1",
        "2606:4700::5efe:808:808",
    ],
)
def test_what_is_public_is_nothing_else(text: str) -> None:
    assert hosts.judge(hosts.address(text)) == ""


@pytest.mark.parametrize("text", ["8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"])
def test_the_hosts_own_addresses_are_not_public_in_any_spelling(text: str) -> None:
    found = hosts.address(text)
    assert hosts.judge(found) == ""
    assert "an address of this host" in hosts.judge(found, frozenset({hosts.address("8.8.8.8")}))


def test_each_row_of_the_table_speaks() -> None:
    bases = [hosts.network(text).base.packed for text, _, _ in hosts.NOT_PUBLIC]
    spoken = {hosts.judge(Address(packed[:-1] + bytes([packed[-1] | last]))) for packed in bases for last in (0, 1)}
    assert {f"{what} ({source})" for _, what, source in hosts.NOT_PUBLIC} <= spoken
    assert all(source for _, _, source in hosts.NOT_PUBLIC)


@pytest.mark.parametrize(
    ("refused", "right"),
    [("10.0.0.1/8", "10.0.0.0/8"), ("10.0.0.0/33", "10.0.0.0/32"), ("fd00::1/64", "fd00::/64"), ("10.0.0.0/", "10.0.0.0")],
)
def test_networks(refused: str, right: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        hosts.network(refused)
    assert str(hosts.network(right)) == right.removesuffix("/32")
    assert hosts.network(right).base.within(hosts.network(right))
    assert not hosts.address("11.0.0.0").within(hosts.network(right))
