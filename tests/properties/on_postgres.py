"""Random machines on real nodes over a real Postgres: many executions at once, to which things happen at random until all have
come to their end. How they interleave is left to chance; what came of it is checked by `stored_runs`."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import asyncpg

from stepwell.engine.asl.resources import TargetKind
from stepwell.engine.errors import StepwellError
from stepwell.engine.ids import ExecutionId, TaskToken, execution_arn, execution_id
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.commands import Status
from stepwell.engine.messages import WorkerReport
from stepwell.engine.ports import MachineRecord, StartRequest
from stepwell.engine.runtime.requests import Requests
from stepwell.engine.store.check import check
from stepwell.engine.store.codes import STATUS_CODES, STATUS_OF, TARGET_CODES, TASK_STARTED
from stepwell.engine.store.machines import PostgresMachines
from stepwell.engine.store.map_runs import PostgresMapRuns
from stepwell.engine.store.pool import connect
from tests.properties.chance import Chance
from tests.properties.fields import INPUT
from tests.properties.map_run_host import Objects
from tests.properties.mortal_nodes import MortalCluster, is_dying
from tests.properties.outside import WORKER, Outside
from tests.properties.stored_runs import Reckoning
from tests.support.stored import machine_record

DEADLINE = 90.0
"""Seconds after which what has not ended is said to be stuck."""
MOST_REDRIVES = 2
RUNNING = STATUS_CODES[Status.RUNNING]

Ask: TypeAlias = Callable[[Requests], Awaitable[object]]


@dataclass(slots=True)
class Root:
    """An execution that is started from outside."""

    machine: MachineRecord
    id: ExecutionId
    stops: int = 0
    redrives: int = 0


class Errors(logging.Handler):
    """What engines log as errors: there is nothing here that should make them do so, but for those that die."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not is_dying():
            self.said.append(self.format(record))


