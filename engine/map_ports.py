"""What the layers above the machine ask of each other about Map Runs: the records and protocols beside those of `ports`.

A Map Run is an aggregate of its own with an owner: the node that owns the shard its key names. Everything about it is written
by its owner, in one transaction a step, fenced like the steps of executions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol
from uuid import UUID

from stepwell.engine.ids import ExecutionId
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.map_events import MapRunEvent, Message
from stepwell.engine.machine.map_run import ItemStatus, Progress, SourceItem
from stepwell.engine.machine.map_spec import MapRunSpec, ReaderSpec

ITEMS_BYTES: Final = 8 * 1024 * 1024
"""Input and output of the children that are read at a time: the one that reaches it is the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMapRun:
    """A Map Run to write with the parent's step that begins it. `number` is its number in the parent."""

    id: ExecutionId
    number: int
    arn: str
    state: str
    spec: bytes
    max_concurrency: int
    tolerated_count: int | None
    tolerated_percentage: float | None
    express: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMapRun:
    """A Map Run as its owner finds it. `input` of the spec and the like stay as text until they are needed."""

    id: ExecutionId
    rev: int
    arn: str
    status: Status
    parent: ExecutionId
    number: int
    machine_key: int
    revision: int
    role_arn: str
    state: str
    started_at: int
    stopped_at: int | None
    max_concurrency: int
    tolerated_count: int | None
    tolerated_percentage: float | None
    spec: MapRunSpec
    progress: Progress
    redriven_at: int | None = None
    express: bool = False
    """Its children are Express executions: they have no rows of their own but that of their item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapItem:
    """A child execution as its Map Run keeps it. `input` and `output` are JSON text; `redrives` tells that the execution is there
    already and is to go on rather than to begin. `losses` is what `Progress.losses` was when it began."""

    number: int
    status: ItemStatus
    size: int
    input: bytes = b""
    output: bytes | None = None
    error: str | None = None
    cause: str | None = None
    started_at: int = 0
    stopped_at: int = 0
    redrives: int = 0
    losses: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewChild:
    """A child execution to begin: its row, and the event that starts it in its owner's inbox."""

    id: ExecutionId
    name: str
    arn: str
    number: int
    input: bytes


@dataclass(slots=True, kw_only=True)
class MapRunEntry:
    """All that one step of a Map Run writes. `rev` is the revision it was computed from; nothing is written if that has moved on
    or the shard has another owner.

    `items_new` hold PENDING children and RUNNING ones (begun by this very step), `items_started` numbers of PENDING ones that
    run now; both are marked with the losses of `progress`. `again`: all children that have not ended well become PENDING once more.
    """

    id: ExecutionId
    rev: int
    status: Status
    progress: Progress
    now: int
    stopped_at: int | None = None
    redriven_at: int | None = None
    items_new: list[MapItem] = field(default_factory=list)
    items_started: list[int] = field(default_factory=list)
    items_ended: list[MapItem] = field(default_factory=list)
    children: list[NewChild] = field(default_factory=list)
    again: bool = False
    posts: list[tuple[ExecutionId, Message]] = field(default_factory=list)
    inbox_gone: list[int] = field(default_factory=list)


class MapRunStore(Protocol):
    """The durable side of Map Runs, for their owner. All raise `StoreUnavailableError` when Postgres is away or nobody knows."""

    async def open_map_runs(self, shards: Sequence[int]) -> Sequence[ExecutionId]:
        """Map Runs of these shards that have not ended."""

    async def load_map_run(self, id: ExecutionId) -> StoredMapRun | None: ...

    async def map_items(
        self,
        id: ExecutionId,
        *,
        status: ItemStatus | None = None,
        after: int = -1,
        limit: int = 1000,
        data: bool = True,
        most_bytes: int = ITEMS_BYTES,
    ) -> Sequence[MapItem]:
        """Children by number, those of one status or all; without input and output unless `data`. With these fewer than `limit` are
        given when they are large, so that only an empty answer tells that there are no more.
        """

    async def unsuccessful(self, id: ExecutionId) -> dict[ItemStatus, tuple[int, int]]:
        """How many children, of how many items, ended otherwise than well, by status."""

    async def commit_map_run(self, node: UUID, entry: MapRunEntry) -> dict[ExecutionId, int] | None:
        """Write a step. The inbox rows that start the new children; None if a fence refused it."""

    async def post_map_run(self, id: ExecutionId, event: MapRunEvent) -> None:
        """Put a message into a Map Run's inbox, for its owner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapRunView:
    """A Map Run as callers see it. `machine_key` and `revision` name the definition its parent runs."""

    id: ExecutionId
    arn: str
    execution_arn: str
    machine_key: int
    revision: int
    status: Status
    started_at: int
    stopped_at: int | None
    max_concurrency: int
    tolerated_count: int
    tolerated_percentage: float
    progress: Progress
    redriven_at: int | None = None
    express: bool = False
    pending_redrive: int = 0
    """Of the children that are pending, those that have run before; and how many items they have been given."""
    pending_redrive_items: int = 0


class MapRunReader(Protocol):
    """Reading Map Runs from the store: what is committed, on any node."""

    async def describe(self, id: ExecutionId) -> MapRunView | None: ...

    async def list(
        self, execution: ExecutionId, limit: int, after: str | None
    ) -> tuple[Sequence[MapRunView], str | None]:
        """The Map Runs of an execution, newest first, and the position after them."""

    async def begun_items(
        self, id: ExecutionId, *, status: ItemStatus | None, limit: int, before: int | None
    ) -> Sequence[MapItem]:
        """Children that run or have ended, those of one status or all, with numbers below `before`: the last first, without input and
        output."""

    async def item(self, id: ExecutionId, number: int) -> MapItem | None:
        """A child, with its data."""

    async def update(
        self,
        id: ExecutionId,
        *,
        max_concurrency: int | None,
        tolerated_count: int | None,
        tolerated_percentage: float | None,
    ) -> bool:
        """Change a Map Run that has not ended, and tell its owner; what is None stays. False if it has ended."""


class ItemSource(Protocol):
    """Reads the items that an ItemReader names, and writes what a ResultWriter is given: object storage."""

    def read(self, reader: ReaderSpec, cursor: str | None) -> AsyncIterator[SourceItem]:
        """The items after a position (None: all), one by one, each with the position after it. Memory is bounded whatever the size of
        the source. Raises `StatesError` States.ItemReaderFailed.
        """

    async def write(self, bucket: str, key: str, data: bytes, owner: str | None = None) -> None:
        """Write an object, whole; `owner` is the account that the bucket must belong to. Raises `StatesError`
        States.ResultWriterFailed."""

    async def close(self) -> None:
        """Let go of connections."""
