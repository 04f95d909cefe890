"""Reading executions from Postgres: `ports.ExecutionReader`. What is committed, on any node; each answer is one round trip.

A listing by status walks the executions by their start: no index has the status, so that steps stay cheap to write.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    exists,
    func,
    lateral,
    literal_column,
    not_,
    select,
    true,
    tuple_,
)

from stepwell.engine.ids import ExecutionId, as_uuid, labelled_machine
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.history import HistoryEvent
from stepwell.engine.machine.map_run import ItemStatus
from stepwell.engine.ports import ExecutionFilter, ExecutionView, Page
from stepwell.engine.store.codes import STATUS_CODES, STATUS_OF
from stepwell.engine.store.pages import make_position, page_of, read_position
from stepwell.engine.store.statements import Pool, Row, Statement, given
from stepwell.engine.store.tables import execution, history_chunk, map_item, map_run, state_machine
from stepwell.engine.store.views import EXECUTIONS, events_in, history_range, scope_of, with_data

_RUNNING: Final = STATUS_CODES[Status.RUNNING]

_pending_redrive: Final = exists(
    select(literal_column("1"))
    .select_from(map_item.join(map_run, map_run.c.id == map_item.c.map_run))
    .where(
        map_item.c.map_run == execution.c.map_run,
        map_item.c.item == execution.c.map_item,
        map_item.c.status.in_([literal_column(str(int(one))) for one in (ItemStatus.PENDING, ItemStatus.RUNNING)]),
        map_item.c.redrives > execution.c.redrive_count,
        map_run.c.stopped_at.is_(None),
        execution.c.status != literal_column(str(_RUNNING)),
    )
).correlate(execution)
"""Whether a child is to be redriven, and has not been yet: its Map Run counts a redrive more than the execution does."""


def columns_of(table: Table) -> list[ColumnElement[Any]]:
    """What is known of executions of either type."""
    return [
        table.c.id,
        table.c.arn,
        table.c.name,
        state_machine.c.arn.label("machine_arn"),
        state_machine.c.name.label("machine_name"),
        table.c.machine_key,
        table.c.revision,
        table.c.status,
        table.c.started_at,
        table.c.stopped_at,
        table.c.trace_header,
    ]


_view: Final = select(
    *columns_of(execution),
    execution.c.last_event,
    execution.c.redrive_count,
    execution.c.redriven_at,
    execution.c.version_arn,
    execution.c.alias_arn,
    select(map_run.c.arn).where(map_run.c.id == execution.c.map_run).scalar_subquery().label("map_run_arn"),
    select(map_item.c.size)
    .where(map_item.c.map_run == execution.c.map_run, map_item.c.item == execution.c.map_item)
    .scalar_subquery()
    .label("item_count"),
    _pending_redrive.label("pending_redrive"),
).join(state_machine, state_machine.c.key == execution.c.machine_key)

_of_execution: Final = and_(
    history_chunk.c.bucket == execution.c.bucket, history_chunk.c.execution_id == execution.c.id
)

first_chunk_of: Final = (
    select(history_chunk.c.data).where(_of_execution, history_chunk.c.rev == 1).correlate(execution).scalar_subquery()
)
"""The first chunk of the execution of the enclosing statement."""

_last_chunk: Final = (
    # by its number of events, not by `rev` alone: a step may add a chunk without events
    select(history_chunk.c.data)
    .where(
        _of_execution,
        history_chunk.c.first_event <= execution.c.last_event,
        execution.c.status != literal_column(str(_RUNNING)),
    )
    .order_by(history_chunk.c.rev.desc())
    .limit(literal_column("1", Integer))
    .correlate(execution)
    .scalar_subquery()
)

_describe: Final = Statement(_view.where(execution.c.id == given("id")))
_describe_data: Final = Statement(
    _view.add_columns(first_chunk_of.label("first_chunk"), _last_chunk.label("last_chunk")).where(
        execution.c.id == given("id")
    )
)


def _history(reverse_from_end: bool) -> Statement:
    wanted = (
        [history_chunk.c.last_event > execution.c.last_event - given("limit", Integer)]
        if reverse_from_end
        else [
            history_chunk.c.last_event >= given("low", Integer),
            history_chunk.c.first_event <= given("high", Integer),
        ]
    )
    chunk = lateral(
        select(history_chunk.c.rev, history_chunk.c.data).where(_of_execution, *wanted).correlate(execution), "chunk"
    )
    return Statement(
        select(execution.c.last_event, chunk.c.data)
        .select_from(execution)
        .join(chunk, true(), isouter=True)
        .where(execution.c.id == given("id"))
        .order_by(chunk.c.rev)
    )


_history_between: Final = _history(reverse_from_end=False)
_history_end: Final = _history(reverse_from_end=True)

machine_key_of: Final = (
    # of the live machine, else of the one deleted last
    select(state_machine.c.key)
    .where(state_machine.c.arn == given("machine_arn"))
    .order_by(state_machine.c.deleted_at.desc().nulls_first(), state_machine.c.key.desc())
    .limit(literal_column("1", Integer))
    .scalar_subquery()
)
"""The key of the machine with the ARN `machine_arn`."""


def conditions_on(table: Table) -> dict[str, Any]:
    """What listings of executions of either type can ask for, by name."""
    return {
        "machine_arn": table.c.machine_key == machine_key_of,
        "status": table.c.status == given("status"),
        "started_after": table.c.started_at >= given("started_after"),
        "started_before": table.c.started_at < given("started_before"),
        "name_prefix": func.starts_with(table.c.name, given("name_prefix", Text)),
        "after": tuple_(table.c.started_at, table.c.id)
        < tuple_(given("after_at", BigInteger), given("after_id", Uuid)),
    }


_CONDITIONS: Final[dict[str, Any]] = {
    **conditions_on(execution),
    "of_nobody": execution.c.map_run.is_(None),
    "map_run": execution.c.map_run == given("map_run", Uuid),
    "redriven": execution.c.redrive_count > literal_column("0", Integer),
    "not_redriven": execution.c.redrive_count == literal_column("0", Integer),
    "pending_redrive": _pending_redrive,
    "not_pending_redrive": not_(_pending_redrive),
}


@cache
def _listing(conditions: frozenset[str]) -> Statement:
    """One statement for each set of conditions, so that each has the plan that fits it."""
    clause: Select[Any] = _view.where(*(_CONDITIONS[name] for name in sorted(conditions)))
    return Statement(clause.order_by(execution.c.started_at.desc(), execution.c.id.desc()).limit(given("limit")))


def _execution(row: Row) -> ExecutionView:
    machine_arn, machine_name = row["machine_arn"], row["machine_name"]
    if row["map_run_arn"] is not None:
        machine_arn, machine_name = labelled_machine(row["arn"])
    return ExecutionView(
        id=ExecutionId(row["id"].bytes),
        arn=row["arn"],
        name=row["name"],
        machine_arn=machine_arn,
        machine_name=machine_name,
        machine_key=row["machine_key"],
        revision=row["revision"],
        status=STATUS_OF[row["status"]],
        started_at=row["started_at"],
        stopped_at=row["stopped_at"],
        last_event=row["last_event"],
        redrive_count=row["redrive_count"],
        redriven_at=row["redriven_at"],
        trace_header=row["trace_header"],
        version_arn=row["version_arn"],
        alias_arn=row["alias_arn"],
        map_run_arn=row["map_run_arn"],
        item_count=row["item_count"],
        pending_redrive=row["pending_redrive"],
    )


class PostgresExecutions:
    """`ExecutionReader`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def describe(self, id: ExecutionId, *, data: bool = True) -> ExecutionView | None:
        row = await (_describe_data if data else _describe).row(self._pool, id=as_uuid(id))
        if row is None:
            return None
        view = _execution(row)
        return with_data(view, row["first_chunk"], row["last_chunk"]) if data else view

    async def list(self, where: ExecutionFilter, limit: int, after: str | None) -> Page[ExecutionView]:
        scope = scope_of(EXECUTIONS, where)
        values: dict[str, Any] = {
            "machine_arn": where.machine_arn,
            "status": STATUS_CODES[where.status] if where.status is not None else None,
            "started_after": where.started_after,
            "started_before": where.started_before,
            "name_prefix": where.name_prefix,
        }
        values = {name: value for name, value in values.items() if value is not None}
        conditions = {*values, "of_nobody" if where.map_run is None else "map_run"}
        if where.redriven is not None:
            conditions.add("redriven" if where.redriven else "not_redriven")
        if where.pending_redrive is not None:
            conditions.add("pending_redrive" if where.pending_redrive else "not_pending_redrive")
        statement = _listing(frozenset(conditions if after is None else {*conditions, "after"}))
        if where.map_run is not None:
            values["map_run"] = as_uuid(where.map_run)
        if after is not None:
            at, key = read_position(scope, after, (int, str))
            values |= {"after_at": at, "after_id": UUID(str(key))}
        rows = await statement.rows(self._pool, limit=limit + 1, **values)
        return page_of(rows, limit, _execution, lambda row: make_position(scope, row["started_at"], row["id"].hex))

    async def history(
        self, id: ExecutionId, *, after: int = 0, limit: int = 100, reverse: bool = False
    ) -> tuple[Sequence[tuple[int, HistoryEvent]], int] | None:
        key = as_uuid(id)
        if reverse and not after:
            rows = await _history_end.rows(self._pool, id=key, limit=limit)
        else:
            low, high = (after - limit, after - 1) if reverse else (after + 1, after + limit)
            rows = await _history_between.rows(self._pool, id=key, low=low, high=high)
        if not rows:
            return None
        last: int = rows[0]["last_event"]
        chunks = [row["data"] for row in rows if row["data"] is not None]
        return events_in(history_range(last, after, limit, reverse), chunks), last
