"""What a tested state computes: beside the event loop, each heavy expression once, and not for ever."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from stepwell.engine.asl.parse import parse_state
from stepwell.engine.clock import Entropy
from stepwell.engine.jsontypes import Document, Json
from stepwell.engine.machine.map_run import SourceItem
from stepwell.engine.machine.map_spec import ReaderSpec
from stepwell.engine.machine.single_state import Ending, Given, Mocked, ReadItems, StateTest
from stepwell.engine.ports import Evaluate, evaluate_here
from stepwell.engine.query.jsonata import Evaluation, Outcome
from stepwell.engine.service.computing import THREADS, Computed, Computing
from stepwell.engine.service.refusals import ServiceError
from tests.support.local_machine import START, info_of

TRANSFORM = "{% $states.context.Map.Item.Value ~> |$|{'a': 1}| %}"
"""Is never evaluated in the engine's own process."""
DISTRIBUTED = {
    "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
    "StartAt": "I",
    "States": {"I": {"Type": "Pass", "End": True}},
}
HEAVY: dict[str, Any] = {
    "Type": "Map",
    "QueryLanguage": "JSONata",
    "Items": [{"b": 1}, {"b": 2}, {"b": 3}],
    "ItemSelector": {"v": TRANSFORM},
    "ItemProcessor": DISTRIBUTED,
    "End": True,
}
READING: dict[str, Any] = {
    "Type": "Map",
    "ItemReader": {"Resource": "arn:aws:states:::s3:getObject", "Parameters": {"Bucket": "b", "Key": "k"}},
    "ItemSelector": {"v.$": "$$.Map.Item.Value"},
    "ItemProcessor": DISTRIBUTED,
    "End": True,
}


def computed(
    computing: Computing, definition: dict[str, Any], read: ReadItems | None = None, input: Json = None
) -> Computed:
    state, given = parse_state(json.dumps(definition), "S"), Given(input=Document.of(input), read=read)
    return computing.of(
        lambda heavy, pause: StateTest(state, given, info_of(), now=START, entropy=Entropy(1), heavy=heavy, pause=pause)
    )


def begin(test: StateTest) -> None:
    test.begin(Mocked(Document.of([])))


def counting(evaluate: Evaluate, asked: list[Evaluation]) -> Evaluate:
    async def counted(evaluation: Evaluation) -> Outcome:
        asked.append(evaluation)
        return await evaluate(evaluation)

    return counted


async def test_heavy_expressions_of_the_items_of_a_map_run_are_carried_out_once_each() -> None:
    asked: list[Evaluation] = []
    one = computed(Computing(counting(evaluate_here, asked)), HEAVY)
    for _ in range(2):
        outcome = (await one.after([begin])).outcome()
        assert outcome.status is Ending.SUCCEEDED
        shown = next(value.value for arrow, value in outcome.values.items() if arrow.value == "afterItemSelector")
        assert shown == [{"v": {"b": n, "a": 1}} for n in (1, 2, 3)]
    assert len(asked) == 3


async def test_items_without_end_are_given_up() -> None:
    ended = threading.Event()

    def endless(reader: ReaderSpec) -> Iterator[SourceItem]:
        try:
            while True:
                yield SourceItem(b"1")
        finally:
            ended.set()

    with pytest.raises(ServiceError, match=r"takes longer than 0\.1 s"):
        await computed(Computing(evaluate_here, 0.1), READING, endless).after([begin])
    assert await asyncio.to_thread(ended.wait, 60)


async def test_expressions_that_nobody_evaluates_are_given_up_and_their_threads_are_free_again() -> None:
    never = asyncio.Event()

    async def stuck(evaluation: Evaluation) -> Outcome:
        if not never.is_set():
            await never.wait()
        return await evaluate_here(evaluation)

    computing = Computing(stuck, 0.1)
    for _ in range(THREADS):
        with pytest.raises(ServiceError):
            await computed(computing, HEAVY).after([begin])
    never.set()
    computing._seconds = 60
    assert (await computed(computing, HEAVY).after([begin])).outcome().status is Ending.SUCCEEDED


async def test_a_test_that_is_no_longer_wanted_ends() -> None:
    reading, ended = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def endless(reader: ReaderSpec) -> Iterator[SourceItem]:
        loop.call_soon_threadsafe(reading.set)
        try:
            while True:
                yield SourceItem(b"1")
        finally:
            ended.set()

    test = asyncio.create_task(computed(Computing(evaluate_here), READING, endless).after([begin]))
    await reading.wait()
    test.cancel()
    with pytest.raises(asyncio.CancelledError):
        await test
    assert await asyncio.to_thread(ended.wait, 60)


async def test_the_items_of_a_map_are_not_of_one_state_when_its_steps_are_counted() -> None:
    """Each reads some 60,000 nodes; together they read more than one state may."""
    reads = {f"{name}.$": f"$..{name}" for name in "abc"}
    definition = {
        "Type": "Map",
        "ItemsPath": "$.items",
        "ItemSelector": reads,
        "ItemProcessor": {"StartAt": "I", "States": {"I": {"Type": "Pass", "End": True}}},
        "End": True,
    }
    input: Json = {"items": [1] * 60, "rows": [[0] * 100] * 200}
    test = await computed(Computing(evaluate_here), definition, input=input).after([begin])
    assert test.outcome().status is Ending.SUCCEEDED, test.outcome().cause
