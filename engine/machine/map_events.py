"""What can happen to a Map Run. Executions and Map Runs tell each other by messages in the inbox of the other's owner, each written
in the transaction of its sender."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.events import Event
from stepwell.engine.machine.history import NO_DATA


class ChildFinished(msgspec.Struct, tag="child_finished", array_like=True, frozen=True):
    """A child execution has come to its end. `item` is its number in the Map Run, `output` JSON text where it succeeded."""

    item: int
    status: Status
    stopped_at: int
    output: msgspec.Raw = NO_DATA
    error: str | None = None
    cause: str | None = None


class MapRunStopped(msgspec.Struct, tag="map_run_stopped", array_like=True, frozen=True):
    """The parent no longer waits for it."""


class MapRunRedriven(msgspec.Struct, tag="map_run_redriven", array_like=True, frozen=True):
    """The parent has been redriven, for the `redrives`th time of this Map Run."""

    redrives: int


class MapRunUpdated(msgspec.Struct, tag="map_run_updated", array_like=True, frozen=True):
    """Somebody has changed how many may run or fail; the new values are in the Map Run's row."""


MapRunEvent: TypeAlias = ChildFinished | MapRunStopped | MapRunRedriven | MapRunUpdated

MAP_RUN_EVENTS: Final = (ChildFinished, MapRunStopped, MapRunRedriven, MapRunUpdated)

Message: TypeAlias = Event | MapRunEvent
"""What an inbox can hold."""
