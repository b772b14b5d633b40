"""The host's own addresses: no name leads to what listens on them."""

from __future__ import annotations

from houseroom.policy import hosts
from houseroom.policy.hosts import Address


def own_addresses() -> frozenset[Address]:
    """The host's own addresses (proc_net(5): fib_trie, if_inet6)."""
    found = set()
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as lines:
            found |= {Address(bytes.fromhex(line.split()[0])) for line in lines}
    except (OSError, ValueError, IndexError):
        pass
    try:
        with open("/proc/net/fib_trie", encoding="ascii") as lines:
            before = ""
            for line in lines:
                if line.strip() == "/32 host LOCAL":
                    found.add(hosts.address(before))
                before = line.strip().removeprefix("|-- ")
    except (OSError, ValueError):
        pass
    return frozenset(found)
