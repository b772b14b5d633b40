"""Requests into the sandbox and answers out of it: what was said is heard, and whatever else arrives is nothing worse than an end."""

from __future__ import annotations

import _socket
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("fcntl")  # frames are Linux's, and so is what reads them

from houseroom.enforce.linux import frames
from houseroom.enforce.linux.starters import Gone, Starter

WORDS = st.binary(max_size=40).map(lambda raw: raw.replace(b"\0", b"x"))
NAMES = WORDS.map(lambda raw: b"N" + raw.replace(b"=", b"y"))
TARGETS = st.lists(st.integers(0, 300), max_size=frames.MOST_DESCRIPTORS, unique=True).map(tuple)
SIZES = st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))


@given(st.lists(WORDS, min_size=1, max_size=8), st.dictionaries(NAMES, WORDS, max_size=8), WORDS, TARGETS, SIZES, st.booleans())
def test_a_request_is_heard_as_it_was_said(
    argv: list[bytes], environment: dict[bytes, bytes], cwd: bytes, targets: tuple[int, ...], size: tuple[int, int], quiet: bool
) -> None:
    block = frames.block(environment)
    request = frames.start(argv, block, cwd, targets, size, quiet=quiet)
    kind, length = frames.read_head(request[: frames.HEAD.size])
    assert (kind, length) == (frames.START, len(request) - frames.HEAD.size)
    assert frames.read_start(request[frames.HEAD.size :]) == (argv, block, cwd, targets, size, quiet)
    assert frames.unblock(block) == environment


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_a_value_error(body: bytes) -> None:
    try:
        argv, block, _cwd, targets, _size, _quiet = frames.read_start(body)
    except ValueError:
        return
    assert argv
    assert len(targets) == len(set(targets)) <= frames.MOST_DESCRIPTORS
    assert sum(map(len, argv)) + len(block) <= len(body)


@given(st.lists(WORDS, min_size=1, max_size=4), st.data())
def test_a_request_with_bytes_changed_is_a_request_or_a_value_error(argv: list[bytes], data: st.DataObject) -> None:
    request = bytearray(frames.start(argv, b"A=1\0B=2", b"/", (0, 1, 2)))
    for _ in range(data.draw(st.integers(1, 4))):
        request[data.draw(st.integers(0, len(request) - 1))] = data.draw(st.integers(0, 255))
    try:
        frames.read_head(bytes(request[: frames.HEAD.size]))
        frames.read_start(bytes(request[frames.HEAD.size :]))
    except ValueError:
        return


@given(st.binary(min_size=8, max_size=8))
def test_a_head_is_known_and_bounded_or_a_value_error(head: bytes) -> None:
    try:
        kind, length = frames.read_head(head)
    except ValueError:
        return
    assert kind in (frames.START, frames.ANOTHER)
    assert length <= frames.LONGEST


@pytest.mark.parametrize("wrong", [[], [b"a\0b"]])
def test_what_no_command_can_get_is_refused_before_it_is_sent(wrong: list[bytes]) -> None:
    with pytest.raises(ValueError, match=r"no command|NUL"):
        frames.start(wrong, b"", b"/")


@pytest.mark.parametrize("environment", [{b"": b"x"}, {b"A=B": b"x"}, {b"A": b"x\0y"}])
def test_no_variable_smuggles_another(environment: dict[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match="no environment variable"):
        frames.block(environment)


@given(st.binary(max_size=3 * frames.ANSWER))
def test_whatever_comes_out_of_a_sandbox_is_an_answer_or_its_end(said: bytes) -> None:
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    theirs.send(said)
    theirs.close()
    starter = Starter(2, ours)
    for _ in range(3):
        try:
            kind, numbers, descriptor = starter.answer()
        except Gone:
            break
        assert kind in (frames.STARTED, frames.FAILED, frames.EXITED, frames.STARTER)
        assert len(numbers) == 5
        assert descriptor == -1
    with pytest.raises(Gone):
        starter.answer()
    starter.close()


def test_a_descriptor_that_comes_with_nonsense_is_closed() -> None:
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    end, other = os.pipe()
    theirs.sendmsg([b"x" * frames.ANSWER], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, other.to_bytes(4, "little"))])
    os.close(other)
    theirs.close()
    starter = Starter(2, ours)
    with pytest.raises(Gone):
        starter.answer()
    starter.close()
    assert os.read(end, 1) == b""  # nobody holds the other end any more
    os.close(end)
