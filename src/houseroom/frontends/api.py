"""The Python face: ``Sandbox`` describes one; ``Sandbox().run(argv)`` in the manner of ``subprocess.run``."""

from __future__ import annotations

import os
import sys

from houseroom.errors import CannotEnforce
from houseroom.policy.model import GIT_MODES, NETWORK_REACHES, UPSTREAMS, Origin, Policy, Rule, Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack

    from houseroom.frontends.arguments import Description, Run, Words
    from houseroom.frontends.completed import Completed
    from houseroom.policy.decide import Act, Decision
    from houseroom.session.request import Request

_PYTHON = Origin("session", "Python")
_LEVELS = ("off", "denials", "executions", "all")  # of observing


class Sandbox:
    """A policy on this host, ready to run commands.

    Without a ``policy`` the user's, organisation's and project's files are read as the command line does, with
    ``profile`` chosen and the given paths, hosts and names on top. ``workspace`` defaults to the current directory. ``credentials``
    are variables that the egress proxy alone knows, each with the host that gets its value: "GITHUB_TOKEN api.github.com", perhaps with
    where it comes from: " from file:~/.tokens/github".
    ``publish`` are ports of the sandbox that this host reaches at its own loopback, ``sockets`` Unix sockets of the host that may be
    connected to. ``accept`` names rules of the floor that this host need not enforce. ``observe`` is off, denials, executions or all:
    what is noted of each command, for ``Completed.denials``.
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
        allow: Sequence[str] = (),
        credentials: Sequence[str] = (),
        upstream: str | None = None,
        publish: Sequence[int] = (),
        sockets: Sequence[str] = (),
        git: str | None = None,
        accept: Sequence[str] = (),
        observe: str = "off",
    ):
        self.policy, self.profile, self.accept, self.observe = policy, profile, tuple(accept), observe
        for name, choice, known in (
            ("network", network, NETWORK_REACHES),
            ("upstream", upstream, UPSTREAMS),
            ("git", git, GIT_MODES),
            ("observe", observe, _LEVELS),
        ):
            if choice is not None and choice not in known:
                raise ValueError(f"{name} can't be {choice!r}: it is one of {', '.join(known)}")
        for port in publish:
            if not 0 < port < 65536:
                raise ValueError(f"{port} is not a port: a number from 1 to 65535")
        self.workspace = None if workspace is None else os.fspath(workspace)
        given = (
            ("files.read", read),
            ("files.write", write),
            ("files.hide", hide),
            ("files.protect", protect),
            ("environment.pass", environment),
            ("network.allow", allow),
            ("network.credentials", credentials),
            ("network.publish", map(str, publish)),
            ("network.sockets", sockets),
        )
        self.rules = tuple(Rule(key, os.fspath(subject), _PYTHON, "given in Python") for key, subjects in given for subject in subjects)
        chosen = {"network.reach": network or ("listed" if allow else None), "network.upstream": upstream, "git.mode": git}
        self.settings = {key: Setting(value, _PYTHON) for key, value in chosen.items() if value is not None}
        if policy is not None and (profile or self.rules or self.settings):
            raise TypeError("a policy is complete: give the other arguments without one")

    def run(self, argv: Words, **how: Unpack[Run]) -> Completed:
        """Run one command in a sandbox of its own: a session of one command, with the arguments of ``Session.run``.

        With the command ends everything that it started. Raises as ``Session`` and ``Session.run``.
        """
        if sys.platform == "linux":
            from houseroom.frontends.session_api import Session

            with Session(self) as session:
                return session.run(argv, **how)
        raise _no_linux()

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

    def request(self, environment: dict[bytes, bytes] | None = None) -> Request:
        """What a keeper of sandboxes is asked for; ``environment`` stands in for this process's."""
        if sys.platform != "linux":
            raise _no_linux()
        from houseroom.session import request, sandbox

        return request.Request(
            sandbox.places(self.workspace),
            dict(os.environb) if environment is None else environment,
            self.policy,
            self.profile,
            self.rules,
            self.settings,
            self.accept,
            self.observe,
        )


def described(sandbox: Sandbox | Policy | None, description: Description) -> Sandbox:
    """A sandbox from what a session was given: itself, or its policy, or the arguments for one."""
    if isinstance(sandbox, Sandbox):
        if description:
            raise TypeError("a sandbox is complete: give the other arguments to it")
        return sandbox
    return Sandbox(sandbox, **description)


def _no_linux() -> CannotEnforce:
    return CannotEnforce(("anything",), f"there is no enforcement for {sys.platform} yet", "So far houseroom needs Linux.")
