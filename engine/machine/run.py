"""One transition at work: the state being advanced, and what it has brought about so far.

Holds the few moves every state type is made of: emit an event, enter and leave a state, ask for a timer or a task. The
behaviour of the state types is in `machine.states`, what errors do in `machine.failure`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import msgspec

from stepwell.engine import ids
from stepwell.engine.asl.states import MapState, ParallelState, StateContainer, StateMachine, TaskState
from stepwell.engine.clock import Entropy
from stepwell.engine.jsontypes import Document, Json, write, write_text
from stepwell.engine.limits import (
    MAX_ASSIGN_BYTES,
    MAX_EXECUTION_VARIABLES_BYTES,
    MAX_HISTORY_EVENTS,
    MAX_PAYLOAD_BYTES,
)
from stepwell.engine.machine.commands import (
    CancelTask,
    CancelTimer,
    CloseTask,
    Command,
    Finish,
    StartTimer,
    Status,
    TimerKind,
)
from stepwell.engine.machine.decisions import Decision, DecisionKind
from stepwell.engine.machine.history import ENTERED, EXITED, NO_DATA, TERMINAL, Details, HistoryEvent
from stepwell.engine.machine.inspection import Inspection
from stepwell.engine.machine.snapshot import ExecutionState, Frame, Phase, Timer, Workflow
from stepwell.engine.query.scope import Heavy, Scope, StatesScope
from stepwell.engine.query.timestamps import format_timestamp
from stepwell.engine.states_errors import ErrorName, StatesError


class Slice(NamedTuple):
    """How much one step may do before others get their turn: events written, bytes of user data in them, steps of reading data by
    paths. What JSONata does cannot be counted: `time_is_up`, if it is given, is asked after each state in that language."""

    events: int = 256
    bytes: int = 1_048_576
    steps: int = 50_000
    time_is_up: Callable[[], bool] | None = None


class HistoryFullError(Exception):
    """The execution has reached the maximum number of history events."""


class Run:
    """The working state of one transition."""

    __slots__ = (
        "bytes", "commands", "decisions", "ended", "entropy", "events", "heavy", "inspection", "machine", "now", "started",
        "state",
    )  # fmt: skip

    def __init__(
        self, machine: StateMachine, state: ExecutionState, now: int, entropy: Entropy, heavy: Heavy | None = None
    ) -> None:
        self.machine = machine
        self.state = state
        self.now = now
        self.entropy = entropy
        self.heavy = heavy
        self.events: list[HistoryEvent] = []
        self.commands: list[Command] = []
        self.decisions: list[Decision] = []
        self.started: list[Frame] = []
        """Frames whose task starts as soon as this step is committed; their TaskStarted events close the step."""
        self.ended: list[Frame] = []
        """Child frames that came to their end and whose parents do not know it yet."""
        self.bytes = 0
        self.inspection: Inspection | None = None
        """What the data flow notes for whoever tests a state; None in an execution."""

    # -- history ---------------------------------------------------------------------------------------------------

    def emit(self, type: str, previous: int, details: Details | None = None, payload: Document | None = None) -> int:
        """Append an event; returns its id."""
        state = self.state
        id = state.next_event
        if id >= MAX_HISTORY_EVENTS and type not in TERMINAL and state.info.workflow is Workflow.STANDARD:
            raise HistoryFullError
        raw = NO_DATA
        if payload is not None:
            text = payload.text
            self.bytes += len(text)
            raw = msgspec.Raw(text)
        self.events.append(HistoryEvent(type, previous, self.now, details, raw))
        state.next_event = id + 1
        return id

    def emit_next(
        self, frame: Frame, type: str, details: Details | None = None, payload: Document | None = None
    ) -> int:
        """Append an event that follows the frame's last one, and becomes its last one."""
        frame.last_event = id = self.emit(type, frame.last_event, details, payload)
        return id

    def decide(self, frame: Frame, kind: DecisionKind, index: int = 0) -> None:
        """Tell which way the frame's state goes."""
        self.decisions.append(Decision(frame.current.name, kind, index))

    # -- reading data ----------------------------------------------------------------------------------------------

    def scope(self, frame: Frame, input: Json) -> Scope:
        """What an expression of the frame's state sees, with `input` as `$`."""
        return Scope(
            input,
            variables=frame.visible,
            context=partial(self.context, frame),
            entropy=self.entropy,
            heavy=self.heavy,
        )

    def states_scope(
        self,
        frame: Frame,
        *,
        result: Document | None = None,
        error_output: Document | None = None,
        context: Callable[[], Json] | None = None,
    ) -> StatesScope:
        """What a JSONata expression of the frame's state sees."""
        return StatesScope(
            frame.data,
            result=result,
            error_output=error_output,
            variables=frame.visible,
            context=context or partial(self.context, frame),
            entropy=self.entropy,
            now=self.now,
            heavy=self.heavy,
        )

    def context(self, frame: Frame) -> Json:
        """The context object (`$$`) at the frame's state."""
        info = self.state.info
        execution: dict[str, Json] = {
            "Id": info.arn,
            "Input": self.state.input.value,
            "StartTime": format_timestamp(info.started_at),
            "Name": info.name,
            "RoleArn": info.role_arn,
        }
        if info.workflow is not Workflow.EXPRESS_SYNC:
            execution["RedriveCount"] = self.state.redrive_count
        if self.state.redriven_at:
            execution["RedriveTime"] = format_timestamp(self.state.redriven_at)
        state: dict[str, Json] = {"Name": frame.state, "EnteredTime": format_timestamp(frame.entered_at)}
        current = frame.current
        if isinstance(current, TaskState | ParallelState | MapState):
            state["RetryCount"] = sum(frame.retries or ())
        context: dict[str, Json] = {
            "Execution": execution,
            "StateMachine": {"Id": info.machine_arn, "Name": info.machine_name},
            "State": state,
        }
        if frame.task is not None and isinstance(current, TaskState) and current.resource.has_token:
            context["Task"] = {"Token": ids.task_token(info.id, frame.task.task, frame.task.secret)}
        item = self.map_item(frame)
        if item is not None:
            context["Map"] = {"Item": item}
        return context

    def map_item(self, frame: Frame) -> Json:
        """`$$.Map.Item` of the innermost Map iteration the frame is in; None outside of any."""
        at: Frame | None = frame
        while at is not None and at.parent is not None:
            if at.parent.items is not None:
                return {"Index": at.index, "Value": at.parent.items[at.index]}
            at = at.parent
        return None

    def place(self, frame: Frame) -> str:
        """Where the frame's state stands in the history: how the cause of an error met in evaluating it begins."""
        return (
            f"An error occurred while executing the state '{frame.state}' "
            f"(entered at the event id #{frame.entered_event}). "
        )

    def failing(self, frame: Frame, error: str | None, cause: str | None, alias: str | None) -> None:
        """The frame's state has failed; Retry and Catch are asked next. For whoever tests a state to know of it."""

    # -- moving ----------------------------------------------------------------------------------------------------

    def new_frame(self, parent: Frame | None, index: int, container: StateContainer, input: Document) -> Frame:
        """Open a frame, ready to enter its first state with `input`."""
        state = self.state
        frame = Frame(state.next_frame if parent is not None else 0, parent, index, container)
        if parent is not None:
            state.next_frame += 1
            assert parent.children is not None
            parent.children[index] = frame
        frame.data = input
        state.frames[frame.id] = frame
        self.ready(frame)
        return frame

    def touch(self, frame: Frame) -> None:
        """Mark a frame as changed, so that it is written with this step."""
        self.state.dirty.add(frame.id)

    def ready(self, frame: Frame) -> None:
        """Put a frame at the end of the queue of those that can go on."""
        self.state.ready.append(frame)
        self.state.dirty.add(frame.id)

    def enter(self, frame: Frame) -> None:
        """Write the StateEntered event of the frame's state."""
        state = frame.current
        id = self.emit(ENTERED[state.type], frame.last_event, {"name": state.name}, frame.data)
        frame.last_event = frame.entered_event = frame.data_event = id
        frame.entered_at = self.now
        frame.attempts = 0
        frame.retries = None

    def leave(self, frame: Frame, output: Document, next: str | None, assigned: dict[str, Json] | None = None) -> None:
        """Write the StateExited event and go to the next state, or end the frame when there is none.

        Raises `StatesError` before anything has changed if the output or the variables are too large.
        """
        state = frame.current
        if len(output.text) > MAX_PAYLOAD_BYTES:
            raise data_limit(state.name)
        details: Details = {"name": state.name}
        if assigned:
            texts = {name: write_text(value) for name, value in assigned.items()}
            size = sum(len(text.encode()) for text in texts.values())
            if size > MAX_ASSIGN_BYTES or not self._room_for(frame, assigned, size):
                raise data_limit(state.name)
            details["assignedVariables"] = texts
        id = self.emit(EXITED[state.type], frame.last_event, details, output)
        frame.last_event = frame.data_event = id
        frame.data = output
        frame.join = None
        frame.items = frame.kept_items = None
        frame.map_run = None
        if assigned:
            frame.variables = {**(frame.variables or {}), **assigned}
            frame.variables_changed = True
        if next is not None:
            frame.current = frame.container.states[next]
            frame.phase = Phase.READY
            self.ready(frame)
        else:
            self.finish_frame(frame)

    def _room_for(self, frame: Frame, assigned: dict[str, Json], size: int) -> bool:
        """Whether the variables of the execution stay within the limit. They are counted anew only when what was assigned since
        the last count could have led over it."""
        state = self.state
        if state.variable_bytes is not None and state.variable_bytes + size <= MAX_EXECUTION_VARIABLES_BYTES:
            state.variable_bytes += size
            return True
        total = size
        for other in state.frames.values():
            for name, value in (other.variables or {}).items():
                if other is not frame or name not in assigned:
                    total += len(write(value))
        if total > MAX_EXECUTION_VARIABLES_BYTES:
            return False
        state.variable_bytes = total
        return True

    def finish_frame(self, frame: Frame) -> None:
        """The frame has come to its end with `frame.data` as output."""
        frame.phase = Phase.DONE
        if frame.parent is None:
            self.emit_next(frame, "ExecutionSucceeded", None, frame.data)
            self.finish(Finish(Status.SUCCEEDED, self.now, output=frame.data))
        else:
            self.touch(frame)
            self.ended.append(frame)

    def finish(self, finish: Finish) -> None:
        """End the execution."""
        state = self.state
        state.status = finish.status
        state.ready.clear()
        self.started.clear()
        self.ended.clear()
        if state.execution_timer:
            self.cancel_timer(state.execution_timer)
            state.execution_timer = 0
        if finish.status is Status.SUCCEEDED:
            state.removed.extend(state.frames)
            state.frames = {}
            state.dirty.clear()
        self.commands.append(finish)

    # -- timers and tasks ------------------------------------------------------------------------------------------

    def start_timer(self, frame: Frame | None, kind: TimerKind, due_at: int, task: int | None = None) -> int:
        """Ask for a timer; returns its number. None for the execution's own."""
        state = self.state
        id = state.next_timer
        state.next_timer = id + 1
        state.timers[id] = Timer(kind, frame.id if frame is not None else 0, due_at)
        state.timers_dirty.add(id)
        self.commands.append(StartTimer(id, kind, due_at, task))
        return id

    def cancel_timer(self, id: int) -> None:
        """Take a timer back."""
        if id and self.state.timers.pop(id, None) is not None:
            self.state.timers_gone.append(id)
            self.commands.append(CancelTimer(id))

    def close_task(self, frame: Frame, *, cancel: bool = False) -> None:
        """The frame's task is over (or no longer wanted): forget it and its timers."""
        task = frame.task
        if task is None:
            return
        self.cancel_timer(task.timeout_timer)
        self.cancel_timer(task.heartbeat_timer)
        self.state.tasks.pop(task.task, None)
        self.commands.append(CancelTask(task.task) if cancel else CloseTask(task.task))
        frame.task = None
        self.touch(frame)


def data_limit(name: str) -> StatesError:
    """The error for a result that is too large, in AWS's words."""
    return StatesError(
        ErrorName.DATA_LIMIT_EXCEEDED,
        f"The state/task '{name}' returned a result with a size exceeding the maximum number of bytes service limit.",
    )
