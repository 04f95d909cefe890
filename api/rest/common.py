"""What the routes of the REST app share: the request that was admitted, replies, pages, and how a listing is asked for."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from fastapi import Query
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from stepwell.api.http import Request
from stepwell.engine import limits
from stepwell.engine.service import refusals

REQUEST_KEY: Final = "stepwell.request"
"""Where the gate leaves the admitted `Request` in the ASGI scope."""

_encoder: Final = msgspec.json.Encoder()

Limit = Annotated[
    int, Query(ge=1, le=limits.MAX_PAGE_SIZE, description="How many items at most.", json_schema_extra={"default": 100})
]
PageToken = Annotated[
    str | None,
    Query(min_length=1, max_length=3_096, description="`next` of the page before: the same listing goes on there."),
]
TimeFilter = Annotated[
    str | None, Query(description="An RFC 3339 time (`2026-01-31T08:00:00Z`), or milliseconds since the epoch.")
]


def admitted(request: HttpRequest) -> Request:
    """The request as the gate admitted it."""
    found: Request = request.scope[REQUEST_KEY]
    return found


def respond(value: Any, status: int = 200, **headers: str) -> Response:
    """A JSON response."""
    names = {name.replace("_", "-"): text for name, text in headers.items()}
    return Response(_encoder.encode(value), status, names, media_type="application/json")


def no_content() -> Response:
    """Done, and nothing to say about it."""
    return Response(status_code=204)


def page(items: list[dict[str, Any]], token: str | None) -> Response:
    """A page of a listing."""
    body: dict[str, Any] = {"items": items}
    if token is not None:
        body["next"] = token
    return respond(body)


_MILLISECONDS: Final = re.compile(r"[0-9]{1,15}")


def time_of(text: str | None, name: str) -> int | None:
    """The moment a query parameter names, in milliseconds."""
    if text is None:
        return None
    if _MILLISECONDS.fullmatch(text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise refusals.invalid(f"'{name}' must be an RFC 3339 time or milliseconds since the epoch") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
