"""The position of one execution as plain data: frames, open tasks, timers; and how it is written and read back.

A **frame** is one thread of control: the execution itself, a branch of a Parallel, an iteration of a Map. It stands at one
state. What is written after a step is a `Delta`, holding only the frames that changed, and user data never more than once:
a frame refers to the history event that carries its data. The bytes a step writes therefore do not grow with the number of
frames that are open. `restore` folds deltas back into a state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum, StrEnum
from typing import Any, Final

import msgspec

from stepwell.engine.asl.states import MapState, ParallelState, State, StateContainer, StateMachine
from stepwell.engine.jsontypes import Document, Json
from stepwell.engine.machine.commands import Status, TimerKind
from stepwell.engine.machine.history import NO_DATA

SNAPSHOT_VERSION: Final = 1
"""The version this code writes; it reads this one and the one before."""


class Phase(IntEnum):
    """What a frame is doing."""

    READY = 0
    """About to enter the state `state` with `data` as input."""
    REDO = 1
    """About to run the body of a state it has already entered: a retry, or a redrive."""
    TASK = 2
    """Waiting for the outcome of a task."""
    TIMER = 3
    """Waiting for a timer: a Wait state, or the delay before a retry."""
    JOIN = 4
    """Waiting for child frames: a Parallel or inline Map."""
    DONE = 5
    """Ended well; `data` is its output, kept until the parent joins."""
    FAILED = 6
    """Ended badly, or was cut off; kept so that a redrive can go on from here."""
    MAP_RUN = 7
    """Waiting for a Map Run: a Distributed Map."""


class OpenTask(msgspec.Struct, array_like=True):
    """The open task of a frame, with the numbers of its timers (0: none)."""

    task: int
    secret: bytes
    started: bool = False
    timeout_timer: int = 0
    heartbeat_timer: int = 0
    heartbeat_seconds: int = 0
    timeout_seconds: int = 0
    submitted: bool = False
    """The service has taken the request, and the outcome is to come by another way."""


class OpenMapRun(msgspec.Struct, array_like=True):
    """The Map Run of a frame at a Distributed Map, kept for a redrive when it has failed. `renew`: that begins a new one."""

    number: int
    id: bytes
    arn: str
    redrives: int = 0
    renew: bool = False


class Join(msgspec.Struct, array_like=True):
    """How far a Parallel or Map is. `limit` is the Map's effective concurrency (0: none), `bytes` what has been handed on to it."""

    total: int
    next_index: int = 0
    open: int = 0
    done: int = 0
    limit: int = 0
    bytes: int = 0


class Frame:
    """One thread of control. `current` is the state it stands at. `data_event` names the event that carries `data` (0: none
    does, so it is written with the frame). `items` and `children` are those of the Map or Parallel it stands at; `kept_items` are
    items that cannot be computed again, because a JSONata expression gave them."""

    __slots__ = (
        "attempts", "children", "container", "current", "data", "data_event", "entered_at", "entered_event", "id", "index",
        "items", "items_changed", "join", "kept_items", "last_event", "map_run", "outer", "parent", "phase", "retries", "task", "timer", "variables", "variables_changed",
    )  # fmt: skip

    def __init__(self, id: int, parent: Frame | None, index: int, container: StateContainer) -> None:
        self.id = id
        self.parent = parent
        self.index = index
        self.container = container
        self.phase = Phase.READY
        self.current: State = container.states[container.start_at]
        self.data: Document = _NOTHING
        self.data_event = 0
        self.entered_event = 0
        self.entered_at = 0
        self.last_event = 0
        self.attempts = 0
        self.retries: list[int] | None = None
        self.task: OpenTask | None = None
        self.timer = 0
        self.join: Join | None = None
        self.map_run: OpenMapRun | None = None
        self.items: Sequence[Json] | None = None
        self.kept_items: Document | None = None
        self.items_changed = False
        self.children: dict[int, Frame] | None = None
        self.variables: dict[str, Json] | None = None
        self.variables_changed = False
        self.outer: Mapping[str, Json] = parent.visible if parent is not None else _NO_VARIABLES

    def keep_items(self, items: Document) -> None:
        """Have the items of the Map written with the frame."""
        self.kept_items = items
        self.items_changed = True

    @property
    def state(self) -> str:
        """The name of the state the frame stands at."""
        return self.current.name

    @property
    def visible(self) -> Mapping[str, Json]:
        """The variables an expression in this frame sees: its own scope over the outer ones."""
        if not self.variables:
            return self.outer
        return {**self.outer, **self.variables} if self.outer else self.variables


_NOTHING: Final = Document(None, b"null")
_NO_VARIABLES: Final[dict[str, Json]] = {}


class Timer(msgspec.Struct, array_like=True):
    """A timer that runs: of frame `frame` (unused for the execution's time-out)."""

    kind: TimerKind
    frame: int
    due_at: int


