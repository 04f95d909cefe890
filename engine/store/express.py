"""Asynchronous Express executions in Postgres: `ports.ExpressStore`. Two writes for each: its start and its end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, select

from stepwell.engine.clock import Clock
from stepwell.engine.ids import ExecutionId, as_uuid
from stepwell.engine.jsontypes import Document
from stepwell.engine.ports import ExecutionFilter, ExpressStart, ExpressView, Page
from stepwell.engine.store.codes import STATUS_CODES, STATUS_OF
from stepwell.engine.store.columns import storable
from stepwell.engine.store.executions import columns_of, conditions_on
from stepwell.engine.store.failures import store_errors
from stepwell.engine.store.pages import make_position, page_of, read_position
from stepwell.engine.store.sql import QUERIES
from stepwell.engine.store.statements import Connection, Pool, Row, Statement, given
from stepwell.engine.store.tables import express_execution, state_machine
from stepwell.engine.store.views import EXPRESS, scope_of

_view: Final = select(
    *columns_of(express_execution),
    express_execution.c.attempt,
    express_execution.c.error,
    express_execution.c.cause,
).join(state_machine, state_machine.c.key == express_execution.c.machine_key)
_describe: Final = Statement(
    _view.add_columns(express_execution.c.input, express_execution.c.output).where(
        express_execution.c.id == given("id")
    )
)
_CONDITIONS: Final = conditions_on(express_execution)


@cache
def _listing(conditions: frozenset[str]) -> Statement:
    clause: Select[Any] = _view.where(*(_CONDITIONS[name] for name in sorted(conditions)))
    order = (express_execution.c.started_at.desc(), express_execution.c.id.desc())
    return Statement(clause.order_by(*order).limit(given("limit")))


def _record(row: Row, input: bytes | None = None, output: bytes | None = None) -> ExpressView:
    return ExpressView(
        id=ExecutionId(row["id"].bytes),
        arn=row["arn"],
        name=row["name"],
        machine_arn=row["machine_arn"],
        machine_name=row["machine_name"],
        machine_key=row["machine_key"],
        revision=row["revision"],
        status=STATUS_OF[row["status"]],
        started_at=row["started_at"],
        stopped_at=row["stopped_at"],
        attempt=row["attempt"],
        error=row["error"],
        cause=row["cause"],
        trace_header=row["trace_header"],
        input=None if input is None else Document.trusted(input),
        output=None if output is None else Document.trusted(output),
    )


class PostgresExpress:
    """`ExpressStore`."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock

    async def _fetch(self, query: str, *arguments: object) -> list[Row]:
        with store_errors():
            rows: list[Row] = await self._pool.fetch(QUERIES[query], *arguments)
            return rows

    async def begin(self, node: UUID | None, starts: Sequence[ExpressStart]) -> set[ExecutionId]:
        columns: list[list[object]] = [
            [as_uuid(one.id) for one in starts],
            [one.attempt for one in starts],
            [one.machine_key for one in starts],
            [one.revision for one in starts],
            [one.name for one in starts],
            [one.arn for one in starts],
            [one.started_at for one in starts],
            [one.trace_header for one in starts],
            [one.version_arn for one in starts],
            [one.alias_arn for one in starts],
            [one.input.text for one in starts],
        ]
        return _ids(await self._fetch("express_begin", node, self._clock.now_ms(), *columns))

    async def end(self, ends: Sequence[ExpressView], *, keep: bool = True) -> set[ExecutionId]:
        ids: list[object] = [as_uuid(one.id) for one in ends]
        attempts: list[object] = [one.attempt for one in ends]
        if not keep:
            return _ids(await self._fetch("express_drop", ids, attempts))
        columns: list[list[object]] = [
            [STATUS_CODES[one.status] for one in ends],
            [one.stopped_at for one in ends],
            [None if one.output is None else one.output.text for one in ends],
            [storable(one.error) for one in ends],
            [storable(one.cause) for one in ends],
        ]
        return _ids(await self._fetch("express_end", ids, attempts, *columns))

    async def discard(self, nodes: Sequence[UUID], ids: Sequence[ExecutionId]) -> None:
        with store_errors():
            await self._pool.execute(QUERIES["express_discard"], list(nodes), [as_uuid(id) for id in ids])

    async def release(self, nodes: Sequence[UUID], ids: Sequence[ExecutionId]) -> None:
        with store_errors():
            await self._pool.execute(QUERIES["express_release"], list(nodes), [as_uuid(id) for id in ids])

    async def take(self, node: UUID, limit: int, forgotten_before: int) -> Sequence[ExpressStart]:
        rows = await self._fetch("express_take", node, limit, forgotten_before, self._clock.now_ms())
        return [_start(row) for row in rows]

    async def still(self, node: UUID, ids: Sequence[ExecutionId]) -> dict[ExecutionId, int]:
        with store_errors():
            rows = await self._pool.fetch(
                "SELECT id, attempt FROM express_execution WHERE id = ANY ($2::uuid[]) AND owner = $1 AND status = 1",
                node, [as_uuid(id) for id in ids],
            )  # fmt: skip
        return {ExecutionId(row[0].bytes): row[1] for row in rows}

    async def lost_workers(self, workers: Sequence[str]) -> set[str]:
        with store_errors():
            rows = await self._pool.fetch(
                "SELECT u FROM unnest($1::uuid[]) AS u"
                " WHERE NOT EXISTS (SELECT FROM worker w WHERE w.incarnation = u AND w.expires_at > clock_timestamp())",
                [UUID(worker) for worker in workers],
            )
        return {str(row[0]) for row in rows}

    async def expire(self, before: int, limit: int) -> int:
        return await expire_express(self._pool, before, limit)

    async def describe(self, id: ExecutionId) -> ExpressView | None:
        row = await _describe.row(self._pool, id=as_uuid(id))
        return None if row is None else _record(row, row["input"], row["output"])

    async def list(self, where: ExecutionFilter, limit: int, after: str | None) -> Page[ExpressView]:
        scope = scope_of(EXPRESS, where)
        values: dict[str, Any] = {
            "machine_arn": where.machine_arn,
            "status": STATUS_CODES[where.status] if where.status is not None else None,
            "started_after": where.started_after,
            "started_before": where.started_before,
            "name_prefix": where.name_prefix,
        }
        values = {name: value for name, value in values.items() if value is not None}
        statement = _listing(frozenset(values if after is None else [*values, "after"]))
        if after is not None:
            at, key = read_position(scope, after, (int, str))
            values |= {"after_at": at, "after_id": UUID(str(key))}
        rows = await statement.rows(self._pool, limit=limit + 1, **values)
        return page_of(rows, limit, _record, lambda row: make_position(scope, row["started_at"], row["id"].hex))


async def expire_express(on: Pool | Connection, before: int, limit: int) -> int:
    """See `ports.ExpressStore.expire`."""
    with store_errors():
        gone: str = await on.execute(
            "DELETE FROM express_execution WHERE id IN (SELECT id FROM express_execution"
            " WHERE started_at < $1 AND stopped_at < $1 ORDER BY started_at, id LIMIT $2 FOR UPDATE SKIP LOCKED)",
            before, limit,
        )  # fmt: skip
    return int(gone.rpartition(" ")[2])


def _ids(rows: Sequence[Row]) -> set[ExecutionId]:
    return {ExecutionId(row[0].bytes) for row in rows}


def _start(row: Row) -> ExpressStart:
    return ExpressStart(
        id=ExecutionId(row["id"].bytes),
        arn=row["arn"],
        name=row["name"],
        machine_key=row["machine_key"],
        revision=row["revision"],
        machine_arn=row["machine_arn"],
        machine_name=row["machine_name"],
        role_arn=row["role_arn"],
        input=Document.trusted(row["input"]),
        started_at=row["started_at"],
        attempt=row["attempt"],
        trace_header=row["trace_header"],
        version_arn=row["version_arn"],
        alias_arn=row["alias_arn"],
    )
