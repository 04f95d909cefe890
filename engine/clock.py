"""Time and chance as protocols, so that nothing below the composition root reads a clock or draws a random number.

`Entropy` is a small deterministic generator made from a seed: what a transition draws can be drawn again from the stored
seed, which is what makes replay exact.
"""

from __future__ import annotations

import hashlib
from typing import Protocol
from uuid import UUID


class Clock(Protocol):
    """Where the runtime reads time. Milliseconds since the Unix epoch, UTC; and a monotonic clock in seconds."""

    def now_ms(self) -> int: ...

    def monotonic(self) -> float: ...


class SeedSource(Protocol):
    """Where the runtime draws the 128-bit seed it gives to each transition."""

    def seed(self) -> int: ...


class Entropy:
    """Deterministic draws from a 128-bit seed (BLAKE2b in counter mode). Same seed, same draws, on every platform.

    `drawn` counts the draws; who sets it back draws the same again.
    """

    __slots__ = ("_seed", "drawn")

    def __init__(self, seed: int) -> None:
        self._seed = seed.to_bytes(16, "big")
        self.drawn = 0

    def bytes16(self) -> bytes:
        """Sixteen pseudo-random bytes."""
        self.drawn += 1
        return hashlib.blake2b(self.drawn.to_bytes(8, "big"), digest_size=16, key=self._seed).digest()

    def uuid4(self) -> UUID:
        """A version 4 UUID."""
        return UUID(bytes=self.bytes16(), version=4)

    def fraction(self) -> float:
        """A float in [0, 1)."""
        return (int.from_bytes(self.bytes16()[:8], "big") >> 11) / (1 << 53)
