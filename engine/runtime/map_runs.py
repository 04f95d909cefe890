"""Map Runs of the shards this node owns: each is driven by one task, from what the store holds.

When a step is refused, or nobody knows what became of it, the Map Run is read back and driven on from there.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Final

from stepwell.engine.clock import Clock, SeedSource
from stepwell.engine.errors import BadBatchError, NotOwnerError, StepwellError, StoreUnavailableError
from stepwell.engine.ids import ExecutionId, shard_of
from stepwell.engine.machine.map_events import MapRunEvent
from stepwell.engine.machine.map_run import SourceItem, map_state
from stepwell.engine.machine.map_spec import ReaderSpec
from stepwell.engine.map_ports import ItemSource, MapRunStore, StoredMapRun
from stepwell.engine.ports import Evaluate
from stepwell.engine.runtime.express import Express
from stepwell.engine.runtime.identity import Identity
from stepwell.engine.runtime.map_run_express import ExpressChildren
from stepwell.engine.runtime.map_run_steps import Steps
from stepwell.engine.runtime.map_run_tools import Definition, FencedError, Mail, Mailbox, Node, Tools
from stepwell.engine.states_errors import ErrorName, StatesError

log = logging.getLogger(__name__)

MAX_PAUSE: Final = 5.0
MAX_TRIES: Final = 3
"""How often a step may come to an end that nobody foresaw, one time after the other, before the run fails by it."""


class NoStorage:
    """Where no object storage is set up: reading and writing fail and say so."""

    def read(self, reader: ReaderSpec, cursor: str | None) -> AsyncIterator[SourceItem]:
        raise StatesError(ErrorName.ITEM_READER_FAILED, "This engine has no object storage to read items from.")

    async def write(self, bucket: str, key: str, data: bytes, owner: str | None = None) -> None:
        raise StatesError(ErrorName.RESULT_WRITER_FAILED, "This engine has no object storage to write results to.")

    async def close(self) -> None:
        """There is nothing to close."""


class MapRuns:
    """All Map Runs of this node. Methods run on the event loop's thread."""

    def __init__(
        self,
        store: MapRunStore,
        node: Node,
        identity: Identity,
        clock: Clock,
        seeds: SeedSource,
        source: ItemSource,
        evaluate: Evaluate,
        express: Express,
    ) -> None:
        self.tools = Tools(store, node, identity, clock, seeds, source, evaluate, express)
        self._drivers: dict[ExecutionId, Driver] = {}
        self._given: set[int] = set()

    def given(self, shards: set[int]) -> None:
        """Shards that are ours now, and were given back by a node that went on living or was stopped: what it ran is run again, but it
        was not what a node died of."""
        self._given |= shards

    async def take(self, shards: Sequence[int]) -> None:
        """Go on with the Map Runs of shards that are ours now."""
        for id in await self.tools.store.open_map_runs(shards):
            self._driver(id)

    def deliver(self, id: ExecutionId, event: MapRunEvent, row: int) -> None:
        """There is a message for a Map Run; it is consumed by the step that applies it."""
        box = self._driver(id).box
        box.mail.append(Mail(event, row))
        box.wake.set()

    def crowded(self) -> list[ExecutionId]:
        """Map Runs that have so much mail that the rest may wait in the store."""
        return [id for id, driver in self._drivers.items() if driver.box.crowded]

    def uncounted(self) -> set[int]:
        """Shards with Map Runs of which it is not written that their Express children were lost, or not known whether they were: who is
        given these would not count it."""
        return {shard_of(id) for id, driver in self._drivers.items() if not driver.express.all_counted}

    def drop_shards(self, shards: set[int]) -> None:
        """Forget the Map Runs of shards that are no longer ours."""
        self._given -= shards
        for id in [id for id in self._drivers if shard_of(id) in shards]:
            self._drivers.pop(id).cancel()

    async def settle(self, seconds: float) -> None:
        """Wait until the ends of the Express children that ran here are in the store, so long at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for driver in list(self._drivers.values()):
                    await driver.express.folded_all.wait()

    async def close(self) -> None:
        """Stop driving; what was under way is found again in the store."""
        drivers, self._drivers = list(self._drivers.values()), {}
        for driver in drivers:
            driver.cancel()
        await asyncio.gather(*(driver.task for driver in drivers), return_exceptions=True)

    def _driver(self, id: ExecutionId) -> Driver:
        driver = self._drivers.get(id)
        if driver is None:
            driver = self._drivers[id] = Driver(self, id, given=shard_of(id) in self._given)
        return driver

    def released(self, driver: Driver) -> bool:
        """Whether a driver may go; not if there is mail."""
        if driver.box.mail:
            return False
        if self._drivers.get(driver.box.id) is driver:
            del self._drivers[driver.box.id]
        return True


class Driver:
    """Drives one Map Run until it has ended and nothing is left to be told of it."""

    def __init__(self, runs: MapRuns, id: ExecutionId, *, given: bool) -> None:
        self._runs = runs
        self._tools = runs.tools
        self._trouble: str | None = None
        self._tries = 0
        self.box = Mailbox(id, deque(), asyncio.Event())
        self.express = ExpressChildren(self._tools, self.box)
        self.express.all_counted = given
        self.task = asyncio.create_task(self._life(), name=f"map run {id.hex()}")

    def cancel(self) -> None:
        """Stop here and now; what was not consumed is read again from the inbox."""
        self.task.cancel()
        self._let_go()

    def _let_go(self) -> None:
        self.express.drop()
        self._forget_mail()

    def _forget_mail(self) -> None:
        """What came from the inbox is read there again. The ends of Express children are nowhere else."""
        mail = list(self.box.mail)
        self.box.mail.clear()
        for each in mail:
            if each.row is None:
                self.box.mail.append(each)
            else:
                self._tools.node.forgotten(self.box.id, each.row)

    async def _life(self) -> None:
        try:
            await self._go_on()
        finally:
            self._let_go()  # what a step that was cancelled has put back, too

    async def _go_on(self) -> None:
        pause = 0.05
        while True:
            try:
                if await self._drive() and self._runs.released(self):
                    return
                pause, self._trouble, self._tries = 0.05, None, 0
                continue
            except BadBatchError as error:
                log.error(
                    "a step of a Map Run cannot be written", extra={"map_run": self.box.id.hex(), "reason": str(error)}
                )
                self._trouble = f"A step of the Map Run could not be written: {error}"
            except (StoreUnavailableError, FencedError, NotOwnerError) as error:
                log.warning("a Map Run is read back", extra={"map_run": self.box.id.hex(), "reason": str(error)})
                if not isinstance(error, StoreUnavailableError):
                    self.express.drop()  # another node may run them by now
            except Exception as error:  # one Map Run's trouble must not stop the others
                log.exception("a Map Run cannot go on", extra={"map_run": self.box.id.hex()})
                self._tries += 1
                if self._tries >= MAX_TRIES:
                    self._trouble = f"A step of the Map Run could not be taken: {type(error).__name__}."
            self._forget_mail()
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE)

    async def _drive(self) -> bool:
        """Read it from the store and take its steps until it has ended."""
        tools = self._tools
        await tools.identity.settled()
        stored = await tools.store.load_map_run(self.box.id)
        if stored is None:
            log.warning("there is no such Map Run", extra={"map_run": self.box.id.hex()})
            self._forget_mail()
            return True
        steps = Steps(tools, self.box, stored, await self._definition(stored), self.express)
        try:
            await steps.prepare(self._trouble)
            while await steps.take():
                pass
        finally:
            await steps.close()
        return True

    async def _definition(self, stored: StoredMapRun) -> Definition | str:
        """What it runs; or why that is not known, which fails the run."""
        node = self._tools.node
        try:
            machine = await node.machine(stored.machine_key, stored.revision)
            processor = await node.machine(stored.machine_key, stored.revision, stored.state)
            return Definition(map_state(machine, stored.state), processor)
        except StoreUnavailableError:
            raise
        except Exception as error:  # whatever it is: trying again would not make it readable
            log.exception("the definition of a Map Run cannot be read", extra={"map_run": self.box.id.hex()})
            reason = str(error) if isinstance(error, StepwellError | ValueError) else f"{type(error).__name__}."
            return f"The definition of the Map state '{stored.state}' cannot be read: {reason}"
