"""Waiting for a condition that no signal announces, up to a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

DEADLINE = 60.0


async def until(condition: Callable[[], object], deadline: float = DEADLINE) -> None:
    """Return when the condition holds; fail when time is up first."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"not within {deadline:g} s"
        await asyncio.sleep(0.005)
