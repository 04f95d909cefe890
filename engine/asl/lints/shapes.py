"""What is known of a JSON value before anything runs: nothing, or which fields it can have.

A shape is `None` (anything), `SCALAR` (no object and no array), or a mapping from each field an object can have to its shape. An object
may lack any of them; it has no others. It must not know states.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Final, TypeAlias

from stepwell.engine.jsontypes import Json

_MAX_DEPTH: Final = 8
"""Levels of an object that are kept apart; what is deeper is anything. It ends loops that nest a value into itself."""

_MAX_FIELDS: Final = 200
"""Fields an object may have to be looked at."""

_PATH: Final = re.compile(r"\$((?:\.[A-Za-z_][A-Za-z0-9_]*|\['[^'\\]*'\])*)")
_STEP: Final = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\['([^'\\]*)'\]")


class _Scalar(Enum):
    SCALAR = "scalar"


SCALAR: Final = _Scalar.SCALAR
Shape: TypeAlias = "Mapping[str, Shape] | _Scalar | None"


def shape_of(value: Json, depth: int = 0) -> Shape:
    """The shape of a value that is written down."""
    if isinstance(value, dict):
        return None if depth >= _MAX_DEPTH else {key: shape_of(item, depth + 1) for key, item in value.items()}
    return None if isinstance(value, list) else SCALAR


def steps_of_path(text: str) -> list[str] | None:
    """The names of a path of names alone; None for any other."""
    match = _PATH.fullmatch(text)
    return None if match is None else [dotted or quoted for dotted, quoted in _STEP.findall(match[1])]


def at(shape: Shape, text: str) -> Shape:
    """The shape of what a path gives."""
    steps = steps_of_path(text)
    if steps is None:
        return None
    for step in steps:
        if not isinstance(shape, Mapping):
            return None
        shape = shape.get(step)
    return shape


def missing_step(shape: Shape, text: str) -> int | None:
    """Which name of a path (from 0) nothing of this shape can have; None where it may be there."""
    for index, step in enumerate(steps_of_path(text) or ()):
        if shape is None:
            return None
        if shape is SCALAR or step not in shape:
            return index
        shape = shape[step]
    return None


def put(shape: Shape, text: str, value: Shape) -> Shape:
    """The shape after a value is written to a path, as ResultPath does."""
    steps = steps_of_path(text)
    return None if steps is None else _put(shape, steps, value)


def _put(shape: Shape, steps: list[str], value: Shape) -> Shape:
    if not steps:
        return value
    if not isinstance(shape, Mapping) or len(shape) >= _MAX_FIELDS:
        return None
    return {**shape, steps[0]: _put(shape.get(steps[0], {}), steps[1:], value)}


def joined(one: Shape, other: Shape, depth: int = 0) -> Shape:
    """What is known of a value that has one shape or the other."""
    if one is other:
        return one
    if not isinstance(one, Mapping) or not isinstance(other, Mapping) or depth >= _MAX_DEPTH:
        return None
    names = {**one, **other}
    if len(names) > _MAX_FIELDS:
        return None
    return {
        name: joined(one[name], other[name], depth + 1) if name in one and name in other else names[name]
        for name in names
    }


def cut(shape: Shape, depth: int = 0) -> Shape:
    """The shape down to the depth that is kept."""
    if not isinstance(shape, Mapping):
        return shape
    return None if depth >= _MAX_DEPTH else {name: cut(inner, depth + 1) for name, inner in shape.items()}
