"""The operations that are served: one table from name to handler. A handler turns a checked request into calls of use-cases.

Requests have been checked against `members` when they come here. It must not know HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeAlias

from stepwell.api.http import Request
from stepwell.api.wire import shapes
from stepwell.api.wire.shapes import PENDING_REDRIVE, Answer, seconds
from stepwell.engine import limits
from stepwell.engine.asl.diagnostics import Severity
from stepwell.engine.machine.commands import Status
from stepwell.engine.service import checks, refusals
from stepwell.engine.service.mock_shapes import FieldValidation
from stepwell.engine.service.refusals import ErrorCode, ServiceError
from stepwell.engine.service.services import Services
from stepwell.engine.service.state_machines import MachineConfig
from stepwell.engine.service.state_tests import InspectionLevel, MockInput, StateTestRequest
from stepwell.engine.telemetry import parse_traceparent

Input: TypeAlias = dict[str, Any]
THREAD_BYTES: Final = 65_536
"""A definition of more is looked through in a thread of its own."""
Handler: TypeAlias = Callable[[Services, Request, Input], Awaitable[Answer]]


def _with_token(answer: Answer, token: str | None) -> Answer:
    if token is not None:
        answer["nextToken"] = token
    return answer


# -------------------------------------------------------------------------------------------------------- state machines


def _config(input: Input) -> MachineConfig:
    return MachineConfig(
        logging=input.get("loggingConfiguration"),
        tracing=input.get("tracingConfiguration"),
        encryption=input.get("encryptionConfiguration"),
    )


def _no_versions(input: Input) -> None:
    if input.get("publish"):
        raise refusals.invalid("Versions of state machines are not supported: leave out 'publish'")
    if input.get("versionDescription"):
        raise refusals.invalid("Version description can only be set when publish is true")


async def create_state_machine(services: Services, request: Request, input: Input) -> Answer:
    _no_versions(input)
    _no_tags(input)
    record = await services.state_machines.create(
        request.context,
        name=input["name"],
        definition=input["definition"],
        role_arn=input["roleArn"],
        type=input.get("type") or "STANDARD",
        config=_config(input),
    )
    return {"stateMachineArn": record.arn, "creationDate": seconds(record.created_at)}


async def update_state_machine(services: Services, request: Request, input: Input) -> Answer:
    _no_versions(input)
    record = await services.state_machines.update(
        input["stateMachineArn"],
        definition=input.get("definition"),
        role_arn=input.get("roleArn"),
        config=_config(input),
    )
    return {"updateDate": seconds(record.updated_at), "revisionId": record.revision_id}


async def _shaped(definition: str, shape: Callable[[], Answer]) -> Answer:
    """An answer that tells what a definition reads; finding that out takes long in a large one."""
    return await asyncio.to_thread(shape) if len(definition) > THREAD_BYTES else shape()


async def describe_state_machine(services: Services, request: Request, input: Input) -> Answer:
    record = await services.state_machines.describe(input["stateMachineArn"])
    data = input.get("includedData") != "METADATA_ONLY"
    return await _shaped(record.definition, partial(shapes.machine, record, data=data))


async def describe_state_machine_for_execution(services: Services, request: Request, input: Input) -> Answer:
    view, revision, record = await services.executions.machine_of(input["executionArn"])
    data = input.get("includedData") != "METADATA_ONLY"
    shape = partial(shapes.machine_for_execution, view, revision, record, data=data)
    return await _shaped(revision.definition, shape)


async def list_state_machines(services: Services, request: Request, input: Input) -> Answer:
    page = await services.state_machines.list(input.get("maxResults"), input.get("nextToken"))
    return _with_token({"stateMachines": [shapes.machine_item(item) for item in page.items]}, page.next)


async def list_state_machine_versions(services: Services, request: Request, input: Input) -> Answer:
    checks.arn_of(input["stateMachineArn"], checks.MACHINE)
    return {"stateMachineVersions": []}


async def delete_state_machine(services: Services, request: Request, input: Input) -> Answer:
    await services.state_machines.delete(input["stateMachineArn"])
    return {}


async def validate_state_machine_definition(services: Services, request: Request, input: Input) -> Answer:
    findings = await services.state_machines.check(input["definition"], input.get("type") or "STANDARD")
    errors = any(finding.severity is Severity.ERROR for finding in findings)
    if input.get("severity") != "WARNING":
        findings = [finding for finding in findings if finding.severity is Severity.ERROR]
    most = input.get("maxResults") or limits.MAX_DIAGNOSTICS
    return {
        "result": "FAIL" if errors else "OK",
        "diagnostics": [shapes.diagnostic(finding) for finding in findings[:most]],
        "truncated": len(findings) > most,
    }


# ------------------------------------------------------------------------------------------------------------ executions


def _trace(request: Request, input: Input) -> str | None:
    trace: str | None = input.get("traceHeader")
    if trace is None and (parent := parse_traceparent(request.header(b"traceparent"))) is not None:
        return str(parent)
    return trace


async def start_execution(services: Services, request: Request, input: Input) -> Answer:
    text = input.get("input")
    started = await services.executions.start(
        input["stateMachineArn"],
        input=None if text is None else text.encode(),
        name=input.get("name"),
        trace_header=_trace(request, input),
    )
    return {"executionArn": started.answer.arn, "startDate": seconds(started.answer.started_at)}


async def start_sync_execution(services: Services, request: Request, input: Input) -> Answer:
    """A caller that goes away does not stop the execution."""
    text = input.get("input")
    view = await services.executions.run_sync(
        input["stateMachineArn"],
        input=None if text is None else text.encode(),
        name=input.get("name"),
        trace_header=_trace(request, input),
    )
    return shapes.sync_execution(view, data=input.get("includedData") != "METADATA_ONLY")


async def describe_execution(services: Services, request: Request, input: Input) -> Answer:
    data = input.get("includedData") != "METADATA_ONLY"
    view = await services.executions.describe(input["executionArn"], data=data)
    return shapes.execution(view, services.executions.redrivability(view))


async def list_executions(services: Services, request: Request, input: Input) -> Answer:
    arn = input.get("stateMachineArn")
    if (arn is None) == (input.get("mapRunArn") is None):
        raise refusals.invalid("Exactly one of 'stateMachineArn' and 'mapRunArn' must be specified")
    if arn is None:
        return await _list_children(services, input)
    if input.get("redriveFilter") or input.get("statusFilter") == PENDING_REDRIVE:
        raise refusals.invalid("'redriveFilter' and the status PENDING_REDRIVE need 'mapRunArn'")
    status = input.get("statusFilter")
    page = await services.executions.list_of_machine(
        arn,
        status=None if status is None else Status(status),
        max_results=input.get("maxResults"),
        token=input.get("nextToken"),
    )
    return _with_token({"executions": [shapes.execution_item(view) for view in page.items]}, page.next)


async def _list_children(services: Services, input: Input) -> Answer:
    """ListExecutions of a Map Run."""
    status, redriven = input.get("statusFilter"), input.get("redriveFilter")
    page = await services.map_runs.children(
        input["mapRunArn"],
        status=None if status in (None, PENDING_REDRIVE) else Status(status),
        pending_redrive=status == PENDING_REDRIVE,
        redriven=None if redriven is None else redriven == "REDRIVEN",
        max_results=input.get("maxResults"),
        token=input.get("nextToken"),
    )
    return _with_token({"executions": [shapes.child_item(view) for view in page.items]}, page.next)


async def describe_map_run(services: Services, request: Request, input: Input) -> Answer:
    return shapes.map_run(await services.map_runs.describe(input["mapRunArn"]))


async def list_map_runs(services: Services, request: Request, input: Input) -> Answer:
    page = await services.map_runs.list(input["executionArn"], input.get("maxResults"), input.get("nextToken"))
    return _with_token({"mapRuns": [shapes.map_run_item(view) for view in page.items]}, page.next)


async def update_map_run(services: Services, request: Request, input: Input) -> Answer:
    percentage = input.get("toleratedFailurePercentage")
    await services.map_runs.update(
        input["mapRunArn"],
        max_concurrency=input.get("maxConcurrency"),
        tolerated_count=input.get("toleratedFailureCount"),
        tolerated_percentage=None if percentage is None else float(percentage),
    )
    return {}


async def get_execution_history(services: Services, request: Request, input: Input) -> Answer:
    page = await services.executions.history(
        input["executionArn"],
        max_results=input.get("maxResults"),
        reverse=bool(input.get("reverseOrder")),
        token=input.get("nextToken"),
    )
    data = input.get("includeExecutionData") is not False
    return _with_token({"events": [shapes.event(id, event, data=data) for id, event in page.events]}, page.next)


async def stop_execution(services: Services, request: Request, input: Input) -> Answer:
    at = await services.executions.stop(input["executionArn"], error=input.get("error"), cause=input.get("cause"))
    return {"stopDate": seconds(at)}


async def redrive_execution(services: Services, request: Request, input: Input) -> Answer:
    at = await services.executions.redrive(input["executionArn"], input.get("clientToken"))
    return {"redriveDate": seconds(at)}


async def test_state(services: Services, request: Request, input: Input) -> Answer:
    mock = input.get("mock")
    configuration = input.get("stateConfiguration") or {}
    test = services.state_tests.test(
        request.context,
        StateTestRequest(
            definition=input["definition"],
            state_name=input.get("stateName"),
            role_arn=input.get("roleArn"),
            input=input.get("input"),
            level=InspectionLevel(input.get("inspectionLevel") or InspectionLevel.INFO),
            reveal_secrets=bool(input.get("revealSecrets")),
            variables=input.get("variables"),
            context=input.get("context"),
            mock=None if mock is None else _mock(mock),
            retrier_retry_count=configuration.get("retrierRetryCount"),
            error_caused_by_state=configuration.get("errorCausedByState"),
            map_iteration_failure_count=configuration.get("mapIterationFailureCount"),
            map_item_reader_data=configuration.get("mapItemReaderData"),
        ),
    )
    return shapes.state_test(await request.while_connected(test))


def _mock(input: Input) -> MockInput:
    error = input.get("errorOutput")
    return MockInput(
        result=input.get("result"),
        error=None if error is None else error.get("error"),
        cause=None if error is None else error.get("cause"),
        has_error=error is not None,
        validation=FieldValidation(input.get("fieldValidationMode") or FieldValidation.STRICT),
    )


# -------------------------------------------------------------------------------------------------- activities and tasks


def _no_tags(input: Input) -> None:
    if input.get("tags"):
        raise refusals.invalid("Tags are not supported: leave out 'tags'")


async def list_tags_for_resource(services: Services, request: Request, input: Input) -> Answer:
    """No resource has tags, since none are taken; Terraform asks nevertheless."""
    arn = input["resourceArn"]
    try:
        if checks.any_arn(arn).kind == checks.ACTIVITY:
            await services.activities.describe(arn)
        else:
            await services.state_machines.describe(arn)
    except ServiceError as error:
        if error.code in (ErrorCode.ACTIVITY_DOES_NOT_EXIST, ErrorCode.STATE_MACHINE_DOES_NOT_EXIST):
            raise refusals.no_such_resource(arn) from None
        raise
    return {"tags": []}


async def create_activity(services: Services, request: Request, input: Input) -> Answer:
    _no_tags(input)
    record = await services.activities.create(request.context, input["name"])
    return {"activityArn": record.arn, "creationDate": seconds(record.created_at)}


async def describe_activity(services: Services, request: Request, input: Input) -> Answer:
    record = await services.activities.describe(input["activityArn"])
    return {**shapes.activity(record), "encryptionConfiguration": {"type": "AWS_OWNED_KEY"}}


async def list_activities(services: Services, request: Request, input: Input) -> Answer:
    page = await services.activities.list(input.get("maxResults"), input.get("nextToken"))
    return _with_token({"activities": [shapes.activity(item) for item in page.items]}, page.next)


async def delete_activity(services: Services, request: Request, input: Input) -> Answer:
    await services.activities.delete(input["activityArn"])
    return {}


async def get_activity_task(services: Services, request: Request, input: Input) -> Answer:
    task = await request.while_connected(services.activities.next_task(input["activityArn"], input.get("workerName")))
    if task is None:
        return {"taskToken": None}
    return {"taskToken": task.token, "input": task.input.text.decode()}


async def send_task_success(services: Services, request: Request, input: Input) -> Answer:
    await services.tasks.succeed(input["taskToken"], input["output"].encode())
    return {}


async def send_task_failure(services: Services, request: Request, input: Input) -> Answer:
    await services.tasks.fail(input["taskToken"], input.get("error"), input.get("cause"))
    return {}


async def send_task_heartbeat(services: Services, request: Request, input: Input) -> Answer:
    await services.tasks.heartbeat(input["taskToken"])
    return {}


OPERATIONS: Final[dict[str, Handler]] = {
    "CreateActivity": create_activity,
    "CreateStateMachine": create_state_machine,
    "DeleteActivity": delete_activity,
    "DeleteStateMachine": delete_state_machine,
    "DescribeActivity": describe_activity,
    "DescribeExecution": describe_execution,
    "DescribeMapRun": describe_map_run,
    "DescribeStateMachine": describe_state_machine,
    "DescribeStateMachineForExecution": describe_state_machine_for_execution,
    "GetActivityTask": get_activity_task,
    "GetExecutionHistory": get_execution_history,
    "ListActivities": list_activities,
    "ListExecutions": list_executions,
    "ListMapRuns": list_map_runs,
    "ListStateMachineVersions": list_state_machine_versions,
    "ListStateMachines": list_state_machines,
    "ListTagsForResource": list_tags_for_resource,
    "RedriveExecution": redrive_execution,
    "SendTaskFailure": send_task_failure,
    "SendTaskHeartbeat": send_task_heartbeat,
    "SendTaskSuccess": send_task_success,
    "StartExecution": start_execution,
    "StartSyncExecution": start_sync_execution,
    "StopExecution": stop_execution,
    "TestState": test_state,
    "UpdateMapRun": update_map_run,
    "UpdateStateMachine": update_state_machine,
    "ValidateStateMachineDefinition": validate_state_machine_definition,
}
"""Every operation that is served; others are answered with UnknownOperationException."""

NOT_SERVED: Final = frozenset(
    {
        "CreateStateMachineAlias",
        "DeleteStateMachineAlias",
        "DeleteStateMachineVersion",
        "DescribeStateMachineAlias",
        "ListStateMachineAliases",
        "PublishStateMachineVersion",
        "TagResource",
        "UntagResource",
        "UpdateStateMachineAlias",
    }
)
"""The rest of the API model's 37 operations."""
