"""How much a command may still print: pure, for whoever passes its output on or keeps it."""

from __future__ import annotations


class Budget:
    """Bytes over all streams of one command. ``dropped`` counts those that came after the last."""

    def __init__(self, most: int):
        self.left = most
        self.dropped = 0

    def take(self, data: bytes) -> bytes:
        """As much of it from its beginning as there is still room for."""
        kept = data[: self.left]
        self.left -= len(kept)
        self.dropped += len(data) - len(kept)
        return kept

    @property
    def over(self) -> bool:
        """Whether there was more than the limit. A command that prints exactly so much has kept to it."""
        return self.dropped > 0
