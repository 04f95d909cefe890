"""Map, distributed: hands its items to a Map Run, whose child executions have histories of their own, and takes the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from stepwell.engine import ids
from stepwell.engine.asl.states import FieldValue, ItemBatcher, ItemReader, MapState, ResultWriter
from stepwell.engine.jsontypes import Document, Json, write, write_text
from stepwell.engine.limits import MAX_BATCH_INPUT_BYTES, MAX_READER_ITEMS
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import StartMapRun
from stepwell.engine.machine.dataflow import (
    any_integer,
    field_error,
    field_scope,
    field_value,
    finish_state,
    is_jsonata_state,
    max_concurrency,
    state_input,
    tolerated_percentage,
)
from stepwell.engine.machine.failure import details_of, fail, guarded
from stepwell.engine.machine.map_run import default_label
from stepwell.engine.machine.map_spec import ABSENT, BatchSpec, MapRunSpec, ReaderSpec, WriterSpec
from stepwell.engine.machine.run import Run
from stepwell.engine.machine.snapshot import Frame, OpenMapRun, Phase
from stepwell.engine.query.failures import evaluation_gave_other, query_error
from stepwell.engine.states_errors import ErrorName

RENEWED: Final = frozenset({ErrorName.DATA_LIMIT_EXCEEDED.value, ErrorName.RUNTIME.value})
"""Errors after which a redrive begins a whole new Map Run."""


def run_distributed_map(run: Run, frame: Frame, state: MapState, array: Callable[[], Json]) -> None:
    """Run the body of a Distributed Map: ask for a Map Run. `array` finds the items in JSONPath, as for any Map."""
    limit = max_concurrency(run, frame, state.max_concurrency)
    items = _items(run, frame, state, array) if state.item_reader is None else None
    run.emit_next(frame, "MapStateStarted", {"length": len(items) if isinstance(items, list | dict) else 0})
    count = _number(run, frame, state.tolerated_failure_count)
    if count is not None and count < 0 and state.tolerated_failure_count is not None:
        raise field_error(frame, state.tolerated_failure_count, "ToleratedFailureCount cannot be negative.")
    percentage = None
    if state.tolerated_failure_percentage is not None:
        percentage = tolerated_percentage(run, frame, state.tolerated_failure_percentage)
    info = run.state.info
    number = run.state.next_task
    label = state.label or default_label(info.machine_arn, state.name)
    arn = ids.map_run_arn(info.machine_arn, label, run.entropy.uuid4())
    spec = MapRunSpec(
        state=state.name,
        label=label,
        arn=arn,
        parent_arn=info.arn,
        max_concurrency=limit,
        tolerated_count=count,
        tolerated_percentage=percentage,
        items=msgspec.Raw(write(items)) if state.item_reader is None else ABSENT,
        reader=_reader(run, frame, state.item_reader),
        batch=_batch(run, frame, state.item_batcher),
        writer=_writer(run, frame, state.result_writer),
        execution_type=state.item_processor.execution_type or "STANDARD",
    )
    if state.item_selector is not None:
        spec = msgspec.structs.replace(
            spec,
            input=msgspec.Raw(state_input(run, frame).text),
            context=msgspec.Raw(write(run.context(frame))),
            variables=msgspec.Raw(write(dict(frame.visible))) if frame.visible else ABSENT,
        )
    run.state.next_task = number + 1
    run.emit_next(frame, "MapRunStarted", {"mapRunArn": arn})
    frame.map_run = OpenMapRun(number, ids.execution_id(arn), arn)
    frame.phase = Phase.MAP_RUN
    run.state.map_runs[number] = frame
    run.touch(frame)
    run.commands.append(StartMapRun(number, frame.map_run.id, spec))


def map_run_finished(run: Run, frame: Frame, event: events.MapRunFinished) -> None:
    """The Map Run has ended: hand its result on, or fail."""
    open = frame.map_run
    if open is None or frame.phase is not Phase.MAP_RUN or open.redrives != event.redrives:
        return
    run.state.map_runs.pop(open.number, None)
    if event.error is not None:
        details = details_of(event.error, event.cause)
        run.emit_next(frame, "MapRunFailed", details)
        open.renew = event.error in RENEWED
        frame.phase = Phase.FAILED
        run.touch(frame)
        fail(run, frame, details.get("error"), details.get("cause"))
        return
    run.emit_next(frame, "MapRunSucceeded")
    run.emit("MapStateSucceeded", frame.last_event)
    frame.map_run = None
    result = Document.trusted(bytes(event.output))
    guarded(run, frame, lambda: finish_state(run, frame, result, frame.current.next))


def _items(run: Run, frame: Frame, state: MapState, array: Callable[[], Json]) -> Json:
    """What the Map Run runs over: an array; in JSONata an object, too, whose members are the items."""
    if not is_jsonata_state(frame):
        return array()
    value = frame.data.value if state.items is None else field_value(run, frame, state.items)
    if isinstance(value, list | dict):
        return value
    if state.items is None:
        raise query_error(f"Map state input must be an array but was: {write_text(value)}", None)
    raise evaluation_gave_other(state.items.text or "", state.items.field, "array", value)


def _reader(run: Run, frame: Frame, reader: ItemReader | None) -> ReaderSpec | None:
    if reader is None:
        return None
    config = _config(run, frame, reader.config)
    if "MaxItems" in reader.config:
        config["MaxItems"] = min(_number(run, frame, reader.config["MaxItems"]) or 0, MAX_READER_ITEMS)
    return ReaderSpec(reader.action, _arguments(run, frame, reader), config)


def _batch(run: Run, frame: Frame, batcher: ItemBatcher | None) -> BatchSpec | None:
    if batcher is None:
        return None
    items = _at_least_one(run, frame, batcher.max_items) or 0
    bytes = _at_least_one(run, frame, batcher.max_bytes) or MAX_BATCH_INPUT_BYTES
    input = ABSENT
    if batcher.batch_input is not None:
        input = msgspec.Raw(batcher.batch_input.document(field_scope(run, frame)).text)
    return BatchSpec(items, min(bytes, MAX_BATCH_INPUT_BYTES), input)


def _writer(run: Run, frame: Frame, writer: ResultWriter | None) -> WriterSpec | None:
    if writer is None:
        return None
    arguments = _arguments(run, frame, writer) if writer.action is not None else {}
    return WriterSpec(writer.action, arguments, _config(run, frame, writer.config))


def _arguments(run: Run, frame: Frame, part: ItemReader | ResultWriter) -> dict[str, Json]:
    value = part.parameters(field_scope(run, frame)) if part.parameters is not None else None
    return dict(value) if isinstance(value, dict) else {}


def _config(run: Run, frame: Frame, fields: Mapping[str, FieldValue]) -> dict[str, Json]:
    return {name: field_value(run, frame, value) for name, value in fields.items() if name != "MaxItems"}


def _number(run: Run, frame: Frame, field: FieldValue | None) -> int | None:
    return None if field is None else any_integer(run, frame, field)


def _at_least_one(run: Run, frame: Frame, field: FieldValue | None) -> int | None:
    number = _number(run, frame, field)
    if number is not None and field is not None and number < 1:
        raise field_error(frame, field, f"{field.field.removesuffix('Path')} must be positive.")
    return number
