"""What is known of a command that was started, the same by either face of a session."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

from houseroom.frontends.asked import usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.frontends.completed import Usage
    from houseroom.policy.denials import Denial
    from houseroom.session.course import Course
    from houseroom.session.standing import Standing


class Known:
    """One command in its session."""

    def __init__(self, house: Standing, course: Course):
        self._house, self._course = house, course
        self._stopped = False  # by limits.time

    @property
    def returncode(self) -> int | None:
        """The exit status, minus the signal that killed it, or None as far as is known: ``poll`` and ``wait`` find out."""
        return self._course.returncode

    @property
    def kind(self) -> str | None:
        """exited, signalled, timed-out (``limits.time``) or limit (another one); None as ``returncode`` is."""
        return self._house.outcome(self._course, late=self._stopped)[0] if self._course.returncode is not None else None

    @property
    def detail(self) -> str:
        """Which limit stopped it, or what limits did that it outlived, once it has ended; else ""."""
        return self._house.outcome(self._course, late=self._stopped)[1] if self._course.returncode is not None else ""

    @property
    def usage(self) -> Usage:
        """What it and the children it waited for have used, once it has ended."""
        return usage(self._course)

    @property
    def left(self) -> bool:
        """Whether something that it started is alive though it has ended."""
        return self._course.left

    @property
    def denials(self) -> tuple[Denial, ...]:
        """What was refused to it, where that is observed and once it has ended."""
        return self._house.denials(self._course)
