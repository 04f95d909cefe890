"""Every refusal of the wire protocol, word for word; and that the tables of operations and errors are complete."""

from __future__ import annotations

import json
import re
from typing import Any

import botocore.session
import httpx
import pytest

from stepwell.api.wire.constraints import Choice, Flag, ListOf, Number, Shape, Structure, Text
from stepwell.api.wire.members import INPUTS
from stepwell.api.wire.operations import NOT_SERVED, OPERATIONS
from stepwell.engine.service.refusals import ErrorCode
from tests.api.conftest import ROLE, Stack

PASS = '{"StartAt": "A", "States": {"A": {"Type": "Pass", "End": true}}}'
MACHINE = "arn:aws:states:us-east-1:000000000000:stateMachine:m"
GONE = "arn:aws:states:us-east-1:000000000000:stateMachine:gone"
EXECUTION = "arn:aws:states:us-east-1:000000000000:execution:m:gone"
ACTIVITY = "arn:aws:states:us-east-1:000000000000:activity:gone"
EXPRESS = "arn:aws:states:us-east-1:000000000000:express:m:x:0"


async def call(rest: httpx.AsyncClient, operation: str, **input: Any) -> httpx.Response:
    headers = {"X-Amz-Target": f"AWSStepFunctions.{operation}", "Content-Type": "application/x-amz-json-1.0"}
    return await rest.post("/", content=json.dumps(input), headers=headers)


def frame(member: str, value: str, rule: str) -> str:
    return f"1 validation error detected: Value {value} at '{member}' failed to satisfy constraint: Member must {rule}"


