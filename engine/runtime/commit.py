"""Group commit: the steps of many executions share one transaction.

Natural batching: commit at once when idle; while a commit is in flight, gather the next batch. A batch that the database
refuses is bisected until the culprit stands alone; a batch whose fate nobody knows is given back as such.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum

from stepwell.engine.clock import Clock
from stepwell.engine.errors import BadBatchError, StoreUnavailableError
from stepwell.engine.machine.map_events import ChildFinished
from stepwell.engine.ports import CommitEntry, RuntimeStore
from stepwell.engine.runtime.failpoints import reach
from stepwell.engine.runtime.identity import Identity
from stepwell.engine.telemetry import COMMIT_ENTRIES, COMMIT_SECONDS, COMMITS, Counts

log = logging.getLogger(__name__)

MAX_BATCH = 500
MAX_BATCH_BYTES = 16 * 1024 * 1024


class Fate(Enum):
    """What became of an entry."""

    COMMITTED = "committed"
    VOID = "void"
    """A fence refused it: another owner, another revision, or an outcome that came first. Nothing was written."""
    UNKNOWN = "unknown"
    """The connection was lost: written or not, only the store knows."""
    POISON = "poison"
    """The database refuses what it holds. Nothing was written."""


Told = Callable[[Fate, str], None]


def size_of(entry: CommitEntry) -> int:
    """The bytes of an entry that can be many."""
    size = len(entry.chunk)
    if entry.posts:
        size += sum(len(event.output) for _, event in entry.posts if isinstance(event, ChildFinished))
    if entry.map_runs_new:
        size += sum(len(run.spec) for run in entry.map_runs_new)
    return size


class Committer:
    """Takes entries, one in flight per execution, and tells of each what became of it."""

    def __init__(self, store: RuntimeStore, identity: Identity, clock: Clock, metrics: Counts) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._identity = identity
        self._queue: deque[tuple[CommitEntry, Told]] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def backlog_bytes(self) -> int:
        """Bytes waiting to be committed; callers hold back new work when it grows."""
        return self._bytes

    def start(self) -> None:
        """Begin committing."""
        self._task = asyncio.create_task(self._loop(), name="committer")

    async def close(self) -> None:
        """Commit what is queued, then stop."""
        await self._idle.wait()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def submit(self, entry: CommitEntry, told: Told) -> None:
        """Queue an entry; `told` is called on the event loop once its fate is known."""
        self._queue.append((entry, told))
        self._bytes += size_of(entry)
        self._idle.clear()
        self._wake.set()

    async def _loop(self) -> None:
        while True:
            if not self._queue:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
            batch: list[tuple[CommitEntry, Told]] = []
            size = 0
            while self._queue and len(batch) < MAX_BATCH and size < MAX_BATCH_BYTES:
                item = self._queue.popleft()
                size += size_of(item[0])
                batch.append(item)
            await self._commit(batch)
            self._bytes -= size

    async def _commit(self, batch: Sequence[tuple[CommitEntry, Told]]) -> None:
        reach("before_commit")
        began = self._clock.monotonic()
        try:
            await self._identity.settled()
            written = await self._store.commit(self._identity.node, [entry for entry, _ in batch])
        except BadBatchError as error:
            await self._refused(batch, str(error))
            return
        except StoreUnavailableError as error:
            self._identity.doubt()
            self._metrics.count(COMMITS, "unknown")
            log.warning("a commit's fate is unknown", extra={"entries": len(batch), "reason": str(error)})
            for _, told in batch:
                self._tell(told, Fate.UNKNOWN, str(error))
            return
        except Exception as error:  # a bug must not end the commits of all others
            log.error("a batch cannot be written", exc_info=error)
            await self._refused(batch, f"The step cannot be written: {type(error).__name__}.")
            return
        reach("after_commit")
        self._metrics.count(COMMITS, "committed")
        self._metrics.count(COMMIT_ENTRIES, by=len(written))
        self._metrics.observe(COMMIT_SECONDS, self._clock.monotonic() - began)
        for entry, told in batch:
            self._tell(told, Fate.COMMITTED if entry.id in written else Fate.VOID, "")

    async def _refused(self, batch: Sequence[tuple[CommitEntry, Told]], reason: str) -> None:
        """Find the culprit; the others are written."""
        self._metrics.count(COMMITS, "refused")
        if len(batch) == 1:
            log.error("a step cannot be written", extra={"execution": batch[0][0].id.hex(), "reason": reason})
            self._tell(batch[0][1], Fate.POISON, reason)
            return
        half = len(batch) // 2
        await self._commit(batch[:half])
        await self._commit(batch[half:])

    @staticmethod
    def _tell(told: Told, fate: Fate, reason: str) -> None:
        try:
            told(fate, reason)
        except Exception:  # one execution's trouble must not stop the commits of all others
            log.exception("after a commit")
