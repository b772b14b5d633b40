"""What was reached of what a policy lists, as it is told afterwards."""

from __future__ import annotations

from houseroom.policy.record import Record


class Traffic(Record):
    """A destination that was reached, as host and port: how many connections, and bytes from the sandbox to it and back.

    Of what was encrypted the bytes are the encrypted ones; what a program says to the proxy itself does not count.
    """

    where: str
    connections: int = 0
    sent: int = 0
    received: int = 0

    def as_document(self) -> dict[str, object]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__match_args__}
