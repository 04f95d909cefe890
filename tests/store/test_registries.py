"""The contracts of the registries: activities, functions, connections and API keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from stepwell.engine.errors import InvalidPageTokenError
from stepwell.engine.ports import ActivityRecord, ApiKeyRecord, ConnectionRecord, FunctionKind, FunctionRecord, Page
from tests.store.conftest import Stores


async def all_of(listing: Callable[[int, str | None], Awaitable[Page[Any]]]) -> list[Any]:
    found: list[Any] = []
    after = None
    while True:
        page = await listing(2, after)
        found += page.items
        after = page.next
        if after is None:
            return found
        with pytest.raises(InvalidPageTokenError):
            await listing(2, after[:-2] + "xx")


async def test_an_activity_is_created_once(stores: Stores) -> None:
    record = ActivityRecord("arn:a", "a", 10)
    assert await stores.activities.create(record) == record
    assert await stores.activities.create(replace(record, created_at=99)) == record
    assert await stores.activities.get("arn:a") == record
    assert await stores.activities.get("arn:b") is None
    assert await stores.activities.delete("arn:a")
    assert not await stores.activities.delete("arn:a")
    assert await stores.activities.get("arn:a") is None


async def test_activities_are_listed_by_creation(stores: Stores) -> None:
    records = [
        ActivityRecord(f"arn:{name}", name, at) for name, at in (("é", 2), ("Z", 2), ("a", 2), ("b", 1), ("c", 3))
    ]
    for record in records:
        await stores.activities.create(record)
    assert [one.name for one in await all_of(stores.activities.list)] == ["b", "Z", "a", "é", "c"]


async def test_a_function_can_be_put_again(stores: Stores) -> None:
    record = FunctionRecord("f", FunctionKind.PYTHON, "module:f", 10, '{"timeout":3}')
    await stores.functions.put(record)
    assert await stores.functions.get("f") == record
    await stores.functions.put(FunctionRecord("f", FunctionKind.HTTP, "http://x", 99))
    assert await stores.functions.get("f") == FunctionRecord("f", FunctionKind.HTTP, "http://x", 10, "{}")
    assert await stores.functions.get("F") is None
    assert await stores.functions.delete("f")
    assert not await stores.functions.delete("f")
    assert await all_of(stores.functions.list) == []


async def test_functions_are_listed_by_name(stores: Stores) -> None:
    for name in ("b", "_", "a-1", "a", "B"):
        await stores.functions.put(FunctionRecord(name, FunctionKind.CELERY, "t"))
    assert [one.name for one in await all_of(stores.functions.list)] == ["B", "_", "a", "a-1", "b"]


async def test_a_connection_is_found_by_name_and_arn(stores: Stores) -> None:
    record = ConnectionRecord("arn:c", "c", "API_KEY", '{"header":"X"}', b"\x00sealed", 10)
    await stores.connections.put(record)
    assert await stores.connections.get("c") == record == await stores.connections.get("arn:c")
    assert "sealed" not in repr(record)
    changed = replace(record, arn="arn:c2", auth="BASIC", settings="{}", secret=b"new", created_at=99)
    await stores.connections.put(changed)
    assert await stores.connections.get("arn:c2") == replace(changed, created_at=10)
    assert await stores.connections.get("arn:c") is None
    await stores.connections.put(replace(record, name="B", arn="arn:B"))
    await stores.connections.put(replace(record, name="d", arn="arn:d"))
    assert [one.name for one in await all_of(stores.connections.list)] == ["B", "c", "d"]
    assert await stores.connections.delete("c")
    assert not await stores.connections.delete("c")
    assert await stores.connections.get("c") is None


async def test_api_keys(stores: Stores) -> None:
    bearer = ApiKeyRecord("k1", "ci", hash=b"h" * 32, created_at=2)
    pair = ApiKeyRecord("AKIA1", "sdk", secret=b"sealed", created_at=1)
    await stores.api_keys.put(bearer)
    await stores.api_keys.put(pair)
    assert await stores.api_keys.by_hash(b"h" * 32) == bearer
    assert await stores.api_keys.by_hash(b"") is None
    assert await stores.api_keys.by_hash(b"x" * 32) is None
    assert await stores.api_keys.by_id("AKIA1") == pair
    assert await stores.api_keys.by_id("akia1") is None
    assert list(await stores.api_keys.list()) == [pair, bearer]
    assert await stores.api_keys.delete("k1")
    assert not await stores.api_keys.delete("k1")
    assert list(await stores.api_keys.list()) == [pair]
