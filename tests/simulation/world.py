"""One simulated run: a world made from a seed, faults for a while, then calm, then the reckoning."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from stepwell.engine.errors import StoreUnavailableError
from stepwell.engine.ids import ExecutionId
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.commands import Status
from stepwell.engine.ports import CommandOutcome, MachineRecord, StartAnswer, StartOutcome, StartRequest
from stepwell.engine.runtime.requests import Requests
from stepwell.engine.store.memory import MemoryMachines
from tests.simulation.loop import WORLD, BusyError, DeadlockError, SimulatedLoop, spawn
from tests.simulation.machines import MachineMaker, make_input
from tests.simulation.network import CALM, EPOCH_MS, Faults, Network, SimulatedClock, run_now
from tests.simulation.nodes import Cluster
from tests.simulation.observed import ObservedStore, Protection
from tests.simulation.outside import Outside, SimulatedTargets, insist
from tests.simulation.reckoning import reckon

MACHINE_ARN = "arn:aws:states:us-east-1:123456789012:stateMachine:"


@dataclass(frozen=True, kw_only=True)
class Options:
    """How large a world is and what is wrong with it."""

    nodes: int = 3
    workers: int = 2
    machines: int = 4
    executions: int = 12
    fault_seconds: float = 60.0
    patience_seconds: float = 900.0
    """How long after the last fault everything may still take to end."""
    without: frozenset[Protection] = frozenset()
    distributed: bool = False
    """Machines have Distributed Maps above all, and their executions are stopped and redriven in haste."""
    express: bool = False
    """Distributed Maps have Express children above all, and the first machine is an Express state machine."""
    double_owners: bool = False
    """That a node writes to a shard of another is no broken promise by itself."""


@dataclass
class Result:
    """What came of a run."""

    seed: int
    broken: list[str]
    executions: int
    commits: int
    crashes: int
    seconds: float
    digest: str
    express_runs: int = 0
    express_lost: int = 0
    """Runs of Express executions, and those among them that were lost with their node."""
    express_given_up: int = 0
    statuses: dict[str, int] = field(default_factory=dict)


class World:
    """Everything of one run."""

    def __init__(self, seed: int, options: Options) -> None:
        self.options = options
        self.rng = random.Random(seed)
        self.loop = SimulatedLoop()  # type: ignore[abstract] # sockets, signals and processes are what it does without
        self.network = Network(self.loop, self.rng, Faults())
        self.store = ObservedStore(
            SimulatedClock(self.loop),
            options.without,
            double_owners=options.double_owners,
            late_ends=options.distributed,
        )
        self.cluster = Cluster(
            self.loop, self.network, self.store, self.rng, options.nodes, lambda: SimulatedTargets(self.outside)
        )
        self.outside = Outside(self.network, self.cluster, self.store, self.rng, options.workers)
        self.network.on_commit = self.cluster.commit_reached
        self.store.express_watch.on_end = self.cluster.run_ended
        self.machines: list[MachineRecord] = []
        self.started: dict[ExecutionId, bytes] = {}
        """Executions whose start was answered with STARTED, and their inputs."""
        self.clients: list[asyncio.Task[None]] = []
        self.healed = False

    async def run(self) -> None:
        self._make_machines()
        for node in self.cluster.nodes:
            self.cluster.start(node)
        self.outside.start()
        spawn(WORLD, self._hint())
        for number in range(self.options.executions):
            self.clients.append(spawn(WORLD, self._client(number)))
        spawn(WORLD, self._havoc())
        await asyncio.sleep(self.options.fault_seconds)
        self._heal()
        deadline = self.loop.time() + self.options.patience_seconds
        while self.loop.time() < deadline and not self.store.broken and not self._quiet():  # noqa: ASYNC110 - of virtual time
            await asyncio.sleep(1.0)
        reckon(self.store, self.outside.ledger, self.started)

    def _quiet(self) -> bool:
        if self.store.inbox_rows or not all(client.done() for client in self.clients):
            return False
        if any(row.status is Status.RUNNING for row in self.store.map_runs.values()):
            return False
        if any(row.ended is None for row in self.store.database.express.values()) or self.store.express_watch.holding():
            return False
        return all(row.view.status is not Status.RUNNING for row in self.store.executions.values())

    def _make_machines(self) -> None:
        machines = MemoryMachines(self.store.database)
        for number in range(self.options.machines):
            options = self.options
            express = number == 0 and (options.express or (not options.distributed and self.rng.random() < 0.5))
            maker = MachineMaker(self.rng, distributed=options.distributed, express=options.express)
            definition = json.dumps(maker.definition(express=express))
            record = MachineRecord(
                key=0, arn=f"{MACHINE_ARN}m{number}", name=f"m{number}",
                type="EXPRESS" if express else "STANDARD", definition=definition, role_arn="arn:aws:iam::123456789012:role/r", revision=1, revision_id=None, created_at=EPOCH_MS,
                updated_at=EPOCH_MS,
            )  # fmt: skip
            made = run_now(machines.create(record))
            assert made is not None
            self.machines.append(made)

    # -- faults ----------------------------------------------------------------------------------------------------

    async def _hint(self) -> None:
        while True:
            await asyncio.sleep(0.02)
            self.cluster.deliver_hints()

    async def _havoc(self) -> None:
        """Break something every few seconds."""
        rng, cluster = self.rng, self.cluster
        while True:
            await asyncio.sleep(rng.expovariate(1 / 4))
            if self.healed:
                return
            node = rng.choice(cluster.nodes)
            worker = rng.choice(self.outside.broker.workers)
            kind = rng.choice(("crash", "pause", "close", "store", "worker", "worker pause", "peace"))
            if kind == "crash" and node.engine is not None:
                cluster.crash(node)
            elif kind == "pause" and node.engine is not None:
                cluster.pause(node, rng.choice((0.3, 2, 9, 15, 30)))
            elif kind == "close" and node.engine is not None:
                spawn(WORLD, cluster.close(node))
            elif kind == "store":
                self.network.store_away_until = self.loop.time() + rng.choice((0.2, 2, 8, 15))
            elif kind == "worker" and worker.up:
                worker.crash()
            elif kind == "worker pause" and worker.up:
                process = worker.process
                self.loop.pause(process)
                self.network.later(rng.choice((1, 10, 40)), lambda process=process: self.loop.resume(process))  # type: ignore[misc]

    def _heal(self) -> None:
        self.healed = True
        self.network.faults = CALM
        self.network.store_away_until = 0.0

    # -- clients ---------------------------------------------------------------------------------------------------

    async def _client(self, number: int) -> None:
        rng = self.rng
        await asyncio.sleep(rng.uniform(0, self.options.fault_seconds * 0.8))
        machine = rng.choice(self.machines)
        if machine.type == "EXPRESS":
            await self._start_express(machine, number)
            return
        name = f"e{number}" if rng.random() < 0.8 else None
        requests = [StartRequest(machine=machine, input=Document.of(make_input(rng, number)), name=name)]
        if (
            name is not None and rng.random() < 0.3
        ):  # a racing start under the same name, with the same input or another
            other = requests[0].input if rng.random() < 0.5 else Document.of(make_input(rng, -1))
            requests.append(StartRequest(machine=machine, input=other, name=name))
        answers = await asyncio.gather(*(self._start(request) for request in requests))
        if sum(answer.outcome is StartOutcome.STARTED for answer in answers) > 1:
            self.store.accuse(f"{name}: two starts were both answered as the one that started it")
        id = answers[0].id
        if self.options.distributed:
            await self._cross(id)
        often, slowly = (0.7, 3) if self.options.distributed else (0.35, 20)
        while rng.random() < often:
            await asyncio.sleep(rng.uniform(0, slowly))
            await self._interfere(id, rng.choice(("stop", "redrive", "redrive")))

    async def _cross(self, id: ExecutionId) -> None:
        """Stop and redrive the execution when it is being told of the end of a Map Run."""
        crossed = 0
        for _ in range(500):
            if any(to == id and b"map_run_finished" in event for _, to, event in self.store.inbox_rows.values()):
                await self._interfere(id, "stop")
                await self._interfere(id, "redrive")
                crossed += 1
                if crossed == 3:
                    return
            await asyncio.sleep(0.01)

    async def _start_express(self, machine: MachineRecord, number: int) -> None:
        for _ in range(self.rng.randint(1, 4)):
            request = StartRequest(machine=machine, input=Document.of(make_input(self.rng, number)), name=f"x{number}")
            answer = await insist(self.cluster, partial(_start_express, request))
            self.store.express_watch.answered.add(answer.id)

    async def _start(self, request: StartRequest) -> StartAnswer:
        answer = await insist(self.cluster, lambda requests: requests.start(request))
        row = self.store.executions.get(answer.id)
        if row is None:
            self.store.accuse(f"{answer.name}: answered {answer.outcome}, but it is not in the store")
        if answer.outcome is StartOutcome.STARTED:
            self.started[answer.id] = request.input.text
        return answer

    async def _interfere(self, id: ExecutionId, how: str) -> None:
        row = self.store.executions[id]
        redrives = row.view.redrive_count
        if how == "stop":
            stopped = await insist(self.cluster, lambda requests: requests.stop(id, "Stopped", "by a client"))
            if stopped.outcome is not CommandOutcome.DONE:
                self.store.accuse(f"{row.view.name}: stop was answered {stopped.outcome}")
            elif row.view.status is Status.RUNNING and row.view.redrive_count == redrives:
                self.store.accuse(f"{row.view.name}: stop was answered as done, but it runs")
            return
        try:
            redriven = await self.cluster.ask(lambda requests: requests.redrive(id, None))
        except StoreUnavailableError:
            return
        if redriven.outcome is CommandOutcome.DONE and row.view.redrive_count == redrives:
            self.store.accuse(f"{row.view.name}: redrive was answered as done, but it was not redriven")


async def _start_express(request: StartRequest, requests: Requests) -> StartAnswer:
    return await requests.start_express(request)


class _Errors(logging.Handler):
    """What the engine logs as an error is a broken promise: in this world nothing may surprise it."""

    def __init__(self, store: ObservedStore) -> None:
        super().__init__(logging.ERROR)
        self._store = store

    def emit(self, record: logging.LogRecord) -> None:
        error = f": {record.exc_info[1]!r}" if record.exc_info else ""
        self._store.accuse(f"the engine logged an error: {record.getMessage()}{error}")


@contextmanager
def _watched_log(store: ObservedStore) -> Iterator[None]:
    log = logging.getLogger("stepwell.engine")
    level, propagate = log.level, log.propagate
    handler = _Errors(store)
    log.addHandler(handler)
    log.setLevel(logging.ERROR)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate


def simulate(seed: int, options: Options = Options()) -> Result:
    """Run one world. The same seed and options give the same result, to the last byte."""
    world = World(seed, options)
    store = world.store
    with _watched_log(store):
        try:
            world.loop.run(world.run())
        except (BusyError, DeadlockError) as error:
            store.accuse(f"{type(error).__name__}: {error}")
    for problem in world.loop.problems:
        store.broken.append(f"an exception nobody saw: {problem.get('message')}: {problem.get('exception')!r}")
    digest = hashlib.blake2b(digest_size=16)
    statuses: dict[str, int] = {}
    for key, express in sorted(store.database.express.items()):
        ended = express.ended.status if express.ended is not None else Status.RUNNING
        digest.update(key + ended.encode() + b"%d" % express.start.attempt)
    for id, row in sorted(store.executions.items()):
        statuses[row.view.status] = statuses.get(row.view.status, 0) + 1
        for data in row.chunks:
            digest.update(id + data)
    digest.update(b"%d" % world.loop.steps)
    runs = [run for of_one in store.express_watch.runs.values() for run in of_one]
    return Result(
        express_runs=len(runs), express_lost=sum(run.lost for run in runs),
        express_given_up=store.express_watch.given_up, seed=seed, broken=store.broken, executions=len(store.executions), commits=store.commits,
        crashes=world.cluster.crashes, seconds=world.loop.time(), digest=digest.hexdigest(), statuses=statuses,
    )  # fmt: skip
