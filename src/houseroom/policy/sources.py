"""Where the value of a credential comes from, outside, when a sandbox starts.

    env:NAME                a variable of the caller
    file:PATH               a file that commands can't read: /PATH or ~/PATH
    command:WORD WORD…      what a program prints: its name or whole path, and its arguments
    keyring:SERVICE/USER    the password of that user for that service in the system's keyring

A command's words are parted by blanks; what stands in single or double quotes is taken as it is. There is no shell, so what only a shell
understands is refused outside of quotes. A word that begins with ``~/`` begins in the home directory.
"""

from __future__ import annotations

from houseroom.errors import PolicyError
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, NoReturn

ENV: Final = "env"
FILE: Final = "file"
COMMAND: Final = "command"
KEYRING: Final = "keyring"
KINDS: Final = (ENV, FILE, COMMAND, KEYRING)
_SHELLS = frozenset("|&;<>()$`\\")
_WAYS = "env:NAME, file:PATH, command:WORDS or keyring:SERVICE/USER"


class Source(Record):
    """``words``: the variable; the path; the command's; service and user."""

    kind: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        """As a rule spells it. What ``parse`` makes of that is equal to this one."""
        match self.kind:
            case "command":
                return f"{COMMAND}:{' '.join(map(_quoted, self.words))}"
            case "keyring":
                return f"{KEYRING}:{'/'.join(self.words)}"
        return f"{self.kind}:{self.words[0]}"

    @property
    def described(self) -> str:
        """In words, for people."""
        match self.kind:
            case "env":
                return f"the caller's variable {self.words[0]}"
            case "file":
                return f"the file {self.words[0]}"
            case "command":
                return f"the command {' '.join(map(_quoted, self.words))}"
        return f"the keyring, where it is {self.words[1]}'s for {self.words[0]}"


def parse(text: str, at: int) -> Source:
    """What stands behind a rule's "from". Raises PolicyError with the column, ``at`` being that of the text itself."""
    kind, colon, rest = text.partition(":")
    if not colon or kind not in KINDS:
        _wrong(at, f"a value can't come from {kind!r}", _near(kind))
    at += len(kind) + 1
    if not rest.strip():
        _wrong(at, f"nothing stands behind {kind}:", f"Write {_WAYS}.")
    if rest != rest.strip() or not rest.isprintable():
        _wrong(at, f"{rest!r} begins or ends with a blank, or has a control character in it", f"Write {_WAYS}.")
    match kind:
        case "env":
            if not is_variable(rest):
                _wrong(at, f"{rest!r} is not the name of a variable", "Write a name, such as env:WORK_TOKEN.")
            return Source(kind, (rest,))
        case "file":
            return Source(kind, (_path(rest, at),))
        case "command":
            return Source(kind, _command(rest, at))
    service, slash, user = rest.rpartition("/")
    if not slash or not service or not user:
        _wrong(at, f"{rest!r} does not name a service and a user", "Write both, such as keyring:api.example.org/ann.")
    return Source(kind, (service, user))


def is_variable(name: str) -> bool:
    """Whether a text can be the name of a variable, as shells have it (POSIX.1-2024, 3.216)."""
    return name.isascii() and name.replace("_", "a").isalnum() and name[0] not in "0123456789"


def _wrong(column: int, message: str, hint: str) -> NoReturn:
    raise PolicyError(message, column=column, hint=hint)


def _near(kind: str) -> str:
    from houseroom.policy.keys import suggest

    if kind[:1] in ("/", "~"):
        return f"Write file:{kind}"
    close = suggest(kind, KINDS)
    return f'Did you mean "{close}:"?' if close else f"Write {_WAYS}."


def _path(text: str, at: int) -> str:
    if not text.startswith(("/", "~/")):
        _wrong(at, f"{text!r} is not a whole path", "Begin with / or with ~/ for your home directory.")
    if ".." in text.split("/"):
        _wrong(at, f"{text!r} has a '..' in it", "Write the path it leads to.")
    return text


def _command(text: str, at: int) -> tuple[str, ...]:
    words = _words(text, at)
    program = words[0]
    if not program or (not program.startswith(("/", "~/")) and "/" in program):
        _wrong(at, f"{program!r} is neither a program's name nor its whole path", "Write gh, /usr/bin/gh or ~/bin/gh.")
    if ".." in program.split("/"):
        _wrong(at, f"{program!r} has a '..' in it", "Write the path it leads to.")
    return words


def _words(text: str, at: int) -> tuple[str, ...]:
    """Parted at blanks. A quote may begin and end anywhere in a word."""
    words, word, quote, opened = list[str](), "", "", 0
    begun = False
    for column, char in enumerate(text, at):
        if quote:
            if char == quote:
                quote = ""
            else:
                word += char
        elif char in ("'", '"'):
            quote, opened, begun = char, column, True
        elif char == " ":
            words += [word] if begun else []
            word, begun = "", False
        elif char in _SHELLS:
            _wrong(column, f"no shell reads this, and only a shell understands {char}", "Put it in quotes where it is meant as it is.")
        else:
            word, begun = word + char, True
    if quote:
        _wrong(opened, "a quote begins here and does not end", f"Write {quote} behind the word.")
    return (*words, *([word] if begun else []))


def _quoted(word: str) -> str:
    if word and not any(char in _SHELLS or char in " '\"" for char in word):
        return word
    if '"' not in word:
        return f'"{word}"'
    return f"'{word}'" if "'" not in word else '"' + word.replace('"', '"\'"\'"') + '"'
