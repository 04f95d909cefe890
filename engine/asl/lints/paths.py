"""Paths to what cannot be there, because every way to a state brings it an object without that field.

What is known of a state's input begins where a definition writes data down: Result, Parameters, ResultSelector, ItemSelector, the error
object of a catcher. A state whose input may be anything is not looked at, so nothing is reported that could exist.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from stepwell.engine.asl.diagnostics import DiagnosticCode
from stepwell.engine.asl.language import QueryLanguage
from stepwell.engine.asl.lints.references import expressions_of, template_strings
from stepwell.engine.asl.lints.shapes import SCALAR, Shape, at, cut, joined, missing_step, put, shape_of, steps_of_path
from stepwell.engine.asl.lints.walk import Machine, StateAt
from stepwell.engine.asl.report import Place, Report
from stepwell.engine.asl.resources import IntegrationPattern, TargetKind, parse_resource
from stepwell.engine.jsontypes import Json
from stepwell.engine.query.jsonata import source_of

_MAX_VISITS: Final = 6
"""How often a state's input may widen before it is taken to be anything."""

_ERROR: Final[Shape] = {"Error": SCALAR, "Cause": SCALAR}
_RESULTS: Final[Mapping[TargetKind, Shape]] = {
    TargetKind.FUNCTION: {
        "ExecutedVersion": SCALAR, "FunctionError": SCALAR, "LogResult": SCALAR, "Payload": None, "SdkHttpMetadata": None,
        "SdkResponseMetadata": None, "StatusCode": SCALAR,
    },
    TargetKind.HTTP: {"Headers": None, "ResponseBody": None, "StatusCode": SCALAR, "StatusText": SCALAR},
}  # fmt: skip
"""What lambda:invoke and http:invoke give."""

_WITH_RESULT: Final = frozenset({"Task", "Parallel", "Map"})
_INPUT_FIELDS: Final = (
    "SecondsPath", "TimestampPath", "TimeoutSecondsPath", "HeartbeatSecondsPath", "ItemsPath", "MaxConcurrencyPath",
    "ToleratedFailureCountPath", "ToleratedFailurePercentagePath", "ErrorPath", "CausePath",
)  # fmt: skip
"""Fields that hold a path into what InputPath gives."""

_BARE: Final = re.compile(
    r"\$\.[A-Za-z_`]|(?!(?:true|false|null)$)[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*$"
)
"""JSONata that begins at the document, of which there is none."""


_ODD_SIGN: Final = re.compile(r"[^\['\"](?:['\"]|[^\d'\"*?)]\])")
_ODD_NAME: Final = r"""\$\$?(?:\.[^.'"\[\]()\s]+|\[\d+\]|\['[^']*'\])*\.([^.\[(\s]*['"\]][^.\[(\s]*)"""
"""A path with a quote or a closing bracket in a name that follows a dot."""


_STRINGS: Final = re.compile(r"'(?:[^'\\]|\\.?)*+(?:'|\Z)|\"(?:[^\"\\]|\\.?)*+(?:\"|\Z)")
_CALLS_EVAL: Final = re.compile(r"\$eval\s*\(")


def check_paths(report: Report, machine: Machine) -> None:
    """Look at every state of every container."""
    pending: list[tuple[Mapping[str, Json], Place, Shape]] = [(machine.definition, None, None)]
    while pending:
        container, place, first = pending.pop()
        states = machine.states_in(container, place)
        inputs = _inputs(container, states, first)
        for state in states.values():
            shape = inputs.get(state.name)
            if state.language is QueryLanguage.JSONATA:
                _check_jsonata(report, state)
                inner: Shape = None
            else:
                if shape is not None or _task_result(state) is not None:
                    _check_jsonpath(report, state, shape)
                inner = _effective(state, shape)
            if state.type == "Map":
                inner = _item(state, inner)
            pending.extend((each.container, each.place, inner) for each in state.nested())


