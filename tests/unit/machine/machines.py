"""Random state machines of every state type, nested, and what may happen to their executions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from hypothesis import strategies as st

from stepwell.engine.machine import events
from stepwell.engine.machine.events import Event
from tests.support.local_machine import LocalMachine, raw

Draw = Callable[[st.SearchStrategy[Any]], Any]

FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:f"
ACTIVITY = "arn:aws:states:us-east-1:123456789012:activity:a"
INPUT = '{"items": [1, {"k": 2}, "three"], "n": 5}'

RESOURCES = (
    FUNCTION,
    ACTIVITY,
    "celery:app.work",
    "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
    "arn:aws:states:::lambda:invoke",
)
ERRORS = ("Broken", "Busy", "States.Timeout", "States.Runtime", None)


class _Namer:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        return f"S{self.count}"


@st.composite
def definitions(draw: st.DrawFn) -> dict[str, Any]:
    """A machine: first a Pass that sets a variable, then up to four states, some of which hold further ones."""
    name = _Namer()
    machine = _container(draw, name, 2, most=4)
    start = name()
    first = {"Type": "Pass", "Assign": {"top.$": "$$.Execution.Input.n"}, "Next": machine["StartAt"]}
    machine = {"StartAt": start, "States": {start: first, **machine["States"]}}
    if draw(st.integers(0, 4)) == 0:
        machine["TimeoutSeconds"] = draw(st.integers(1, 20))
    return machine


def _container(draw: Draw, name: _Namer, depth: int, most: int) -> dict[str, Any]:
    names = [name() for _ in range(draw(st.integers(1, most)))]
    states = {}
    for index, own in enumerate(names):
        states[own] = _state(draw, name, own, names[index + 1 :], depth)
    return {"StartAt": names[0], "States": _reachable(names[0], states)}


def _reachable(start: str, states: dict[str, Any]) -> dict[str, Any]:
    """Only what can be reached: anything else is refused."""
    found: dict[str, Any] = {}
    waiting = [start]
    while waiting:
        at = waiting.pop()
        if at in found:
            continue
        state = found[at] = states[at]
        rules = [*state.get("Catch", ()), *state.get("Choices", ()), state, {"Next": state.get("Default")}]
        waiting += [rule["Next"] for rule in rules if rule.get("Next")]
    return {own: state for own, state in states.items() if own in found}


def _state(draw: Draw, name: _Namer, own: str, later: list[str], depth: int) -> dict[str, Any]:
    kinds = ["Pass", "Task", "Task", "Wait", "Succeed", "Fail"]
    if later:
        kinds += ["Choice"]
    if depth:
        kinds += ["Parallel", "Map", "Parallel", "Map"]
    kind = draw(st.sampled_from(kinds))
    state: dict[str, Any] = {"Type": kind}
    if kind == "Choice":
        rule = {"Variable": "$top", "NumericGreaterThan": draw(st.integers(4, 6)), "Next": draw(st.sampled_from(later))}
        state["Choices"] = [rule]
        if draw(st.booleans()):
            state["Default"] = draw(st.sampled_from(later))
        return state
    if kind == "Succeed":
        return state
    if kind == "Fail":
        return {**state, "Error": draw(st.sampled_from(("Broken", "Busy"))), "Cause": "as asked"}
    if later:
        state["Next"] = draw(st.sampled_from(later))
    else:
        state["End"] = True
    _fill(draw, name, state, own, depth)
    if kind in ("Task", "Parallel", "Map"):
        _errors(draw, state, later)
    return state


def _fill(draw: Draw, name: _Namer, state: dict[str, Any], own: str, depth: int) -> None:
    match state["Type"]:
        case "Pass":
            extra: tuple[dict[str, Any], ...] = (
                {},
                {"Result": {"fixed": [1, 2]}, "ResultPath": "$.made"},
                {"Parameters": {"top.$": "$top", "all.$": "$"}},
                {"Assign": {f"v{own}.$": "$"}},
                {"InputPath": "$.absent"},
            )
            state.update(draw(st.sampled_from(extra)))
        case "Task":
            state["Resource"] = draw(st.sampled_from(RESOURCES))
            if draw(st.booleans()):
                state["TimeoutSeconds"] = draw(st.integers(2, 9))
                if draw(st.booleans()):
                    state["HeartbeatSeconds"] = 1
            state["Parameters"] = {"in.$": "$", "entered.$": "$$.State.EnteredTime"}
            if ".waitForTaskToken" in state["Resource"]:
                state["Parameters"]["MessageBody.$"] = "$$.Task.Token"
                state["Parameters"]["QueueUrl"] = "http://q"
            if "lambda:invoke" in state["Resource"]:
                state["Parameters"] = {"FunctionName": "f", "Payload.$": "$"}
            if draw(st.booleans()):
                state["ResultPath"] = draw(st.sampled_from(("$.got", None)))
            if draw(st.booleans()):
                state["Assign"] = {f"v{own}.$": "$"}
        case "Wait":
            state["Seconds"] = draw(st.integers(0, 5))
        case "Parallel":
            state["Branches"] = [_container(draw, name, depth - 1, most=2) for _ in range(draw(st.integers(1, 3)))]
        case "Map":
            state["ItemsPath"] = "$$.Execution.Input.items"
            state["ItemProcessor"] = _container(draw, name, depth - 1, most=2)
            state["MaxConcurrency"] = draw(st.integers(0, 2))
            if draw(st.booleans()):
                state["ItemSelector"] = {"i.$": "$$.Map.Item.Index", "v.$": "$$.Map.Item.Value", "top.$": "$top"}


def _errors(draw: Draw, state: dict[str, Any], later: list[str]) -> None:
    names: st.SearchStrategy[list[str]] = st.sampled_from(
        (["Busy"], ["States.TaskFailed"], ["States.Timeout"], ["States.ALL"])
    )
    if draw(st.booleans()):
        state["Retry"] = [
            {
                "ErrorEquals": draw(names),
                "MaxAttempts": draw(st.integers(0, 2)),
                "JitterStrategy": draw(st.sampled_from(("FULL", "NONE"))),
            }
        ]
    if later and draw(st.booleans()):
        catch: dict[str, Any] = {"ErrorEquals": draw(names), "Next": draw(st.sampled_from(later))}
        catch["ResultPath"] = draw(st.sampled_from(("$", "$.error", "$.n.deeper", None)))
        state["Catch"] = [catch]


STALE = st.one_of(
    st.builds(events.TimerFired, st.integers(-1, 40)),
    st.builds(events.TaskStarted, st.integers(-1, 40)),
    st.builds(events.TaskSubmitted, st.integers(-1, 40), st.just(raw({}))),
    st.builds(events.TaskSucceeded, st.integers(-1, 40), st.just(raw([]))),
    st.builds(events.TaskFailed, st.integers(-1, 40), st.sampled_from(ERRORS)),
    st.builds(events.HeartbeatMissed, st.integers(-1, 40)),
    st.just(events.Continued()),
    st.just(events.Started(raw({"again": True}))),
    st.just(events.Redriven()),
)
"""Events that may or may not concern anything."""


def next_event(draw: Draw, machine: LocalMachine) -> Event | None:
    """Something that may happen now; None for a timer to fire."""
    return cast("Event | None", draw(_possible(draw, machine)))


def _possible(draw: Draw, machine: LocalMachine) -> st.SearchStrategy[Event | None]:
    if machine.finish is not None:
        return st.sampled_from((events.Redriven(), events.Redriven(), events.StopRequested(), events.TimerFired(1)))
    kind = draw(st.sampled_from(("answer", "answer", "answer", "timer", "timer", "stale", "rare")))
    if kind == "answer" and machine.tasks:
        task = draw(st.sampled_from(sorted(machine.tasks)))
        return st.sampled_from(
            (
                events.TaskSucceeded(task, raw({"n": 5, "done": task})),
                events.TaskSucceeded(task, raw(["not", "an", "object"])),
                events.TaskStarted(task, "worker-1"),
                events.TaskSubmitted(task, raw({"id": 1})),
                events.HeartbeatMissed(task),
                *(events.TaskFailed(task, error, "cause") for error in ERRORS),
                events.TaskFailed(task, "Late", None, "submit"),
                events.TaskFailed(task, "Never", None, "schedule"),
                events.TaskFailed(task, "Never", None, "start"),
            )
        )
    if kind == "stale":
        return STALE
    if kind == "rare":
        return st.sampled_from((events.Continued(), events.StopRequested("Stopped", "by hand"), events.Poisoned("x")))
    return st.none()
