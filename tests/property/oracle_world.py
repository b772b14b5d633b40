"""Generated directory worlds, policies and acts for the oracle, and the stage on which they are real files.

A world is a home directory with a workspace ``ws`` and a further project ``other`` in it, in a directory of its own. Every file
holds a word of its own, so content that leaks names its file.
"""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import strategies as st

NAMES = ("a", "b", "c d", "ü", "n\nl", ".git", ".env", ".mcp.json", "x.key")
ROOTS = ("home", "home/ws", "home/other")


@dataclass(frozen=True)
class Node:
    """One entry. ``kind``: dir, file, link, or name (a further name of the file ``target``); ``target`` is a link's text."""

    kind: str
    target: str = ""


@dataclass(frozen=True)
class Case:
    """One example: entries by path below the stage, rules by layer, acts with paths below the stage as spelled."""

    nodes: dict[str, Node]
    base: str
    layers: dict[str, tuple[tuple[str, str], ...]]
    acts: tuple[tuple[str, ...], ...]


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Node]:
    nodes = {root: Node("dir") for root in ROOTS}
    for _ in range(draw(st.integers(4, 16))):
        parent = draw(st.sampled_from([path for path, node in nodes.items() if node.kind == "dir" and path.count("/") < 4]))
        path = f"{parent}/{draw(st.sampled_from(NAMES))}"
        if path in nodes:
            continue
        kind = draw(st.sampled_from(("file", "file", "file", "dir", "dir", "link", "link", "name", "repository")))
        files = [known for known, node in nodes.items() if node.kind == "file"]
        if kind == "name" and files:
            nodes[path] = Node("name", draw(st.sampled_from(files)))
        elif kind == "link":
            nodes[path] = Node("link", draw(targets(path, tuple(nodes))))
        elif kind == "repository":
            nodes[path] = Node("dir")
            nodes |= {f"{path}/.git": Node("dir"), f"{path}/.git/config": Node("file"), f"{path}/f": Node("file")}
        else:
            nodes[path] = Node("dir" if kind == "dir" else "file")
    return nodes


@st.composite
def targets(draw: st.DrawFn, path: str, known: tuple[str, ...]) -> str:
    """Where a link leads: to another entry or nowhere, absolute (``@`` is the stage) or relative, to itself, upwards."""
    to = draw(st.sampled_from(known)) + draw(st.sampled_from(("", "", "", "/a", "/.git", "/missing")))
    form = draw(st.sampled_from(("absolute", "relative", "relative", "self", "up", "outside")))
    if form == "absolute":
        return f"@/{to}"
    if form == "self":
        return os.path.basename(path)
    if form == "outside":
        return draw(st.sampled_from(("/etc/hostname", "/usr/share")))  # a rule on such a link is one on what it leads to
    return ".." if form == "up" else os.path.relpath(to, os.path.dirname(path))


GLOBS = (
    "**/.env",
    "**/.git",
    "**/a",
    "**/x.key",
    "*.key",
    "*",
    "a/*",
    "**/b/*",
    "**/a/**/b",
    "~/*",
    "~/**/.mcp.json",
    "{workspace}/*/a",
    "?",
)
KEYS = ("files.hide", "files.hide", "files.protect", "files.protect", "files.private", "files.scratch", "files.write", "files.read")


@st.composite
def rules(draw: st.DrawFn, nodes: dict[str, Node], *, most: int) -> tuple[tuple[str, str], ...]:
    out = []
    paths = [path for path in nodes if path.isprintable()]
    for _ in range(draw(st.integers(0, most))):
        key = draw(st.sampled_from(KEYS))
        if draw(st.integers(0, 3)) == 0:
            out.append((key, draw(st.sampled_from(GLOBS))))
            continue
        path = draw(st.sampled_from(paths))
        if key != "files.write" and draw(st.integers(0, 3)) == 0:
            path += "/" + draw(st.sampled_from([name for name in NAMES if name.isprintable()]))
        out.append((key, draw(st.sampled_from([*subjects(path)]))))
    return tuple(dict.fromkeys(out))