def check_path_ends(report: Report, machine: Machine) -> None:
    """Look for paths that are read in another way than they look: `$.a[` is `$.a`, and `$.a'b']` asks for a field `a'b']`."""
    for state in machine.states:
        if state.language is QueryLanguage.JSONATA:
            continue
        for text, place in expressions_of(state):
            if text.startswith("$") and len(text) > 2 and text.endswith("["):
                report.warn(
                    place,
                    f"The bracket at the end of the path '{text[:200]}' is ignored",
                    DiagnosticCode.IGNORED_PATH_END,
                    hint=f"Leave it out, or write what is to come after '{text[:-1][:200]}'.",
                )
            elif _ODD_SIGN.search(text) and (odd := re.match(_ODD_NAME, text)) is not None:
                report.warn(
                    place,
                    f"The path '{text[:200]}' asks for a field that is called '{odd[1][:80]}'",
                    DiagnosticCode.ODD_NAME,
                    hint="In brackets a name is written as ['my name'], both of them with quotes.",
                )


def _inputs(container: Mapping[str, Json], states: Mapping[str, StateAt], first: Shape) -> dict[str, Shape]:
    """What is known of the input of each state that is reached."""
    start = container.get("StartAt")
    if not isinstance(start, str) or start not in states:
        return {}
    inputs: dict[str, Shape] = {start: first}
    visits: dict[str, int] = {}
    pending = [start]
    while pending:
        state = states[pending.pop()]
        for target, shape in _exits(state, inputs[state.name]):
            if target not in states:
                continue
            if target not in inputs:
                after = cut(shape)
            else:
                visits[target] = visits.get(target, 0) + 1
                after = joined(inputs[target], cut(shape)) if visits[target] <= _MAX_VISITS else None
            if target not in inputs or after != inputs[target]:
                inputs[target] = after
                pending.append(target)
    return inputs


def _exits(state: StateAt, input: Shape) -> Iterator[tuple[str, Shape]]:
    """Where a state leads, and what is known of what it hands on there."""
    output = _output(state, input)
    for field in ("Next", "Default"):
        target = state.fields.get(field)
        if isinstance(target, str):
            yield target, output
    for rule, _ in state.entries("Choices"):
        target = rule.get("Next")
        if isinstance(target, str):
            yield target, None if "Output" in rule else output
    for catcher, _ in state.entries("Catch"):
        target = catcher.get("Next")
        if isinstance(target, str):
            if state.language is QueryLanguage.JSONATA:
                yield target, None if "Output" in catcher else _ERROR
            else:
                yield target, _put_result(catcher, input, _ERROR)


def _output(state: StateAt, input: Shape) -> Shape:
    fields = state.fields
    if state.language is QueryLanguage.JSONATA:
        return input if state.type in ("Pass", "Wait", "Choice") and "Output" not in fields else None
    effective = _effective(state, input)
    result: Shape
    if state.type == "Pass":
        result = shape_of(fields["Result"]) if "Result" in fields else effective
        output = _put_result(fields, input, result)
    elif state.type in _WITH_RESULT:
        result = _task_result(state)
        if "ResultSelector" in fields:
            result = _template(fields["ResultSelector"], result)
        output = _put_result(fields, input, result)
    else:
        output = effective
    return _selected(fields.get("OutputPath", "$"), output)


def _task_result(state: StateAt) -> Shape:
    """What is known of a task's result."""
    text = state.fields.get("Resource")
    resource = parse_resource(text) if isinstance(text, str) and text.startswith("arn:") else None
    if resource is None or not resource.action or resource.pattern is not IntegrationPattern.REQUEST_RESPONSE:
        return None
    return _RESULTS.get(resource.kind)


def _effective(state: StateAt, input: Shape) -> Shape:
    """What a state works on: its input after InputPath and Parameters."""
    selected = _selected(state.fields.get("InputPath", "$"), input)
    if state.type == "Map" or "Parameters" not in state.fields:
        return selected
    return _template(state.fields["Parameters"], selected)


