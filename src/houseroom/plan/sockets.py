"""Sockets of the host that may be connected to: what init keeps of each before it builds, and what the plan says of it."""

from __future__ import annotations

from houseroom.errors import CannotEnforce
from houseroom.plan.facts import MISSING, SOCKET
from houseroom.plan.steps import Socket
from houseroom.policy import sockets
from houseroom.policy.model import PROTECT, READ, WRITE
from houseroom.policy.pattern import join

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.plan.facts import Tree
    from houseroom.policy.decide import PlacedPolicy

KEY = sockets.KEY
_OWN = (("dev",), ("proc",))  # in every sandbox, whatever its policy says


def steps(placed: PlacedPolicy, tree: Tree, *, namespaces: bool) -> tuple[Socket, ...]:
    """One step a socket. ``namespaces``: the sandbox has a view of its own.

    Raises PolicyError for what is not there, is no socket, or is hidden, and CannotEnforce where there is no such view.
    """
    if not any(stratum.under(KEY) for stratum in placed.policy.strata[:1]):
        return ()
    granted = sockets.granted(placed.policy, placed.places)
    if granted and not namespaces:
        reason = f"sockets are let through by the rung namespaces alone ({granted[0][1].origin})"
        raise CannotEnforce((KEY,), reason, f"Take {KEY} out of the policy, or what stands for it out of the command line.")
    made: dict[str, Socket] = {}
    for parts, rule in granted:
        path = join(parts)
        if parts[:1] in _OWN:
            raise sockets.error(rule, f"can't let {path} through: /{parts[0]} is the sandbox's own", "Have its server listen elsewhere.")
        entry = tree.named.get(path)
        if entry is None or entry.kind == MISSING:
            hint = "Start the program that listens there first, or take the rule out."
            raise sockets.error(rule, f"can't let {path} through: it does not exist", hint)
        there = tree.named.get(entry.real, entry)
        if there.kind != SOCKET:
            raise sockets.error(rule, f"can't let {path} through: it is no socket", "Name the socket itself.")
        access, by = placed.access(_parts(there.path))
        if access not in (READ, PROTECT):
            said = f"{by} ({by.origin}) says otherwise" if by else "another policy grants nothing there"
            raise sockets.error(rule, f"can't let {path} through: {said}", "Take one of the two rules out.")
        made[there.path] = Socket(there.path, _kept(placed, there.path), rule.reason or str(rule), str(rule))
    return tuple(made.values())


def _kept(placed: PlacedPolicy, path: str) -> str:
    """What is kept of a socket: the directory from which its name is looked up anew for each connection, so that its server may begin
    again, even with its directory; or the very socket, where a command could put another one in its place."""
    parent = _parts(path)[:-1]
    if placed.access(parent)[0] == WRITE:
        return path
    above = parent[:-1]
    return join(above if len(parent) > 1 and placed.access(above)[0] != WRITE else parent)


def _parts(path: str) -> tuple[str, ...]:
    return tuple(filter(None, path.split("/")))
