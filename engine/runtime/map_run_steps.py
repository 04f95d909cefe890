"""The steps of one Map Run, as its owner takes them: fold what has come, make children of items, start, stop, finish.

A step is decided in memory by the planner (`machine.map_run`), and is one transaction: the Map Run's row by compare-and-set,
its children's rows, the child executions with the events that start them, and the messages it consumes. So whoever goes on
with it next does so from exactly there, and nothing is started or counted twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol

import msgspec

from stepwell.engine import ids
from stepwell.engine.asl.states import MapState, StateMachine
from stepwell.engine.clock import Clock, Entropy, SeedSource
from stepwell.engine.errors import (
    BadBatchError,
    ExpressionsUnavailableError,
    JsonTextError,
    NotOwnerError,
    StepwellError,
    StoreUnavailableError,
)
from stepwell.engine.ids import ExecutionId
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.map_events import ChildFinished, MapRunEvent, MapRunRedriven, MapRunStopped, MapRunUpdated
from stepwell.engine.machine.map_run import (
    ENDS,
    Child,
    Ended,
    ItemStatus,
    Maker,
    Plan,
    SourceItem,
    child_name,
    inline_items,
)
from stepwell.engine.machine.map_spec import MapRunSpec
from stepwell.engine.machine.snapshot import ExecutionInfo
from stepwell.engine.map_ports import ItemSource, MapItem, MapRunEntry, MapRunStore, NewChild, StoredMapRun
from stepwell.engine.ports import Evaluate
from stepwell.engine.query.jsonata import Outcomes, OverBudgetError
from stepwell.engine.query.jsonpath import effort
from stepwell.engine.runtime.failpoints import reach
from stepwell.engine.runtime.identity import Identity
from stepwell.engine.runtime.map_results import Results
from stepwell.engine.states_errors import ErrorName, StatesError

log = logging.getLogger(__name__)

PAGE_ITEMS: Final = 500
"""Items read, and children started or stopped, in one step, at most."""
LEAST_PAGE_ITEMS: Final = 20
UNAVAILABLE_SECONDS: Final = 1.0
PAGE_BYTES: Final = 4 * 1024 * 1024
"""Data of a step, of one kind, after which it is ended rather than made larger."""
TURN_SECONDS: Final = 0.005
"""How long items are made children of before others have their turn."""
STOPPED_WRITE_SECONDS: Final = 60.0
"""How long the results of a run that has been stopped, for which nobody waits, may take to be written."""
_RUNNING_PAGE: Final = 10_000


class Node(Protocol):
    """What a Map Run needs of the node it is driven on."""

    def may_act(self) -> bool: ...

    async def machine(self, key: int, revision: int, processor: str | None = None) -> StateMachine: ...

    def adopt(self, info: ExecutionInfo, machine: StateMachine, child: NewChild, run: StoredMapRun, row: int) -> None:
        """A child execution of a shard that is ours has been written: take its first step."""

    def consumed(self, row: int) -> None:
        """An inbox row is done with."""

    def posted(self, receivers: Sequence[ExecutionId]) -> None:
        """There are messages for these, executions or Map Runs."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the steps of all Map Runs of a node work with."""

    store: MapRunStore
    node: Node
    identity: Identity
    clock: Clock
    seeds: SeedSource
    source: ItemSource
    evaluate: Evaluate


@dataclass(frozen=True, slots=True)
class Mail:
    """A message and the inbox row it is in."""

    event: MapRunEvent
    row: int


@dataclass(frozen=True, slots=True)
class Definition:
    """The Map state of a Map Run, and the machine its children run."""

    state: MapState
    processor: StateMachine


@dataclass(slots=True)
class Mailbox:
    """What has come for a Map Run and is not consumed yet; `wake` is set when there is something to do."""

    id: ExecutionId
    mail: deque[Mail]
    wake: asyncio.Event

    @property
    def crowded(self) -> bool:
        """Whether more has come than the next steps consume."""
        return len(self.mail) >= 2 * PAGE_ITEMS or sum(map(_weight, self.mail)) >= 4 * PAGE_BYTES


def _weight(mail: Mail) -> int:
    return len(mail.event.output) if isinstance(mail.event, ChildFinished) else 0


class FencedError(StepwellError):
    """A step of a Map Run was refused: another node owns it, or has."""


