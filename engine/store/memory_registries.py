"""The registries in memory: activities, functions, connections and API keys, filled from `memory.MemoryDatabase`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stepwell.engine.ports import ActivityRecord, ApiKeyRecord, ConnectionRecord, FunctionRecord, Page
from stepwell.engine.store.memory import MemoryDatabase, page


class MemoryActivities:
    """`ActivityStore`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._rows = database.activities

    async def create(self, record: ActivityRecord) -> ActivityRecord:
        return self._rows.setdefault(record.arn, record)

    async def get(self, arn: str) -> ActivityRecord | None:
        return self._rows.get(arn)

    async def list(self, limit: int, after: str | None) -> Page[ActivityRecord]:
        return page(self._rows.values(), lambda one: (one.created_at, one.arn), "activities", limit, after)

    async def delete(self, arn: str) -> bool:
        return self._rows.pop(arn, None) is not None


class MemoryFunctions:
    """`FunctionStore`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._rows = database.functions

    async def put(self, record: FunctionRecord) -> None:
        old = self._rows.get(record.name, record)
        self._rows[record.name] = replace(record, created_at=old.created_at)

    async def get(self, name: str) -> FunctionRecord | None:
        return self._rows.get(name)

    async def list(self, limit: int, after: str | None) -> Page[FunctionRecord]:
        return page(self._rows.values(), lambda one: (one.name,), "functions", limit, after)

    async def delete(self, name: str) -> bool:
        return self._rows.pop(name, None) is not None


class MemoryConnections:
    """`ConnectionStore`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._rows = database.connections

    async def put(self, record: ConnectionRecord) -> None:
        old = self._rows.get(record.name, record)
        self._rows[record.name] = replace(record, created_at=old.created_at)

    async def get(self, name_or_arn: str) -> ConnectionRecord | None:
        return next((one for one in self._rows.values() if name_or_arn in (one.name, one.arn)), None)

    async def list(self, limit: int, after: str | None) -> Page[ConnectionRecord]:
        return page(self._rows.values(), lambda one: (one.name,), "connections", limit, after)

    async def delete(self, name: str) -> bool:
        return self._rows.pop(name, None) is not None


class MemoryApiKeys:
    """`ApiKeyStore`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._rows = database.api_keys

    async def put(self, record: ApiKeyRecord) -> None:
        old = self._rows.get(record.id, record)
        self._rows[record.id] = replace(record, created_at=old.created_at)

    async def by_hash(self, hash: bytes) -> ApiKeyRecord | None:
        return next((one for one in self._rows.values() if one.hash and one.hash == hash), None)

    async def by_id(self, id: str) -> ApiKeyRecord | None:
        return self._rows.get(id)

    async def list(self) -> Sequence[ApiKeyRecord]:
        return sorted(self._rows.values(), key=lambda one: (one.created_at, one.id))

    async def delete(self, id: str) -> bool:
        return self._rows.pop(id, None) is not None
