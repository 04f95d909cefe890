"""The simulated cluster: engine nodes that crash, stand still, come back, and talk to each other over a bad network."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar
from uuid import UUID

from stepwell.engine.errors import StepwellError, StoreUnavailableError
from stepwell.engine.ports import RuntimeStore
from stepwell.engine.runtime.dispatch import Targets
from stepwell.engine.runtime.engine import Engine, EngineOptions
from stepwell.engine.runtime.express import RUN_BYTES
from stepwell.engine.runtime.peer_messages import Answer, Ask
from stepwell.engine.runtime.peers import Peer, PeerUnavailableError
from stepwell.engine.runtime.requests import Requests
from stepwell.engine.store.memory import MemoryMachines
from tests.simulation.loop import SimulatedLoop, spawn
from tests.simulation.network import Network, SimulatedClock, SimulatedSeeds, connect, connect_express, connect_map_runs
from tests.simulation.observed import ObservedStore

T = TypeVar("T")

EXPRESS_RUNS: Final = (10, 4096)
"""For how many Express executions there is memory on a node: few enough that children must wait, or plenty."""


class SimulatedPeer(Peer):
    """Asks the node at `address` over the simulated network."""

    def __init__(self, cluster: Cluster, address: str) -> None:
        super().__init__(address, b"")
        self._cluster = cluster

    async def ask(self, ask: Ask, seconds: float) -> Answer:
        network = self._cluster.network
        node = self._cluster.by_process.get(self._port)
        await asyncio.sleep(network.delay())
        if node is None or node.requests is None or network.chance(network.faults.peer_lost):
            raise PeerUnavailableError("The node cannot be reached.")
        requests = node.requests
        try:
            answer = await asyncio.wait_for(self._cluster.remote(node, lambda: requests.answer(ask, 1)), seconds)
        except TimeoutError:
            raise PeerUnavailableError("The owner did not answer in time.") from None
        except GoneError:
            raise PeerUnavailableError("The connection to the owner was lost.") from None
        if network.chance(network.faults.peer_lost):
            raise PeerUnavailableError("The connection to the owner was lost.")
        if answer.not_owner:
            raise PeerUnavailableError("The node no longer owns this execution.")
        return answer


class GoneError(StepwellError):
    """The process that was asked died."""


@dataclass(eq=False)
class Node:
    """One place where an engine runs, process after process."""

    index: int
    process: int = 0
    engine: Engine | None = None
    requests: Requests | None = None
    pending: list[asyncio.Future[object]] = field(default_factory=list)
    wake: asyncio.Event | None = None


TargetsFor = Callable[[], Targets]


class Cluster:
    """Starts nodes and keeps them coming back."""

    def __init__(
        self,
        loop: SimulatedLoop,
        network: Network,
        store: ObservedStore,
        rng: random.Random,
        size: int,
        targets: TargetsFor,
    ) -> None:
        self.loop = loop
        self.network = network
        self.store = store
        self._rng = rng
        self._targets = targets
        self.nodes = [Node(index) for index in range(size)]
        self.by_process: dict[int, Node] = {}
        self._processes = 0
        self.crashes = 0

    def new_process(self) -> int:
        self._processes += 1
        return self._processes

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self, node: Node) -> None:
        """Start an engine process in this place."""
        node.process = self.new_process()
        self.by_process[node.process] = node
        spawn(node.process, self._main(node, node.process))

    async def _main(self, node: Node, process: int) -> None:
        clock = SimulatedClock(self.loop, self._rng.randint(-1500, 1500))
        seeds = SimulatedSeeds(random.Random(self._rng.getrandbits(64)))
        store: RuntimeStore = connect(self.network, process, self.store)
        options = EngineOptions(
            node=UUID(int=self._rng.getrandbits(128)), address=f"node:{process}",
            express_bytes=self._rng.choice(EXPRESS_RUNS) * RUN_BYTES,
        )  # fmt: skip
        node.wake = None
        engine = Engine(
            store=store, express=connect_express(self.network, process, self.store.watched_express),
            machines=MemoryMachines(self.store.database), targets=self._targets(), clock=clock, seeds=seeds,
            options=options, listen=lambda wake: self._listen(node, wake),
            map_store=connect_map_runs(self.network, process, self.store.watched_map_runs),
        )  # fmt: skip
        self.store.express_watch.watch(process, engine.express)
        try:
            await engine.open()
        except StepwellError:
            self.crash(node)
            return
        requests = Requests(
            engine, store, clock, seeds, secret=b"", connect=lambda address: SimulatedPeer(self, address)
        )
        node.engine, node.requests = engine, requests

    async def _listen(self, node: Node, wake: asyncio.Event) -> None:
        node.wake = wake
        await self.loop.create_future()

    def deliver_hints(self) -> None:
        """NOTIFY: wakes every node, or not."""
        if self.store.hints:
            self.store.hints.clear()
            for node in self.nodes:
                if node.wake is not None and not self.network.chance(self.network.faults.notify_lost):
                    node.wake.set()

    def crash(self, node: Node, restart_after: float | None = None) -> None:
        """SIGKILL; another process comes up in its place later."""
        self.crashes += 1
        process = node.process
        self.loop.kill(process)
        self.by_process.pop(process, None)
        self.store.express_watch.died(process)
        node.engine = node.requests = node.wake = None
        for future in node.pending:
            if not future.done():
                future.set_exception(GoneError("The process died."))
        node.pending = []
        delay = self._rng.uniform(0.2, 15) if restart_after is None else restart_after
        self.network.later(delay, lambda: self.start(node) if node.process == process else None)

    def crash_process(self, process: int) -> None:
        """What a process does is its end."""
        node = self.by_process.get(process)
        if node is not None:
            self.crash(node)

    def pause(self, node: Node, seconds: float) -> None:
        """SIGSTOP, then SIGCONT."""
        process = node.process
        self.loop.pause(process)
        self.network.later(seconds, lambda: self.loop.resume(process))

    async def close(self, node: Node) -> None:
        """SIGTERM: an orderly end, and a new process."""
        engine, process = node.engine, node.process
        if engine is None:
            return
        node.requests = None
        with suppress(GoneError):
            await self.remote(node, engine.close)
        if node.process == process:
            self.crash(node, 0.5)

    def commit_reached(self, process: int) -> None:
        """A commit of this process takes effect: a good moment to die."""
        node = self.by_process.get(process)
        if node is not None and self.network.chance(self.network.faults.crash_at_commit):
            self.crash(node)

    def run_ended(self, process: int) -> None:
        """An Express execution of this process has ended: a good moment to stand still."""
        node = self.by_process.get(process)
        if node is not None and self.network.chance(self.network.faults.pause_at_end):
            self.pause(node, self._rng.choice((9, 15, 30)))

    # -- being asked -----------------------------------------------------------------------------------------------

    async def remote(self, node: Node, call: Callable[[], Awaitable[T]]) -> T:
        """Have a call run in the node's process; `GoneError` if it dies meanwhile."""
        reply: asyncio.Future[T] = self.loop.create_future()
        node.pending = [one for one in node.pending if not one.done()]
        node.pending.append(reply)  # type: ignore[arg-type]

        def settle(result: T | None, error: Exception | None) -> None:
            if not reply.done():
                if error is not None:
                    reply.set_exception(error)
                else:
                    reply.set_result(result)  # type: ignore[arg-type]

        async def run() -> None:
            result: T | None = None
            error: Exception | None = None
            try:
                result = await call()
            except Exception as raised:  # noqa: BLE001 - it travels to who asked
                error = raised
            self.network.later(self.network.delay(), lambda: settle(result, error))

        spawn(node.process, run())
        return await reply

    async def ask(self, call: Callable[[Requests], Awaitable[T]], seconds: float = 60.0) -> T:
        """What a client does: ask some node. Raises `StoreUnavailableError` when nobody knows what came of it."""
        network = self.network
        await asyncio.sleep(network.delay())
        up = [node for node in self.nodes if node.requests is not None]
        if not up or network.chance(network.faults.request_lost):
            raise StoreUnavailableError("No node answers.")
        node = network.rng.choice(up)
        requests = node.requests
        assert requests is not None
        try:
            result = await asyncio.wait_for(self.remote(node, lambda: call(requests)), seconds)
        except (GoneError, TimeoutError):
            raise StoreUnavailableError("The node did not answer.") from None
        if network.chance(network.faults.request_lost):
            raise StoreUnavailableError("The answer was lost.")
        return result
