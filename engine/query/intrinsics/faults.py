"""Calls that fail whatever they are given, because of what is written in them. It must not know where a call stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from stepwell.engine.clock import Entropy
from stepwell.engine.errors import EffortError, JsonTextError
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.effort import begin
from stepwell.engine.query.intrinsics.checks import Refusal
from stepwell.engine.query.intrinsics.functions import FUNCTIONS, fill
from stepwell.engine.query.intrinsics.syntax import Call, Constant, Text

_FITTING: Final[Mapping[str, Sequence[Json]]] = {
    "States.ArrayContains": ([], 1),
    "States.ArrayPartition": ([], 1),
    "States.Hash": ("", "MD5"),
    "States.JsonMerge": ({}, {}, False),
    "States.MathAdd": (1, 1),
    "States.StringSplit": ("", ","),
}
"""What stands in for arguments that are not written down: values each function takes with any others it takes."""


def sure_fault(call: Call) -> str | None:
    """Why a call, or one inside it, fails every time; None where it may go well. It must have the right number of arguments."""
    for argument in call.arguments:
        if isinstance(argument, Call) and (fault := sure_fault(argument)) is not None:
            return fault
    arguments = call.arguments
    begin()
    try:
        if call.name == "States.Format" and isinstance(arguments[0], Text):
            fill(arguments[0].pieces, [""] * (len(arguments) - 1))
        elif all(isinstance(one, Constant | Text) for one in arguments):
            _carry_out(call, ())
        elif call.name in _FITTING:
            _carry_out(call, _FITTING[call.name])
    except (Refusal, JsonTextError, EffortError) as error:
        return f"{call.name}: {error}"
    return None


def _carry_out(call: Call, fitting: Sequence[Json]) -> None:
    values = [
        one.value if isinstance(one, Constant | Text) else fitting[index] for index, one in enumerate(call.arguments)
    ]
    FUNCTIONS[call.name].call(values, Entropy(0))
