"""``AsyncSession``: one sandbox, many commands, in the manner of ``asyncio.subprocess``.

What is asked for and what is answered is shared with the synchronous face; here is only the waiting. There is no thread and no
task per command: the loop watches descriptors. Whatever is cancelled has been told to end before anybody hears of it, so a second
cancellation loses nothing but the wait.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import asyncio
import os

from houseroom.enforce.linux import wire
from houseroom.enforce.linux.starters import PATIENCE, TRIES, Gone
from houseroom.errors import SetupFailed
from houseroom.frontends.aio.process import AsyncProcess
from houseroom.frontends.aio.waiting import Waking, attend, lent, ready
from houseroom.frontends.api import described
from houseroom.frontends.asked import asked, completed, given, late
from houseroom.session import standing
from houseroom.session.course import NO_TERMINAL, Course
from houseroom.session.exchange import Exchange, Plumbing
from houseroom.session.running import TOLD_WITHIN, drain
from houseroom.session.standing import Standing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from typing import Any, Self, Unpack

    from houseroom.enforce.linux.starters import Starter
    from houseroom.frontends.api import Sandbox
    from houseroom.frontends.arguments import Description, Run, Start, Words
    from houseroom.frontends.asked import Asked
    from houseroom.frontends.completed import Completed
    from houseroom.policy.model import Policy
    from houseroom.policy.traffic import Traffic
    from houseroom.session.course import Call


class AsyncSession:
    """A sandbox that stands, and commands in it, all from one event loop.

    The arguments are those of ``Session``. Use it with ``async with``, or ``open`` and ``close`` it.
    """

    def __init__(
        self, sandbox: Sandbox | Policy | None = None, *, env: Mapping[str, str] | None = None, **description: Unpack[Description]
    ):
        self.sandbox = described(sandbox, description)
        self._env = given(env)
        self._house: Standing | None = None
        # By the number of the starter that was told to end, in the order of telling; None where nobody waits.
        self._ends: dict[int, list[asyncio.Future[bool] | None]] = {}
        self._noting: list[asyncio.Future[bytes]] = []  # who waits for the notes of a command, in the order of asking
        self._over: asyncio.Future[None] | None = None  # done when nothing inside is alive
        self._asking = asyncio.Lock()
        self._processes: set[AsyncProcess] = set()

    async def open(self) -> Self:
        """Build the sandbox. Raises PolicyError, CannotEnforce and SetupFailed."""
        if self._house is None:
            wanted = self.sandbox.request(self._env)
            sock = standing.ask(wanted)
            try:
                await ready(sock.fileno())
                self._house = Standing(wanted, sock)
            finally:
                sock.close()  # who does not wait for it any more has none: the keeper can't hand it over
            starters, loop = self._house.starters, asyncio.get_running_loop()
            self._over = loop.create_future()
            os.set_blocking(starters.control, False)
            starters.first.sock.settimeout(0)
            loop.add_reader(starters.control, self._hear_init)
        return self

    async def close(self) -> None:
        """End everything inside, and wait until nothing is alive."""
        house = self._house
        if house is None or house.starters.control < 0:
            return
        house.close()
        assert self._over is not None
        try:
            if not self._over.done():
                house.starters.leave()
                await asyncio.wait([self._over], timeout=PATIENCE)
        finally:
            self._end_of_init()
            house.starters.let_go()
            for process in list(self._processes):
                process._lost()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        where = os.fsdecode(self._house.workspace) if self._house else "not open"
        return f"<AsyncSession in {where}{', ' + self._house.over if self._house and self._house.over else ''}>"

    @property
    def workspace(self) -> str:
        """The directory that commands start in and may write."""
        return os.fsdecode(self._standing().workspace)

    @property
    def withheld(self) -> tuple[str, ...]:
        """The environment variables that commands do not get."""
        return self._standing().withheld

    @property
    def unwatched(self) -> bool:
        """Whether the host let not every directory be watched: ``Session.unwatched``."""
        return self._standing().unwatched

    @property
    def reached(self) -> tuple[Traffic, ...]:
        """The listed hosts that were reached until now, or until the session was closed, with connections and bytes."""
        return self._standing().reached()

    async def run(self, argv: Words, **how: Unpack[Run]) -> Completed:
        """Run one command and wait for it. Arguments and errors are those of ``Session.run``.

        Cancelled, it kills everything that the command ever started.
        """
        timeout, limit, check = how.pop("timeout", None), how.pop("output_limit", None), how.pop("check", False)
        what = asked(argv, **how)  # type: ignore[misc]  # what is left are its arguments
        house, call, exchange = self._standing(), what.call, Exchange()
        plumbing = Plumbing(call.stdin, call.stdout, call.stderr, call.more, terminal=call.size != NO_TERMINAL)
        before = house.reached()
        try:
            course, withheld = await self._start(call, plumbing, quiet=True)
            captured = exchange.connect(course.terminal, plumbing, what.data, limit)
            limits = [time for time in (timeout, house.time) if time is not None]
            in_time = await self._see_through(course, exchange, min(limits) if limits else None)
        finally:
            exchange.close()
            plumbing.close()
        if not in_time and timeout is not None and timeout <= min(limits):
            raise late(what.args, timeout, captured)
        outcome, denials = house.outcome(course, late=not in_time), house.denials(course)
        reached = house.reached_since(before)
        ended = completed(what.args, course, what.spelt, captured, withheld, outcome, denials, reached)
        if check:
            ended.check_returncode()
        return ended

    def popen(self, argv: Words, **how: Unpack[Start]) -> Starting:
        """Start one command: ``await`` it for an ``AsyncProcess``, or ``async with`` it, so that it ends with the block.

        Arguments and errors are those of ``Session.popen``; its streams are bytes.
        """
        return Starting(self, asked(argv, **how))

    # -- the way to the starters, without waiting in the loop's way --

    def _standing(self) -> Standing:
        if self._house is None:
            raise RuntimeError("this session is not open: use it with ``async with``, or await its open()")
        return self._house

    async def _start(self, call: Call, plumbing: Plumbing, *, quiet: bool) -> tuple[Course, tuple[str, ...]]:
        house = self._standing()
        house.check()
        for at in house.changeable(plumbing):
            plumbing.replace(at, await lent(plumbing.passed[at]))
        cwd = os.path.join(house.workspace, call.cwd) if call.cwd else house.workspace
        request, withheld = house.request(call.argv, cwd, call.environment, plumbing.targets, call.size, quiet=quiet)
        if house.limits is None:
            course = Course(await self._ask(request, plumbing), call.argv, cwd)
        else:
            course = await self._limited(request, plumbing, call, cwd)
        plumbing.close_theirs()
        if not quiet or call.size != NO_TERMINAL:
            try:
                await ready(course.starter.sock.fileno())
                course.hear()
            except Gone:
                if not await self._bury(course):
                    raise house.ended() from None
            except BaseException:
                self._abandon(course.starter)
                raise
            if course.failure:
                house.keep(course.starter, reusable=True)
                raise course.failure
        return course, withheld

    async def _limited(self, request: bytes, plumbing: Plumbing, call: Call, cwd: bytes) -> Course:
        """The course of a command that is asked for under limits, its output counted where they say so."""
        house, loop = self._standing(), asyncio.get_running_loop()
        counting = house.counting(call, plumbing)
        course: Course | None = None

        def enough() -> None:
            if course and counting and counting.dropped and (course.left or not course.over):
                _ = self._tell_to_end(course.starter)

        def ended() -> None:  # in another thread
            try:
                loop.call_soon_threadsafe(enough)
            except RuntimeError:
                return  # the loop has ended

        if counting:
            counting.begin(ended)
        before = house.hits()
        course = Course(await self._ask(request, plumbing), call.argv, cwd, before, counting)
        return course

    async def _ask(self, request: bytes, plumbing: Plumbing) -> Starter:
        house = self._standing()
        while True:
            spare = house.spare()
            starter = spare or await self._another()
            starter.sock.settimeout(0)
            try:
                sent = starter.send(request, plumbing.passed)
                while sent < len(request):
                    waking = Waking(house, starter)
                    try:
                        await ready(starter.sock.fileno(), write=True)
                    finally:
                        waking.stop()
                    sent += starter.send(request[sent:])
            except Gone:
                starter.close()
                if spare is None:
                    raise house.ended() from None
            except BaseException:
                self._abandon(starter)
                raise
            else:
                return starter

    async def _another(self) -> Starter:
        house = self._standing()
        first = house.starters.first.sock.fileno()
        async with self._asking:
            try:
                for _ in range(TRIES):
                    house.starters.ask_for_another()
                    async with asyncio.timeout(PATIENCE):
                        await ready(first)
                    starter = house.starters.hear_of_another()
                    if starter is not None:
                        return starter
            except SetupFailed as error:
                if error.errno:
                    raise
            except TimeoutError:
                raise house.starters.stopped() from None
        raise house.ended()

    async def _see_through(self, course: Course, exchange: Exchange, seconds: float | None) -> bool:
        """Until the command is over and its starter free. False where its time was up; then all that it started has been ended.

        Raises OSError for what could not be started, and SessionEnded.
        """
        house = self._standing()
        try:
            in_time = await attend(house, course, exchange, seconds)
            if not in_time:
                await self._kill(course)
                await self._settle(course)
                drain(exchange)
        except Gone:
            alive = await self._bury(course)
            drain(exchange)
            if not alive:
                raise house.ended() from None
            return True
        except BaseException:  # we are cancelled: nothing of the command stays
            await self._kill(course)
            house.keep(course.starter, reusable=course.reusable and not house.to_be_heard)
            raise
        await self._take_notes(course)
        house.keep(course.starter, reusable=course.reusable)
        if course.failure:
            raise course.failure
        return in_time

    async def _take_notes(self, course: Course) -> None:
        """What was observed of a command that is over, before its starter has another one."""
        house = self._standing()
        await self._settle(course)
        if not house.to_be_heard or self._over is None or self._over.done() or not house.starters.tell_notes(course.starter):
            house.conclude(course)
            return
        noted: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._noting.append(noted)
        try:
            course.notes = await noted
        except BaseException:  # cancelled
            house.keep(course.starter, reusable=False)
            raise
        house.conclude(course)

    async def _settle(self, course: Course) -> None:
        """What an ended command has printed is passed on. Where it was too much, nothing that it started lives on."""
        if course.counting:
            await asyncio.get_running_loop().run_in_executor(None, course.counting.settle)
            if course.counting.dropped and not course.reusable:
                await self._tell_to_end(course.starter)
                course.left = False

    async def _kill(self, course: Course) -> None:
        """End all that the command ever started, and wait until nothing of it is alive."""
        try:
            for seconds in TOLD_WITHIN:  # it may not have been started yet when we said so
                await self._tell_to_end(course.starter)
                if course.over or await attend(self._standing(), course, Exchange(), seconds):
                    return
        except Gone:
            pass
        except BaseException:  # cancelled once more
            self._abandon(course.starter)
            raise
        self._abandon(course.starter)  # another command keeps its starter from telling
        course.lost()

    async def _bury(self, course: Course) -> bool:
        """The starter is gone, and the command with it: end what fell to init. False where the whole sandbox has ended."""
        self._standing().drop_idle()
        ended = self._tell_to_end(course.starter, gone=True)
        course.lost()
        course.starter.close()
        alive = await ended
        self._standing().conclude(course)
        return alive

    def _abandon(self, starter: Starter) -> None:
        """Have a starter killed with everything below it, without waiting."""
        starters = self._standing().starters
        if starters.control >= 0 and starters.tell_to_abandon(starter):
            self._ends.setdefault(starter.number, []).append(None)
        starter.close()

    def _tell_to_end(self, starter: Starter, *, gone: bool = False) -> asyncio.Future[bool]:
        """Have everything below a starter ended, from this moment on; done when it is, False where the sandbox has ended."""
        ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self._over is None or self._over.done() or not self._standing().starters.tell_to_end(starter, gone=gone):
            ended.set_result(False)
        else:
            self._ends.setdefault(starter.number, []).append(ended)
        return ended

    def _hear_init(self) -> None:
        starters = self._standing().starters
        try:
            said = wire.receive_status(starters.control)
        except BlockingIOError:
            return
        except OSError:
            said = None
        match said:
            case None:
                self._end_of_init()
            case (wire.ENDED, number):
                first, *others = self._ends.pop(number, [None])
                if others:
                    self._ends[number] = others
                if first is not None and not first.done():
                    first.set_result(True)
            case (wire.OBSERVED, length):
                os.set_blocking(starters.control, True)  # init is writing what follows
                notes = wire.receive_notes(starters.control, length)
                os.set_blocking(starters.control, False)
                noted = self._noting.pop(0)
                if not noted.done():
                    noted.set_result(notes)
            case (kind, number):
                starters.heed(kind, number)

    def _end_of_init(self) -> None:
        """Nothing inside is alive, or will be for long."""
        if self._over is None or self._over.done():
            return
        asyncio.get_running_loop().remove_reader(self._standing().starters.control)
        self._over.set_result(None)
        for waiting in self._ends.values():
            for ended in waiting:
                if ended is not None and not ended.done():
                    ended.set_result(False)
        self._ends.clear()
        for noted in self._noting:
            if not noted.done():
                noted.set_result(b"")
        self._noting.clear()


class Starting:
    """A command about to be started: to be awaited, or entered."""

    def __init__(self, session: AsyncSession, what: Asked):
        self._session, self._what = session, what
        self._process: AsyncProcess | None = None

    def __await__(self) -> Generator[Any, None, AsyncProcess]:
        return self._start().__await__()

    async def __aenter__(self) -> AsyncProcess:
        self._process = await self._start()
        return self._process

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        await self._process.end()

    async def _start(self) -> AsyncProcess:
        call = self._what.call
        plumbing = Plumbing(call.stdin, call.stdout, call.stderr, call.more, terminal=call.size != NO_TERMINAL)
        try:
            course, withheld = await self._session._start(call, plumbing, quiet=False)
            process = AsyncProcess(self._session, self._what, course, withheld)
            try:
                await process._open(plumbing)
            except BaseException:
                process.kill()
                raise
            return process
        finally:
            plumbing.close()
