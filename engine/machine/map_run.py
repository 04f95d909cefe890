"""Map Runs, planned: what a Distributed Map state asks for, how far its run is, what to start next and when it has ended.

A Map Run is an aggregate of its own beside the execution that started it: whoever owns it reads items page by page, makes
child executions of them, folds their ends and tells the parent the result. This is the part of it that only computes; it
knows neither where the items come from nor how a child is run, and is the same in production, in memory and in tests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice
from typing import Final, cast
from uuid import UUID

import msgspec

from stepwell.engine import ids
from stepwell.engine.asl.states import JsonataFlow, MapState, ParallelState, StateContainer, StateMachine
from stepwell.engine.clock import Entropy
from stepwell.engine.jsontypes import Document, Json, write
from stepwell.engine.limits import MAX_JOINED_BYTES, MAX_MAP_RUN_CONCURRENCY, MAX_PAYLOAD_BYTES
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.map_spec import ABSENT, MapRunSpec
from stepwell.engine.query import effort
from stepwell.engine.query.scope import Heavy, Scope, StatesScope
from stepwell.engine.query.timestamps import format_timestamp
from stepwell.engine.states_errors import ErrorName, StatesError

THRESHOLD_CAUSE: Final = "The specified tolerated failure threshold was exceeded"


class ItemStatus(IntEnum):
    """Where a child execution of a Map Run stands."""

    PENDING = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    TIMED_OUT = 5
    ABORTED = 6


ENDS: Final[dict[Status, ItemStatus]] = {
    Status.SUCCEEDED: ItemStatus.SUCCEEDED,
    Status.FAILED: ItemStatus.FAILED,
    Status.TIMED_OUT: ItemStatus.TIMED_OUT,
    Status.ABORTED: ItemStatus.ABORTED,
}
"""How a child execution's end shows in its Map Run."""


class Tally(msgspec.Struct, omit_defaults=True):
    """How many stand where: of child executions, or of items."""

    pending: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    timed_out: int = 0
    aborted: int = 0

    @property
    def total(self) -> int:
        return self.pending + self.running + self.ended

    @property
    def ended(self) -> int:
        return self.succeeded + self.failed + self.timed_out + self.aborted

    def move(self, before: ItemStatus | None, after: ItemStatus, by: int) -> None:
        """`by` of them go from one status to another (None: they are new)."""
        if before is not None:
            name = before.name.lower()
            setattr(self, name, getattr(self, name) - by)
        name = after.name.lower()
        setattr(self, name, getattr(self, name) + by)


class Part(msgspec.Struct, array_like=True):
    """A result file that has been written: of which kind (SUCCEEDED, FAILED, PENDING), under which key, how large."""

    kind: str
    key: str
    size: int


class Progress(msgspec.Struct, omit_defaults=True):
    """How far a Map Run is: small, whatever the number of items, and written with each of its steps.

    `cursor` is the reader's position after the last item that was made a child, `source` how many items that were, `made` how
    many children. `written` and `scanned` tell how far the results have been written out.
    """

    cursor: str | None = None
    source: int = 0
    made: int = 0
    exhausted: bool = False
    stopping: bool = False
    stopped: bool = False
    """Somebody else stops it: its parent was stopped, or no longer waits for it."""
    redrives: int = 0
    losses: int = 0
    """How often Express children that ran were lost with the node that ran them."""
    executions: Tally = msgspec.field(default_factory=Tally)
    items: Tally = msgspec.field(default_factory=Tally)
    joined_bytes: int = 0
    error: str | None = None
    cause: str | None = None
    parts: list[Part] = []
    scanned: int = 0
    results_written: int = 0
    items_written: int = 0


