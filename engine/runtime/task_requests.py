"""What a target is asked when a task is scheduled: the same for executions in the store, Express ones and those in memory."""

from __future__ import annotations

from stepwell.engine.ids import ExecutionId
from stepwell.engine.machine.commands import ScheduleTask
from stepwell.engine.machine.snapshot import ExecutionInfo
from stepwell.engine.ports import TaskRequest


def first_request(
    info: ExecutionInfo,
    execution: ExecutionId,
    command: ScheduleTask,
    *,
    idempotency_key: str,
    step_id: str,
    claim_key: str = "",
    traceparent: str | None = None,
) -> TaskRequest:
    """The first delivery of a task. `execution` is the key it is known by where it runs; the keys depend on that."""
    return TaskRequest(
        execution=execution,
        execution_arn=info.arn,
        machine_name=info.machine_name,
        task=command.task,
        state=command.state,
        attempt=command.attempt,
        delivery=1,
        resource=command.resource,
        payload=command.payload,
        idempotency_key=idempotency_key,
        step_id=step_id,
        claim_key=claim_key,
        timeout_seconds=command.timeout_seconds,
        heartbeat_seconds=command.heartbeat_seconds,
        traceparent=traceparent,
    )
