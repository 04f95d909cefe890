"""The real clock and real chance. The only module of Stepwell that reads either; everything else is handed one of these."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator


class SystemClock:
    """`engine.clock.Clock` over the machine's own clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


class SystemSeeds:
    """`engine.clock.SeedSource`: 128 bits of the operating system's chance for each transition, asked for many at a time."""

    _AT_ONCE = 256

    def __init__(self) -> None:
        self._left: Iterator[int] = iter(())
        os.register_at_fork(after_in_child=self._forget)  # a child must not draw what its parent draws

    def seed(self) -> int:
        for seed in self._left:
            return seed
        raw = os.urandom(16 * self._AT_ONCE)
        self._left = iter([int.from_bytes(raw[at : at + 16], "big") for at in range(0, len(raw), 16)])
        return self.seed()

    def _forget(self) -> None:
        self._left = iter(())


def random_bytes(count: int) -> bytes:
    """True chance, for keys."""
    return os.urandom(count)
