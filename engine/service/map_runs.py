"""Map Runs: describing, listing and changing them, and listing their child executions. It must not know HTTP."""

from __future__ import annotations

from stepwell.engine import limits
from stepwell.engine.clock import Clock
from stepwell.engine.ids import ExecutionId, execution_id
from stepwell.engine.machine.commands import Status
from stepwell.engine.map_ports import MapRunReader, MapRunView
from stepwell.engine.ports import ExecutionFilter, ExecutionView, Page
from stepwell.engine.service import checks, paging, refusals
from stepwell.engine.service.executions import Executions
from stepwell.engine.service.express_children import ExpressChildren
from stepwell.engine.service.refusals import ValidationReason

MAP_RUN = "mapRun"


class MapRuns:
    """The use-cases of Map Runs."""

    def __init__(
        self, reader: MapRunReader, executions: Executions, express_children: ExpressChildren, clock: Clock
    ) -> None:
        self._reader = reader
        self._express_children = express_children
        self._executions = executions
        self._clock = clock

    async def describe(self, arn: str) -> MapRunView:
        """One Map Run (DescribeMapRun)."""
        checks.arn_of(arn, MAP_RUN)
        view = await self._reader.describe(execution_id(arn))
        if view is None:
            raise refusals.no_such_resource(arn)
        return view

    async def list(self, execution_arn: str, max_results: int | None, token: str | None) -> Page[MapRunView]:
        """The Map Runs of an execution, newest first (ListMapRuns)."""
        checks.arn_of(execution_arn, checks.EXECUTION)
        return await self.list_by_id(execution_id(execution_arn), execution_arn, max_results, token)

    async def list_by_id(
        self, id: ExecutionId, shown: str, max_results: int | None, token: str | None
    ) -> Page[MapRunView]:
        """As `list`, of the execution with this key; `shown` is what the caller called it."""
        view = await self._executions.by_id(id, shown, data=False)
        now = self._clock.now_ms()
        scope = f"map-runs {id.hex()}"
        views, next = await self._reader.list(
            view.id, paging.page_size(max_results), paging.read_token(scope, token, now)
        )
        return Page(views, paging.make_token(scope, next, now))

    async def children(
        self,
        arn: str,
        *,
        status: Status | None = None,
        pending_redrive: bool = False,
        redriven: bool | None = None,
        max_results: int | None = None,
        token: str | None = None,
    ) -> Page[ExecutionView]:
        """The child executions of a Map Run, newest first (ListExecutions with mapRunArn): all, those of a status, or those that wait
        to be redriven, which have no other status meanwhile."""
        view = await self.describe(arn)
        if view.express and pending_redrive:
            return Page([])  # they are begun anew, and no redrive of one of them is seen
        if view.express:
            return await self._express_children.page(
                view, status=status, redriven=redriven, max_results=max_results, token=token
            )
        pending = pending_redrive if pending_redrive or status is not None else None
        where = ExecutionFilter(status=status, map_run=view.id, redriven=redriven, pending_redrive=pending)
        return await self._executions.list(where, max_results=max_results, token=token)

    async def update(
        self,
        arn: str,
        *,
        max_concurrency: int | None = None,
        tolerated_count: int | None = None,
        tolerated_percentage: float | None = None,
    ) -> None:
        """Change how many children may run, and how many may fail (UpdateMapRun). Only while the Map Run goes on."""
        view = await self.describe(arn)
        if max_concurrency is not None and max_concurrency > limits.MAX_MAP_RUN_CONCURRENCY:
            raise refusals.invalid(f"maxConcurrency is at most {limits.MAX_MAP_RUN_CONCURRENCY}")
        changed = view.status is Status.RUNNING and await self._reader.update(
            view.id,
            max_concurrency=max_concurrency,
            tolerated_count=tolerated_count,
            tolerated_percentage=tolerated_percentage,
        )
        if not changed:
            raise refusals.invalid(
                "A Map Run that has ended cannot be updated", reason=ValidationReason.MAP_RUN_COMPLETED
            )
