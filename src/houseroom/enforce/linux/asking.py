"""What works in new namespaces on this host, tried for real by the process that will be init, before it learns anything else.

Small, because the supervisor waits for the answers; the rest of init is imported after they have been given.
"""

from __future__ import annotations

import sys

assert sys.platform == "linux"  # type checkers for other systems stop reading here

import os

from houseroom.enforce.linux import mount_sys, process_sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def ask_the_kernel(uid: int, gid: int) -> dict[str, str]:
    """What works here, tried for real; an empty string means it does. Facts of ``plan.facts.Host``."""
    attempts: tuple[tuple[str, Callable[[], object]], ...] = (
        ("namespaces", lambda: _enter_namespaces(uid, gid)),
        ("mounts", _try_mounts),
        ("proc", lambda: os.close(mount_sys.new_mount("proc", {}, 0))),
        ("overlay", lambda: os.close(mount_sys.fsopen("overlay"))),
    )
    facts = {}
    for name, attempt in attempts:
        try:
            attempt()
            facts[name] = ""
        except OSError as error:
            facts[name] = error.strerror or str(error)
    return facts


def _enter_namespaces(uid: int, gid: int) -> None:
    """All but that of the network, which only the plan knows to be wanted. Those of users and processes came with our birth."""
    process_sys.map_identity(uid, gid)
    process_sys.unshare(process_sys.CLONE_NEWNS | process_sys.CLONE_NEWIPC | process_sys.CLONE_NEWUTS | process_sys.CLONE_NEWCGROUP)


def _try_mounts() -> None:
    mount_sys.make_private()
    tree = mount_sys.open_tree(b"/dev/null")
    try:
        mount_sys.mount_setattr(tree, on=mount_sys.RDONLY)
    finally:
        os.close(tree)
