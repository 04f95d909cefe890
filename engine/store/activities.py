"""Activities in Postgres: `ports.ActivityStore`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Text, delete, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from stepwell.engine.ports import ActivityRecord, Page
from stepwell.engine.store.pages import make_position, page_of, read_position
from stepwell.engine.store.statements import Pool, Row, Statement, given
from stepwell.engine.store.tables import activity

_SCOPE: Final = "activities"
_all: Final = select(activity).order_by(activity.c.created_at, activity.c.arn).limit(given("limit"))
_first_page: Final = Statement(_all)
_next_page: Final = Statement(
    _all.where(tuple_(activity.c.created_at, activity.c.arn) > tuple_(given("at", BigInteger), given("arn", Text)))
)
_get: Final = Statement(select(activity).where(activity.c.arn == given("arn")))
_create: Final = Statement(
    insert(activity)
    .values(arn=given("arn"), name=given("name"), created_at=given("created_at"))
    .on_conflict_do_update(
        index_elements=[activity.c.arn], set_={"arn": activity.c.arn}
    )  # so that the old row is returned
    .returning(activity)
)
_delete: Final = Statement(delete(activity).where(activity.c.arn == given("arn")).returning(activity.c.arn))


def _record(row: Row) -> ActivityRecord:
    return ActivityRecord(row["arn"], row["name"], row["created_at"])


class PostgresActivities:
    """`ActivityStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(self, record: ActivityRecord) -> ActivityRecord:
        row = await _create.row(self._pool, arn=record.arn, name=record.name, created_at=record.created_at)
        assert row is not None
        return _record(row)

    async def get(self, arn: str) -> ActivityRecord | None:
        row = await _get.row(self._pool, arn=arn)
        return None if row is None else _record(row)

    async def list(self, limit: int, after: str | None) -> Page[ActivityRecord]:
        if after is None:
            rows = await _first_page.rows(self._pool, limit=limit + 1)
        else:
            at, arn = read_position(_SCOPE, after, (int, str))
            rows = await _next_page.rows(self._pool, limit=limit + 1, at=at, arn=arn)
        return page_of(rows, limit, _record, lambda row: make_position(_SCOPE, row["created_at"], row["arn"]))

    async def delete(self, arn: str) -> bool:
        return await _delete.happened(self._pool, arn=arn)
