"""What readers of executions make of rows and chunks, whichever store these lie in.

An execution's input is in its first event, its output or error in its last one; neither is kept twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.chunks import decode_events
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.history import TERMINAL, HistoryEvent
from stepwell.engine.ports import DeadLetterFilter, ExecutionFilter, ExecutionView

EXECUTIONS: Final = "executions"
DEAD_LETTERS: Final = "dead-letters"
EXPRESS: Final = "express executions"


def input_of(first_chunk: bytes | None) -> Document | None:
    """The input of an execution, by its first chunk; None if it has not taken its first step."""
    event = decode_events(first_chunk).event(1) if first_chunk is not None else None
    return payload_of(event)


def payload_of(event: HistoryEvent | None) -> Document | None:
    """The user data of an event."""
    return Document.trusted(bytes(event.payload)) if event is not None and event.payload is not None else None


def with_data(view: ExecutionView, first_chunk: bytes | None, last_chunk: bytes | None) -> ExecutionView:
    """The view with input, and with output or error and cause where the execution has ended."""
    input = input_of(first_chunk)
    if view.status is Status.RUNNING or last_chunk is None:
        return replace(view, input=input)
    end = decode_events(last_chunk).event(view.last_event)
    if end is None or end.type not in TERMINAL:
        return replace(view, input=input)
    details = end.details or {}
    error, cause = details.get("error"), details.get("cause")
    return replace(
        view,
        input=input,
        output=payload_of(end),
        error=error if isinstance(error, str) else None,
        cause=cause if isinstance(cause, str) else None,
    )


def history_range(last_event: int, after: int, limit: int, reverse: bool) -> range:
    """The ids of a page of history, in the order they are shown."""
    if reverse:
        top = min(after - 1, last_event) if after else last_event
        return range(top, max(top - limit, 0), -1)
    return range(after + 1, min(after + limit, last_event) + 1)


def events_in(ids: range, chunks: Iterable[bytes]) -> list[tuple[int, HistoryEvent]]:
    """The events with these ids, out of chunks that hold them, in the order of `ids`."""
    found: dict[int, HistoryEvent] = {}
    for data in chunks:
        chunk = decode_events(data)
        first = chunk.first_event
        for id in range(max(first, min(ids, default=0)), min(first + len(chunk.texts) - 1, max(ids, default=0)) + 1):
            event = chunk.event(id)
            assert event is not None
            found[id] = event
    return [(id, found[id]) for id in ids if id in found]


def scope_of(listing: str, where: ExecutionFilter | DeadLetterFilter) -> str:
    """The name of a filtered listing, to which its positions are bound."""
    return f"{listing} {where!r}"
