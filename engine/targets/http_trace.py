"""What TestState shows of an HTTP Task: the request that is sent and the response that came, as texts.

Everything a connection adds is blotted out of the request by its place, however short it is, unless it is to be revealed.
"""

from __future__ import annotations

from typing import Final

from stepwell.engine.ports import HttpTrace
from stepwell.engine.secretbox import BLOT, Redactor
from stepwell.engine.targets.guarded import Answer, Call, Headers
from stepwell.engine.targets.http_request import Additions

REQUEST_MEMBERS: Final = frozenset({"protocol", "method", "url", "headers", "body"})
RESPONSE_MEMBERS: Final = frozenset({"protocol", "statusCode", "statusMessage", "headers", "body"})
_NO_SECRETS: Final = Redactor(())


def blotted(additions: Additions) -> Additions:
    """The same additions without their values."""
    return Additions(
        tuple((name, BLOT) for name, _ in additions.headers),
        tuple((name, BLOT) for name, _ in additions.query),
        tuple((name, BLOT) for name, _ in additions.body),
    )


def trace_request(trace: HttpTrace | None, call: Call) -> None:
    """Note a request, as it may be shown."""
    if trace is None:
        return
    trace.request = {
        "protocol": call.url.scheme,
        "method": call.method,
        "url": call.url.human_repr(),
        "headers": _headers_text(call.headers),
    }
    if call.body is not None:
        trace.request["body"] = call.body.decode(errors="replace")


def trace_response(trace: HttpTrace | None, call: Call, answer: Answer, message: str, redactor: Redactor) -> None:
    """Note the response to a request."""
    if trace is None:
        return
    if trace.reveal:
        redactor = _NO_SECRETS
    trace.response = {
        "protocol": call.url.scheme,
        "statusCode": str(answer.status),
        "statusMessage": message,
        "headers": redactor.text(_headers_text(answer.headers)),
        "body": redactor.text(answer.body.decode(errors="replace")),
    }


def _headers_text(headers: Headers) -> str:
    return f"[{', '.join(f'{name}: {value}' for name, value in headers)}]"
