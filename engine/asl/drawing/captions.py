"""Short texts for a picture: what a choice rule asks, what a catcher catches, what a task calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stepwell.engine.asl.resources import parse_resource
from stepwell.engine.jsontypes import Json, write_text
from stepwell.engine.query.choice_operators import OPERATORS

_SIGNS: Final = (
    ("GreaterThanEquals", "≥"), ("LessThanEquals", "≤"), ("GreaterThan", ">"), ("LessThan", "<"), ("Equals", "="),
    ("Matches", "matches"),
)  # fmt: skip
_STATES_OF: Final = {
    "IsNull": ("is null", "is not null"),
    "IsPresent": ("is present", "is absent"),
    "IsNumeric": ("is a number", "is no number"),
    "IsString": ("is a string", "is no string"),
    "IsBoolean": ("is a boolean", "is no boolean"),
    "IsTimestamp": ("is a timestamp", "is no timestamp"),
}
_DEPTH: Final = 6


def shortened(text: str, most: int) -> str:
    """A text on one line, at most so many characters long."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def rule_caption(rule: Json, depth: int = 0) -> str:
    """What a choice rule asks, as in `$.total ≥ 100`."""
    if not isinstance(rule, dict) or depth > _DEPTH:
        return "…"
    if "Condition" in rule:
        condition = rule["Condition"]
        if isinstance(condition, str):
            return " ".join(condition.removeprefix("{%").removesuffix("%}").split())
        return write_text(condition)
    for combinator, word in (("And", " and "), ("Or", " or ")):
        inner = rule.get(combinator)
        if isinstance(inner, list):
            parts = [_in_brackets(each, depth) if len(inner) > 1 else rule_caption(each, depth + 1) for each in inner]
            return word.join(parts)
    if "Not" in rule:
        return f"not ({rule_caption(rule['Not'], depth + 1)})"
    return _comparison(rule)


def _in_brackets(rule: Json, depth: int) -> str:
    text = rule_caption(rule, depth + 1)
    return f"({text})" if isinstance(rule, dict) and ("And" in rule or "Or" in rule) else text


def _comparison(rule: Mapping[str, Json]) -> str:
    variable = str(rule.get("Variable", "?"))
    operator = next((name for name in rule if name in OPERATORS), None)
    if operator is None:
        return variable
    value = rule[operator]
    if operator in _STATES_OF:
        return f"{variable} {_STATES_OF[operator][value is not True]}"
    shown = str(value) if operator.endswith("Path") else write_text(value)
    if operator.startswith("Boolean") and isinstance(value, bool):
        return variable if value else f"not {variable}"
    plain = operator.removesuffix("Path")
    sign = next((sign for name, sign in _SIGNS if plain.endswith(name)), operator)
    return f"{variable} {sign} {shown}"


def errors_caption(catcher: Mapping[str, Json]) -> str:
    """What a catcher catches."""
    names = catcher.get("ErrorEquals")
    if not isinstance(names, list):
        return "error"
    if names == ["States.ALL"]:
        return "any error"
    return ", ".join(str(name).removeprefix("States.") for name in names)


def detail(state: Mapping[str, Json]) -> str:
    """A line about what a state does beside its name: whom a Task calls, how long a Wait waits, how a Fail fails."""
    type_name = state.get("Type")
    if type_name == "Task":
        return _called(state)
    if type_name == "Wait":
        for field in ("Seconds", "SecondsPath", "Timestamp", "TimestampPath"):
            if field in state:
                value = state[field]
                return f"{value} s" if field == "Seconds" and isinstance(value, int) else str(value)
    if type_name == "Fail":
        return str(state.get("Error", state.get("ErrorPath", "")))
    if type_name == "Map":
        limit = state.get("MaxConcurrency")
        return f"at most {limit} at once" if isinstance(limit, int) and limit > 0 else ""
    return ""


def _called(state: Mapping[str, Json]) -> str:
    text = state.get("Resource")
    if not isinstance(text, str):
        return ""
    resource = parse_resource(text)
    if resource is None:
        return text.rpartition(":function:")[2]
    parameters = state.get("Parameters", state.get("Arguments"))
    if (
        resource.service == "lambda"
        and isinstance(parameters, dict)
        and isinstance(parameters.get("FunctionName"), str)
    ):
        return str(parameters["FunctionName"]).rpartition(":function:")[2]
    endpoint = parameters.get("ApiEndpoint") if isinstance(parameters, dict) and resource.service == "http" else None
    if isinstance(endpoint, str) and isinstance(parameters, dict):
        method = parameters.get("Method")
        return f"{method if isinstance(method, str) else 'call'} {endpoint.partition('://')[2] or endpoint}"
    if resource.service:
        return f"{resource.service.removeprefix('aws-sdk:')}:{resource.action}{resource.pattern.value}"
    return resource.name.rpartition(":activity:")[2]


def retry_caption(state: Mapping[str, Json]) -> str:
    """How often a state is tried again, for its mark: the most attempts of its retriers; empty where it is not."""
    retriers = state.get("Retry")
    if not isinstance(retriers, list) or not retriers:
        return ""
    attempts = [each.get("MaxAttempts", 3) for each in retriers if isinstance(each, dict)]
    most = max((each for each in attempts if isinstance(each, int)), default=0)
    return f"↻ {most}" if most else ""
