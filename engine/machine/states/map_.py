"""Map, inline: runs its processor once an item and joins the outputs, in the order of the items, into an array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from stepwell.engine.asl.states import FieldValue, MapState
from stepwell.engine.jsontypes import Document, Json, write_text
from stepwell.engine.limits import MAX_INLINE_MAP_CONCURRENCY
from stepwell.engine.machine.dataflow import effective_input, finish_state, integer
from stepwell.engine.machine.run import Run
from stepwell.engine.machine.snapshot import Frame, Join, Phase
from stepwell.engine.machine.states.parallel import joined
from stepwell.engine.query.paths import path_reader
from stepwell.engine.query.scope import Scope
from stepwell.engine.states_errors import ErrorName, StatesError


def run_map(run: Run, frame: Frame) -> None:
    """Run the body of an inline Map: find the items and start the first iterations."""
    state = frame.current
    assert isinstance(state, MapState)
    limit = integer(run, frame, state.max_concurrency) if state.max_concurrency is not None else 0
    _check_tolerance(run, frame, state.tolerated_failure_count, None)
    _check_tolerance(run, frame, state.tolerated_failure_percentage, 100)
    items = items_of(run, frame)
    run.emit_next(frame, "MapStateStarted", {"length": len(items)})
    frame.phase = Phase.JOIN
    frame.join = Join(total=len(items), limit=min(limit or MAX_INLINE_MAP_CONCURRENCY, MAX_INLINE_MAP_CONCURRENCY))
    frame.children = {}
    frame.items = list(items)
    run.touch(frame)
    start_iterations(run, frame)
    if not items:
        _finish(run, frame)


def items_of(run: Run, frame: Frame) -> Sequence[Json]:
    """The array the Map runs over."""
    state = frame.current
    assert isinstance(state, MapState)
    value = effective_input(run, frame, parameters=False).value
    if state.items_path is not None:
        value = path_reader(state.items_path)(run.scope(frame, value))
    if not isinstance(value, list):
        path = state.items_path.text if state.items_path is not None else "$"
        raise StatesError(ErrorName.RUNTIME, f'Reference path "{path}" must point to array.')
    return value


def start_iterations(run: Run, frame: Frame) -> None:
    """Start iterations while there are items and room."""
    state, join = frame.current, frame.join
    assert isinstance(state, MapState) and join is not None
    while join.next_index < join.total and join.open < join.limit:
        index = join.next_index
        join.next_index += 1
        join.open += 1
        started = run.emit("MapIterationStarted", frame.last_event, {"name": state.name, "index": index})
        child = run.new_frame(frame, index, state.item_processor, _item(run, frame, index))
        child.last_event = started
    run.touch(frame)


def iteration_done(run: Run, frame: Frame, child: Frame) -> None:
    """An iteration has come to its end: start the next one, or join."""
    join = frame.join
    assert join is not None
    join.open -= 1
    join.done += 1
    frame.last_event = child.last_event
    run.emit("MapIterationSucceeded", child.last_event, {"name": frame.state, "index": child.index})
    start_iterations(run, frame)
    if join.done == join.total:
        _finish(run, frame)


def _finish(run: Run, frame: Frame) -> None:
    run.emit("MapStateSucceeded", frame.last_event)
    finish_state(run, frame, joined(run, frame), frame.current.next)


def _item(run: Run, frame: Frame, index: int) -> Document:
    """The input of one iteration."""
    state = frame.current
    assert isinstance(state, MapState) and frame.items is not None
    if state.item_selector is None:
        return Document.of(frame.items[index])
    item: Json = {"Index": index, "Value": frame.items[index]}

    def context() -> Json:
        return {**cast(dict[str, Json], run.context(frame)), "Map": {"Item": item}}

    input = effective_input(run, frame, parameters=False).value
    scope = Scope(input, variables=frame.visible, context=context, entropy=run.entropy)
    return Document.of(state.item_selector(scope))


def _check_tolerance(run: Run, frame: Frame, field: FieldValue | None, most: int | None) -> None:
    if field is None:
        return
    value = field.constant if field.expression is None else field.expression(run.scope(frame, frame.data.value))
    if most is None:
        if isinstance(value, bool) or not isinstance(value, int):
            text = value if isinstance(value, str) else write_text(value)
            raise StatesError(
                ErrorName.RUNTIME, f'The {field.field} field refers to value "{text}" which is not a valid integer: {field.text}'
            )
        if value < 0:
            raise StatesError(ErrorName.RUNTIME, "ToleratedFailureCount cannot be negative.")
    elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise StatesError(ErrorName.RUNTIME, "ToleratedFailurePercentage must be between 0 and 100.")
