"""The contract of `MachineStore`."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from stepwell.engine.errors import InvalidPageTokenError
from tests.store.conftest import Stores
from tests.support.local_machine import START
from tests.support.stored import machine_record

NOTHING = {"definition": None, "role_arn": None, "logging": None, "tracing": None, "encryption": None}


async def test_what_is_created_is_read_back(stores: Stores) -> None:
    record = machine_record(logging='{"level":"ALL"}', description="é", definition='{"StartAt":"é"}', revision_id="r1")
    made = await stores.machines.create(record)
    assert made is not None and made.key > 0
    assert made == replace(record, key=made.key)
    assert await stores.machines.get(record.arn) == made
    assert await stores.machines.get(record.arn + "x") is None


async def test_an_arn_is_taken_until_its_machine_is_deleted(stores: Stores) -> None:
    record = machine_record()
    first = await stores.machines.create(record)
    assert first is not None
    assert await stores.machines.create(record) is None
    assert await stores.machines.delete(record.arn)
    assert not await stores.machines.delete(record.arn)
    assert await stores.machines.get(record.arn) is None
    second = await stores.machines.create(record)
    assert second is not None and second.key != first.key
    revision = await stores.machines.revision(first.key, 1)
    assert revision is not None and revision.definition == record.definition  # executions of the deleted one go on


async def test_an_update_makes_a_revision_and_keeps_what_it_does_not_name(stores: Stores) -> None:
    made = await stores.machines.create(machine_record(definition="one", logging="log"))
    assert made is not None
    updated = await stores.machines.update(
        made.arn, **{**NOTHING, "definition": "two", "tracing": "trace"}, revision_id="r2", now=START + 5
    )
    assert updated == replace(
        made, definition="two", tracing="trace", revision=2, revision_id="r2", updated_at=START + 5
    )
    again = await stores.machines.update(made.arn, **{**NOTHING, "role_arn": "role"}, revision_id="r3", now=START + 6)
    assert again is not None and (again.definition, again.role_arn, again.revision) == ("two", "role", 3)
    old, new = await stores.machines.revision(made.key, 1), await stores.machines.revision(made.key, 2)
    assert old is not None and new is not None
    assert (old.definition, new.definition, new.revision_id) == ("one", "two", "r2")
    assert await stores.machines.revision(made.key, 4) is None
    assert await stores.machines.update("other", **NOTHING, revision_id="r", now=START) is None


async def test_concurrent_updates_each_make_a_revision(stores: Stores) -> None:
    made = await stores.machines.create(machine_record())
    assert made is not None
    await asyncio.gather(
        *(
            stores.machines.update(made.arn, **{**NOTHING, "definition": f"d{n}"}, revision_id=f"r{n}", now=START)
            for n in range(10)
        )
    )
    newest = await stores.machines.get(made.arn)
    assert newest is not None and newest.revision == 11
    revisions = [await stores.machines.revision(made.key, n) for n in range(1, 12)]
    assert {revision.definition for revision in revisions if revision} == {"{}", *(f"d{n}" for n in range(10))}


async def test_a_bare_name_means_the_one_at_home_else_the_only_one(stores: Stores) -> None:
    elsewhere = machine_record(arn="arn:aws:states:eu-west-1:000000000000:stateMachine:Machine")
    await stores.machines.create(elsewhere)
    found = await stores.machines.by_name("Machine")
    assert found is not None and found.arn == elsewhere.arn
    third = machine_record(arn="arn:aws:states:eu-west-1:111111111111:stateMachine:Machine")
    await stores.machines.create(third)
    assert await stores.machines.by_name("Machine") is None
    home = machine_record()
    await stores.machines.create(home)
    found = await stores.machines.by_name("Machine")
    assert found is not None and found.arn == home.arn
    assert await stores.machines.by_name("machine") is None


async def test_listing_goes_by_creation_date_page_by_page(stores: Stores) -> None:
    for number, created in enumerate((3, 1, 2, 2, 1)):
        await stores.machines.create(machine_record(f"m{number}", created_at=START + created))
    await stores.machines.delete(machine_record("m2").arn)
    names, after = [], None
    for _ in range(10):
        page = await stores.machines.list(2, after)
        names.append([record.name for record in page.items])
        after = page.next
        if after is None:
            break
    assert names == [["m1", "m4"], ["m3", "m0"]]


@pytest.mark.parametrize("token", ("", "x", "é", "AAAAAAAAAAAA", "WzEsMl0="))
async def test_a_position_that_was_not_given_out_is_refused(stores: Stores, token: str) -> None:
    await stores.machines.create(machine_record())
    with pytest.raises(InvalidPageTokenError):
        await stores.machines.list(2, token)
