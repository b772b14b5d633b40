"""From options to a policy: what run, explain, doctor and policy show have in common."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

from houseroom.frontends.cli.options import UsageError
from houseroom.policy.model import Origin, Rule, Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.frontends.cli.options import Given
    from houseroom.policy.model import Places, Policy
    from houseroom.session.sandbox import Prepared, Wish

OBSERVE = "denials"  # a failure can be explained, at a price that is hard to measure: docs/observe.md
COMMAND_LINE = Origin("session", "command line")

# option → policy key; the value of each is a path
_PATHS = {
    "read": "files.read",
    "write": "files.write",
    "hide": "files.hide",
    "protect": "files.protect",
    "private": "files.private",
    "scratch": "files.scratch",
    "socket": "network.sockets",
}


def places(given: Given) -> Places:
    """The workspace and home that this command line means. Raises PolicyError."""
    from houseroom.session import sandbox

    return sandbox.places(given.one("workspace"))


def policy(given: Given, where: Places, *more: Rule) -> Policy:
    """The policy of this command line, with ``more`` rules at its end. Raises PolicyError, UsageError."""
    from houseroom.session import policy_files

    return policy_files.load(
        where,
        profile=given.one("profile"),
        session_rules=(*rules(given), *more),
        session_settings=settings(given),
    )


def wish(given: Given) -> Wish:
    """All of it that a plan depends on, besides the policy files. Raises UsageError, PolicyError."""
    from houseroom.session.sandbox import Wish

    return Wish(given.one("profile"), rules(given), settings(given), accepted(given), backend(given), observed(given))


def observed(given: Given) -> str:
    """What is to be noted of commands."""
    return given.one("observe") or OBSERVE


def backend(given: Given) -> str:
    """The rung that is asked for, "" for the highest that holds."""
    wanted = given.one("backend") or ""
    return "" if wanted == "auto" else wanted


def prepare(given: Given, where: Places, what: Policy, *accept: str) -> Prepared:
    """A policy fitted to this host. Raises CannotEnforce where the floor does not hold and nobody accepted that."""
    from houseroom.session import sandbox

    return sandbox.prepare(what, where, accept=(*accepted(given), *accept), backend=backend(given))


def unfloored(given: Given, where: Places, what: Policy) -> Prepared:
    """A policy fitted to this host, also where a launch would be refused: to explain is not to start.

    Raises CannotEnforce where the host can enforce nothing at all.
    """
    from houseroom.errors import CannotEnforce

    try:
        return prepare(given, where, what)
    except CannotEnforce as error:
        return prepare(given, where, what, *error.missing)


def spelt(path: str, where: Places) -> str:
    """A path as a person writes it: ``~`` for the home directory."""
    home = where.home.rstrip("/")
    return "~" + path[len(home) :] if home and path[: len(home) + 1] == home + "/" else path


def rules(given: Given) -> tuple[Rule, ...]:
    """The rules given as options, as the session layer's. Raises UsageError."""
    paths = [Rule(key, subject(path), COMMAND_LINE, "given for this run") for option, key in _PATHS.items() for path in given.all(option)]
    names = [Rule("environment.pass", name, COMMAND_LINE, "given for this run") for name in given.all("pass")]
    hosts = [Rule("network.allow", host, COMMAND_LINE, "given for this run") for host in given.all("allow")]
    if given.all("credential"):
        from houseroom.policy.credentials import parse

        for text in given.all("credential"):
            parse(text)  # also where the network stays closed, and nobody would look at it
    given_to = [Rule("network.credentials", text, COMMAND_LINE, "given for this run") for text in given.all("credential")]
    ports = [Rule("network.publish", _port(text), COMMAND_LINE, "given for this run") for text in given.all("publish")]
    return (*paths, *names, *hosts, *given_to, *ports)


def _port(text: str) -> str:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 65536:
        raise UsageError(f"--publish can't be {text!r}", "A port is a number from 1 to 65535, the same inside and outside.", "run")
    return str(int(text))


def subject(path: str) -> str:
    """A path as a rule's subject: what is relative counts from the current directory, as for any program.

    Rules name resolved paths; a wildcard, ``~`` or ``{placeholder}`` at the start is left to the policy.
    """
    if path == "~" or path[:2] == "~/" or path[:1] == "{":
        return path
    full = os.path.join(os.getcwd(), path)
    if "*" in full or "?" in full:
        return os.path.normpath(full)
    return os.path.realpath(full) if ".." in path.split("/") else os.path.normpath(full)


def settings(given: Given) -> dict[str, Setting]:
    """The settings given as options: of the network, ``git.mode``, ``limits.*``. Raises UsageError, PolicyError."""
    out: dict[str, Setting] = {}
    for option, key in (("net", "network.reach"), ("upstream", "network.upstream"), ("git", "git.mode")):
        value = given.one(option)
        if value is not None:
            out[key] = Setting(value, COMMAND_LINE)
    if given.all("allow") and given.one("net") is None:
        out["network.reach"] = Setting("listed", COMMAND_LINE)
    limits = dict(_limit(text) for text in given.all("limit"))
    time = given.one("time")
    if time is not None:
        limits["time"] = time
    for name, text in limits.items():
        out[f"limits.{name}"] = Setting(_measured(name, text), COMMAND_LINE)
    return out


def _limit(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise UsageError(f"--limit can't be {text!r}", "Write NAME=VALUE, such as --limit processes=512 or --limit disk=10G.", "run")
    return name.replace("-", "_"), value


def _measured(name: str, text: str) -> object:
    from houseroom.policy import keys, units

    key = keys.KEYS.get(f"limits.{name}")
    if key is None:
        known = tuple(keys.in_section("limits"))
        near = keys.suggest(name, known)
        raise UsageError(f"there is no limit {name!r}", f"Did you mean {near}?" if near else f"There are {', '.join(known)}.", "run")
    try:
        if key.kind == keys.SIZE:
            return units.parse_size(text)
        if key.kind == keys.DURATION:
            return units.parse_duration(text)
    except ValueError as error:
        wrong, _, hint = str(error).partition(". ")
        raise UsageError(f"limit {name}: {wrong}", hint, "run") from None
    if not text.isdecimal() or not text.isascii() or int(text) == 0:
        raise UsageError(f"limit {name} can't be {text!r}", f"It is a whole number above zero, such as {key.example}.", "run")
    return int(text)


def accepted(given: Given) -> tuple[str, ...]:
    """The rules accepted by name. Raises UsageError for a name that no rule has."""
    names = given.all("accept")
    if names:
        from houseroom.policy import keys

        known = tuple({*keys.FLOOR_RULES, *keys.KEYS, "sockets"})
        for name in names:
            if name not in known:
                near = keys.suggest(name, known)
                hint = f"Did you mean {near}?" if near else "`houseroom doctor` names the rules."
                raise UsageError(f"there is no rule {name!r} to accept", hint, given.spec.name)
    return names
