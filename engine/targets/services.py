"""Service integrations that this version does not carry out: they fail with a clear error instead of waiting for ever.

`lambda:invoke` and `http:invoke` have targets of their own.
"""

from __future__ import annotations

from stepwell.engine.machine.events import TaskFailed
from stepwell.engine.ports import TargetResult, TaskRequest
from stepwell.engine.states_errors import ErrorName


class ServiceTarget:
    """The target of `TargetKind.SERVICE`."""

    async def perform(self, request: TaskRequest) -> TargetResult:
        """Refuse the task."""
        resource = request.resource
        cause = (
            f"The service integration {resource.service}:{resource.action} is not carried out by this version of Stepwell. "
            "Call the service through http:invoke, a function or a Celery task."
        )
        return TaskFailed(request.task, ErrorName.RUNTIME, cause)

    async def close(self) -> None:
        """Nothing to let go of."""
