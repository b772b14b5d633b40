"""What init does for commands once they run: imported when the first one needs it, and many a command ends before that.

By then the view is built and our own files may be out of sight (a virtual environment below /tmp), so init holds the code of all
this in memory before: ``LATER``.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

from houseroom.plan import steps as plan
from houseroom.plan.syscalls import numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from houseroom.enforce.linux.build import Build
    from houseroom.enforce.linux.mediate import Mediator
    from houseroom.enforce.linux.observe import Observer
    from houseroom.enforce.linux.watch import Watcher


def mediator(steps: tuple[plan.Step, ...], build: Build, umask: int, listener: int, made_fifos: set[tuple[int, int]]) -> Mediator:
    """Who answers the calls that come to a listener; ``made_fifos`` is where it notes which FIFOs are the commands' own."""
    step = next(step for step in steps if isinstance(step, plan.Mediate))
    namespaces = next((step for step in steps if isinstance(step, plan.Namespaces)), None)
    if namespaces is not None and namespaces.network:
        from houseroom.enforce.linux.mediate import Mediator as Kind
    else:
        from houseroom.enforce.linux.neighbours import AmongNeighbours as Kind
    made = Kind(step, numbers(os.uname().machine), umask, listener, made_fifos)
    made.host_sockets = build.host_sockets
    return made


def observer(steps: tuple[plan.Step, ...], whose: Callable[[int], int]) -> Observer | None:
    """Who notes what the commands try; None where nobody wants to know. ``whose``: the command that a process belongs to."""
    if all(step.observe == "off" for step in steps if isinstance(step, plan.Seccomp)):
        return None
    from houseroom.enforce.linux.mediate import reach
    from houseroom.enforce.linux.observe import Observer

    return Observer(steps, numbers(os.uname().machine), reach, whose)


def watcher(steps: tuple[plan.Step, ...], build: Build, made_fifos: set[tuple[int, int]]) -> Watcher | None:
    """Who keeps masks in place; None where the plan has none to keep. Raises OSError where there can be no more queues."""
    step = next((step for step in steps if isinstance(step, plan.Watch)), None)
    if step is None:
        return None
    from houseroom.enforce.linux.watch import Watcher

    return Watcher(step, build, made_fifos)
