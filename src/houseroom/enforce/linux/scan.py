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
from houseroom.policy.verdicts import REFUSED, Verdicts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from houseroom.plan.questions import Questions

    Found = str | tuple[str, str, str]  # the kind of what is at its own path; else its path, kind and real path, as an Entry has them

_SECRETS_OF_A_DIRECTORY = 256  # entries of one hidden directory that are remembered by inode
_GITFILE_LONGEST = 4096
_LONGEST_NAME, _LONGEST_PATH = 255, 4096  # limits.h: NAME_MAX, PATH_MAX
_GIT_NAMES = frozenset(map(os.fsdecode, GIT_MARKS))


def look(questions: Questions) -> Tree:
    """What is there now. Unreadable directories are told in ``incomplete``. Reads only metadata, and the text of gitfiles."""
    search = _Search(questions)
    search.run()
    return Tree(
        {path: _entry(path, found) for path, found in search.named.items()},
        tuple(_entry(path, found) for path, found in search.found.items()),
        tuple(search.watched),
        tuple(search.fifos),
        tuple(search.gitfiles),
        tuple(sorted(search.secrets)),
        search.aliases,
        tuple(search.incomplete),
    )


def look_again(questions: Questions) -> tuple[Any, ...]:
    """What is there now, as ``plain`` says it of a tree: for those who only want to know whether it is what it was."""
    search = _Search(questions)
    search.run()
    lists = (search.watched, search.fifos, search.gitfiles, search.incomplete)
    return _plain(search.named, search.found, lists, search.secrets, search.aliases)


def plain(tree: Tree) -> tuple[Any, ...]:
    """A tree as plain values that compare equal exactly when it is the same."""
    named = {path: _spelled(path, entry.path, entry.kind, entry.real) for path, entry in tree.named.items()}
    found = {entry.path: _spelled(entry.path, entry.path, entry.kind, entry.real) for entry in tree.found}
    return _plain(named, found, (tree.watched, tree.fifos, tree.gitfiles, tree.incomplete), tree.secrets, tree.aliases)


def _plain(
    named: dict[str, Found],
    found: dict[str, Found],
    lists: Iterable[Iterable[str]],
    secrets: Iterable[tuple[int, int]],
    aliases: dict[tuple[str, ...], tuple[tuple[str, ...], ...]],
) -> tuple[Any, ...]:
    return (named, found, *map(sorted, lists), frozenset(secrets), {parts: sorted(others) for parts, others in aliases.items()})


def _spelled(path: str, place: str, kind: str, real: str) -> Found:
    """An entry in short: most are what they are at their own path."""
    return kind if path == place == real else (place, kind, real)


def _entry(path: str, found: Found) -> Entry:
    return Entry(path, found, path) if isinstance(found, str) else Entry(*found)