def _item(state: StateAt, input: Shape) -> Shape:
    """What an iteration begins with."""
    if state.language is QueryLanguage.JSONATA or "ItemBatcher" in state.fields:
        return None
    for field in ("ItemSelector", "Parameters"):
        if field in state.fields:
            return _template(state.fields[field], input)
    return None


def _template(template: Json, input: Shape) -> Shape:
    """What a payload template gives."""
    if not isinstance(template, dict):
        return shape_of(template)
    made: dict[str, Shape] = {}
    for key, item in template.items():
        if key.endswith(".$"):
            made[key[:-2]] = at(input, item) if isinstance(item, str) else None
        else:
            made[key] = _template(item, input)
    return made


def _selected(path: Json, shape: Shape) -> Shape:
    if path is None:
        return {}
    return at(shape, path) if isinstance(path, str) else None


def _put_result(holder: Mapping[str, Json], input: Shape, result: Shape) -> Shape:
    path = holder.get("ResultPath", "$")
    if path is None:
        return input
    return put(input, path, result) if isinstance(path, str) else None


def _check_jsonpath(report: Report, state: StateAt, input: Shape) -> None:
    _check(report, state.fields.get("InputPath"), input, (state.place, "InputPath"))
    selected = _selected(state.fields.get("InputPath", "$"), input)
    for field in ("Parameters", "ItemSelector"):
        for text, place in template_strings(state.fields.get(field), (state.place, field)):
            _check(report, text, selected, place)
    result = _task_result(state)
    if result is not None:
        for text, place in template_strings(state.fields.get("ResultSelector"), (state.place, "ResultSelector")):
            _check(report, text, result, place)
    effective = selected if state.type == "Map" else _effective(state, input)
    for field in _INPUT_FIELDS:
        _check(report, state.fields.get(field), effective, (state.place, field))
    if "OutputPath" in state.fields:
        before = StateAt(
            state.name, {k: v for k, v in state.fields.items() if k != "OutputPath"}, state.place, state.language
        )
        _check(report, state.fields["OutputPath"], _output(before, input), (state.place, "OutputPath"))
    if state.type == "Choice":
        rules = list(state.entries("Choices"))
        if not any(_asks_presence(rule) for rule, _ in rules):
            for rule, place in rules:
                _check(report, rule.get("Variable"), effective, (place, "Variable"))


def _asks_presence(rule: Json) -> bool:
    """Whether a rule looks whether something is there, and so may guard others."""
    if isinstance(rule, dict):
        return "IsPresent" in rule or any(_asks_presence(inner) for inner in rule.values())
    return isinstance(rule, list) and any(_asks_presence(inner) for inner in rule)


def _check(report: Report, text: Json, shape: Shape, place: Place) -> None:
    if not isinstance(text, str):
        return
    missing = missing_step(shape, text)
    if missing is None:
        return
    steps = steps_of_path(text) or []
    around = "$" + "".join(f".{step}" for step in steps[:missing])
    there = at(shape, around)
    known = ", ".join(sorted(there)[:8]) if isinstance(there, Mapping) else ""
    report.warn(
        place,
        f"Nothing can be at '{text[:200]}': what comes here has no field '{steps[missing][:80]}' in '{around[:200]}'",
        DiagnosticCode.IMPOSSIBLE_PATH,
        hint=f"The fields there are: {known}." if known else "There are no fields there.",
    )


def _check_jsonata(report: Report, state: StateAt) -> None:
    for text, place in expressions_of(state):
        expression = report.expressions.get(text)
        if expression is None:
            continue
        source = source_of(text)
        if expression.reads_context and _BARE.match(source):
            report.warn(
                place,
                f"The expression '{source[:200]}' gives nothing: there is no document for '$' and bare names to read",
                DiagnosticCode.IMPOSSIBLE_PATH,
                hint="Read the state's input with $states.input, a variable with $name.",
            )
        if "eval" in expression.called and _CALLS_EVAL.search(_STRINGS.sub("''", source)):
            report.warn(
                place,
                "There is no function '$eval': AWS leaves it out",
                DiagnosticCode.FAILING_CALL,
                hint="Text that is JSON is read by $parse.",
            )