def subjects(path: str) -> list[str]:
    """A path as policies spell it; ``@`` is the stage."""
    forms = [f"@/{path}"]
    if path.startswith("home/ws/"):
        forms += [f"{{workspace}}/{path[8:]}", path[8:]]
    if path.startswith("home/"):
        forms.append(f"~/{path[5:]}")
    return forms


READS = ("read", "list")
FITTING = {  # what can succeed there; each act is also tried where it can't
    "file": ("read", "read", "write", "truncate", "chmod", "unlink", "rename", "link", "open_create"),
    "dir": ("list", "list", "rmdir", "chmod", "rename"),
    "link": ("read", "list", "write", "chmod", "unlink", "rename", "open_create"),
    "": ("create", "open_create", "mkdir", "symlink"),
}
FITTING["name"] = FITTING["file"]
ANY = tuple({verb for verbs in FITTING.values() for verb in verbs})
TWO = ("rename", "link", "symlink")


@st.composite
def act(draw: st.DrawFn, nodes: dict[str, Node], places: list[str]) -> tuple[str, ...]:
    first = draw(st.sampled_from(list(nodes) if draw(st.booleans()) else places))
    fitting = FITTING[nodes[first].kind if first in nodes else ""]
    verb = draw(st.sampled_from(fitting if draw(st.integers(0, 5)) else sorted(ANY)))
    if verb == "symlink":
        return verb, draw(targets(first, tuple(nodes))), draw(spelled(first, nodes))
    if verb in TWO:
        return verb, draw(spelled(first, nodes)), draw(spelled(draw(st.sampled_from(places)), nodes))
    return verb, draw(spelled(first, nodes))


