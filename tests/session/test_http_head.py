"""Heads of requests and responses, strictly read; what is forwarded; and the end of chunked bodies."""

from __future__ import annotations

import pytest

from houseroom.policy import hosts
from houseroom.session.proxy.chunks import Chunks
from houseroom.session.proxy.http_head import (
    CHUNKED,
    LENGTH,
    NOTHING,
    UNTIL_CLOSE,
    Body,
    HttpError,
    Request,
    answered,
    forwarded,
    read_direct,
    read_proxied,
    read_response,
)


def head(first: str, *fields: str) -> bytes:
    return "\r\n".join((first, *fields, "", "")).encode("latin-1")


def proxied(first: str, *fields: str) -> Request:
    found = read_proxied(head(first, *fields))
    assert found is not None
    return found


TARGETS = [
    ("CONNECT example.org:443 HTTP/1.1", "example.org:443", "example.org", 443, ""),
    ("CONNECT example.org:443 HTTP/1.1", "example.org", "example.org", 443, ""),
    ("CONNECT [::1]:22 HTTP/1.1", "[::1]:22", "::1", 22, ""),
    ("GET http://Example.org/a?b HTTP/1.1", "example.org", "example.org", 80, "/a?b"),
    ("GET http://example.org:80 HTTP/1.1", "example.org", "example.org", 80, "/"),
    ("GET HTTP://example.org:8080?b HTTP/1.1", "EXAMPLE.org.:8080", "example.org", 8080, "/?b"),
    ("OPTIONS http://example.org HTTP/1.1", "example.org", "example.org", 80, "*"),
    ("GET http://127.1/ HTTP/1.1", "127.0.0.1", "127.0.0.1", 80, "/"),
]


@pytest.mark.parametrize(("first", "named", "host", "port", "target"), TARGETS)
def test_requests_to_a_proxy(first: str, named: str, host: str, port: int, target: str) -> None:
    raw = head(first, f"Host: {named}", "X: 1")
    found = read_proxied(raw + b"more")
    assert found is not None
    assert (found.host, found.port, found.target, found.size, found.keep) == (hosts.host(host), port, target, len(raw), True)
    assert all(read_proxied(raw[:at]) is None for at in range(len(raw)))


def test_requests_to_a_server() -> None:
    found = read_direct(head("GET /a?b HTTP/1.1", "Host: example.org:8080"))
    assert found is not None
    assert (found.host, found.port, found.target, found.path) == ("example.org", 8080, "/a?b", "/a")
    secure = read_direct(head("OPTIONS * HTTP/1.1", "Host: example.org"), 443)
    assert secure is not None and (secure.port, secure.target) == (443, "*")
    for first in ("GET http://example.org/ HTTP/1.1", "CONNECT example.org:443 HTTP/1.1", "GET a HTTP/1.1", "GET * HTTP/1.1"):
        with pytest.raises(HttpError):
            read_direct(head(first, "Host: example.org"))
    with pytest.raises(HttpError):
        read_direct(head("GET / HTTP/1.0"))


