"""The OpenAPI document: schemas of bodies (from the structs) and views (from a table), and the hot paths FastAPI has not seen."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final, TypeAlias

import msgspec

from stepwell.api.rest import bodies
from stepwell.engine.messages import Claim, ClaimAnswer, Outcome, WorkerReport
from stepwell.engine.service.refusals import ErrorCode

Schema: TypeAlias = dict[str, Any]

DESCRIPTION: Final = """Stepwell runs Amazon States Language workflows durably on your own Postgres and Celery workers.

**Executions are named** by their key (`id`, 32 hexadecimal digits), by their ARN, or as `machine:name`.
**Starting is idempotent by name**: the same `name` with the same `input` is the same execution, however often it is asked for.
**Refusals** are problem documents (RFC 9457, `application/problem+json`); `code` is the name AWS Step Functions has for the reason.
**503** means that nothing was written or nobody knows: asking again is safe.

The AWS Step Functions protocol is served at `POST /`: point `endpoint_url` of boto3 or the AWS CLI at this server."""

_BODIES: Final = (
    bodies.StartBody,
    bodies.MachineBody,
    bodies.ValidateBody,
    bodies.TestStateBody,
    bodies.StopBody,
    bodies.RedriveBody,
    bodies.MapRunBody,
    bodies.TaskSuccessBody,
    bodies.TaskFailureBody,
    bodies.TaskTokenBody,
    bodies.ActivityBody,
    bodies.FunctionBody,
    bodies.ConnectionBody,
    Claim,
    ClaimAnswer,
    Outcome,
    WorkerReport,
)
_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"

_TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_ANY: Final[Schema] = {"description": "Any JSON."}
_STATUS: Final[Schema] = {"type": "string", "enum": ["RUNNING", "SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"]}


def _says(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


def _object(required: str, **properties: Schema) -> Schema:
    return {"type": "object", "required": required.split(), "properties": properties}


_TALLY: Final = _object(
    "pending running succeeded failed timedOut aborted total",
    pending=_COUNT,
    running=_COUNT,
    succeeded=_COUNT,
    failed=_COUNT,
    timedOut=_COUNT,
    aborted=_COUNT,
    total=_COUNT,
)

_VIEWS: Final[dict[str, Schema]] = {
    "StateMachine": _object(
        "arn name type status revision createdAt updatedAt",
        arn=_TEXT,
        name=_TEXT,
        type={"type": "string", "enum": ["STANDARD", "EXPRESS"]},
        status={"type": "string", "enum": ["ACTIVE", "DELETING"]},
        description=_TEXT,
        revision=_says(_COUNT, "Counts the definitions this machine has had."),
        revisionId=_says(_TEXT, "AWS's name of the revision; absent for the first."),
        createdAt=_TIME,
        updatedAt=_TIME,
        roleArn=_TEXT,
        definition={"type": "object"},
        loggingConfiguration={"type": "object"},
        tracingConfiguration={"type": "object"},
    ),
    "Diagnostic": _object(
        "severity code message",
        severity={"type": "string", "enum": ["ERROR", "WARNING"]},
        code=_TEXT,
        message=_TEXT,
        location=_says(_TEXT, "The place as AWS names it."),
        pointer=_says(_TEXT, "The place as an RFC 6901 JSON pointer into the definition."),
        line=_says(_COUNT, "From 1, in the text of the definition."),
        column=_COUNT,
        hint=_says(_TEXT, "What to do about it."),
    ),
    "Validation": _object(
        "valid diagnostics",
        valid={"type": "boolean"},
        diagnostics={"type": "array", "items": {"$ref": "#/components/schemas/Diagnostic"}},
    ),
    "StateTest": _object(
        "status",
        status={"type": "string", "enum": ["SUCCEEDED", "FAILED", "RETRIABLE", "CAUGHT_ERROR"]},
        output=_ANY,
        error=_TEXT,
        cause=_TEXT,
        nextState=_says(_TEXT, "Where the state leads."),
        inspectionData=_says(
            {"type": "object", "additionalProperties": True},
            "The value at each arrow of the data flow (`input`, `afterInputPath`, `afterParameters`, `afterArguments`, `result`,"
            " `afterResultSelector`, `afterResultPath`, ...), `variables`, `errorDetails`; with TRACE `request` and `response`.",
        ),
    ),
    "Execution": _object(
        "id arn name stateMachine status startedAt",
        id=_says(_TEXT, "The key: 32 hexadecimal digits."),
        arn=_TEXT,
        name=_TEXT,
        stateMachine=_TEXT,
        stateMachineArn=_TEXT,
        type=_says({"type": "string", "enum": ["EXPRESS"]}, "Of an Express execution only."),
        revision=_says(_COUNT, "The revision of the definition it runs."),
        status=_STATUS,
        startedAt=_TIME,
        stoppedAt=_TIME,
        input=_ANY,
        output=_says(_ANY, "The result, once SUCCEEDED."),
        error=_says(_TEXT, "The error name, once FAILED, TIMED_OUT or ABORTED."),
        cause=_TEXT,
        events=_says(_COUNT, "How many history events there are."),
        attempt=_says(_COUNT, "Of an Express execution: how many times it has been run from the start."),
        redriveCount=_COUNT,
        redrivenAt=_TIME,
        redriveStatus={"type": "string", "enum": ["REDRIVABLE", "NOT_REDRIVABLE"]},
        redriveStatusReason=_TEXT,
        traceHeader=_says(_TEXT, "The `traceparent` (or X-Ray header) it was started with."),
        mapRun=_says(_TEXT, "Of a child execution: the ARN of its Map Run."),
        items=_says(_COUNT, "Of a child execution: how many items it was given."),
    ),
    "MapRun": _object(
        "arn execution stateMachineArn status startedAt items executions",
        arn=_TEXT,
        execution=_says(_TEXT, "The ARN of the execution it belongs to."),
        stateMachineArn=_says(_TEXT, "The state machine with the label of the Map state."),
        status={"type": "string", "enum": ["RUNNING", "SUCCEEDED", "FAILED", "ABORTED"]},
        startedAt=_TIME,
        stoppedAt=_TIME,
        maxConcurrency=_says(_COUNT, "0: as many as allowed."),
        toleratedFailureCount=_COUNT,
        toleratedFailurePercentage={"type": "number", "minimum": 0, "maximum": 100},
        error=_says(_TEXT, "The error name, once FAILED."),
        cause=_TEXT,
        redriveCount=_COUNT,
        redrivenAt=_TIME,
        items=_says(_TALLY, "Items by where their child executions stand."),
        executions=_says(_TALLY, "Child executions by where they stand."),
    ),
    "Event": _object(
        "id type previousId timestamp details",
        id=_COUNT,
        type=_TEXT,
        previousId=_COUNT,
        timestamp=_TIME,
        details={"type": "object"},
    ),
    "DeadLetter": _object(
        "id kind status execution executionArn stateMachine at",
        id=_COUNT,
        kind={"type": "string", "enum": ["execution", "delivery"]},
        status={"type": "string", "enum": ["OPEN", "REDRIVEN", "DISCARDED"]},
        execution=_says(_TEXT, "The key of the execution."),
        executionArn=_TEXT,
        stateMachine=_TEXT,
        stateMachineArn=_TEXT,
        state=_says(_TEXT, "The state in which the run failed."),
        attempt=_COUNT,
        error=_TEXT,
        cause=_TEXT,
        input=_ANY,
        at=_TIME,
        closedAt=_TIME,
        redriveCount=_COUNT,
    ),
    "Activity": _object("arn name createdAt", arn=_TEXT, name=_TEXT, createdAt=_TIME),
    "ActivityTask": _object("token input", token=_says(_TEXT, "Report the outcome with it."), input=_ANY),
    "Function": _object(
        "name kind target",
        name=_TEXT,
        kind={"type": "string", "enum": ["python", "celery", "http"]},
        target=_TEXT,
        options={"type": "object"},
        createdAt=_TIME,
    ),
    "Connection": _object(
        "arn name authorizationType authParameters",
        arn=_TEXT,
        name=_TEXT,
        authorizationType=_TEXT,
        authParameters=_says({"type": "object"}, "Without secrets."),
        createdAt=_TIME,
    ),
    "TaskAnswer": _object(
        "answer", answer={"type": "string", "enum": ["ACCEPTED", "TIMED_OUT", "NOT_FOUND", "INVALID"]}
    ),
    "Problem": _object(
        "type title status code detail",
        type=_TEXT,
        title=_TEXT,
        status=_COUNT,
        code={"type": "string", "enum": [code.value for code in ErrorCode]},
        detail=_says(_TEXT, "What is wrong, and what to do."),
        requestId=_TEXT,
        pointer=_says(_TEXT, "The place, as an RFC 6901 pointer: in the definition when `diagnostics` are given."),
        line=_says(_COUNT, "The line in the member `pointer` names, or in the whole body."),
        column=_COUNT,
        resource=_TEXT,
        diagnostics={"type": "array", "items": {"$ref": "#/components/schemas/Diagnostic"}},
    ),
}
_PAGED: Final = ("StateMachine", "Execution", "MapRun", "Event", "DeadLetter", "Activity", "Function", "Connection")


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def returns(status: int, view: str | None, *others: int) -> dict[int | str, Schema]:
    """The responses of an operation: the view it answers with, other success codes, and problems."""
    responses: dict[int | str, Schema] = {}
    for code in (status, *others):
        response: Schema = {"description": HTTPStatus(code).phrase}
        if code >= 400:
            response["content"] = {_PROBLEM: {"schema": _ref("Problem")}}
        elif view is not None and code != 204:
            response["content"] = {_JSON: {"schema": _ref(view)}}
        responses[code] = response
    return responses


def body_of(struct: type[msgspec.Struct], *, required: bool = True) -> Schema:
    """The body of an operation, for `openapi_extra`."""
    return {"requestBody": {"required": required, "content": {_JSON: {"schema": _ref(struct.__name__)}}}}


def _in_path(name: str, description: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": _TEXT, "description": description}


_MACHINE: Final = _in_path("name", "The name or ARN of a state machine.")
_EXECUTION: Final = _in_path("reference", "An execution: its id, its ARN (URL-encoded), or `machine:name`.")
_WAIT: Final[Schema] = {
    "name": "wait",
    "in": "query",
    "schema": {"type": "number", "minimum": 0, "maximum": 300},
    "description": "Seconds to wait for the end of the execution.",
}
_SYNC: Final[Schema] = {
    "name": "sync",
    "in": "query",
    "schema": {"type": "boolean"},
    "description": "Run an Express state machine synchronously: at most once, answered with 200 when it has ended.",
}
_TRACEPARENT: Final[Schema] = {
    "name": "traceparent",
    "in": "header",
    "schema": _TEXT,
    "description": "W3C trace context; kept with the execution as its trace header.",
}


def _operation(
    tag: str,
    summary: str,
    description: str,
    responses: dict[int | str, Schema],
    body: type[msgspec.Struct] | None = None,
    *parameters: Schema,
) -> Schema:
    operation: Schema = {
        "tags": [tag],
        "summary": summary,
        "description": description,
        "responses": {str(code): response for code, response in responses.items()},
    }
    if body is not None:
        operation |= body_of(body, required=body is not bodies.StartBody)
    if parameters:
        operation["parameters"] = list(parameters)
    return operation


HOT_PATHS: Final[dict[tuple[str, str], Schema]] = {
    ("post", "/v1/state-machines/{name}/executions"): _operation(
        "Executions",
        "Start an execution",
        "Start an execution and answer when it is durable: 201, or 200 if this name and input were started before. With `wait`:"
        " 200 with the execution once it has ended (whatever its status), 202 if it is still running when the time is up. A name"
        " that is taken by another input is a 409.",
        returns(201, "Execution", 200, 202, 400, 404, 409, 503),
        bodies.StartBody,
        _MACHINE,
        _WAIT,
        _SYNC,
        _TRACEPARENT,
    ),
    ("get", "/v1/executions/{reference}"): _operation(
        "Executions",
        "Get an execution",
        "The execution with its input and, once it has ended, its output or error. With `wait` the answer comes when it has"
        " ended, or as it stands when the time is up.",
        returns(200, "Execution", 404),
        None,
        _EXECUTION,
        _WAIT,
    ),
    ("post", "/v1/tasks/success"): _operation(
        "Tasks",
        "Report success",
        "A task with a token has succeeded. 204 means that this is durable.",
        returns(204, None, 400, 404, 409, 503),
        bodies.TaskSuccessBody,
    ),
    ("post", "/v1/tasks/failure"): _operation(
        "Tasks",
        "Report failure",
        "A task with a token has failed; Retry and Catch of its state see `error`.",
        returns(204, None, 400, 404, 409, 503),
        bodies.TaskFailureBody,
    ),
    ("post", "/v1/tasks/heartbeat"): _operation(
        "Tasks",
        "Send a heartbeat",
        "A task with a token is alive: its HeartbeatSeconds begin anew.",
        returns(204, None, 400, 404, 409, 503),
        bodies.TaskTokenBody,
    ),
    ("post", "/v1/workers/claim"): _operation(
        "Workers",
        "Claim a task",
        "A worker asks for the right to run a task it received; refused copies are dropped.",
        returns(200, "ClaimAnswer", 400, 503),
        Claim,
    ),
    ("post", "/v1/workers/outcome"): _operation(
        "Workers",
        "Report an outcome",
        "A worker reports how a claimed task ended; ACCEPTED means that this is durable.",
        returns(200, "TaskAnswer", 400, 503),
        Outcome,
    ),
    ("post", "/v1/workers/report"): _operation(
        "Workers", "Report a worker", "A worker process is alive.", returns(204, None, 400, 503), WorkerReport
    ),
}
"""What `api.rest.hot` serves, described here because FastAPI does not see it."""


def document(generated: Schema) -> Schema:
    """FastAPI's document, completed."""
    paths: dict[str, Schema] = generated["paths"]
    for (method, path), operation in HOT_PATHS.items():
        paths.setdefault(path, {})[method] = operation
    components = generated.setdefault("components", {}).setdefault("schemas", {})
    _, structs = msgspec.json.schema_components(_BODIES, ref_template="#/components/schemas/{name}")
    components.update(structs)
    components.update(_VIEWS)
    for name in _PAGED:
        items: Schema = {"type": "array", "items": _ref(name)}
        components[f"{name}Page"] = _object("items", items=items, next=_says(_TEXT, "The next page, if there is one."))
    generated["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key; needed once one is configured."}
    }
    generated["security"] = [{}, {"bearer": []}]
    for operations in paths.values():
        for operation in operations.values():
            operation.get("responses", {}).pop("422", None)
    return generated
