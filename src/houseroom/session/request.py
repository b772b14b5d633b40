"""What an application asks its keeper for, and what that answers, as plain values.

Both are our own code, one interpreter each, on an inherited socket, and speak in marshalled plain values (``marshal`` is built
in and costs nothing at start-up).
"""

from __future__ import annotations

import marshal

from houseroom.errors import CannotEnforce, PolicyError, SetupFailed
from houseroom.policy.model import Origin, Places, Policy, Rule, Setting, Stratum
from houseroom.policy.record import Record
from houseroom.session.environment import Choice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Request(Record):
    """A sandbox. ``policy`` None means: read the policy files, with ``profile`` and ``rules`` on top as the command line does.

    ``environment`` is the caller's, of which commands get what the policy lets through.
    """

    places: Places
    environment: dict[bytes, bytes]
    policy: Policy | None = None
    profile: str | None = None
    rules: tuple[Rule, ...] = ()
    settings: dict[str, Setting] = {}
    accept: tuple[str, ...] = ()
    observe: str = "off"


class Built(Record):
    """A sandbox that stands: what its commands get, and how long it and they may take.

    ``limits`` is ``Limits.given``; ``counted``, as ``cgroup.Group`` has it, by which control groups some of them are kept.
    ``own_mounts``: a file given for reading can be made read-only.
    """

    environment: dict[bytes, bytes]
    withheld: tuple[str, ...]
    choice: Choice
    limits: dict[str, tuple[float, str, str]]
    counted: dict[str, tuple[str, str]]
    own_mounts: bool


def dump(request: Request) -> bytes:
    """A request as bytes for ``load``."""
    plain = {
        "places": request.places.values(),
        "environment": request.environment,
        "policy": None if request.policy is None else plain_policy(request.policy),
        "profile": request.profile,
        "rules": [_from_rule(rule) for rule in request.rules],
        "settings": {key: _from_setting(setting) for key, setting in request.settings.items()},
        "accept": request.accept,
        "observe": request.observe,
    }
    return marshal.dumps(plain)


def load(data: bytes) -> Request:
    """The request again. Raises ValueError, EOFError or TypeError for what is none."""
    plain: dict[str, Any] = marshal.loads(data)
    policy = plain["policy"]
    return Request(
        **{
            **plain,
            "places": Places(*plain["places"]),
            "policy": None if policy is None else policy_of(policy),
            "rules": tuple(_to_rule(rule) for rule in plain["rules"]),
            "settings": {key: _to_setting(setting) for key, setting in plain["settings"].items()},
        }
    )


def dump_answer(answer: Built | Exception) -> bytes:
    """What a request came to, as bytes for ``load_answer``. An error that is nobody's but ours goes with its traceback."""
    match answer:
        case Built():
            return marshal.dumps(("built", answer.with_(choice=answer.choice.values()).values()))
        case PolicyError():
            return marshal.dumps(("policy", (answer.message, answer.file, answer.line, answer.column, answer.text, answer.hint)))
        case CannotEnforce():
            return marshal.dumps(("cannot", (answer.missing, answer.reason, answer.hint)))
        case SetupFailed():
            return marshal.dumps(("setup", (answer.doing, answer.subject, answer.errno or 0, answer.strerror or "", answer.hint)))
    from traceback import format_exception

    return marshal.dumps(("ours", ("".join(format_exception(answer)),)))


def load_answer(data: bytes) -> Built:
    """The answer again. Raises the error that it tells, and SetupFailed for no answer: the keeper has died over it."""
    try:
        kind, parts = marshal.loads(data)
    except (EOFError, ValueError, TypeError):
        kind, parts = "", ()
    match kind:
        case "built":
            environment, withheld, choice, *rest = parts
            return Built(environment, withheld, Choice(*choice), *rest)
        case "policy":
            message, file, line, column, text, hint = parts
            raise PolicyError(message, file=file, line=line, column=column, text=text, hint=hint)
        case "cannot":
            raise CannotEnforce(*parts)
        case "setup":
            raise SetupFailed(*parts)
        case "ours":
            raise RuntimeError(f"the keeper of sandboxes failed:\n{parts[0]}")
    raise SetupFailed("build", "a sandbox", 0, "the keeper of sandboxes ended without a word", "Run `houseroom doctor`.")


def _from_rule(rule: Rule) -> tuple[object, ...]:
    return (rule.key, rule.subject, rule.origin.values(), rule.reason, rule.allows, rule.denies)


def _to_rule(plain: tuple[Any, ...]) -> Rule:
    key, subject, origin, *rest = plain
    return Rule(key, subject, Origin(*origin), *rest)


def _from_setting(setting: Setting) -> tuple[object, ...]:
    return (setting.value, setting.origin.values())


def _to_setting(plain: tuple[Any, ...]) -> Setting:
    return Setting(plain[0], Origin(*plain[1]))


def plain_policy(policy: Policy) -> tuple[Any, ...]:
    """A policy as plain values, for ``policy_of``."""
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


def policy_of(plain: tuple[Any, ...]) -> Policy:
    """The policy again."""
    name, strata, floor = plain
    return Policy(
        name,
        tuple(
            Stratum(stratum, tuple(map(_to_rule, rules)), {key: _to_setting(value) for key, value in settings.items()}, closed)
            for stratum, rules, settings, closed in strata
        ),
        tuple(map(_to_rule, floor)),
    )