GOOD = ("POST http://example.org/ HTTP/1.1", "Host: example.org", "Content-Length: 5")
SMUGGLED = {
    "no host": (GOOD[0],),
    "two hosts": (*GOOD, "Host: example.org"),
    "another host": (GOOD[0], "Host: evil.org"),
    "another port": (GOOD[0], "Host: example.org:81"),
    "empty host": (GOOD[0], "Host:"),
    "user in host": (GOOD[0], "Host: me@example.org"),
    "user in target": ("GET http://me@example.org/ HTTP/1.1", "Host: example.org"),
    "length twice": (*GOOD, "Content-Length: 5"),
    "length in a list": (*GOOD[:2], "Content-Length: 5, 5"),
    "signed length": (*GOOD[:2], "Content-Length: +5"),
    "hexadecimal length": (*GOOD[:2], "Content-Length: 0x5"),
    "wide digits": (*GOOD[:2], "Content-Length: \xb2"),
    "endless length": (*GOOD[:2], "Content-Length: " + "9" * 19),
    "empty length": (*GOOD[:2], "Content-Length:"),
    "length and chunked": (*GOOD, "Transfer-Encoding: chunked"),
    "chunked twice": (*GOOD[:2], "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "chunked of two": (*GOOD[:2], "Transfer-Encoding: gzip, chunked"),
    "unknown coding": (*GOOD[:2], "Transfer-Encoding: xchunked"),
    "identity": (*GOOD[:2], "Transfer-Encoding: identity"),
    "hidden coding": (*GOOD[:2], "Transfer-Encoding: \x0bchunked"),
    "coding in 1.0": ("POST http://example.org/ HTTP/1.0", "Transfer-Encoding: chunked"),
    "blank before the colon": (*GOOD[:2], "Content-Length : 5"),
    "folded": (*GOOD, " folded"),
    "folded with a tab": (*GOOD, "\tfolded"),
    "no colon": (*GOOD, "field"),
    "no name": (*GOOD, ": value"),
    "NUL": (*GOOD, "X: a\0b"),
    "bare line feed": (*GOOD, "X: a\nContent-Length: 6"),
    "bare carriage return": (*GOOD, "X: a\rContent-Length: 6"),
    "control": (*GOOD, "X: a\x01"),
    "connection takes the length": (*GOOD, "Connection: close, Content-Length"),
    "connection takes the host": (*GOOD, "Connection: host"),
    "line before": ("", *GOOD),
    "two blanks": ("POST  http://example.org/ HTTP/1.1", *GOOD[1:]),
    "tab": ("POST\thttp://example.org/\tHTTP/1.1", *GOOD[1:]),
    "version": ("POST http://example.org/ HTTP/2.0", *GOOD[1:]),
    "longer version": ("POST http://example.org/ HTTP/1.10", *GOOD[1:]),
    "no version": ("POST http://example.org/", *GOOD[1:]),
    "method": ("PO(ST http://example.org/ HTTP/1.1", *GOOD[1:]),
    "https": ("POST https://example.org/ HTTP/1.1", *GOOD[1:]),
    "path only": ("POST / HTTP/1.1", *GOOD[1:]),
    "fragment": ("POST http://example.org/#a HTTP/1.1", *GOOD[1:]),
    "not ASCII": ("POST http://example.org/\xe9 HTTP/1.1", *GOOD[1:]),
    "port 0": ("POST http://example.org:0/ HTTP/1.1", "Host: example.org:0"),
    "empty port": ("POST http://example.org:/ HTTP/1.1", "Host: example.org"),
    "backslash": ("POST http://example.org\\@evil.org/ HTTP/1.1", "Host: example.org"),
    "NUL in the name": ("POST http://example.org%00.evil.org/ HTTP/1.1", "Host: example.org%00.evil.org"),
    "connect without a port": ("CONNECT example.org HTTP/1.1", "Host: example.org"),
    "connect to a page": ("CONNECT http://example.org:80/ HTTP/1.1", "Host: example.org"),
    "connect with a body": ("CONNECT example.org:443 HTTP/1.1", "Host: example.org:443", "Content-Length: 5"),
    "connect elsewhere": ("CONNECT example.org:443 HTTP/1.1", "Host: evil.org:443"),
    "connect to another port": ("CONNECT example.org:443 HTTP/1.1", "Host: example.org:80"),
    "many fields": (*GOOD, *(f"X{each}: 1" for each in range(99))),
    "long": (*GOOD, "X: " + "a" * 65536),
}


@pytest.mark.parametrize("kind", SMUGGLED)
def test_what_could_be_read_in_two_ways_is_refused(kind: str) -> None:
    with pytest.raises(HttpError) as caught:
        read_proxied(head(*SMUGGLED[kind]))
    assert caught.value.status in (400, 431, 501, 505)
    assert proxied(*GOOD, *(f"X{each}: 1" for each in range(98))).body == Body(LENGTH, 5)


def test_an_endless_head_is_refused_before_its_end() -> None:
    for raw in (b"GET " + b"a" * 65536, b"GET / HTTP/1.1\n", b"\0", b"A: b\r\n" * 102, b"GET / HTTP/1.1\r\nA: b\rc"):
        with pytest.raises(HttpError):
            read_proxied(raw)


def test_bodies_of_requests() -> None:
    assert proxied(*GOOD[:2]).body == Body(NOTHING)
    assert proxied(*GOOD[:2], "Content-Length: 0").body == Body(NOTHING)
    assert proxied(*GOOD[:2], "Transfer-Encoding: Chunked").body == Body(CHUNKED)


def test_what_is_forwarded() -> None:
    request = proxied(
        "POST http://Example.org:8080/a?b HTTP/1.1",
        "Host: EXAMPLE.org:8080",
        "Connection: keep-alive, X-Hop",
        "X-Hop: 1",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic x",
        "TE: trailers",
        "Keep-Alive: 1",
        "Upgrade: h2c",
        "HTTP2-Settings: x",
        "Content-Length: 5",
        "X-End: to  end ",
    )
    assert forwarded(request) == b"POST /a?b HTTP/1.1\r\nhost: example.org:8080\r\ncontent-length: 5\r\nx-end: to  end\r\n\r\n"
    assert read_direct(forwarded(request), 80) is not None
    assert not request.upgrade
    assert forwarded(proxied("GET http://[::1]/ HTTP/1.0")) == b"GET / HTTP/1.0\r\nhost: [::1]\r\n\r\n"


def test_a_web_socket_is_the_only_upgrade() -> None:
    wanted = ("Host: example.org", "Connection: Upgrade", "Upgrade: websocket")
    request = proxied("GET http://example.org/ HTTP/1.1", *wanted)
    assert request.upgrade
    assert forwarded(request).endswith(b"\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n")
    for first, *fields in (
        ("POST http://example.org/ HTTP/1.1", *wanted),
        ("GET http://example.org/ HTTP/1.1", wanted[0], wanted[2]),
        ("GET http://example.org/ HTTP/1.1", *wanted[:2], "Upgrade: h2c"),
        ("GET http://example.org/ HTTP/1.1", *wanted, "Upgrade: h2c"),
        ("GET http://example.org/ HTTP/1.1", *wanted, "Content-Length: 1"),
    ):
        assert not proxied(first, *fields).upgrade
        assert b"upgrade" not in forwarded(proxied(first, *fields))
    response = read_response(head("HTTP/1.1 101 Switching", *wanted[1:], "Sec-WebSocket-Accept: x"), "GET")
    assert response is not None
    assert answered(response, keep=True).endswith(b"sec-websocket-accept: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n")


def test_a_client_that_goes_says_so() -> None:
    assert proxied(*GOOD).keep
    assert not proxied(*GOOD, "Connection: foo, CLOSE").keep
    assert not proxied("GET http://example.org/ HTTP/1.0", "Connection: keep-alive").keep


RESPONSES = [
    ("HTTP/1.1 200 OK", ("Content-Length: 5",), "GET", Body(LENGTH, 5), True),
    ("HTTP/1.1 200", ("Transfer-Encoding: chunked",), "GET", Body(CHUNKED), True),
    ("HTTP/1.1 200 ", (), "GET", Body(UNTIL_CLOSE), False),
    ("HTTP/1.0 200 OK", ("Content-Length: 5",), "GET", Body(LENGTH, 5), False),
    ("HTTP/1.1 200 OK", ("Content-Length: 5",), "HEAD", Body(), True),
    ("HTTP/1.1 304 Not Modified", ("Content-Length: 5",), "GET", Body(), True),
    ("HTTP/1.1 204 No Content", (), "GET", Body(), True),
    ("HTTP/1.1 100 Continue", (), "GET", Body(), True),
    ("HTTP/1.1 200 OK", (), "CONNECT", Body(), True),
    ("HTTP/1.1 403 No", ("Content-Length: 5", "Connection: close"), "CONNECT", Body(LENGTH, 5), False),
]


@pytest.mark.parametrize(("first", "fields", "method", "body", "keep"), RESPONSES)
def test_responses(first: str, fields: tuple[str, ...], method: str, body: Body, keep: bool) -> None:
    raw = head(first, *fields)
    found = read_response(raw + b"more", method)
    assert found is not None
    assert (found.body, found.keep, found.size) == (body, keep, len(raw))
    assert all(read_response(raw[:at], method) is None for at in range(len(raw)))
    again = read_response(answered(found, keep=False), method)
    assert again is not None and again.body == body
    assert again.keep == (found.status < 200)


@pytest.mark.parametrize(
    "lines",
    [
        ("HTTP/1.1 20 OK",),
        ("HTTP/1.1 2000 OK",),
        ("HTTP/1.1  200 OK",),
        ("HTTP/2 200 OK",),
        ("HTTP/1.1 099 OK",),
        ("HTTP/1.1 600 OK",),
        ("HTTP/1.1 200OK",),
        ("ICY 200 OK",),
        ("HTTP/1.1 200 O\x01K",),
        ("HTTP/1.1 200 OK", "Content-Length: 5", "Content-Length: 6"),
        ("HTTP/1.1 200 OK", "Content-Length: 5", "Transfer-Encoding: chunked"),
        ("HTTP/1.1 200 OK", "Transfer-Encoding: gzip"),
        ("HTTP/1.1 200 OK", "A : b"),
    ],
)
def test_a_response_that_could_be_read_in_two_ways_is_refused(lines: tuple[str, ...]) -> None:
    with pytest.raises(HttpError):
        read_response(head(*lines), "GET")


WHOLE = b'5\r\nhello\r\nA;x="y"\r\n0123456789\r\n0 ;z\r\nX-Sum: 1\r\n\r\n'


def test_a_chunked_body_ends_where_it_ends() -> None:
    body = Chunks()
    assert body.feed(WHOLE + b"HTTP/1.1") == len(WHOLE)
    assert body.ended
    assert body.feed(b"more") == 0
    short = Chunks()
    assert short.feed(WHOLE[:-1]) == len(WHOLE) - 1
    assert not short.ended


def test_a_line_of_a_chunked_body_may_have_4094_octets() -> None:
    right, wrong = (b"5;" + b"x" * (length - 2) + b"\r\n" for length in (4094, 4095))
    assert Chunks().feed(right) == len(right)
    body = Chunks()
    assert sum(body.feed(right[at : at + 1]) for at in range(len(right))) == len(right)
    with pytest.raises(HttpError):
        Chunks().feed(wrong)


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n",
        b"5\nhello\r\n",
        b"5\r\nhello\n",
        b"5\r\nhellox",
        b"5\r\nhello\r0",
        b"g\r\n",
        b"-5\r\n",
        b"+5\r\n",
        b"0x5\r\n",
        b" 5\r\n",
        b"5 \r\n",
        b"5_0\r\n",
        b"1" * 16 + b"\r\n",
        b"5;a\0\r\n",
        b"5;a\rb\r\n",
        b"0\r\nContent-Length: 5\r\n",
        b"0\r\nTransfer-Encoding : x\r\n",
        b"0\r\n folded\r\n",
        b"0\r\nx\r\n",
        b"5;" + b"x" * 5000,
        b"0\r\n" + b"A: " + b"x" * 5000,
        b"0\r\n" + b"A: b\r\n" * 20000,
    ],
)
def test_a_chunked_body_that_somebody_else_sees_ending_elsewhere_is_refused(raw: bytes) -> None:
    with pytest.raises(HttpError):
        Chunks().feed(raw)
