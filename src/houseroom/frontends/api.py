"""The Python face: ``Sandbox(policy).run(argv)`` in the manner of ``subprocess.run``."""

from __future__ import annotations

import os
import sys

from houseroom.errors import CannotEnforce
from houseroom.policy.model import Origin, Policy, Rule, Setting
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import IO, Any

    from houseroom.policy.decide import Act, Decision
    from houseroom.session.request import Request

_PYTHON = Origin("session", "Python")


class Completed(Record):
    """A command that ended, with the fields of ``subprocess.CompletedProcess``.

    ``returncode`` is the exit status, or minus the signal that killed it. ``kind`` is exited, signalled or timed-out (a
    limit of the policy; the caller's own ``timeout`` raises). ``stdout`` and ``stderr`` are None unless captured;
    ``withheld`` names the environment variables that the command did not get.
    """

    args: tuple[str | bytes, ...]
    returncode: int
    kind: str
    stdout: Any = None
    stderr: Any = None
    withheld: tuple[str, ...] = ()

    def check_returncode(self) -> None:
        """Raise ``subprocess.CalledProcessError`` unless the command exited with 0."""
        if self.returncode:
            import subprocess

            raise subprocess.CalledProcessError(self.returncode, self.args, self.stdout, self.stderr)


class Sandbox:
    """A policy on this host, ready to run commands.

    Without a ``policy`` the user's, organisation's and project's files are read as the command line does, with
    ``profile`` chosen and the given paths, hosts and names on top. ``workspace`` defaults to the current directory.
    ``accept`` names rules of the floor that this host need not enforce.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        workspace: str | os.PathLike[str] | None = None,
        profile: str | None = None,
        read: Sequence[str] = (),
        write: Sequence[str] = (),
        hide: Sequence[str] = (),
        protect: Sequence[str] = (),
        environment: Sequence[str] = (),
        network: str | None = None,
        git: str | None = None,
        accept: Sequence[str] = (),
    ):
        self.policy, self.profile, self.accept = policy, profile, tuple(accept)
        self.workspace = None if workspace is None else os.fspath(workspace)
        given = (
            ("files.read", read),
            ("files.write", write),
            ("files.hide", hide),
            ("files.protect", protect),
            ("environment.pass", environment),
        )
        self.rules = tuple(Rule(key, os.fspath(subject), _PYTHON, "given in Python") for key, subjects in given for subject in subjects)
        chosen = {"network.reach": network, "git.mode": git}
        self.settings = {key: Setting(value, _PYTHON) for key, value in chosen.items() if value is not None}
        if policy is not None and (profile or self.rules or self.settings):
            raise TypeError("a policy is complete: give the other arguments without one")

    def run(
        self,
        argv: Sequence[str | bytes],
        *,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        input: str | bytes | None = None,  # noqa: A002 — the name that subprocess.run has for it
        stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        capture_output: bool = False,
        text: bool = False,
        timeout: float | None = None,
        check: bool = False,
    ) -> Completed:
        """Run one command in a sandbox of its own and wait for it.

        ``env`` replaces the caller's environment before the policy looks at it; ``timeout`` is in seconds. With the command
        ends everything that it started.

        Raises PolicyError, CannotEnforce and SetupFailed before anything has started, FileNotFoundError or another OSError
        for a command that can't be executed, ``subprocess.TimeoutExpired``, and with ``check`` CalledProcessError.
        """
        if sys.platform != "linux":
            raise _no_linux()
        import subprocess

        from houseroom.session import spawned

        if isinstance(argv, (str, bytes)) or not argv:
            raise TypeError("argv is a list of words, such as ['git', 'status']; there is no shell")
        words = tuple(os.fspath(word) for word in argv)
        pipe = subprocess.PIPE if capture_output else None
        spoken = spawned.run(
            self._request(words, cwd, env),
            input=input,
            stdin=stdin,
            stdout=pipe if stdout is None else stdout,
            stderr=pipe if stderr is None else stderr,
            text=text,
            timeout=timeout,
        )
        outcome = spoken.outcome
        if outcome.kind == "not-started":
            raise OSError(outcome.code, os.strerror(outcome.code), os.fsdecode(words[0]))
        code = -outcome.code if outcome.kind == "signalled" else outcome.exit_code
        completed = Completed(words, code, outcome.kind, spoken.stdout, spoken.stderr, spoken.withheld)
        if check:
            completed.check_returncode()
        return completed

    def decide(self, act: Act) -> Decision:
        """What the policy says of an act here, without doing it; paths are resolved as the kernel would."""
        if sys.platform != "linux":
            raise _no_linux()
        from houseroom.policy import decide as decisions
        from houseroom.session import policy_files, sandbox

        where = sandbox.places(self.workspace)
        policy = self.policy or policy_files.load(where, profile=self.profile, session_rules=self.rules, session_settings=self.settings)
        placed = decisions.PlacedPolicy(policy, where)
        if not isinstance(act, decisions.Variable):
            act = act.with_(path=os.path.realpath(act.path))
        return decisions.decide(placed, act)

    def _request(self, argv: tuple[str | bytes, ...], cwd: str | os.PathLike[str] | None, env: Mapping[str, str] | None) -> Request:
        if sys.platform != "linux":
            raise _no_linux()
        from houseroom.session import request, sandbox

        environment = dict(os.environb) if env is None else {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
        return request.Request(
            argv,
            os.path.abspath(cwd) if cwd is not None else os.getcwd(),
            environment,
            sandbox.places(self.workspace),
            self.policy,
            self.profile,
            self.rules,
            self.settings,
            self.accept,
        )


def _no_linux() -> CannotEnforce:
    return CannotEnforce(("anything",), f"there is no enforcement for {sys.platform} yet", "So far houseroom needs Linux.")
