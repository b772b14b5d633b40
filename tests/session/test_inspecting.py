"""Connections that are looked into: each request is judged by what is forwarded of it, and nothing else reaches a server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if sys.platform != "linux":
    pytest.skip("the egress proxy is Linux's", allow_module_level=True)

from authority_kit import OuterAuthority
from inspection_kit import HOST, PORT, RULES, Heard, Serve, head_of, inspector, obliging, plainly, talk

from houseroom.policy.connect import Connect, PlacedNetwork, Reachable, decide
from houseroom.policy.credentials import Swap
from houseroom.policy.destinations import parse
from houseroom.session.proxy import http_head
from houseroom.session.proxy.chunks import Chunks

WHERE = f"Host: {HOST}:{PORT}\r\n"
OK = f"GET /v1/a HTTP/1.1\r\n{WHERE}\r\n".encode()
REFUSED = f"DELETE /v1/a HTTP/1.1\r\n{WHERE}\r\n".encode()


def asking(monkeypatch: pytest.MonkeyPatch, data: bytes, *, serve: Serve = obliging, ends: bool = True, **how: object) -> Heard:
    """What comes of these bytes by a plain connection."""
    got: list[bytes] = []
    heard = talk(monkeypatch, serve, plainly(data, got, ends=ends), **how)  # type: ignore[arg-type]
    heard.client = b"".join(got)
    return heard


def lines(data: bytes) -> list[bytes]:
    return [line for line in data.split(b"\r\n") if line[:5] in (b"HTTP/", b"X-Hou")]


# -- what is allowed and what is not --------------------------------------------------------------------------------------


def test_every_request_of_a_connection_is_judged_and_a_refused_one_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = asking(monkeypatch, OK + REFUSED + OK.replace(b"/v1/a", b"/other") + OK.replace(b"/v1/a", b"/v1/b/c?x=1"))
    assert heard.client.count(b"HTTP/1.1 200") == 2 and heard.client.count(b"HTTP/1.1 403") == 2
    assert b"GET /v1/a HTTP/1.1" in heard.client and b"GET /v1/b/c?x=1 HTTP/1.1" in heard.client
    assert heard.asked.count(b"HTTP/1.1\r\n") == 2 and b"DELETE" not in heard.asked and b"/other" not in heard.asked
    assert b"X-Houseroom-Reason: no rule of the workspace policy allows this request" in heard.client
    assert f"--allow 'DELETE {HOST}:{PORT}/v1/a'".encode() in heard.client
    assert [line.split("\t")[0] for line in heard.told] == [f"DELETE {HOST}:{PORT}/v1/a", f"GET {HOST}:{PORT}/other"]
    assert heard.told[0].split("\t")[-1] == f"--allow DELETE {HOST}:{PORT}/v1/a"
    assert len(heard.servers) == 1  # by one connection: the second request followed the first


def test_the_server_hears_nothing_of_a_refused_request(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"x" * 5000
    heard = asking(monkeypatch, f"PUT /v1/a HTTP/1.1\r\n{WHERE}Content-Length: 5000\r\n\r\n".encode() + body + OK)
    assert heard.client.startswith(b"HTTP/1.1 403") and heard.client.count(b"HTTP/1.1") == 1  # what follows a body is not guessed at
    assert b"Connection: close" in heard.client
    assert heard.asked == b""


def test_a_refused_head_has_no_body(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = asking(monkeypatch, f"HEAD /x HTTP/1.1\r\n{WHERE}\r\n".encode() + f"HEAD /v1/x HTTP/1.1\r\n{WHERE}\r\n".encode())
    first, _, rest = heard.client.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 403") and rest.startswith(b"HTTP/1.1 200")


def test_bodies_pass_as_they_are_framed(monkeypatch: pytest.MonkeyPatch) -> None:
    post = f"POST /v1/items HTTP/1.1\r\n{WHERE}"
    inner = b"DELETE /v1/a HTTP/1.1\r\n\r\n"
    data = f"{post}Content-Length: {len(inner)}\r\n\r\n".encode() + inner + OK
    data += f"{post}Transfer-Encoding: chunked\r\n\r\n".encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner) + OK
    heard = asking(monkeypatch, data)
    assert heard.client.count(b"HTTP/1.1 200 OK") == 4 and b"403" not in heard.client
    assert heard.asked.count(inner) == 2


def test_deny_beats_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = asking(monkeypatch, OK + OK.replace(b"/v1/a", b"/v1/admin/x"), allow=(HOST,), deny=(f"{HOST}/v1/admin/**",))
    assert heard.client.count(b"HTTP/1.1 200") == heard.client.count(b"HTTP/1.1 403") == 1
    assert b"admin" not in heard.asked


def test_a_rule_on_an_address_holds_for_names_that_lead_there(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = asking(monkeypatch, OK + REFUSED + OK, allow=(HOST,), deny=("DELETE 192.0.2.1",))
    assert heard.client.count(b"HTTP/1.1 200") == 2 and b"HTTP/1.1 403" in heard.client and b"DELETE" not in heard.asked
    assert len(heard.servers) == 3  # each request by a connection of its own: another address may have another rule, the first was let go
    heard = asking(monkeypatch, OK + REFUSED, allow=(HOST, "GET pypi.org"), deny=("DELETE 192.0.2.9",))
    assert b"403" not in heard.client


PATHS = [
    "/v1/../x", "/v1/%2e%2e/x", "/v1/%2E./x", "/v1/.", "/v1//x", "//v1/x", "/v1/a%2fb", "/v1/a%5cb", "/v1/a\\b", "/v1/a;x", "/v1/a%3bx",
    "/v1/a%", "/v1/a%zz", "/v1/%ff", "/v1/a%00", "/v1/a%0d%0ab", "/v1/%252e%252e/x", "*", "/V1/x", "/v1x", "/v1/a#b", "http://x/v1/a",
    f"http://{HOST}:{PORT}/v1/a", "v1/a", "?/v1/a", f"{HOST}:{PORT}",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_paths_that_are_read_in_two_ways_are_not_granted(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    heard = asking(monkeypatch, f"GET {path} HTTP/1.1\r\n{WHERE}\r\n".encode("latin-1"))
    assert heard.client[:10] == b"HTTP/1.1 4" and heard.asked == b""
    assert asking(monkeypatch, f"GET /v1/x HTTP/1.1\r\n{WHERE}\r\n".encode()).client.startswith(b"HTTP/1.1 200")


SMUGGLED = {
    "length and chunks": "POST /v1/items HTTP/1.1\r\n{where}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": "POST /v1/items HTTP/1.1\r\n{where}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": "POST /v1/items HTTP/1.1\r\n{where}Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
    "lengths in a list": "POST /v1/items HTTP/1.1\r\n{where}Content-Length: 0, 44\r\n\r\n",
    "signed": "POST /v1/items HTTP/1.1\r\n{where}Content-Length: +0\r\n\r\n",
    "two codings": "POST /v1/items HTTP/1.1\r\n{where}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "odd coding": "POST /v1/items HTTP/1.1\r\n{where}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "tab before colon": "POST /v1/items HTTP/1.1\r\n{where}Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "blank before colon": "GET /v1/a HTTP/1.1\r\n{where}Content-Length : 44\r\n\r\n",
    "folded": "GET /v1/a HTTP/1.1\r\n{where}X: a\r\n Content-Length: 44\r\n\r\n",
    "bare line feeds": "GET /v1/a HTTP/1.1\n{where}\n",
    "bare line feed in a field": "GET /v1/a HTTP/1.1\r\n{where}X: a\nContent-Length: 44\r\n\r\n",
    "bare return": "GET /v1/a HTTP/1.1\r\n{where}X: a\rContent-Length: 44\r\n\r\n",
    "nul": "GET /v1/a HTTP/1.1\r\n{where}X: a\0b\r\n\r\n",
    "second Host": "GET /v1/a HTTP/1.1\r\n{where}Host: other.example.org\r\n\r\n",
    "no Host": "GET /v1/a HTTP/1.1\r\n\r\n",
    "other Host": "GET /v1/a HTTP/1.1\r\nHost: other.example.org\r\n\r\n",
    "other port": "GET /v1/a HTTP/1.1\r\nHost: {host}:81\r\n\r\n",
    "user in Host": "GET /v1/a HTTP/1.1\r\nHost: x@{host}\r\n\r\n",
    "old version": "GET /v1/a\r\n\r\n",
    "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "CONNECT": "CONNECT {host}:{port} HTTP/1.1\r\n{where}\r\n",
    "two blanks": "GET  /v1/a HTTP/1.1\r\n{where}\r\n",
    "framing named away": "GET /v1/a HTTP/1.1\r\n{where}Connection: host\r\n\r\n",
    "method override": "GET /v1/a HTTP/1.1\r\n{where}X-HTTP-Method-Override: DELETE\r\n\r\n",
    "address override": "GET /v1/a HTTP/1.1\r\n{where}X-Original-URL: /admin\r\n\r\n",
    "no HTTP": "\x01\x02\x03\x04",
    "a mail": "EHLO {host}\r\n",
}


@pytest.mark.parametrize("kind", SMUGGLED)
def test_nothing_that_could_be_read_otherwise_goes_on(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    data = SMUGGLED[kind].format(where=WHERE, host=HOST, port=PORT).encode("latin-1")
    heard = asking(monkeypatch, data + REFUSED)
    assert heard.asked == b"", kind
    assert b"HTTP/1.1 200" not in heard.client
    assert heard.client == b"" or heard.client[:10] in (b"HTTP/1.1 4", b"HTTP/1.1 5")
    assert asking(monkeypatch, OK + REFUSED).client.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "body",
    [b"5\r\nhello\n0\r\n\r\n", b"5;a\nhello\r\n0\r\n\r\n", b"-1\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloX\r\n0\r\n\r\n",
     b"0\r\nContent-Length: 5\r\n\r\n", b"fffffffffffffffff\r\n"],
)  # fmt: skip
def test_chunks_that_end_in_two_places(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    heard = asking(monkeypatch, f"POST /v1/items HTTP/1.1\r\n{WHERE}Transfer-Encoding: chunked\r\n\r\n".encode() + body + REFUSED)
    assert b"DELETE" not in heard.asked and b"HTTP/1.1 200" not in heard.client


# -- any bytes ------------------------------------------------------------------------------------------------------------

_PIECES = [
    "GET ", "POST ", "DELETE ", "HEAD ", "OPTIONS ", "/v1/a", "/v1/items", "/v1/../admin", "/admin", "/v1/%2e%2e/admin", "*", "#", "?q",
    " HTTP/1.1\r\n", " HTTP/1.0\r\n", " HTTP/1.1\n", "\r\n", "\n", "\r", "\0", " ", "\t", "\r\n\r\n", WHERE, f"Host: {HOST}\r\n",
    "Host: other.example.org\r\n", "Content-Length: 0\r\n", "Content-Length: 3\r\n", "Content-Length: 64\r\n", "Content-Length: 1e1\r\n",
    "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: identity\r\n", "Transfer-Encoding : chunked\r\n", "Connection: close\r\n",
    "Connection: keep-alive, content-length\r\n", "Expect: 100-continue\r\n", "X: y\r\n", " folded\r\n", "3\r\nabc\r\n", "0\r\n\r\n",
    "40\r\n", "Upgrade: websocket\r\nConnection: upgrade\r\n", "Upgrade: h2c\r\n",
    OK.decode(), REFUSED.decode(), f"GET /admin HTTP/1.1\r\n{WHERE}\r\n",
    f"POST /v1/items HTTP/1.1\r\n{WHERE}", f"GET /v1/a HTTP/1.1\r\n{WHERE}",
]  # fmt: skip


_FIELDS = (
    "Content-Length: 0",
    "Content-Length: 3",
    "Content-Length: 64",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding:chunked",
    "X: y",
)
_BODIES = ["", "abc", "3\r\nabc\r\n0\r\n\r\n", "0\r\n\r\n", "40\r\n", REFUSED.decode(), "0\r\n\r\n" + REFUSED.decode()]
_REQUESTS = st.builds(
    lambda first, fields, body: f"{first} HTTP/1.1\r\n{WHERE}{''.join(f'{field}{end}' for field, end in fields)}\r\n{body}",
    st.sampled_from(("POST /v1/items", "POST /v1/items", "GET /v1/a", "GET /v1/%2e%2e/a")),
    st.lists(st.tuples(st.sampled_from(_FIELDS), st.sampled_from(("\r\n", "\r\n", "\n"))), max_size=2),
    st.sampled_from(_BODIES),
)


def read_leniently(data: bytes, *, chunks_first: bool) -> list[tuple[bytes, bytes]]:
    """Methods and targets as a careless server reads them: any line end, either framing."""
    found, rest = [], data
    while rest:
        head, _, rest = rest.replace(b"\r\n", b"\n", rest.count(b"\r\n")).partition(b"\n\n")
        first, *fields = head.split(b"\n")
        method, _, behind = first.partition(b" ")
        found.append((method, behind.rpartition(b" ")[0]))
        named = {name.strip().lower(): value.strip().lower() for name, _, value in (line.partition(b":") for line in fields)}
        if b"chunked" in named.get(b"transfer-encoding", b"") and (chunks_first or b"content-length" not in named):
            while rest:
                size, _, rest = rest.partition(b"\n")
                length = int(size.split(b";")[0] or b"0", 16)
                if not length:
                    rest = rest.partition(b"\n")[2]
                    break
                rest = rest[length + 1 :]
        elif named.get(b"content-length", b"").isdigit():
            rest = rest[int(named[b"content-length"]) :]
    return found


@settings(max_examples=800, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.one_of(st.lists(st.sampled_from(_PIECES), min_size=1, max_size=14), st.lists(_REQUESTS, min_size=1, max_size=3)))
def test_what_reaches_a_server_was_allowed_however_it_is_read(monkeypatch: pytest.MonkeyPatch, pieces: list[str]) -> None:
    heard = asking(monkeypatch, "".join(pieces).encode("latin-1"))
    judged = PlacedNetwork(_policy())
    for carried in heard.servers:
        one, other = (read_leniently(bytes(carried), chunks_first=first) for first in (True, False))
        assert one == other, bytes(carried)
        for method, target in one:
            act = Connect(HOST, PORT, method.decode(), target.decode().partition("?")[0])
            assert isinstance(decide(judged, act), Reachable), bytes(carried)


def _policy() -> object:
    from inspection_kit import policy

    return policy()


_ANSWERS = [
    "HTTP/1.1 200 OK\r\n", "HTTP/1.0 200 OK\r\n", "HTTP/1.1 204 No Content\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 304\r\n",
    "HTTP/1.1 101 Switching Protocols\r\n", "HTTP/1.1 999 X\r\n", "Content-Length: 2\r\n", "Content-Length: 64\r\n", "\r\n", "\n", "ok",
    "Transfer-Encoding: chunked\r\n", "Connection: close\r\n", "Connection: upgrade\r\nUpgrade: websocket\r\n", "2\r\nok\r\n", "0\r\n\r\n",
    "X: y\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
]  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=st.lists(st.lists(st.sampled_from(_ANSWERS), max_size=9), min_size=1, max_size=3))
def test_a_client_hears_no_more_answers_than_it_asked_for(monkeypatch: pytest.MonkeyPatch, answers: list[list[str]]) -> None:
    heard = asking(monkeypatch, OK + OK, serve=ending_each(*("".join(each).encode() for each in answers)))
    rest, final = heard.client, 0
    while rest and (response := http_head.read_response(rest, "GET")) is not None:
        final += response.status >= 200
        rest = rest[response.size :]
        match response.body.kind:
            case http_head.LENGTH:
                rest = rest[response.body.length :]
            case http_head.CHUNKED:
                try:
                    rest = rest[Chunks().feed(rest) :]
                except http_head.HttpError:
                    break  # cut off where it went wrong
            case http_head.UNTIL_CLOSE:
                rest = b""
    assert final <= 2, heard.client


def ending_each(*answers: bytes) -> Serve:
    """Servers that say their answer to the first request, and end."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(left.pop(0) if left else b"")

    return serve


