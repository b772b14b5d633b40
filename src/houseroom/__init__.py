"""Room to work for a coding agent, not the keys to the house.

>>> from houseroom import Sandbox
>>> Sandbox().run(["git", "status"]).returncode
0

Names are imported when they are first used: ``import houseroom`` itself costs a fraction of a millisecond.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.errors import CannotEnforce, PolicyError, SetupFailed
    from houseroom.frontends.api import Completed, Sandbox
    from houseroom.policy.decide import Allow, Deny, Read, Run, Variable, Write, decide
    from houseroom.policy.model import Policy

__all__ = [
    "Allow",
    "CannotEnforce",
    "Completed",
    "Deny",
    "Policy",
    "PolicyError",
    "Read",
    "Run",
    "Sandbox",
    "SetupFailed",
    "Variable",
    "Write",
    "__version__",
    "decide",
]

_HOME = {
    "Allow": "houseroom.policy.decide",
    "CannotEnforce": "houseroom.errors",
    "Completed": "houseroom.frontends.api",
    "Deny": "houseroom.policy.decide",
    "Policy": "houseroom.policy.model",
    "PolicyError": "houseroom.errors",
    "Read": "houseroom.policy.decide",
    "Run": "houseroom.policy.decide",
    "Sandbox": "houseroom.frontends.api",
    "SetupFailed": "houseroom.errors",
    "Variable": "houseroom.policy.decide",
    "Write": "houseroom.policy.decide",
    "decide": "houseroom.policy.decide",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'houseroom' has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = found  # so the next use is an ordinary lookup
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
