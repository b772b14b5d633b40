"""Requests to a starter and what it answers: the bytes, and nothing that reads or writes them.

A request is a head of eight bytes (version, kind, length of what follows) and a body; it goes into the sandbox, so the reading
side believes nothing but the frame: every count is checked against what is there. An answer comes out of the sandbox and is
always 48 bytes, a head and five numbers, so whatever happened inside can say no more than that.

    START      argv, environment, directory, which descriptors become which, perhaps a terminal's size
    ANOTHER    to the first starter only: one more starter; a number that the answer repeats

    STARTED    process id inside                     a terminal's other end comes along where one was asked for
    FAILED     errno, what it was about
    EXITED     wait status, 1 where nothing of it is left alive, user and system time in microseconds, largest resident set in KiB
    STARTER    process id inside, number of the request    a socket to it comes along
    STOPPED    signal                                only of a command with a terminal of its own; it can be continued
"""

from __future__ import annotations

from _struct import Struct

VERSION = 1
START, ANOTHER = 1, 2
STARTED, FAILED, EXITED, STARTER, STOPPED = 3, 4, 5, 6, 7
IN_COMMAND, IN_DIRECTORY, IN_STREAMS, IN_TERMINAL = 0, 1, 2, 3  # what a FAILED is about

LONGEST = 8 << 20  # execve(2) takes a quarter of the stack limit, 2 MiB by default
MOST_DESCRIPTORS = 64  # the kernel passes at most 253 at a time
ANSWER = 48

HEAD = Struct("<HHI")
_START = Struct("<IIHHHH")  # words, variables, descriptors, rows, columns, whether only its end is of interest
_ANSWER = Struct("<HHI5Q")


def start(
    argv: list[bytes],
    environment: bytes,
    cwd: bytes,
    targets: tuple[int, ...] = (0, 1, 2),
    size: tuple[int, int] = (0, 0),
    *,
    quiet: bool = False,
) -> bytes:
    """A request to start a command.

    ``environment`` is a block as ``block`` makes it. ``targets`` are the numbers that the descriptors sent along get inside, in
    their order. ``size`` (rows, columns) asks for a terminal of the command's own, which becomes 0, 1 and 2 where no target does;
    where the sandbox can open none, the inner end of one made outside is sent along after the others.
    ``quiet`` asks for no STARTED.
    Raises ValueError for what no command can get: a NUL, no word, too much of it.
    """
    if not argv or len(targets) > MOST_DESCRIPTORS:
        raise ValueError("no command" if not argv else f"more than {MOST_DESCRIPTORS} descriptors")
    words = b"\0".join((cwd, *argv))
    if words.count(b"\0") != len(argv):
        raise ValueError("a word with a NUL in it")
    numbers = b"".join(number.to_bytes(4, "little") for number in targets)
    variables = environment.count(b"\0") + 1 if environment else 0
    text = words + b"\0" + environment if environment else words
    body = b"".join((_START.pack(len(argv), variables, len(targets), *size, quiet), numbers, text))
    if len(body) > LONGEST:
        raise ValueError(f"{len(body)} bytes of arguments and environment, more than any command can get")
    return HEAD.pack(VERSION, START, len(body)) + body


def block(environment: dict[bytes, bytes]) -> bytes:
    """An environment as one string of bytes. Raises ValueError for a name or value that can't be one."""
    for name, value in environment.items():
        if not name or b"=" in name or b"\0" in name or b"\0" in value:
            raise ValueError(f"no environment variable: {name[:100]!r}")
    return b"\0".join([name + b"=" + value for name, value in environment.items()])


def unblock(environment: bytes) -> dict[bytes, bytes]:
    """The environment of a block. Raises ValueError for what is none."""
    pairs = [variable.partition(b"=") for variable in environment.split(b"\0")] if environment else []
    if not all(name and equals for name, equals, _ in pairs):
        raise ValueError("an environment without names")
    return {name: value for name, _, value in pairs}


def another(turn: int) -> bytes:
    """A request for one more starter; the answer repeats the number."""
    return HEAD.pack(VERSION, ANOTHER, 4) + turn.to_bytes(4, "little")


def read_head(data: bytes) -> tuple[int, int]:
    """Kind and length of a request. Raises ValueError for what is none of this version."""
    version, kind, length = HEAD.unpack(data)
    if version != VERSION or kind not in (START, ANOTHER) or length > LONGEST:
        raise ValueError("not a request")
    return kind, length


def read_start(body: bytes) -> tuple[list[bytes], bytes, bytes, tuple[int, ...], tuple[int, int], bool]:
    """What ``start`` was given: argv, environment block, directory, targets, size, quiet. Raises ValueError for anything else."""
    if len(body) < _START.size:
        raise ValueError("a short request")
    words, variables, descriptors, rows, columns, quiet = _START.unpack_from(body)
    begin = _START.size + 4 * descriptors
    if descriptors > MOST_DESCRIPTORS or begin > len(body):
        raise ValueError("descriptors that are not there")
    targets = tuple(int.from_bytes(body[at : at + 4], "little") for at in range(_START.size, begin, 4))
    parts = body[begin:].split(b"\0", words + 1)
    if words < 1 or len(parts) != words + (2 if variables else 1):
        raise ValueError("words that are not there")
    environment = parts.pop() if variables else b""
    if len(set(targets)) != len(targets) or any(target > 0xFFFF for target in targets):
        raise ValueError("two descriptors for one number")
    if variables and environment.count(b"\0") + 1 != variables:
        raise ValueError("variables that are not there")
    return parts[1:], environment, parts[0], targets, (rows, columns), bool(quiet)


def answer(kind: int, *numbers: int) -> bytes:
    """One answer: up to five numbers."""
    return _ANSWER.pack(VERSION, kind, 0, *numbers, *(0,) * (5 - len(numbers)))


def read_answer(data: bytes) -> tuple[int, tuple[int, ...]]:
    """Kind and the five numbers of an answer. Raises ValueError for what is none."""
    if len(data) != ANSWER:
        raise ValueError("not an answer")
    version, kind, _, *numbers = _ANSWER.unpack(data)
    if version != VERSION or kind not in (STARTED, FAILED, EXITED, STARTER, STOPPED):
        raise ValueError("not an answer")
    return kind, tuple(numbers)