@dataclass
class Life:
    """Everything that happens to some executions, from their starts to their ends."""

    url: str
    chance: Chance
    definitions: list[dict[str, Any]]
    turns: int = 60
    """Rounds in which anything may happen; in those behind them the outside does its part."""
    roots: dict[ExecutionId, Root] = field(default_factory=dict)
    happened: Counter[str] = field(default_factory=Counter)

    async def lead(self) -> None:
        """From the first start to the last end, and the reckoning."""
        self.errors = Errors()
        self.outside = Outside(self.chance)
        self.objects = Objects()
        self.cluster = MortalCluster(self.url, self.outside, self.objects, self.chance)
        self._pool = await asyncpg.create_pool(self.url, min_size=1, max_size=4)
        logging.getLogger("stepwell").addHandler(self.errors)
        try:
            await self._lead()
            await self.find_nothing()
            reckoning = Reckoning(self._pool, self.outside, self.cluster.clock)
            await reckoning.check()
            self.happened["child"] = len(reckoning.runs) - len(self.roots)
        finally:
            logging.getLogger("stepwell").removeHandler(self.errors)
            await self.cluster.close()
            await self._pool.close()

    async def _lead(self) -> None:
        waiting = await self._machines()
        for turn in range(self.turns):
            some = [waiting.pop() for _ in range(min(len(waiting), self.chance.whole(0, 1 + len(waiting) // 3)))]
            await self._turn([*(self._start(each) for each in some)])
            if turn % 5 == 4:
                await self._intervene()
        self.outside.calm = self.cluster.calm = True
        await self.cluster.end_former()
        await self._turn([self._start(each) for each in waiting])
        end = time.monotonic() + DEADLINE
        while await self._running():
            assert time.monotonic() < end, await self._stuck()
            if not await self._turn([]):
                await self._found_activities()

    async def _machines(self) -> list[Root]:
        machines = PostgresMachines(self._pool)
        found: list[Root] = []
        for number, definition in enumerate(self.definitions):
            record = await machines.create(machine_record(f"Machine{number}", definition=json.dumps(definition)))
            record = record or await machines.get(machine_record(f"Machine{number}").arn)
            assert record is not None
            id = execution_id(execution_arn(record.arn, "run-1"))
            self.roots[id] = Root(record, id)
            found.append(self.roots[id])
        return found

    # -- a round ---------------------------------------------------------------------------------------------------

    async def _turn(self, more: list[Coroutine[Any, Any, None]]) -> bool:
        """A round: what waits for the outside goes on, mostly; then time does. False if there was nothing to go on with."""
        outside, chance = self.outside, self.chance
        doings = [*more, self._ask(outside.poll)]
        doings += [self._work(task) for task in outside.messages if outside.calm or chance.often(60)]
        doings += [self._use(task, token) for task, token in outside.tokens.items() if outside.calm or chance.often(60)]
        calls = outside.answer_calls()
        before = outside.heard
        await asyncio.gather(*doings)
        assert not self.errors.said, self.errors.said[:3]
        await self._quiet()
        busy = len(doings) > 1 or calls > 0 or outside.heard > before
        if not busy or (not outside.calm and chance.often(40)):
            return await self._time_passes() or busy
        return True

    async def _ask(self, ask: Ask) -> object:
        """Ask the node that is up; None where it gives no answer."""
        node = await self.cluster.node()
        with suppress(StepwellError):
            return await node.ask(lambda: _call(ask, node.requests))
        return None

    async def _start(self, root: Root) -> None:
        request = StartRequest(machine=root.machine, input=Document.of(INPUT), name="run-1")
        while await self._ask(lambda requests: requests.start(request)) is None:
            pass

    async def _work(self, task: tuple[ExecutionId, int]) -> None:
        request = self.outside.messages[task]
        await self._ask(lambda requests: self.outside.work(requests, task, request))

    async def _use(self, task: tuple[ExecutionId, int], token: TaskToken) -> None:
        await self._ask(lambda requests: self.outside.use_token(requests, task, token))

    async def _quiet(self) -> None:
        """Let the node do what it can do at once. (However long this takes, it decides nothing but what meets what.)"""
        for _ in range(100):
            before = self.cluster.commits, self.outside.heard
            await asyncio.sleep(0.001)
            if not self.cluster.under_way and before == (self.cluster.commits, self.outside.heard):
                return

    async def _time_passes(self) -> bool:
        """Go on to where the next timer is due, or not quite; False if none runs."""
        clock, chance = self.cluster.clock, self.chance
        due = await self._pool.fetchval("SELECT min(due_at) FROM timer")
        if due is None:
            return False
        if self.outside.calm or chance.often(60):
            clock.forward(max(0, due - clock.now_ms()) + chance.pick((0, 0, 3, 900)))
        else:
            clock.forward(chance.pick((0, 1, 250, 700)))
        (await self.cluster.node()).look_at_the_clock()
        await self._quiet()
        return True

    # -- now and then ----------------------------------------------------------------------------------------------

    async def _intervene(self) -> None:
        """Somebody stops or redrives executions, changes Map Runs, or takes the node for dead."""
        chance = self.chance
        rows = await self._pool.fetch("SELECT id, status, map_run IS NULL AS root FROM execution WHERE rev > 0")
        for row in rows:
            id, running = ExecutionId(row["id"].bytes), row["status"] == RUNNING
            if running and chance.often(2):
                self.happened["stop"] += 1
                await self._ask(partial(_stop, id, chance.pick(("by hand", None))))
            elif row["root"] and not running and STATUS_OF[row["status"]] is not Status.SUCCEEDED and chance.often(30):
                root = self.roots[id]
                if root.redrives < MOST_REDRIVES:
                    root.redrives += 1
                    self.happened["redrive"] += 1
                    await self._ask(partial(_redrive, id))
        for run in await self._pool.fetch("SELECT id FROM map_run WHERE stopped_at IS NULL"):
            if chance.often(15):
                await PostgresMapRuns(self._pool, self.cluster.clock).update(
                    ExecutionId(run[0].bytes), max_concurrency=chance.pick((None, 1, 2, 5)),
                    tolerated_count=chance.pick((None, 0, 3)), tolerated_percentage=None,
                )  # fmt: skip
        if chance.often(25):
            await self.find_nothing()
        await self.cluster.end_former()
        if chance.often(15):
            await self.cluster.give_up()
        await self._ask(lambda requests: requests.report_worker(WorkerReport(str(WORKER), "host", 1)))

    async def find_nothing(self) -> None:
        """`stepwell db check` has nothing to say, whatever goes on."""
        connection = await connect(self.url, statement_timeout_ms=0)
        try:
            assert await check(connection) == []
        finally:
            await connection.close()
        self.happened["check"] += 1

    # -- coming to an end ------------------------------------------------------------------------------------------

    async def _running(self) -> bool:
        """Whether anything goes on."""
        going_on: bool = await self._pool.fetchval(
            "SELECT EXISTS (SELECT FROM execution WHERE status = $1) OR EXISTS (SELECT FROM inbox)"
            " OR EXISTS (SELECT FROM map_run WHERE stopped_at IS NULL)", RUNNING,
        )  # fmt: skip
        return going_on

    async def _found_activities(self) -> None:
        """Activity tasks that were given to a worker who never heard of it: one that has no time-out would wait for ever."""
        rows = await self._pool.fetch(
            "SELECT execution_id, task, secret FROM task WHERE kind = $1 AND status = $2",
            TARGET_CODES[TargetKind.ACTIVITY], TASK_STARTED,
        )  # fmt: skip
        for row in rows:
            task = ExecutionId(row["execution_id"].bytes), row["task"]
            self.outside.tokens.setdefault(task, TaskToken(*task, row["secret"]))

    async def _stuck(self) -> str:
        """What has not ended, and what it waits for."""
        rows = await self._pool.fetch(
            "SELECT e.arn, e.rev, (SELECT json_agg(t) FROM task t WHERE t.execution_id = e.id) AS tasks,"
            " (SELECT json_agg(t) FROM timer t WHERE t.execution_id = e.id) AS timers,"
            " (SELECT json_agg(i) FROM inbox i WHERE i.execution_id = e.id) AS inbox"
            " FROM execution e WHERE status = $1 LIMIT 5", RUNNING,
        )  # fmt: skip
        rows += await self._pool.fetch(
            "SELECT arn, rev, status, progress FROM map_run WHERE stopped_at IS NULL LIMIT 5"
        )
        rows += await self._pool.fetch("SELECT * FROM inbox LIMIT 5")
        return "stuck:\n" + "\n".join(str(dict(row)) for row in rows)


async def _call(ask: Ask, requests: Requests) -> object:
    return await ask(requests)


async def _stop(id: ExecutionId, cause: str | None, requests: Requests) -> object:
    return await requests.stop(id, "Stopped", cause)


async def _redrive(id: ExecutionId, requests: Requests) -> object:
    return await requests.redrive(id)
