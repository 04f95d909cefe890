"""What the parts that drive Map Runs share: what they work with, the mail of a Map Run, and how much is done at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from stepwell.engine.asl.states import MapState, StateMachine
from stepwell.engine.clock import Clock, SeedSource
from stepwell.engine.errors import StepwellError
from stepwell.engine.ids import ExecutionId
from stepwell.engine.machine.map_events import ChildFinished, MapRunEvent
from stepwell.engine.machine.snapshot import ExecutionInfo
from stepwell.engine.map_ports import ItemSource, MapRunStore, NewChild, StoredMapRun
from stepwell.engine.ports import Evaluate
from stepwell.engine.runtime.express import Express
from stepwell.engine.runtime.identity import Identity

PAGE_ITEMS: Final = 500
"""Items read, and children started or stopped, in one step, at most."""
PAGE_BYTES: Final = 4 * 1024 * 1024
"""Data of a step, of one kind, after which it is ended rather than made larger."""
TURN_SECONDS: Final = 0.005
"""How long children are made or begun before others have their turn."""


class Node(Protocol):
    """What a Map Run needs of the node it is driven on."""

    def may_act(self) -> bool: ...

    async def machine(self, key: int, revision: int, processor: str | None = None) -> StateMachine: ...

    def adopt(self, info: ExecutionInfo, machine: StateMachine, child: NewChild, run: StoredMapRun, row: int) -> None:
        """A child execution of a shard that is ours has been written: take its first step."""

    def consumed(self, row: int) -> None:
        """An inbox row is done with."""

    def forgotten(self, receiver: ExecutionId, row: int) -> None:
        """An inbox row is to be read again, and what came behind it for this receiver as well."""

    def posted(self, receivers: Sequence[ExecutionId]) -> None:
        """There are messages for these, executions or Map Runs."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the steps of all Map Runs of a node work with. `express` runs the children of those whose ExecutionType is EXPRESS."""

    store: MapRunStore
    node: Node
    identity: Identity
    clock: Clock
    seeds: SeedSource
    source: ItemSource
    evaluate: Evaluate
    express: Express


@dataclass(frozen=True, slots=True)
class Mail:
    """A message and the inbox row it is in; None: it came from a child that ran in this node's memory, and is in no inbox."""

    event: MapRunEvent
    row: int | None


@dataclass(frozen=True, slots=True)
class Definition:
    """The Map state of a Map Run, and the machine its children run."""

    state: MapState
    processor: StateMachine


@dataclass(slots=True)
class Mailbox:
    """What has come for a Map Run and is not consumed yet; `wake` is set when there is something to do."""

    id: ExecutionId
    mail: deque[Mail]
    wake: asyncio.Event

    @property
    def crowded(self) -> bool:
        """Whether more has come than the next steps consume."""
        return len(self.mail) >= 2 * PAGE_ITEMS or sum(map(weight, self.mail)) >= 4 * PAGE_BYTES


def weight(mail: Mail) -> int:
    """Bytes of data of a message."""
    return len(mail.event.output) if isinstance(mail.event, ChildFinished) else 0


class FencedError(StepwellError):
    """A step of a Map Run was refused: another node owns it, or has."""
