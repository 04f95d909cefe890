"""A picture of a state's data flow for people: each value, and between two of them the field that made the one of the other."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

import click

_STEPS: Final = (
    ("input", ()),
    ("afterInputPath", ("InputPath",)),
    ("afterParameters", ("Parameters",)),
    ("afterArguments", ("Arguments",)),
    ("afterItemsPath", ("ItemsPath",)),
    ("afterItemsPointer", ("ItemsPointer",)),
    ("afterItemSelector", ("ItemSelector", "Parameters")),
    ("afterItemBatcher", ("ItemBatcher",)),
    ("result", ("Resource", "Result")),
    ("afterResultSelector", ("ResultSelector",)),
    ("afterResultPath", ("ResultPath",)),
)
"""The values in the order of the flow, and the fields that may have made them."""

_WIDTH: Final = 100
_LINES: Final = 12
"""How many lines of one value are shown."""
_NAME: Final = 22
_ENDS: Final = {
    "SUCCEEDED": ("green", "succeeded"),
    "FAILED": ("red", "failed"),
    "RETRIABLE": ("yellow", "failed, and would be retried"),
    "CAUGHT_ERROR": ("yellow", "failed, and the error is caught"),
}


def picture(test: Mapping[str, Any], state: Mapping[str, Any], name: str) -> Iterator[str]:
    """The lines. `test` is what TestState gave, `state` its definition."""
    data: Mapping[str, Any] = test.get("inspectionData", {})
    yield click.style(f"{name} ({state.get('Type', 'state')})", bold=True)
    before: Any = _NOTHING
    for step, fields in _STEPS:
        if step not in data:
            continue
        field = next((one for one in fields if one in state), None)
        if field is not None or not _same(data[step], before):
            if before is not _NOTHING:
                yield from _arrow(state, field)
            yield from _value(step, data[step], before)
        before = data[step]
    yield from _exchange(data)
    yield from _facts(data)
    if "error" in test or "cause" in test:
        yield from _failed(test)
    if "output" in test:
        caught = data.get("errorDetails", {}).get("catchIndex")
        if caught is not None:
            yield _dim("  │ ") + click.style(f"Catch[{caught}]", fg="cyan")
        elif test["status"] == "SUCCEEDED":
            yield from _arrow(state, next((one for one in ("OutputPath", "Output") if one in state), None))
        yield from _value("output", test["output"], before)
    if data.get("variables"):
        yield from _value("variables", data["variables"], _NOTHING)
    yield _end(test, data)


class _Nothing:
    """No value came before."""


_NOTHING: Final = _Nothing()


def _arrow(state: Mapping[str, Any], field: str | None) -> Iterator[str]:
    if field is None:
        yield _dim("  │")
        return
    said = state[field]
    text = f" {said}" if isinstance(said, str) else "" if said is not None else " null"
    yield _dim("  │ ") + click.style(_cut(f"{field}{text}"), fg="cyan")


def _value(name: str, value: Any, before: Any) -> Iterator[str]:
    label = f"  {name:<{_NAME}}"
    if _same(value, before):
        yield label + _dim("the same")
        return
    line = json.dumps(value, ensure_ascii=False)
    if len(line) <= _WIDTH - _NAME - 2:
        yield label + line
        return
    lines = json.dumps(value, ensure_ascii=False, indent=2).splitlines()
    yield label + _cut(lines[0])
    for one in lines[1:_LINES]:
        yield " " * (_NAME + 2) + _cut(one)
    if len(lines) > _LINES:
        yield " " * (_NAME + 2) + _dim(f"... {len(lines) - _LINES} more lines (--json shows all)")


def _same(one: Any, other: Any) -> bool:
    return other is not _NOTHING and json.dumps(one) == json.dumps(other)


def _exchange(data: Mapping[str, Any]) -> Iterator[str]:
    request, response = data.get("request"), data.get("response")
    if request:
        yield f"  {'request':<{_NAME}}" + _cut(f"{request.get('method')} {request.get('url')}")
        yield from _part("headers", request)
        yield from _part("body", request)
    if response:
        yield f"  {'response':<{_NAME}}" + _cut(f"{response.get('statusCode')} {response.get('statusMessage')}")
        yield from _part("headers", response)
        yield from _part("body", response)


def _part(name: str, message: Mapping[str, Any]) -> Iterator[str]:
    if message.get(name):
        yield f"    {name:<{_NAME - 2}}" + _cut(message[name])


def _facts(data: Mapping[str, Any]) -> Iterator[str]:
    for name in ("maxConcurrency", "toleratedFailureCount", "toleratedFailurePercentage"):
        if name in data:
            yield f"  {name:<{_NAME + 4}}{data[name]}"


def _failed(test: Mapping[str, Any]) -> Iterator[str]:
    yield f"  {'error':<{_NAME}}" + click.style(str(test.get("error", "")), fg="red")
    for index, line in enumerate(textwrap.wrap(str(test.get("cause") or ""), _WIDTH - _NAME)[:_LINES]):
        yield f"  {'' if index else 'cause':<{_NAME}}{line}"


def _end(test: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    colour, words = _ENDS[test["status"]]
    details = data.get("errorDetails", {})
    if "retryBackoffIntervalSeconds" in details:
        words += f" by Retry[{details['retryIndex']}] after {details['retryBackoffIntervalSeconds']} s"
    elif "catchIndex" in details:
        words += f" by Catch[{details['catchIndex']}]"
    next = f" ▶ {test['nextState']}" if "nextState" in test else ""
    return click.style(f"{test['status']}: the state {words}{next}", fg=colour)


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH - _NAME else text[: _WIDTH - _NAME - 3] + "..."


def _dim(text: str) -> str:
    return click.style(text, fg="bright_black")
