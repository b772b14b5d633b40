"""What commands could change of what the host reads or starts: a file, a link on the way to it, a directory above either.

What is asked is a policy's word, so it holds for the sandboxes of this policy. Another one may open other places.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

from houseroom.policy.model import WRITE
from houseroom.policy.pattern import components, join
from houseroom.session.host_sockets import links

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.policy.decide import PlacedPolicy


class Writable:
    """The places that commands may write under a policy."""

    def __init__(self, placed: PlacedPolicy):
        self.placed = placed
        self.roots = tuple(map(join, placed.writable()))

    def on_way_to(self, path: str) -> str:
        """The first such place on the way to a whole path, "" where there is none. All links on the way are followed.

        A file that is protected or hidden below such a place counts: nobody need rely on two rules where one place elsewhere would do.
        """
        for each in (*links(path), os.path.realpath(path)):
            parts = components(each)
            for depth in range(len(parts) + 1):
                if self.placed.access(parts[:depth])[0] == WRITE:
                    return join(parts[:depth])
        return ""

    def named_in(self, text: str) -> bool:
        """Whether a text, as an argument or a variable's value, leads to such a place.

        Its name counts anywhere in it; behind a link, a path that stands by itself, or behind ``:`` or ``=``. What is relative is taken
        from the root.
        """
        if any(_mentions(text, root) for root in self.roots):
            return True
        paths = (part if part[:1] == "/" else f"/{part}" for part in set(text.replace("=", ":").split(":")) if part)
        return any(self.on_way_to(path) for path in paths if os.path.lexists(f"/{path.lstrip('/').partition('/')[0]}"))


def _mentions(text: str, place: str) -> bool:
    """Whether a path stands in a text, and not only as the beginning of another name."""
    at = text.find(place)
    while at >= 0:
        behind = text[at + len(place) : at + len(place) + 1]
        if place == "/" or not (behind.isalnum() or behind in ("_", "-", ".")):
            return True
        at = text.find(place, at + 1)
    return False
