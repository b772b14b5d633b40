"""Which names may come into being: what init looks at before it creates one, or moves something there, for a command."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os
from errno import EROFS, EXDEV

from houseroom.plan.repository import GIT_MARKS, is_git_directory
from houseroom.policy.pattern import components
from houseroom.policy.verdicts import Verdicts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.plan.steps import Mediate


class Refused(OSError):
    """A protected name, an outside socket: the policy refuses, with the errno a read-only file system would give."""


class Names:
    """Which names may come into being. Built once from the plan; answers in well under a microsecond for most names."""

    def __init__(self, step: Mediate):
        self.verdicts = Verdicts(step.rules)
        self.verdicts.search_below(tuple(components(root) for root in step.roots))
        self.roots = [os.fsencode(root).rstrip(b"/") + b"/" for root in step.roots]
        # An ancestor of a protected path must stay where it is, or the path could be led elsewhere.
        self.pinned = frozenset(map(os.fsencode, step.pinned))
        self.ancestors = {path[:at] for path in self.pinned for at in range(1, len(path)) if path[at : at + 1] == b"/"}

    def suspicious(self, name: bytes) -> bool:
        """Whether a name could be refused somewhere."""
        return name in GIT_MARKS or self.verdicts.suspicious(os.fsdecode(name))

    def check_created(self, place: Place) -> None:
        """Raise Refused if an entry at this place may not come into being."""
        path, name = place.path(), place.name
        if self.verdicts.access(components(os.fsdecode(path))) is not None:
            raise Refused(EROFS, "protected or hidden", path)
        new_mark = name in GIT_MARKS and any(path.startswith(root) for root in self.roots) and not place.has(name)
        if new_mark and is_git_directory({name, *(mark for mark in GIT_MARKS if place.has(mark))}):
            raise Refused(EROFS, "this would make a git repository, and git would run what its settings say", path)

    def check_led(self, path: bytes) -> None:
        """Raise Refused if what stands at this path is protected or on the way to something protected.

        A directory moved there, or a symbolic link made there, could bring a protected path into being.
        """
        if path in self.ancestors or path in self.pinned or (self.verdicts.ways and self.verdicts.leads(components(os.fsdecode(path)))):
            raise Refused(EROFS, "leads to a protected path", path)

    def check_brought(self, target: bytes, source: bytes) -> None:
        """Raise for a tree that comes from elsewhere below a directory in which names are looked for: copying it is looked at."""
        if not any(source.startswith(root) for root in self.roots):
            return
        if self.verdicts.brings(components(os.fsdecode(target)), components(os.fsdecode(source))):
            raise OSError(EXDEV, "copy it instead: each name is looked at")


class Place:
    """A parent directory held by descriptor, and a name in it: what a path of the caller stands for."""

    def __init__(self, parent: int, name: bytes, *, slash: bool = False):
        self.parent, self.name, self.slash = parent, name, slash

    def path(self) -> bytes:
        """The path in the sandbox, by the kernel's own account."""
        above = os.readlink(b"/proc/self/fd/%d" % self.parent)
        return (b"" if above == b"/" else above) + b"/" + self.name

    def has(self, name: bytes) -> bool:
        """Whether the directory has an entry of this name; what can't be told counts as one."""
        try:
            os.lstat(name, dir_fd=self.parent)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        """Let go of the parent."""
        os.close(self.parent)
