"""Add to a list of a policy's text and leave the rest of it as it is: comments, order, blanks, line ends.

What comes out is read again and compared: it says what the text said, and the new values, and nothing else; otherwise
nothing comes out.
"""

from __future__ import annotations

from houseroom.policy.export import quoted
from houseroom.policy.toml_places import end_of_value, find_places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from houseroom.policy.toml_places import TomlPlaces

    Line = tuple[str, str]  # a value and what is said of it: one line, already fit for a comment

_INDENT = "    "


class NotEditable(ValueError):
    """The text is written in a way that nothing can be added to without a person."""


def add(text: str, section: str, leaf: str, lines: Sequence[Line]) -> str:
    """The text with more values at the end of ``[section] leaf``, a list of texts. Raises NotEditable.

    ``text`` must be one that ``tomllib`` accepts, or empty.
    """
    places = find_places(text)
    at = places.values.get((section, leaf))
    if at is not None:
        new = _into_list(text, places, (section, leaf), at, lines)
    elif (section,) in places.keys:
        new = _into_section(text, places, section, leaf, lines)
    else:
        gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        new = f"{text}{gap}[{section}]\n{_list(leaf, lines)}"
    _check(text, new, section, leaf, [value for value, _ in lines])
    return new


def _into_section(text: str, places: TomlPlaces, section: str, leaf: str, lines: Sequence[Line]) -> str:
    at = places.keys[(section,)]
    start = text.rfind("\n", 0, at) + 1
    line = places.line(places.line_column(at)[0]).lstrip()
    if line.startswith("["):
        end = _line_end(text, at)
        gap = "" if text[:end].endswith("\n") else "\n"
        return text[:end] + gap + _list(leaf, lines) + text[end:]
    if text[start:at].strip() == "" and places.values.get((section,)) is None:  # ``files.hide = […]``, without a header
        return text[:start] + _list(f"{section}.{leaf}", lines) + text[start:]
    raise NotEditable(f"[{section}] is written as one line")


def _into_list(text: str, places: TomlPlaces, path: tuple[str, str], at: int, lines: Sequence[Line]) -> str:
    if text[at] != "[":
        raise NotEditable(f"{'.'.join(path)} is no list")
    count = sum(1 for known in places.values if len(known) == 3 and known[:2] == path)
    if not count:
        raise NotEditable(f"{'.'.join(path)} = [] takes back on purpose what is granted elsewhere")
    begin = places.values[(*path, count - 1)]
    last = end_of_value(text, begin)
    last -= len(text[begin:last]) - len(text[begin:last].rstrip())
    close = end_of_value(text, at) - 1
    if "\n" not in text[at:close]:
        return _into_one_line(text, at, last, close, lines)
    comma = _comma(text, last, close)
    break_ = text.find("\n", last if comma < 0 else comma, close)
    start = text.rfind("\n", 0, begin) + 1
    indent = text[start:begin] if not text[start:begin].strip() else _INDENT
    added = "".join(f"{indent}{quoted(value)},{_comment(said)}\n" for value, said in lines)
    whole = text[:last] + ("," if comma < 0 else "") + text[last:]
    shift = 1 if comma < 0 else 0
    if break_ >= 0:
        return whole[: break_ + shift + 1] + added + whole[break_ + shift + 1 :]
    cut = (comma + 1) if comma >= 0 else last + 1
    return whole[:cut] + "\n" + added + whole[cut:].lstrip(" \t")


def _into_one_line(text: str, at: int, last: int, close: int, lines: Sequence[Line]) -> str:
    comma = _comma(text, last, close)
    joined = ", ".join(quoted(value) for value, _ in lines)
    new = text[:last] + f", {joined}" + ("" if comma < 0 else ",") + (text[last:] if comma < 0 else text[comma + 1 :])
    start = text.rfind("\n", 0, at) + 1
    key = text[start:at]
    if "{" in key or "[" in key:
        return new
    indent = key[: len(key) - len(key.lstrip())]
    return new[:start] + "".join(f"{indent}#{said and ' '}{said}: {quoted(value)}\n" for value, said in lines if said) + new[start:]


def _comma(text: str, start: int, end: int) -> int:
    """Where the comma behind an element is, -1 where there is none; comments between are stepped over."""
    at = start
    while at < end:
        if text[at] == ",":
            return at
        at = _line_end(text, at) if text[at] == "#" else at + 1
    return -1


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1


def _list(key: str, lines: Sequence[Line]) -> str:
    return f"{key} = [\n" + "".join(f"{_INDENT}{quoted(value)},{_comment(said)}\n" for value, said in lines) + "]\n"


def _comment(said: str) -> str:
    return f"  # {said}" if said else ""


def _check(old: str, new: str, section: str, leaf: str, values: list[str]) -> None:
    """Raises NotEditable where the new text says anything but what it should."""
    import tomllib

    wanted = tomllib.loads(old)
    given = wanted.setdefault(section, {})
    if not isinstance(given, dict):
        raise NotEditable(f"{section} is no section")
    given[leaf] = [*given.get(leaf, []), *values]
    try:
        if tomllib.loads(new) == wanted:
            return
    except tomllib.TOMLDecodeError:
        pass
    raise NotEditable(f"nothing can be added to {section}.{leaf} the way it is written")
