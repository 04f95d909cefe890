"""What becomes of an exception: the refusal that is shown instead of it. One place for the wire protocol and REST."""

from __future__ import annotations

import logging

from stepwell.engine.errors import (
    ExpressionsUnavailableError,
    InvalidPageTokenError,
    JsonTextError,
    NotOwnerError,
    StoreUnavailableError,
)
from stepwell.engine.service import refusals
from stepwell.engine.service.refusals import ErrorCode, ServiceError
from stepwell.engine.telemetry import LogField

log = logging.getLogger("stepwell.api")


def refusal_of(error: Exception, request_id: str) -> ServiceError:
    """The refusal to answer with. What nobody foresaw is logged here, and shown as a request id and nothing else."""
    match error:
        case ServiceError():
            return error
        case StoreUnavailableError() | NotOwnerError() | ExpressionsUnavailableError():
            log.warning("A request could not be answered for now", extra={LogField.ERROR: type(error).__name__})
            return ServiceError(
                ErrorCode.SERVICE_UNAVAILABLE,
                "The database or the engine cannot be reached at the moment; nothing is lost by trying again",
            )
        case InvalidPageTokenError():
            return refusals.invalid_token()
        case JsonTextError():
            return ServiceError(ErrorCode.SERIALIZATION, str(error))
        case _:
            log.error("A request failed", exc_info=error, extra={LogField.ERROR: type(error).__name__})
            return ServiceError(
                ErrorCode.INTERNAL_FAILURE,
                f"An internal error occurred; the log of the server has more under request id {request_id}",
            )
