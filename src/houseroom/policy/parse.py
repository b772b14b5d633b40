"""A policy's TOML text → a document. Every mistake is a PolicyError with file, line, column and what would be right."""

from __future__ import annotations

import re
import tomllib

from houseroom.errors import PolicyError
from houseroom.policy import keys, pattern, sockets, units
from houseroom.policy.keys import ITEM_FIELDS, SECTIONS, suggest
from houseroom.policy.layers import Document, printable
from houseroom.policy.model import Origin, Places, Rule, Setting
from houseroom.policy.toml_places import TomlPlaces, find_places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.policy.keys import Key

    Path = tuple[str | int, ...]

SOMEWHERE = Places(workspace="/workspace", home="/home/user")  # paths are only checked here; they are placed later
PROFILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
TYPES = {bool: "true or false", int: "a number", float: "a number with a fraction", str: "a text", list: "a list", dict: "a table"}


def parse(text: str, *, layer: str, file: str) -> Document:
    """The document of one policy file. ``layer`` is one of ``model.LAYERS``; ``file`` is what errors and origins name.

    Raises PolicyError for text that is not TOML, an unknown key, a value of the wrong kind, and a path, host, size,
    duration, name or example that can't be.
    """
    try:
        table = tomllib.loads(text)
        places = find_places(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(error, text, file) from None
    except RecursionError:
        raise PolicyError("the values are nested too deeply", file=file, hint="A policy needs lists of texts, no deeper.") from None
    except ValueError as error:  # a number with thousands of digits
        raise PolicyError(f"a value can't be read: {error}", file=file) from None
    return _Reader(table, places, layer, file).document()


def check_profile_name(name: str) -> str:
    """What is wrong with a profile's name, or an empty string. A name becomes a file name, so it is kept plain."""
    if PROFILE_NAME.fullmatch(name):
        return ""
    return "Names have letters, digits, dots, dashes and underscores, and start with a letter or digit."


def check_path(text: str) -> None:
    """Raises PolicyError (without a place) for a path rule that can't mean what its author thinks."""
    of_another = text.startswith("~") and text != "~" and not text.startswith("~/")
    placeholders = "Write ~/… for the home directory; there are also {workspace} and {tmp}."
    wrong = (
        (text != text.strip(), "begins or ends with a space", f'Write "{text.strip()}".'),
        (text.startswith("$"), "has a variable of the shell in it", placeholders),
        (of_another, "is not a path", "Write ~/… for your home, or ./~… for a name."),
        (text.startswith("!"), "can't be turned round with '!'", "Write a rule under another key; the most specific path wins."),
        (not text.isprintable(), "has a control character in it", ""),
    )
    for is_wrong, message, hint in wrong:
        if is_wrong and text:
            raise PolicyError(f"{text!r} {message}", hint=hint)
    if "{" in text.removeprefix("{"):
        hint = "Braces are for {workspace}, {home}, {tmp} and {user} at the beginning; write one rule for each alternative."
        raise PolicyError(f"{text!r} has a brace in the middle", hint=hint)
    pattern.place(text, SOMEWHERE)


class _Reader:
    def __init__(self, table: dict[str, object], places: TomlPlaces, layer: str, file: str):
        self.table, self.places, self.layer, self.file = table, places, layer, file
        self.rules: list[Rule] = []
        self.floor: list[Rule] = []
        self.settings: dict[str, Setting] = {}
        self.closed: set[str] = set()

    def document(self) -> Document:
        extends: Setting | None = None
        for name, value in self.table.items():
            if name == "extends":
                extends = self.extends(value)
            elif name not in SECTIONS:
                raise self.error((name,), self.unknown(name), self.hint_for(name, ""), key=True)
            elif not isinstance(value, dict):
                how = "with single brackets" if isinstance(value, list) else "on a line of its own"
                hint = f"Write [{name}] {how}, its keys below."
                raise self.error((name,), f"{name} is a section, not {_type(value)}", hint)
            else:
                self.section(name, value)
        return Document(
            self.layer,
            self.file,
            str(extends.value) if extends else None,
            extends.origin if extends else None,
            tuple(self.rules),
            self.settings,
            frozenset(self.closed),
            tuple(self.floor),
            self.places.text,
        )

    def extends(self, value: object) -> Setting:
        path = ("extends",)
        if not isinstance(value, str):
            raise self.error(path, f"extends takes a name, not {_type(value)}", 'Write extends = "workspace".')
        if hint := check_profile_name(value):
            raise self.error(path, f"{value!r} is not the name of a preset or profile", hint)
        return Setting(value, self.origin(path))

    def section(self, section: str, table: dict[str, object]) -> None:
        known = keys.in_section(section)
        for leaf, value in table.items():
            path: Path = (section, leaf)
            if leaf not in known:
                raise self.error(path, self.unknown(f"{section}.{leaf}"), self.hint_for(leaf, section), key=True)
            if known[leaf].is_list:
                self.list(known[leaf], path, value)
            else:
                self.settings[known[leaf].name] = Setting(self.single(known[leaf], path, value), self.origin(path))

    def list(self, key: Key, path: Path, value: object) -> None:
        if not isinstance(value, list):
            shown = _toml(value)
            hint = f"Write {key.leaf} = [{shown}]." if shown else f"Write {key.leaf} = {key.example}."
            raise self.error(path, f"{key.name} takes {keys.KINDS[key.kind]}, not {_type(value)}", hint)
        rules = [self.item(key, (*path, index), item) for index, item in enumerate(value)]
        if key.name == "floor.require":
            self.floor += rules
            return
        self.rules += rules
        self.closed.add(key.name)

    def item(self, key: Key, path: Path, item: object) -> Rule:
        if not isinstance(item, dict):
            return Rule(key.name, self.subject(key, path, item), self.origin(path))
        word = key.subject
        allowed = (word, *ITEM_FIELDS)
        for name in item:
            if name not in allowed:
                close = suggest(name, allowed)
                hint = f'Did you mean "{close}"?' if close else f"There are {', '.join(allowed)}."
                raise self.error((*path, name), f"unknown field {name!r} in an item of {key.name}", hint, key=True)
        if word not in item:
            raise self.error(path, f"this item of {key.name} lacks its {word}", f'Write {{ {word} = {_first(key)}, reason = "…" }}.')
        reason = item.get("reason", "")
        if not isinstance(reason, str):
            raise self.error((*path, "reason"), f"a reason is a text, not {_type(reason)}")
        subject = self.subject(key, (*path, word), item[word])
        return Rule(key.name, subject, self.origin(path), reason, self.examples(path, "allows", item), self.examples(path, "denies", item))

    def examples(self, path: Path, name: str, item: dict[str, object]) -> tuple[str, ...]:
        given = item.get(name, [])
        if not isinstance(given, list):
            raise self.error((*path, name), f"{name} takes a list of examples, not {_type(given)}", f'Write {name} = ["read src/a.py"].')
        for index, example in enumerate(given):
            if not isinstance(example, str) or not example.strip():
                given_type = "an empty one" if isinstance(example, str) else _type(example)
                hint = 'Write "read src/a.py" or "src/a.py".'
                raise self.error((*path, name, index), f"an example is a text, not {given_type}", hint)
        return tuple(given)

    def subject(self, key: Key, path: Path, value: object) -> str:
        if key.kind == keys.PORTS:
            if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 65536:
                raise self.error(path, f"{_shown(value)} is not a port", "A port is a number from 1 to 65535, without quotes.")
            return str(value)
        if not isinstance(value, str):
            raise self.error(path, f"an item of {key.name} is a text or a table, not {_type(value)}", f"Write {_first(key)}.")
        match key.kind:
            case keys.PATHS:
                self.placed(path, value)
                if key.name == sockets.KEY and (wrong := sockets.check(value)):
                    raise self.error(path, f"{value!r} {wrong}", "Write one path for each.")
            case keys.HOSTS:
                self.host(path, value)
            case keys.CREDENTIALS:
                self.credential(path, value)
            case keys.VARIABLES:
                if not value or any(char in "=\0" or char.isspace() or not char.isprintable() for char in value):
                    hint = "Write a name such as HF_TOKEN, or a pattern such as *_TOKEN."
                    raise self.error(path, f"{value!r} is not the name of a variable", hint)
            case keys.RULES:
                if value not in key.choices:
                    raise self.error(path, f"there is no rule {value!r} to require", self.choose(value, key.choices))
        return value

    def placed(self, path: Path, value: str) -> None:
        try:
            check_path(value)
        except PolicyError as error:
            raise self.error(path, error.message, error.hint) from None

    def host(self, path: Path, value: str) -> None:
        from houseroom.policy import destinations  # most policies name no host

        try:
            destinations.parse(value)
        except PolicyError as error:
            raise self.error(path, error.message, error.hint, within=(value, error.column)) from None

    def credential(self, path: Path, value: str) -> None:
        from houseroom.policy import credentials  # most policies have none

        if self.layer == "project":
            hint = "Write it in a file of your own: ~/.config/houseroom/policy.toml"
            raise self.error(path, "a project's file can't say where your credentials go", hint)
        try:
            credentials.parse(value)
        except PolicyError as error:
            raise self.error(path, error.message, error.hint, within=(value, error.column)) from None

    def single(self, key: Key, path: Path, value: object) -> object:
        match key.kind, value:
            case keys.COUNT, int() if not isinstance(value, bool):
                if 0 < value <= 2**31 - 1:
                    return value
                raise self.error(path, f"{key.name} can't be {value}", "Write a whole number from 1 to 2147483647, or leave the key out.")
            case keys.SIZE | keys.DURATION, str():
                try:
                    return units.parse_size(value) if key.kind == keys.SIZE else units.parse_duration(value)
                except units.NotAUnitError as error:
                    raise self.error(path, f"{key.name}: {error.message}", error.hint) from None
            case keys.CHOICE, str():
                if value in key.choices:
                    if key.name == "network.upstream" and value != "none" and self.layer == "project":
                        hint = "Say it in your own policy, or for one run: --upstream host"
                        raise self.error(path, "a project can't have the host's proxy used, behind which no address is judged", hint)
                    return value
                raise self.error(path, f"{key.name} can't be {value!r}", self.choose(value, key.choices))
        hint = f"Write {key.leaf} = {key.example}."
        if key.kind in (keys.SIZE, keys.DURATION) and isinstance(value, int | float) and not isinstance(value, bool):
            units_of = f'"{value}M" or "{value}G"' if key.kind == keys.SIZE else f'"{value}s" or "{value}m"'
            hint = f"A number needs its unit, in quotes: {units_of}."
        raise self.error(path, f"{key.name} takes {keys.KINDS[key.kind]}, not {_type(value)}", hint)

    def choose(self, value: str, choices: tuple[str, ...]) -> str:
        close = suggest(value, choices)
        return f'Did you mean "{close}"?' if close else f"There are {', '.join(choices)}."

    def unknown(self, name: str) -> str:
        return f"unknown key {printable(name)}"

    def hint_for(self, leaf: str, section: str) -> str:
        """What an unknown key was meant to be: a near spelling here, a section, or a key of another section."""
        here = tuple(keys.in_section(section)) if section else ("extends", *SECTIONS)
        elsewhere = [key for key in keys.TABLE if key.leaf == leaf and key.section]
        if elsewhere:
            return f"{leaf} belongs under [{elsewhere[0].section}]."
        if close := suggest(leaf, here):
            return f'Did you mean "{close}"?'
        if leaf == "extends":
            return "extends stands at the top, above all sections."
        if close := suggest(leaf, tuple(key.leaf for key in keys.TABLE if key.section)):
            found = next(key for key in keys.TABLE if key.leaf == close)
            return f'Did you mean "{close}" under [{found.section}]?'
        return f"There are {', '.join(here)}."

    def origin(self, path: Path) -> Origin:
        line, column = self.places.of_value(path) if isinstance(path[-1], int) else self.places.of_key(path)
        return Origin(self.layer, self.file, line, column)

    def error(self, path: Path, message: str, hint: str = "", *, key: bool = False, within: tuple[str, int] = ("", 1)) -> PolicyError:
        """A mistake at a value or key. ``within``: a text, and the column in it that is wrong, shown where the text stands as it is."""
        line, column = self.places.of_key(path) if key else self.places.of_value(path)
        raw, (value, at) = self.places.line(line), within
        if raw[column : column + len(value)] == value:  # behind its quote
            column += at if at > 1 else 0
        text = printable(raw)
        return PolicyError(message, file=self.file, line=line, column=column, text=text, hint=hint)


def _syntax_error(error: tomllib.TOMLDecodeError, text: str, file: str) -> PolicyError:
    places = TomlPlaces(text)
    said = str(error)
    found = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", said)
    message = said[: found.start()] if found else said
    if found and found[1]:
        line, column = int(found[1]), int(found[2])
    else:
        line, column = places.line_column(len(text.rstrip()))
    hint = "Texts stand in double quotes, lists in square brackets." if message == "Invalid value" else ""
    if text.startswith("\ufeff"):
        line, column, message, hint = 1, 1, "the file begins with a byte order mark", "Save it as UTF-8 without one."
    message = message[:1].lower() + message[1:]
    return PolicyError(f"not TOML: {printable(message)}", file=file, line=line, column=column, text=printable(places.line(line)), hint=hint)


def _type(value: object) -> str:
    if value == "":
        return "an empty text"
    return TYPES.get(type(value), "a date or time")


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str | int | float) else _type(value)


def _toml(value: object) -> str:
    """How a single value would stand in a list; empty for what has no short spelling."""
    if isinstance(value, str) and value and value.isprintable() and '"' not in value and "\\" not in value:
        return f'"{value}"'
    return str(value) if type(value) is int else ""


def _first(key: Key) -> str:
    """The first item of a key's example."""
    return key.example.strip("[]").partition(",")[0]
