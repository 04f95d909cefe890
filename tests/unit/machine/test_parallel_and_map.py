from __future__ import annotations

from typing import Any

import pytest

from stepwell.engine.limits import MAX_INLINE_MAP_CONCURRENCY, MAX_PAYLOAD_BYTES
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import Status
from tests.support.local_machine import LocalMachine, raw, run, succeeds
from tests.unit.machine.build import Definition, inner, machine, map_, parallel, pass_, task

FAIL: Definition = {"Type": "Fail", "Error": "E", "Cause": "because"}
WAIT: Definition = {"Type": "Wait", "Seconds": 9}


def test_branches_take_turns_and_are_joined_in_order() -> None:
    done = run(machine(parallel(pass_(Result=1), {"Type": "Succeed"})), '{"a":  1}')
    assert done.lines == [
        "1<-0 ExecutionStarted",
        "2<-0 ParallelStateEntered A",
        "3<-2 ParallelStateStarted",
        "4<-3 PassStateEntered X1",
        "5<-4 PassStateExited X1",
        "6<-3 SucceedStateEntered X2",
        "7<-6 SucceedStateExited X2",
        "8<-7 ParallelStateSucceeded",
        "9<-7 ParallelStateExited A",
        "10<-9 ExecutionSucceeded",
    ]
    assert bytes(done.seen[-1].payload or b"") == b'[1,{"a":  1}]'


def test_branches_may_end_in_any_order() -> None:
    running = LocalMachine(machine(parallel(task(), task()))).start()
    running.apply(events.TaskSucceeded(2, raw("second")))
    assert running.finish is None
    running.apply(events.TaskSucceeded(1, raw("first")))
    assert running.output == ["first", "second"]


def test_what_runs_beside_a_failed_branch_is_aborted() -> None:
    running = LocalMachine(machine(parallel(task(TimeoutSeconds=60), task(), WAIT))).start()
    before = len(running.seen)
    running.apply(events.TaskFailed(2, "E", "because"))
    failed = before + 1
    assert running.lines[before:] == [
        f"{failed}<-{before} LambdaFunctionFailed",
        f"{failed + 1}<-{failed} TaskStateAborted",  # the failed one
        f"{failed + 2}<-{failed} TaskStateAborted",
        f"{failed + 3}<-{failed} WaitStateAborted",
        f"{failed + 4}<-{failed} ParallelStateFailed",
        f"{failed + 5}<-{failed + 4} ExecutionFailed",
    ]
    assert running.finish is not None and (running.finish.error, running.finish.cause) == ("E", "because")
    assert running.tasks == {} and running.timers == {}


def test_a_branch_not_yet_entered_is_aborted_in_silence() -> None:
    done = run(machine(parallel(FAIL, task())))
    assert done.types[2:] == ["ParallelStateStarted", "FailStateEntered", "ParallelStateFailed", "ExecutionFailed"]


def test_states_of_states_are_aborted_from_the_inside() -> None:
    nested = {**map_(parallel(task()), ItemsPath="$.items"), "End": True}
    nested["ItemProcessor"]["States"]["I"]["Branches"][0] = inner("Deep", task())
    running = LocalMachine(machine(parallel(task(), nested)), '{"items": [1]}').start()
    before = len(running.seen)
    running.apply(events.TaskFailed(1, "E"))
    assert [line.split(" ", 1)[1] for line in running.lines[before:]] == [
        "LambdaFunctionFailed",
        "TaskStateAborted",
        "MapIterationAborted X2 0",
        "TaskStateAborted",
        "ParallelStateAborted",
        "MapStateAborted",
        "ParallelStateFailed",
        "ExecutionFailed",
    ]


def test_an_error_is_handled_by_the_nearest_state_that_can() -> None:
    middle = parallel(FAIL, Catch=[{"ErrorEquals": ["Other"], "Next": "Handled"}])
    branch = {"StartAt": "M", "States": {"M": {**middle, "End": True}, "Handled": pass_(End=True)}}
    outer = {"Type": "Parallel", "Branches": [branch], "Catch": [{"ErrorEquals": ["E"], "Next": "B"}]}
    done = run(machine(outer, pass_()))
    assert done.output == {"Error": "E", "Cause": "because"}
    assert done.types.count("ParallelStateFailed") == 2


def test_after_a_catch_nothing_is_left_of_the_branches() -> None:
    caught = parallel(task(), task(), Catch=[{"ErrorEquals": ["States.ALL"], "Next": "B"}])
    running = LocalMachine(machine(caught, task())).start()
    running.apply(events.TaskFailed(1, "E"))
    assert set(running.state.frames) == {0} and set(running.tasks) == {3}
    assert running.apply(events.TaskSucceeded(2, raw(1))) == []