class Child(msgspec.Struct, frozen=True):
    """A child execution about to be: its number in the Map Run, how many items it gets, its input, and where the reader stands
    after it."""

    number: int
    size: int
    input: bytes
    cursor: str | None
    source: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A child execution that has come to its end. `bytes` is the length of its output."""

    number: int
    size: int
    status: ItemStatus
    bytes: int = 0


class Plan:
    """The decisions of a Map Run. `progress` is changed by its methods; whoever cannot make a change durable drops the plan."""

    def __init__(self, spec: MapRunSpec, progress: Progress | None = None) -> None:
        self.spec = spec
        self.progress = progress or Progress()
        self.max_concurrency = spec.max_concurrency
        self.tolerated_count = spec.tolerated_count
        self.tolerated_percentage = spec.tolerated_percentage

    @property
    def limit(self) -> int:
        """How many children may run at once."""
        return min(self.max_concurrency or MAX_MAP_RUN_CONCURRENCY, MAX_MAP_RUN_CONCURRENCY)

    @property
    def room(self) -> int:
        """How many children may be started now."""
        return 0 if self.progress.stopping else max(self.limit - self.progress.executions.running, 0)

    @property
    def wants_items(self) -> bool:
        """Whether more items are to be read: there are some, and nothing waits to be started."""
        progress = self.progress
        return not progress.exhausted and not progress.stopping and progress.executions.pending == 0

    @property
    def quiet(self) -> bool:
        """Whether nothing runs any more and nothing is left to start: its results can be put together."""
        executions = self.progress.executions
        if executions.running:
            return False
        return self.progress.stopping or (self.progress.exhausted and not executions.pending)

    def made(self, children: Sequence[Child], *, exhausted: bool) -> None:
        """Items have become children, which wait to be started."""
        progress = self.progress
        for child in children:
            progress.executions.move(None, ItemStatus.PENDING, 1)
            progress.items.move(None, ItemStatus.PENDING, child.size)
        if children:
            last = children[-1]
            progress.made, progress.cursor, progress.source = last.number + 1, last.cursor, last.source
        progress.exhausted = progress.exhausted or exhausted

    def started(self, sizes: Sequence[int]) -> None:
        """Children have been started; `sizes` are their numbers of items."""
        progress = self.progress
        for size in sizes:
            progress.executions.move(ItemStatus.PENDING, ItemStatus.RUNNING, 1)
            progress.items.move(ItemStatus.PENDING, ItemStatus.RUNNING, size)

    def ended(self, children: Sequence[Ended]) -> None:
        """Children have come to their end; decides whether the run fails by it."""
        progress = self.progress
        for child in children:
            progress.executions.move(ItemStatus.RUNNING, child.status, 1)
            progress.items.move(ItemStatus.RUNNING, child.status, child.size)
            if child.status is ItemStatus.SUCCEEDED:
                progress.joined_bytes += child.bytes
        self.judge()

    def judge(self) -> None:
        """Fail the run if more has failed than is tolerated, or if the results have become too much to be joined."""
        progress = self.progress
        if progress.stopping:
            return
        if self.exceeded:
            self.fail(ErrorName.EXCEED_TOLERATED_FAILURE_THRESHOLD, THRESHOLD_CAUSE)
        elif self.joins and progress.joined_bytes > MAX_JOINED_BYTES:
            self.fail(ErrorName.DATA_LIMIT_EXCEEDED, too_large(self.spec.state))

    @property
    def joins(self) -> bool:
        """Whether the results become the state's result, rather than being written out."""
        return self.spec.writer is None or self.spec.writer.action is None

    @property
    def exceeded(self) -> bool:
        """Whether more items have failed than is tolerated. A share of the items is known only once all have been read, except that
        none at all may fail."""
        items = self.progress.items
        failed = items.failed + items.timed_out
        count, percentage = self.tolerated_count, self.tolerated_percentage
        if failed == 0:
            return False
        if count is None and percentage is None:
            return True
        if count is not None and failed > count:
            return True
        if percentage is None:
            return False
        if percentage == 0:
            return count is None
        return self.progress.exhausted and 100 * failed > percentage * items.total

    def fail(self, error: str, cause: str | None) -> None:
        """The run has failed; what runs is to be stopped."""
        progress = self.progress
        progress.stopping = True
        progress.error, progress.cause = str(error), cause

    def stop(self) -> None:
        """Its parent no longer waits for it."""
        self.progress.stopping = self.progress.stopped = True

    @property
    def failed(self) -> bool:
        """Whether it has failed, as far as is known."""
        return self.progress.error is not None

    def redrive(self, again: Mapping[ItemStatus, tuple[int, int]]) -> None:
        """Go on where it failed: `again` are the children and items to run again, by the status they have had."""
        progress = self.progress
        progress.redrives += 1
        progress.stopping = progress.stopped = False
        progress.error = progress.cause = None
        progress.parts, progress.scanned = [], 0
        progress.results_written = progress.items_written = 0
        for status, (executions, items) in again.items():
            progress.executions.move(status, ItemStatus.PENDING, executions)
            progress.items.move(status, ItemStatus.PENDING, items)


