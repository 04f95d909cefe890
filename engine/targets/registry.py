"""Which target carries out which kind of task: the one place where they meet. It must not know what any of them does."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from stepwell.engine.asl.resources import TargetKind
from stepwell.engine.errors import ConfigurationError
from stepwell.engine.ports import Target, TargetResult, TaskRequest

POLLED = frozenset({TargetKind.ACTIVITY})
"""Kinds whose workers fetch their tasks from the store: nothing is performed for them."""


class TargetRegistry:
    """One target for each kind of resource that is performed. Closing it closes them."""

    def __init__(self, targets: Mapping[TargetKind, Target]) -> None:
        missing = set(TargetKind) - POLLED - set(targets)
        if missing:
            raise ConfigurationError(f"No target was given for tasks of kind: {', '.join(sorted(missing))}.")
        self._targets = dict(targets)

    async def perform(self, request: TaskRequest) -> TargetResult:
        """Have the target of the task's kind carry it out."""
        target = self._targets.get(request.resource.kind)
        return None if target is None else await target.perform(request)

    async def close(self) -> None:
        """Close every target once."""
        targets = {id(target): target for target in self._targets.values()}
        await asyncio.gather(*(target.close() for target in targets.values()), return_exceptions=True)
