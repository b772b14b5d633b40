"""A sandbox that stands, from the application's side: what its commands get, and the starters that wait for one.

Nothing here waits, so the synchronous and the asynchronous face share it.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import os
from _thread import allocate_lock
from time import monotonic

from houseroom.enforce.linux import frames, streams
from houseroom.enforce.linux.starters import Starters
from houseroom.enforce.linux.wire import UNWATCHED
from houseroom.errors import CannotEnforce, SessionEnded, SetupFailed
from houseroom.session import environment, request
from houseroom.session.course import NO_TERMINAL
from houseroom.session.keepers import KEEPERS, answer
from houseroom.session.message import receive

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Mapping

    from houseroom.enforce.linux.starters import Starter
    from houseroom.policy.decide import PlacedPolicy
    from houseroom.policy.denials import Denial
    from houseroom.policy.traffic import Traffic
    from houseroom.session.counting import Counting
    from houseroom.session.course import Call, Course
    from houseroom.session.exchange import Plumbing
    from houseroom.session.limits import Hits
    from houseroom.session.session_limits import SessionLimits

OUTPUT = "limits.output"
_MOST_IDLE = 4  # starters that are kept for the next commands; each is a process of about 1 MB


def ask(wanted: request.Request) -> _socket.socket:
    """Ask the keeper for a sandbox; readable when it stands or can't. Raises SetupFailed."""
    words = os.memfd_create("request", os.MFD_CLOEXEC)
    try:
        data = memoryview(request.dump(wanted))
        while data:
            data = data[os.write(words, data) :]
        os.lseek(words, 0, os.SEEK_SET)
        return KEEPERS.ask(b"b", words)
    finally:
        os.close(words)


def ask_to_lend(fd: int) -> _socket.socket:
    """Ask the keeper for a descriptor of the same file that can't be used to change it. Raises SetupFailed."""
    return KEEPERS.ask(b"l", fd)


def lent(sock: _socket.socket, fd: int) -> int:
    """The descriptor that was asked for. Raises SetupFailed where it did not come, or could not be had."""
    try:
        _letter, descriptors = receive(sock)
    except BlockingIOError:
        descriptors = []
    finally:
        sock.close()
    if not descriptors:
        hint = "It must have a name that the host knows it by; else pass its content, with input= or through a pipe."
        raise SetupFailed("make read-only", f"the file given as descriptor {fd}", 0, "", hint)
    return descriptors[0]


