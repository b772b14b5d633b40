"""Commands of a session for a caller that waits: build the sandbox, start, attend to streams and time, end with all below.

May be used by many threads. No thread is made.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from _socket import SO_RCVTIMEO, SO_SNDTIMEO, SOL_SOCKET
from _struct import pack
from select import POLLIN, POLLOUT, poll
from time import monotonic

from houseroom.enforce.linux.starters import PATIENCE, TRIES, Gone, readable
from houseroom.errors import SetupFailed
from houseroom.policy.record import Record
from houseroom.session import standing
from houseroom.session.course import NO_TERMINAL, Course
from houseroom.session.exchange import LINGER, LINGER_AT_MOST, Captured, Exchange, Plumbing
from houseroom.session.standing import Standing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.enforce.linux.starters import Starter
    from houseroom.session.counting import Counting
    from houseroom.session.course import Call
    from houseroom.session.request import Request

TICK = 1  # seconds without a word from a starter, after which it is woken: a command may have stopped it
_TICK = pack("ll", TICK, 0)  # struct timeval, socket(7)
TOLD_WITHIN = (0.02, 0.05, 0.2, 0.8)  # seconds: a starter tells of a killed command at once


class Done(Record):
    """A command that has ended, by ``course``. ``stopped``: the policy's limits.time did it."""

    course: Course
    stdout: Captured | None
    stderr: Captured | None
    withheld: tuple[str, ...]
    stopped: bool = False


class TimeIsUp(Exception):
    """The caller's own time, with what had been captured by then. Everything that the command started has ended."""

    def __init__(self, stdout: Captured | None, stderr: Captured | None):
        super().__init__()
        self.stdout, self.stderr = stdout, stderr


def build(wanted: Request) -> Standing:
    """A sandbox. Raises PolicyError, CannotEnforce and SetupFailed."""
    sock = standing.ask(wanted)
    try:
        return Standing(wanted, sock)
    finally:
        sock.close()


def close(house: Standing) -> None:
    """End a sandbox, and wait until nothing in it is alive."""
    house.close()
    if house.owner == os.getpid():
        house.starters.close()


def run(house: Standing, call: Call, *, data: bytes | None = None, seconds: float | None = None, limit: int | None = None) -> Done:
    """Run a command to its end. ``data`` is its input, ``seconds`` the time it may take, ``limit`` what is kept of each stream.

    Raises OSError for what could not be started, SessionEnded, and TimeIsUp.
    """
    plumbing, exchange = Plumbing(call.stdin, call.stdout, call.stderr, call.more, terminal=call.size != NO_TERMINAL), Exchange()
    try:
        course, withheld = start(house, call, plumbing, quiet=True)
        out, err = exchange.connect(course.terminal, plumbing, data, limit)
        limits = [time for time in (seconds, house.time) if time is not None]
        in_time = see_through(house, course, exchange, min(limits) if limits else None)
        if in_time or (house.time is not None and house.time == min(limits)):
            return Done(course, out, err, withheld, not in_time)
        raise TimeIsUp(out, err)
    finally:
        exchange.close()
        plumbing.close()


def start(house: Standing, call: Call, plumbing: Plumbing, *, quiet: bool) -> tuple[Course, tuple[str, ...]]:
    """Ask a starter for a command; unless ``quiet``, wait until it runs. Returns its course, and what was withheld from it.

    Raises OSError for what could not be started, and SessionEnded.
    """
    house.check()
    settle(house, plumbing)
    cwd = os.path.join(house.workspace, call.cwd) if call.cwd else house.workspace
    request, withheld = house.request(call.argv, cwd, call.environment, plumbing.targets, call.size, quiet=quiet)
    if house.limits is None:
        course = Course(_ask(house, request, plumbing), call.argv, cwd)
    else:
        course = _limited(house, request, plumbing, call, cwd)
    plumbing.close_theirs()
    if not quiet or call.size != NO_TERMINAL:
        try:
            course.hear()
        except Gone:
            if not bury(house, course):
                raise house.ended() from None
        except BaseException:
            kill(house, course)
            release(house, course)
            raise
        if course.failure:
            release(house, course)
            raise course.failure
    return course, withheld


def _limited(house: Standing, request: bytes, plumbing: Plumbing, call: Call, cwd: bytes) -> Course:
    """The course of a command that is asked for under limits, its output counted where they say so."""
    counting = house.counting(call, plumbing)
    course: Course | None = None

    def enough() -> None:
        if course and counting and counting.dropped:
            house.starters.end(course.starter)

    if counting:
        counting.begin(enough)
    if house.limits and house.limits.told:
        house.starters.listen()
    before = house.hits()
    course = Course(_ask(house, request, plumbing), call.argv, cwd, before, counting)
    enough()  # it may have been before we knew whom to end
    return course


def _ask(house: Standing, request: bytes, plumbing: Plumbing) -> Starter:
    """A starter that has the request."""
    tries = TRIES
    while True:
        starter = house.spare() or another(house)
        try:
            starter.ask(request, plumbing.passed, lambda starter=starter: house.wake(starter, TICK))  # type: ignore[misc]
        except Gone:  # it was ended while it had nothing to do
            starter.close()
            tries -= 1
            if not tries:
                raise house.ended() from None
        except BaseException:  # the request may be there, or half of it
            house.starters.abandon(starter)
            starter.close()
            raise
        else:
            return starter


