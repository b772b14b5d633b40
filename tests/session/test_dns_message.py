"""Questions and answers of the small DNS, octet by octet."""

from __future__ import annotations

import pytest

from houseroom.session.proxy import dns_message as dns
from houseroom.session.proxy.dns_message import DnsError, Query, read_query

OPTION = b"\0\0\x29\x10\0\0\0\0\0\0\0"  # EDNS: 4096 octets, version 0


def labels(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode("latin-1") for label in name.split(".") if label) + b"\0"


def question(
    name: str = "example.org", kind: int = dns.A, *, klass: int = 1, flags: int = 0x0100, more: bytes = b"", counts: str = "1000"
) -> bytes:
    head = b"\xab\xcd" + flags.to_bytes(2, "big") + b"".join(bytes([0, int(count)]) for count in counts)
    return head + labels(name) + kind.to_bytes(2, "big") + klass.to_bytes(2, "big") + more


def code(answer: bytes) -> int:
    return answer[3] & 0xF


def test_a_question_is_read_and_its_letters_keep_their_case() -> None:
    query = read_query(question("eXaMPle.oRG", dns.AAAA))
    assert (query.id, query.host, query.kind, query.edns, query.wants_addresses) == (0xABCD, "example.org", dns.AAAA, 0, True)
    answer = dns.addresses(query, [bytes(16), bytes(4)], 60)
    assert answer == (
        b"\xab\xcd\x81\x80\0\1\0\1\0\0\0\0" + labels("eXaMPle.oRG") + b"\0\x1c\0\1" + b"\xc0\x0c\0\x1c\0\1\0\0\0\x3c\0\x10" + bytes(16)
    )


def test_an_answer_holds_what_was_asked_for_only() -> None:
    four, six = bytes((8, 8, 8, 8)), bytes(16)
    assert four in dns.addresses(read_query(question(kind=dns.A)), [six, four], 1)
    for kind in (dns.SVCB, dns.HTTPS, 16, 255):
        answer = dns.addresses(read_query(question(kind=kind)), [six, four], 1)
        assert answer == dns.no_data(read_query(question(kind=kind)))
        assert answer[6:8] == b"\0\0" and code(answer) == dns.NO_ERROR
    assert not read_query(question(klass=3)).wants_addresses


def test_each_refusal_has_its_code() -> None:
    query = read_query(question())
    codes = {dns.no_such_name: 3, dns.refused: 5, dns.failed: 2, dns.not_implemented: 4, dns.no_data: 0, dns.truncated: 0}
    for make, number in codes.items():
        answer = make(query)  # type: ignore[operator]
        assert code(answer) == number
        assert answer[12:] == query.question
    assert dns.truncated(query)[2] & 2
    assert not dns.no_data(query)[2] & 2


@pytest.mark.parametrize("name", ["_dmarc.example.org", "", "a b.example.org", "x.1", "\u00e9.org", "a\0b.org", "-a.org"])
def test_what_is_no_name_of_a_host_is_a_question_all_the_same(name: str) -> None:
    assert read_query(question(name)).host == ""
    assert read_query(question("a.org")).host == "a.org"


def test_a_dot_within_a_label_is_no_dot_between_labels() -> None:
    raw = question("x").replace(labels("x"), b"\x0bexample.org\0")
    assert read_query(raw).host == ""


def test_what_the_sender_takes_over_udp() -> None:
    many = [bytes((8, 8, 8, each)) for each in range(100)]
    plain, wide = read_query(question()), read_query(question(counts="1001", more=OPTION))
    assert (plain.edns, wide.edns) == (0, 4096)
    for query, limit, most in ((plain, 0, 512), (wide, 0, 1232), (plain, 65535, 65535)):
        answer = dns.addresses(query, many, 1, limit=limit)
        assert len(answer) <= most
        assert bool(answer[2] & 2) == (most < 65535)
        assert int.from_bytes(answer[6:8], "big") == (100 if most == 65535 else (most - len(dns.no_data(query))) // 16)
    assert dns.refused(wide, "not in the policy").endswith(b"\0\x0f\0\x13\0\x12not in the policy")
    assert b"policy" not in dns.refused(plain, "not in the policy")


@pytest.mark.parametrize(
    "message",
    [
        question(counts="0000"),
        question(counts="2000"),
        question(counts="1100"),
        question(counts="1010"),
        question(counts="1001"),
        question(more=b"x"),
        question()[:-1],
        question()[:-4],
        question()[:14],
        question("x").replace(labels("x"), b"\xc0\x0c"),
        question("x").replace(labels("x"), b"\x40x\0"),
        question(".".join(["a" * 63] * 4)),
        question(counts="1002", more=OPTION * 2),
        question(counts="1001", more=OPTION[:-1]),
        question(counts="1001", more=OPTION[:-1] + b"\1"),
        question(counts="1001", more=b"\0\0\xfa" + OPTION[3:]),
        question(counts="1009", more=OPTION * 9),
        question(more=bytes(5000)),
    ],
)
def test_what_is_malformed_is_answered_as_that(message: bytes) -> None:
    with pytest.raises(DnsError) as caught:
        read_query(message)
    assert caught.value.answer[:2] == b"\xab\xcd" and caught.value.answer[2] & 0x80
    assert code(caught.value.answer) == dns.FORMAT_ERROR


def test_other_operations_and_versions() -> None:
    with pytest.raises(DnsError) as caught:
        read_query(question(flags=0x2800))  # an update
    assert code(caught.value.answer) == dns.NOT_IMPLEMENTED
    with pytest.raises(DnsError) as caught:
        read_query(question(counts="1001", more=OPTION[:6] + b"\1" + OPTION[7:]))
    assert caught.value.answer[-6] == 1 and code(caught.value.answer) == 0  # 16, in two places
    assert read_query(question(counts="1001", more=OPTION)).edns


@pytest.mark.parametrize("message", [b"", question()[:11], question(flags=0x8100)])
def test_what_must_not_be_answered_is_not(message: bytes) -> None:
    with pytest.raises(DnsError) as caught:
        read_query(message)
    assert caught.value.answer == b""


def test_messages_in_a_stream() -> None:
    two = dns.framed(question()) + dns.framed(question("b.org"))
    assert dns.unframed(two) == (question(), len(question()) + 2)
    assert all(dns.unframed(dns.framed(question())[:at]) is None for at in range(len(question()) + 2))
    for length in (b"\0\0", b"\0\x0b", b"\xff\xff"):
        with pytest.raises(DnsError):
            dns.unframed(length)


def test_a_query_is_a_value() -> None:
    assert read_query(question()) == Query(0xABCD, 0x0100, question()[12:], "example.org", 1, 1, 0)
