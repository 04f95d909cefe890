"""The real clock and real chance. The only module of Stepwell that reads either; everything else is handed one of these."""

from __future__ import annotations

import os
import time


class SystemClock:
    """`engine.clock.Clock` over the machine's own clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


class SystemSeeds:
    """`engine.clock.SeedSource`: 128 bits of the operating system's chance for each transition."""

    def seed(self) -> int:
        return int.from_bytes(os.urandom(16), "big")


def random_bytes(count: int) -> bytes:
    """True chance, for keys."""
    return os.urandom(count)
