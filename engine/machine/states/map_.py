"""Map, inline: runs its processor once an item and joins the outputs, in the order of the items, into an array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from stepwell.engine.asl.states import FieldValue, MapState, ProcessorMode
from stepwell.engine.jsontypes import Document, Json, write_text
from stepwell.engine.limits import MAX_INLINE_MAP_CONCURRENCY
from stepwell.engine.machine.dataflow import (
    any_integer,
    field_error,
    field_value,
    finish_state,
    is_jsonata_state,
    max_concurrency,
    state_input,
    tolerated_percentage,
    within_limit,
)
from stepwell.engine.machine.failure import iteration_details
from stepwell.engine.machine.inspection import Arrow
from stepwell.engine.machine.run import Run
from stepwell.engine.machine.snapshot import Frame, Join, Phase
from stepwell.engine.machine.states.distributed_map import run_distributed_map
from stepwell.engine.machine.states.parallel import hand_over, joined
from stepwell.engine.query.failures import evaluation_gave_other, query_error
from stepwell.engine.query.paths import path_reader
from stepwell.engine.query.scope import Scope
from stepwell.engine.states_errors import ErrorName, StatesError


def run_map(run: Run, frame: Frame) -> None:
    """Run the body of an inline Map: find the items and start the first iterations."""
    state = frame.current
    assert isinstance(state, MapState)
    if state.item_processor.mode is ProcessorMode.DISTRIBUTED:
        run_distributed_map(run, frame, state, lambda: items_of(run, frame))
        return
    limit = max_concurrency(run, frame, state.max_concurrency)
    items = items_of(run, frame)
    run.emit_next(frame, "MapStateStarted", {"length": len(items)})
    tolerance(run, frame, state)
    frame.phase = Phase.JOIN
    frame.join = Join(total=len(items), limit=min(limit or MAX_INLINE_MAP_CONCURRENCY, MAX_INLINE_MAP_CONCURRENCY))
    frame.children = {}
    frame.items = items
    run.touch(frame)
    start_iterations(run, frame, frame.last_event)
    if not items:
        _finish(run, frame)


def items_of(run: Run, frame: Frame) -> Sequence[Json]:
    """The array the Map runs over."""
    state = frame.current
    assert isinstance(state, MapState)
    if is_jsonata_state(frame):
        return _jsonata_items(run, frame, state.items)
    value = state_input(run, frame).value
    if state.items_path is not None:
        value = path_reader(state.items_path)(run.scope(frame, value))
    if not isinstance(value, list):
        path = state.items_path.text if state.items_path is not None else "$"
        path = path.removeprefix("$") if path.startswith("$$") else path  # so AWS shows a path into the context object
        raise StatesError(ErrorName.RUNTIME, f'Reference path "{path}" must point to array.')
    if run.inspection is not None:
        run.inspection[Arrow.AFTER_ITEMS_PATH] = Document.of(value)
    return value


def _jsonata_items(run: Run, frame: Frame, field: FieldValue | None) -> Sequence[Json]:
    if frame.kept_items is not None:
        return cast(Sequence[Json], frame.kept_items.value)
    if field is None:
        value = frame.data.value
        if not isinstance(value, list):
            raise query_error(f"Map state input must be an array but was: {write_text(value)}", None)
        return value
    value = field_value(run, frame, field)
    if not isinstance(value, list):
        raise evaluation_gave_other(field.text or "", field.field, "array", value)
    if field.expression is not None:
        frame.keep_items(Document.of(value))
    return value


def start_iterations(run: Run, frame: Frame, previous: int) -> None:
    """Start iterations while there are items and room. `previous` is the event they follow."""
    state, join = frame.current, frame.join
    assert isinstance(state, MapState) and join is not None
    while join.next_index < join.total and join.open < join.limit:
        index = join.next_index
        item = within_limit(frame, item_input(run, frame, index))
        join.next_index += 1
        join.open += 1
        started = run.emit("MapIterationStarted", previous, {"name": state.name, "index": index})
        child = run.new_frame(frame, index, state.item_processor, item)
        child.last_event = started
    run.touch(frame)


def iteration_done(run: Run, frame: Frame, child: Frame) -> None:
    """An iteration has come to its end: start the next one, or join."""
    join = frame.join
    assert join is not None
    hand_over(run, frame, join, child)
    frame.last_event = run.emit("MapIterationSucceeded", child.last_event, iteration_details(frame, child))
    start_iterations(run, frame, child.last_event)
    if join.done == join.total:
        _finish(run, frame)


def _finish(run: Run, frame: Frame) -> None:
    run.emit("MapStateSucceeded", frame.last_event)
    finish_state(run, frame, joined(run, frame), frame.current.next)


def item_input(run: Run, frame: Frame, index: int) -> Document:
    """The input of one iteration."""
    state = frame.current
    assert isinstance(state, MapState) and frame.items is not None
    if state.item_selector is None:
        return Document.of(frame.items[index])
    item: Json = {"Index": index, "Value": frame.items[index]}

    def context() -> Json:
        return {**cast(dict[str, Json], run.context(frame)), "Map": {"Item": item}}

    if is_jsonata_state(frame):
        return state.item_selector.document(run.states_scope(frame, context=context))
    scope = Scope(
        state_input(run, frame).value, variables=frame.visible, context=context, entropy=run.entropy, heavy=run.heavy
    )
    return Document.of(state.item_selector(scope))


def tolerance(run: Run, frame: Frame, state: MapState) -> tuple[int | None, float | None]:
    """How many failures, and what percentage of the items, are tolerated."""
    count = percentage = None
    if state.tolerated_failure_count is not None:
        count = any_integer(run, frame, state.tolerated_failure_count)
        if count < 0:
            raise field_error(frame, state.tolerated_failure_count, "ToleratedFailureCount cannot be negative.")
    if state.tolerated_failure_percentage is not None:
        percentage = tolerated_percentage(run, frame, state.tolerated_failure_percentage)
    return count, percentage
