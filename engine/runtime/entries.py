"""What a step writes: a batch of applied events as one `CommitEntry`; and in which order events are applied at all.

It must not know when an entry is written.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

from stepwell.engine.ids import ExecutionId
from stepwell.engine.machine import chunks, events
from stepwell.engine.machine.commands import (
    CancelMapRun,
    CancelTask,
    CancelTimer,
    CloseTask,
    Command,
    Finish,
    MarkTaskStarted,
    RedriveMapRun,
    ScheduleTask,
    StartMapRun,
    StartTimer,
    Status,
    TimerKind,
)
from stepwell.engine.machine.history import NO_DATA
from stepwell.engine.machine.map_events import ChildFinished, MapRunRedriven, MapRunStopped, MapRunUpdated
from stepwell.engine.machine.snapshot import full_delta, take_delta
from stepwell.engine.map_ports import NewMapRun
from stepwell.engine.ports import (
    CommitEntry,
    NewDeadLetter,
    NewExecution,
    NewTask,
)
from stepwell.engine.runtime.batch import Batch
from stepwell.engine.runtime.hot import CONTINUE_TIMER, Hot, Work
from stepwell.engine.states_errors import ErrorName

SNAPSHOT_AFTER: Final = 64
"""Frame records after which a step writes the whole position, so that reading it back does not take ever longer."""


def precedence(work: Work) -> tuple[bool, bool, int]:
    outcome = isinstance(work.event, events.TaskSucceeded | events.TaskFailed)
    return work.inbox is None, not outcome, work.inbox or 0


def may_be_overtaken(work: Work) -> bool:
    """Whether a stop may come before this, although it came later: nobody has been told of it, and without the execution it is
    of no use."""
    loose = events.Continued | events.TimerFired | events.TaskSucceeded | events.TaskFailed
    return work.inbox is None and isinstance(work.event, loose)


def stop_first(works: deque[Work]) -> None:
    """Let a stop go before what was put off for an expression, and before the next slice: both may be so without end."""
    if len(works) < 2:
        return
    stop = next((work for work in works if isinstance(work.event, events.StopRequested)), None)
    if stop is None:
        return
    at = works.index(stop)
    for work in reversed([*works][:at]):
        put_off = work.attempt is not None or isinstance(work.event, events.Continued)
        if not (put_off and may_be_overtaken(work)):
            break
        at -= 1
    works.remove(stop)
    works.insert(at, stop)


def _claims_of(done: list[tuple[Work, bool]]) -> tuple[set[int], dict[int, str | None]]:
    """Tasks that were claimed by a row, which says so already; and the workers that claim tasks by this step."""
    claimed: set[int] = set()
    workers: dict[int, str | None] = {}
    for work, changed in done:
        if changed and isinstance(work.event, events.TaskStarted):
            if work.inbox is not None:
                claimed.add(work.event.task)
            workers[work.event.task] = work.worker
    return claimed, workers


def _tell_map_run(
    entry: CommitEntry, map_run: ExecutionId, hot: Hot, commands: list[Command], done: list[tuple[Work, bool]]
) -> None:
    """A child execution that has ended by this step says so; and one that cannot be redriven, that it is as it was."""
    finish = next((command for command in commands if isinstance(command, Finish)), None)
    if finish is not None:
        output = msgspec.Raw(finish.output.text) if finish.output is not None else NO_DATA
        message = ChildFinished(hot.map_item, finish.status, finish.stopped_at, output, finish.error, finish.cause)
    elif any(isinstance(work.event, events.Redriven) and not changed for work, changed in done):
        message = ChildFinished(hot.map_item, hot.state.status, hot.last_now)
    else:
        return
    entry.posts.append((map_run, message))


def _new_map_run(command: StartMapRun) -> NewMapRun:
    spec = command.spec
    return NewMapRun(
        id=ExecutionId(command.id),
        number=command.number,
        arn=spec.arn,
        state=spec.state,
        spec=msgspec.json.encode(spec),
        max_concurrency=spec.max_concurrency,
        tolerated_count=spec.tolerated_count,
        tolerated_percentage=spec.tolerated_percentage,
        express=spec.execution_type == "EXPRESS",
    )


def new_task(command: ScheduleTask) -> NewTask:
    """The row of a task that has been scheduled."""
    return NewTask(
        task=command.task,
        kind=command.resource.kind,
        resource=command.resource.text,
        scheduled_event=command.scheduled_event,
        attempt=command.attempt,
        secret=command.secret,
        state=command.state,
        entry=command.entry,
        heartbeat_seconds=command.heartbeat_seconds,
        timeout_seconds=command.timeout_seconds,
    )


def _put(entry: CommitEntry, command: Command, hot: Hot, ended: set[int], workers: dict[int, str | None]) -> None:
    """Write a command into the entry. What begins and ends within one step is not written at all.

    `ended` are tasks closed by an outcome that is durable already, `workers` who claims a task by this step.
    """
    match command:
        case ScheduleTask():
            entry.tasks_new.append(new_task(command))
        case CloseTask() | CancelTask():
            fresh = [task for task in entry.tasks_new if task.task == command.task]
            if fresh:
                entry.tasks_new.remove(fresh[0])
            else:
                entry.tasks_closed.append((command.task, command.task in ended))
            entry.tasks_started = [item for item in entry.tasks_started if item[0] != command.task]
        case MarkTaskStarted():
            entry.tasks_started.append((command.task, workers.get(command.task)))
        case StartTimer():
            entry.timers_new.append((command.timer, command.due_at, command.kind, command.task))
        case CancelTimer():
            fresh_timers = [timer for timer in entry.timers_new if timer[0] == command.timer]
            if fresh_timers:
                entry.timers_new.remove(fresh_timers[0])
            else:
                entry.timers_gone.append(command.timer)
        case StartMapRun():
            entry.map_runs_new.append(_new_map_run(command))
            entry.posts.append((ExecutionId(command.id), MapRunUpdated()))  # wakes its owner
        case RedriveMapRun():
            entry.posts.append((ExecutionId(command.id), MapRunRedriven(command.redrives)))
        case CancelMapRun():
            entry.posts.append((ExecutionId(command.id), MapRunStopped()))
        case Finish():
            entry.stopped_at = command.stopped_at
            if command.status in (Status.FAILED, Status.TIMED_OUT) and hot.map_run is None:
                entry.dead_letter = NewDeadLetter(
                    kind="execution", state=command.state, attempt=hot.state.redrive_count, error=command.error or (ErrorName.TIMEOUT if command.status is Status.TIMED_OUT else None),
                    cause=command.cause,
                )  # fmt: skip


def step_entry(hot: Hot, new: NewExecution | None, batch: Batch) -> CommitEntry:
    """What a batch writes, with the position the execution has come to."""
    state = hot.state
    delta = take_delta(state)
    hot.unsnapped += len(delta.frames) + 1
    full = state.status is Status.RUNNING and hot.unsnapped > SNAPSHOT_AFTER + 4 * len(state.frames)
    if full:
        delta = full_delta(state)
        hot.unsnapped = 0
    entry = CommitEntry(
        id=hot.id,
        shard=hot.shard,
        rev=hot.rev,
        new=new,
        status=state.status,
        stopped_at=None,
        first_event=batch.first,
        last_event=state.next_event - 1,
        chunk=chunks.encode(chunks.Chunk(batch.first, batch.written, delta, batch.applied)),
        full_snapshot=full,
        redrive_count=state.redrive_count,
        redriven_at=state.redriven_at or None,
        redrive_token=hot.redrive_token,
        redriven=batch.redriven,
        inbox_gone=batch.inbox,
    )
    claimed, workers = _claims_of(batch.done)
    if hot.map_run is not None and state.status is not Status.RUNNING:
        _tell_map_run(entry, hot.map_run, hot, batch.commands, batch.done)
    for command in batch.commands:
        if not (isinstance(command, MarkTaskStarted) and command.task in claimed):  # its row says so already
            _put(entry, command, hot, batch.ended, workers)
    _go_on(entry, hot, batch.more)
    return entry


def _go_on(entry: CommitEntry, hot: Hot, more: bool) -> None:
    """Keep a timer while the execution is between two slices: nothing else would tell who takes it over that it has to go on."""
    if more and not hot.continues:
        entry.timers_new.append((CONTINUE_TIMER, hot.last_now, TimerKind.WAIT, None))
    elif hot.continues and not more:
        entry.timers_gone.append(CONTINUE_TIMER)
    hot.continues = more
