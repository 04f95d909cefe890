"""Distributed Maps of the random machines: where items come from, what a child execution gets, how many run and fail, where results go.

A child execution has an input of its own and sees no variable of its parent. So that its states find what they read, most are
given the members of the parent's input beside their item, and set the same variables first.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from tests.properties.chance import Chance
from tests.properties.fields import INPUT, JsonPathFields, State
from tests.properties.jsonata_fields import JsonataFields

Fields: TypeAlias = JsonPathFields | JsonataFields

BUCKET, BROKEN_BUCKET = "results", "broken"
OBJECTS: dict[str, list[Any]] = {
    "none.json": [],
    "few.json": [1, {"k": 2}],
    "inputs.json": [INPUT, {**INPUT, "n": 3}, "stray"],
    "many.json": list(range(25)),
}
"""What can be read from the bucket; more than a page of it in one case. Anything else is not there."""


def distribute(chance: Chance, own: str, state: State, processor: State, fields: Fields) -> None:
    """Make a Map, so far without anything of its own, a distributed one whose children run the processor."""
    processor["ProcessorConfig"] = {"Mode": "DISTRIBUTED"}
    if chance.often(50):
        processor["ProcessorConfig"]["ExecutionType"] = "STANDARD"
    if chance.often(50):
        state["Label"] = f"L{own}"
    reads = chance.often(12)
    if reads:
        _reader(chance, state, fields)
    else:
        fields.distributed_items(state)
    batched = chance.often(25)
    if batched:
        _batches(chance, state, fields)
        processor["States"] = _within_batches(processor["States"])
    if chance.often(30 if batched else 92):
        given = {} if batched else _members(fields)
        state["ItemSelector"] = {**given, **fields.item()}
    state["ItemProcessor"] = processor
    if chance.often(60):
        fields.number(state, "MaxConcurrency", 3)
    if chance.often(45):
        fields.number(state, "ToleratedFailureCount", 3)
    if chance.often(25):
        fields.number(state, "ToleratedFailurePercentage", 100)
    if chance.often(25):
        _writer(chance, state, fields)


def _reader(chance: Chance, state: State, fields: Fields) -> None:
    keys = {"few.json": 30, "inputs.json": 40, "none.json": 8, "many.json": 8, "absent.json": 14}
    state["ItemReader"] = {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": {"InputType": "JSON", **({"MaxItems": 2} if chance.often(25) else {})},
        fields.parameters: {"Bucket": BUCKET, "Key": chance.weighted(keys)},
    }


def _batches(chance: Chance, state: State, fields: Fields) -> None:
    batcher = state["ItemBatcher"] = {"BatchInput": _members(fields)}
    by_bytes = chance.often(40)
    if by_bytes:
        batcher["MaxInputBytesPerBatch"] = chance.weighted({350: 40, 700: 35, 262_144: 20, 100: 5})
    if not by_bytes or chance.often(50):
        batcher["MaxItemsPerBatch"] = chance.whole(1, 3)


def _writer(chance: Chance, state: State, fields: Fields) -> None:
    writer: State = {}
    if chance.often(70):
        writer["Resource"] = "arn:aws:states:::s3:putObject"
        bucket = BROKEN_BUCKET if chance.often(30) else BUCKET
        writer[fields.parameters] = {"Bucket": bucket, "Prefix": "out"}
    if not writer or chance.often(50):
        output, transformation = chance.pick(("JSON", "JSONL")), chance.pick(("NONE", "COMPACT", "FLATTEN"))
        writer["WriterConfig"] = {"OutputType": output, "Transformation": transformation}
    state["ResultWriter"] = writer


def _members(fields: Fields) -> State:
    """The members of the execution's input, one by one."""
    return dict(fields.read(name, f"Execution.Input.{name}") for name in INPUT)


def _within_batches(states: Any) -> Any:
    """The same states, which find what stands in the input of others in that of their batch. Those of child executions that they
    start themselves have an input of their own."""
    if isinstance(states, dict):
        if states.get("ProcessorConfig", {}).get("Mode") == "DISTRIBUTED":
            return states
        return {name: _within_batches(value) for name, value in states.items()}
    if isinstance(states, list):
        return [_within_batches(value) for value in states]
    if isinstance(states, str):
        return states.replace("Execution.Input", "Execution.Input.BatchInput")
    return states
