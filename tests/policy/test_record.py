from __future__ import annotations

import copy
import pickle

import pytest

from houseroom.policy.record import Record


class Point(Record):
    x: int
    y: int = 0


class Named(Point):
    name: str = ""


class Narrowed(Named):
    x: int = 5


def test_fields_by_position_and_by_name() -> None:
    assert Point(1, 2) == Point(y=2, x=1) == Point(1).with_(y=2)
    assert repr(Named(1, name="p")) == "Named(x=1, y=0, name='p')"


@pytest.mark.parametrize(
    "make",
    [Point, lambda: Point(1, 2, 3), lambda: Point(1, x=1), lambda: Point(1, z=1), lambda: Point(1).with_(z=1)],
    ids=["lacking", "too many", "twice", "unknown", "unknown change"],
)  # fmt: skip
def test_wrong_fields_are_refused(make: object) -> None:
    with pytest.raises(TypeError):
        make()  # type: ignore[operator]


def test_a_record_never_changes() -> None:
    point = Point(1)
    with pytest.raises(AttributeError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del point.x
    assert point.x == 1


def test_equality_is_by_type_and_values() -> None:
    assert Point(1, 2) != Named(1, 2)
    assert {Point(1, 2): "seen"}[Point(1, 2)] == "seen"


def test_a_subclass_keeps_the_order_of_fields_and_may_give_defaults() -> None:
    assert Named.__match_args__ == ("x", "y", "name")
    assert Narrowed() == Narrowed(x=5, y=0, name="")


def test_records_match_by_position() -> None:
    match Named(1, 2, "p"):
        case Named(x, y, name):
            assert (x, y, name) == (1, 2, "p")


def test_records_can_be_copied_and_pickled() -> None:
    for again in (copy.copy(Point(1, 2)), copy.deepcopy(Point(1, 2)), pickle.loads(pickle.dumps(Point(1, 2)))):
        assert again == Point(1, 2)