REFUSALS = [
    ("DescribeStateMachine", {"stateMachineArn": GONE}, "StateMachineDoesNotExist", f"State Machine Does Not Exist: '{GONE}'"),
    ("StartExecution", {"stateMachineArn": GONE}, "StateMachineDoesNotExist", f"State Machine Does Not Exist: '{GONE}'"),
    ("ListExecutions", {"stateMachineArn": GONE}, "StateMachineDoesNotExist", f"State Machine Does Not Exist: '{GONE}'"),
    ("UpdateStateMachine", {"stateMachineArn": GONE, "roleArn": ROLE}, "StateMachineDoesNotExist", f"State Machine Does Not Exist: '{GONE}'"),
    ("StartExecution", {"stateMachineArn": f"{MACHINE}:1"}, "StateMachineDoesNotExist", f"State Machine Does Not Exist: '{MACHINE}:1'"),
    ("StartExecution", {"stateMachineArn": f"{MACHINE}/label"}, "ValidationException", "This operation does not support the ARN of a Map state"),
    ("DescribeExecution", {"executionArn": EXECUTION}, "ExecutionDoesNotExist", f"Execution Does Not Exist: '{EXECUTION}'"),
    ("GetExecutionHistory", {"executionArn": EXECUTION}, "ExecutionDoesNotExist", f"Execution Does Not Exist: '{EXECUTION}'"),
    ("StopExecution", {"executionArn": EXECUTION}, "ExecutionDoesNotExist", f"Execution Does Not Exist: '{EXECUTION}'"),
    ("RedriveExecution", {"executionArn": EXECUTION}, "ExecutionDoesNotExist", f"Execution Does Not Exist: '{EXECUTION}'"),
    ("DescribeExecution", {"executionArn": EXPRESS}, "InvalidArn", "Invalid Arn: 'Resource type not valid in this context: express'"),
    ("DescribeExecution", {"executionArn": "nothing"}, "InvalidArn", "Invalid Arn: 'Invalid ARN prefix: nothing'"),
    ("GetActivityTask", {"activityArn": "nothing"}, "InvalidArn", "Invalid Arn: 'Invalid ARN prefix: nothing'"),
    ("GetActivityTask", {"activityArn": ACTIVITY}, "ActivityDoesNotExist", f"Activity Does Not Exist: '{ACTIVITY}'"),
    ("CreateActivity", {"name": "a/b"}, "InvalidName", "Invalid Name: 'a/b'"),
    ("CreateActivity", {"name": "\x00a"}, "InvalidName", "Invalid Name: '\x00a'"),
    ("CreateStateMachine", {"name": "a b", "definition": PASS, "roleArn": ROLE}, "InvalidName", "Invalid Name: 'a b'"),
    ("StartExecution", {"stateMachineArn": MACHINE, "name": "a#b"}, "InvalidName", "Invalid Name: 'a#b'"),
    (
        "StartExecution",
        {"stateMachineArn": MACHINE, "input": "not json"},
        "InvalidExecutionInput",
        ("Invalid State Machine Execution Input: 'Unrecognized token 'not': was expecting (JSON String, Number, Array,"
        " Object or token 'null', 'true' or 'false')'"),
    ),
    ("StartExecution", {"stateMachineArn": MACHINE, "input": ""}, "InvalidExecutionInput", "Invalid State Machine Execution Input: 'Invalid execution input.'"),
    (
        "UpdateStateMachine",
        {"stateMachineArn": MACHINE},
        "MissingRequiredParameter",
        "Either the definition, the role ARN, the LoggingConfiguration, or the TracingConfiguration must be specified",
    ),
    (
        "CreateStateMachine",
        {"name": "l", "definition": PASS, "roleArn": ROLE, "loggingConfiguration": {"level": "ALL"}},
        "InvalidLoggingConfiguration",
        "Invalid Logging Configuration: Must specify exactly one Log Destination.",
    ),
    (
        "CreateStateMachine",
        {"name": "l", "definition": PASS, "roleArn": ROLE, "versionDescription": "v"},
        "ValidationException",
        "Version description can only be set when publish is true",
    ),
    ("SendTaskHeartbeat", {"taskToken": "nothing"}, "InvalidToken", "Invalid Token: 'Invalid token'"),
    ("ListStateMachines", {"maxResults": 1001}, "ValidationException", frame("maxResults", "'1001'", "have value less than or equal to 1000")),
    ("ListStateMachines", {"nextToken": ""}, "ValidationException", frame("nextToken", "''", "have length greater than or equal to 1")),
    ("ListStateMachines", {"nextToken": "x" * 1025}, "ValidationException", frame("nextToken", f"'{'x' * 1025}'", "have length less than or equal to 1024")),
    ("ListExecutions", {"stateMachineArn": MACHINE, "nextToken": "x" * 3097}, "ValidationException", frame("nextToken", f"'{'x' * 3097}'", "have length less than or equal to 3096")),
    (
        "ListExecutions",
        {"stateMachineArn": MACHINE, "statusFilter": "DONE"},
        "ValidationException",
        frame("statusFilter", "'DONE'", "satisfy enum value set: [SUCCEEDED, TIMED_OUT, PENDING_REDRIVE, ABORTED, FAILED, RUNNING]"),
    ),
    ("RedriveExecution", {"executionArn": EXECUTION, "clientToken": "a b"}, "ValidationException", frame("clientToken", "'a b'", "satisfy regular expression pattern: [!-~]+")),
    ("DescribeExecution", {}, "ValidationException", frame("executionArn", "null", "not be null")),
    (
        "CreateStateMachine",
        {"name": "", "definition": PASS},
        "ValidationException",
        ("2 validation errors detected: Value null at 'roleArn' failed to satisfy constraint: Member must not be null;"
        " Value '' at 'name' failed to satisfy constraint: Member must have length greater than or equal to 1"),
    ),
    ("DescribeExecution", {"executionArn": 7}, "SerializationException", "NUMBER_VALUE can not be converted to a String"),
    ("ListStateMachines", {"maxResults": True}, "SerializationException", "TRUE_VALUE can not be converted to a Integer"),
    ("TagResource", {}, "UnknownOperationException", "The operation TagResource is not supported by this server"),
    ("Nonsense", {}, "UnknownOperationException", "Unknown operation: AWSStepFunctions.Nonsense"),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "input", "code", "message"), REFUSALS)
async def test_refusal(
    stack: Stack, rest: httpx.AsyncClient, operation: str, input: dict[str, Any], code: str, message: str
) -> None:
    assert (await call(rest, "CreateStateMachine", name="m", definition=PASS, roleArn=ROLE)).status_code == 200
    answer = await call(rest, operation, **input)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/x-amz-json-1.0"
    assert answer.headers["x-amzn-requestid"]
    assert answer.json()["__type"].rsplit("#")[-1] == code
    assert answer.json()["message"] == message


async def test_data_beyond_the_limit_is_refused_in_bytes(rest: httpx.AsyncClient) -> None:
    await call(rest, "CreateStateMachine", name="m", definition=PASS, roleArn=ROLE)
    fits = json.dumps("ä" * 131_071, ensure_ascii=False)
    assert (await call(rest, "StartExecution", stateMachineArn=MACHINE, input=fits)).status_code == 200
    answer = await call(rest, "StartExecution", stateMachineArn=MACHINE, input=fits[:-1] + 'ä"')
    assert answer.json()["__type"].endswith("#ValidationException")
    assert (
        "at 'input' failed to satisfy constraint: Member must have length less than or equal to 262144" in answer.text
    )