def test_iterations_follow_each_other() -> None:
    done = run(machine(map_(pass_(), MaxConcurrency=1)), '{"items": ["a", "b"]}')
    assert done.lines[2:] == [
        "3<-2 MapStateStarted",
        "4<-3 MapIterationStarted A 0",
        "5<-4 PassStateEntered I",
        "6<-5 PassStateExited I",
        "7<-6 MapIterationSucceeded A 0",
        "8<-6 MapIterationStarted A 1",
        "9<-8 PassStateEntered I",
        "10<-9 PassStateExited I",
        "11<-10 MapIterationSucceeded A 1",
        "12<-11 MapStateSucceeded",
        "13<-11 MapStateExited A",
        "14<-13 ExecutionSucceeded",
    ]


@pytest.mark.parametrize(("concurrency", "at_once"), ((0, MAX_INLINE_MAP_CONCURRENCY), (3, 3), (99, 40)))
def test_so_many_iterations_run_at_once(concurrency: int, at_once: int) -> None:
    running = LocalMachine(machine(map_(task(), MaxConcurrency=concurrency)), f'{{"items": {list(range(60))}}}').start()
    assert len(running.tasks) == at_once
    running.apply(events.TaskSucceeded(2, raw("b")))
    assert len(running.tasks) == at_once
    assert sum(type_ == "MapIterationStarted" for type_ in running.types) == at_once + 1
    running.world = succeeds("x")
    for number in list(running.tasks):
        running.apply(events.TaskSucceeded(number, raw("x")))
    running.run()
    assert running.output == ["x", "b", *["x"] * 58]


def test_a_map_over_nothing() -> None:
    done = run(machine(map_(pass_())), '{"items": []}')
    assert done.lines[2:5] == ["3<-2 MapStateStarted", "4<-3 MapStateSucceeded", "5<-3 MapStateExited A"]
    assert done.output == []


def test_the_item_is_in_the_context_of_selector_and_states() -> None:
    inside = pass_(Parameters={"in.$": "$", "index.$": "$$.Map.Item.Index", "value.$": "$$.Map.Item.Value"})
    selector = {"v.$": "$$.Map.Item.Value", "all.$": "$.items", "state.$": "$$.State.Name"}
    done = run(machine(map_(inside, ItemSelector=selector)), '{"items": ["a", "b"]}')
    assert done.output == [
        {"in": {"v": value, "all": ["a", "b"], "state": "A"}, "index": index, "value": value}
        for index, value in enumerate("ab")
    ]


def test_variables_go_in_but_not_out() -> None:
    inside = pass_(Assign={"own.$": "$top"}, Parameters={"top.$": "$top"})
    running = LocalMachine(machine(pass_(Assign={"top": 1}), map_(inside), task()), '{"items": [0]}').start()
    assert running.payload(running.types.index("MapStateExited") + 1) == [{"top": 1}]
    assert running.state.root.variables == {"top": 1}


@pytest.mark.parametrize("input", ('{"items": {}}', '{"items": "abc"}', '{"items": null}'))
def test_a_map_needs_an_array(input: str) -> None:
    done = run(machine(map_(pass_())), input)
    assert done.finish is not None and done.finish.error == "States.Runtime"
    assert (done.finish.cause or "").endswith('Reference path "$.items" must point to array.')


def test_a_failed_iteration_fails_the_map() -> None:
    running = LocalMachine(machine(map_(task(), MaxConcurrency=2)), '{"items": [1, 2, 3]}').start()
    before = len(running.seen)
    running.apply(events.TaskFailed(1, "E"))
    failed = before + 1
    assert running.lines[before:] == [
        f"{failed}<-{running.seen[failed - 1].previous} LambdaFunctionFailed",
        f"{failed + 1}<-{failed} MapIterationFailed A 0",
        f"{failed + 2}<-{failed} TaskStateAborted",
        f"{failed + 3}<-{failed} MapIterationAborted A 1",
        f"{failed + 4}<-{failed} TaskStateAborted",
        f"{failed + 5}<-{failed} MapStateFailed",
        f"{failed + 6}<-{failed + 5} ExecutionFailed",
    ]


def test_time_outs_of_one_moment_strike_together() -> None:
    done = run(machine(map_(task(TimeoutSeconds=5))), '{"items": [1, 2]}')
    tail = [type_ for type_ in done.types if "TimedOut" in type_ or "Aborted" in type_ or "Failed" in type_]
    assert tail == [
        "LambdaFunctionTimedOut", "LambdaFunctionTimedOut", "MapIterationFailed", "TaskStateAborted",
        "MapIterationAborted", "TaskStateAborted", "MapStateFailed", "ExecutionFailed",
    ]  # fmt: skip