class Steps:
    """The steps of a Map Run from one reading of the store on."""

    def __init__(self, tools: Tools, box: Mailbox, stored: StoredMapRun, definition: Definition | str) -> None:
        """`definition`: that of the Map state, or why there is none."""
        self._tools = tools
        self._box = box
        self._stored = stored
        self._definition = definition
        self._taken: list[Mail] = []
        self._trouble: str | None = None
        self._saving = asyncio.Lock()
        self._rev = stored.rev
        self._status = stored.status
        self._spec = stored.spec
        self._plan = Plan(stored.spec, stored.progress)
        self._set_bounds(stored)
        self._running: dict[int, int] = {}
        self._stop_sent: set[int] = set()
        self._pending: deque[MapItem] = deque()
        self._pending_after = -1
        self._all_read = False
        self._page: asyncio.Task[tuple[list[Child], bool]] | None = None
        self._items: AsyncIterator[SourceItem] | None = None
        self._maker: Maker | None = None
        self._read = stored.progress.source

    def _new_maker(self, state: MapState) -> Maker:
        """What an item draws is made from the Map Run's key and the item's index: the same whenever the item is taken."""
        entropy = Entropy(int.from_bytes(self._box.id, "big"))
        return Maker(self._spec, state, self._plan.progress, entropy, self._tools.clock.now_ms())

    def _set_bounds(self, stored: StoredMapRun) -> None:
        self._plan.max_concurrency = stored.max_concurrency
        self._plan.tolerated_count = stored.tolerated_count
        self._plan.tolerated_percentage = stored.tolerated_percentage

    async def prepare(self, trouble: str | None = None) -> None:
        """Find out which children run. `trouble`: why its last step could not be taken, which fails the run."""
        self._trouble = trouble
        after = -1
        while True:
            page = await self._tools.store.map_items(
                self._box.id, status=ItemStatus.RUNNING, after=after, limit=_RUNNING_PAGE, data=False
            )
            self._running |= {item.number: item.size for item in page}
            if len(page) < _RUNNING_PAGE:
                return
            after = page[-1].number

    async def close(self) -> None:
        """Stop reading items."""
        if self._page is not None:
            self._page.cancel()
            await asyncio.gather(self._page, return_exceptions=True)
        if self._items is not None:
            with suppress(Exception):
                await self._items.aclose()  # type: ignore[attr-defined]

    @property
    def _ended(self) -> bool:
        return self._status is not Status.RUNNING

    # -- one step --------------------------------------------------------------------------------------------------

    async def take(self) -> bool:
        """Do what there is to do, or wait for it; False when the run has ended and all mail is consumed."""
        try:
            return await self._step()
        finally:
            for mail in self._taken:  # consumed by the step, or to be read again
                self._tools.node.consumed(mail.row)
            self._taken = []

    async def _step(self) -> bool:
        self._box.wake.clear()
        entry = self._entry()
        await self._fold(entry)
        rows = list(self._taken)
        self._fail_in_trouble()
        if not self._ended:
            self._take_page(entry)
            if self._plan.progress.stopping:
                self._stop_reading()
                self._stop_children(entry)
            else:
                await self._start_children(entry)
                self._read_on()
            if self._plan.quiet and self._page is None and not rows:  # what is put together is read from the store
                await self._finish(entry)
        if (
            rows
            or entry.items_new
            or entry.items_started
            or entry.posts
            or entry.again
            or entry.status is not self._status
        ):
            await self._commit(entry, rows)
            return True
        if self._ended:
            return False
        if self._page is not None and self._page.done():
            return True
        await self._box.wake.wait()
        return True

    def _fail_in_trouble(self) -> None:
        """Whatever keeps the run from going on, it ends and says so, rather than be tried for ever."""
        trouble, self._trouble = self._trouble, None
        if isinstance(self._definition, str):
            trouble = self._definition
        if trouble is not None and not self._ended and not self._plan.progress.stopping:
            self._plan.fail(ErrorName.RUNTIME, trouble)

    def _entry(self) -> MapRunEntry:
        return MapRunEntry(
            id=self._box.id,
            rev=self._rev,
            status=self._status,
            progress=self._plan.progress,
            now=self._tools.clock.now_ms(),
            stopped_at=self._stored.stopped_at if self._ended else None,
        )

    async def _commit(self, entry: MapRunEntry, rows: list[Mail]) -> None:
        reach("before_map_run_commit")
        entry.inbox_gone = [mail.row for mail in rows]
        await self._tools.identity.settled()
        if not self._tools.node.may_act():
            raise FencedError("This node's lease has run out.")
        try:
            starts = await self._tools.store.commit_map_run(self._tools.identity.node, entry)
        except StoreUnavailableError:
            self._tools.identity.doubt()
            raise
        if starts is None:
            raise FencedError("Another node has advanced this Map Run.")
        reach("after_map_run_commit")
        self._rev += 1
        if entry.status is not self._status:
            self._status = entry.status
            self._stored = replace(self._stored, status=entry.status, stopped_at=entry.stopped_at)
        for child in entry.children:
            row = starts.get(child.id)
            if row is not None and not isinstance(self._definition, str):
                machine = self._definition.processor
                self._tools.node.adopt(self._info(child, entry.now), machine, child, self._stored, row)
        self._tools.node.posted([*(id for id, _ in entry.posts), *(child.id for child in entry.children)])

    def _info(self, child: NewChild, now: int) -> ExecutionInfo:
        machine_arn, machine_name = ids.labelled_machine(child.arn)
        region = child.arn.split(":", 4)[3]
        return ExecutionInfo(
            child.id, child.arn, child.name, machine_arn, machine_name, self._stored.role_arn, now, region
        )

    # -- mail ------------------------------------------------------------------------------------------------------

    async def _fold(self, entry: MapRunEntry) -> None:
        """Apply what has come. A redrive that comes before the run has ended waits until it has."""
        deferred: list[Mail] = []
        ended: list[Ended] = []
        size = 0
        try:
            while self._box.mail and len(self._taken) < PAGE_ITEMS and size < PAGE_BYTES:
                mail = self._box.mail.popleft()
                event = mail.event
                if isinstance(event, MapRunRedriven) and not self._ended:
                    deferred.append(mail)
                    continue
                self._taken.append(mail)
                size += _weight(mail)
                match event:
                    case ChildFinished():
                        self._child_finished(entry, event, ended)
                    case MapRunStopped():
                        if not self._ended:
                            self._plan.stop()
                    case MapRunUpdated():
                        stored = await self._tools.store.load_map_run(self._box.id)
                        if stored is not None:
                            self._set_bounds(stored)
                            self._plan.judge()
                    case MapRunRedriven():
                        if self._ended and event.redrives > self._plan.progress.redrives:
                            await self._redrive(entry, event)
                            break
        finally:
            self._box.mail.extendleft(reversed(deferred))
        if ended:
            self._plan.ended(ended)

    def _child_finished(self, entry: MapRunEntry, event: ChildFinished, ended: list[Ended]) -> None:
        size = self._running.pop(event.item, None)
        if size is None:
            return
        self._stop_sent.discard(event.item)
        status = ENDS[event.status]
        output = bytes(event.output) if status is ItemStatus.SUCCEEDED else None
        entry.items_ended.append(
            MapItem(
                number=event.item, status=status, size=size, output=output, error=event.error, cause=event.cause,
                stopped_at=event.stopped_at,
            )
        )  # fmt: skip
        ended.append(Ended(event.item, size, status, len(output or b"")))

    async def _redrive(self, entry: MapRunEntry, event: MapRunRedriven) -> None:
        """Go on with the children that have not ended well, and with items that have not been read."""
        self._plan.redrive(await self._tools.store.unsuccessful(self._box.id))
        self._plan.progress.redrives = event.redrives
        entry.again = True
        entry.status, entry.stopped_at, entry.redriven_at = Status.RUNNING, None, entry.now
        self._pending.clear()
        self._pending_after, self._all_read = -1, False
        self._items = None
        self._maker, self._read = None, self._plan.progress.source
        # What is to run again becomes pending by this step; it is started by the next one.
        self._box.wake.set()

    # -- items -----------------------------------------------------------------------------------------------------

    def _read_on(self) -> None:
        """Begin to read the next page, if it is wanted."""
        if self._page is None and self._plan.wants_items and not self._pending and self._stored_pending == 0:
            self._page = asyncio.create_task(self._next_page(), name="map run page")
            self._page.add_done_callback(lambda _: self._box.wake.set())

    def _stop_reading(self) -> None:
        """Nobody wants the page any more that is being read, and storage may not answer for long."""
        if self._page is not None:
            self._page.cancel()

    @property
    def _stored_pending(self) -> int:
        """Children that wait in the store, not in memory."""
        return self._plan.progress.executions.pending - len(self._pending)

    async def _next_page(self) -> tuple[list[Child], bool]:
        """Up to a page of children, and whether that was all."""
        reader = self._spec.reader
        most = reader.config.get("MaxItems", 0) if reader is not None else 0
        if most < 0:
            raise StatesError(ErrorName.ITEM_READER_FAILED, "field MaxItems must be positive")
        if self._items is None:
            cursor = self._plan.progress.cursor
            if reader is None:
                self._items = _inline(self._spec, int(cursor or 0))
            else:
                self._items = self._tools.source.read(reader, cursor)
        assert not isinstance(self._definition, str)
        if self._maker is None:
            self._maker = self._new_maker(self._definition.state)
        children: list[Child] = []
        enough = min(max(2 * self._plan.limit, LEAST_PAGE_ITEMS), PAGE_ITEMS)
        taken = size = 0
        clock = self._tools.clock
        turn = clock.monotonic()
        while taken < enough and size < PAGE_BYTES:
            item = None if most and self._read >= most else await self._next_item(self._items)
            if item is None:
                return children + self._maker.rest(), True
            self._read += 1
            taken += 1
            made = await self._made(self._maker, item)
            size += sum(len(child.input) for child in made)
            children += made
            if clock.monotonic() - turn > TURN_SECONDS:
                await asyncio.sleep(0)
                turn = clock.monotonic()
        return children, False

    async def _next_item(self, items: AsyncIterator[SourceItem]) -> SourceItem | None:
        try:
            return await anext(items, None)
        except (StatesError, JsonTextError):
            raise
        except Exception as error:
            log.exception("the items of a Map Run cannot be read", extra={"map_run": self._box.id.hex()})
            cause = f"The items cannot be read: {type(error).__name__}."
            raise StatesError(ErrorName.ITEM_READER_FAILED, cause) from error

    async def _made(self, maker: Maker, item: SourceItem) -> list[Child]:
        """The children that are complete with an item; an expression that needs too much here is evaluated elsewhere."""
        outcomes: Outcomes | None = None
        while True:
            try:
                children = maker.take(item)
            except OverBudgetError as error:
                if outcomes is None:
                    maker.heavy = outcomes = Outcomes()  # those of one item, so that they do not add up
                try:
                    outcomes.add(error.evaluation, await self._tools.evaluate(error.evaluation))
                except ExpressionsUnavailableError as unavailable:
                    reason = {"map_run": self._box.id.hex(), "reason": str(unavailable)}
                    log.warning("an expression waits to be evaluated", extra=reason)
                    await asyncio.sleep(UNAVAILABLE_SECONDS)
                continue
            finally:
                effort.end_states()
            if outcomes is not None:
                maker.heavy = None
            return children

    def _take_page(self, entry: MapRunEntry) -> None:
        """Make children of a page that has been read; those there is room for begin with this step."""
        if self._page is None or not self._page.done():
            return
        page, self._page = self._page, None
        if page.cancelled():
            return
        try:
            children, exhausted = page.result()
        except StatesError as error:
            self._read_failed(error.error, error.cause)
            return
        except (JsonTextError, RecursionError) as error:
            self._read_failed(ErrorName.RUNTIME, str(error))
            return
        except Exception as error:  # whatever it is, this run must end rather than try it for ever
            log.exception("children cannot be made of items", extra={"map_run": self._box.id.hex()})
            self._read_failed(ErrorName.RUNTIME, f"Children cannot be made of the items: {type(error).__name__}.")
            return
        if self._plan.progress.stopping:
            return  # it is read again after a redrive, from where the run stands
        self._plan.made(children, exhausted=exhausted)
        self._plan.judge()
        begun: list[int] = []
        for child in children:
            runs = self._plan.room > len(begun)
            status = ItemStatus.RUNNING if runs else ItemStatus.PENDING
            item = MapItem(number=child.number, status=status, size=child.size, input=child.input)
            entry.items_new.append(item)
            if runs:
                begun.append(child.size)
                self._begin(entry, item)
            else:
                self._pending.append(item)
        self._plan.started(begun)
        if not children and exhausted:
            self._box.wake.set()

    def _read_failed(self, error: str, cause: str | None) -> None:
        if not self._plan.progress.stopping:
            self._plan.fail(error, cause)

    async def _start_children(self, entry: MapRunEntry) -> None:
        """Start children that wait, while there is room."""
        if self._plan.room and not self._pending and self._stored_pending > 0 and not entry.again:
            page = await self._tools.store.map_items(
                self._box.id, status=ItemStatus.PENDING, after=self._pending_after, limit=PAGE_ITEMS
            )
            self._pending.extend(page)
            if page:
                self._pending_after = page[-1].number
        sizes: list[int] = []
        left = PAGE_BYTES if not entry.items_new else 0
        while self._pending and self._plan.room > len(sizes) and len(sizes) < PAGE_ITEMS and left > 0:
            item = self._pending.popleft()
            left -= len(item.input)
            entry.items_started.append(item.number)
            sizes.append(item.size)
            self._begin(entry, item)  # also one that was there: it begins again if its execution is there no more
            if item.redrives:
                entry.posts.append((entry.children[-1].id, events.Redriven()))
        self._plan.started(sizes)

    def _begin(self, entry: MapRunEntry, item: MapItem) -> None:
        name, arn, id = self._child(item.number)
        self._running[item.number] = item.size
        entry.children.append(NewChild(id=id, name=name, arn=arn, number=item.number, input=item.input))

    def _child(self, number: int) -> tuple[str, str, ExecutionId]:
        name = child_name(self._box.id, number)
        arn = ids.child_arn(self._spec.arn, name)
        return name, arn, ids.execution_id(arn)

    def _stop_children(self, entry: MapRunEntry) -> None:
        """Ask running children to stop; their ends are awaited."""
        for number in self._running:
            if len(entry.posts) >= PAGE_ITEMS:
                break
            if number not in self._stop_sent:
                self._stop_sent.add(number)
                entry.posts.append((self._child(number)[2], events.StopRequested()))

    # -- the end ---------------------------------------------------------------------------------------------------

    async def _finish(self, entry: MapRunEntry) -> None:
        """Put the results together and tell the parent."""
        progress, plan = self._plan.progress, self._plan
        output = b"null"
        try:
            output = await self._results(entry)
            progress.results_written = progress.executions.ended
            progress.items_written = progress.items.ended
        except StatesError as error:
            if not plan.failed and not progress.stopped:
                plan.fail(error.error, error.cause)
        except (StoreUnavailableError, FencedError, NotOwnerError, BadBatchError):
            raise
        except Exception as error:  # whatever it is, this run must end rather than try it for ever
            log.exception("the results of a Map Run cannot be put together", extra={"map_run": self._box.id.hex()})
            if not plan.failed:
                name = ErrorName.RUNTIME if plan.joins else ErrorName.RESULT_WRITER_FAILED
                plan.fail(name, f"The results cannot be put together: {type(error).__name__}.")
        entry.stopped_at = entry.now
        if progress.stopped:
            entry.status = Status.ABORTED
            return
        entry.status = Status.FAILED if plan.failed else Status.SUCCEEDED
        number, redrives = self._stored.number, progress.redrives
        finished = (
            events.MapRunFinished(number, redrives, error=progress.error, cause=progress.cause)
            if plan.failed
            else events.MapRunFinished(number, redrives, msgspec.Raw(output))
        )
        entry.posts.append((self._stored.parent, finished))

    async def _results(self, entry: MapRunEntry) -> bytes:
        """The state's result, of which nothing is left to be written."""
        results = Results(self._tools.store, self._tools.source, self._box.id, self._spec)
        if not self._plan.joins:
            try:
                output = await self._written(results)
                reach("before_result_commit")
                return output
            finally:
                entry.rev = self._rev
        if self._plan.failed or self._plan.progress.stopped:
            return b"null"
        return await results.join()

    async def _written(self, results: Results) -> bytes:
        """Write the results out; given up when the run is stopped meanwhile, since storage may not answer for long."""
        writing = asyncio.create_task(results.write(self._plan.progress, self._save_progress), name="map run results")
        writing.add_done_callback(lambda _: self._box.wake.set())
        try:
            async with asyncio.timeout(STOPPED_WRITE_SECONDS if self._plan.progress.stopped else None):
                while not writing.done() and (self._plan.progress.stopped or not self._stop_waits):
                    self._box.wake.clear()
                    await self._box.wake.wait()
        except TimeoutError:
            log.warning("the results of a stopped Map Run are left", extra={"map_run": self._box.id.hex()})
        finally:
            async with self._saving:  # a commit is never given up: its fate would be unknown
                writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        if writing.cancelled():
            self._plan.stop()
            raise StatesError(ErrorName.RESULT_WRITER_FAILED, "The Map Run was stopped while its results were written.")
        return writing.result()

    @property
    def _stop_waits(self) -> bool:
        return any(isinstance(mail.event, MapRunStopped) for mail in self._box.mail)

    async def _save_progress(self) -> None:
        async with self._saving:
            await self._commit(self._entry(), [])


async def _inline(spec: MapRunSpec, start: int) -> AsyncIterator[SourceItem]:
    for item in inline_items(spec, start):
        yield item
