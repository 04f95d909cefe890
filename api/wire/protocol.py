"""AWS JSON 1.0: from a request to an operation, and from its answer or refusal back.

Errors are HTTP 400 with `__type`, as Step Functions has them; 5xx where an SDK should try again.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from stepwell.api.http import Reply, Request
from stepwell.api.wire.constraints import check
from stepwell.api.wire.members import INPUTS
from stepwell.api.wire.operations import NOT_SERVED, OPERATIONS
from stepwell.engine.jsontypes import fault_of
from stepwell.engine.service import refusals
from stepwell.engine.service.refusals import ErrorCode, ServiceError
from stepwell.engine.service.services import Services

CONTENT_TYPE: Final = b"application/x-amz-json-1.0"
TARGET_PREFIX: Final = "AWSStepFunctions."
_SERVICE_NAMESPACE: Final = "com.amazonaws.swf.service.v2.model#"
_NAMESPACES: Final = {
    ErrorCode.VALIDATION: "com.amazon.coral.validate#",
    **dict.fromkeys(
        (
            ErrorCode.ACCESS_DENIED,
            ErrorCode.INTERNAL_FAILURE,
            ErrorCode.INVALID_SIGNATURE,
            ErrorCode.MISSING_AUTHENTICATION_TOKEN,
            ErrorCode.REQUEST_TOO_LARGE,
            ErrorCode.SERIALIZATION,
            ErrorCode.SERVICE_UNAVAILABLE,
            ErrorCode.UNKNOWN_OPERATION,
            ErrorCode.UNRECOGNIZED_CLIENT,
        ),
        "com.amazon.coral.service#",
    ),
}
_STATUS: Final = {
    ErrorCode.INTERNAL_FAILURE: 500,
    ErrorCode.SERVICE_UNAVAILABLE: 503,
    ErrorCode.REQUEST_TOO_LARGE: 413,
    ErrorCode.MISSING_AUTHENTICATION_TOKEN: 403,
    ErrorCode.ACCESS_DENIED: 403,
}

_decoder: Final = msgspec.json.Decoder(dict[str, Any])
_encoder: Final = msgspec.json.Encoder()


def operation_of(request: Request) -> str:
    """The name of the operation asked for, for metrics and logs; `unknown` for what is not served."""
    name = (request.header(b"x-amz-target") or "").removeprefix(TARGET_PREFIX)
    return name if name in OPERATIONS else "unknown"


async def handle(services: Services, request: Request) -> Reply:
    """Carry out a request. Raises `ServiceError` for what is refused; see `refusal`."""
    target = request.header(b"x-amz-target") or ""
    name = target.removeprefix(TARGET_PREFIX)
    handler = OPERATIONS.get(name)
    if handler is None or not target.startswith(TARGET_PREFIX):
        raise _unknown(name, target)
    try:
        input = _decoder.decode(request.body or b"{}")
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise refusals.unreadable("The request body is not a JSON object", fault_of(request.body, error)) from None
    check(INPUTS[name], input)
    answer = await handler(services, request, input)
    return Reply(200, _encoder.encode(answer), CONTENT_TYPE)


def refusal(error: ServiceError) -> Reply:
    """The answer to a request that is refused."""
    body: dict[str, str] = {
        "__type": _NAMESPACES.get(error.code, _SERVICE_NAMESPACE) + error.code,
        "message": str(error),
    }
    if error.reason is not None:
        body["reason"] = error.reason
    if error.resource_name is not None and error.code is ErrorCode.RESOURCE_NOT_FOUND:
        body["resourceName"] = error.resource_name
    headers = ((b"retry-after", b"1"),) if error.code is ErrorCode.SERVICE_UNAVAILABLE else ()
    return Reply(_STATUS.get(error.code, 400), _encoder.encode(body), CONTENT_TYPE, headers)


def _unknown(name: str, target: str) -> ServiceError:
    if not target:
        message = "The header X-Amz-Target is missing; see /docs for the REST API"
    elif name in NOT_SERVED:
        message = f"The operation {name} is not supported by this server"
    else:
        message = f"Unknown operation: {target[:128]}"
    return ServiceError(ErrorCode.UNKNOWN_OPERATION, message)
