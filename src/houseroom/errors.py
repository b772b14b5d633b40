"""Errors, classed by whose fault they are. A denial is a value (see ``policy.decide``), not an error.

Each error carries its parts as attributes; the sentence is rendered from them.
"""

from __future__ import annotations


class PolicyError(ValueError):
    """The author of a policy made a mistake. Shows the line with a caret and says what would be right."""

    def __init__(self, message: str, *, file: str = "", line: int = 0, column: int = 0, text: str = "", hint: str = ""):
        self.message, self.file, self.line, self.column, self.text, self.hint = message, file, line, column, text, hint
        super().__init__(message)

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: " if self.line else (f"{self.file}: " if self.file else "")
        shown = f"\n  {self.text}\n  {' ' * max(self.column - 1, 0)}^" if self.text else ""
        hint = f"\n{self.hint}" if self.hint else ""
        return f"{place}{self.message}{shown}{hint}"


class CannotEnforce(RuntimeError):
    """This host cannot enforce what the policy's floor requires. Nothing was started.

    ``missing`` names the rules, ``reason`` says what the host lacks, ``hint`` how to mend or accept it.
    """

    def __init__(self, missing: tuple[str, ...], reason: str, hint: str = ""):
        self.missing, self.reason, self.hint = missing, reason, hint
        super().__init__(reason)

    def __str__(self) -> str:
        hint = f"\n{self.hint}" if self.hint else ""
        return f"can't enforce {', '.join(self.missing)}: {self.reason}{hint}"


class SetupFailed(OSError):
    """The kernel refused a step while the sandbox was being built. The command was not started."""

    def __init__(self, doing: str, subject: str, errno: int, strerror: str, hint: str = ""):
        super().__init__(errno, strerror)
        self.doing, self.subject, self.hint = doing, subject, hint

    def __str__(self) -> str:
        said = f": {self.strerror}" if self.strerror else ""
        hint = f".\n{self.hint}" if self.hint else ""
        return f"can't {self.doing} {self.subject}{said}{hint}"


class SessionEnded(RuntimeError):
    """A command was asked of a session that is over. It was not started, or did not end.

    ``reason`` is closed (by its owner), expired (``session.expires``), ended (its sandbox was killed) or forked (it is
    another process's).
    """

    def __init__(self, reason: str, sentence: str):
        super().__init__(reason, sentence)
        self.reason, self.sentence = reason, sentence

    def __str__(self) -> str:
        return f"can't run a command in this session: {self.sentence}.\nBegin a new session."