def acts(nodes: dict[str, Node], *, most: int) -> st.SearchStrategy[tuple[tuple[str, ...], ...]]:
    """What only looks comes first, so that what a layer of the sandbox keeps can't disturb it."""
    places = [*nodes, *(f"{path}/{name}" for path, node in nodes.items() if node.kind == "dir" for name in NAMES[:8])]
    made = st.lists(act(nodes, places), min_size=most // 4, max_size=most, unique=True)
    return made.map(lambda found: tuple(sorted(found, key=lambda act: act[0] not in READS)))


@st.composite
def spelled(draw: st.DrawFn, path: str, nodes: dict[str, Node]) -> str:
    """Ways to write a path: absolute, through ``..``, through a link that leads to a directory above it, from the workspace."""
    form = draw(st.sampled_from(("plain", "plain", "plain", "dots", "relative", "link")))
    if form == "dots":
        through = draw(st.sampled_from([known for known, node in nodes.items() if node.kind in ("dir", "link")]))
        return f"@/{through}/../{os.path.relpath(path, os.path.dirname(through))}"
    if form == "relative":
        return os.path.relpath(path, "home/ws")
    if form == "link":
        links = [known for known, node in nodes.items() if node.kind == "link"]
        if links:
            return f"@/{draw(st.sampled_from(links))}/{os.path.basename(path)}"
    return f"@/{path}"


@st.composite
def cases(draw: st.DrawFn, *, most_acts: int = 40) -> Case:
    nodes = draw(worlds())
    base = draw(st.sampled_from(("broad", "broad", "broad", "closed", "workspace")))
    layers = {"user": draw(rules(nodes, most=6))}
    for layer in ("organisation", "project"):
        if draw(st.integers(0, 2)) == 0:
            layers[layer] = draw(rules(nodes, most=3))
    return Case(nodes, base, layers, draw(acts(nodes, most=most_acts)))


Snapshot = dict[str, tuple[object, ...]]


@dataclass
class Stage:
    """A case as real files below ``root``, put back after each act with as little as possible touched.

    What is a mount point in the sandbox can't be removed from inside, so putting back never takes a mount away.
    """

    root: Path
    uid: int
    gid: int
    case: Case
    want: Snapshot = field(default_factory=dict)

    def at(self, path: str) -> str:
        """The real path of ``@/…``; others are as they are."""
        return f"{self.root}{path[1:]}" if path.startswith("@") else path

    def holds(self, path: str) -> bool:
        """Whether a real path lies on the stage."""
        return Path(path).is_relative_to(self.root)

    def word(self, path: str) -> str:
        """The content of a file of the world."""
        node = self.case.nodes[path]
        return f"word<{list(self.case.nodes).index(node.target if node.kind == 'name' else path)}>\n"

    def build(self) -> None:
        assert self.root == self.root.resolve()
        assert len(self.root.parts) > 3
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(mode=0o755)
        os.chown(self.root, self.uid, self.gid)
        for path in self.case.nodes:
            self.make(path)
        self.want = self.look()

    def make(self, path: str) -> None:
        node, place = self.case.nodes[path], self.root / path
        same = [known for known, other in self.case.nodes.items() if node.kind in ("file", "name") and self.is_same(path, known, other)]
        alive = next((self.root / known for known in same if known != path and os.path.lexists(self.root / known)), None)
        if node.kind == "dir":
            place.mkdir(mode=0o755)
            place.chmod(0o755)
        elif node.kind == "link":
            place.symlink_to(self.at(node.target))
        elif alive:
            os.link(alive, place)
        else:
            place.write_text(self.word(path))
            place.chmod(0o644)
        os.chown(place, self.uid, self.gid, follow_symlinks=False)

    def is_same(self, path: str, known: str, other: Node) -> bool:
        mine = self.case.nodes[path]
        file = mine.target if mine.kind == "name" else path
        return known == file or (other.kind == "name" and other.target == file)

    def look(self) -> Snapshot:
        """Kind, mode, content and fellow names of everything."""
        seen: Snapshot = {}
        groups: dict[int, str] = {}
        for where, directories, files in os.walk(self.root):
            directories.sort()
            for name in sorted(directories + files):
                path = os.path.join(where, name)
                found = os.lstat(path)
                kind = stat.S_IFMT(found.st_mode)
                content = os.readlink(path) if kind == stat.S_IFLNK else Path(path).read_text() if kind == stat.S_IFREG else ""
                group = groups.setdefault(found.st_ino, path) if kind == stat.S_IFREG else ""
                seen[os.path.relpath(path, self.root)] = (found.st_mode, content, group)
        return seen

    def restore(self, act: tuple[str, ...], paths: tuple[str, ...]) -> None:
        """Undo whatever an act did. Raises AssertionError if the world is not what it was."""
        if self.look() == self.want:
            return
        assert all(self.holds(path) for path in paths), f"{act} was not to be done: {paths}"
        if act[0] == "rename" and not os.path.lexists(paths[0]) and os.path.lexists(paths[1]):
            os.rename(paths[1], paths[0])
        for path in sorted(self.look().keys() - self.want.keys(), reverse=True):
            place = self.root / path
            if place.is_dir() and not place.is_symlink():
                place.rmdir()
            else:
                place.unlink()
        for path, node in self.case.nodes.items():
            place = self.root / path
            assert os.path.realpath(place.parent) == str(place.parent)  # no link leads what follows off the stage
            is_link = place.is_symlink()
            same = os.readlink(place) == self.at(node.target) if is_link and node.kind == "link" else not is_link and node.kind != "link"
            if os.path.lexists(place) and not same:
                place.unlink()
            if not os.path.lexists(place):
                self.make(path)
            elif node.kind in ("file", "name"):
                if place.read_text() != self.word(path):
                    place.write_text(self.word(path))
                place.chmod(0o644)
            elif node.kind == "dir":
                place.chmod(0o755)
        now = self.look()
        assert now == self.want, f"{act} left {set(now.items()) ^ set(self.want.items())}"
