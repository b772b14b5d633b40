"""Where the sockets really are that a policy names, on this host."""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

from houseroom.policy import sockets
from houseroom.policy.model import RANK, SCRATCH
from houseroom.policy.pattern import components, join

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from houseroom.plan.facts import Tree
    from houseroom.policy.decide import PlacedPolicy

_LINKS = 40  # as many as the kernel follows (path_resolution(7))


def learn(placed: PlacedPolicy, tree: Tree) -> None:
    """Have the policy know each granted socket by the path at which it is. Raises PolicyError for one that is reached through a link
    which commands could have made: who grants ``build/db.sock`` has not granted where that leads."""
    for parts, rule in sockets.granted(placed.policy, placed.places):
        entry = tree.named.get(join(parts))
        real = components(entry.real) if entry is not None and entry.real else parts
        if real == parts:
            continue
        for link in links(join(parts)):
            if RANK[placed.access(components(link)[:-1])[0]] >= RANK[SCRATCH]:
                message = f"can't let {join(parts)} through: {link} is a link, which commands may make and change"
                raise sockets.error(rule, message, f"Name the socket itself: {join(real)}")
        placed.let_through(parts, real)


def links(path: str) -> Iterator[str]:
    """The symbolic links on a path, each with its own parents resolved."""
    pending, here = list(components(path)), ""
    for _ in range(_LINKS):
        while pending:
            name = pending.pop(0)
            here = os.path.dirname(here) if name == ".." else f"{here.rstrip('/')}/{name}"
            if os.path.islink(here):
                break
        else:
            return
        yield here
        target = os.readlink(here)
        pending = [*(part for part in target.split("/") if part not in ("", ".")), *pending]
        here = "" if target.startswith("/") else os.path.dirname(here)