def too_large(state: str) -> str:
    """Why results cannot be joined, in AWS's words."""
    return (
        f"The state/task '{state}' returned a result with a size exceeding the maximum number of bytes service limit."
    )


class SourceItem(msgspec.Struct, frozen=True):
    """An item as it was read: its JSON text, the reader's position after it, and what the context object tells of it."""

    text: bytes
    cursor: str | None = None
    key: str | None = None
    source: str | None = None


class Maker:
    """Makes children of items: ItemSelector, then ItemBatcher. What does not fill a batch yet is kept back; the position of a
    child is that after its last item, so that nothing is lost or taken twice when it is read again from there."""

    def __init__(
        self,
        spec: MapRunSpec,
        state: MapState,
        progress: Progress,
        entropy: Entropy,
        now: int = 0,
        heavy: Heavy | None = None,
    ) -> None:
        self._spec = spec
        self._selector = state.item_selector
        self._jsonata = isinstance(state.flow, JsonataFlow)
        self._now = now
        self.heavy = heavy
        self._seed = int.from_bytes(entropy.bytes16(), "big")
        self._number = progress.made
        self._index = progress.source
        self._batch: list[bytes] = []
        self._size = 0
        self._cursor = progress.cursor
        base = spec.batch
        self._frame = b"" if base is None or base.input == ABSENT else b'"BatchInput":' + bytes(base.input) + b","
        self._fixed = len(self._frame) + len(b'{"Items":[]}')
        self._state_input = Document.trusted(bytes(spec.input))
        self._context = _value(spec.context)
        self._variables = _value(spec.variables)

    def take(self, item: SourceItem) -> list[Child]:
        """The children that are complete with this item. Raises `StatesError`; and what `heavy` raises, before anything has changed:
        the same item may then be taken again, and draws the same chance."""
        effort.begin_states()
        text = self._selected(item)
        self._index += 1
        batch = self._spec.batch
        if batch is None:
            if len(text) > MAX_PAYLOAD_BYTES:
                raise StatesError(ErrorName.DATA_LIMIT_EXCEEDED, too_large(self._spec.state))
            self._cursor = item.cursor
            return [self._child(text, 1, self._index)]
        done: list[Child] = []
        if self._batch and self._fixed + self._size + len(text) + 1 > batch.max_bytes:
            done += self._close(self._index - 1)
        self._batch.append(text)
        self._size += len(text) + 1
        self._cursor = item.cursor
        if self._fixed + self._size - 1 > batch.max_bytes:
            raise StatesError(
                ErrorName.ITEM_READER_FAILED,
                f"The item at index {self._index - 1} is larger than MaxInputBytesPerBatch allows ({batch.max_bytes} bytes).",
            )
        if batch.max_items and len(self._batch) >= batch.max_items:
            done += self._close(self._index)
        return done

    def rest(self) -> list[Child]:
        """The last batch, which need not be full."""
        return self._close(self._index)

    def _close(self, source: int) -> list[Child]:
        if not self._batch:
            return []
        text = b"{" + self._frame + b'"Items":[' + b",".join(self._batch) + b"]}"
        child = self._child(text, len(self._batch), source)
        self._batch, self._size = [], 0
        return [child]

    def _child(self, text: bytes, size: int, source: int) -> Child:
        child = Child(self._number, size, text, self._cursor, source)
        self._number += 1
        return child

    def _selected(self, item: SourceItem) -> bytes:
        if self._selector is None:
            return item.text
        about: dict[str, Json] = {"Index": self._index, "Value": Document.trusted(item.text).value}
        if item.key is not None:
            about["Key"] = item.key
        if item.source is not None:
            about["Source"] = item.source
        context: Json = {**cast(dict[str, Json], self._context or {}), "Map": {"Item": about}}
        variables = cast(dict[str, Json], self._variables or {})
        entropy = Entropy(_drawn(self._seed, self._index))
        if self._jsonata:
            scope: Scope = StatesScope(
                self._state_input,
                variables=variables,
                context=lambda: context,
                entropy=entropy,
                now=self._now,
                heavy=self.heavy,
            )
        else:
            value = self._state_input.value
            scope = Scope(value, variables=variables, context=lambda: context, entropy=entropy, heavy=self.heavy)
        return self._selector.document(scope).text


