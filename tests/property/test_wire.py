"""The proxy's parsers: whatever arrives, and however it is cut, is a message, a wait or a ValueError, and the same one each time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from houseroom.session.proxy import client_hello, dns_message, http_head, socks
from houseroom.session.proxy.chunks import Chunks

HELLO = b"\x16\3\1\0\x49\1\0\0\x45\3\3" + bytes(32) + b"\0\0\2\x13\1\1\0\0\x1a" + b"\0\0\0\x10\0\x0e\0\0\x0bexample.org" + b"\xfe\x0d\0\2ab"
CASES: dict[str, tuple[Callable[[bytes], object], list[bytes]]] = {
    "proxied": (
        http_head.read_proxied,
        [b"GET http://a.org/ HTTP/1.1\r\nHost: a.org\r\nConnection: x\r\n\r\n", b"CONNECT a.org:1 HTTP/1.1\r\nHost: a.org:1\r\n\r\n"],
    ),
    "direct": (http_head.read_direct, [b"POST /a HTTP/1.1\r\nHost: [::1]:8\r\nTransfer-Encoding: chunked\r\n\r\n"]),
    "response": (
        lambda raw: http_head.read_response(raw, "GET"),
        [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", b"HTTP/1.1 101 \r\nUpgrade: websocket\r\n\r\n"],
    ),
    "greeting": (socks.read_greeting, [b"\5\2\0\1"]),
    "request": (socks.read_request, [b"\5\1\0\3\5a.org\0\x50", b"\5\1\0\1\1\2\3\4\0\x50", b"\5\1\0\4" + bytes(16) + b"\0\x50"]),
    "hello": (client_hello.read_hello, [HELLO]),
    "stream of questions": (dns_message.unframed, [b"\0\x17" + b"\1\2\1\0\0\1\0\0\0\0\0\0\1a\3org\0\0\1\0\1"]),
}
SAMPLES = [(kind, sample) for kind, (_, samples) in CASES.items() for sample in samples]


@pytest.mark.parametrize(("kind", "sample"), SAMPLES)
def test_the_samples_are_right_and_each_part_of_them_waits(kind: str, sample: bytes) -> None:
    read = CASES[kind][0]
    whole = read(sample)
    assert whole is not None
    assert [read(sample[:at]) for at in range(len(sample))] == [None] * len(sample)
    if kind != "hello":
        assert read(sample + b"more") == whole


@pytest.mark.parametrize("kind", CASES)
@given(data=st.data())
def test_any_bytes_are_a_message_or_a_wait_or_a_value_error(kind: str, data: st.DataObject) -> None:
    read, samples = CASES[kind]
    raw = bytearray(data.draw(st.one_of(st.binary(max_size=200), st.sampled_from(samples))))
    for _ in range(data.draw(st.integers(0, 4)) if raw else 0):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b"\r", b"\n", b"\r\n", b"\0", b" ", b":", b"\xff", b"0", b"/", b"\r\n\r\n"])
        )
        if not raw:
            break
    fate = outcome(read, bytes(raw))
    for at in range(len(raw)):  # what was refused or understood early stays so
        early = outcome(read, bytes(raw[:at]))
        assert early in (None, fate) or (early is ValueError and fate is ValueError)


def outcome(read: Callable[[bytes], object], raw: bytes) -> object:
    try:
        return read(raw)
    except ValueError:
        return ValueError


@given(
    st.one_of(st.binary(max_size=120), st.binary(max_size=60).map(lambda raw: b"\1\2\1\0\0\1\0\0\0\0\0\1\1a\3org\0\0\1\0\1" + raw)),
    st.data(),
)
def test_any_bytes_are_a_question_or_a_dns_error(raw: bytes, data: st.DataObject) -> None:
    try:
        query = dns_message.read_query(raw)
    except dns_message.DnsError as error:
        query, said = None, error
    if query is None:
        assert said.answer == b"" or said.answer[:2] == raw[:2]
        return
    count = data.draw(st.integers(0, 200))
    for answer in (
        dns_message.addresses(query, [bytes(4), bytes(16)] * count, 1),
        dns_message.refused(query, "x" * count),
        dns_message.truncated(query),
    ):
        assert len(answer) <= max(dns_message.SMALLEST, min(query.edns or 0, dns_message.LARGEST)) or len(query.question) > 250
        assert answer[:2] == raw[:2] and answer[12 : 12 + len(query.question)] == query.question
        with pytest.raises(dns_message.DnsError):
            dns_message.read_query(answer)  # an answer is never a question


@given(st.text(max_size=40), st.text(max_size=40))
def test_what_is_forwarded_is_read_back_as_the_same_request(name: str, value: str) -> None:
    raw = f"GET http://a.org/x HTTP/1.1\r\nHost: a.org\r\n{name}: {value}\r\n\r\n".encode()
    try:
        request = http_head.read_proxied(raw)
    except ValueError:
        return
    if request is None or request.size != len(raw):
        return
    again = http_head.read_direct(http_head.forwarded(request))
    assert again is not None
    assert (again.method, again.host, again.port, again.target, again.body) == ("GET", request.host, request.port, "/x", request.body)


PIECES = st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.sampled_from([b"", b";a", b';b="c d"', b" ;e"])), max_size=6)


@given(PIECES, st.sampled_from([b"", b"X: y\r\n", b"X: y\r\nZ:\r\n"]), st.lists(st.integers(0, 400), max_size=8))
def test_a_chunked_body_ends_at_the_same_place_however_it_is_cut(
    pieces: list[tuple[bytes, bytes]], trailer: bytes, cuts: list[int]
) -> None:
    raw = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), more, piece) for piece, more in pieces) + b"0\r\n" + trailer + b"\r\n"
    body, taken = Chunks(), 0
    stream = raw + b"HTTP/1.1 200 OK\r\n"
    ends = sorted({min(cut, len(stream)) for cut in cuts} | {len(stream)})
    for start, end in zip([0, *ends], ends):
        taken += body.feed(stream[start:end])
    assert body.ended
    assert taken == len(raw)


@given(st.one_of(st.binary(max_size=60), st.text(alphabet="05aF;\r\n: x\0", max_size=40).map(str.encode)))
def test_any_bytes_are_part_of_a_chunked_body_or_a_value_error(raw: bytes) -> None:
    def fed(pieces: list[bytes]) -> object:
        body = Chunks()
        try:
            return sum(body.feed(piece) for piece in pieces), body.ended
        except ValueError:
            return ValueError

    whole = fed([raw])
    assert fed([raw[at : at + 1] for at in range(len(raw))]) == whole
    assert fed([raw[: len(raw) // 2], raw[len(raw) // 2 :]]) == whole
