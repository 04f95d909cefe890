"""The simulated outside: functions, a broker, workers that die, whoever holds task tokens, and those who poll activities.

Each notes what it did in the `Ledger`, as a service outside the engine would.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar
from uuid import UUID

import msgspec

from stepwell.engine import ids
from stepwell.engine.asl.resources import TargetKind
from stepwell.engine.errors import StoreUnavailableError, TargetUnavailableError
from stepwell.engine.ids import ExecutionId, TaskToken, parse_task_token
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.events import TaskFailed, TaskSubmitted, TaskSucceeded
from stepwell.engine.messages import REPORT_SECONDS, Claim, Outcome, WorkerReport
from stepwell.engine.ports import TargetResult, TaskAnswer, TaskRequest
from stepwell.engine.runtime.requests import Requests
from tests.simulation.loop import PROCESS, WORLD, spawn
from tests.simulation.machines import ACTIVITY, DEADLY, ERRORS
from tests.simulation.network import Network
from tests.simulation.nodes import Cluster
from tests.simulation.observed import ObservedStore

T = TypeVar("T")
Task = tuple[ExecutionId, int]


@dataclass(eq=False)
class Ledger:
    """What the outside did and was told."""

    store: ObservedStore
    accepted: dict[Task, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Marks of outcomes that were answered with ACCEPTED."""
    runs: dict[Task, list[UUID]] = field(default_factory=lambda: defaultdict(list))
    effects: Counter[Task] = field(default_factory=Counter)
    submissions: Counter[Task] = field(default_factory=Counter)
    express_runs: dict[str, UUID] = field(default_factory=dict)
    """Which worker runs a task of an Express execution, by the key of its claim."""
    marks: int = 0

    def mark(self) -> int:
        """A number that tells this outcome from all others."""
        self.marks += 1
        return self.marks

    def run_express(self, key: str, worker: UUID) -> None:
        """A worker that was granted a task of an Express execution runs it: no other may, of the same run."""
        if self.express_runs.setdefault(key, worker) != worker:
            self.store.accuse("a task of an Express execution runs by a second claim beside the first")

    def run(self, task: Task, worker: UUID) -> None:
        """A worker that was granted a task runs it."""
        claim = (*task, worker)
        name = f"{self.store.executions[task[0]].view.name}: task {task[1]}"
        if claim not in self.store.granted:
            self.store.accuse(f"{name} was granted to a worker that has no durable claim")
        for other in self.runs[task]:
            if other == worker and claim not in self.store.lapsed:
                self.store.accuse(f"{name} runs twice by one claim")
            elif other != worker and claim not in self.store.lapsed and (*task, other) not in self.store.lapsed:
                self.store.accuse(f"{name} runs by a second claim beside the first")
        self.runs[task].append(worker)


async def insist(cluster: Cluster, call: Callable[[Requests], Awaitable[T]]) -> T:
    """Ask until there is an answer."""
    pause = 0.1
    while True:
        try:
            return await cluster.ask(call)
        except StoreUnavailableError:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)


class SimulatedTargets:
    """`dispatch.Targets` of one node: functions in this process, the broker, and services that take a token."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._network = outside.network

    async def perform(self, request: TaskRequest) -> TargetResult:
        await asyncio.sleep(self._network.delay())
        if self._network.chance(self._network.faults.target_away):
            raise TargetUnavailableError("The target is away.")
        if request.resource.kind is TargetKind.FUNCTION:
            return await self._function(request)
        if request.resource.kind is TargetKind.CELERY:
            self._outside.broker.publish(Message(request.execution, request.task, request.claim_key))
            return None
        token = parse_task_token(request.payload.value["MessageBody"]["token"])  # type: ignore[call-overload,index,arg-type]
        assert token is not None
        self._outside.ledger.submissions[request.execution, request.task] += 1
        spawn(WORLD, self._outside.hold(token, request.heartbeat_seconds))
        return TaskSubmitted(request.task, msgspec.Raw(b'{"MessageId":"m"}'))

    async def _function(self, request: TaskRequest) -> TargetResult:
        rng = self._network.rng
        if request.resource.text == DEADLY:
            self._outside.cluster.crash_process(PROCESS.get())
        self._outside.ledger.effects[request.execution, request.task] += 1
        await asyncio.sleep(rng.choice((0.001, 0.01, 0.1, 1, 4)))
        mark = self._outside.ledger.mark()
        if rng.random() < 0.25:
            return TaskFailed(request.task, rng.choice(ERRORS), f"mark {mark}")
        return TaskSucceeded(request.task, msgspec.Raw(b'{"mark":%d}' % mark))


@dataclass(frozen=True, slots=True)
class Message:
    """A task on its way to a worker."""

    execution: ExecutionId
    task: int
    key: str


class Broker:
    """Delivers messages: late, twice, or never."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.workers: list[Worker] = []

    def publish(self, message: Message) -> None:
        network = self._network
        if network.chance(network.faults.message_lost):
            return
        for _ in range(2 if network.chance(network.faults.message_twice) else 1):
            delay = network.delay()
            if network.chance(network.faults.message_late):
                delay += network.rng.uniform(1, 30)
            network.later(delay, lambda: self._deliver(message))

    def _deliver(self, message: Message) -> None:
        up = [worker for worker in self.workers if worker.up]
        if not up:
            self._network.later(1.0, lambda: self._deliver(message))
            return
        worker = self._network.rng.choice(up)
        spawn(worker.process, worker.receive(message))


