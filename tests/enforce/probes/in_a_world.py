"""houseroom in a small world: ``in_a_world.py WORLD ARGUMENTS…`` is ``houseroom ARGUMENTS…``, but the egress proxy's resolver is a table.

WORLD is JSON. ``names``: name → answers, each a list of addresses; one after the other, the last one stays. ``public``: addresses that
count as public. ``site``: the only directory that has libraries of others, "" where all count that there are. ``asked``: a file of zeros
to which every name is added that the resolver is asked for. The proxy is forked from the process that has the sandbox, so what is replaced
here is replaced there.
"""

from __future__ import annotations

import json
import mmap
import sys
from typing import Any

from houseroom.policy import hosts
from houseroom.policy.hosts import Address
from houseroom.session import extra
from houseroom.session.proxy import outside


def change(world: dict[str, Any]) -> None:
    """Put the world in the place of the real one."""
    judge, answers = hosts.judge, world["names"]
    with open(world["asked"], "r+b") as file:
        asked = mmap.mmap(file.fileno(), 0)  # a proxy can open nothing for writing, and keeps no descriptor of ours

    async def addresses(name: str) -> tuple[Address, ...]:
        end = asked.find(b"\0")
        asked[end : end + len(name) + 1] = f"{name}\n".encode()
        if name not in answers:
            raise outside.NoSuchName(-2, "no such name")
        found = answers[name].pop(0) if len(answers[name]) > 1 else answers[name][0]
        return tuple(map(hosts.address, found))

    def judged(found: Address, own: frozenset[Address] = frozenset()) -> str:
        return "" if str(found) in world["public"] else judge(found, own)

    outside.addresses, hosts.judge = addresses, judged
    if world["site"]:
        extra._directories = lambda: iter((world["site"],))


if __name__ == "__main__":
    change(json.loads(sys.argv.pop(1)))
    from houseroom.__main__ import main

    sys.exit(main(sys.argv[1:]))
