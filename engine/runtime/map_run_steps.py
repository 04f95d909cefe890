"""The steps of one Map Run, as its owner takes them: fold what has come, make children of items, start, stop, finish.

A step is decided in memory by the planner (`machine.map_run`), and is one transaction: the Map Run's row by compare-and-set,
its children's rows, the child executions with the events that start them, and the messages it consumes. So whoever goes on
with it next does so from exactly there, and nothing is started or counted twice. Children of ExecutionType EXPRESS are begun
once the step is written (`map_run_express`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import Final

from stepwell.engine import ids
from stepwell.engine.errors import StoreUnavailableError
from stepwell.engine.ids import ExecutionId
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.map_events import ChildFinished, MapRunRedriven, MapRunStopped, MapRunUpdated
from stepwell.engine.machine.map_run import ENDS, Ended, ItemStatus, Plan, child_of
from stepwell.engine.machine.snapshot import ExecutionInfo
from stepwell.engine.map_ports import MapItem, MapRunEntry, NewChild, StoredMapRun
from stepwell.engine.runtime.failpoints import reach
from stepwell.engine.runtime.map_run_end import Ending
from stepwell.engine.runtime.map_run_express import GIVEN_UP, MAX_RUNS, Begun, ExpressChildren, begun_child
from stepwell.engine.runtime.map_run_pages import Pages
from stepwell.engine.runtime.map_run_tools import (
    PAGE_BYTES,
    PAGE_ITEMS,
    Definition,
    FencedError,
    Mail,
    Mailbox,
    Tools,
    weight,
)
from stepwell.engine.states_errors import ErrorName, StatesError

_RUNNING_PAGE: Final = 10_000
ROOM_SECONDS: Final = 0.1
"""How soon a Map Run looks again whether there is memory for its Express children."""


class Steps:
    """The steps of a Map Run from one reading of the store on."""

    def __init__(
        self, tools: Tools, box: Mailbox, stored: StoredMapRun, definition: Definition | str, express: ExpressChildren
    ) -> None:
        """`definition`: that of the Map state, or why there is none. `express`: its Express children on this node."""
        self._tools = tools
        self._box = box
        self._stored = stored
        self._definition = definition
        self._express = express
        self._taken: list[Mail] = []
        self._trouble: str | None = None
        self._rev = stored.rev
        self._status = stored.status
        self._plan = Plan(stored.spec, stored.progress)
        self._set_bounds(stored)
        self._running: dict[int, int] = {}
        self._stop_sent: set[int] = set()
        self._pending: deque[MapItem] = deque()
        self._pending_after = -1
        self._pages = Pages(tools, box, self._plan, None if isinstance(definition, str) else definition.state)
        self._ending = Ending(tools, box, stored, self._plan, self._save_progress)
        self._lost: set[int] = set()
        """Express children that the store has as running, and do not run here: they are to be run again."""
        self._lost_after = -1
        self._begun: list[Begun] = []
        """Express children to run once the step under way is written, for which memory is reserved."""
        self._held_back = False

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
                break
            after = page[-1].number
        if self._stored.express:
            self._lost = {number for number in self._running if number not in self._express}
        if not self._lost:
            self._express.all_counted = True
        elif not self._express.all_counted:  # else a step began them of which no answer came, or they were given back
            self._plan.progress.losses = self._express.count_loss(self._plan.progress.losses)

    async def close(self) -> None:
        """Stop reading items."""
        await self._pages.close()

    @property
    def _ended(self) -> bool:
        return self._status is not Status.RUNNING

    # -- one step --------------------------------------------------------------------------------------------------

    async def take(self) -> bool:
        """Do what there is to do, or wait for it; False when the run has ended and all mail is consumed."""
        try:
            return await self._step()
        finally:
            begun, self._begun = self._begun, []
            self._express.release(begun)
            for mail in reversed(self._taken):  # not consumed: to be read again
                if mail.row is None:
                    self._box.mail.appendleft(mail)
                else:
                    self._tools.node.forgotten(self._box.id, mail.row)
            self._taken = []

    async def _step(self) -> bool:
        self._box.wake.clear()
        self._held_back = False
        entry = self._entry()
        await self._fold(entry)
        self._fail_in_trouble()
        if not self._ended:
            self._take_page(entry)
            if self._plan.progress.stopping:
                self._pages.give_up()
                self._stop_children(entry)
            else:
                await self._run_again(entry)
                await self._start_children(entry)
                self._read_on()
            if self._plan.quiet and not self._pages.under_way and not self._taken:
                await self._ending.end(entry)  # what is put together is read from the store
                entry.rev = self._rev
        if self._taken or self._begun or self._writes(entry):
            await self._commit(entry)
            return True
        if self._ended:
            return False
        if not self._page_wanted:
            await self._wait()
        return True

    @property
    def _page_wanted(self) -> bool:
        """Whether a page is there to be taken. One that nothing can begin of waits, so that its children are written once."""
        return self._pages.there and (self._plan.room > 0 or self._plan.progress.stopping)

    def _writes(self, entry: MapRunEntry) -> bool:
        """Whether a step has to be written, whatever has come by mail."""
        items = entry.items_new or entry.items_started or entry.items_ended
        if not self._express.all_counted:  # a loss: until it is written, the shard is not given back
            return True
        return bool(items or entry.posts or entry.again or entry.status is not self._status)

    async def _wait(self) -> None:
        with suppress(TimeoutError):  # nobody tells when other executions have left room
            async with asyncio.timeout(ROOM_SECONDS if self._held_back else None):
                await self._box.wake.wait()

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

    async def _commit(self, entry: MapRunEntry) -> None:
        reach("before_map_run_commit")
        entry.inbox_gone = [mail.row for mail in self._taken if mail.row is not None]
        await self._tools.identity.settled()
        if not self._tools.node.may_act():
            raise FencedError("This node's lease has run out.")
        name = self._tools.identity.node
        try:
            starts = await self._tools.store.commit_map_run(name, entry)
        except StoreUnavailableError:
            self._tools.identity.doubt()
            raise
        if starts is None and self._tools.identity.gives_up(name):
            raise StoreUnavailableError("This node takes another name; the step is taken again under it.")
        if starts is None:
            raise FencedError("Another node has advanced this Map Run.")
        reach("after_map_run_commit")
        self._rev += 1
        if entry.status is not self._status:
            self._status = entry.status
            self._stored = replace(self._stored, status=entry.status, stopped_at=entry.stopped_at)
        self._consumed()
        self._children_written(entry, starts)

    def _consumed(self) -> None:
        taken, self._taken = self._taken, []
        for mail in taken:
            if mail.row is not None:
                self._tools.node.consumed(mail.row)
            elif isinstance(mail.event, ChildFinished):
                self._express.folded(mail.event.item)

    async def _save_progress(self) -> None:
        await self._commit(self._entry())

    # -- mail ------------------------------------------------------------------------------------------------------

    async def _fold(self, entry: MapRunEntry) -> None:
        """Apply what has come. A redrive that comes before the run has ended waits until it has, and so does a stop behind it."""
        deferred: list[Mail] = []
        ended: list[Ended] = []
        size = 0
        try:
            while self._box.mail and len(self._taken) < PAGE_ITEMS and size < PAGE_BYTES:
                mail = self._box.mail.popleft()
                event = mail.event
                waits = isinstance(event, MapRunRedriven) or (deferred and isinstance(event, MapRunStopped))
                if waits and not self._ended:
                    deferred.append(mail)
                    continue
                self._taken.append(mail)
                size += weight(mail)
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
        self._lost.discard(event.item)
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
        entry.status, entry.stopped_at = Status.RUNNING, None
        if not self._stored.express:  # AWS tells no date where the children are Express ones
            entry.redriven_at = entry.now
        self._pending.clear()
        self._pending_after = -1
        self._pages.again()
        # What is to run again becomes pending by this step; it is started by the next one.
        self._box.wake.set()

    # -- items -----------------------------------------------------------------------------------------------------

    def _read_on(self) -> None:
        """Begin to read the next page, so that it is there when there is room for it."""
        if self._plan.wants_items and not self._pages.under_way:
            self._pages.begin()

    @property
    def _stored_pending(self) -> int:
        """Children that wait in the store, not in memory."""
        return self._plan.progress.executions.pending - len(self._pending)

    def _take_page(self, entry: MapRunEntry) -> None:
        """Make children of a page that has been read; those there is room for begin with this step."""
        if not self._page_wanted:
            return
        try:
            page = self._pages.take()
        except StatesError as error:
            if not self._plan.progress.stopping:
                self._plan.fail(error.error, error.cause)
            return
        if page is None or self._plan.progress.stopping:
            return  # it is read again after a redrive, from where the run stands
        children, exhausted = page
        self._plan.made(children, exhausted=exhausted)
        self._plan.judge()
        begun: list[int] = []
        for child in children:
            runs = self._may_begin(len(begun), len(child.input))
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

    # -- children --------------------------------------------------------------------------------------------------

    def _may_begin(self, begun: int, data: int) -> bool:
        """Whether a child with so many bytes of input may begin, where `begun` others do that are not counted yet."""
        if self._plan.room <= begun:
            return False
        return not self._stored.express or (not self._lost and self._has_memory(data))  # what was lost comes first

    def _has_memory(self, data: int) -> bool:
        if self._express.has_room(data):
            return True
        self._held_back = True
        return False

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
        while self._pending and len(sizes) < PAGE_ITEMS and left > 0:
            if not self._may_begin(len(sizes), len(self._pending[0].input)):
                break
            item = self._pending.popleft()
            left -= len(item.input)
            entry.items_started.append(item.number)
            sizes.append(item.size)
            self._begin(entry, item)  # also one that was there: it begins again if its execution is there no more
            if item.redrives and not self._stored.express:
                entry.posts.append((entry.children[-1].id, events.Redriven()))
        self._plan.started(sizes)

    def _begin(self, entry: MapRunEntry, item: MapItem) -> None:
        self._running[item.number] = item.size
        if self._stored.express:
            self._run_express(item, entry.now, attempt=1)
            return
        name, arn, id = self._child(item.number)
        entry.children.append(NewChild(id=id, name=name, arn=arn, number=item.number, input=item.input))

    def _child(self, number: int) -> tuple[str, str, ExecutionId]:
        name, arn = child_of(self._stored.arn, self._box.id, number, express=self._stored.express)
        return name, arn, ids.execution_id(arn)

    def _children_written(self, entry: MapRunEntry, starts: dict[ExecutionId, int]) -> None:
        """Have the children that begin with a step take their first one."""
        if not isinstance(self._definition, str):
            machine = self._definition.processor
            for child in entry.children:
                row = starts.get(child.id)
                if row is not None:
                    self._tools.node.adopt(self._info(child, entry.now), machine, child, self._stored, row)
            begun, self._begun = self._begun, []
            self._express.begin(begun, machine)
        self._express.all_counted = True
        self._tools.node.posted([*(id for id, _ in entry.posts), *(child.id for child in entry.children)])

    def _info(self, child: NewChild, now: int) -> ExecutionInfo:
        machine_arn, machine_name = ids.labelled_machine(child.arn)
        region = child.arn.split(":", 4)[3]
        return ExecutionInfo(
            child.id, child.arn, child.name, machine_arn, machine_name, self._stored.role_arn, now, region
        )

    def _stop_children(self, entry: MapRunEntry) -> None:
        """Stop what runs: Express children end here and now, the others are asked to, and their ends are awaited."""
        if self._stored.express:
            self._abort_children(entry)
            return
        for number in self._running:
            if len(entry.posts) >= PAGE_ITEMS:
                break
            if number not in self._stop_sent:
                self._stop_sent.add(number)
                entry.posts.append((self._child(number)[2], events.StopRequested()))

    # -- Express children ------------------------------------------------------------------------------------------

    def _run_express(self, item: MapItem, now: int, attempt: int) -> None:
        """Have a child run once the step is written."""
        begun = begun_child(self._stored, item, now, attempt)
        self._express.reserve(begun)
        self._begun.append(begun)

    async def _run_again(self, entry: MapRunEntry) -> None:
        """Run children again that were lost with the node, or the memory, that ran them; too often, and they have failed."""
        if not self._lost or not self._has_memory(0):
            return
        page = await self._tools.store.map_items(
            self._box.id, status=ItemStatus.RUNNING, after=self._lost_after, limit=PAGE_ITEMS, most_bytes=PAGE_BYTES
        )
        for item in page:
            if item.number in self._lost:
                attempt = self._plan.progress.losses - item.losses + 1
                if attempt > MAX_RUNS:
                    self._give_up(entry, item)
                elif self._has_memory(len(item.input)):
                    self._run_express(item, entry.now, attempt)
                else:
                    return
                self._lost.discard(item.number)
            self._lost_after = item.number
        if page and self._lost:
            self._box.wake.set()  # there are more of them, though this page may have had none

    def _give_up(self, entry: MapRunEntry, item: MapItem) -> None:
        gone = ChildFinished(item.number, Status.FAILED, entry.now, error=ErrorName.ENGINE_LOST, cause=GIVEN_UP)
        ended: list[Ended] = []
        self._child_finished(entry, gone, ended)
        self._plan.ended(ended)

    def _abort_children(self, entry: MapRunEntry) -> None:
        """Count what ran as stopped; but for what has come to its end already, which is in the mail."""
        self._express.abort()
        ended: list[Ended] = []
        for number in list(self._running):
            if len(ended) >= PAGE_ITEMS:
                break
            if number not in self._express:
                self._child_finished(entry, ChildFinished(number, Status.ABORTED, entry.now), ended)
        self._plan.ended(ended)
