"""What init does for commands once they run: imported when the first one has been let go, so that none waits for it.

A call that needs an answer meanwhile waits a millisecond in the kernel. By then the view is built and our own files may be out
of sight (a virtual environment below /tmp), so init holds the code of all this in memory before: ``LATER``.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

from houseroom.enforce.linux.mediate import Mediator, reach
from houseroom.enforce.linux.watch import Watcher
from houseroom.plan import steps as plan
from houseroom.plan.syscalls import numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from houseroom.enforce.linux.build import Build
    from houseroom.enforce.linux.observe import Observer


def mediator(steps: tuple[plan.Step, ...], umask: int) -> Mediator | None:
    """Who answers the commands' calls; None where the plan has no mediation."""
    step = next((step for step in steps if isinstance(step, plan.Mediate)), None)
    if step is None:
        return None
    namespaces = next((step for step in steps if isinstance(step, plan.Namespaces)), None)
    if namespaces is not None and namespaces.network:
        return Mediator(step, numbers(os.uname().machine), umask)
    from houseroom.enforce.linux.neighbours import AmongNeighbours

    return AmongNeighbours(step, numbers(os.uname().machine), umask)


def observer(steps: tuple[plan.Step, ...], whose: Callable[[int], int]) -> Observer | None:
    """Who notes what the commands try; None where nobody wants to know. ``whose``: the command that a process belongs to."""
    if all(step.observe == "off" for step in steps if isinstance(step, plan.Seccomp)):
        return None
    from houseroom.enforce.linux.observe import Observer

    return Observer(steps, numbers(os.uname().machine), reach, whose)


def watcher(steps: tuple[plan.Step, ...], build: Build) -> Watcher | None:
    """Who keeps masks in place; None where the plan has none to keep."""
    step = next((step for step in steps if isinstance(step, plan.Watch)), None)
    return Watcher(step, build) if step else None
