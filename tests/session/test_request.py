"""A request is the same after its way through a pipe, and an answer that is none is told from one."""

from __future__ import annotations

import os

import pytest

from houseroom.policy import presets
from houseroom.policy.model import Origin, Places, Policy, Rule, Setting
from houseroom.session import request

ORIGIN = Origin("session", "Python")
RULE = Rule("files.write", "~/notes", ORIGIN, "given in Python")
PLACES = Places("/home/u/ws", "/home/u", "/tmp", 1000)


def through_a_pipe(wanted: request.Request) -> request.Request:
    reading, writing = os.pipe()
    data = request.dump(wanted)
    if os.fork() == 0:  # a pipe holds 64 KiB, a policy is more
        os.close(reading)
        while data:
            data = data[os.write(writing, data) :]
        os._exit(0)
    os.close(writing)
    try:
        return request.read(reading)
    finally:
        os.wait()


@pytest.mark.parametrize(
    "wanted",
    [
        request.Request(("true",), "/", {}, PLACES),
        request.Request(("printf", b"\xff\x00x", "ü", ""), "/home/u/ws", {b"A": b"\xff", b"B": b""}, PLACES, time=1.5),
        request.Request(("a",), "/", {}, PLACES, None, "read-only", (RULE,), {"network.reach": Setting("open", ORIGIN)}, ("sockets",)),
        request.Request(("a",), "/", {}, PLACES, Policy("workspace", (presets.preset("workspace"),), (RULE,))),
        request.Request(("a",), "/", {}, PLACES, Policy("two", tuple(presets.preset(name) for name in presets.NAMES))),
    ],
    ids=["least", "bytes", "session", "policy", "strata"],
)
def test_a_request_is_read_as_it_was_written(wanted: request.Request) -> None:
    assert through_a_pipe(wanted) == wanted


@pytest.mark.parametrize("answer", [("outcome", "exited", 3, "", ("A",)), ("policy", "m", "f", 1, 2, "t", "h"), ()])
def test_an_answer_is_read_as_it_was_written(answer: tuple[object, ...]) -> None:
    reading, writing = os.pipe()
    request.write_answer(writing, answer)
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert request.read_answer(pipe.read()) == answer


@pytest.mark.parametrize("data", [b"", b"\xff", b"(\x05", b"garbage", b"i\x01\x00\x00\x00"])
def test_a_supervisor_that_died_has_said_nothing(data: bytes) -> None:
    assert request.read_answer(data) == ()
