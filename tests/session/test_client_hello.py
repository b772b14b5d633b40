"""A TLS client's first words: real ones of this interpreter's TLS, and forged ones."""

from __future__ import annotations

import ssl

import pytest

from houseroom.session.proxy.client_hello import Hello, read_hello


def real(name: str | None = "example.org", protocols: tuple[str, ...] = ()) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def vector(width: int, raw: bytes) -> bytes:
    return len(raw).to_bytes(width, "big") + raw


def extension(kind: int, raw: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, raw)


def named(*names: bytes, kind: bytes = b"\0") -> bytes:
    return extension(0, vector(2, b"".join(kind + vector(2, name) for name in names)))


def body(*extensions: bytes, version: bytes = b"\3\3", session: bytes = b"", suites: bytes = b"\x13\1", methods: bytes = b"\0") -> bytes:
    return version + bytes(32) + vector(1, session) + vector(2, suites) + vector(1, methods) + vector(2, b"".join(extensions))


def hello(raw: bytes, pieces: int = 1 << 14) -> bytes:
    message = b"\1" + vector(3, raw)
    return b"".join(b"\x16\3\1" + vector(2, message[at : at + pieces]) for at in range(0, len(message), pieces))


def test_a_real_hello() -> None:
    raw = real(protocols=("h2", "http/1.1"))
    assert read_hello(raw) == Hello("example.org", False, (b"h2", b"http/1.1"), len(raw))
    assert all(read_hello(raw[:at]) is None for at in range(len(raw)))
    assert read_hello(raw + b"\x17\3\3") == read_hello(raw)
    found = read_hello(real(None))
    assert found is not None and found.server_name == ""


def test_a_forged_one_is_like_a_real_one_also_in_many_records() -> None:
    raw = body(named(b"Example.ORG"), extension(0xFE0D, b"x"))
    for pieces in (1 << 14, 100, 3):
        found = read_hello(hello(raw, pieces))
        assert found == Hello("example.org", True, (), len(hello(raw, pieces)))
    assert read_hello(hello(body()))
    assert read_hello(hello(body()[:-2]))  # without extensions at all, as before TLS 1.2


WRONG = {
    "http": b"GET / HTTP/1.1\r\n",
    "ssh": b"SSH-2.0-x\r\n",
    "old hello": b"\x80\x2e\1\3\1",
    "alert": b"\x15\3\1\0\2\1\0",
    "other version": b"\x16\2\0",
    "server's hello": b"\x16\3\3\0\4\2\0\0\0",
    "empty record": b"\x16\3\1\0\0",
    "long record": b"\x16\3\1\x40\1",
    "long hello": b"\x16\3\1\0\4\1\1\0\1",
    "many records": hello(body(named(b"example.org")), 1),
    "another message behind it": b"\x16\3\1" + vector(2, b"\1" + vector(3, body()) + b"\x0b"),
    "a record of another kind between": hello(body(), 20)[:25] + b"\x15\3\1\0\2\1\0",
    "version within": hello(body(version=b"\2\0")),
    "session": hello(body(session=bytes(33))),
    "no suites": hello(body(suites=b"")),
    "odd suites": hello(body(suites=b"\x13\1\2")),
    "no compression": hello(body(methods=b"")),
    "more than it says": hello(body() + b"x"),
    "less than it says": hello(body(named(b"example.org"))[:-1]),
    "cut": hello(body()[:20]),
    "twice": hello(body(named(b"a.org"), named(b"b.org"))),
    "two names": hello(body(named(b"a.org", b"b.org"))),
    "name of another kind": hello(body(named(b"a.org", kind=b"\1"))),
    "no name": hello(body(named())),
    "empty name": hello(body(named(b""))),
    "address": hello(body(named(b"127.0.0.1"))),
    "NUL": hello(body(named(b"a.org\0.b.org"))),
    "not ASCII": hello(body(named("é.org".encode()))),
    "empty extension": hello(body(extension(0, b""))),
    "no protocols": hello(body(extension(16, vector(2, b"")))),
    "empty protocol": hello(body(extension(16, vector(2, b"\0")))),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_not_one_is_refused(kind: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_hello(WRONG[kind])