def test_the_careless_server_of_these_tests_is_careless() -> None:
    both = b"POST /v1/items HTTP/1.1\nContent-Length: 5\nTransfer-Encoding: chunked\n\n0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n"
    assert (b"GET", b"/admin") in read_leniently(both, chunks_first=True)
    assert read_leniently(both, chunks_first=True) != read_leniently(both, chunks_first=False)


# -- what servers answer --------------------------------------------------------------------------------------------------


def saying(*answers: bytes, ends: bool = False) -> Serve:
    """A server that answers each request with the next of these, whatever it is, and perhaps ends after the last."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while left:
            try:
                await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            writer.write(left.pop(0))
            await writer.drain()
        if not ends:
            await reader.read()

    return serve


PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + PLAIN,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_answers_end_where_they_end(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    heard = asking(monkeypatch, OK + OK, serve=saying(answer, PLAIN))
    assert heard.client.endswith(b"\r\n\r\nok") and heard.client.count(b"HTTP/1.1 200 OK") in (1, 2)
    assert len(heard.servers) == 1


def test_an_answer_that_ends_with_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = asking(monkeypatch, OK + OK, serve=saying(b"HTTP/1.0 200 OK\r\n\r\nall there is", ends=True))
    assert heard.client.endswith(b"all there is") and heard.client.count(b"HTTP/1.1 200") == 1
    assert b"connection: close" in heard.client


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"",
    ],
)
def test_answers_that_nobody_should_pass_on(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    heard = asking(monkeypatch, OK, serve=saying(answer, ends=True))
    assert heard.client.startswith(b"HTTP/1.1 502")


def test_what_a_server_says_unasked_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = asking(monkeypatch, OK + OK, serve=saying(PLAIN + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", PLAIN))
    assert b"forged" not in heard.client and heard.client.count(b"\r\n\r\nok") == 2
    assert len(heard.servers) == 2


def test_a_server_that_has_left_meanwhile_is_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = asking(monkeypatch, OK + OK + OK, serve=saying_once())
    assert heard.client.count(b"\r\n\r\nok") == 3 and len(heard.servers) == 3


def saying_once() -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(PLAIN)

    return serve


def test_a_body_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    post = f"POST /v1/items HTTP/1.1\r\n{WHERE}Content-Length: 2\r\n\r\nhi".encode()
    heard = asking(monkeypatch, OK + post, serve=saying(PLAIN, PLAIN))
    assert heard.asked.count(b"POST") == 1 and heard.client.count(b"HTTP/1.1") == 2


def upgrading(key: bytes) -> bytes:
    return f"GET /v1/a HTTP/1.1\r\n{WHERE}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: {key.decode()}\r\n\r\n".encode()


@pytest.mark.parametrize("understood", [True, False])
def test_websockets_pass_where_the_server_has_understood(monkeypatch: pytest.MonkeyPatch, understood: bool) -> None:
    key = base64.b64encode(bytes(16))
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()) if understood else b"no"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "
        writer.write(head + accept + b"\r\n\r\nhello")
        while part := await reader.read(100):
            writer.write(part.upper())

    heard = asking(monkeypatch, upgrading(key) + REFUSED, serve=serve)
    if understood:
        assert heard.client.startswith(b"HTTP/1.1 101") and b"hello" in heard.client and REFUSED.upper() in heard.client
    else:
        assert heard.client.startswith(b"HTTP/1.1 502") and b"DELETE" not in heard.asked


def test_a_final_answer_before_the_body_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    post = f"POST /v1/items HTTP/1.1\r\n{WHERE}Content-Length: 5000\r\nExpect: 100-continue\r\n\r\n".encode()
    heard = asking(monkeypatch, post, serve=saying(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"), ends=False)
    assert heard.client.startswith(b"HTTP/1.1 417")


# -- inside TLS -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outer() -> OuterAuthority:
    return OuterAuthority()


def encrypted(
    data: bytes, got: list[bytes], trusted: list[str], *, name: str = HOST, alpn: tuple[str, ...] = ()
) -> Callable[[socket.socket], Awaitable[None]]:
    """A client that speaks TLS and trusts one authority, which is known when it begins."""

    async def speak(sock: socket.socket) -> None:
        context = ssl.create_default_context(cadata=trusted[0])
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python does from 3.13 on
        if alpn:
            context.set_alpn_protocols(list(alpn))
        try:
            reader, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=name)
        except (OSError, ssl.SSLError) as error:
            got.append(f"no: {getattr(error, 'verify_message', error)}".encode())
            return
        got.append(f"{writer.get_extra_info('ssl_object').selected_alpn_protocol()}\n".encode())
        try:
            writer.write(data)
            await writer.drain()
            while part := await reader.read(1 << 16):
                got.append(part)
        except OSError as error:
            got.append(f"broken: {error}".encode())
        finally:
            writer.close()

    return speak


def secretly(monkeypatch: pytest.MonkeyPatch, outer: OuterAuthority, context: ssl.SSLContext | None, data: bytes, **how: object) -> Heard:
    """What comes of these bytes inside TLS, to a server with this context."""
    looking, got = inspector(outer.pem), []
    looking.swaps = tuple(how.pop("swaps", ()))  # type: ignore[arg-type]
    name, alpn = str(how.pop("name", HOST)), how.pop("alpn", ())
    speak = encrypted(data, got, [looking.authority.certificate.decode()], name=name, alpn=alpn)  # type: ignore[arg-type]
    serve = how.pop("serve", obliging if context else greeting)
    heard = talk(monkeypatch, serve, speak, looking=looking, server_side=context, **how)  # type: ignore[arg-type]
    heard.client = b"".join(got)
    return heard


async def greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that knows no TLS."""
    writer.write(b"220 welcome\r\n")
    await reader.read()