def _drawn(seed: int, index: int) -> int:
    """The seed of one item: the next item's must not be found from it, nor be another Map Run's."""
    digest = hashlib.blake2b(b"item %d" % index, digest_size=16, key=seed.to_bytes(16, "big")).digest()
    return int.from_bytes(digest, "big")


def _value(raw: msgspec.Raw) -> Json:
    return None if raw == ABSENT else Document.trusted(bytes(raw)).value


def child_name(map_run: bytes, number: int) -> str:
    """The name of a child execution: the same each time, so that one that was started is never started again."""
    digest = hashlib.blake2b(b"child %d" % number, digest_size=16, key=map_run).digest()
    return str(UUID(bytes=digest, version=4))


def express_child_name(map_run: bytes, number: int) -> str:
    """The name of a child execution of ExecutionType EXPRESS, from which its number can be told (`express_child_number`): nothing else
    is kept under its name."""
    head = bytearray(hashlib.blake2b(b"express child %d" % number, digest_size=12, key=map_run).digest())
    head[6] = head[6] & 0x0F | 0x40  # as in a UUID of version 4
    head[8] = head[8] & 0x3F | 0x80
    return str(UUID(bytes=bytes(head) + _masked(map_run, bytes(head), number).to_bytes(4, "big")))


def express_child_number(map_run: bytes, name: str) -> int | None:
    """The number of the child execution with this name; None if the Map Run can have none of that name."""
    try:
        raw = UUID(name).bytes
    except ValueError:
        return None
    number = _masked(map_run, raw[:12], int.from_bytes(raw[12:], "big"))
    return number if express_child_name(map_run, number) == name else None


def _masked(map_run: bytes, head: bytes, number: int) -> int:
    return number ^ int.from_bytes(hashlib.blake2b(head, digest_size=4, key=map_run).digest(), "big")


def child_of(arn: str, map_run: bytes, number: int, *, express: bool) -> tuple[str, str]:
    """Name and ARN of a child execution of the Map Run with this ARN and key."""
    name = express_child_name(map_run, number) if express else child_name(map_run, number)
    return name, ids.child_arn(arn, name, express=express)