def another(house: Standing) -> Starter:
    """One more starter. Raises SessionEnded, and SetupFailed where the commands have used up what there is."""
    try:
        starter = house.starters.another()
        starter.sock.setsockopt(SOL_SOCKET, SO_RCVTIMEO, _TICK)
        starter.sock.setsockopt(SOL_SOCKET, SO_SNDTIMEO, _TICK)
        return starter
    except SetupFailed as error:
        if error.errno:
            raise
        raise house.ended() from None


def settle(house: Standing, plumbing: Plumbing) -> None:
    """See to it that no descriptor passed for reading lets its file be changed. Raises OSError."""
    for at in house.changeable(plumbing):
        plumbing.replace(at, _lent(plumbing.passed[at]))


def _lent(fd: int) -> int:
    sock = standing.ask_to_lend(fd)
    readable(sock.fileno(), PATIENCE)
    return standing.lent(sock, fd)


def see_through(house: Standing, course: Course, exchange: Exchange, seconds: float | None) -> bool:
    """Until the command is over and its starter free. False where its time was up; then all that it started has been ended.

    Raises OSError for what could not be started, and SessionEnded.
    """
    try:
        in_time = attend(house, course, exchange, seconds)
        if not in_time:
            kill(house, course)
            (linger if course.counting else drain)(exchange)
    except Gone:
        alive = bury(house, course)
        drain(exchange)
        if not alive:
            raise house.ended() from None
        return True
    except BaseException:  # the caller is interrupted: nothing of the command stays
        kill(house, course)
        release(house, course)
        raise
    release(house, course)
    if course.failure:
        raise course.failure
    return in_time


def attend(house: Standing, course: Course, exchange: Exchange, seconds: float | None) -> bool:
    """Move bytes until the command is over; False where the time was up before. Raises Gone."""
    silent = 0
    if seconds is None and not exchange.busy:
        while not course.over:
            try:
                course.hear()
            except BlockingIOError:
                silent = house.wake(course.starter, silent + 1)
        return True
    waiting, starter = poll(), course.starter.sock.fileno()
    if not course.over:
        waiting.register(starter, POLLIN)
    _enlist(waiting, exchange)
    end = None if seconds is None else monotonic() + seconds
    while not course.over:
        ready = waiting.poll(TICK * 1000 if end is None else max(0, min(TICK, end - monotonic()) * 1000))
        if not ready and end is not None and monotonic() >= end:
            return False
        if not ready:
            silent = house.wake(course.starter, silent + 1)
        for fd, _events in ready:
            if fd == starter:
                course.hear()
            else:
                _move(waiting, exchange, fd)
    linger(exchange)
    return True


def linger(exchange: Exchange) -> None:
    """What is still to be read of a command that is over: to the end, unless something that it left running holds the pipe."""
    exchange.stop_writing()
    waiting = poll()
    _enlist(waiting, exchange)
    end = monotonic() + LINGER_AT_MOST
    while exchange.reading and (ready := waiting.poll(max(0, min(LINGER, end - monotonic()) * 1000))):
        for fd, _events in ready:
            _move(waiting, exchange, fd)


def _enlist(waiting: poll, exchange: Exchange) -> None:
    for fd in exchange.reading:
        waiting.register(fd, POLLIN)
    if exchange.writing >= 0:
        waiting.register(exchange.writing, POLLOUT)


def _move(waiting: poll, exchange: Exchange, fd: int) -> None:
    if fd == exchange.writing:
        if not exchange.write():
            waiting.unregister(fd)
            exchange.stop_writing()
    elif not exchange.read(fd):
        waiting.unregister(fd)
        exchange.stop_reading(fd)


def drain(exchange: Exchange) -> None:
    """What is in the pipes of a command of which nothing is alive."""
    exchange.stop_writing()
    for fd in list(exchange.reading):
        while readable(fd, 0) and exchange.read(fd):
            pass


def kill(house: Standing, course: Course) -> None:
    """End all that the command ever started, and wait until nothing of it is alive."""
    try:
        for seconds in TOLD_WITHIN:  # it may not have been started yet when we said so
            house.starters.end(course.starter)
            while not course.over and readable(course.starter.sock.fileno(), seconds):
                course.hear()
            if course.over:
                return
    except Gone:
        pass
    house.starters.abandon(course.starter)  # another command keeps its starter from telling
    course.lost()


def take_notes(house: Standing, course: Course) -> None:
    """What was observed of a command that is over, and what limits did to it, before its starter has another one."""
    if house.to_be_heard:
        course.notes = house.starters.notes(course.starter)
    house.conclude(course)


def bury(house: Standing, course: Course) -> bool:
    """The starter of a command is gone, and the command with it: end what fell to init. False where the whole sandbox has ended."""
    house.drop_idle()
    take_notes(house, course)
    alive = house.starters.end(course.starter, gone=True)
    course.lost()
    course.starter.close()
    return alive


def release(house: Standing, course: Course) -> None:
    """The starter is free for another command, where it can be."""
    take_notes(house, course)
    if course.counting:
        _settle(house, course, course.counting)
    house.keep(course.starter, reusable=course.reusable)


def _settle(house: Standing, course: Course, counting: Counting) -> None:
    """What an ended command has printed is passed on. Where it was too much, nothing that it started lives on."""
    if course.reusable:
        counting.release()
    counting.settle()
    if counting.dropped and not course.reusable:
        house.starters.end(course.starter)
        course.left = False
