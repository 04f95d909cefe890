"""Map Runs in memory: the whole of one at once, child after child, for runs without a server.

Uses the planner of `machine.map_run`, so that results, failures and tolerances are those of the server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

import msgspec

from stepwell.engine import ids
from stepwell.engine.asl.states import StateMachine
from stepwell.engine.clock import Entropy
from stepwell.engine.errors import JsonTextError
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.commands import Finish, StartMapRun
from stepwell.engine.machine.events import MapRunFinished
from stepwell.engine.machine.map_run import (
    ENDS,
    Child,
    ChildResult,
    Ended,
    Maker,
    Plan,
    SourceItem,
    child_machine,
    child_of,
    inline_items,
    joined,
    map_state,
    result_texts,
    written_result,
)
from stepwell.engine.machine.map_spec import ReaderSpec
from stepwell.engine.machine.snapshot import ExecutionInfo, Workflow
from stepwell.engine.query import effort
from stepwell.engine.query.scope import Heavy
from stepwell.engine.runtime.expressions import carry_out_apart
from stepwell.engine.states_errors import ErrorName, StatesError

RunChild = Callable[[StateMachine, ExecutionInfo, Document], Finish]
"""Runs a child execution to its end."""
ReadItems = Callable[[ReaderSpec], Iterable[SourceItem]]
"""Reads the items an ItemReader names. Raises `StatesError`."""


def no_reader(spec: ReaderSpec) -> Iterable[SourceItem]:
    """Where nothing is there to read from."""
    raise StatesError(ErrorName.ITEM_READER_FAILED, f"There is no storage here to read the items from ({spec.action}).")


def run_map(
    command: StartMapRun,
    machine: StateMachine,
    info: ExecutionInfo,
    run_child: RunChild,
    *,
    now: int,
    seed: int = 0,
    redrives: int = 0,
    read: ReadItems = no_reader,
    pretend_written: bool = False,
    heavy: Heavy = carry_out_apart,
) -> MapRunFinished:
    """Run a Map Run to its end. `info` is the parent's; children are run one after the other, in order. A redrive runs all of them
    again: nothing is kept between runs in memory. Results that are to be written out fail the run, unless they are
    `pretend_written`."""
    spec = command.spec
    plan = Plan(spec)
    results: list[ChildResult] = []
    written: bytes | None = None
    processor = child_machine(machine, spec.state)
    maker = Maker(spec, map_state(machine, spec.state), plan.progress, Entropy(seed), now, heavy)
    machine_arn, machine_name = ids.labelled_machine(spec.arn)
    express = spec.execution_type == "EXPRESS"
    try:
        items = read(spec.reader) if spec.reader is not None else inline_items(spec)
        for child in _children(maker, items, most=_most(spec.reader)):
            if plan.progress.stopping:
                break
            name, arn = child_of(spec.arn, command.id, child.number, express=express)
            child_info = ExecutionInfo(
                ids.execution_id(arn), arn, name, machine_arn, machine_name, info.role_arn, now, info.region,
                workflow=Workflow.EXPRESS if express else Workflow.STANDARD,
            )  # fmt: skip
            plan.made([child], exhausted=False)
            plan.started([child.size])
            finish = run_child(processor, child_info, Document.trusted(child.input))
            output = finish.output.text if finish.output is not None else None
            status = ENDS[finish.status]
            known = (child.number, child.size, status, arn, name, machine_arn, child.input, now, finish.stopped_at)
            results.append(ChildResult(*known, output, finish.error, finish.cause))
            plan.ended([Ended(child.number, child.size, status, len(output or b""))])
        if not plan.progress.stopping:
            plan.made([], exhausted=True)
            plan.judge()
        if not plan.joins and pretend_written:
            written = written_result(spec)
        elif not plan.joins:
            raise StatesError(ErrorName.RESULT_WRITER_FAILED, "There is no storage here to write the results to.")
    except StatesError as error:
        plan.fail(error.error, error.cause)
    except JsonTextError as error:
        plan.fail(ErrorName.RUNTIME, str(error))
    if plan.failed:
        return MapRunFinished(command.number, redrives, error=plan.progress.error, cause=plan.progress.cause)
    if written is not None:
        return MapRunFinished(command.number, redrives, msgspec.Raw(written))
    texts = [text for child in results if child.output is not None for text in result_texts(spec, child)]
    return MapRunFinished(command.number, redrives, msgspec.Raw(joined(texts)))


def _most(reader: ReaderSpec | None) -> int | None:
    most = reader.config.get("MaxItems") if reader is not None else None
    return most or None


def _children(maker: Maker, items: Iterable[SourceItem], *, most: int | None) -> Iterable[Child]:
    if most is not None and most < 0:
        raise StatesError(ErrorName.ITEM_READER_FAILED, "field MaxItems must be positive")
    for item in islice(items, most):
        made = maker.take(item)
        effort.end_states()
        yield from made
    yield from maker.rest()
