"""Activities: named queues of tasks that workers poll. It must not know HTTP."""

from __future__ import annotations

from stepwell.engine import limits
from stepwell.engine.clock import Clock
from stepwell.engine.ports import ActivityRecord, ActivityStore, ActivityTask, Page, Runtime
from stepwell.engine.service import checks, paging, refusals
from stepwell.engine.service.context import RequestContext


class Activities:
    """The use-cases of activities."""

    def __init__(self, store: ActivityStore, runtime: Runtime, clock: Clock) -> None:
        self._store = store
        self._runtime = runtime
        self._clock = clock

    async def create(self, context: RequestContext, name: str) -> ActivityRecord:
        """Create an activity, or answer the one that is there (CreateActivity)."""
        arn = context.arn(checks.ACTIVITY, checks.name_of(name))
        return await self._store.create(ActivityRecord(arn, name, self._clock.now_ms()))

    async def describe(self, arn: str) -> ActivityRecord:
        """The activity (DescribeActivity)."""
        checks.arn_of(arn, checks.ACTIVITY)
        record = await self._store.get(arn)
        if record is None:
            raise refusals.activity_does_not_exist(arn)
        return record

    async def list(self, max_results: int | None = None, token: str | None = None) -> Page[ActivityRecord]:
        """Activities; the page's `next` is a token (ListActivities)."""
        now = self._clock.now_ms()
        page = await self._store.list(paging.page_size(max_results), paging.read_token("activities", token, now))
        return Page(page.items, paging.make_token("activities", page.next, now))

    async def delete(self, arn: str) -> None:
        """Delete an activity; that there is none is no error (DeleteActivity)."""
        checks.arn_of(arn, checks.ACTIVITY)
        await self._store.delete(arn)

    async def next_task(self, arn: str, worker: str | None, wait_ms: int | None = None) -> ActivityTask | None:
        """The next task of an activity, waiting for one up to a minute (GetActivityTask)."""
        await self.describe(arn)
        longest = limits.ACTIVITY_POLL_SECONDS * 1_000
        wait = longest if wait_ms is None else max(0, min(wait_ms, longest))
        return await self._runtime.next_activity_task(arn, checks.no_nul(worker, "workerName"), wait)