class Worker:
    """A worker process: claims what it is given, runs it, reports. Acknowledges early, so what it held dies with it."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self.process = 0
        self.up = False
        self.incarnation = UUID(int=0)
        self._running: set[Task] = set()
        self._reported: asyncio.Event = asyncio.Event()

    def start(self) -> None:
        self.process = self._outside.cluster.new_process()
        self.incarnation = UUID(int=self._outside.network.rng.getrandbits(128))
        self.up = True
        self._running = set()
        spawn(self.process, self._report())

    def crash(self) -> None:
        loop, process = self._outside.cluster.loop, self.process
        loop.kill(process)
        self.up = False
        self._outside.network.later(self._outside.network.rng.uniform(0.5, 20), self.start)

    async def _report(self) -> None:
        while True:
            running = [f"{execution.hex()}/{task}" for execution, task in self._running]
            report = WorkerReport(str(self.incarnation), "host", self.process, running=running)
            try:
                await self._outside.cluster.ask(partial(_report, report), seconds=5)
            except StoreUnavailableError:
                await asyncio.sleep(1)
                continue
            await asyncio.sleep(REPORT_SECONDS)

    async def receive(self, message: Message) -> None:
        """Claim, run, report; a second copy in the same process is dropped."""
        task = (message.execution, message.task)
        if task in self._running:
            return
        self._running.add(task)
        worker = self.incarnation
        claim = Claim(message.execution.hex(), message.task, message.key, str(worker), "worker")
        answer = await insist(self._outside.cluster, lambda requests: requests.claim(claim))
        if answer.granted:
            if ids.express_node_of(message.key) is not None:
                self._outside.ledger.run_express(message.key, worker)
            else:
                self._outside.ledger.run(task, worker)
            await asyncio.sleep(self._outside.network.rng.choice((0.001, 0.05, 0.5, 3, 8)))
            await self._outside.report(message, worker)
        self._running.discard(task)

    def runs(self, worker: UUID, task: Task) -> bool:
        """Whether this process is that worker, lives and runs the task."""
        return (
            worker == self.incarnation
            and self.up
            and self._outside.cluster.loop.alive(self.process)
            and task in self._running
        )


async def _report(report: WorkerReport, requests: Requests) -> None:
    await requests.report_worker(report)


class Outside:
    """All of it."""

    def __init__(
        self, network: Network, cluster: Cluster, store: ObservedStore, rng: random.Random, workers: int
    ) -> None:
        self.network = network
        self.cluster = cluster
        self.ledger = Ledger(store)
        self._rng = rng
        self.broker = Broker(network)
        self.broker.workers = [Worker(self) for _ in range(workers)]
        store.truly_running = lambda worker, task: any(one.runs(worker, task) for one in self.broker.workers)

    def start(self) -> None:
        for worker in self.broker.workers:
            worker.start()
        for _ in range(2):
            spawn(WORLD, self._poll_activity())

    async def report(self, message: Message, worker: UUID) -> None:
        """Report an outcome until it is taken; sometimes twice at once."""
        mark = self.ledger.mark()
        failed = self._rng.random() < 0.2
        outcome = Outcome(
            message.execution.hex(), message.task, message.key,
            output=msgspec.UNSET if failed else msgspec.Raw(b'{"mark":%d}' % mark),
            error=self._rng.choice(ERRORS) if failed else None,
            cause=f"mark {mark}" if failed else None,
            worker=str(worker),
        )  # fmt: skip
        copies = 2 if self.network.chance(self.network.faults.message_twice) else 1
        task = (message.execution, message.task)
        answers = await asyncio.gather(
            *(insist(self.cluster, lambda requests: requests.report_outcome(outcome)) for _ in range(copies))
        )
        if ids.express_node_of(message.key) is None:
            self._note(task, mark, answers)

    def _note(self, task: Task, mark: int, answers: list[TaskAnswer]) -> None:
        for answer in answers:
            if answer is TaskAnswer.ACCEPTED:
                self.ledger.accepted[task].append(mark)
            elif answer is not TaskAnswer.TIMED_OUT:
                self.ledger.store.accuse(f"task {task[1]}: a true token is called {answer}")

    async def hold(self, token: TaskToken, heartbeat_seconds: int | None) -> None:
        """Whoever got a task token: answers after a while, sometimes beats before, sometimes two answer at once."""
        rng = self._rng
        if heartbeat_seconds is not None:
            for _ in range(rng.randint(0, 3)):
                await asyncio.sleep(rng.uniform(0.3, 0.8) * heartbeat_seconds)
                if await insist(self.cluster, lambda requests: requests.heartbeat(token)) is not TaskAnswer.ACCEPTED:
                    break
        else:
            await asyncio.sleep(rng.choice((0.001, 0.1, 1, 5, 15)))
        await asyncio.gather(*(self.answer(token) for _ in range(rng.choice((1, 1, 2)))))

    async def answer(self, token: TaskToken) -> None:
        """SendTaskSuccess or SendTaskFailure, until there is an answer."""
        mark = self.ledger.mark()
        if self._rng.random() < 0.25:
            error = self._rng.choice(ERRORS)
            said = await insist(self.cluster, lambda requests: requests.fail_task(token, error, f"mark {mark}"))
        else:
            output = Document.of({"mark": mark})
            said = await insist(self.cluster, lambda requests: requests.complete_task(token, output))
        self._note((token.execution, token.task), mark, [said])

    async def _poll_activity(self) -> None:
        while True:
            try:
                task = await self.cluster.ask(lambda requests: requests.next_activity_task(ACTIVITY, "poller", 5000))
            except StoreUnavailableError:
                await asyncio.sleep(0.5)
                continue
            if task is not None:
                token = ids.parse_task_token(task.token)
                assert token is not None
                await asyncio.sleep(self._rng.choice((0.01, 0.5, 3)))
                spawn(WORLD, self.answer(token))
