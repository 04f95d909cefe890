"""Who performs the task of a tested state: answers written down beforehand, and what was asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from stepwell.engine.jsontypes import write
from stepwell.engine.machine.events import TaskFailed, TaskSucceeded
from stepwell.engine.ports import TaskRequest


class ScriptedPerformer:
    """Answers every task with `answer`: a function of the request, which may raise what a target may raise."""

    def __init__(self) -> None:
        self.asked: list[TaskRequest] = []
        self.answer: Callable[[TaskRequest], TaskSucceeded | TaskFailed] = lambda request: succeeded(request, None)

    async def perform_once(self, request: TaskRequest) -> TaskSucceeded | TaskFailed:
        self.asked.append(request)
        return self.answer(request)


def succeeded(request: TaskRequest, value: Any) -> TaskSucceeded:
    return TaskSucceeded(request.task, msgspec.Raw(write(value)))