def test_time_outs_of_one_moment_are_each_caught_by_their_own_state() -> None:
    timed = task(TimeoutSeconds=5, Catch=[{"ErrorEquals": ["States.Timeout"], "Next": "J"}], Next="J")
    each = {
        **map_(pass_()),
        "ItemProcessor": {"StartAt": "I", "States": {"I": timed, "J": pass_(Result="late", End=True)}},
    }
    assert run(machine(each), '{"items": [1, 2]}').output == ["late", "late"]


def test_an_item_that_cannot_be_made_aborts_what_runs() -> None:
    selector = {"x.$": "States.ArrayGetItem($$.Map.Item.Value, 0)"}
    caught = map_(task(), ItemSelector=selector, MaxConcurrency=1, Catch=[{"ErrorEquals": ["States.ALL"], "Next": "B"}])
    done = run(machine(caught, pass_()), '{"items": [[1], []]}', world=succeeds(1))
    assert isinstance(done.output, dict) and done.output["Error"] == "States.IntrinsicFailure"
    two = map_(task(), ItemSelector=selector, MaxConcurrency=2, Catch=[{"ErrorEquals": ["States.ALL"], "Next": "B"}])
    running = LocalMachine(machine(two, task()), '{"items": [[1], []]}').start()
    assert len(running.tasks) == 1 and len(running.state.frames) == 1
    assert running.types.count("MapIterationAborted") == 1


def test_inputs_of_branches_and_iterations_have_the_limit_of_any_state() -> None:
    big = "x" * (MAX_PAYLOAD_BYTES - 40)
    selector = {"one.$": "$$.Map.Item.Value", "two.$": "$$.Map.Item.Value"}
    done = run(machine(map_(pass_(), ItemSelector=selector)), f'{{"items": ["{big}"]}}')
    assert done.finish is not None and done.finish.error == "States.DataLimitExceeded"
    twice = parallel(pass_(), Parameters={"one.$": "$.items", "two.$": "$.items"})
    done = run(machine(twice), f'{{"items": ["{big}"]}}')
    assert done.finish is not None and done.finish.error == "States.DataLimitExceeded"