def closing(data: bytes) -> bytes:
    return data.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


def test_requests_inside_tls(monkeypatch: pytest.MonkeyPatch, outer: OuterAuthority, tmp_path: Path) -> None:
    heard = secretly(monkeypatch, outer, outer.server(tmp_path / "pem", HOST), OK + REFUSED + closing(OK), alpn=("h2", "http/1.1"))
    assert heard.client.startswith(b"http/1.1\n") and heard.client.count(b"HTTP/1.1 200") == 2
    assert heard.client.count(b"HTTP/1.1 403") == 1 and b"DELETE" not in heard.asked
    assert not heard.broken and b"broken" not in heard.client


@pytest.mark.parametrize("fault", ["another authority", "another name", "too old", "no TLS"])
def test_a_server_that_does_not_prove_who_it_is(monkeypatch: pytest.MonkeyPatch, outer: OuterAuthority, tmp_path: Path, fault: str) -> None:
    path = tmp_path / "pem"
    context = {
        "another authority": lambda: OuterAuthority().server(path, HOST),
        "another name": lambda: outer.server(path, "other.example.org"),
        "too old": lambda: outer.server(path, HOST, old=True),
        "no TLS": lambda: None,
    }[fault]()
    heard = secretly(monkeypatch, outer, context, OK)
    assert b"HTTP/1.1 502" in heard.client and b"GET" not in heard.asked
    words = b"TLS" if fault == "no TLS" else b"its certificate is not accepted: "
    assert b"X-Houseroom-Reason: api.example.org:8080: " in heard.client and words in heard.client
    assert (fault == "no TLS") == (heard.told == [])


