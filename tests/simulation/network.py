"""What lies between processes: calls that take time, get lost before or after they took effect, or find nobody there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, fields
from typing import Any, TypeVar, cast

from stepwell.engine.clock import Clock
from stepwell.engine.errors import StepwellError, StoreUnavailableError
from stepwell.engine.map_ports import MapRunStore
from stepwell.engine.ports import ExpressStore, RuntimeStore
from tests.simulation.loop import SimulatedLoop, world_context

T = TypeVar("T")

EPOCH_MS = 1_800_000_000_000


@dataclass(frozen=True, slots=True)
class Faults:
    """How often what goes wrong, as probabilities of one call, message or second."""

    store_refuses: float = 0.01
    store_reply_lost: float = 0.02
    store_still_at_work: float = 0.01
    """The connection is lost, but the server has the statement and carries it out later."""
    slow: float = 0.03
    very_slow: float = 0.004
    crash_at_commit: float = 0.004
    peer_lost: float = 0.05
    request_lost: float = 0.02
    message_late: float = 0.08
    message_twice: float = 0.08
    message_lost: float = 0.03
    target_away: float = 0.05
    notify_lost: float = 0.3
    pause_at_end: float = 0.04
    """The node stands still when an Express execution has come to its end, before anybody has heard of it."""


COMMITS = ("commit", "commit_map_run", "begin", "end", "take")
"""Calls of the store that are good moments to die at."""

CALM = Faults(*[0.0] * len(fields(Faults)))


class SimulatedClock:
    """A process's clock; `skew_ms` is how wrong it is."""

    def __init__(self, loop: SimulatedLoop, skew_ms: int = 0) -> None:
        self._loop = loop
        self._skew_ms = skew_ms

    def now_ms(self) -> int:
        return EPOCH_MS + self._skew_ms + round(self._loop.time() * 1000)

    def monotonic(self) -> float:
        return self._loop.time()


_clock: type[Clock] = SimulatedClock


class SimulatedSeeds:
    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def seed(self) -> int:
        return self._rng.getrandbits(128)


class Network:
    """Times and losses. `faults` is replaced by `CALM` when the world heals."""

    def __init__(self, loop: SimulatedLoop, rng: random.Random, faults: Faults) -> None:
        self.loop = loop
        self.rng = rng
        self.faults = faults
        self.store_away_until = 0.0
        self.on_commit: Callable[[int], None] = lambda process: None
        """Called before and after a commit takes effect; may kill the process that asked for it."""

    def chance(self, probability: float) -> bool:
        return probability > 0 and self.rng.random() < probability

    def delay(self) -> float:
        """Seconds one way."""
        if self.chance(self.faults.very_slow):
            return self.rng.uniform(3, 20)
        if self.chance(self.faults.slow):
            return self.rng.uniform(0.02, 2)
        return self.rng.uniform(0.0002, 0.004)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Have something happen whoever dies meanwhile."""
        self.loop.call_later(seconds, callback, context=world_context())

    @property
    def store_away(self) -> bool:
        return self.loop.time() < self.store_away_until

    async def store_call(self, process: int, commits: bool, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """One call of the store: it takes effect at one moment, even if who asked is dead by then."""
        reply: asyncio.Future[T] = self.loop.create_future()

        def settle(result: T | None, error: Exception | None) -> None:
            if reply.done():
                return
            if error is not None:
                reply.set_exception(error)
            else:
                reply.set_result(cast(T, result))

        def arrive() -> None:
            if self.store_away or self.chance(self.faults.store_refuses):
                self.later(
                    0.001, lambda: settle(None, StoreUnavailableError("The database is away (nothing was written)."))
                )
                return
            if commits:
                self.on_commit(process)
            result: T | None = None
            error: Exception | None = None
            try:
                result = run_now(call())
            except StepwellError as refused:
                error = refused
            if commits:
                self.on_commit(process)
            if self.chance(self.faults.store_reply_lost):
                error = StoreUnavailableError("The connection was lost (the statement took effect).")
            self.later(self.delay(), lambda: settle(result, error))

        if self.chance(self.faults.store_still_at_work):
            self.later(self.rng.uniform(0.01, 5), arrive)
            self.later(self.delay(), lambda: settle(None, StoreUnavailableError("The connection was lost.")))
        else:
            self.later(self.delay(), arrive)
        return await reply


def run_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast(T, done.value)
    raise AssertionError("the memory store gave way in the middle of a transaction")


class StoreConnection:
    """What one process sees of the store."""

    def __init__(self, network: Network, process: int, store: RuntimeStore | MapRunStore | ExpressStore) -> None:
        self._network = network
        self._process = process
        self._store = store

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        method = getattr(self._store, name)

        async def call(*args: object, **kwargs: object) -> object:
            commits = name in COMMITS
            return await self._network.store_call(self._process, commits, lambda: method(*args, **kwargs))

        return call


def connect(network: Network, process: int, store: RuntimeStore) -> RuntimeStore:
    return cast(RuntimeStore, StoreConnection(network, process, store))


def connect_express(network: Network, process: int, store: ExpressStore) -> ExpressStore:
    return cast(ExpressStore, StoreConnection(network, process, store))


def connect_map_runs(network: Network, process: int, store: MapRunStore) -> MapRunStore:
    return cast(MapRunStore, StoreConnection(network, process, store))
