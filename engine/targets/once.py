"""One task carried out for nobody's execution: that of a state which is tested."""

from __future__ import annotations

from stepwell.engine.machine.events import TaskFailed, TaskSucceeded
from stepwell.engine.ports import TaskRequest
from stepwell.engine.states_errors import ErrorName
from stepwell.engine.targets.registry import TargetRegistry


class OncePerformer:
    """`ports.TaskPerformer` over the targets."""

    def __init__(self, targets: TargetRegistry) -> None:
        self._targets = targets

    async def perform_once(self, request: TaskRequest) -> TaskSucceeded | TaskFailed:
        """Carry the task out, where the target itself has the outcome."""
        result = await self._targets.perform(request)
        if isinstance(result, TaskSucceeded | TaskFailed):
            return result
        cause = (
            f"The outcome of {request.resource.text} comes back by another way than its call, so that it cannot be tested "
            "without an execution. Mock its result."
        )
        return TaskFailed(request.task, ErrorName.RUNTIME, cause)
