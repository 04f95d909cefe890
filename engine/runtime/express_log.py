"""What is kept of asynchronous Express executions: a row when one starts, its end when it has ended; nothing in between.

A start is answered when its row is durable, and only then run. The rows of a node that is gone are taken by the others, which run
those executions again from the start; the number of the run fences them, so that of several runs the newest alone says how the
execution ended. Rows of many executions are written together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from stepwell.engine.asl.states import StateMachine
from stepwell.engine.clock import Clock
from stepwell.engine.errors import StepwellError, StoreUnavailableError
from stepwell.engine.ids import ExecutionId
from stepwell.engine.limits import MAX_EXPRESS_SECONDS
from stepwell.engine.machine.commands import Status
from stepwell.engine.ports import ExpressStart, ExpressStore, ExpressView
from stepwell.engine.runtime.express import Express, Run
from stepwell.engine.runtime.failpoints import reach
from stepwell.engine.runtime.identity import Identity
from stepwell.engine.states_errors import ErrorName
from stepwell.engine.telemetry import EXPRESS_ENDED, EXPRESS_RERUNS, Counts

log = logging.getLogger(__name__)

MAX_BATCH: Final = 500
MAX_RUNS: Final = 3
"""How often an execution is run before it is given up: it may be what the nodes that ran it died of."""
TAKE_SECONDS: Final = 1.0
TAKE_AT_ONCE: Final = 50
WORKERS_SECONDS: Final = 5.0
FORGOTTEN_MS: Final = (MAX_EXPRESS_SECONDS + 100) * 1000
"""No run lasts so long: whoever took the execution has forgotten it."""
LONGEST_PAUSE: Final = 5.0
LATER_SECONDS: Final = 1.0

Machines = Callable[[int, int], Awaitable[StateMachine]]


@dataclass(frozen=True, slots=True, eq=False)
class _Begin:
    """A start to be written. `handed_over`: by a node that may write it down as well, and answer for it."""

    start: ExpressStart
    machine: StateMachine
    handed_over: bool
    written: asyncio.Future[bool]


class ExpressLog:
    """Starts and ends of this node's asynchronous Express executions, and those it takes over."""

    def __init__(
        self,
        *,
        store: ExpressStore,
        identity: Identity,
        express: Express,
        machines: Machines,
        clock: Clock,
        may_act: Callable[[], bool],
        keep: bool,
        metrics: Counts,
    ) -> None:
        self._store = store
        self._identity = identity
        self._express = express
        self._machines = machines
        self._clock = clock
        self._may_act = may_act
        self._keep = keep
        self._metrics = metrics
        self._begins: list[_Begin] = []
        self._ends: dict[ExecutionId, ExpressView] = {}
        self._discards: dict[ExecutionId, UUID] = {}
        """What nobody was told of: its row is deleted, if there is one. By the name it bears."""
        self._releases: dict[ExecutionId, UUID] = {}
        """What somebody may have been told of, and does not run here: any node may take it. By the name it bears."""
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._look = asyncio.Event()
        self._looked_at = -WORKERS_SECONDS
        self._tasks: list[asyncio.Task[None]] = []
        self._later: dict[ExecutionId, asyncio.Task[None]] = {}
        self._unanswered: set[asyncio.Future[bool]] = set()
        self._closed = False

    def start(self) -> None:
        """Begin to write, and to take over what others have left."""
        self._tasks = [
            asyncio.create_task(self._write(), name="express log"),
            asyncio.create_task(self._take_over(), name="express take-over"),
        ]

    async def close(self, seconds: float) -> None:
        """Write what is to be written, for so long at most, and stop. What is not written is run again by another node."""
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        tasks = [*self._tasks, *self._later.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for written in list(self._unanswered):
            _fail(written, "The node was shut down before it was known whether the execution was started; ask again.")

    def wake(self) -> None:
        """There may be something to take over."""
        self._look.set()

    def lapsed(self) -> None:
        """There was a time without a lease."""
        self._express.doubtful = True
        self._look.set()

    # -- starts and ends -------------------------------------------------------------------------------------------

    async def begin(self, start: ExpressStart, machine: StateMachine, *, handed_over: bool = False) -> bool:
        """Write a start down, and run it, whether or not anybody waits here; False if it is there already. Raises
        `StoreUnavailableError` where nobody knows. One that was `handed_over` by another node is never deleted: that node writes
        it down itself when it hears nothing, and answers that it was started."""
        if self._closed:
            raise StoreUnavailableError("This node is shutting down; ask again.")
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._unanswered.add(written)
        written.add_done_callback(self._unanswered.discard)
        self._express.kept += len(start.input.text)
        self._begins.append(_Begin(start, machine, handed_over, written))
        self._stir()
        return await asyncio.shield(written)

    def _run(self, start: ExpressStart, machine: StateMachine) -> None:
        if self._express.closing:
            self._releases[start.id] = self._identity.node
            self._stir()
            return
        try:
            run = self._express.run(start, machine)
        except Exception as error:  # whatever it is, this execution must end and the others go on
            log.exception("an execution cannot be run", extra={"execution": start.id.hex()})
            begun = self._express.known(start.id)
            if begun is not None:
                self._express.drop(begun)
            self._give_up(start, ErrorName.RUNTIME, f"The execution cannot be run: {type(error).__name__}.")
            return
        run.ended.add_done_callback(lambda ended: self._ended(run, ended))

    def _ended(self, run: Run, ended: asyncio.Future[ExpressView]) -> None:
        if not ended.cancelled() and ended.exception() is None:
            self._end(ended.result())

    def _end(self, view: ExpressView) -> None:
        self._express.kept += _size(view)
        self._ends[view.id] = view
        self._stir()

    def _stir(self) -> None:
        self._idle.clear()
        self._wake.set()

    # -- writing ---------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        pause = 0.1
        while True:
            if not (self._begins or self._ends or self._discards or self._releases):
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
            try:
                await self._write_some()
                pause = 0.1
                continue
            except StoreUnavailableError as error:
                log.warning("Express executions cannot be written", extra={"reason": str(error)})
            except Exception:  # whatever it was, a node that stopped writing would answer no start any more
                log.exception("writing Express executions failed")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _write_some(self) -> None:
        begins, self._begins = self._begins[:MAX_BATCH], self._begins[MAX_BATCH:]
        if begins:
            await self._write_begins(begins)
        ends = list(self._ends.values())[:MAX_BATCH]
        if ends:
            await self._write_ends(ends)
        if self._discards or self._releases:
            await self._write_back()

    async def _write_back(self) -> None:
        """Take back the starts that nobody knows of, and give the others of those that were not written to whoever takes them."""
        discards = dict(list(self._discards.items())[:MAX_BATCH])
        if discards:
            await self._store.discard(self._names(discards), list(discards))
            for id in discards:
                del self._discards[id]
        releases = dict(list(self._releases.items())[:MAX_BATCH])
        foreign = [id for id in releases if self._express.known(id) is None and id not in self._ends]
        if foreign:  # the rest was taken by this very node meanwhile
            await self._store.release(self._names(releases), foreign)
        for id in releases:
            del self._releases[id]

    def _names(self, written: dict[ExecutionId, UUID]) -> list[UUID]:
        """The names that these rows may bear: a node that takes another name takes its rows along."""
        return list({*written.values(), self._identity.node})

    async def _write_begins(self, begins: list[_Begin]) -> None:
        reach("before_express_begin")
        node = self._identity.node
        try:
            await self._identity.settled()
            node = self._identity.node
            written = await self._store.begin(node, [begin.start for begin in begins])
            if self._identity.node != node:  # the rows may bear a name that nobody lives under
                raise StoreUnavailableError("The execution could not be started just now; ask again.")
        except Exception as error:
            if len(begins) > 1 and not isinstance(error, StoreUnavailableError):
                for one in begins:  # the database refuses one of them
                    with suppress(StoreUnavailableError):  # whoever started it was told, and the others have their turn
                        await self._write_begins([one])
                return
            if not isinstance(error, StepwellError):
                log.exception("an execution cannot be written", extra={"execution": begins[0].start.id.hex()})
            reason = str(error) if isinstance(error, StepwellError) else "The start could not be written; ask again."
            for begin in begins:
                self._express.kept -= len(begin.start.input.text)
                _fail(begin.written, reason)
                (self._releases if begin.handed_over else self._discards)[begin.start.id] = node
            if isinstance(error, StoreUnavailableError):
                raise
            return
        reach("after_express_begin")
        for begin in begins:
            start = begin.start
            self._express.kept -= len(start.input.text)
            if start.id in written:
                self._run(start, begin.machine)
            if not begin.written.done():
                begin.written.set_result(start.id in written)

    async def _write_ends(self, ends: list[ExpressView]) -> None:
        reach("before_express_end")
        try:
            newest = await self._store.end(ends, keep=self._keep)
        except StoreUnavailableError:
            raise
        except Exception as error:
            if len(ends) > 1:
                for end in ends:
                    await self._write_ends([end])
                return
            log.error(
                "the end of an execution cannot be written", exc_info=error, extra={"execution": ends[0].id.hex()}
            )
            newest = set()
        for end in ends:
            if self._ends.get(end.id) is end:
                del self._ends[end.id]
                self._express.kept -= _size(end)
            if end.id not in newest:
                log.warning("an execution was run elsewhere meanwhile", extra={"execution": end.id.hex()})

    # -- taking over -----------------------------------------------------------------------------------------------

    async def _take_over(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TAKE_SECONDS):
                    await self._look.wait()
            self._look.clear()
            if not self._may_act():
                continue
            try:
                if self._express.doubtful:
                    await self._find_out()
                await self._look_after_workers()
                taken = TAKE_AT_ONCE
                while taken == TAKE_AT_ONCE and not self._express.full():
                    taken = await self._take_some()
            except StoreUnavailableError as error:
                log.warning("Express executions cannot be taken over", extra={"reason": str(error)})
            except Exception:  # whatever it was, what others left must not wait for this node's end
                log.exception("taking Express executions over failed")

    async def _find_out(self) -> None:
        """After a time without a lease: which executions are still this node's?"""
        runs = self._express.asynchronous()
        still = await self._store.still(self._identity.node, [run.id for run in runs]) if runs else {}
        if self._may_act():
            self._express.resume(runs, still)

    async def _look_after_workers(self) -> None:
        workers = self._express.workers()
        if workers and self._clock.monotonic() - self._looked_at > WORKERS_SECONDS:
            self._looked_at = self._clock.monotonic()
            self._express.workers_lost(await self._store.lost_workers(sorted(workers)))

    async def _take_some(self) -> int:
        before = self._clock.now_ms() - FORGOTTEN_MS
        starts = await self._store.take(self._identity.node, TAKE_AT_ONCE, before)
        for start in starts:
            await self._run_again(start)
        return len(starts)

    async def _run_again(self, start: ExpressStart) -> None:
        run, ended = self._express.known(start.id), self._ends.get(start.id)
        if run is not None:  # it was never lost: the row was there without this node's name for a while
            run.attempt = start.attempt
            return
        if ended is not None:
            self._ends[start.id] = replace(ended, attempt=start.attempt)
            return
        later = self._later.pop(start.id, None)
        if later is not None:
            later.cancel()
        if start.attempt > 1:
            self._metrics.count(EXPRESS_RERUNS)
        if start.attempt > MAX_RUNS:
            cause = f"The execution was run {MAX_RUNS} times, and each time the engine node that ran it was lost."
            self._give_up(start, ErrorName.ENGINE_LOST, cause)
            return
        try:
            machine = await self._machine_of(start)
        except StoreUnavailableError:
            task = asyncio.create_task(self._run_later(start), name="express run")
            self._later[start.id] = task
            task.add_done_callback(lambda _: self._forget(start.id, task))
            return
        if machine is not None:
            self._run(start, machine)

    def _forget(self, id: ExecutionId, task: asyncio.Task[None]) -> None:
        if self._later.get(id) is task:
            del self._later[id]

    async def _run_later(self, start: ExpressStart) -> None:
        """Run it once its definition can be read, if it is still this node's by then. The others do not wait for it."""
        self._express.kept += len(start.input.text)
        try:
            while True:
                await asyncio.sleep(LATER_SECONDS)
                with suppress(StoreUnavailableError):
                    machine = await self._machine_of(start)
                    still = await self._store.still(self._identity.node, [start.id])
                    break
        finally:
            self._express.kept -= len(start.input.text)
        if machine is not None and still.get(start.id) == start.attempt:
            self._run(start, machine)

    async def _machine_of(self, start: ExpressStart) -> StateMachine | None:
        """None: it will never be there, and the execution was given up. Raises `StoreUnavailableError`."""
        try:
            return await self._machines(start.machine_key, start.revision)
        except StoreUnavailableError:
            raise
        except Exception as error:
            cause = str(error)
            if not isinstance(error, StepwellError):
                log.exception("a definition cannot be read", extra={"execution": start.id.hex()})
                cause = f"The definition cannot be read: {type(error).__name__}."
            self._give_up(start, ErrorName.RUNTIME, cause)
            return None

    def _give_up(self, start: ExpressStart, error: str, cause: str) -> None:
        self._metrics.count(EXPRESS_ENDED, Status.FAILED)
        view = ExpressView(
            id=start.id, arn=start.arn, name=start.name, machine_arn=start.machine_arn, machine_name=start.machine_name,
            machine_key=start.machine_key, revision=start.revision, status=Status.FAILED, started_at=start.started_at,
            stopped_at=self._clock.now_ms(), attempt=start.attempt, error=error, cause=cause,
            trace_header=start.trace_header, input=start.input,
        )  # fmt: skip
        self._end(view)


def _fail(written: asyncio.Future[bool], reason: str) -> None:
    if not written.done():
        written.set_exception(StoreUnavailableError(reason))
        written.exception()  # it may be that nobody waits any more


def _size(view: ExpressView) -> int:
    return (0 if view.input is None else len(view.input.text)) + (0 if view.output is None else len(view.output.text))
