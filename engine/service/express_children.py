"""Express child executions of Map Runs, as callers see them: their Map Run keeps of each what it was given and how it ended.

They have no rows among the executions, no history, and nobody but their Map Run starts, stops or redrives them.
"""

from __future__ import annotations

from stepwell.engine import ids
from stepwell.engine.clock import Clock
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.map_run import ENDS, ItemStatus, child_of, express_child_number
from stepwell.engine.map_ports import MapItem, MapRunReader, MapRunView
from stepwell.engine.ports import ExecutionView, Page
from stepwell.engine.service import paging, refusals

_STATUS = {item: status for status, item in ENDS.items()} | {ItemStatus.RUNNING: Status.RUNNING}
_MAX_DIGITS = 10
_ITEM_STATUS = {status: item for item, status in _STATUS.items()}


class ExpressChildren:
    """Reading Express children."""

    def __init__(self, reader: MapRunReader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock

    async def find(self, arn: str, *, data: bool = True) -> ExecutionView | None:
        """The child with this ARN; None if this is not the ARN of one, or it has not begun."""
        named = ids.express_child(arn)
        if named is None:
            return None
        id = ids.execution_id(named[0])
        number = express_child_number(id, named[1])
        run = await self._reader.describe(id) if number is not None else None
        if run is None or number is None or not run.express:
            return None
        item = await self._reader.item(id, number)
        return _view(run, item, data=data) if item is not None and item.status in _STATUS else None

    async def page(
        self,
        run: MapRunView,
        *,
        status: Status | None = None,
        redriven: bool | None = None,
        max_results: int | None = None,
        token: str | None = None,
    ) -> Page[ExecutionView]:
        """The children of a Map Run that have begun, the last first, without data. None of them is seen to have been redriven."""
        now = self._clock.now_ms()
        scope = f"express children {run.id.hex()} {status} {redriven}"
        position = paging.read_token(scope, token, now)
        if position is not None and not (position.isdecimal() and len(position) <= _MAX_DIGITS):
            raise refusals.invalid_token()
        limit = paging.page_size(max_results)
        if redriven:
            return Page([])
        items = await self._reader.begun_items(
            run.id,
            status=None if status is None else _ITEM_STATUS[status],
            limit=limit + 1,
            before=None if position is None else int(position),
        )
        shown = items[:limit]
        next = str(shown[-1].number) if len(items) > limit else None
        return Page([_view(run, item, data=False) for item in shown], paging.make_token(scope, next, now))


def _view(run: MapRunView, item: MapItem, *, data: bool) -> ExecutionView:
    name, arn = child_of(run.arn, run.id, item.number, express=True)
    machine_arn, machine_name = ids.labelled_machine(arn)
    ended = item.status is not ItemStatus.RUNNING
    return ExecutionView(
        id=ids.execution_id(arn), arn=arn, name=name, machine_arn=machine_arn, machine_name=machine_name,
        machine_key=run.machine_key, revision=run.revision, status=_STATUS[item.status], started_at=item.started_at,
        stopped_at=item.stopped_at if ended else None, error=item.error if data else None,
        cause=item.cause if data else None, input=Document.trusted(item.input) if data else None,
        output=Document.trusted(item.output) if data and item.output is not None else None,
        map_run_arn=run.arn, item_count=item.size,
    )  # fmt: skip