def default_label(machine_arn: str, state: str) -> str:
    """The label of a Map state that has none: made from its name, the same for all its Map Runs."""
    digest = hashlib.blake2b(f"{machine_arn}/{state}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return str(UUID(bytes=digest, version=4))


def map_state(machine: StateContainer, name: str) -> MapState:
    """The Map state of that name, wherever in the definition it stands: names are unique within a definition."""
    found = _find(machine, name)
    if found is None:
        raise ValueError(f"the definition has no Map state {name!r}")
    return found


def _find(container: StateContainer, name: str) -> MapState | None:
    for state in container.states.values():
        if isinstance(state, MapState):
            if state.name == name:
                return state
            inner: tuple[StateContainer, ...] = (state.item_processor,)
        else:
            inner = state.branches if isinstance(state, ParallelState) else ()
        for each in inner:
            found = _find(each, name)
            if found is not None:
                return found
    return None


def child_machine(machine: StateMachine, state: str) -> StateMachine:
    """The machine that a child execution runs: the processor of a Map state, by itself."""
    processor = map_state(machine, state).item_processor
    return StateMachine(
        start_at=processor.start_at,
        states=processor.states,
        comment=processor.comment,
        query_language=machine.query_language,
        version=machine.version,
    )


STATE_DATA: Final = "STATE_DATA"
"""`$$.Map.Item.Source` of items that come from the state's input."""


def inline_items(spec: MapRunSpec, start: int = 0) -> Iterator[SourceItem]:
    """The items of a Map Run whose state brings them itself, from the `start`th on; the position is the index of the next one."""
    value = Document.trusted(bytes(spec.items)).value
    pairs: Iterator[tuple[str | None, Json]]
    if isinstance(value, dict):
        pairs = islice(value.items(), start, None)
    else:
        pairs = ((None, item) for item in islice(cast(Sequence[Json], value), start, None))
    for index, (key, item) in enumerate(pairs, start + 1):
        yield SourceItem(write(item), str(index), key, STATE_DATA)


class ChildResult(msgspec.Struct, frozen=True):
    """What is known of a child execution when results are put together. Times are milliseconds since the epoch; `output` is JSON
    text, absent where it did not succeed."""

    number: int
    size: int
    status: ItemStatus
    arn: str
    name: str
    machine_arn: str
    input: bytes
    started_at: int = 0
    stopped_at: int = 0
    output: bytes | None = None
    error: str | None = None
    cause: str | None = None
    redrives: int = 0


def result_texts(spec: MapRunSpec, child: ChildResult) -> list[bytes]:
    """The JSON texts that stand for a child execution in the results: what succeeded as the Transformation says, the rest always
    whole, with what is known of it."""
    transformation = spec.writer.transformation if spec.writer is not None else "COMPACT"
    if child.status is ItemStatus.SUCCEEDED and transformation != "NONE":
        output = child.output or b"null"
        if transformation == "FLATTEN":
            value = Document.trusted(output).value
            if isinstance(value, list):
                return [write(each) for each in value]
        return [output]
    return [write(_described(child))]


def _described(child: ChildResult) -> dict[str, Json]:
    entry: dict[str, Json] = {
        "ExecutionArn": child.arn,
        "Input": child.input.decode(),
        "InputDetails": {"Included": True},
        "Name": child.name,
    }
    if child.output is not None:
        entry |= {"Output": child.output.decode(), "OutputDetails": {"Included": True}}
    if child.error is not None:
        entry["Error"] = child.error
    if child.cause is not None:
        entry["Cause"] = child.cause
    entry["RedriveCount"] = child.redrives
    if child.status is ItemStatus.SUCCEEDED:
        reason = "Execution is SUCCEEDED and cannot be redriven"
        entry |= {"RedriveStatus": "NOT_REDRIVABLE", "RedriveStatusReason": reason}
    elif child.status is not ItemStatus.PENDING:
        entry["RedriveStatus"] = "REDRIVABLE"
    if child.started_at:
        entry["StartDate"] = format_timestamp(child.started_at)
    entry |= {"StateMachineArn": child.machine_arn, "Status": child.status.name}
    if child.stopped_at:
        entry["StopDate"] = format_timestamp(child.stopped_at)
    return entry


def joined(texts: Iterable[bytes]) -> bytes:
    """The array of these JSON texts."""
    return b"[" + b",".join(texts) + b"]"


MANIFEST: Final = "manifest.json"


def result_place(spec: MapRunSpec) -> tuple[str, str]:
    """The bucket and the folder that a ResultWriter writes to. Raises `StatesError` States.ResultWriterFailed."""
    writer = spec.writer
    assert writer is not None
    bucket, prefix = writer.arguments.get("Bucket"), writer.arguments.get("Prefix", "")
    if not isinstance(bucket, str) or not isinstance(prefix, str):
        raise StatesError(ErrorName.RESULT_WRITER_FAILED, "The ResultWriter's Bucket and Prefix must be strings.")
    if not isinstance(writer.owner, str | None):
        raise StatesError(ErrorName.RESULT_WRITER_FAILED, "The ResultWriter's ExpectedBucketOwner must be a string.")
    run = spec.arn.rpartition(":")[2]
    prefix = prefix.strip("/")
    return bucket, f"{prefix}/{run}" if prefix else run


def written_result(spec: MapRunSpec) -> bytes:
    """What a state whose results are written out hands on: where the manifest is."""
    bucket, folder = result_place(spec)
    return write({"MapRunArn": spec.arn, "ResultWriterDetails": {"Bucket": bucket, "Key": f"{folder}/{MANIFEST}"}})
