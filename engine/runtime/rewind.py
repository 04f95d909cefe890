"""Executions that no store keeps: how their position before an event is found again, once `transition` has spoilt it.

A position is written now and then, and what was applied since is applied again. It must not know what an execution does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from stepwell.engine.asl.states import JsonataFlow, MapState, ParallelState, StateContainer, StateMachine
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.chunks import AppliedEvent
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.events import Started, TaskFailed, TaskSubmitted, TaskSucceeded
from stepwell.engine.machine.replay import replay
from stepwell.engine.machine.snapshot import (
    Delta,
    ExecutionInfo,
    ExecutionState,
    fold,
    forget_delta,
    full_delta,
    restore,
)

EVERY: Final = 64
"""Events after which the position is written."""
EVENT_BYTES: Final = 256
"""What an event takes in memory beside its data, about."""

_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Delta)


class Rewind:
    """What is needed to rebuild the position of one running execution as of the last event that was `noted`."""

    __slots__ = ("_applied", "_documents", "_info", "_machine", "_written", "grown", "held")

    def __init__(self, machine: StateMachine, info: ExecutionInfo) -> None:
        self._machine = machine
        self._info = info
        self._applied: list[AppliedEvent] = []
        self._written: bytes | None = None
        self._documents: dict[int, Document] = {}
        self.held = 0
        """Bytes that are held here, about, beside `documents`."""
        self.grown = 0
        """Bytes that the last event noted has added, or made to be written anew."""

    @property
    def documents(self) -> Iterable[Document]:
        """The documents that are held here; most of them by the position as well."""
        return self._documents.values()

    def noted(self, state: ExecutionState, applied: AppliedEvent) -> None:
        """An event has been applied; `state` is the position after it."""
        self._applied.append(applied)
        self.grown = _size(applied)
        self.held += self.grown
        if len(self._applied) >= EVERY:
            self._written = _encoder.encode(full_delta(state))
            self._documents = {frame.data_event: frame.data for frame in state.frames.values()}
            self._documents[1] = state.input
            self._applied.clear()
            self.held = self.grown = len(self._written)

    def position(self) -> ExecutionState:
        """The position after the last event noted."""
        if self._written is None:
            state = ExecutionState(self._info)
        else:
            folded = fold([_decoder.decode(self._written)])
            state = restore(self._machine, self._info, Status.RUNNING, folded, self._documents.__getitem__)
        for applied in self._applied:
            state = replay(self._machine, state, applied).state
        forget_delta(state)
        return state


def _size(applied: AppliedEvent) -> int:
    texts = sum(len(known.text or "") + len(known.message or "") for _, known in applied.outcomes)
    match applied.event:
        case TaskSucceeded(output=data) | TaskSubmitted(output=data) | Started(input=data):
            return EVENT_BYTES + texts + len(memoryview(data))
        case TaskFailed(cause=cause):
            return EVENT_BYTES + texts + len(cause or "")
        case _:
            return EVENT_BYTES + texts


def needs_rewind(container: StateContainer) -> bool:
    """Whether a state has expressions that may need more than they may use in this process."""
    for state in container.states.values():
        if isinstance(state.flow, JsonataFlow):
            return True
        if isinstance(state, ParallelState) and any(needs_rewind(branch) for branch in state.branches):
            return True
        if isinstance(state, MapState) and needs_rewind(state.item_processor):
            return True
    return False