class Standing:
    """One sandbox. ``sock`` is what ``ask`` returned, with the answer there. Raises what the answer tells."""

    def __init__(self, wanted: request.Request, sock: _socket.socket):
        words, descriptors = answer(sock)
        try:
            built = request.load_answer(words)
        except BaseException:
            for fd in descriptors:
                os.close(fd)
            raise
        control, first, *told = descriptors
        self.starters = Starters(control, first, asked=True, told=told[0] if told else -1)
        self.workspace = os.fsencode(wanted.places.workspace)
        self.wanted = wanted
        self.placed: PlacedPolicy | None = None
        self.withheld, self.choice, self.own_mounts = built.withheld, built.choice, built.own_mounts
        self.block = frames.block(built.environment)
        self.time: float | None = None  # seconds
        self.expires: float | None = None
        self.limits: SessionLimits | None = None
        if built.limits:
            self._limit(built)
        self.idle: list[Starter] = []
        self.over = ""
        self._asking = allocate_lock()  # one takes what was refused since it was last asked for
        self._reached: tuple[Traffic, ...] = ()
        self.owner = os.getpid()
        KEEPERS.sandboxes.add(self)

    def _limit(self, built: request.Built) -> None:
        from houseroom.session.limits import Limits
        from houseroom.session.session_limits import EXPIRES, TIME, SessionLimits

        limits = Limits(built.limits)
        self.limits = SessionLimits(limits, built.counted, self.starters)
        self.time = limits.amount(TIME) or None
        self.expires = monotonic() + limits.amount(EXPIRES) if EXPIRES in built.limits else None

    def check(self) -> None:
        """Raises SessionEnded where no command can be started any more."""
        if self.over:
            raise self.ended()
        if self.owner != os.getpid():
            raise SessionEnded("forked", "it belongs to the process that this one was forked from")

    def ended(self) -> SessionEnded:
        """Why there are no more commands: closed, or its time is up, or something has ended the sandbox."""
        if not self.over:
            self.over = "expired" if self.expires is not None and monotonic() >= self.expires - 1 else "ended"
        match self.over:
            case "closed":
                return SessionEnded("closed", "it was closed")
            case "expired":
                return SessionEnded("expired", "its time is up (session.expires)")
        return SessionEnded("ended", (self.limits and self.limits.end()) or "its sandbox has ended")

    def request(
        self,
        argv: list[bytes],
        cwd: bytes,
        given: Mapping[bytes, bytes] | None,
        targets: tuple[int, ...],
        size: tuple[int, int],
        *,
        quiet: bool,
    ) -> tuple[bytes, tuple[str, ...]]:
        """A request to a starter, and the variables that were withheld. ``given`` is an environment in place of the session's.

        Raises ValueError for what no command can get.
        """
        self.starters.tell_to_watch()
        block, withheld = self.block, self.withheld
        if given is not None:
            self.choice = self.choice.knowing(map(os.fsdecode, given))
            variables, withheld = environment.build(self.choice, given)
            block = frames.block(variables)
        return frames.start(argv, block, cwd, targets, size, quiet=quiet), withheld

    def counting(self, call: Call, plumbing: Plumbing) -> Counting | None:
        """Have what a command prints counted, where that is limited. Raises CannotEnforce for a terminal, OSError."""
        if self.limits is None or not self.limits.output:
            return None
        from houseroom.session.counting import Counting

        if call.size != NO_TERMINAL:
            if {OUTPUT, "limits"} & set(self.wanted.accept):
                return None
            hint = f"Give it no terminal of its own, or accept {OUTPUT}."
            raise CannotEnforce((OUTPUT,), "nobody counts what a command shows on a terminal", hint)
        counting = Counting(self.limits.output, plumbing.passed, plumbing.targets)
        plumbing.theirs += counting.theirs
        return counting

    @property
    def unwatched(self) -> bool:
        """Whether init has said that it could not watch every directory in which the host may make hidden files."""
        self.starters.listen()
        return UNWATCHED in self.starters.notices

    def hits(self) -> Hits:
        """What limits have done so far in the whole session."""
        return self.limits.hits() if self.limits else {}

    def conclude(self, course: Course) -> None:
        """A command has ended, and init has been heard: what limits did meanwhile is known."""
        if self.limits:
            course.hits = self.limits.since(course.before)

    def outcome(self, course: Course, *, late: bool) -> tuple[str, str]:
        """How a command ended: exited, signalled, timed-out or limit, and which limit did what. ``late``: limits.time ended it."""
        code = course.returncode
        assert code is not None
        if self.limits is None:
            return ("signalled" if code < 0 else "exited"), ""
        dropped = course.counting.dropped if course.counting else 0
        return self.limits.outcome(code, course.hits, late=late, killed=course.killed, dropped=dropped)

    @property
    def to_be_heard(self) -> bool:
        """Whether init may have something to say of a command that has ended: what it noted, or what limits did to it."""
        return self.wanted.observe != "off" or (self.limits is not None and self.limits.told)

    def denials(self, course: Course) -> tuple[Denial, ...]:
        """What was refused to a command that has ended. What an egress proxy refused meanwhile is told of the one that is asked first."""
        if course.denials is None and course.over:
            course.denials = (*self._observed(course.notes), *self._refused())
        return course.denials or ()

    def _observed(self, notes: bytes) -> tuple[Denial, ...]:
        """What init noted. The policy is looked at for the first command that was refused something."""
        if not notes:
            return ()
        from houseroom.session import denials, policy_files, sandbox

        observed = denials.read(notes)
        if not any(seen.denied for seen in observed.seen):
            return ()
        if self.placed is None:
            wanted, where = self.wanted, self.wanted.places
            policy = wanted.policy or policy_files.load(
                where, profile=wanted.profile, session_rules=wanted.rules, session_settings=wanted.settings
            )
            self.placed = sandbox.place(policy, where)[0]
        return denials.explain(self.placed, observed)

    def _refused(self) -> tuple[Denial, ...]:
        if self.starters.told < 0:
            return ()
        from houseroom.session import egress

        with self._asking:
            return egress.refusals(self.starters.told)

    def reached(self) -> tuple[Traffic, ...]:
        """What has been reached by the egress proxy until now, or until the end."""
        if self.starters.told >= 0:
            from houseroom.session import ledger

            self._reached = ledger.reached(self.starters.told)
        return self._reached

    def reached_since(self, before: tuple[Traffic, ...]) -> tuple[Traffic, ...]:
        """What has been reached since ``reached`` said this."""
        now = self.reached()
        if not now:
            return ()
        from houseroom.session import ledger

        return ledger.since(before, now)

    def changeable(self, plumbing: Plumbing) -> list[int]:
        """Which of the descriptors to be passed for reading would let their file be changed. Raises OSError for one that is closed."""
        return [at for at, fd in enumerate(plumbing.passed) if streams.is_changeable(fd) and self.own_mounts]

    def spare(self) -> Starter | None:
        """A starter that has nothing to do."""
        try:
            return self.idle.pop()
        except IndexError:
            return None

    def keep(self, starter: Starter, *, reusable: bool) -> None:
        """A starter's command is over. Where that left something running, it serves no other."""
        if not reusable or self.over or len(self.idle) >= _MOST_IDLE:
            starter.close()
            return
        self.idle.append(starter)
        if self.over:  # meanwhile
            self.drop_idle()

    def wake(self, starter: Starter, silent: int) -> int:
        """After 1, 2, 4 … seconds without a word from a busy starter: have it continued, for a command may have stopped it."""
        if silent & (silent - 1) == 0:
            self.starters.signal(starter.number, _signal.SIGCONT)
        return silent

    def drop_idle(self) -> None:
        """Starters that may have been ended with another."""
        while (starter := self.spare()) is not None:
            starter.close()

    def forget(self) -> None:
        """In a forked child: nothing of it is ours."""
        self.drop_idle()
        self.starters.let_go()

    def close(self) -> None:
        """No command is started any more; the rest is the caller's, with ``starters``."""
        self.over = self.over or "closed"
        self.reached()  # the last look
        KEEPERS.sandboxes.discard(self)
        self.drop_idle()
