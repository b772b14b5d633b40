"""Command lines read by a table. The standard library's argparse costs 7 ms, as much as the interpreter itself.

An option is spelt out in full, ``--opt value`` or ``--opt=value``; nothing is abbreviated, so a script never changes its
meaning because an option was added. What follows ``--`` belongs to the command and is not looked at.
"""

from __future__ import annotations

from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class UsageError(Exception):
    """The command line can't be understood. ``command`` is the command whose help would explain it."""

    def __init__(self, message: str, hint: str = "", command: str = ""):
        self.message, self.hint, self.command = message, hint, command
        super().__init__(message)


class Option(Record):
    """One option. ``value`` names what it takes ("" for a flag); ``choices`` are the only words it accepts.

    ``group`` is the heading help lists it under.
    """

    names: tuple[str, ...]
    value: str
    help: str
    repeat: bool = False
    choices: tuple[str, ...] = ()
    group: str = "Options"

    @property
    def key(self) -> str:
        """``--dry-run`` → ``dry-run``: the name its value is found under."""
        return self.names[-1].lstrip("-")


class Spec(Record):
    """One command of houseroom. ``words`` are its positional arguments as help shows them; ``least`` and ``most`` count them.

    ``command`` True: the first word that is no option starts a command of the user's, and nothing after it is ours.
    """

    name: str
    summary: str
    options: tuple[Option, ...] = ()
    words: str = ""
    least: int = 0
    most: int = 0
    command: bool = False
    about: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    exits: tuple[tuple[str, str], ...] = ()


class Given(Record):
    """What the user asked for: the values of each option that was given, in their order; a flag's are an empty tuple."""

    spec: Spec
    options: dict[str, tuple[str, ...]]
    words: tuple[str, ...]

    def flag(self, key: str) -> bool:
        """Whether a flag was given."""
        return key in self.options

    def one(self, key: str) -> str | None:
        """The value of an option that is given at most once, or None."""
        return self.options[key][0] if key in self.options else None

    def all(self, key: str) -> tuple[str, ...]:
        """Every value of an option that may be repeated."""
        return self.options.get(key, ())


HELP = Option(("-h", "--help"), "", "Show this help.")


def parse(spec: Spec, arguments: Sequence[str]) -> Given:
    """Read the arguments of one command. Raises UsageError."""
    known = {name: option for option in (*spec.options, HELP) for name in option.names}
    values: dict[str, tuple[str, ...]] = {}
    words: list[str] = []
    at = 0
    while at < len(arguments):
        word = arguments[at]
        at += 1
        if word == "--":
            words += arguments[at:]
            break
        if word[:1] != "-" or word == "-":
            words.append(word)
            if spec.command:
                words += arguments[at:]
                break
            continue
        name, equals, text = word.partition("=")
        option = known.get(name)
        if option is None:
            raise unknown_option(spec, name, known)
        if not option.value:
            if equals:
                raise UsageError(f"{name} takes no value", f"Write {name} alone.", spec.name)
            values[option.key] = ()
            continue
        if not equals:
            if at == len(arguments) or arguments[at] == "--" or arguments[at] in known:
                raise UsageError(f"{name} needs a value: {option.value}", f"Write {name} {option.value}.", spec.name)
            text = arguments[at]
            at += 1
        values[option.key] = (*values.get(option.key, ()), _checked(spec, option, name, text, values))
    given = Given(spec, values, tuple(words))
    if not given.flag("help"):
        _count(given)
    return given


def _checked(spec: Spec, option: Option, name: str, text: str, values: dict[str, tuple[str, ...]]) -> str:
    if not text:
        raise UsageError(f"{name} needs a value: {option.value}", f"Write {name} {option.value}.", spec.name)
    if option.key in values and not option.repeat:
        raise UsageError(f"{name} was given twice", "Give it once.", spec.name)
    if option.choices and text not in option.choices:
        raise UsageError(f"{name} can't be {text!r}", f"It is one of {', '.join(option.choices)}.", spec.name)
    return text


def _count(given: Given) -> None:
    spec, count = given.spec, len(given.words)
    if count < spec.least:
        raise UsageError(f"{spec.name} needs {spec.words}", _example(spec), spec.name)
    if not spec.command and count > spec.most:
        raise UsageError(f"{spec.name} has no use for {given.words[spec.most]!r}", _example(spec), spec.name)


def _example(spec: Spec) -> str:
    return f"For example: {spec.examples[0][0]}" if spec.examples else ""


def unknown_option(spec: Spec, name: str, known: Iterable[str]) -> UsageError:
    """The error for an option that does not exist, with the nearest one that does."""
    near = nearest(name, [option for option in known if option[:2] == "--"])
    hint = f"Did you mean {near}?" if near else f"`houseroom {spec.name} --help` lists its options."
    if spec.command:
        hint += " A command's own options come after --."
    return UsageError(f"{spec.name} has no option {name}", hint, spec.name)


def nearest(word: str, among: Iterable[str]) -> str:
    """The most similar of some words, or "" where none is similar."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, list(among), 1, 0.6)), "")
