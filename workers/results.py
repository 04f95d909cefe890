"""How what a user's callable returned or raised becomes JSON: the shapes of AWS Lambda. It must not know who called it."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final

import msgspec

MAX_RESULT_BYTES: Final = 6 * 1024 * 1024
"""As of a Lambda function. The engine's own limit for a task's result is lower and is its own affair."""

_OWN_FILES: Final = str(Path(__file__).parent) + os.sep
_encoder: Final = msgspec.json.Encoder()


class UnusableResultError(Exception):
    """A callable returned what cannot be its result; `error` is the name the workflow sees."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error


def result_text(value: Any) -> bytes:
    """The JSON text of a result. Raises `UnusableResultError`."""
    try:
        text = _encoder.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise UnusableResultError("Runtime.MarshalError", f"Unable to marshal response: {error}") from None
    if len(text) > MAX_RESULT_BYTES:
        raise UnusableResultError(
            "Function.ResponseSizeTooLarge",
            f"Response payload size exceeded maximum allowed payload size ({MAX_RESULT_BYTES} bytes).",
        )
    return text


def error_name(error: BaseException) -> str:
    """The name a Retry or Catch matches: the class's own, without its module, as on Lambda."""
    if isinstance(error, UnusableResultError):
        return error.error
    if isinstance(error, SystemExit):
        return "Runtime.ExitError"
    return type(error).__name__


def cause_text(error: BaseException, request_id: str) -> str:
    """The cause, as a Lambda function reports it: the stack trace begins in the user's own code."""
    message = f"Runtime exited with status {error.code}" if isinstance(error, SystemExit) else _message(error)
    trace = [] if isinstance(error, UnusableResultError) else _stack(error.__traceback__)
    return failure_text(error_name(error), message, request_id, trace)


def failure_text(name: str, message: str, request_id: str, trace: list[str] | None = None) -> str:
    """A cause for a failure that is no exception."""
    cause = {"errorMessage": message, "errorType": name, "requestId": request_id, "stackTrace": trace or []}
    return _encoder.encode(cause).decode()


def _message(error: BaseException) -> str:
    try:
        return str(error).encode("utf-8", "replace").decode()
    except Exception:  # noqa: BLE001 - a __str__ of the user's that fails must not hide the error itself
        return f"<{type(error).__name__} without a readable message>"


def _stack(trace: TracebackType | None) -> list[str]:
    while trace is not None and _is_runner(trace.tb_frame):
        trace = trace.tb_next
    return [entry.encode("utf-8", "replace").decode() for entry in traceback.format_tb(trace)]


def _is_runner(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__"))
    return frame.f_code.co_filename.startswith(_OWN_FILES) or module.startswith("celery.")
