"""Who waits for room in the line of expressions: in the order they came, and with nothing of what they ask in hand.

It must not know expressions.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

PAUSE_SECONDS: Final = 1.0
"""After which the first one looks for itself: room may come without anybody's telling."""


class Room:
    """A line of waiters. Methods run on the event loop's thread."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self, still: Callable[[], bool]) -> None:
        """Until there may be room, or it is of no use to wait `still`."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            while still():
                await asyncio.wait([turn], timeout=PAUSE_SECONDS)
                if turn.done() or self._waiting[0] is turn:
                    return
        finally:
            if not turn.done():
                self._waiting.remove(turn)

    def freed(self) -> None:
        """There is room for one more."""
        if self._waiting:
            self._waiting.popleft().set_result(None)
