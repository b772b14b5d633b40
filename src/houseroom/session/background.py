"""From a command line to a holder in the background: a process of its own that belongs to no terminal and is nobody's child."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import _signal
import gc
import os

from houseroom import bundle
from houseroom.enforce.linux import process_sys
from houseroom.errors import SetupFailed
from houseroom.session import request, sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from houseroom.session.sandbox import Prepared
    from houseroom.session.sessions import Seat

_STANDS = b"+"  # what the holder reports, or an error as an answer of ``session.request``
_AT_ONCE = 1 << 16
_ENDING = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM, _signal.SIGUSR1, _signal.SIGUSR2, _signal.SIGTSTP)


def begin(seat: Seat, prepare: Callable[[], Prepared], idle: float) -> None:
    """Have a session held at a seat, and return when its sandbox stands. Call it from a process with one thread.

    ``prepare`` is called in the new process, since only whoever bears an init takes it along. Raises what it raises and SetupFailed.
    """
    hear, tell = os.pipe2(os.O_CLOEXEC)
    between = os.fork()
    if between == 0:
        _detach()
        _hold(seat, prepare, idle, tell)
    os.close(tell)
    os.waitpid(between, 0)
    said = b""
    while part := os.read(hear, _AT_ONCE):
        said += part
    os.close(hear)
    if said == _STANDS:
        return
    if said:
        request.load_answer(said)
    raise SetupFailed("begin the session", seat.name, 0, "its holder ended without a word", "Run `houseroom doctor`.")


def _detach() -> None:
    """The first child leads a session without a terminal and ends; its child leads nothing, and can never get one (setsid(2)).

    What the caller had ignored (a shell does it for jobs in the background) is not what later commands are to ignore.
    """
    for number in _ENDING:
        _signal.signal(number, _signal.SIG_DFL)
    os.setsid()
    if os.fork():
        os._exit(0)


def _hold(seat: Seat, prepare: Callable[[], Prepared], idle: float, tell: int) -> NoReturn:
    try:
        process_sys.empty_streams()
        process_sys.close_except(3, tell, seat.directory, seat.listener.fileno(), *bundle.hold(()))
        os.chdir("/")
        try:
            _live(seat, prepare, idle, tell)
        except Exception as error:
            seat.leave()
            os.write(tell, request.dump_answer(error))
    finally:
        os._exit(0)


def _live(seat: Seat, prepare: Callable[[], Prepared], idle: float, tell: int) -> None:
    from houseroom.session import holder_log
    from houseroom.session.held import Terms
    from houseroom.session.holder import Holder
    from houseroom.session.session_limits import SessionLimits

    prepared = prepare()
    inside = sandbox.begin(prepared)
    moved = prepared.cradle.moved({}).get(b"TMPDIR", b"")
    choice = prepared.choice.moved(os.fsdecode(moved)) if moved else prepared.choice
    facts: dict[str, object] = {
        "name": seat.name,
        "pid": os.getpid(),
        "workspace": prepared.placed.places.workspace,
        "policy": prepared.policy.name,
        "rung": prepared.plan.rung,
        "coverage": [{"rule": row.rule, "state": row.state, "loses": list(row.loses)} for row in prepared.plan.coverage],
    }
    rung = prepared.plan.rung
    limits = SessionLimits(prepared.ceilings, sandbox.counted(prepared), inside)
    observed = prepared.placed if any(getattr(step, "observe", "off") != "off" for step in prepared.plan.steps) else None
    terms = Terms(
        choice, limits, idle, facts, observed, own_mounts=rung == "namespaces", own_terminals=rung != "landlock", refused=inside.told
    )
    holder = Holder(seat, inside, terms, prepared.cradle.end)
    os.write(tell, _STANDS)
    os.close(tell)
    gc.enable()  # switched off for the start; a session may last for days
    gc.freeze()
    holder_log.forget(seat.home, seat.name)
    try:
        holder.live()
    except Exception as failure:
        holder_log.write(seat.home, seat.name, failure)
