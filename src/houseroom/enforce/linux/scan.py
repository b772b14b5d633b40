"""Look at the paths that a policy speaks about: facts, asked once before the plan is made.

Literal paths are looked up one by one; patterns with wildcards need one walk of the directories below their fixed part. The
walk also notes FIFOs, which no mount stops from being written, and git directories by any name or link.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from stat import S_ISDIR, S_ISFIFO, S_ISLNK, S_ISREG, S_ISSOCK

from houseroom.plan.facts import DEVICE, DIRECTORY, FIFO, FILE, LINK, MISSING, SOCKET, Entry, Tree
from houseroom.plan.repository import GIT_MARKS, is_git_directory
from houseroom.policy.model import HIDE, WRITE
from houseroom.policy.pattern import Pattern, components, join
from houseroom.policy.verdicts import Verdicts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.plan.questions import Questions

_SECRETS_OF_A_DIRECTORY = 256  # entries of one hidden directory that are remembered by inode
_GITFILE_LONGEST = 4096
_GIT_NAMES = frozenset(map(os.fsdecode, GIT_MARKS))


def look(questions: Questions) -> Tree:
    """What is there now. Unreadable directories are told in ``incomplete``. Reads only metadata, and the text of gitfiles."""
    return _Search(questions).run()


class _Search:
    def __init__(self, questions: Questions):
        self.questions = questions
        self.verdicts = Verdicts(questions.rules)
        self.suspicious = self.verdicts.suspicious
        self.named: dict[str, Entry] = {}
        self.found: list[Entry] = []
        self.fifos: list[str] = []
        self.gitfiles: list[str] = []
        self.aliases: dict[tuple[str, ...], tuple[tuple[str, ...], ...]] = {}
        self.incomplete: list[str] = []
        self.watched: list[str] = []
        self.directories: dict[tuple[str, ...], tuple[str, frozenset[str]]] = {}  # a parent → its real path and its names
        self.unlisted: set[tuple[str, ...]] = set()  # directories that may be passed through but not listed, mode 0711
        self.secrets: set[tuple[int, int]] = set()
        self.shared: dict[tuple[int, int], tuple[str, ...]] = {}  # hidden files with further names, by device and inode

    def run(self) -> Tree:
        """Literal paths first: the walk must know which inodes are hidden."""
        roots = self.questions.writable
        for parts in roots:
            self._look_at(parts, WRITE)  # a missing one must be told
        for parent, names in self.questions.literals:
            self._names(parent, names)
        for base, granting in self.questions.walks:
            known = len(self.shared)
            self._walk(base, [Pattern(components(text)) for text in granting])
            if len(self.shared) > known:  # a hidden file met on the way has further names, perhaps passed already
                self._find_hard_links(base)
        return Tree(
            self.named,
            tuple(self.found),
            tuple(self.watched),
            tuple(self.fifos),
            tuple(self.gitfiles),
            tuple(sorted(self.secrets)),
            self.aliases,
            tuple(self.incomplete),
        )

    def _names(self, parent: tuple[str, ...], names: tuple[tuple[str, str], ...]) -> None:
        """Single paths in one directory. Most of several hundred do not exist: the listing says so without a call for each."""
        real, existing = self._directory(parent)
        inside = any(parent[: len(root)] == root for root in self.questions.writable)
        unlisted = parent in self.unlisted
        for name, access in names:
            if access == HIDE and not inside:
                self.watched.append(join((*parent, name)))
            if real and (name in existing or unlisted):
                self._look_at((*parent, name), access)

    def _look_at(self, parts: tuple[str, ...], access: str) -> None:
        path = join(parts)
        entry, status = self._entry(path)
        self.named[path] = entry
        for other in {components(entry.path), components(entry.real)} - {parts, ()}:
            self._alias(parts, other)
            if join(other) not in self.named:
                self.named[join(other)] = self._entry(join(other))[0]
        if access == HIDE and status is not None:
            self._note_secrets(parts, entry, status)

    def _directory(self, parts: tuple[str, ...]) -> tuple[str, frozenset[str]]:
        """Where a directory really is and what it holds; empty where there is none or it can't be listed."""
        known = self.directories.get(parts)
        if known is None:
            missing = bool(parts) and parts[-1] not in self._directory(parts[:-1])[1] and parts[:-1] not in self.unlisted
            known = ("", frozenset()) if missing else self._list(parts)
            self.directories[parts] = known
        return known

    def _list(self, parts: tuple[str, ...]) -> tuple[str, frozenset[str]]:
        path = join(parts)
        try:
            return os.path.realpath(path), frozenset(os.listdir(path))
        except (FileNotFoundError, NotADirectoryError):
            return "", frozenset()
        except OSError:
            self.unlisted.add(parts)
            return os.path.realpath(path), frozenset()

    def _entry(self, path: str) -> tuple[Entry, os.stat_result | None]:
        parent, _, name = path.rpartition("/")
        above = self._directory(components(parent))[0] or parent
        return self._entry_at(f"{'' if above == '/' else above}/{name}" if name else "/")

    def _entry_at(self, place: str) -> tuple[Entry, os.stat_result | None]:
        """The same for a path whose parents are known to be real."""
        try:
            status = os.lstat(place)
        except (FileNotFoundError, NotADirectoryError):
            return Entry(place, MISSING), None
        except OSError as error:  # too long a path, for one: it is there, and can't be masked
            self.incomplete.append(f"{place}: {error.strerror}")
            return Entry(place, MISSING), None
        kind = _kind(status.st_mode)
        return Entry(place, kind, os.path.realpath(place) if kind == LINK else place), status

    def _alias(self, parts: tuple[str, ...], other: tuple[str, ...]) -> None:
        self.aliases[parts] = (*self.aliases.get(parts, ()), other)

    def _note_secrets(self, parts: tuple[str, ...], entry: Entry, status: os.stat_result) -> None:
        """Remember hidden files by inode: any of them may have a further name, now or later."""
        if S_ISREG(status.st_mode):
            self._note_secret(parts, status)
        elif S_ISLNK(status.st_mode) or S_ISDIR(status.st_mode):
            try:
                with os.scandir(entry.real) as entries:
                    for _, inner in zip(range(_SECRETS_OF_A_DIRECTORY), entries):
                        found = inner.stat(follow_symlinks=False)
                        if S_ISREG(found.st_mode):
                            self._note_secret((*parts, inner.name), found)
            except OSError:
                return

    def _note_secret(self, parts: tuple[str, ...], status: os.stat_result) -> None:
        self.secrets.add((status.st_dev, status.st_ino))
        if status.st_nlink > 1:
            self.shared[status.st_dev, status.st_ino] = parts

    def _walk(self, base: str, granting: list[Pattern]) -> None:
        inodes = {inode for _device, inode in self.shared}
        pending = [base]
        while pending:
            directory = pending.pop()
            try:
                is_git = self._pass_through(directory, granting, inodes, pending)
            except OSError as error:
                if directory != base:
                    self.incomplete.append(f"{directory}: {error.strerror}")
                continue
            if is_git and directory != base:
                self._alias_git(directory)

    def _pass_through(self, directory: str, granting: list[Pattern], inodes: set[int], pending: list[str]) -> bool:
        """Look at each name in a directory; whether they make it a git directory. This is where large trees take their time."""
        marks = set()
        above = components(directory)
        with os.scandir(directory) as entries:
            for entry in entries:
                name = entry.name
                is_directory = entry.is_dir(follow_symlinks=False)
                matched = (self.suspicious(name) or granting) and self._match(entry.path, (*above, name), granting)
                if name in _GIT_NAMES:
                    marks.add(os.fsencode(name))
                if is_directory:
                    if not matched:
                        pending.append(entry.path)
                elif not entry.is_file(follow_symlinks=False) and not entry.is_symlink():
                    self._note_special(entry.path)
                else:
                    if name == ".git":
                        self._follow_gitfile(entry.path)
                    if inodes and entry.inode() in inodes:
                        self._note_shared(entry.path)
        return is_git_directory(marks)

    def _match(self, path: str, parts: tuple[str, ...], granting: list[Pattern]) -> bool:
        access = self.verdicts.access(parts)
        if access is None and not any(pattern.matches(parts) for pattern in granting):
            return False
        entry, status = self._entry_at(path)
        self.found.append(entry)
        if entry.real != entry.path and entry.kind == LINK and self._is_ours(entry.real):
            self._alias(parts, components(entry.real))
            self.named.setdefault(entry.real, self._entry(entry.real)[0])
        if access == HIDE and status is not None:
            self._note_secrets(parts, entry, status)
        return access is not None  # what is hidden or protected whole holds nothing that we look for

    def _is_ours(self, real: str) -> bool:
        """Whether a rule may follow a link that a repository brought along: to hide /usr because some link says so helps nobody."""
        if not os.path.isdir(real):
            return True
        parts = components(real)
        return any(parts[: len(root)] == root and parts != root for root in self.questions.writable)

    def _note_special(self, path: str) -> None:
        try:
            if S_ISFIFO(os.lstat(path).st_mode):
                self.fifos.append(path)
        except OSError:
            return

    def _note_shared(self, path: str) -> None:
        found = os.lstat(path)
        secret = self.shared.get((found.st_dev, found.st_ino))
        parts = components(path)
        if secret is not None:
            self._alias(secret, parts)
            self.named[path] = self._entry(path)[0]

    def _find_hard_links(self, base: str) -> None:
        for directory, _directories, files in os.walk(base):
            for name in files:
                self._note_shared(f"{directory}/{name}")

    def _follow_gitfile(self, path: str) -> None:
        """A worktree's or submodule's ``.git`` is a text file that points to the real directory (gitrepository-layout(5))."""
        self.gitfiles.append(path)
        self.named.setdefault(path, self._entry(path)[0])
        try:
            with open(path, "rb") as file:
                text = os.fsdecode(file.read(_GITFILE_LONGEST)).strip()
        except OSError:
            return
        if text.startswith("gitdir:"):
            self._alias_git(os.path.realpath(os.path.join(os.path.dirname(path), text[7:].strip())))

    def _alias_git(self, directory: str) -> None:
        """Protect a git directory that is not called ``.git`` as the workspace's own would be."""
        parts = components(directory)
        self._alias(self.questions.repository, parts)
        self.named.setdefault(directory, self._entry(directory)[0])


def _kind(mode: int) -> str:
    if S_ISDIR(mode):
        return DIRECTORY
    if S_ISREG(mode):
        return FILE
    if S_ISLNK(mode):
        return LINK
    if S_ISFIFO(mode):
        return FIFO
    return SOCKET if S_ISSOCK(mode) else DEVICE