class FrameRecord(msgspec.Struct, array_like=True, omit_defaults=True):
    """A frame as written. `data` means something only where no event carries it; `variables` and `items` are written only where
    they have changed since the frame was last written."""

    id: int
    parent: int
    index: int
    phase: int
    state: str
    data_event: int
    entered_event: int
    entered_at: int
    last_event: int
    attempts: int = 0
    retries: list[int] | None = None
    task: OpenTask | None = None
    timer: int = 0
    join: Join | None = None
    variables: dict[str, Any] | None = None
    data: msgspec.Raw = NO_DATA
    items: msgspec.Raw = NO_DATA
    map_run: OpenMapRun | None = None


class Delta(msgspec.Struct, array_like=True, omit_defaults=True):
    """What changed in an execution's position by one step, or all of it (`full`)."""

    version: int
    next_event: int
    next_frame: int
    next_task: int
    next_timer: int
    redrive_count: int
    execution_timer: int
    full: bool = False
    frames: list[FrameRecord] = []
    removed: list[int] = []
    timers: dict[int, Timer] = {}
    timers_gone: list[int] = []
    ready: list[int] = []


class Workflow(StrEnum):
    """Which kind of workflow an execution is of: what is asked of it differs in a few places."""

    STANDARD = "STANDARD"
    EXPRESS = "EXPRESS"
    """Started asynchronously; may be run again from the start. Its history is kept nowhere, and has no limit."""
    EXPRESS_SYNC = "EXPRESS_SYNC"
    """Its caller waits for it; never run again."""


class ExecutionInfo(msgspec.Struct, frozen=True):
    """What never changes about an execution: what the context object and the history show of it.

    `deadline` is when it times out, where that is not said by its start and the definition alone.
    """

    id: bytes
    """Sixteen bytes that name the execution in the store."""
    arn: str
    name: str
    machine_arn: str
    machine_name: str
    role_arn: str
    started_at: int
    region: str = "us-east-1"
    version_arn: str | None = None
    alias_arn: str | None = None
    workflow: Workflow = Workflow.STANDARD
    deadline: int | None = None


class ExecutionState:
    """The whole position of one execution. `transition` consumes it: after a call only the returned one is valid."""

    __slots__ = (
        "dirty", "execution_timer", "frames", "info", "input", "map_runs", "next_event", "next_frame", "next_task", "next_timer",
        "ready", "redrive_count", "redriven_at", "removed", "restored", "status", "tasks", "timers", "timers_dirty", "timers_gone",
        "variable_bytes",
    )  # fmt: skip

    def __init__(self, info: ExecutionInfo) -> None:
        self.info = info
        self.input: Document = _NOTHING
        self.status = Status.RUNNING
        self.restored = False
        """Read back from the store: what is computed rather than written (the items of a Map) is still missing."""
        self.next_event = 1
        self.next_frame = 1
        self.next_task = 1
        self.next_timer = 1
        self.redrive_count = 0
        self.redriven_at = 0
        self.execution_timer = 0
        self.frames: dict[int, Frame] = {}
        self.tasks: dict[int, Frame] = {}
        self.map_runs: dict[int, Frame] = {}
        self.timers: dict[int, Timer] = {}
        self.ready: deque[Frame] = deque()
        self.dirty: set[int] = set()
        self.removed: list[int] = []
        self.timers_dirty: set[int] = set()
        self.timers_gone: list[int] = []
        self.variable_bytes: int | None = 0
        """At least the size of all variables; None: not counted yet."""

    @property
    def root(self) -> Frame:
        """The frame of the execution itself."""
        return self.frames[0]


def _record(frame: Frame, *, full: bool = False) -> FrameRecord:
    return FrameRecord(
        frame.id,
        frame.parent.id if frame.parent is not None else -1,
        frame.index,
        frame.phase,
        frame.current.name,
        frame.data_event,
        frame.entered_event,
        frame.entered_at,
        frame.last_event,
        frame.attempts,
        frame.retries,
        frame.task,
        frame.timer,
        frame.join,
        frame.variables if full or frame.variables_changed else None,
        msgspec.Raw(frame.data.text) if frame.data_event == 0 else NO_DATA,
        msgspec.Raw(frame.kept_items.text)
        if frame.kept_items is not None and (full or frame.items_changed)
        else NO_DATA,
        frame.map_run,
    )


def _delta(state: ExecutionState) -> Delta:
    return Delta(
        SNAPSHOT_VERSION, state.next_event, state.next_frame, state.next_task, state.next_timer, state.redrive_count,
        state.execution_timer,
    )  # fmt: skip


