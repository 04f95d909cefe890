"""The end of one Map Run: its results put together or written out, and the parent told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from stepwell.engine.errors import BadBatchError, NotOwnerError, StoreUnavailableError
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.map_events import MapRunStopped
from stepwell.engine.machine.map_run import Plan
from stepwell.engine.map_ports import MapRunEntry, StoredMapRun
from stepwell.engine.runtime.failpoints import reach
from stepwell.engine.runtime.map_results import Results
from stepwell.engine.runtime.map_run_tools import FencedError, Mailbox, Tools
from stepwell.engine.states_errors import ErrorName, StatesError

log = logging.getLogger(__name__)

STOPPED_WRITE_SECONDS: Final = 60.0
"""How long the results of a run that has been stopped, for which nobody waits, may take to be written."""


class Ending:
    """Ends a Map Run that has come to rest. `save` writes down how far its results have been written out."""

    def __init__(
        self, tools: Tools, box: Mailbox, stored: StoredMapRun, plan: Plan, save: Callable[[], Awaitable[None]]
    ) -> None:
        self._tools = tools
        self._box = box
        self._stored = stored
        self._plan = plan
        self._save = save
        self._saving = asyncio.Lock()

    async def end(self, entry: MapRunEntry) -> None:
        """Make `entry` the step that ends the run: put the results together and tell the parent."""
        progress, plan = self._plan.progress, self._plan
        output = b"null"
        try:
            output = await self._results()
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

    async def _results(self) -> bytes:
        """The state's result, of which nothing is left to be written."""
        results = Results(self._tools.store, self._tools.source, self._stored)
        if not self._plan.joins:
            output = await self._written(results)
            reach("before_result_commit")
            return output
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
            await self._save()
