"""A Distributed Map in its parent's history: started, succeeded, failed, retried, caught, stopped, redriven."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.jsontypes import Document, write
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import CancelMapRun, RedriveMapRun, ScheduleTask, StartMapRun, Status
from stepwell.engine.machine.map_run import child_machine, inline_items
from stepwell.engine.machine.map_spec import MapRunSpec
from stepwell.engine.runtime.local import LocalExecution, Script, Succeeded
from tests.support.local_machine import LocalMachine, raw, run, silent

ITEMS = '["a", "b", "c"]'


def distributed(processor: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    states = processor or {"Work": {"Type": "Pass", "End": True}}
    inner = {"ProcessorConfig": {"Mode": "DISTRIBUTED"}, "StartAt": next(iter(states)), "States": states}
    return {"StartAt": "M", "States": {"M": {"Type": "Map", "ItemProcessor": inner, "End": True, **fields}}}


def failing(when: str) -> dict[str, Any]:
    """A processor that fails for one item."""
    choice = {"Variable": "$", "StringEquals": when, "Next": "Broken"}
    return {
        "Look": {"Type": "Choice", "Choices": [choice], "Default": "Fine"},
        "Broken": {"Type": "Fail", "Error": "Broken", "Cause": "as asked"},
        "Fine": {"Type": "Succeed"},
    }


def waiting(definition: dict[str, Any], input: str = ITEMS) -> LocalMachine:
    """An execution whose Map Run nobody answers yet."""
    machine = LocalMachine(definition, input)
    machine.start()
    machine.coming.clear()
    return machine


def spec_of(machine: LocalMachine) -> MapRunSpec:
    return machine.map_runs[-1].spec


def test_history_and_output() -> None:
    ran = run(distributed(), ITEMS)
    assert ran.output == ["a", "b", "c"]
    assert ran.lines == [
        "1<-0 ExecutionStarted",
        "2<-0 MapStateEntered M",
        "3<-2 MapStateStarted",
        "4<-3 MapRunStarted",
        "5<-4 MapRunSucceeded",
        "6<-5 MapStateSucceeded",
        "7<-5 MapStateExited M",
        "8<-7 ExecutionSucceeded",
    ]
    assert ran.seen[2].details == {"length": 3}


def test_children_are_executions_of_the_processor() -> None:
    ran = run(distributed(Label="L"), ITEMS)
    arn = (ran.seen[3].details or {})["mapRunArn"]
    head, _, run_id = arn.rpartition(":")
    assert head == "arn:aws:states:us-east-1:000000000000:mapRun:Machine/L"
    assert len(run_id) == 36
    assert [child.info.arn.rpartition(":")[0] for child in ran.children] == [
        "arn:aws:states:us-east-1:000000000000:execution:Machine/L"
    ] * 3
    assert {child.info.machine_arn for child in ran.children} == {
        "arn:aws:states:us-east-1:000000000000:stateMachine:Machine/L"
    }
    assert len({child.info.name for child in ran.children}) == 3


def test_a_state_without_label_has_the_same_one_each_time() -> None:
    labels = {spec_of(waiting(distributed())).label for _ in range(2)}
    assert len(labels) == 1


def test_item_selector_reads_state_item_and_context() -> None:
    selector = {
        "index.$": "$$.Map.Item.Index",
        "value.$": "$$.Map.Item.Value",
        "source.$": "$$.Map.Item.Source",
        "all.$": "$.items",
        "state.$": "$$.State.Name",
    }
    ran = run(distributed(ItemsPath="$.items", ItemSelector=selector), '{"items": [7]}')
    assert ran.output == [{"index": 0, "value": 7, "source": "STATE_DATA", "all": [7], "state": "M"}]


def test_variables_are_read_by_the_selector() -> None:
    definition = distributed(ItemSelector={"v.$": "$v"})
    definition["States"]["Set"] = {"Type": "Pass", "Assign": {"v": 5}, "Next": "M"}
    definition["StartAt"] = "Set"
    assert run(definition, "[1]").output == [{"v": 5}]


def test_batches() -> None:
    ran = run(distributed(ItemBatcher={"MaxItemsPerBatch": 2, "BatchInput": {"k": 1}}), ITEMS)
    assert ran.output == [{"BatchInput": {"k": 1}, "Items": ["a", "b"]}, {"BatchInput": {"k": 1}, "Items": ["c"]}]


def test_failure_of_a_child_fails_the_state() -> None:
    ran = run(distributed(failing("b")), ITEMS)
    assert ran.lines[4:] == ["5<-4 MapRunFailed", "6<-5 MapStateFailed", "7<-6 ExecutionFailed"]
    assert ran.finish is not None
    assert (ran.finish.error, ran.finish.cause) == (
        "States.ExceedToleratedFailureThreshold",
        "The specified tolerated failure threshold was exceeded",
    )
    assert len(ran.children) == 2, "nothing is started after the threshold is exceeded"


@pytest.mark.parametrize("tolerance", ({"ToleratedFailureCount": 1}, {"ToleratedFailurePercentage": 34}))
def test_tolerated_failures(tolerance: dict[str, Any]) -> None:
    assert run(distributed(failing("b"), **tolerance), ITEMS).output == ["a", "c"]


@pytest.mark.parametrize("value", (1, "1", 1.0))
def test_numbers_by_path_may_be_texts(value: Any) -> None:
    definition = distributed(failing("b"), ItemsPath="$.i", ToleratedFailureCountPath="$.n")
    assert run(definition, write({"i": ["a", "b"], "n": value}).decode()).output == ["a"]


def test_a_failed_map_run_is_caught_and_retried() -> None:
    retry = [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 1, "IntervalSeconds": 1}]
    catch = [{"ErrorEquals": ["States.ExceedToleratedFailureThreshold"], "Next": "After"}]
    definition = distributed(failing("b"), Retry=retry, Catch=catch)
    definition["States"]["After"] = {"Type": "Pass", "End": True}
    ran = run(definition, ITEMS)
    assert ran.types.count("MapRunStarted") == 2
    assert len({started.spec.arn for started in ran.map_runs}) == 2, "a retry is a new Map Run"
    assert ran.types[-4:-2] == ["MapStateExited", "PassStateEntered"]


def test_without_storage_a_reader_fails_the_map_run() -> None:
    reader = {"Resource": "arn:aws:states:::s3:getObject", "Parameters": {"Bucket": "b", "Key.$": "$.k"}}
    ran = run(distributed(ItemReader={**reader, "ReaderConfig": {"InputType": "JSON"}}), '{"k": "key"}')
    spec = spec_of(ran).reader
    assert spec is not None and (spec.arguments, spec.config) == ({"Bucket": "b", "Key": "key"}, {"InputType": "JSON"})
    assert ran.finish is not None and ran.finish.error == "States.ItemReaderFailed"
    assert ran.seen[2].details == {"length": 0}


def test_stop_cancels_the_map_run() -> None:
    machine = waiting(distributed())
    machine.apply(events.StopRequested())
    assert machine.cancelled == [machine.map_runs[0].number]
    assert machine.types[-1] == "ExecutionAborted"


def test_a_branch_that_fails_aborts_the_map_run_beside_it() -> None:
    task = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": True}
    branches = [distributed(), {"StartAt": "T", "States": {"T": task}}]
    definition = {"StartAt": "P", "States": {"P": {"Type": "Parallel", "Branches": branches, "End": True}}}
    machine = LocalMachine(definition, ITEMS, world=silent)
    machine.start()
    machine.coming.clear()
    machine.apply(events.TaskFailed(next(iter(machine.tasks)), "E", None))
    assert len(machine.cancelled) == 1
    assert machine.types[-4:] == ["MapRunAborted", "MapStateAborted", "ParallelStateFailed", "ExecutionFailed"]


def test_a_late_end_of_an_older_map_run_is_ignored() -> None:
    machine = waiting(distributed())
    number = machine.map_runs[0].number
    assert machine.apply(events.MapRunFinished(number + 1, 0, raw([]))) == []
    assert machine.apply(events.MapRunFinished(number, 1, raw([]))) == []
    assert machine.apply(events.MapRunFinished(number, 0, raw([])))


@pytest.mark.parametrize("crash", (False, True))
def test_redrive_goes_on_with_the_same_map_run(crash: bool) -> None:
    machine = waiting(distributed())
    number = machine.map_runs[0].number
    machine.apply(events.MapRunFinished(number, 0, error="States.ExceedToleratedFailureThreshold"))
    assert machine.finish is not None and machine.finish.status is Status.FAILED
    if crash:
        machine.crash()
    machine.redrive()
    machine.coming.clear()
    assert machine.lines[-2:] == ["8<-7 ExecutionRedriven", "9<-8 MapRunRedriven"]
    assert (machine.seen[-1].details or {})["redriveCount"] == 1
    assert isinstance(machine.commands[-1][-1], RedriveMapRun)
    assert machine.apply(events.MapRunFinished(number, 0, raw([]))) == []
    machine.apply(events.MapRunFinished(number, 1, raw(["done"])))
    assert machine.output == ["done"]


def test_redrive_after_too_much_data_begins_a_new_map_run() -> None:
    machine = waiting(distributed())
    first = machine.map_runs[0]
    machine.apply(events.MapRunFinished(first.number, 0, error="States.DataLimitExceeded", cause="too much"))
    machine.redrive()
    assert len(machine.map_runs) == 2 and machine.map_runs[1].spec.arn != first.spec.arn


def test_nothing_is_lost_by_a_crash_while_the_map_run_runs() -> None:
    machine = waiting(distributed(ResultPath="$.out", ItemsPath="$.items"), '{"items": [1]}')
    machine.crash()
    machine.apply(events.MapRunFinished(machine.map_runs[0].number, 0, raw([1])))
    assert machine.output == {"items": [1], "out": [1]}


def test_the_specification_survives_being_written() -> None:
    spec = spec_of(waiting(distributed(ItemSelector={"v.$": "$$.Map.Item.Value"}, ItemBatcher={"MaxItemsPerBatch": 1})))
    again = msgspec.json.decode(msgspec.json.encode(spec), type=MapRunSpec)
    assert [item.text for item in inline_items(again)] == [b'"a"', b'"b"', b'"c"']
    assert again.batch is not None and again.batch.max_items == 1
    assert bytes(again.input) == ITEMS.encode()


def test_a_child_machine_is_found_wherever_its_map_stands() -> None:
    inner = distributed()["States"]["M"]
    outer = distributed(
        {"Q": {"Type": "Parallel", "End": True, "Branches": [{"StartAt": "Deep", "States": {"Deep": inner}}]}}
    )
    machine = parse_definition(outer)
    assert child_machine(machine, "Deep").start_at == "Work"
    assert child_machine(machine, "M").start_at == "Q"
    with pytest.raises(ValueError, match="no Map state"):
        child_machine(machine, "Q")


def test_a_local_execution_runs_map_runs_in_its_world() -> None:
    task = {"Work": {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": True}}
    local = LocalExecution(parse_definition(distributed(task)), now=0)
    script = Script({"Work": Succeeded({"ok": True})})
    finish = local.run(script, input=Document.parse(ITEMS))
    assert finish is not None and finish.output is not None
    assert finish.output.value == [{"ok": True}] * 3
    assert script.count("Work") == 3


def test_commands_name_the_map_run() -> None:
    machine = waiting(distributed())
    machine.apply(events.StopRequested())
    commands = [command for step in machine.commands for command in step]
    started = next(command for command in commands if isinstance(command, StartMapRun))
    assert CancelMapRun(started.number, started.id) in commands
    assert not any(isinstance(command, ScheduleTask) for command in commands)
