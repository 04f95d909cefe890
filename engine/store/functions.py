"""The function registry in Postgres: `ports.FunctionStore`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from stepwell.engine.ports import FunctionKind, FunctionRecord, Page
from stepwell.engine.store.pages import make_position, page_of, read_position
from stepwell.engine.store.statements import Pool, Row, Statement, given
from stepwell.engine.store.tables import function

_SCOPE: Final = "functions"
_all: Final = select(function).order_by(function.c.name).limit(given("limit"))
_first_page: Final = Statement(_all)
_next_page: Final = Statement(_all.where(function.c.name > given("after")))
_get: Final = Statement(select(function).where(function.c.name == given("name")))
_new: Final = insert(function).values({column.name: given(column.name) for column in function.c})
_put: Final = Statement(
    _new.on_conflict_do_update(
        index_elements=[function.c.name],
        set_={name: _new.excluded[name] for name in ("kind", "target", "options")},
    )
)
_delete: Final = Statement(delete(function).where(function.c.name == given("of")).returning(function.c.name))


def _record(row: Row) -> FunctionRecord:
    return FunctionRecord(row["name"], FunctionKind(row["kind"]), row["target"], row["created_at"], row["options"])


class PostgresFunctions:
    """`FunctionStore`. A function that is put again keeps its creation date."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def put(self, record: FunctionRecord) -> None:
        await _put.rows(
            self._pool,
            name=record.name,
            kind=record.kind.value,
            target=record.target,
            options=record.options,
            created_at=record.created_at,
        )

    async def get(self, name: str) -> FunctionRecord | None:
        row = await _get.row(self._pool, name=name)
        return None if row is None else _record(row)

    async def list(self, limit: int, after: str | None) -> Page[FunctionRecord]:
        if after is None:
            rows = await _first_page.rows(self._pool, limit=limit + 1)
        else:
            (name,) = read_position(_SCOPE, after, (str,))
            rows = await _next_page.rows(self._pool, limit=limit + 1, after=name)
        return page_of(rows, limit, _record, lambda row: make_position(_SCOPE, row["name"]))

    async def delete(self, name: str) -> bool:
        return await _delete.happened(self._pool, of=name)