def test_the_name_in_tls_is_the_one_that_the_connection_is_for(
    monkeypatch: pytest.MonkeyPatch, outer: OuterAuthority, tmp_path: Path
) -> None:
    heard = secretly(monkeypatch, outer, outer.server(tmp_path / "pem", HOST), OK, name="other.example.org")
    assert heard.client.startswith(b"no: ") and heard.asked == b""
    assert heard.told[0].startswith("other.example.org by way of api.example.org\t")


def test_a_client_that_does_not_trust_the_sandbox_is_not_served(
    monkeypatch: pytest.MonkeyPatch, outer: OuterAuthority, tmp_path: Path
) -> None:
    looking, got = inspector(outer.pem), list[bytes]()
    heard = talk(monkeypatch, obliging, encrypted(OK, got, [outer.pem]), looking=looking, server_side=outer.server(tmp_path / "pem", HOST))
    assert got[0].startswith(b"no: ") and heard.asked == b""


def test_the_authority_certifies_nothing_but_what_rules_are_about(outer: OuterAuthority) -> None:
    looking = inspector(named=("GET *.example.org/x", "DELETE host.example.com"))
    for name, accepted in (("a.example.org", True), ("b.a.example.org", True), ("host.example.com", True), ("pypi.org", False)):
        ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = looking.authority.context(name).wrap_bio(ours, theirs, server_side=True)
        client = ssl.create_default_context(cadata=looking.authority.certificate.decode()).wrap_bio(theirs, ours, server_hostname=name)
        outcome = ""
        for _ in range(4):
            for side in (client, server):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                except ssl.SSLCertVerificationError as error:
                    outcome = error.verify_message
                except ssl.SSLError:
                    continue
        assert outcome == ("" if accepted else "permitted subtree violation"), name


