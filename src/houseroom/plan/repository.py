"""What git takes for a repository by whatever name: gitrepository-layout(5), and ``is_git_directory`` in its setup.

Git runs programs that a repository's settings name (``core.fsmonitor``, ``core.pager``, hooks), so for a person who
changes into it a directory that looks like one is as good as one called ``.git``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Set

GIT_MARKS = frozenset((b"HEAD", b"objects", b"refs", b"commondir"))


def is_git_directory(names: Set[bytes]) -> bool:
    """Whether a directory with these names in it is one: HEAD, and objects with refs or a file saying where they are."""
    return b"HEAD" in names and (b"commondir" in names or (b"objects" in names and b"refs" in names))
