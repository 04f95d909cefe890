"""AWS Lambda's Invoke as Step Functions uses it: what its Parameters mean, and the texts of its answers and errors.

Pure: who runs the function is the affair of `functions`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import Final
from urllib.parse import quote
from uuid import UUID

import msgspec

from stepwell.engine.jsontypes import Json, write, write_text
from stepwell.engine.ports import TaskRequest
from stepwell.engine.states_errors import ErrorName, StatesError

LATEST: Final = "$LATEST"
MAX_INVOKE_SECONDS: Final = 900.0
"""As long as a Lambda function may run."""
MAX_ANSWER_BYTES: Final = 6 * 1024 * 1024 + 1024

_FUNCTION_NAME: Final = re.compile(
    r"(?:arn:(?P<partition>aws[a-zA-Z-]*):lambda:(?P<region>[a-z0-9-]+):)?(?:(?P<account>\d{12}):)?(?:function:)?"
    r"(?P<name>[a-zA-Z0-9_.-]+)(?::(?P<qualifier>\$LATEST|[a-zA-Z0-9_-]+))?"
)
"""FunctionName of Invoke: a name, a partial ARN or an ARN, each with a qualifier or without (AWS's API model)."""


class InvocationType(StrEnum):
    """Whether Invoke waits for the function."""

    REQUEST_RESPONSE = "RequestResponse"
    EVENT = "Event"
    DRY_RUN = "DryRun"


@dataclass(frozen=True, slots=True)
class FunctionName:
    """A function's name taken apart. `arn` always has a qualifier."""

    name: str
    qualifier: str | None
    arn: str

    @property
    def registry_names(self) -> tuple[str, ...]:
        """Under what the registry may have it: with its alias first."""
        return (f"{self.name}:{self.qualifier}", self.name) if self.qualifier else (self.name,)


@dataclass(frozen=True, slots=True)
class Invocation:
    """A call of a function. `enveloped`: its result is Invoke's whole answer, not the function's own."""

    function: FunctionName
    payload: bytes
    request_id: str
    enveloped: bool = False
    type: InvocationType = InvocationType.REQUEST_RESPONSE
    client_context: str | None = None
    wants_log: bool = False


def invocation_of(request: TaskRequest) -> Invocation:
    """What a Task asks for, by a function ARN or by `lambda:invoke`. Raises `StatesError` for Parameters that cannot be."""
    request_id = _request_id(request)
    if request.resource.plain_function:
        function = function_name(request.resource.text, request.execution_arn)
        assert function is not None, "the resource was parsed as a function's ARN"
        return Invocation(function, request.payload.text, request_id)
    parameters = request.payload.value
    if not isinstance(parameters, Mapping):
        raise _unusable(request, "The Parameters of lambda:invoke must be an object")
    name = parameters.get("FunctionName")
    if not isinstance(name, str):
        raise _unusable(request, "The field 'FunctionName' is required but was missing")
    function = function_name(name, request.execution_arn, parameters.get("Qualifier"))
    if function is None:
        raise _unusable(request, f"'{name[:200]}' is not the name or ARN of a function")
    try:
        kind = InvocationType(str(parameters.get("InvocationType") or InvocationType.REQUEST_RESPONSE))
    except ValueError:
        raise _unusable(request, "InvocationType must be RequestResponse, Event or DryRun") from None
    payload = parameters.get("Payload")
    context = parameters.get("ClientContext")
    return Invocation(
        function,
        b"{}" if payload is None else write(payload),
        request_id,
        True,
        kind,
        context if isinstance(context, str) else None,
        parameters.get("LogType") == "Tail",
    )


def function_name(text: str, execution_arn: str, qualifier: Json = None) -> FunctionName | None:
    """Take a function's name or ARN apart; region and account come from the execution's ARN where it has none."""
    here = [*execution_arn.split(":", 5), "", "", "", "", ""]
    return _function_name(text, here[1], here[3], here[4], qualifier if isinstance(qualifier, str) else None)


@lru_cache(maxsize=4096)
def _function_name(text: str, partition: str, region: str, account: str, qualifier: str | None) -> FunctionName | None:
    """The same few names come with every task."""
    match = _FUNCTION_NAME.fullmatch(text)
    if match is None:
        return None
    qualifier = match["qualifier"] or qualifier or None
    partition, region, account = (
        match["partition"] or partition or "aws",
        match["region"] or region,
        match["account"] or account,
    )
    arn = f"arn:{partition}:lambda:{region}:{account}:function:{match['name']}:{qualifier or LATEST}"
    return FunctionName(match["name"], qualifier, arn)


def invoke_url(template: str, function: FunctionName) -> str:
    """The Invoke URL of a function: `{name}` in the template is replaced; an alias goes into the query."""
    url = template.replace("{name}", quote(function.name, safe=""))
    if function.qualifier:
        url += f"{'&' if '?' in url else '?'}Qualifier={quote(function.qualifier, safe='')}"
    return url


def result(
    invocation: Invocation,
    output: bytes,
    now_ms: int,
    *,
    version: str = LATEST,
    status: int = 200,
    log: str | None = None,
) -> msgspec.Raw:
    """The task's result: `output` itself, or within Invoke's answer."""
    if not invocation.enveloped:
        return msgspec.Raw(output)
    before, after = envelope(invocation, now_ms, length=len(output), version=version, status=status, log=log)
    return msgspec.Raw(before + (output or b'""') + after)


def envelope(
    invocation: Invocation,
    now_ms: int,
    *,
    length: int | None = None,
    version: str = LATEST,
    status: int = 200,
    log: str | None = None,
) -> tuple[bytes, bytes]:
    """Invoke's answer around the function's result: the text before it and the text after it."""
    if log is None and invocation.wants_log:
        lines = f"START RequestId: {invocation.request_id} Version: {version}\nEND RequestId: {invocation.request_id}\n"
        log = base64.b64encode(lines.encode()).decode()
    headers = {"X-Amz-Log-Result": log} if log is not None else {}
    if status == 200:
        headers["X-Amz-Executed-Version"] = version
    headers |= {
        "x-amzn-Remapped-Content-Length": "0",
        "Connection": "keep-alive",
        "x-amzn-RequestId": invocation.request_id,
        "Content-Length": str(length),
        "Date": formatdate(now_ms / 1000, usegmt=True),
        "X-Amzn-Trace-Id": _trace_id(invocation.request_id, now_ms),
        "Content-Type": "application/json",
    }
    if length is None:
        del headers["Content-Length"]
    before: dict[str, Json] = {"ExecutedVersion": version} if status == 200 else {}
    if log is not None:
        before["LogResult"] = log
    after: dict[str, Json] = {
        "SdkHttpMetadata": {
            "AllHttpHeaders": {name: [value] for name, value in headers.items()},
            "HttpHeaders": dict(sorted(headers.items(), key=lambda header: header[0].lower())),
            "HttpStatusCode": status,
        },
        "SdkResponseMetadata": {"RequestId": invocation.request_id},
        "StatusCode": status,
    }
    opening = write(before)[:-1] + (b"," if before else b"")
    return opening + b'"Payload":', b"," + write(after)[1:]


def function_error(body: bytes) -> StatesError:
    """The error a function answered with (X-Amz-Function-Error)."""
    text = body.decode(errors="replace")
    try:
        error = msgspec.json.decode(body)
    except msgspec.DecodeError:
        error = None
    name = error.get("errorType") if isinstance(error, dict) else None
    if isinstance(name, str) and name:
        return StatesError(name, text)
    return StatesError(
        "Lambda.Unknown",
        f"The cause could not be determined because Lambda did not return an error type. Returned payload: {text}",
    )


def not_found(function: FunctionName, request_id: str) -> StatesError:
    """There is no such function."""
    return service_error("ResourceNotFoundException", f"Function not found: {function.arn}", 404, request_id)


_OWN_NAMES: Final = frozenset(
    {
        "EC2ThrottledException",
        "EC2UnexpectedException",
        "ENILimitReachedException",
        "InvalidParameterValueException",
        "InvalidRequestContentException",
        "InvalidRuntimeException",
        "InvalidZipFileException",
        "KMSDisabledException",
        "KMSInvalidStateException",
        "RequestTooLargeException",
        "ResourceConflictException",
        "ResourceNotFoundException",
        "ResourceNotReadyException",
        "ServiceException",
        "SnapStartException",
        "SnapStartNotReadyException",
        "SnapStartTimeoutException",
        "SubnetIPAddressLimitReachedException",
        "TooManyRequestsException",
        "UnsupportedMediaTypeException",
    }
)
"""Errors that Invoke declares (AWS's API model); the others become AWSLambdaException."""


def service_error(code: str | None, message: str, status: int, request_id: str) -> StatesError:
    """The error of an Invoke that did not reach the function, as Step Functions words it."""
    code = code or {404: "ResourceNotFoundException", 429: "TooManyRequestsException"}.get(status)
    if code is None:
        code = "ServiceException" if status >= 500 else "AWSLambdaException"
    name = code if code in _OWN_NAMES else "AWSLambdaException"
    return StatesError(
        f"Lambda.{name}",
        f"{message} (Service: AWSLambda; Status Code: {status}; Error Code: {code}; Request ID: {request_id}; Proxy: null)",
    )


def _unusable(request: TaskRequest, why: str) -> StatesError:
    return StatesError(
        ErrorName.RUNTIME,
        f"The Parameters '{write_text(request.payload.value)[:4000]}' could not be used to start the Task: [{why}]",
    )


def _request_id(request: TaskRequest) -> str:
    """An id for this delivery of this attempt, in the form of a UUID, drawn from what names it."""
    text = f"{request.idempotency_key}/{request.delivery}".encode()
    return str(UUID(bytes=blake2b(text, digest_size=16).digest(), version=4))


def _trace_id(request_id: str, now_ms: int) -> str:
    return f"Root=1-{now_ms // 1000:08x}-{request_id.replace('-', '')[:24]};Sampled=0"
