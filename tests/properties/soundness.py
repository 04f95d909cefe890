"""What holds for every execution after every step, and for every history: written from the outside, as a reader of the API sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import botocore.session
import msgspec

from stepwell.engine.jsontypes import Document
from stepwell.engine.machine import chunks
from stepwell.engine.machine.commands import ScheduleTask, Status
from stepwell.engine.machine.history import EVENT_SHAPES, TERMINAL, HistoryEvent
from stepwell.engine.machine.snapshot import Phase
from tests.support.local_machine import LocalMachine

ENDS = {
    Status.SUCCEEDED: "ExecutionSucceeded",
    Status.FAILED: "ExecutionFailed",
    Status.TIMED_OUT: "ExecutionTimedOut",
    Status.ABORTED: "ExecutionAborted",
}


def check_step(machine: LocalMachine) -> None:
    """What holds after every step."""
    state, seen = machine.state, machine.seen
    assert state.next_event == len(seen) + 1
    redrives = sum(event.type == "ExecutionRedriven" for event in seen)
    ends = [event.type for event in seen if event.type in TERMINAL]
    assert len(ends) == redrives + (machine.finish is not None)
    assert (state.status is Status.RUNNING) == (machine.finish is None)
    assert set(state.tasks) == set(machine.tasks), "the open tasks are those that were asked for and not taken back"
    assert set(state.timers) == set(machine.timers), "and so are the timers"
    assert all(frame.phase is Phase.MAP_RUN and state.frames[frame.id] is frame for frame in state.map_runs.values())
    if machine.finish is not None:
        assert seen[-1].type == ENDS[machine.finish.status]
        assert not machine.tasks and not machine.timers and not state.map_runs and not state.ready, (
            "nothing is left open behind the end"
        )
        return
    for number, frame in state.tasks.items():
        assert state.frames[frame.id] is frame and frame.phase is Phase.TASK
        assert frame.task is not None and frame.task.task == number
        for its in (frame.task.timeout_timer, frame.task.heartbeat_timer):
            assert not its or state.timers[its].frame == frame.id
    for timer in state.timers.values():
        assert timer.frame in state.frames
    for frame in state.frames.values():
        assert (frame.phase is Phase.JOIN) == (frame.join is not None) or frame.phase is Phase.FAILED
        if frame.phase is Phase.TIMER:
            assert state.timers[frame.timer].frame == frame.id
        if frame.phase is Phase.TASK:
            assert frame.task is not None and state.tasks[frame.task.task] is frame
        if frame.phase is Phase.MAP_RUN:
            assert frame.map_run is not None and state.map_runs[frame.map_run.number] is frame
        if frame.phase is Phase.JOIN:
            join = frame.join
            assert join is not None and frame.children is not None
            phases = [child.phase for child in frame.children.values()]
            assert join.done == phases.count(Phase.DONE)
            assert join.open == len(phases) - phases.count(Phase.DONE)
            assert join.open + join.done <= join.total
    if not state.ready:
        waits = [timer for id, timer in state.timers.items() if id != state.execution_timer]
        assert machine.tasks or waits or state.map_runs, "nothing is left to wait for"


MOST_BRANCHES = 3
"""Branches of a random Parallel: they are opened by one event."""


def check_deltas(machine: LocalMachine) -> None:
    """What a step writes depends on what it did, not on how much is open.

    A frame is written because it moved, which an event or a command tells of; the one it is a part of is written with it.
    """
    for data, commands in zip(machine.chunks, machine.commands, strict=True):
        chunk = chunks.decode(data)
        delta = chunk.delta
        assert delta is not None
        if delta.full or any(event.type in TERMINAL or event.type == "ExecutionRedriven" for event in chunk.events):
            continue
        moves = len(chunk.events) + len(commands)
        assert len(delta.frames) <= 2 * moves + MOST_BRANCHES, "a step writes only what it changed"
        assert len(delta.timers) + len(delta.timers_gone) <= 2 * len(commands)


def check_history(machine: LocalMachine) -> None:
    """What holds for the history of any execution, whatever became of it."""
    history = machine.seen
    assert history[0].type == "ExecutionStarted" and history[0].previous == 0
    times = [event.timestamp for event in history]
    assert times == sorted(times), "time never goes back"
    for id, event in enumerate(history, 1):
        assert 0 <= event.previous < id
        assert (event.previous == 0) == (
            event.type in ("ExecutionStarted", "ExecutionAborted", "ExecutionTimedOut")
        ) or (id == 2 or event.previous == 0)
        check_shape(event)
    _check_closes(history)
    _check_tasks(history, machine)
    _check_map_runs(history)
    counts = Counter(event.type for event in history)
    if machine.finish is not None and machine.finish.status is Status.SUCCEEDED:
        output = history[-1].payload
        assert machine.finish.output is not None and output is not None
        assert bytes(output) == machine.finish.output.text
        if not counts["ExecutionRedriven"]:
            _check_balance(counts)


def _check_closes(history: Sequence[HistoryEvent]) -> None:
    """A state is left once at most, by the thread that entered it."""
    left: set[int] = set()
    for id, event in enumerate(history, 1):
        if not event.type.endswith("StateExited"):
            continue
        name = (event.details or {})["name"]
        entered = _entered(history, id, name, left)
        assert entered is not None, f"event {id} leaves {name}, which was not entered before"
        assert entered not in left, f"{name}, entered by event {entered}, is left twice"
        left.add(entered)


def _entered(history: Sequence[HistoryEvent], id: int, name: str, left: set[int]) -> int | None:
    """The event before this one, in its thread, that entered the state. (The thread of what was stopped is cut: behind a
    redrive any of that name will do that was not left.)"""
    type = history[id - 1].type.replace("Exited", "Entered")
    at = id
    while at := history[at - 1].previous:
        if _enters(history[at - 1], type, name):
            return at
        if history[at - 1].type == "EvaluationFailed":  # may stand beside the event that entered the state
            beside = (id for id in range(at - 1, 0, -1) if history[id - 1].previous == history[at - 1].previous)
            entered = next((id for id in beside if _enters(history[id - 1], type, name)), None)
            if entered is not None:
                return entered
        if history[at - 1].type == "ExecutionRedriven":
            before = range(at - 1, 0, -1)
            return next((id for id in before if _enters(history[id - 1], type, name) and id not in left), None)
    return None


def _enters(event: HistoryEvent, type: str, name: str) -> bool:
    return event.type == type and (event.details or {})["name"] == name


_OUTCOMES = ("Succeeded", "Failed", "TimedOut", "StartFailed", "ScheduleFailed", "SubmitFailed")


def _check_tasks(history: Sequence[HistoryEvent], machine: LocalMachine) -> None:
    """Each task is reported with one outcome at most, and started, if at all, before it."""
    scheduled = {
        command.scheduled_event
        for commands in machine.commands
        for command in commands
        if isinstance(command, ScheduleTask)
    }
    ended: set[int] = set()
    for id, event in enumerate(history, 1):
        family = next((name for name in ("LambdaFunction", "Activity", "Task") if event.type.startswith(name)), None)
        if family is None or event.type.startswith("TaskState"):
            continue
        what = event.type.removeprefix(family)
        if what == "Scheduled":
            assert id in scheduled, "what is reported as scheduled was asked for"
            continue
        own = id
        while (at := history[own - 1]).type != f"{family}Scheduled":
            assert at.type.startswith(family) and not at.type.startswith("TaskState"), "it follows its own schedule"
            own = at.previous
        assert own not in ended, "nothing follows an outcome"
        if what in _OUTCOMES:
            ended.add(own)


def _check_map_runs(history: Sequence[HistoryEvent]) -> None:
    """A Map Run ends once at most, each time that it is set going."""
    ended: set[int] = set()
    for event in history:
        if event.type in ("MapRunSucceeded", "MapRunFailed"):
            assert history[event.previous - 1].type in ("MapRunStarted", "MapRunRedriven")
            assert event.previous not in ended, "a Map Run ends twice"
            ended.add(event.previous)


def _check_balance(counts: Mapping[str, int]) -> None:
    """In an execution that has succeeded at the first attempt, whatever was begun was ended."""
    for type in ("Task", "Wait", "Map", "Parallel"):
        entered = counts[f"{type}StateEntered"]
        assert entered == counts[f"{type}StateExited"] + counts[f"{type}StateAborted"], type
    ended = sum(counts[f"MapIteration{how}"] for how in ("Succeeded", "Failed", "Aborted"))
    assert counts["MapIterationStarted"] == ended


# -- shapes --------------------------------------------------------------------------------------------------------------


@cache
def _members() -> dict[str, set[str]]:
    """The members of each details structure of the API model."""
    model = botocore.session.Session().get_service_model("stepfunctions")
    event = model.shape_for("HistoryEvent")
    return {name: set(getattr(shape, "members", ())) for name, shape in event.members.items()}


def check_shape(event: HistoryEvent) -> None:
    """An event has the members AWS's model gives its type, and no others."""
    shape = EVENT_SHAPES[event.type]
    details: dict[str, Any] = event.details or {}
    if shape.details is None:
        assert not details, f"{event.type} has no details"
    else:
        unknown = details.keys() - _members()[shape.details]
        assert not unknown, f"{event.type} has members that AWS does not know: {unknown}"
    if shape.payload is None:
        assert event.payload is None
        assert event.data == msgspec.Raw(b"null"), f"{event.type} carries data that nobody sees"
    else:
        assert event.payload is not None
        _ = Document.trusted(bytes(event.payload)).value  # is JSON
