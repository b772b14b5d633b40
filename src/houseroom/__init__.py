"""Room to work for a coding agent, not the keys to the house.

>>> from houseroom import Sandbox
>>> Sandbox().run(["git", "status"]).returncode
0

Names are imported when they are first used: ``import houseroom`` itself costs a fraction of a millisecond.
"""

from __future__ import annotations

__version__ = "0.1.0"

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.errors import CannotEnforce, PolicyError, SessionEnded, SetupFailed
    from houseroom.frontends.api import Sandbox
    from houseroom.frontends.completed import Completed, Usage
    from houseroom.policy.decide import Allow, Deny, Read, Run, Variable, Write, decide
    from houseroom.policy.model import Policy

    if sys.platform == "linux":
        from houseroom.frontends.aio.process import AsyncProcess
        from houseroom.frontends.aio.session import AsyncSession
        from houseroom.frontends.session_api import Process, Session

__all__ = [
    "Allow",
    "AsyncProcess",
    "AsyncSession",
    "CannotEnforce",
    "Completed",
    "Deny",
    "Policy",
    "PolicyError",
    "Process",
    "Read",
    "Run",
    "Sandbox",
    "Session",
    "SessionEnded",
    "SetupFailed",
    "Usage",
    "Variable",
    "Write",
    "__version__",
    "decide",
]

_LINUX = ("AsyncProcess", "AsyncSession", "Process", "Session")

_HOME = {
    "Allow": "houseroom.policy.decide",
    "AsyncProcess": "houseroom.frontends.aio.process",
    "AsyncSession": "houseroom.frontends.aio.session",
    "CannotEnforce": "houseroom.errors",
    "Completed": "houseroom.frontends.completed",
    "Deny": "houseroom.policy.decide",
    "Policy": "houseroom.policy.model",
    "PolicyError": "houseroom.errors",
    "Process": "houseroom.frontends.session_api",
    "Read": "houseroom.policy.decide",
    "Run": "houseroom.policy.decide",
    "Sandbox": "houseroom.frontends.api",
    "Session": "houseroom.frontends.session_api",
    "SessionEnded": "houseroom.errors",
    "SetupFailed": "houseroom.errors",
    "Usage": "houseroom.frontends.completed",
    "Variable": "houseroom.policy.decide",
    "Write": "houseroom.policy.decide",
    "decide": "houseroom.policy.decide",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'houseroom' has no attribute {name!r}")
    if name in _LINUX and sys.platform != "linux":
        raise ImportError(f"houseroom.{name} needs Linux; so far nothing can be enforced on {sys.platform}")
    from importlib import import_module

    found: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = found  # so the next use is an ordinary lookup
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
