"""What a person sees: text that fits the width, colour where it helps, tables. Nothing here runs on the way of a command.

The standard library is enough for this, and it keeps `doctor` and `explain` working when an installation is broken: see
"Why no table library" in docs/cli.md. Everything shown passes ``clean``: a file's name, a variable's or a policy's text may
come from an agent and hold escape sequences for the terminal.
"""

from __future__ import annotations

import os
import sys

from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TextIO

GREEN, RED, YELLOW, CYAN, BOLD, DIM = "32", "31", "33", "36", "1", "2"
GAP = 2
NARROW, WIDE = 40, 110  # narrower can't hold a table; wider is hard to read


class Text(Record):
    """Some words in one style (an SGR parameter, "" for plain)."""

    text: str
    style: str = ""


Cell = Text | str


class Column(Record):
    """A column of a table. ``wrap`` False: its cells stay on one line and set its width."""

    wrap: bool = True
    least: int = 12


class Paper(Record):
    """Where lines are set: so many columns, with or without colour."""

    width: int
    colour: bool

    @classmethod
    def of_stdout(cls) -> Paper:
        """As wide as the terminal, 80 where there is none; ``COLUMNS`` overrides."""
        return cls(_columns(), wants_colour(sys.stdout))

    def ink(self, text: str, style: str) -> str:
        """Text in a style, or as it is where there is no colour."""
        return f"\x1b[{style}m{text}\x1b[0m" if self.colour and style and text else text

    def set(self, cell: Cell) -> str:
        """One cell on one line, cleaned and coloured."""
        text, style = (cell.text, cell.style) if isinstance(cell, Text) else (cell, "")
        return self.ink(clean(text), style)

    def prose(self, cell: Cell, indent: int = 0, hanging: int | None = None) -> str:
        """A paragraph that wraps at the width. ``hanging`` indents its further lines."""
        text, style = (cell.text, cell.style) if isinstance(cell, Text) else (cell, "")
        later = indent if hanging is None else hanging
        lines = wrap(clean(text), self.width - max(indent, later))
        return "\n".join(" " * (indent if n == 0 else later) + self.ink(line, style) for n, line in enumerate(lines))

    def table(self, rows: Iterable[Sequence[Cell]], columns: Sequence[Column], indent: int = 2) -> str:
        """Rows under one another. Columns that may wrap share what the others leave."""
        cells = [[(clean(c.text), c.style) if isinstance(c, Text) else (clean(c), "") for c in row] for row in rows]
        if not cells:
            return ""
        natural = [max(span(row[n][0]) for row in cells) for n in range(len(columns))]
        widths = _shares(natural, columns, self.width - indent - GAP * (len(columns) - 1))
        out: list[str] = []
        for row in cells:
            folded = [wrap(text, widths[n]) if columns[n].wrap else [text] for n, (text, _) in enumerate(row)]
            for level in range(max(map(len, folded))):
                line = ""
                for n, (_, style) in enumerate(row):
                    piece = folded[n][level] if level < len(folded[n]) else ""
                    last = n == len(row) - 1
                    line += self.ink(piece, style) + ("" if last else " " * (widths[n] - span(piece) + GAP))
                out.append((" " * indent + line).rstrip() if not self.colour else " " * indent + line)
        return "\n".join(out)


def _shares(natural: list[int], columns: Sequence[Column], room: int) -> list[int]:
    """Widths that fit: fixed columns as they are, the others fairly from what is left, the smallest wishes first."""
    widths = list(natural)
    flexible = sorted((n for n, column in enumerate(columns) if column.wrap), key=lambda n: natural[n])
    left = room - sum(natural[n] for n, column in enumerate(columns) if not column.wrap)
    for position, n in enumerate(flexible):
        share = left // (len(flexible) - position)
        widths[n] = max(min(natural[n], max(share, columns[n].least)), 1)
        left -= widths[n]
    return widths


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` columns, broken between words; a longer word breaks after a slash, or where it must."""
    width = max(width, 8)
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            joined = f"{line} {word}" if line else word
            if span(joined) <= width:
                line = joined
                continue
            if line and (span(word) <= width or width - span(line) < 8):
                lines.append(line)
                line = ""
            rest = f"{line} {word}" if line else word
            while span(rest) > width:
                head = _fitting(rest, width)
                cut = head.rfind("/") + 1
                cut = cut if cut > width // 3 else len(head)
                lines.append(rest[:cut].rstrip())
                rest = rest[cut:]
            line = rest
        lines.append(line)
    return lines


def _fitting(text: str, width: int) -> str:
    """The longest head of a text that fits."""
    if text.isascii():
        return text[:width]
    end = len(text)
    while end > 1 and span(text[:end]) > width:
        end -= 1
    return text[:end]


def span(text: str) -> int:
    """Columns a terminal uses for a text: two for wide East Asian characters and emoji, none for combining marks."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def clean(text: str) -> str:
    """Text with everything unprintable spelt out: escape sequences, direction overrides, bytes that are no UTF-8."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else char.encode("unicode_escape", "replace").decode() for char in text)


def _columns() -> int:
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told):
        return min(max(int(told), NARROW), WIDE)
    try:
        return min(max(os.get_terminal_size(1).columns, NARROW), WIDE)
    except OSError:
        return 80


def wants_colour(stream: TextIO) -> bool:
    """Colour on a terminal that can, unless NO_COLOR is set (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def put(text: str) -> None:
    """Print on standard output. A reader that went away (``| head``) is no error."""
    try:
        sys.stdout.buffer.write((text.rstrip("\n") + "\n").encode(sys.stdout.encoding or "utf-8", "backslashreplace"))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else the interpreter complains at its end


def put_json(value: object) -> None:
    """Print a value as indented JSON."""
    import json

    put(json.dumps(value, indent=2))


def note(text: str) -> None:
    """Say something on standard error, as houseroom."""
    _say("houseroom:", CYAN, text)


def fail(message: str, hint: str = "") -> None:
    """Say on standard error what went wrong and what to do."""
    _say("houseroom:", RED, message + (f".\n{hint}" if hint else ""))


def _say(mark: str, style: str, text: str) -> None:
    mark = f"\x1b[{style}m{mark}\x1b[0m" if wants_colour(sys.stderr) else mark
    line = f"{mark} {clean(text)}\n".encode(sys.stderr.encoding or "utf-8", "backslashreplace")
    try:
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
    except (BrokenPipeError, ValueError):
        pass  # nobody listens; the exit code still speaks


def json_line(value: object) -> None:
    """One line of JSON on standard error, for a program that watches a run."""
    import json

    sys.stderr.write(json.dumps(value) + "\n")
    sys.stderr.flush()


def tell(text: str, end: str = "\n") -> None:
    """Show text that was set for a person, such as a question, on standard error."""
    sys.stderr.write(text + end)
    sys.stderr.flush()
