"""Path patterns: placed on a host they are tuples of components, compared component by component.

``~/x`` is in the home directory, ``{workspace}/x`` or plain ``x`` in the workspace, ``{tmp}`` the private temporary
directory, ``/x`` absolute. ``**`` stands for any number of components, ``*`` and ``?`` for characters in one component.
A pattern names a file or directory; a rule on it covers everything below.
"""

from __future__ import annotations

from houseroom.errors import PolicyError
from houseroom.policy.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.policy.model import Places

ANY = "**"


class Pattern(Record):
    """An absolute pattern: components below ``/``; each is a literal, a glob of one component, or ``**``."""

    parts: tuple[str, ...]

    @property
    def literal(self) -> bool:
        """True where the pattern names exactly one path."""
        return not any(is_glob(part) for part in self.parts)

    @property
    def base(self) -> tuple[str, ...]:
        """The leading components that are literal: where a search for matches starts."""
        for index, part in enumerate(self.parts):
            if is_glob(part):
                return self.parts[:index]
        return self.parts

    @property
    def weight(self) -> tuple[bool, bool, int]:
        """Greater for the more specific of two patterns that match the same path."""
        last = self.parts[-1] if self.parts else ""
        return (self.literal, not is_glob(last), sum(len(part) for part in self.parts if part != ANY) - "".join(self.parts).count("*"))

    def matches(self, path: tuple[str, ...]) -> bool:
        """Whether the pattern names exactly this path."""
        return _match(self.parts, path)

    def __str__(self) -> str:
        return "/" + "/".join(self.parts)


def is_glob(part: str) -> bool:
    """Whether a component stands for more than one name."""
    return "*" in part or "?" in part


def is_plain(text: str) -> bool:
    """Whether a text is a path in its shortest form, without wildcards: its components are what lies between slashes."""
    odd = "*" in text or "?" in text or "//" in text or "/./" in text or "/../" in text or "\0" in text
    return not odd and not text.endswith(("/", "/.", "/.."))


def components(path: str) -> tuple[str, ...]:
    """Components of an absolute path; ``.`` and empty ones vanish, ``..`` is the caller's to resolve first."""
    return tuple(part for part in path.split("/") if part not in ("", "."))


def join(parts: tuple[str, ...]) -> str:
    """The absolute path of these components."""
    return "/" + "/".join(parts)


def place(text: str, places: Places) -> Pattern:
    """The absolute pattern a rule's text stands for on this host.

    Raises PolicyError for an empty text, a NUL, a ``..`` component, or a placeholder that does not exist.
    """
    if not text or "\0" in text:
        raise PolicyError(f"a path can't be {text!r}", hint="Write a path, such as src, ~/notes, /data or **/.env.")
    full = text
    if text == "~" or text.startswith("~/"):
        full = places.home + text[1:]
    elif text.startswith("{"):
        name, brace, rest = text[1:].partition("}")
        roots = {"workspace": places.workspace, "home": places.home, "tmp": places.tmp, "user": f"/run/user/{places.user}"}
        if not brace or name not in roots or (rest and not rest.startswith("/")):
            raise PolicyError(f"unknown placeholder in {text!r}", hint="There are {workspace}, {home}, {tmp} and {user}.")
        full = roots[name] + rest
    elif not text.startswith("/"):
        full = f"{places.workspace}/{text}"
    parts = components(full)
    if ".." in parts:
        raise PolicyError(f"{text!r} has a '..' in it", hint="Write the path it leads to.")
    return Pattern(parts)


def matches_name(glob: str, name: str) -> bool:
    """Whether one component matches a glob of ``*`` and ``?``. Linear in time for a single ``*``."""
    if not is_glob(glob):
        return glob == name
    if "?" not in glob and glob.count("*") == 1:
        head, tail = glob.split("*")
        return len(name) >= len(head) + len(tail) and name[: len(head)] == head and name[len(name) - len(tail) :] == tail
    # The usual greedy matcher: remember the last star and give it one more character at each mismatch.
    at = star = mark = 0
    star = -1
    pos = 0
    while pos < len(name):
        if at < len(glob) and (glob[at] == "?" or (glob[at] != "*" and glob[at] == name[pos])):
            at, pos = at + 1, pos + 1
        elif at < len(glob) and glob[at] == "*":
            star, mark, at = at, pos, at + 1
        elif star >= 0:
            mark += 1
            at, pos = star + 1, mark
        else:
            return False
    return all(char == "*" for char in glob[at:])


def _match(parts: tuple[str, ...], path: tuple[str, ...]) -> bool:
    if ANY not in parts:
        return len(parts) == len(path) and all(map(matches_name, parts, path))
    first = parts.index(ANY)
    tail = parts[first + 1 :]
    if ANY not in tail:  # by far the most common form: **/name
        end = len(path) - len(tail)
        return end >= first and all(map(matches_name, tail, path[end:])) and all(map(matches_name, parts[:first], path))
    last = len(parts) - 1 - parts[::-1].index(ANY)
    tail = parts[last + 1 :]
    end = len(path) - len(tail)
    if end < first or not all(map(matches_name, parts[:first], path[:first])) or not all(map(matches_name, tail, path[end:])):
        return False
    # Between two ``**`` the leftmost place of each run of components is always as good as any other: no backtracking.
    at, start = first, first + 1
    while start <= last:
        stop = parts.index(ANY, start) if start < last else last
        run = parts[start:stop]
        while run and not all(map(matches_name, run, path[at : at + len(run)])):
            at += 1
            if at + len(run) > end:
                return False
        at, start = at + len(run), stop + 1
        if at > end:
            return False
    return True