@pytest.mark.parametrize("text", ("[" * 401 + "]" * 401, "[" * 100_000, '{"a":' * 5_000))
async def test_input_nested_too_deeply_is_refused(rest: httpx.AsyncClient, text: str) -> None:
    await call(rest, "CreateStateMachine", name="m", definition=PASS, roleArn=ROLE)
    answer = await call(rest, "StartExecution", stateMachineArn=MACHINE, input=text)
    assert answer.json()["__type"].endswith("#InvalidExecutionInput")


async def test_brackets_in_strings_are_no_nesting(rest: httpx.AsyncClient) -> None:
    await call(rest, "CreateStateMachine", name="m", definition=PASS, roleArn=ROLE)
    text = json.dumps(["[" * 1000, '\\"{' * 1000, *([[]] * 500)])
    assert (await call(rest, "StartExecution", stateMachineArn=MACHINE, input=text)).status_code == 200


@pytest.mark.parametrize("body", (b"", b"[]", b"{", b"\xff", b'{"a": "\\ud800"}', b"[" * 100_000))
async def test_a_body_that_is_no_object_is_refused(rest: httpx.AsyncClient, body: bytes) -> None:
    answer = await rest.post("/", content=body, headers={"X-Amz-Target": "AWSStepFunctions.DescribeExecution"})
    assert answer.status_code == 400
    wanted = "ValidationException" if body == b"" else "SerializationException"
    assert answer.json()["__type"].endswith(wanted)


async def test_a_post_without_a_target_says_where_the_documentation_is(rest: httpx.AsyncClient) -> None:
    answer = await rest.post("/", content=b"{}")
    assert answer.json()["__type"].endswith("#UnknownOperationException")
    assert "/docs" in answer.json()["message"]


# ---------------------------------------------------------------------------------- the tables against the API model


def model() -> Any:
    return botocore.session.get_session().get_service_model("stepfunctions")


def test_every_operation_of_the_api_is_served_or_listed_as_not_served() -> None:
    assert set(model().operation_names) == set(OPERATIONS) | NOT_SERVED
    assert not set(OPERATIONS) & NOT_SERVED
    assert set(INPUTS) == set(OPERATIONS)


def differences(path: str, ours: Shape, theirs: Any) -> list[str]:
    kind = theirs.type_name
    meta = theirs.metadata
    found: list[str] = []
    match ours:
        case Structure():
            assert kind == "structure", path
            found += [f"{path}: members {set(ours.members) ^ set(theirs.members)}"] * (
                set(ours.members) != set(theirs.members)
            )
            found += [f"{path}: required"] * (set(ours.required) != set(theirs.required_members))
            for name, member in ours.members.items():
                found += differences(f"{path}.{name}", member, theirs.members[name])
        case Text():
            found += [f"{path}: {kind}"] * (kind != "string" or bool(theirs.enum))
            found += [f"{path}: min {meta.get('min')}"] * (ours.low != meta.get("min", 0))
            found += [f"{path}: max {meta.get('max')}"] * (ours.high != meta.get("max"))
            found += [f"{path}: pattern {meta.get('pattern')}"] * (ours.pattern != meta.get("pattern"))
        case Number():
            found += [f"{path}: {kind}"] * (kind not in (("float", "double") if ours.fraction else ("integer", "long")))
            found += [f"{path}: range"] * ((ours.low, ours.high) != (meta.get("min"), meta.get("max")))
        case Choice():
            found += [f"{path}: enum"] * (set(ours.values) != set(theirs.enum))
        case Flag():
            found += [f"{path}: {kind}"] * (kind != "boolean")
        case ListOf():
            found += [f"{path}: {kind}"] * (kind != "list")
            found += differences(f"{path}[]", ours.item, theirs.member)
    return found


@pytest.mark.parametrize("operation", sorted(INPUTS))
def test_members_and_constraints_are_those_of_the_api_model(operation: str) -> None:
    theirs = model().operation_model(operation).input_shape
    assert differences(operation, INPUTS[operation], theirs) == []


def test_every_error_code_is_one_of_the_api_model_or_common() -> None:
    common = re.compile(
        "AccessDeniedException|InternalFailure|InvalidSignatureException|MissingAuthenticationToken|"
        "RequestEntityTooLargeException|SerializationException|ServiceUnavailable|UnknownOperationException|"
        "UnrecognizedClientException"
    )
    modelled = {shape.name for shape in model().error_shapes}
    assert {code for code in ErrorCode if code not in modelled and not common.fullmatch(code)} == set()
