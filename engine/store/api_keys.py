"""API keys in Postgres: `ports.ApiKeyStore`. A bearer key is kept as its hash alone, a SigV4 secret comes and goes sealed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from stepwell.engine.ports import ApiKeyRecord
from stepwell.engine.store.statements import Pool, Row, Statement, given
from stepwell.engine.store.tables import api_key

_all: Final = Statement(select(api_key).order_by(api_key.c.created_at, api_key.c.id))
_by_id: Final = Statement(select(api_key).where(api_key.c.id == given("id")))
_by_hash: Final = Statement(select(api_key).where(api_key.c.hash == given("hash")))
_new: Final = insert(api_key).values({column.name: given(column.name) for column in api_key.c})
_put: Final = Statement(
    _new.on_conflict_do_update(
        index_elements=[api_key.c.id], set_={name: _new.excluded[name] for name in ("name", "hash", "secret")}
    )
)
_delete: Final = Statement(delete(api_key).where(api_key.c.id == given("of")).returning(api_key.c.id))


def _record(row: Row) -> ApiKeyRecord:
    return ApiKeyRecord(row["id"], row["name"], row["hash"] or b"", row["secret"] or b"", row["created_at"])


class PostgresApiKeys:
    """`ApiKeyStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def put(self, record: ApiKeyRecord) -> None:
        await _put.rows(
            self._pool,
            id=record.id,
            name=record.name,
            hash=record.hash or None,
            secret=record.secret or None,
            created_at=record.created_at,
        )

    async def by_hash(self, hash: bytes) -> ApiKeyRecord | None:
        row = await _by_hash.row(self._pool, hash=hash)
        return None if row is None else _record(row)

    async def by_id(self, id: str) -> ApiKeyRecord | None:
        row = await _by_id.row(self._pool, id=id)
        return None if row is None else _record(row)

    async def list(self) -> Sequence[ApiKeyRecord]:
        return [_record(row) for row in await _all.rows(self._pool)]

    async def delete(self, id: str) -> bool:
        return await _delete.happened(self._pool, of=id)
