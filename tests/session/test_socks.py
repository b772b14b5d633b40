"""SOCKS5, octet by octet."""

from __future__ import annotations

import pytest

from houseroom.policy import hosts
from houseroom.session.proxy import socks
from houseroom.session.proxy.socks import Request, SocksError, read_greeting, read_request


def named(name: bytes, port: int = 443) -> bytes:
    return b"\5\1\0\3" + bytes([len(name)]) + name + port.to_bytes(2, "big")


RIGHT = [
    (named(b"Example.org"), "example.org"),
    (named(b"127.1"), "127.0.0.1"),
    (named(b"::1"), "::1"),
    (b"\5\1\0\1\x0a\0\0\5\1\xbb", "10.0.0.5"),
    (b"\5\1\0\4" + bytes(15) + b"\1\1\xbb", "::1"),
]


@pytest.mark.parametrize(("raw", "host"), RIGHT)
def test_requests(raw: bytes, host: str) -> None:
    assert read_request(raw + b"more") == Request(hosts.host(host), 443, len(raw))
    assert all(read_request(raw[:at]) is None for at in range(len(raw)))


def test_greetings() -> None:
    assert read_greeting(b"\5\1\0") == 3
    assert read_greeting(b"\5\3\2\1\0\5\1") == 5
    assert [read_greeting(raw) for raw in (b"", b"\5", b"\5\2\0")] == [None, None, None]
    with pytest.raises(SocksError) as caught:
        read_greeting(b"\5\2\1\2")
    assert caught.value.answer == b"\5\xff"
    with pytest.raises(SocksError, match="SOCKS4") as caught:
        read_greeting(b"\4\1")
    assert caught.value.answer[:2] == b"\0\x5b"
    with pytest.raises(SocksError, match="HTTP") as caught:
        read_greeting(b"CONNECT x:443 HTTP/1.1\r\n")
    assert caught.value.answer == b""


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"\4", 1),
        (b"\5\2", 7),
        (b"\5\3", 7),
        (b"\5\1\1", 1),
        (b"\5\1\0\2x", 8),
        (named(b"", 1), 1),
        (named(b"a b"), 1),
        (named(b"a\0.org"), 1),
        (named(b"\xc3\xa9.org"), 1),
        (named(b"x" * 255), 1),
        (named(b"example.org", 0), 1),
        (named(b"a_b.org"), 1),
        (named(b"fe80::1%eth0"), 1),
    ],
)
def test_what_is_refused_is_answered(raw: bytes, code: int) -> None:
    with pytest.raises(SocksError) as caught:
        read_request(raw)
    assert caught.value.answer == socks.reply(code) == bytes((5, code, 0, 1)) + bytes(6)


def test_a_reply_with_an_address() -> None:
    assert socks.reply(0, hosts.address("fd00::1"), 80) == b"\5\0\0\4\xfd" + bytes(14) + b"\1\0\x50"
