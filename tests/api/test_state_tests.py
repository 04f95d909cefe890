"""Testing a state: what is refused, who performs its task, and how the wire protocol and REST tell of it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from stepwell.api.wire import shapes
from stepwell.engine.errors import ConfigurationError, TargetUnavailableError
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.events import TaskFailed, TaskSucceeded
from stepwell.engine.machine.inspection import Arrow
from stepwell.engine.machine.single_state import Ending, Outcome
from stepwell.engine.ports import HttpTrace, TaskRequest
from stepwell.engine.service.context import ServiceSettings
from stepwell.engine.service.state_tests import InspectionLevel, StateTestResult
from stepwell.engine.targets.http_trace import REQUEST_MEMBERS, RESPONSE_MEMBERS
from tests.api.conftest import ROLE, Stack, build_stack
from tests.support.performers import succeeded

FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:f"
TASK = {"Type": "Task", "Resource": FUNCTION, "End": True}
PASS = {"Type": "Pass", "End": True}
INNER = {"StartAt": "I", "States": {"I": PASS}}
MAP = {"Type": "Map", "ItemProcessor": INNER, "End": True}
PARALLEL = {"Type": "Parallel", "Branches": [INNER, {"StartAt": "J", "States": {"J": PASS}}], "End": True}
READING: dict[str, Any] = {
    **MAP,
    "ItemProcessor": {**INNER, "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}},
    "ItemReader": {"Resource": "arn:aws:states:::s3:getObject", "Parameters": {"Bucket": "b", "Key": "k"}},
}
OK: dict[str, Any] = {"mock": {"result": "{}"}}
LIST: dict[str, Any] = {"mock": {"result": "[]"}}
NOT_WITHOUT = "TestState does not support {} when a mock is not specified."


def refusal(sfn: Any, definition: Any, **request: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as refused:
        sfn.test_state(definition=json.dumps(definition), **request)
    error = refused.value.response["Error"]
    return error["Code"], error["Message"]


@pytest.mark.parametrize(
    ("definition", "request_", "code", "says"),
    (
        (TASK, {}, "ValidationException", "RoleArn must be specified when testing a Task state"),
        (TASK, {"roleArn": "role"}, "InvalidArn", "Invalid Arn: 'Invalid ARN prefix: role'"),
        ({"Type": "Pass"}, {}, "InvalidDefinition", "One of these fields is required: [Next, End]"),
        (PASS, {"input": "{"}, "InvalidExecutionInput", "Invalid State Machine Execution Input"),
        (PASS, {"variables": "[]"}, "ValidationException", "'variables' must be a JSON object"),
        (PASS, {"variables": "["}, "ValidationException", "'variables' must be valid JSON"),
        (PASS, OK, "ValidationException", "State type 'Pass' is not supported when a mock is specified"),
        (PASS, {"context": "{}"}, "ValidationException", NOT_WITHOUT.format("Context")),
        (
            PASS,
            {"stateConfiguration": {"retrierRetryCount": 1}},
            "ValidationException",
            NOT_WITHOUT.format("RetrierRetryCount"),
        ),
        (MAP, {}, "InvalidDefinition", "TestState API does not support Map or Parallel states."),
        (PARALLEL, {}, "InvalidDefinition", "TestState API does not support Map or Parallel states."),
        (
            {**TASK, "Resource": "arn:aws:states:us-east-1:000000000000:activity:a"},
            {"roleArn": ROLE},
            "InvalidDefinition",
            "does not support Activity tasks",
        ),
        (
            {**TASK, "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken"},
            {"roleArn": ROLE},
            "InvalidDefinition",
            "does not support the .waitForTaskToken service integration pattern",
        ),
        (TASK, {"mock": {}}, "ValidationException", "should have one of the following fields: [result, errorOutput]"),
        (
            TASK,
            {"mock": {"result": "1", "errorOutput": {"error": "E"}}},
            "ValidationException",
            "A test mock should have only one of the following fields: [result, errorOutput].",
        ),
        (TASK, {"mock": {"errorOutput": {"cause": "c"}}}, "ValidationException", "'error' of a mock's errorOutput"),
        (TASK, {"mock": {"result": "{"}}, "ValidationException", "Mocked result must be valid JSON"),
        (MAP, OK, "ValidationException", "Mocked result must be an array."),
        (
            PARALLEL,
            {"mock": {"result": "[1]"}},
            "ValidationException",
            "Mocked result must contain the same number of items as number of Parallel branches.",
        ),
        (
            MAP,
            {"mock": {"errorOutput": {"error": "E"}}, "stateConfiguration": {"errorCausedByState": "Nobody"}},
            "ValidationException",
            "State not found in definition",
        ),
        (
            MAP,
            {**LIST, "stateConfiguration": {"mapItemReaderData": "[]"}},
            "ValidationException",
            "mapItemReaderData is for a Map state with an ItemReader",
        ),
        (TASK, {**OK, "context": "["}, "ValidationException", "Invalid Context object provided: it must be valid JSON"),
        (TASK, {**OK, "context": "[]"}, "ValidationException", "Invalid Context object provided: it must be a JSON object"),
        (TASK, {**OK, "context": '{"State": 1}'}, "ValidationException", "State must be an object"),
        (
            TASK,
            {**OK, "context": '{"State": {"RetryCount": true}}'},
            "ValidationException",
            "State.RetryCount must be a number",
        ),
    ),
)  # fmt: skip
def test_what_cannot_be_tested_is_refused(
    sfn: Any, definition: Any, request_: dict[str, Any], code: str, says: str
) -> None:
    found = refusal(sfn, definition, **request_)
    assert found[0] == code
    assert says in found[1]


def test_a_state_of_a_machine_is_found_however_deep_it_lies(sfn: Any) -> None:
    processor = {"StartAt": "I", "States": {"I": {**PASS, "Output": "{% $states.input %}"}}}
    state = {"Type": "Map", "Items": [1], "ItemProcessor": processor, "End": True}
    machine = {"StartAt": "M", "QueryLanguage": "JSONata", "States": {"M": state}}
    tested = sfn.test_state(definition=json.dumps(machine), stateName="I", input="[3]")
    assert (tested["status"], tested["output"]) == ("SUCCEEDED", "[3]")


def test_a_task_is_performed_and_its_result_flows_on(sfn: Any, stack: Stack) -> None:
    stack.performer.answer = lambda request: succeeded(request, {"got": request.payload.value})
    definition = {**TASK, "Parameters": {"n.$": "$.n"}, "ResultPath": "$.r"}
    tested = sfn.test_state(definition=json.dumps(definition), roleArn=ROLE, input='{"n": 1}', inspectionLevel="DEBUG")
    assert json.loads(tested["output"]) == {"n": 1, "r": {"got": {"n": 1}}}
    assert tested["inspectionData"]["result"] == '{"got": {"n": 1}}'
    (asked,) = stack.performer.asked
    assert asked.execution_arn.startswith("arn:aws:states:us-east-1:000000000000:express:")
    assert asked.claim_key


def test_a_task_is_performed_once_whatever_its_expressions_need(sfn: Any, stack: Stack) -> None:
    total = "$reduce([1..60000], function($a, $b) {$a + $b})"
    definition = {
        **TASK, "QueryLanguage": "JSONata",
        "Arguments": {"total": f"{{% {total} %}}", "id": "{% $uuid() %}"},
        "Output": f"{{% {{'total': {total}, 'id': $states.result.got.id}} %}}",
    }  # fmt: skip
    stack.performer.answer = lambda request: succeeded(request, {"got": request.payload.value})
    tested = sfn.test_state(definition=json.dumps(definition), roleArn=ROLE, inspectionLevel="DEBUG")
    (asked,) = stack.performer.asked
    arguments = json.loads(asked.payload.text)
    assert json.loads(tested["output"]) == arguments and arguments["total"] == 60_000 * 60_001 // 2
    assert json.loads(tested["inspectionData"]["afterArguments"]) == arguments


def test_what_performs_a_task_may_fail(sfn: Any, stack: Stack) -> None:
    def failed(request: TaskRequest) -> TaskFailed:
        return TaskFailed(request.task, "Card.Declined", "no money")

    def away(request: TaskRequest) -> TaskSucceeded:
        raise TargetUnavailableError("The broker is away.")

    def broken(request: TaskRequest) -> TaskSucceeded:
        raise ConfigurationError("no such setting")

    definition = json.dumps({**TASK, "Catch": [{"ErrorEquals": ["Card.Declined"], "Next": "Apologise"}]})
    stack.performer.answer = failed
    tested = sfn.test_state(definition=definition, roleArn=ROLE)
    assert (tested["status"], tested["error"], tested["nextState"]) == ("CAUGHT_ERROR", "Card.Declined", "Apologise")
    stack.performer.answer = away
    code, message = refusal(sfn, json.loads(definition), roleArn=ROLE)
    assert (code, message) == ("ServiceUnavailable", "The task cannot be performed now: The broker is away.")
    stack.performer.answer = broken
    tested = sfn.test_state(definition=definition, roleArn=ROLE)
    assert (tested["status"], tested["error"], tested["cause"]) == ("FAILED", "States.Runtime", "no such setting")


def test_the_exchange_of_an_http_task_is_told_at_the_level_trace_alone(sfn: Any, stack: Stack) -> None:
    def called(request: TaskRequest) -> TaskSucceeded:
        assert request.trace is not None and not request.trace.reveal
        request.trace.request = {"method": "GET"}
        request.trace.response = {"statusCode": "200"}
        return succeeded(request, 1)

    stack.performer.answer = called
    definition = json.dumps({**TASK, "Resource": "arn:aws:states:::http:invoke"})
    told = {
        level: sfn.test_state(definition=definition, roleArn=ROLE, inspectionLevel=level)
        for level in ("INFO", "DEBUG", "TRACE")
    }
    assert "inspectionData" not in told["INFO"]
    assert "request" not in told["DEBUG"]["inspectionData"]
    assert told["TRACE"]["inspectionData"]["request"] == {"method": "GET"}
    assert told["TRACE"]["inspectionData"]["response"] == {"statusCode": "200"}


async def test_secrets_are_revealed_only_where_the_server_says_so(stack: Stack) -> None:
    stack.performer.answer = lambda request: succeeded(request, 1)
    body = {"definition": {**TASK, "Resource": "arn:aws:states:::http:invoke"}, "revealSecrets": True}
    async with stack.client() as client:
        refused = await client.post("/v1/test-state", json=body)
    assert (refused.status_code, refused.json()["code"]) == (403, "AccessDeniedException")
    assert "STEPWELL_REVEAL_SECRETS" in refused.json()["detail"] and not stack.performer.asked
    open_stack = build_stack(ServiceSettings(reveal_secrets=True))
    async with open_stack.client() as client:
        assert (await client.post("/v1/test-state", json=body)).json()["status"] == "SUCCEEDED"
    (asked,) = open_stack.performer.asked
    assert asked.trace is not None and asked.trace.reveal


async def test_texts_are_held_to_the_payload_limit(rest: httpx.AsyncClient) -> None:
    long = "x" * 262_144
    answer = await rest.post("/v1/test-state", json={"definition": PASS, "input": long, "variables": {"v": long}})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("2 validation errors detected: Value")


@pytest.mark.parametrize(("seconds", "status"), ((299, "SUCCEEDED"), (301, "FAILED")))
def test_a_wait_is_not_waited_for(sfn: Any, seconds: int, status: str) -> None:
    tested = sfn.test_state(definition=json.dumps({"Type": "Wait", "Seconds": seconds, "End": True}))
    assert tested["status"] == status
    assert tested.get("error") == ("States.Timeout" if status == "FAILED" else None)


def test_an_expression_that_needs_much_is_carried_out_apart(sfn: Any, stack: Stack) -> None:
    stack.performer.answer = lambda request: succeeded(request, request.payload.value)
    definition = {
        "Type": "Task",
        "QueryLanguage": "JSONata",
        "Resource": FUNCTION,
        "Arguments": "{% $sum($map([1..100000], function($n) { $n })) %}",
        "Output": {"sum": "{% $states.result %}", "again": "{% $count([1..100000][$ % 2 = 0]) %}"},
        "End": True,
    }
    tested = sfn.test_state(definition=json.dumps(definition), roleArn=ROLE)
    assert json.loads(tested["output"]) == {"sum": 5_000_050_000, "again": 50_000}
    assert len(stack.performer.asked) == 1
    endless = {
        "Type": "Pass",
        "QueryLanguage": "JSONata",
        "Output": "{% ($f := function() { $f() }; $f()) %}",
        "End": True,
    }
    tested = sfn.test_state(definition=json.dumps(endless))
    assert (tested["status"], tested["error"]) == ("FAILED", "States.QueryEvaluationError")


async def test_rest_takes_and_gives_json(rest: httpx.AsyncClient) -> None:
    answer = await rest.post(
        "/v1/test-state",
        json={
            "definition": {**TASK, "Retry": [{"ErrorEquals": ["Busy"]}], "Assign": {"a.$": "$"}},
            "input": {"n": 1},
            "variables": {"v": [1]},
            "mock": {"result": {"r": 2}},
        },
    )
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "status": "SUCCEEDED",
            "output": {"r": 2},
            "inspectionData": {
                "input": {"n": 1},
                "afterInputPath": {"n": 1},
                "afterParameters": {"n": 1},
                "result": {"r": 2},
                "afterResultSelector": {"r": 2},
                "afterResultPath": {"r": 2},
                "variables": {"v": [1], "a": {"r": 2}},
            },
        },
    )


async def test_rest_tells_where_a_request_is_wrong(rest: httpx.AsyncClient) -> None:
    answer = await rest.post("/v1/test-state", json={"definition": PASS, "mock": {"result": 1}})
    assert answer.status_code == 400
    problem = answer.json()
    assert (problem["code"], problem["pointer"]) == ("ValidationException", "/mock")
    answer = await rest.post("/v1/test-state", json={"definition": PASS, "inspectionLevel": "LOUD"})
    assert answer.json()["pointer"] == "/inspectionLevel"


async def test_what_a_reader_reads_is_json_or_text_over_rest(rest: httpx.AsyncClient) -> None:
    for data in ([1, 2], "[1, 2]"):
        body = {
            "definition": {**READING, "ItemSelector": {"v.$": "$$.Map.Item.Value"}},
            "mock": {"result": [1]},
            "stateConfiguration": {"mapItemReaderData": data, "mapIterationFailureCount": 2},
        }
        told = (await rest.post("/v1/test-state", json=body)).json()
        assert told["inspectionData"]["afterItemSelector"] == [{"v": 1}, {"v": 2}], told


@pytest.mark.parametrize(
    ("config", "data", "items"),
    (
        ({}, "[1, {}]", [1, {}]),
        ({"InputType": "JSON", "ItemsPointer": "/a~1b/1"}, '{"a/b": [0, [5, 6]]}', [5, 6]),
        ({"InputType": "JSON", "MaxItems": 2}, "[1, 2, 3]", [1, 2]),
        ({"InputType": "JSONL"}, '{"a": 1}\n\n[2]\n', [{"a": 1}, [2]]),
        (
            {"InputType": "CSV", "CSVHeaderLocation": "FIRST_ROW"},
            'n,text\r\n1,"a, b"\r\n\r\n2\r\n3,c,more\r\n',
            [{"n": "1", "text": "a, b"}, {"n": "2", "text": ""}, {"n": "3", "text": "c"}],
        ),
        (
            {"InputType": "CSV", "CSVHeaderLocation": "GIVEN", "CSVHeaders": ["x", "y"], "CSVDelimiter": "PIPE"},
            "1|2\n",
            [{"x": "1", "y": "2"}],
        ),
        (
            {"InputType": "CSV", "CSVHeaderLocation": "FIRST_ROW"},
            '\ufeffa,b\n"x ""y""\nz",a"b\n""\nc\\,d,e',
            [{"a": 'x "y"\nz', "b": 'a"b'}, {"a": "", "b": ""}, {"a": "c,d", "b": "e"}],
        ),
    ),
)
def test_what_a_reader_finds(sfn: Any, config: dict[str, Any], data: str, items: list[Any]) -> None:
    reader = (
        {**READING["ItemReader"], "ReaderConfig": {"InputType": "JSON", **config}} if config else READING["ItemReader"]
    )
    state = {**READING, "ItemReader": reader, "ItemSelector": {"v.$": "$$.Map.Item.Value"}}
    tested = sfn.test_state(
        definition=json.dumps(state),
        inspectionLevel="DEBUG",
        mock={"result": "[]"},
        stateConfiguration={"mapItemReaderData": data},
    )
    assert tested["status"] == "SUCCEEDED", tested
    inspected = tested["inspectionData"]
    assert json.loads(inspected["afterItemSelector"]) == [{"v": item} for item in items]
    pointed = items if "ItemsPointer" in config else None
    assert json.loads(inspected.get("afterItemsPointer", "null")) == pointed
    assert "afterItemsPath" not in inspected


@pytest.mark.parametrize(
    ("config", "data", "cause"),
    (
        ({}, "{}", "Attempting to map over non-iterable node."),
        ({}, "nonsense", "The text is not valid JSON"),
        ({"ItemsPointer": "/a/9"}, '{"a": []}', "There is nothing at the ItemsPointer /a/9"),
        ({"ItemsPointer": "/a/²"}, '{"a": [1]}', "There is nothing at the ItemsPointer /a/²"),
        ({"ItemsPointer": "/a/" + "1" * 5000}, '{"a": [1]}', "There is nothing at the ItemsPointer /a/1"),
        ({"InputType": "JSONL"}, "1\n{", "The text is not valid JSON"),
        ({"InputType": "CSV", "CSVHeaderLocation": "GIVEN"}, "1,2\n", "CSVHeaders is no array of strings"),
        ({"InputType": "CSV", "CSVHeaderLocation": "FIRST_ROW"}, 'a\n"b\n', "a quote in row 2 is not closed"),
        ({"InputType": "MANIFEST"}, "{}", "cannot be given as text"),
    ),
)
def test_what_a_reader_cannot_read_fails_the_state(sfn: Any, config: dict[str, Any], data: str, cause: str) -> None:
    reader = {**READING["ItemReader"], "ReaderConfig": {"InputType": "JSON", **config}}
    tested = sfn.test_state(
        definition=json.dumps({**READING, "ItemReader": reader}),
        mock={"result": "[]"},
        stateConfiguration={"mapItemReaderData": data},
    )
    assert (tested["status"], tested["error"]) == ("FAILED", "States.ItemReaderFailed")
    assert cause in tested["cause"]


def test_inspection_has_the_members_of_the_api_model(sfn: Any) -> None:
    answer = sfn.meta.service_model.operation_model("TestState").output_shape
    outcome = Outcome(
        status=Ending.CAUGHT_ERROR,
        output=Document.of(1),
        error="E",
        cause="c",
        next="N",
        values={arrow: Document.of(1) for arrow in Arrow},
        variables={"v": 1},
        max_concurrency=1,
        tolerated_count=1,
        tolerated_percentage=1.5,
        retry_index=0,
        catch_index=0,
        backoff_seconds=1,
    )
    told = shapes.state_test(
        StateTestResult(outcome, InspectionLevel.TRACE, HttpTrace(request={"a": "b"}, response={"c": "d"}))
    )
    assert set(told) == set(answer.members)
    inspection = answer.members["inspectionData"]
    assert set(told["inspectionData"]) == set(inspection.members)
    details = inspection.members["errorDetails"]
    assert set(told["inspectionData"]["errorDetails"]) == set(details.members)
    assert set(answer.members["status"].enum) == set(Ending)
    exchange = inspection.members["request"].members, inspection.members["response"].members
    assert [set(members) for members in exchange] == [REQUEST_MEMBERS, RESPONSE_MEMBERS]
