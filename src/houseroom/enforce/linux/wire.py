"""Messages between supervisor and init over one inherited stream socket.

Before the command exists both ends are our own code, one interpreter forked, and speak in marshalled plain values
(``marshal`` is built in and costs nothing at start-up). From the command's start on, the supervisor reads nothing from
init but frames of eight bytes: whatever happened inside, it can say no more than a kind and a number. Where commands are observed
there are notes behind one such frame: bytes that are bounded, and that only ``observed`` reads. What it tells init are three numbers.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _socket
import marshal
import os
from select import POLLOUT, poll

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from houseroom.plan import steps as plan

LONGEST, LONGEST_NOTES = 64 << 20, 4 << 20
_MSG_CMSG_CLOEXEC = 0x40000000
EXITED, NOT_EXECUTED, UNWATCHED = 1, 2, 3  # with a wait status, an errno, nothing
ENDED, STARTERS = 4, 5  # with the starter below which nothing is left; a first starter's process id, and a socket to it
STOPPED = 6  # with a signal: a command with a terminal of its own, which can be continued
LIMIT = 7  # with the limit's place in tally.KINDS, because of which init has ended processes
OBSERVED = 8  # with the number of bytes that follow: what was noted
BROKEN = 9  # with the errno that init ends with, and everything inside
_KINDS = (EXITED, NOT_EXECUTED, UNWATCHED, ENDED, STARTERS, STOPPED, LIMIT, OBSERVED, BROKEN)
GO, SIGNAL, END = 1, 2, 3  # nothing; a signal and the process it is for, 0 for the command; a starter
SIGNAL_GROUP = 4  # a signal and the process that leads the group it is for, 0 for the command
NOTES = 5  # a starter whose command's notes are wanted, 0 for the command
WATCH = 6  # nothing: a session's first command is about to start


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


def notify(fd: int, kind: int, number: int) -> None:
    """The same without waiting: where nobody reads, what commands can make us say any number of times is said no more."""
    room = poll()
    room.register(fd, POLLOUT)
    if room.poll(0):
        send_status(fd, kind, number)


def receive_status(fd: int) -> tuple[int, int] | None:
    """The next frame as (kind, number); None at the end of the stream or for anything that is not a frame."""
    data = _exactly(fd, 8)
    kind = int.from_bytes(data[:4], "little")
    return (kind, int.from_bytes(data[4:], "little")) if kind in _KINDS else None


def send_notes(fd: int, notes: bytes) -> None:
    """A frame, and behind it what ``observe.Observer.take`` gave."""
    data = OBSERVED.to_bytes(4, "little") + len(notes).to_bytes(4, "little") + notes
    while data:
        data = data[os.write(fd, data) :]


def receive_notes(fd: int, length: int) -> bytes:
    """What follows an OBSERVED frame, for ``observed.read``. Raises ValueError for more than init may say."""
    if length > LONGEST_NOTES:
        raise ValueError(f"notes of {length} bytes")
    return _exactly(fd, length)


def tell(fd: int, kind: int, number: int = 0, more: int = 0) -> None:
    """Twelve bytes for init. Raises OSError when it is gone."""
    os.write(fd, b"".join(value.to_bytes(4, "little") for value in (kind, number, more)))


def hear(fd: int) -> tuple[int, int, int] | None:
    """What the supervisor tells: a kind and two numbers; None when it is gone."""
    data = _exactly(fd, 12)
    return (*(int.from_bytes(data[at : at + 4], "little") for at in (0, 4, 8)),) if data else None  # type: ignore[return-value]


def send_descriptor(fd: int, descriptor: int) -> None:
    """A copy of a descriptor of ours, with one byte (unix(7)). Raises OSError when the other end is gone."""
    sock = _socket.socket(fileno=os.dup(fd))
    try:
        sock.sendmsg([b"D"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptor.to_bytes(4, sys.byteorder))])
    finally:
        sock.close()


def receive_descriptor(fd: int) -> int:
    """The descriptor that comes next; -1 where none does. It is close-on-exec."""
    sock = _socket.socket(fileno=os.dup(fd))
    try:
        _data, ancillary, _flags, _address = sock.recvmsg(1, _socket.CMSG_SPACE(4), _MSG_CMSG_CLOEXEC)
    finally:
        sock.close()
    return next((int.from_bytes(content[:4], sys.byteorder) for _level, _kind, content in ancillary if len(content) == 4), -1)


def pack_steps(steps: tuple[plan.Step, ...]) -> bytes:
    """Steps as one value that is carried, kept and passed on without being looked into."""
    from houseroom.plan.siblings import gather

    return marshal.dumps([(type(step).__name__, step.values()) for step in gather(steps)])


def pack(steps: tuple[plan.Step, ...], machine: str) -> dict[str, object]:
    """All that init needs of a plan: its steps, the assembled filters by program; and the limits of the control group it is put into."""
    from houseroom.plan import seccomp
    from houseroom.plan import steps as plan

    filters = {
        step.program: seccomp.assemble(step.program, machine, mediated=step.mediated, network=step.network, observe=step.observe)
        for step in steps
        if isinstance(step, plan.Seccomp)
    }
    group = [(step.memory, step.processes) for step in steps if isinstance(step, plan.Cgroup)]
    return {"steps": pack_steps(steps), "filters": filters, "group": group}


def unpack_steps(packed: bytes) -> tuple[plan.Step, ...]:
    """The steps again, and ``Siblings`` in the place of many."""
    from houseroom.plan import steps as plan  # a supervisor with a remembered plan never unpacks it

    return tuple(getattr(plan, name)(*values) for name, values in marshal.loads(packed)) if packed else ()


def _exactly(fd: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        try:
            part = os.read(fd, count - len(data))
        except ConnectionResetError:  # it has ended with something unread that we told it
            return b""
        if not part:
            return b""
        data += part
    return data
