"""Where each key, value and array element stands in a TOML text. ``tomllib`` gives no positions; this does.

The text must be one that ``tomllib`` accepted: nothing is checked here, only found.
"""

from __future__ import annotations

from bisect import bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    Path = tuple[str | int, ...]

BLANK = " \t\r"
ENDS_BARE = frozenset(",]}#\n")


class TomlPlaces:
    """Offsets of keys and of values by path: ``("files", "write", 0)`` is the first element of ``files.write``."""

    def __init__(self, text: str):
        self.text = text
        self.keys: dict[Path, int] = {}
        self.values: dict[Path, int] = {}
        self._starts = [0, *(at + 1 for at, char in enumerate(text) if char == "\n")]

    def of_key(self, path: Path) -> tuple[int, int]:
        """Line and column, from 1, of a key or of an array's element; of what it stands in where it has none itself."""
        return self._first(path, (self.keys, self.values))

    def of_value(self, path: Path) -> tuple[int, int]:
        """Line and column, from 1, of a value; of its key where the value is a table."""
        return self._first(path, (self.values, self.keys))

    def line_column(self, offset: int) -> tuple[int, int]:
        """Line and column, from 1, in characters, of an offset into the text."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of a line, without its end."""
        if not 0 < number <= len(self._starts):
            return ""
        start = self._starts[number - 1]
        end = self.text.find("\n", start)
        return self.text[start : len(self.text) if end < 0 else end].rstrip("\r")

    def _first(self, path: Path, tables: tuple[dict[Path, int], dict[Path, int]]) -> tuple[int, int]:
        for length in range(len(path), 0, -1):
            for table in tables:
                if path[:length] in table:
                    return self.line_column(table[path[:length]])
        return 1, 1


def find_places(text: str) -> TomlPlaces:
    """All places of a text that ``tomllib`` accepts. Raises RecursionError for thousands of nested arrays."""
    scanner = _Scanner(text)
    scanner.document()
    return scanner.found


def end_of_value(text: str, offset: int) -> int:
    """The offset behind the value that begins at an offset. Behind a bare word that may be blanks."""
    scanner = _Scanner(text)
    scanner.at = offset
    scanner.value(())
    return scanner.at


class _Scanner:
    def __init__(self, text: str):
        self.text, self.at, self.found = text, 0, TomlPlaces(text)
        self.counts: dict[Path, int] = {}  # arrays of tables: how many tables they have so far

    def document(self) -> None:
        table: Path = ()
        while self.blank():
            if self.text[self.at] == "[":
                table = self.header()
            else:
                self.pair(table)

    def header(self) -> Path:
        array = self.text.startswith("[[", self.at)
        self.at += 2 if array else 1
        path: Path = ()
        names = self.dotted()
        for position, (name, offset) in enumerate(names):
            path += (name,)
            self.found.keys.setdefault(path, offset)
            if array and position == len(names) - 1:
                self.counts[path] = self.counts.get(path, 0) + 1
            if path in self.counts:
                path += (self.counts[path] - 1,)
                self.found.keys.setdefault(path, offset)
        self.at += 2 if array else 1
        return path

    def pair(self, table: Path) -> None:
        path = table
        for name, offset in self.dotted():
            path += (name,)
            self.found.keys.setdefault(path, offset)
        self.at += 1  # the equals sign
        self.blank()
        self.value(path)

    def value(self, path: Path) -> None:
        self.found.values[path] = self.at
        match self.text[self.at]:
            case "[":
                self.array(path)
            case "{":
                self.inline(path)
            case '"' | "'":
                self.string()
            case _:
                while self.at < len(self.text) and self.text[self.at] not in ENDS_BARE:
                    self.at += 1

    def array(self, path: Path) -> None:
        self.at += 1
        index = 0
        while self.blank() and self.text[self.at] != "]":
            self.value((*path, index))
            index += 1
            self.blank()
            if self.text[self.at] == ",":
                self.at += 1
        self.at += 1

    def inline(self, path: Path) -> None:
        self.at += 1
        while self.blank() and self.text[self.at] != "}":
            self.pair(path)
            self.blank()
            if self.text[self.at] == ",":
                self.at += 1
        self.at += 1

    def string(self) -> str:
        """Steps over a string of any of the four kinds; its source text with the quotes."""
        start, quote = self.at, self.text[self.at]
        mark = quote * 3 if self.text.startswith(quote * 3, self.at) else quote
        at = start + len(mark)
        while not self.text.startswith(mark, at):
            at += 2 if quote == '"' and self.text[at] == "\\" else 1
        at += len(mark)
        if len(mark) == 3:  # up to two quotes may stand before the closing three
            for _ in range(2):
                at += self.text.startswith(quote, at)
        self.at = at
        return self.text[start:at]

    def dotted(self) -> list[tuple[str, int]]:
        """The names of a dotted key with their offsets; stops at what follows the key."""
        names = []
        while True:
            self.blank()
            offset = self.at
            if self.text[offset] in "\"'":
                names.append((_decoded(self.string()), offset))
            else:
                while self.text[self.at] not in " \t.=]":
                    self.at += 1
                names.append((self.text[offset : self.at], offset))
            self.blank()
            if self.text[self.at] != ".":
                return names
            self.at += 1

    def blank(self) -> bool:
        """Steps over white space, line ends and comments. False at the end of the text."""
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif char == "\n" or char in BLANK:
                self.at += 1
            else:
                return True
        return False


def _decoded(source: str) -> str:
    if "\\" not in source:
        return source[1:-1]
    import tomllib

    return str(tomllib.loads(f"key = {source}")["key"])
