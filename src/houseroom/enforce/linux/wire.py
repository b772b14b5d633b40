"""Messages between supervisor and init over one inherited stream socket.

Before the command exists both ends are our own code, one interpreter forked, and speak in marshalled plain values
(``marshal`` is built in and costs nothing at start-up). From the command's start on, the supervisor reads nothing from
init but frames of eight bytes: whatever happened inside, it can say no more than a kind and a number.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import marshal
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from houseroom.plan import steps as plan

LONGEST = 64 << 20
EXITED, NOT_EXECUTED, UNWATCHED = 1, 2, 3  # with a wait status, an errno, nothing
_KINDS = (EXITED, NOT_EXECUTED, UNWATCHED)


def send(fd: int, message: Any) -> None:
    """Send one message of plain values. Raises OSError when the other end is gone."""
    data = marshal.dumps(message)
    data = len(data).to_bytes(4, "little") + data
    while data:
        data = data[os.write(fd, data) :]


def receive(fd: int) -> Any:
    """The next message, None at the end of the stream. Raises ValueError for a frame that is too long."""
    head = _exactly(fd, 4)
    if not head:
        return None
    length = int.from_bytes(head, "little")
    if length > LONGEST:
        raise ValueError(f"a message of {length} bytes")
    data = _exactly(fd, length)
    return marshal.loads(data) if data else None


def send_status(fd: int, kind: int, number: int) -> None:
    """One frame of eight bytes."""
    os.write(fd, kind.to_bytes(4, "little") + number.to_bytes(4, "little"))


def receive_status(fd: int) -> tuple[int, int] | None:
    """The next frame as (kind, number); None at the end of the stream or for anything that is not a frame."""
    data = _exactly(fd, 8)
    kind = int.from_bytes(data[:4], "little")
    return (kind, int.from_bytes(data[4:], "little")) if kind in _KINDS else None


def pack_steps(steps: tuple[plan.Step, ...]) -> list[tuple[str, tuple[object, ...]]]:
    """Steps as plain values."""
    return [(type(step).__name__, step.values()) for step in steps]


def pack(steps: tuple[plan.Step, ...], machine: str) -> dict[str, object]:
    """All that init needs of a plan: its steps, and the assembled filters by program."""
    from houseroom.plan import seccomp
    from houseroom.plan import steps as plan

    filters = {
        step.program: seccomp.assemble(step.program, machine, mediated=step.mediated, network=step.network)
        for step in steps
        if isinstance(step, plan.Seccomp)
    }
    return {"steps": pack_steps(steps), "filters": filters}


def unpack_steps(packed: list[tuple[str, tuple[object, ...]]]) -> tuple[plan.Step, ...]:
    """The steps again."""
    from houseroom.plan import steps as plan  # a supervisor with a remembered plan never unpacks it

    return tuple(getattr(plan, name)(*values) for name, values in packed)


def _exactly(fd: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = os.read(fd, count - len(data))
        if not part:
            return b""
        data += part
    return data
