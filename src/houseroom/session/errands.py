"""What is said between a session's holder and those who use the session by name: the bytes, and nothing that reads or writes them.

Each message is a head of eight bytes (``HR``, version, kind, length of what follows) and a body. Both ends are the same user's, outside
the sandbox. Imports nothing: ``session exec`` pays for it each time.

    RUN        which streams come along as descriptors, a terminal's size or 0, words; then directory, argv, environment, with NULs between
    SIGNAL     a signal for the command's process group
    LOOK       what is there to know of the session
    STOP       end it

    STARTED    only where a terminal was asked for: its outer end comes along
    STOPPED    the signal that stopped a command in a terminal
    ENDED      wait status
    FAILED     errno, what it was about (frames.IN_…): the command could not be started
    REFUSED    words for the user: nothing was started, or the session has ended; a hint after a NUL
    FACTS      JSON
    EXPLAINED  JSON: wait status, whether a limit ended the command, and what there is to say besides (``telling``)
"""

from __future__ import annotations

RUN, SIGNAL, LOOK, STOP = 1, 2, 3, 4
STARTED, STOPPED, ENDED, FAILED, REFUSED, FACTS, EXPLAINED = 11, 12, 13, 14, 15, 17, 18

HEAD = 8
LONGEST = 16 << 20  # more than any command can get
_MARK = b"HR\1"
_NUMBERS = 9  # bytes before the words of RUN


def message(kind: int, body: bytes = b"") -> bytes:
    """One message."""
    return b"%s%c%s%s" % (_MARK, kind, len(body).to_bytes(4, "little"), body)


def number(kind: int, *numbers: int) -> bytes:
    """A message of numbers, four bytes each."""
    return message(kind, b"".join([value.to_bytes(4, "little") for value in numbers]))


def run(argv: list[bytes], environment: list[bytes], cwd: bytes, streams: tuple[int, ...], size: tuple[int, int] = (0, 0)) -> bytes:
    """Ask for a command. ``environment`` as ``NAME=value``; ``streams`` are those of 0, 1 and 2 that are sent along, in order.

    The others are the terminal's that ``size`` (rows, columns) asks for. Words have no NUL: they came from execve(2).
    """
    mask = sum([1 << stream for stream in streams])
    numbers = b"%c%s%s%s" % (mask, size[0].to_bytes(2, "little"), size[1].to_bytes(2, "little"), len(argv).to_bytes(4, "little"))
    return message(RUN, numbers + b"\0".join([cwd, *argv, *environment]))


def read_head(data: bytes) -> tuple[int, int]:
    """Kind and length of the body. Raises ValueError for what is no message."""
    length = int.from_bytes(data[4:HEAD], "little")
    if data[:3] != _MARK or len(data) < HEAD or length > LONGEST:
        raise ValueError("not a message")
    return data[3], length


def read_numbers(body: bytes) -> list[int]:
    """The numbers of a body."""
    return [int.from_bytes(body[at : at + 4], "little") for at in range(0, len(body), 4)]


def read_run(body: bytes) -> tuple[list[bytes], bytes, bytes, tuple[int, ...], tuple[int, int]]:
    """What ``run`` was given: argv, the environment with NULs between, directory, streams, size. Raises ValueError."""
    mask, words = body[0] if body else 0, int.from_bytes(body[5:_NUMBERS], "little")
    parts = body[_NUMBERS:].split(b"\0", words + 1)
    if not words or len(parts) < words + 1 or mask >> 3:
        raise ValueError("not a command")
    environment = parts.pop() if len(parts) == words + 2 else b""
    size = (int.from_bytes(body[1:3], "little"), int.from_bytes(body[3:5], "little"))
    return parts[1:], environment, parts[0], tuple([stream for stream in (0, 1, 2) if mask >> stream & 1]), size
