"""Connections to HTTP APIs in Postgres: `ports.ConnectionStore`. Their secrets come and go sealed."""

from __future__ import annotations

from typing import Final

from sqlalchemy import delete, or_, select
from sqlalchemy.dialects.postgresql import insert

from stepwell.engine.ports import ConnectionRecord, Page
from stepwell.engine.store.pages import make_position, page_of, read_position
from stepwell.engine.store.statements import Pool, Row, Statement, given
from stepwell.engine.store.tables import connection

_SCOPE: Final = "connections"
_all: Final = select(connection).order_by(connection.c.name).limit(given("limit"))
_first_page: Final = Statement(_all)
_next_page: Final = Statement(_all.where(connection.c.name > given("after")))
_get: Final = Statement(
    select(connection).where(or_(connection.c.name == given("key"), connection.c.arn == given("key")))
)
_new: Final = insert(connection).values({column.name: given(column.name) for column in connection.c})
_put: Final = Statement(
    _new.on_conflict_do_update(
        index_elements=[connection.c.name],
        set_={name: _new.excluded[name] for name in ("arn", "auth", "settings", "secret")},
    )
)
_delete: Final = Statement(delete(connection).where(connection.c.name == given("of")).returning(connection.c.name))


def _record(row: Row) -> ConnectionRecord:
    return ConnectionRecord(row["arn"], row["name"], row["auth"], row["settings"], row["secret"], row["created_at"])


class PostgresConnections:
    """`ConnectionStore`. A connection that is put again keeps its creation date."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def put(self, record: ConnectionRecord) -> None:
        await _put.rows(
            self._pool,
            name=record.name,
            arn=record.arn,
            auth=record.auth,
            settings=record.settings,
            secret=record.secret,
            created_at=record.created_at,
        )

    async def get(self, name_or_arn: str) -> ConnectionRecord | None:
        row = await _get.row(self._pool, key=name_or_arn)
        return None if row is None else _record(row)

    async def list(self, limit: int, after: str | None) -> Page[ConnectionRecord]:
        if after is None:
            rows = await _first_page.rows(self._pool, limit=limit + 1)
        else:
            (name,) = read_position(_SCOPE, after, (str,))
            rows = await _next_page.rows(self._pool, limit=limit + 1, after=name)
        return page_of(rows, limit, _record, lambda row: make_position(_SCOPE, row["name"]))

    async def delete(self, name: str) -> bool:
        return await _delete.happened(self._pool, of=name)
