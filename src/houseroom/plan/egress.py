"""The way out of a sandbox whose network reaches listed hosts: where the egress proxy listens inside, and what init tells it.

Every program takes it, also one that knows nothing of proxies. A host name is answered with an address of ``NAMES``, a block that
is routed nowhere (RFC 2544), and a connection to any address but the loopback's is made by init to the proxy, which is told the
address in a preamble. The proxy alone knows which name an address stands for, and it judges whatever it is told, by whomever.
"""

from __future__ import annotations

from houseroom.plan.steps import Egress, Resolver, Trust

TYPE_CHECKING = False
if TYPE_CHECKING:
    from houseroom.plan.steps import Step

ADDRESS = "198.18.0.1"  # of the proxy itself; the names' addresses follow it
DNS, PORT = 53, 4128
NAMES = (bytes((198, 18)), 15)  # the block 198.18.0.0/15

# A connection that init makes for a program begins with this, whether an answer is wanted, the family (4 or 6), address and port.
# No protocol that the proxy speaks besides begins with the first byte.
PREAMBLE = b"\x00houseroom1"
SILENT, ANSWERED = 0, 1
LENGTHS = {4: 4, 6: 16}


def steps(authorities: tuple[str, ...] = ()) -> tuple[Step, ...]:
    """The steps of a way out, in the order of the plan: all but the first come after all mounts.

    ``authorities``: the host's files of certificate authorities, where the proxy looks into connections.
    """
    content = f"nameserver {ADDRESS}\noptions timeout:5 attempts:2\n"
    trust = Trust(authorities, "the egress proxy answers for hosts whose requests have rules, with an authority of this sandbox alone")
    return (
        Egress(ADDRESS, DNS, PORT, "listed hosts are reached through the egress proxy, which listens here and answers outside"),
        Resolver("/etc/resolv.conf", content, "host names are answered by the egress proxy alone"),
        *((trust,) if authorities else ()),
    )


def preamble(family: int, address: bytes, port: int, *, answered: bool) -> bytes:
    """What init says of a connection that it has handed over. ``answered``: with one byte, an errno, before anything else."""
    return PREAMBLE + bytes((ANSWERED if answered else SILENT, family)) + address + port.to_bytes(2, "big")


def read_preamble(data: bytes) -> tuple[int, bool, int, bytes, int] | None:
    """Its length, whether an answer is wanted, family, address and port; None where more is to come. Raises ValueError."""
    if not PREAMBLE.startswith(data[: len(PREAMBLE)]):
        raise ValueError("no preamble")
    at = len(PREAMBLE)
    if len(data) < at + 2:
        return None
    wanted, family = data[at], data[at + 1]
    if wanted not in (SILENT, ANSWERED) or family not in LENGTHS:
        raise ValueError("no such preamble")
    end = at + 2 + LENGTHS[family]
    if len(data) < end + 2:
        return None
    return end + 2, wanted == ANSWERED, family, data[at + 2 : end], int.from_bytes(data[end : end + 2], "big")
