"""Which host name an address inside stands for.

A name that may be reached is answered with an address of a block that is routed nowhere. A connection to that address is a connection
to the name, whatever the program does with it meanwhile.
"""

from __future__ import annotations

from houseroom.plan import egress

_FIRST = 2  # after the network's and the proxy's own
_MOST = 1 << (32 - egress.NAMES[1])


class Names:
    """One sandbox's names. An address keeps its name as long as the sandbox lives; of too many the oldest give theirs up."""

    def __init__(self) -> None:
        self.by_name: dict[str, int] = {}
        self.by_number: dict[int, str] = {}
        self.next = _FIRST

    def address(self, name: str) -> bytes:
        """The IPv4 address that stands for a name."""
        number = self.by_name.get(name)
        if number is None:
            number = self.next
            self.next = self.next + 1 if self.next + 1 < _MOST - 1 else _FIRST
            former = self.by_number.pop(number, None)
            if former is not None:
                del self.by_name[former]
            self.by_name[name], self.by_number[number] = number, name
        return (int.from_bytes(egress.NAMES[0] + bytes(2), "big") + number).to_bytes(4, "big")

    def name(self, address: bytes) -> str:
        """The name that an IPv4 address stands for; "" for one that stands for none. Raises ValueError for one outside the block."""
        number = int.from_bytes(address, "big") - int.from_bytes(egress.NAMES[0] + bytes(2), "big")
        if not 0 <= number < _MOST:
            raise ValueError("an address of the world")
        return self.by_number.get(number, "")