# -- credentials ----------------------------------------------------------------------------------------------------------

PLACEHOLDER, VALUE = b"tok_placeholder0123456789", b"tok_thetruevalue987654321"


def repeating(*fields: bytes) -> Serve:
    """A server that says in its own fields what it was told in these."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await head_of(reader):
            said = b"".join(b"X-Told: " + line + b"\r\n" for line in head.split(b"\r\n") if line.partition(b":")[0].lower() in fields)
            writer.write(b"HTTP/1.1 200 OK\r\n" + said + b"Content-Length: 0\r\n\r\n")

    return serve


def asked_with(field: str) -> bytes:
    return closing(f"GET /v1/a?{PLACEHOLDER.decode()} HTTP/1.1\r\n{WHERE}{field}\r\n\r\n".encode())


@pytest.mark.parametrize(
    ("field", "forwarded"),
    [
        (f"Authorization: Bearer {PLACEHOLDER.decode()}", b"authorization: Bearer " + VALUE),
        (f"X-Two: a{PLACEHOLDER.decode()};{PLACEHOLDER.decode()}", b"x-two: a" + VALUE + b";" + VALUE),
        (
            f"Authorization: Basic {base64.b64encode(b'me:' + PLACEHOLDER).decode()}",
            b"authorization: Basic " + base64.b64encode(b"me:" + VALUE),
        ),
    ],
)
def test_a_credential_is_put_in_for_its_host_alone(
    monkeypatch: pytest.MonkeyPatch, outer: OuterAuthority, tmp_path: Path, field: str, forwarded: bytes
) -> None:
    server = outer.server(tmp_path / "pem", HOST)
    for where, put_in in ((HOST, True), ("other.example.org", False), (f"{HOST}:443", False)):
        swaps = [Swap(PLACEHOLDER, VALUE, parse(where))]
        heard = secretly(monkeypatch, outer, server, asked_with(field), swaps=swaps, serve=repeating(b"authorization", b"x-two"))
        assert (forwarded in heard.asked) is put_in and (VALUE in heard.asked) is (put_in and b"Basic" not in forwarded)
        assert b"?" + PLACEHOLDER in heard.asked  # an address is told to others, and stands in logs
        assert heard.client.count(b"X-Told") == 0 and b"x-told: " in heard.client
        assert VALUE not in heard.client  # a field that repeats it tells the placeholder


def test_a_credential_stays_out_of_plain_requests_and_of_servers_that_prove_nothing(
    monkeypatch: pytest.MonkeyPatch, outer: OuterAuthority, tmp_path: Path
) -> None:
    swaps, data = (Swap(PLACEHOLDER, VALUE, parse(HOST)),), asked_with(f"X: {PLACEHOLDER.decode()}")
    looking = inspector(outer.pem)
    looking.swaps = swaps
    heard = asking(monkeypatch, data, looking=looking)
    assert b"x: " + PLACEHOLDER in heard.asked and VALUE not in heard.asked
    heard = secretly(monkeypatch, outer, outer.server(tmp_path / "pem", "other.example.org"), data, swaps=swaps)
    assert b"HTTP/1.1 502" in heard.client and VALUE not in heard.asked
    heard = secretly(monkeypatch, outer, outer.server(tmp_path / "pem", HOST), data.replace(b"GET", b"TRACE"), swaps=swaps, allow=(HOST,))
    assert b"HTTP/1.1 405" in heard.client and heard.asked == b""


def test_rules_that_are_not_on_requests_leave_a_host_alone() -> None:
    from inspection_kit import judge_of

    judge, _ = judge_of((*RULES, "pypi.org", "GET *.example.com:443/x"), ("POST evil.org",))
    for host, port, inspected in (
        (HOST, PORT, True),
        ("pypi.org", 443, False),
        ("a.example.com", 443, True),
        ("a.example.com", 444, False),
        ("example.com", 443, False),
    ):
        assert judge.inspects(host, port) is inspected, host