def take_delta(state: ExecutionState) -> Delta:
    """What changed since the last call; the caller has made it durable, or drops the state."""
    delta = _delta(state)
    frames = state.frames
    for id in sorted(state.dirty):
        frame = frames.get(id)
        if frame is not None:
            delta.frames.append(_record(frame))
            frame.variables_changed = frame.items_changed = False
    delta.removed = state.removed
    delta.timers = {id: state.timers[id] for id in sorted(state.timers_dirty) if id in state.timers}
    delta.timers_gone = state.timers_gone
    delta.ready = [frame.id for frame in state.ready]
    state.dirty = set()
    state.removed = []
    state.timers_dirty = set()
    state.timers_gone = []
    return delta


def forget_delta(state: ExecutionState) -> None:
    """What changed is written nowhere: so that what is kept of it does not grow."""
    state.dirty.clear()
    state.removed.clear()
    state.timers_dirty.clear()
    state.timers_gone.clear()


def full_delta(state: ExecutionState) -> Delta:
    """The whole position, from which `restore` can start."""
    delta = _delta(state)
    delta.full = True
    delta.frames = [_record(frame, full=True) for _, frame in sorted(state.frames.items())]
    delta.timers = dict(state.timers)
    delta.ready = [frame.id for frame in state.ready]
    return delta


class Folded(msgspec.Struct):
    """Deltas folded into one: the frames and timers that are there after all of them."""

    last: Delta
    frames: dict[int, FrameRecord]
    timers: dict[int, Timer]

    def needed_events(self) -> set[int]:
        """Ids of the history events whose payloads `restore` will ask for (besides event 1)."""
        return {record.data_event for record in self.frames.values() if record.data_event}


def fold(deltas: Iterable[Delta]) -> Folded:
    """Fold deltas, oldest first, beginning with the last full one if there is any."""
    frames: dict[int, FrameRecord] = {}
    timers: dict[int, Timer] = {}
    last: Delta | None = None
    for delta in deltas:
        if delta.full:
            frames, timers = {}, {}
        for record in delta.frames:
            before = frames.get(record.id)
            if record.variables is None and before is not None:
                record.variables = before.variables
            if record.items == NO_DATA and before is not None:
                record.items = before.items
            frames[record.id] = record
        for id in delta.removed:
            frames.pop(id, None)
        timers.update(delta.timers)
        for id in delta.timers_gone:
            timers.pop(id, None)
        last = delta
    if last is None:
        raise ValueError("an execution has at least one delta")
    return Folded(last, frames, timers)


def restore(
    machine: StateMachine, info: ExecutionInfo, status: Status, folded: Folded, payload: Callable[[int], Document]
) -> ExecutionState:
    """Rebuild a state. `payload(event_id)` gives the user data of a history event, `payload(1)` the execution's input."""
    state = ExecutionState(info)
    last = folded.last
    state.status = status
    state.restored = True
    state.variable_bytes = None
    state.input = payload(1)
    state.next_event, state.next_frame = last.next_event, last.next_frame
    state.next_task, state.next_timer = last.next_task, last.next_timer
    state.redrive_count, state.execution_timer = last.redrive_count, last.execution_timer
    state.timers = dict(folded.timers)
    for id in sorted(folded.frames):  # a parent is always older than its children
        record = folded.frames[id]
        parent = state.frames[record.parent] if record.parent >= 0 else None
        frame = Frame(
            id, parent, record.index, container_of(machine, parent, record.index)
        )  # sees the parent's variables
        frame.phase = Phase(record.phase)
        frame.current = frame.container.states[record.state]
        frame.data_event = record.data_event
        frame.data = payload(record.data_event) if record.data_event else Document.trusted(bytes(record.data))
        frame.entered_event, frame.entered_at, frame.last_event = (
            record.entered_event,
            record.entered_at,
            record.last_event,
        )
        frame.attempts, frame.retries, frame.timer = record.attempts, record.retries, record.timer
        frame.join, frame.variables, frame.task = record.join, record.variables, record.task
        frame.map_run = record.map_run
        if record.join is not None:
            frame.children = {}
            if record.items != NO_DATA and _computes_items(frame.current):  # else they are those of an earlier Map
                frame.kept_items = Document.trusted(bytes(record.items))
        if parent is not None and parent.children is not None:
            parent.children[frame.index] = frame
        if frame.task is not None:
            state.tasks[frame.task.task] = frame
        if frame.map_run is not None and frame.phase is Phase.MAP_RUN:
            state.map_runs[frame.map_run.number] = frame
        state.frames[id] = frame
    state.ready = deque(state.frames[id] for id in last.ready)
    return state


def _computes_items(state: State) -> bool:
    return isinstance(state, MapState) and state.items is not None and state.items.expression is not None


def container_of(machine: StateMachine, parent: Frame | None, index: int) -> StateContainer:
    """The states a frame walks through: the machine's, a branch's or a processor's."""
    if parent is None:
        return machine
    owner = parent.current
    if isinstance(owner, ParallelState):
        return owner.branches[index]
    if isinstance(owner, MapState):
        return owner.item_processor
    raise ValueError(f"state {owner.name!r} has no child frames")
