"""The contract of `DeadLetterStore`."""

from __future__ import annotations

import pytest

from stepwell.engine.errors import InvalidPageTokenError
from stepwell.engine.ports import DeadLetterFilter, DeadLetterStatus
from tests.store.conftest import Stores
from tests.store.test_executions import begun
from tests.support.local_machine import START, info_of
from tests.support.stored import FAIL, PASS, StoredRun, machine_record


async def failed(stores: Stores) -> list[int]:
    """Four dead letters, the two in the middle of the same moment; their ids, newest first."""
    for number, (machine, error, at) in enumerate(
        [("A", "Oops", 1), ("A", "Other", 2), ("B", "Oops", 2), ("A", None, 3)]
    ):
        stores.clock.now = START + at
        definition = {"StartAt": f"S{number}", "States": {f"S{number}": {"Type": "Fail", "Error": error, "Cause": "c"}}}
        if error is None:
            definition = {"StartAt": "S3", "States": {"S3": {"Type": "Fail", "Error": "x" * 256}}}
        run = StoredRun(definition, f'{{"n":{number}}}', info=info_of(machine, f"run-{number}"))
        await begun(stores, run.run())
    stores.clock.now = START + 9
    page = await stores.dead_letters.list(DeadLetterFilter(), 10, None)
    assert page.next is None
    return [letter.id for letter in page.items]


async def ids(stores: Stores, where: DeadLetterFilter) -> list[int]:
    found: list[int] = []
    after = None
    while True:
        page = await stores.dead_letters.list(where, 1, after)
        found += [letter.id for letter in page.items]
        after = page.next
        if after is None:
            return found


async def test_a_run_that_failed_leaves_a_letter(stores: Stores) -> None:
    run = await begun(stores, StoredRun(FAIL, '{"n":1}').run())
    await begun(stores, StoredRun(PASS, info=info_of(name="well")).run())
    (letter,) = (await stores.dead_letters.list(DeadLetterFilter(), 10, None)).items
    assert (letter.kind, letter.execution, letter.execution_arn) == ("execution", run.id, run.info.arn)
    assert (letter.machine_arn, letter.machine_name, letter.state) == (machine_record().arn, "Machine", "Stop")
    assert (letter.error, letter.cause, letter.at, letter.status) == ("Oops", "because", START, DeadLetterStatus.OPEN)
    assert letter.input is None
    one = await stores.dead_letters.get(letter.id)
    assert one is not None and one.input is not None and one.input.value == {"n": 1}
    assert await stores.dead_letters.get(letter.id + 1) is None


async def test_listing_and_its_filters(stores: Stores) -> None:
    d, c, b, a = await failed(stores)
    assert a < b < c < d
    assert await ids(stores, DeadLetterFilter()) == [d, c, b, a]
    assert await ids(stores, DeadLetterFilter(machine_arn=machine_record("A").arn)) == [d, b, a]
    assert await ids(stores, DeadLetterFilter(error="Oops")) == [c, a]
    assert await ids(stores, DeadLetterFilter(error="x" * 256)) == [d]
    assert await ids(stores, DeadLetterFilter(error="x" * 255)) == []
    assert await ids(stores, DeadLetterFilter(state="S1")) == [b]
    assert await ids(stores, DeadLetterFilter(after=START + 2, before=START + 3)) == [c, b]
    assert await ids(stores, DeadLetterFilter(machine_arn="other")) == []
    page = await stores.dead_letters.list(DeadLetterFilter(), 1, None)
    with pytest.raises(InvalidPageTokenError):
        await stores.dead_letters.list(DeadLetterFilter(status=None), 1, page.next)


async def test_only_an_open_one_can_be_closed(stores: Stores) -> None:
    d, c, b, a = await failed(stores)
    assert await stores.dead_letters.close(c, DeadLetterStatus.DISCARDED, START + 5)
    assert not await stores.dead_letters.close(c, DeadLetterStatus.REDRIVEN, START + 6)
    assert not await stores.dead_letters.close(d + 1, DeadLetterStatus.REDRIVEN, START + 6)
    letter = await stores.dead_letters.get(c)
    assert letter is not None and (letter.status, letter.closed_at) == (DeadLetterStatus.DISCARDED, START + 5)
    assert await ids(stores, DeadLetterFilter()) == [d, b, a]
    assert await ids(stores, DeadLetterFilter(status=DeadLetterStatus.DISCARDED)) == [c]
    assert await ids(stores, DeadLetterFilter(status=None)) == [d, c, b, a]
