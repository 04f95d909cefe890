"""The functions a path may end in (`$.prices.sum()`), one table. It must not know paths; it gets values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias, cast

from stepwell.engine.errors import QueryError
from stepwell.engine.jsontypes import Json, write_text
from stepwell.engine.limits import MAX_EXPRESSION_BYTES
from stepwell.engine.query.values import is_number

PathFunction: TypeAlias = Callable[[Json, Sequence[Json]], Json]
"""From the value before the dot and the evaluated arguments to the result."""


def _flat(arguments: Iterable[Json]) -> Iterable[Json]:
    for argument in arguments:
        if isinstance(argument, list):
            yield from argument
        else:
            yield argument


def _numbers(model: Json, arguments: Sequence[Json]) -> list[float]:
    candidates = [*(model if isinstance(model, list) else ()), *_flat(arguments)]
    numbers = [float(value) for value in candidates if is_number(value)]
    if not numbers:
        raise QueryError("Aggregation function attempted to calculate value using empty array")
    return numbers


def _sum(numbers: list[float]) -> float:
    # In order, one by one: math.fsum would be more exact and differ from the recorded results.
    total = 0.0
    for number in numbers:
        total += number
    return total


def _average(numbers: list[float]) -> float:
    return _sum(numbers) / len(numbers)


def _deviation(numbers: list[float]) -> float:
    mean = _average(numbers)
    return math.sqrt(max(0.0, _sum([n * n for n in numbers]) / len(numbers) - mean * mean))


def _aggregate(function: Callable[[list[float]], float]) -> PathFunction:
    return lambda model, arguments: function(_numbers(model, arguments))


def _length(model: Json, arguments: Sequence[Json]) -> Json:
    if arguments and isinstance(arguments[0], list):
        return len(arguments[0])
    return len(model) if isinstance(model, list | dict) else None


def _concat(model: Json, arguments: Sequence[Json]) -> Json:
    own = [item for item in model if isinstance(item, str)] if isinstance(model, list) else []
    parts: list[str] = []
    length = 0
    for item in (*own, *_flat(arguments)):
        if item is not None:
            parts.append(item if isinstance(item, str) else write_text(item))
            length += len(parts[-1])
            if length > MAX_EXPRESSION_BYTES:
                raise QueryError(f"The path gives more than {MAX_EXPRESSION_BYTES} bytes")
    return "".join(parts)


def _append(model: Json, arguments: Sequence[Json]) -> Json:
    return [*model, *arguments] if isinstance(model, list) else model


def _keys(model: Json, arguments: Sequence[Json]) -> Json:
    return list(model) if isinstance(model, dict) else None


def _item(model: Json, position: int) -> Json:
    if not isinstance(model, list) or not model:
        raise QueryError("Aggregation function attempted to calculate value using empty array")
    try:
        return cast(Json, model[position])
    except IndexError:
        raise QueryError(f"Target index:{position} larger than object count:{len(model)}") from None


def _index(model: Json, arguments: Sequence[Json]) -> Json:
    position = arguments[0] if arguments else None
    if not isinstance(position, int) or isinstance(position, bool):
        raise QueryError("index() takes one integer")
    return _item(model, position)


FUNCTIONS: Final[dict[str, PathFunction]] = {
    "append": _append,
    "avg": _aggregate(_average),
    "concat": _concat,
    "first": lambda model, arguments: _item(model, 0),
    "index": _index,
    "keys": _keys,
    "last": lambda model, arguments: _item(model, -1),
    "length": _length,
    "max": _aggregate(max),
    "min": _aggregate(min),
    "size": _length,
    "stddev": _aggregate(_deviation),
    "sum": _aggregate(_sum),
}
