"""Executions as the runtime would write them: a `LocalMachine` whose every step becomes a `CommitEntry`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepwell.engine.ids import ExecutionId, shard_of
from stepwell.engine.machine.commands import (
    CancelTask,
    CancelTimer,
    CloseTask,
    Finish,
    MarkTaskStarted,
    ScheduleTask,
    StartTimer,
    Status,
)
from stepwell.engine.machine.events import Event
from stepwell.engine.machine.snapshot import ExecutionInfo
from stepwell.engine.machine.transition import Step
from stepwell.engine.ports import CommitEntry, MachineRecord, NewDeadLetter, NewExecution
from stepwell.engine.runtime.entries import new_task
from tests.support.local_machine import START, LocalMachine, World, info_of, silent

TASK = {
    "StartAt": "Work",
    "States": {"Work": {"Type": "Task", "Resource": "celery:work", "TimeoutSeconds": 60, "End": True}},
}
PASS = {"StartAt": "Pass", "States": {"Pass": {"Type": "Pass", "End": True}}}
FAIL = {"StartAt": "Stop", "States": {"Stop": {"Type": "Fail", "Error": "Oops", "Cause": "because"}}}


def machine_record(name: str = "Machine", **changes: Any) -> MachineRecord:
    """A state machine to create."""
    values: dict[str, Any] = {
        "key": 0,
        "arn": f"arn:aws:states:us-east-1:000000000000:stateMachine:{name}",
        "name": name,
        "type": "STANDARD",
        "definition": "{}",
        "role_arn": "arn:aws:iam::000000000000:role/stepwell",
        "revision": 1,
        "revision_id": None,
        "created_at": START,
        "updated_at": START,
    }
    return MachineRecord(**(values | changes))


class StoredRun(LocalMachine):
    """One execution; `entries` are what its steps write, oldest first, and is emptied by whoever commits them."""

    def __init__(
        self,
        definition: Mapping[str, Any],
        input: str = "{}",
        *,
        machine_key: int = 1,
        info: ExecutionInfo | None = None,
        world: World = silent,
    ) -> None:
        super().__init__(definition, input, info=info or info_of(), world=world)
        self.id = ExecutionId(self.info.id)
        self.machine_key = machine_key
        self.rev = 0
        self.entries: list[CommitEntry] = []

    def start(self) -> StoredRun:
        super().start()
        return self

    def run(self) -> StoredRun:
        super().run()
        return self

    def step(self, event: Event, seed: int | None = None) -> Step:
        step = super().step(event, seed)
        new = NewExecution(
            machine_key=self.machine_key,
            revision=1,
            name=self.info.name,
            arn=self.info.arn,
            started_at=self.info.started_at,
        )
        entry = CommitEntry(
            id=self.id,
            shard=shard_of(self.id),
            rev=self.rev,
            new=new if self.rev == 0 else None,
            status=self.state.status,
            stopped_at=None,
            first_event=step.first_event,
            last_event=self.state.next_event - 1,
            chunk=self.chunks[-1],
            full_snapshot=False,
            redrive_count=self.state.redrive_count,
            redriven_at=self.state.redriven_at or None,
        )
        for command in step.commands:
            _put(entry, command)
        self.rev += 1
        self.entries.append(entry)
        return step


def _put(entry: CommitEntry, command: object) -> None:
    match command:
        case ScheduleTask():
            entry.tasks_new.append(new_task(command))
        case CloseTask() | CancelTask():
            entry.tasks_closed.append((command.task, False))
        case MarkTaskStarted():
            entry.tasks_started.append((command.task, None))
        case StartTimer():
            entry.timers_new.append((command.timer, command.due_at, command.kind, command.task))
        case CancelTimer():
            entry.timers_gone.append(command.timer)
        case Finish():
            entry.stopped_at = command.stopped_at
            if command.status in (Status.FAILED, Status.TIMED_OUT):
                entry.dead_letter = NewDeadLetter(
                    kind="execution", state=command.state, attempt=0, error=command.error, cause=command.cause
                )