def test_the_joined_output_has_the_limit_of_any_state() -> None:
    big = "x" * (MAX_PAYLOAD_BYTES // 2)
    done = run(machine(parallel(pass_(), pass_(), pass_())), f'"{big}"')
    assert done.finish is not None and done.finish.error == "States.DataLimitExceeded"
    dropped = run(machine(parallel(pass_(), pass_(), pass_(), ResultPath=None)), f'"{big}"')
    assert dropped.output == big


def test_runtime_errors_end_everything_at_once() -> None:
    broken = parallel(pass_(InputPath="$.absent"), task(), Catch=[{"ErrorEquals": ["States.ALL"], "Next": "B"}])
    done = run(machine(broken, pass_()))
    assert done.finish is not None and (done.finish.status, done.finish.error) == (Status.FAILED, "States.Runtime")
    assert done.types[-2:] == ["PassStateEntered", "ExecutionFailed"]


DISTRIBUTED = {"ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}}
NOT_VALID = 'The {} field refers to value "{}" which is not a valid {}: $.n'


def numbered(mode: Definition, **fields: Any) -> Definition:
    """A Map whose fields refer to the number `$.n`, or with Items to `$states.input.n`."""
    state = {"Type": "Map", "ItemProcessor": {**inner("I", pass_()), **mode}, **fields}
    return machine(state, QueryLanguage="JSONata") if "Items" in fields else machine({"ItemsPath": "$.items", **state})


@pytest.mark.parametrize("mode", ({}, DISTRIBUTED))
@pytest.mark.parametrize("field", ("MaxConcurrencyPath", "ToleratedFailureCountPath", "ToleratedFailurePercentagePath"))
def test_a_number_of_a_map_may_be_given_as_a_text(mode: Definition, field: str) -> None:
    for number in ("2", '"2"', "2.0"):
        assert run(numbered(mode, **{field: "$.n"}), f'{{"items": [1, 2], "n": {number}}}').output == [1, 2]


@pytest.mark.parametrize("mode", ({}, DISTRIBUTED))
@pytest.mark.parametrize(
    ("field", "number", "why"),
    (
        ("MaxConcurrencyPath", "{}", NOT_VALID.format("MaxConcurrencyPath", "{}", "integer")),
        ("MaxConcurrencyPath", '"1.5"', NOT_VALID.format("MaxConcurrencyPath", "1.5", "integer")),
        ("MaxConcurrencyPath", "-1", "MaxConcurrency cannot be negative."),
        ("ToleratedFailureCountPath", "true", NOT_VALID.format("ToleratedFailureCountPath", "true", "integer")),
        ("ToleratedFailureCountPath", '"-1"', "ToleratedFailureCount cannot be negative."),
        ("ToleratedFailurePercentagePath", '"No"', NOT_VALID.format("ToleratedFailurePercentagePath", "No", "float")),
        ("ToleratedFailurePercentagePath", "null", NOT_VALID.format("ToleratedFailurePercentagePath", "null", "float")),
        ("ToleratedFailurePercentagePath", '"100.1"', "ToleratedFailurePercentage must be between 0 and 100."),
    ),
)
def test_a_map_says_which_number_it_cannot_use(mode: Definition, field: str, number: str, why: str) -> None:
    done = run(numbered(mode, **{field: "$.n"}), f'{{"items": [1], "n": {number}}}')
    assert done.finish is not None and done.finish.error == "States.Runtime"
    assert (done.finish.cause or "").endswith(f"(entered at the event id #2). {why}")


@pytest.mark.parametrize("mode", ({}, DISTRIBUTED))
@pytest.mark.parametrize("field", ("MaxConcurrency", "ToleratedFailureCount", "ToleratedFailurePercentage"))
def test_jsonata_must_give_a_map_numbers(mode: Definition, field: str) -> None:
    definition = numbered(mode, Items=[1, 2], **{field: "{% $states.input.n %}"})
    assert run(definition, '{"n": 2}').output == [1, 2]
    text = run(definition, '{"n": "2"}').finish
    assert text is not None and text.error == "States.QueryEvaluationError"
    assert (text.cause or "").endswith(
        f"""specified for the field '{field}' returned an unexpected result type. Expected 'number', but was 'string' """
        'for value: "2"'
    )
    negative = run(definition, '{"n": -1}').finish
    assert negative is not None and negative.error == "States.QueryEvaluationError"


NOPE = "{% $nope %}"


def test_a_map_whose_item_selector_fails_says_that_it_failed() -> None:
    selector = {"a": "{% $states.context.Map.Item.Value = 3 ? $nope : 1 %}"}
    wait = {"Type": "Wait", "Seconds": "{% $states.context.Map.Item.Index %}"}
    state = {"Type": "Map", "Items": [1, 2, 3], "MaxConcurrency": 2, "ItemSelector": selector}
    done = run(machine({**state, "ItemProcessor": inner("I", wait)}, QueryLanguage="JSONata"))
    assert done.lines[7:] == [
        "8<-7 MapIterationSucceeded A 0",
        "9<-8 EvaluationFailed",
        "10<-9 MapIterationAborted A 1",
        "11<-9 MapStateFailed",
        "12<-11 ExecutionFailed",
    ]


@pytest.mark.parametrize(
    ("definition", "types"),
    (
        (
            {"Type": "Map", "Items": NOPE, "ItemProcessor": inner("I", pass_())},
            ["MapStateEntered", "EvaluationFailed", "MapStateFailed"],
        ),
        (
            {"Type": "Map", "Items": [1], "ToleratedFailureCount": NOPE, "ItemProcessor": inner("I", pass_())},
            ["MapStateEntered", "MapStateStarted", "EvaluationFailed", "MapStateFailed"],
        ),
        (parallel(pass_(), Arguments=NOPE), ["ParallelStateEntered", "EvaluationFailed", "ParallelStateFailed"]),
    ),
)
def test_what_cannot_be_begun_has_failed(definition: Definition, types: list[str]) -> None:
    assert run(machine(definition, QueryLanguage="JSONata")).types[1:] == [*types, "ExecutionFailed"]
    caught = {**definition, "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "B"}]}
    assert run(machine(caught, {"Type": "Succeed"}, QueryLanguage="JSONata")).types[1 : len(types) + 1] == types
    again = {**definition, "Retry": [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 1}]}
    retried = run(machine(again, QueryLanguage="JSONata")).types
    assert (retried.count("EvaluationFailed"), retried.count(types[-1])) == (2, 1)


@pytest.mark.parametrize(
    "state", (parallel(pass_()), {"Type": "Map", "Items": [1], "ItemProcessor": inner("I", pass_())})
)
def test_an_output_that_fails_fails_no_work(state: Definition) -> None:
    done = run(machine({**state, "Output": NOPE}, QueryLanguage="JSONata"))
    assert done.types[-3:] == [f"{state['Type']}StateSucceeded", "EvaluationFailed", "ExecutionFailed"]


def test_an_intrinsic_that_fails_in_parameters_fails_the_parallel() -> None:
    done = run(machine(parallel(pass_(), Parameters={"a.$": "States.StringToJson($.a)"})), '{"a": "{"}')
    assert done.types[1:] == ["ParallelStateEntered", "ParallelStateFailed", "ExecutionFailed"]


def test_an_input_that_is_no_array_is_shown_compactly() -> None:
    state = {"Type": "Map", "ItemProcessor": inner("I", pass_())}
    done = run(machine(state, QueryLanguage="JSONata"), '{"a": [1,  2]}')
    assert done.finish is not None
    assert (done.finish.cause or "").endswith('Map state input must be an array but was: {"a":[1,2]}')
