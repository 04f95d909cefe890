"""What intrinsic functions ask of their arguments, and how they refuse. It must not know any one function."""

from __future__ import annotations

import math
from collections.abc import Mapping

from stepwell.engine.jsontypes import Json
from stepwell.engine.query.values import is_number, kind_of


class Refusal(Exception):
    """An argument that the function cannot take; the message says which and why. Becomes States.IntrinsicFailure where
    the function is called, and never leaves this package."""


def text(value: Json, what: str, longest: int | None = None) -> str:
    if not isinstance(value, str):
        raise Refusal(f"{what} must be a string, not {_article(kind_of(value))}.")
    if longest is not None and len(value) > longest:
        raise Refusal(f"{what} may have at most {longest} characters; it has {len(value)}.")
    return value


def array(value: Json, what: str) -> list[Json]:
    if not isinstance(value, list):
        raise Refusal(f"{what} must be an array, not {_article(kind_of(value))}.")
    return value


def mapping(value: Json, what: str) -> Mapping[str, Json]:
    if not isinstance(value, dict):
        raise Refusal(f"{what} must be an object, not {_article(kind_of(value))}.")
    return value


def integer(value: Json, what: str) -> int:
    """A number, rounded to the nearest integer, halves upwards: -1.5 is -1, as recorded."""
    if not is_number(value) or (isinstance(value, float) and not math.isfinite(value)):
        raise Refusal(f"{what} must be a number, not {_article(kind_of(value))}.")
    return value if isinstance(value, int) else math.floor(value + 0.5)


def _article(kind: str) -> str:
    return kind if kind == "null" else f"{'an' if kind[0] in 'ao' else 'a'} {kind}"
