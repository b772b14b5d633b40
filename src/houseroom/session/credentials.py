"""The values of credentials, read on the host right before a sandbox starts: from variables, files, programs, the keyring.

A value is only in what this returns, and no message has it. Before anything is read ``check`` says what would be refused whatever the
values are: a file that commands can read protects nothing, and a program that they can write is theirs.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from stat import S_ISREG

from houseroom.errors import PolicyError
from houseroom.policy.credentials import LONGEST, Swap, placeholder, unfit
from houseroom.policy.model import HIDE, PRIVATE
from houseroom.policy.pattern import components
from houseroom.policy.sources import COMMAND, ENV, KEYRING, Source
from houseroom.session.writable import Writable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from houseroom.policy.credentials import Credential
    from houseroom.policy.decide import PlacedPolicy
    from houseroom.policy.model import Rule

    Used = tuple[tuple[Credential, Rule], ...]

_NO_TERMINAL = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# libsecret's program. These are the attributes by which Python's keyring keeps passwords too.
_LOOK_UP: Final = ("secret-tool", "lookup", "service")
_USER: Final = "username"


def check(used: Used, placed: PlacedPolicy, environ: Mapping[bytes, bytes]) -> None:
    """Raises PolicyError at a rule whose source can't be relied on, or is not there. Nothing is run, and no value read."""
    known: dict[tuple[str, object], tuple[Source, Rule]] = {}
    for credential, rule in used:
        source, before = known.setdefault((credential.variable, credential.where), (credential.source, rule))
        if source != credential.source:
            said = f"{credential.variable} for {credential.where} comes from {source} ({before.origin}) and from {credential.source}"
            raise _at(rule, PolicyError(said, hint="Leave one of the two."))
        try:
            match credential.source.kind:
                case "file":
                    os.close(_opened(credential.source.words[0], placed))
                case "command" | "keyring":
                    _command(credential.source, placed, environ)
        except PolicyError as error:
            raise _unreadable(credential, rule, error) from None


def shown(used: Used, environ: Mapping[bytes, bytes]) -> tuple[str, ...]:
    """The variables in whose place commands get a placeholder. One that the caller does not have is left alone."""
    names = (each.variable for each, _ in used if each.source.kind != ENV or environ.get(os.fsencode(each.source.words[0])))
    return tuple(dict.fromkeys(names))


def read(used: Used, placed: PlacedPolicy, environ: Mapping[bytes, bytes]) -> tuple[tuple[Swap, ...], tuple[tuple[str, str], ...]]:
    """What is put in the place of what, and what variables have inside. Each source is asked once.

    Raises PolicyError at the rule for a source that can't be read, and a value that can't be a credential.
    """
    check(used, placed, environ)
    values, swaps, instead = dict[Source, str](), [], dict[str, str]()
    for credential, rule in used:
        source = credential.source
        try:
            if source not in values:
                values[source] = _value(source, placed, environ)
        except PolicyError as error:
            raise _unreadable(credential, rule, error) from None
        value = values[source]
        if not value and source.kind == ENV:
            continue
        why = unfit(value) if value else "has no value: it is empty"
        if why:
            origin = "" if source.kind == ENV else f" (from {source})"
            hint = "Unset the variable for this run, or take it out of network.credentials." if source.kind == ENV else ""
            raise _at(rule, PolicyError(f"{credential.variable}{origin} {why}", hint=hint))
        name = instead.setdefault(credential.variable, placeholder(value, os.urandom(len(value))))
        swaps.append(Swap(name.encode(), value.encode(), credential.where))
    return tuple(swaps), tuple(instead.items())


def _value(source: Source, placed: PlacedPolicy, environ: Mapping[bytes, bytes]) -> str:
    """With one line end less. What is no ASCII comes out as what is not fit to be sent."""
    match source.kind:
        case "env":
            return os.fsdecode(environ.get(os.fsencode(source.words[0]), b""))
        case "file":
            with open(_opened(source.words[0], placed), "rb") as file:
                data = file.read(LONGEST + 2)
        case _:
            from houseroom.session import printed

            words = _command(source, placed, environ)
            try:
                data = printed.run(words, printed.variables(placed, environ))
            except PolicyError as error:
                raise PolicyError(error.message, hint=error.hint or _keeping(source)) from None
    return data.removesuffix(b"\n").decode("latin-1")


def _command(source: Source, placed: PlacedPolicy, environ: Mapping[bytes, bytes]) -> tuple[str, ...]:
    from houseroom.session import printed

    if source.kind == COMMAND:
        return printed.command(source.words, placed, environ)
    try:
        return printed.command((*_LOOK_UP, source.words[0], _USER, source.words[1]), placed, environ)
    except PolicyError as error:
        hint = "The keyring is asked by secret-tool, of the package libsecret-tools (Debian, Ubuntu) or libsecret (Fedora, Arch)."
        raise PolicyError(error.message, hint=hint) from None


def _keeping(source: Source) -> str:
    """secret-tool says nothing where there is no such password."""
    if source.kind != KEYRING:
        return ""
    service, user = source.words
    return f"If it is not there, keep it: secret-tool store --label={service} service {service} username {user}"


def _opened(text: str, placed: PlacedPolicy) -> int:
    """A descriptor of a file that no command can read or change. Raises PolicyError."""
    path = placed.places.home.rstrip("/") + text[1:] if text[:2] == "~/" else text
    try:
        real = os.path.realpath(path, strict=True)
        _judge_place(path, real, placed)
        fd = os.open(real, _NO_TERMINAL)
    except OSError as error:
        raise PolicyError(f"{path} can't be read: {error.strerror}") from None
    try:
        _judge_file(fd, real)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _judge_place(path: str, real: str, placed: PlacedPolicy) -> None:
    where = Writable(placed).on_way_to(path)
    if where:
        raise PolicyError(f"{path} lies where commands may write ({where})", hint="Put it where they may not, and hide it: files.hide")
    if placed.access(components(real))[0] not in (HIDE, PRIVATE):
        hint = f"Hide it: --hide {real}, or in your policy, under [files], hide."
        raise PolicyError(f"commands may read {real}, so it would protect nothing", hint=hint)


def _judge_file(fd: int, real: str) -> None:
    status = os.fstat(fd)
    if not S_ISREG(status.st_mode):
        raise PolicyError(f"{real} is not a regular file")
    if status.st_size > LONGEST + 1:
        raise PolicyError(f"{real} has {status.st_size} bytes, and a credential has {LONGEST} at most")
    if os.readlink(f"/proc/self/fd/{fd}") != real:
        raise PolicyError(f"{real} was moved while it was being read")
    if status.st_nlink != 1:
        hint = f"Commands may read it by another. Make a copy that has one, and hide that: cp {real} {real}.new"
        raise PolicyError(f"{real} has {status.st_nlink} names (hard links)", hint=hint)


def _unreadable(credential: Credential, rule: Rule, error: PolicyError) -> PolicyError:
    return _at(rule, PolicyError(f"{credential.variable} can't come from {credential.source}: {error.message}", hint=error.hint))


def _at(rule: Rule, error: PolicyError) -> PolicyError:
    origin = rule.origin
    return PolicyError(error.message, file=origin.file, line=origin.line, column=origin.column, hint=error.hint)
