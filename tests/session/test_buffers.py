"""What the egress proxy's connections may hold is bounded, whichever of them are opened and closed."""

from __future__ import annotations

import random
import socket
import sys

import pytest

if sys.platform != "linux":
    pytest.skip("the proxy is Linux's", allow_module_level=True)

from houseroom.session.proxy.buffers import SHARES, Buffers


def share(number: int) -> int:
    return next(size for most, size in SHARES if number <= most)


def test_shares_get_smaller() -> None:
    assert [size for _, size in SHARES] == sorted((size for _, size in SHARES), reverse=True)
    assert [most for most, _ in SHARES] == sorted(most for most, _ in SHARES)


def test_all_together_hold_no_more_than_the_shares_up_to_their_number() -> None:
    numbers, buffers, held = random.Random(1), Buffers(), list[int]()
    ones, most = socket.socketpair(), 0
    try:
        for _ in range(5_000):
            if held and numbers.random() < 0.45:
                held.pop(numbers.randrange(len(held)))
                buffers.leave()
                continue
            buffers.enter(ones[0])
            held.append(buffers.share())
            most = max(most, len(held))
            assert sum(held) <= sum(share(number) for number in range(1, len(held) + 1))
    finally:
        for one in ones:
            one.close()
    assert most > SHARES[-2][0], "it never got crowded"


def test_a_connection_has_its_share_in_both_directions() -> None:
    def of(sock: socket.socket) -> set[int]:
        return {sock.getsockopt(socket.SOL_SOCKET, option) for option in (socket.SO_SNDBUF, socket.SO_RCVBUF)}

    buffers = Buffers()
    with socket.socket() as before, socket.socket() as first, socket.socket() as last, socket.socket() as outer:
        for sock in (before, first):
            buffers.outer(sock)  # as many as the kernel may fit by itself
        assert of(first) == of(before)
        for _ in range(SHARES[-2][0]):
            buffers.enter(first)
        buffers.enter(last)
        buffers.outer(outer)
        assert of(last) == of(outer) == {2 * SHARES[-1][1]}, "the kernel says twice what was asked for (socket(7))"
        assert of(first) != of(last)
