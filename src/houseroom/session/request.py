"""A request to run one command, as plain values: from the Python API to a supervisor process of its own.

A program that uses the API may be large and threaded, and such a process must not fork (KERNEL: locks held by other threads
stay held for ever). So a small interpreter is spawned for it, which reads the request and does what the command line does.
"""

from __future__ import annotations

import marshal
import os

from houseroom.policy.model import Origin, Places, Policy, Rule, Setting, Stratum
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LONGEST = 64 << 20


class Request(Record):
    """``policy`` None means: read the policy files, with ``profile`` and ``rules`` on top as the command line does."""

    argv: tuple[str | bytes, ...]
    cwd: str
    environment: dict[bytes, bytes]
    places: Places
    policy: Policy | None = None
    profile: str | None = None
    rules: tuple[Rule, ...] = ()
    settings: dict[str, Setting] = {}
    accept: tuple[str, ...] = ()
    time: float | None = None


def dump(request: Request) -> bytes:
    """A request as bytes for ``read``."""
    plain = {
        "argv": request.argv,
        "cwd": request.cwd,
        "environment": request.environment,
        "places": request.places.values(),
        "policy": None if request.policy is None else _from_policy(request.policy),
        "profile": request.profile,
        "rules": [_from_rule(rule) for rule in request.rules],
        "settings": {key: _from_setting(setting) for key, setting in request.settings.items()},
        "accept": request.accept,
        "time": request.time,
    }
    return marshal.dumps(plain)


def read(fd: int) -> Request:
    """Read a request to its end. Raises ValueError or EOFError for what is none."""
    with open(fd, "rb") as pipe:
        plain: dict[str, Any] = marshal.loads(pipe.read(LONGEST))
    policy = plain["policy"]
    return Request(
        **{
            **plain,
            "places": Places(*plain["places"]),
            "policy": None if policy is None else _to_policy(policy),
            "rules": tuple(_to_rule(rule) for rule in plain["rules"]),
            "settings": {key: _to_setting(setting) for key, setting in plain["settings"].items()},
        }
    )


def write_answer(fd: int, answer: tuple[Any, ...]) -> None:
    """The supervisor's last word: an outcome's or an error's parts."""
    os.write(fd, marshal.dumps(answer))


def read_answer(data: bytes) -> tuple[Any, ...]:
    """What ``write_answer`` wrote; ``()`` where the supervisor died without a word."""
    try:
        answer = marshal.loads(data)
    except (EOFError, ValueError, TypeError):
        return ()
    return answer if isinstance(answer, tuple) else ()


def _from_rule(rule: Rule) -> tuple[object, ...]:
    return (rule.key, rule.subject, rule.origin.values(), rule.reason, rule.allows, rule.denies)


def _to_rule(plain: tuple[Any, ...]) -> Rule:
    key, subject, origin, *rest = plain
    return Rule(key, subject, Origin(*origin), *rest)


def _from_setting(setting: Setting) -> tuple[object, ...]:
    return (setting.value, setting.origin.values())


def _to_setting(plain: tuple[Any, ...]) -> Setting:
    return Setting(plain[0], Origin(*plain[1]))


def _from_policy(policy: Policy) -> tuple[object, ...]:
    strata = [
        (
            stratum.name,
            [_from_rule(rule) for rule in stratum.rules],
            {key: _from_setting(setting) for key, setting in stratum.settings.items()},
            stratum.closed,
        )
        for stratum in policy.strata
    ]
    return (policy.name, strata, [_from_rule(rule) for rule in policy.floor])


def _to_policy(plain: tuple[Any, ...]) -> Policy:
    name, strata, floor = plain
    return Policy(
        name,
        tuple(
            Stratum(stratum, tuple(map(_to_rule, rules)), {key: _to_setting(value) for key, value in settings.items()}, closed)
            for stratum, rules, settings, closed in strata
        ),
        tuple(map(_to_rule, floor)),
    )
