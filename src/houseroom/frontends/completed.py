"""What is known of a command that has ended, on every system."""

from __future__ import annotations

from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from houseroom.policy.denials import Denial
    from houseroom.policy.traffic import Traffic


class Usage(Record):
    """What a command and the children it waited for have used: processor time in seconds, the largest resident set in bytes."""

    user: float = 0.0
    system: float = 0.0
    memory: int = 0


class Completed(Record):
    """A command that ended, with the fields of ``subprocess.CompletedProcess``.

    ``returncode`` is the exit status, or minus the signal that killed it. ``kind`` is exited, signalled, timed-out (the policy's
    ``limits.time``; the caller's own ``timeout`` raises) or limit (another one); ``detail`` names the limit that stopped it, its value,
    file and line, or what limits did that it outlived. ``stdout`` and ``stderr`` are None unless captured; ``cut``
    is how many bytes of them were dropped past ``output_limit``. ``left``: something that it started is still alive.
    ``withheld`` names the environment variables that the command did not get; ``denials`` is what was refused to it, where that is
    observed; ``reached`` are the listed hosts that the session reached while it ran.
    """

    args: tuple[str | bytes, ...]
    returncode: int
    kind: str
    stdout: Any = None
    stderr: Any = None
    withheld: tuple[str, ...] = ()
    cut: int = 0
    left: bool = False
    usage: Usage = Usage()
    denials: tuple[Denial, ...] = ()
    detail: str = ""
    reached: tuple[Traffic, ...] = ()

    def check_returncode(self) -> None:
        """Raise ``subprocess.CalledProcessError`` unless the command exited with 0, stopped by no limit."""
        if self.returncode or self.kind == "limit":
            import subprocess

            raise subprocess.CalledProcessError(self.returncode, self.args, self.stdout, self.stderr)
