"""A request is the same after its way to the keeper, an answer after its way back, and what is none is told from one."""

from __future__ import annotations

import pytest

from houseroom import CannotEnforce, PolicyError, SetupFailed
from houseroom.policy import presets
from houseroom.policy.model import Origin, Places, Policy, Rule, Setting
from houseroom.session import request
from houseroom.session.environment import Choice

ORIGIN = Origin("session", "Python")
RULE = Rule("files.write", "~/notes", ORIGIN, "given in Python")
PLACES = Places("/home/u/ws", "/home/u", "/tmp", 1000)
CHOICE = Choice({"A": 2, "\udcff": 0}, "/tmp", (("X", "/tmp/x", "x"),), (((("A_*", "user"),), (("*_TOKEN", "preset"),)),))


@pytest.mark.parametrize(
    "wanted",
    [
        request.Request(PLACES, {}),
        request.Request(
            PLACES, {b"A": b"\xff", b"B": b""}, None, "read-only", (RULE,), {"network.reach": Setting("open", ORIGIN)}, ("sockets",)
        ),
        request.Request(PLACES, {}, Policy("workspace", (presets.preset("workspace"),), (RULE,))),
        request.Request(PLACES, {}, Policy("two", tuple(presets.preset(name) for name in presets.NAMES))),
    ],
    ids=["least", "session", "policy", "strata"],
)
def test_a_request_is_read_as_it_was_written(wanted: request.Request) -> None:
    assert request.load(request.dump(wanted)) == wanted


def test_what_was_built_is_read_as_it_was_written() -> None:
    built = request.Built(
        {b"A": b"\xff"},
        ("GITHUB_TOKEN",),
        CHOICE,
        {"limits.time": (1.5, "1500ms", "built in")},
        {"memory": ("v1", "/sys/fs/cgroup/memory/x")},
        own_mounts=True,
    )
    assert request.load_answer(request.dump_answer(built)) == built


@pytest.mark.parametrize(
    "error",
    [
        PolicyError("m", file="f", line=1, column=2, text="t", hint="h"),
        CannotEnforce(("a", "b"), "reason", "hint"),
        SetupFailed("do", "this", 13, "no", "hint"),
    ],
)
def test_an_error_is_raised_as_it_was(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        request.load_answer(request.dump_answer(error))
    assert (vars(caught.value), str(caught.value)) == (vars(error), str(error))


def test_an_error_of_ours_comes_with_its_traceback() -> None:
    try:
        ours = {}["nothing"]
    except KeyError as error:
        ours = error
    with pytest.raises(RuntimeError, match=r"(?s)keeper.*test_request\.py.*KeyError: 'nothing'"):
        request.load_answer(request.dump_answer(ours))


@pytest.mark.parametrize("data", [b"", b"\xff", b"(\x05", b"garbage", b"i\x01\x00\x00\x00"])
def test_a_keeper_that_died_has_said_nothing(data: bytes) -> None:
    with pytest.raises(SetupFailed, match="without a word"):
        request.load_answer(data)