class _Search:
    def __init__(self, questions: Questions):
        self.questions = questions
        self.verdicts = Verdicts(questions.rules)
        self.suspicious = self.verdicts.suspicious
        self.named: dict[str, Found] = {}
        self.found: dict[str, Found] = {}
        self.settled: set[str] = set()  # refused paths that are plain files: all has been noted of them
        self.fifos: list[str] = []
        self.gitfiles: list[str] = []
        self.aliases: dict[tuple[str, ...], tuple[tuple[str, ...], ...]] = {}
        self.incomplete: list[str] = []
        self.watched: list[str] = []
        self.directories: dict[tuple[str, ...], tuple[str, frozenset[str]]] = {}  # a parent → its real path and its names
        self.unlisted: set[tuple[str, ...]] = set()  # directories that may be passed through but not listed, mode 0711
        self.secrets: set[tuple[int, int]] = set()
        self.shared: dict[tuple[int, int], tuple[str, ...]] = {}  # hidden files with further names, by device and inode

    def run(self) -> None:
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

    def _names(self, parent: tuple[str, ...], names: tuple[tuple[str, str], ...]) -> None:
        """Single paths in one directory. Most of several hundred do not exist: the listing says so without a call for each."""
        real, existing = self._directory(parent)
        if not any(parent[: len(root)] == root for root in self.questions.writable):
            self.watched += [join((*parent, name)) for name, access in names if access == HIDE]
        if not real:
            return
        present = names if parent in self.unlisted else [(name, access) for name, access in names if name in existing]
        if present and real == join(parent):
            present = self._settle(real, present)
        for name, access in present:
            self._look_at((*parent, name), access)

    def _settle(self, directory: str, names: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Note the refused files among the names in a real directory, of which there is no more to say; thousands, in some policies.

        Returns the other names.
        """
        if len(os.fsencode(directory)) + _LONGEST_NAME + 1 >= _LONGEST_PATH:  # what has no path that a call takes can't be masked
            return list(names)
        try:
            held = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return list(names)
        above, left, lookup = "" if directory == "/" else directory, [], os.stat
        for name, access in names:
            try:
                status = lookup(name, dir_fd=held, follow_symlinks=False)
            except OSError:
                left.append((name, access))
                continue
            if access not in REFUSED or not S_ISREG(status.st_mode):
                left.append((name, access))
                continue
            path = f"{above}/{name}"
            self.named[path] = FILE
            self.settled.add(path)
            if access == HIDE:
                self.secrets.add((status.st_dev, status.st_ino))
                if status.st_nlink > 1:
                    self.shared[status.st_dev, status.st_ino] = components(path)
        os.close(held)
        return left

    def _look_at(self, parts: tuple[str, ...], access: str) -> None:
        path = join(parts)
        (place, kind, real), status = self._lookup(path)
        self.named[path] = _spelled(path, place, kind, real)
        for other in {components(place), components(real)} - {parts, ()}:
            self._alias(parts, other)
            self._name(join(other))
        if access == HIDE and status is not None:
            self._note_secrets(parts, real, status)

    def _name(self, path: str) -> None:
        """One more path that something is known by."""
        if path not in self.named:
            self.named[path] = _spelled(path, *self._lookup(path)[0])

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
            return self._real(parts, path), frozenset(os.listdir(path))
        except (FileNotFoundError, NotADirectoryError):
            return "", frozenset()
        except OSError:
            self.unlisted.add(parts)
            return os.path.realpath(path), frozenset()

    def _real(self, parts: tuple[str, ...], path: str) -> str:
        """``realpath``, knowing that of the parent: that most parents are their own is known already."""
        plain = bool(parts) and self._directory(parts[:-1])[0] == join(parts[:-1]) and not os.path.islink(path)
        return path if plain else os.path.realpath(path)

    def _lookup(self, path: str) -> tuple[tuple[str, str, str], os.stat_result | None]:
        """The path with its parents resolved, the kind, and where it leads in the end; and the status of what is there."""
        parent, _, name = path.rpartition("/")
        above = self._directory(components(parent))[0] or parent
        return self._lookup_at(f"{'' if above == '/' else above}/{name}" if name else "/")

    def _lookup_at(self, place: str) -> tuple[tuple[str, str, str], os.stat_result | None]:
        """The same for a path whose parents are known to be real."""
        try:
            status = os.lstat(place)
        except (FileNotFoundError, NotADirectoryError):
            return (place, MISSING, ""), None
        except OSError as error:  # too long a path, for one: it is there, and can't be masked
            self.incomplete.append(f"{place}: {error.strerror}")
            return (place, MISSING, ""), None
        kind = _kind(status.st_mode)
        return (place, kind, os.path.realpath(place) if kind == LINK else place), status

    def _alias(self, parts: tuple[str, ...], other: tuple[str, ...]) -> None:
        self.aliases[parts] = (*self.aliases.get(parts, ()), other)

    def _note_secrets(self, parts: tuple[str, ...], real: str, status: os.stat_result) -> None:
        """Remember hidden files by inode: any of them may have a further name, now or later."""
        if S_ISREG(status.st_mode):
            self._note_secret(parts, status)
        elif S_ISLNK(status.st_mode) or S_ISDIR(status.st_mode):
            try:
                with os.scandir(real) as entries:
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
                matched = (self.suspicious(name) or granting) and (
                    (not is_directory and entry.path in self.settled) or self._match(entry.path, (*above, name), granting)
                )
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
        (_, kind, real), status = self._lookup_at(path)
        self.found[path] = _spelled(path, path, kind, real)
        if real != path and kind == LINK and self._is_ours(real):
            self._alias(parts, components(real))
            self._name(real)
        if access == HIDE and status is not None:
            self._note_secrets(parts, real, status)
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
            self.named[path] = _spelled(path, *self._lookup(path)[0])

    def _find_hard_links(self, base: str) -> None:
        for directory, _directories, files in os.walk(base):
            for name in files:
                self._note_shared(f"{directory}/{name}")

    def _follow_gitfile(self, path: str) -> None:
        """A worktree's or submodule's ``.git`` is a text file that points to the real directory (gitrepository-layout(5))."""
        self.gitfiles.append(path)
        self._name(path)
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
        self._name(directory)


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
