"""What callers ask of the runtime: `ports.Runtime`, wherever the owner of the execution is.

The owner decides: here, in memory, answered when the commit is known; or at its node, asked over the internal listener; or,
when that cannot be reached, by a row written down for it in the store. The answer is never given before it is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final, assert_never

import msgspec

from stepwell.engine import ids
from stepwell.engine.clock import Clock, Entropy, SeedSource
from stepwell.engine.errors import NotOwnerError, StoreUnavailableError, TargetUnavailableError
from stepwell.engine.ids import ExecutionId, TaskToken, shard_of
from stepwell.engine.jsontypes import Document
from stepwell.engine.limits import TEST_STATE_SECONDS
from stepwell.engine.machine import chunks, events
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.snapshot import ExecutionInfo, Frame
from stepwell.engine.messages import WORKER_LEASE_SECONDS, Claim, ClaimAnswer, Outcome, WorkerReport
from stepwell.engine.ports import (
    ActivityTask,
    CommandAnswer,
    CommandOutcome,
    ExpressView,
    NewExecution,
    RuntimeStore,
    StartAnswer,
    StartOutcome,
    StartRequest,
    StoredExecution,
    TaskAnswer,
    TaskRequest,
    Waited,
)
from stepwell.engine.runtime.directory import Directory
from stepwell.engine.runtime.engine import Engine
from stepwell.engine.runtime.express_requests import ExpressRequests
from stepwell.engine.runtime.hot import History, Hot
from stepwell.engine.runtime.once import ask_of, outcome_of, reported_event
from stepwell.engine.runtime.peer_messages import (
    Answer,
    Ask,
    AskClaim,
    AskExpress,
    AskHeartbeat,
    AskOutcome,
    AskPerform,
    AskRedrive,
    AskReport,
    AskStart,
    AskStop,
    AskWait,
)
from stepwell.engine.runtime.peers import Peer, PeerUnavailableError

BACKLOG_BYTES: Final = 64 * 1024 * 1024
"""Beyond this much waiting to be committed, new work is refused with 503 until it has drained."""
ASK_SECONDS: Final = 10.0
COMMAND_SECONDS: Final = 30.0


class Requests:
    """`ports.Runtime` over one engine node and its peers."""

    def __init__(
        self,
        engine: Engine,
        store: RuntimeStore,
        clock: Clock,
        seeds: SeedSource,
        *,
        secret: bytes,
        poll_least: float = 0.05,
        connect: Callable[[str], Peer] | None = None,
    ) -> None:
        self._engine = engine
        self._executor = engine.executor
        self._store = store
        self._clock = clock
        self._seeds = seeds
        self._poll_least = poll_least
        self._directory = Directory(store, engine.identity, clock, connect or (lambda address: Peer(address, secret)))
        self._express = ExpressRequests(engine, self._directory, clock, seeds)

    def close(self) -> None:
        """Hang up on the peers."""
        self._directory.close()

    # -- where the owner is ----------------------------------------------------------------------------------------

    def _here(self, id: ExecutionId) -> bool:
        return self._executor.owns(id) and self._engine.leases.valid

    async def _ask(self, id: ExecutionId, ask: Ask, seconds: float = ASK_SECONDS) -> Answer | None:
        """Ask the owner's node; None if it cannot be reached, so that the way by the store has to serve."""
        with suppress(PeerUnavailableError):
            peer = await self._directory.owner(id)
            if peer is not None:
                return await peer.ask(ask, seconds)
        return None

    async def answer(self, ask: Ask, number: int) -> Answer:
        """Answer another node's question; only for what this node owns."""
        try:
            return await self._answer(ask, number)
        except (NotOwnerError, PeerUnavailableError):
            return Answer(number, not_owner=True)

    async def _answer(self, ask: Ask, number: int) -> Answer:
        match ask:
            case AskStart():
                self._must_own(ids.execution_id(ask.arn))
                started = await self._start_here(ask)
                return Answer(number, started.outcome, started.started_at, None, started.name, started.arn)
            case AskWait():
                waited = await self.wait(ExecutionId(ask.execution), ask.timeout_ms)
                return Answer(number, "ENDED" if waited.ended else "RUNNING")
            case AskStop():
                command = await self._stop_here(ExecutionId(ask.execution), ask.error, ask.cause)
                return Answer(number, command.outcome, command.at, command.reason)
            case AskRedrive():
                command = await self._redrive_here(ExecutionId(ask.execution), ask.token)
                return Answer(number, command.outcome, command.at, command.reason)
            case AskOutcome():
                return Answer(number, await self._outcome_here(ask))
            case AskHeartbeat():
                return Answer(number, await self._heartbeat_here(ask))
            case AskClaim() if ids.express_node_of(ask.claim.key) is not None:
                granted = self._engine.express.claim(ask.claim)
                return Answer(number, "GRANTED" if granted.granted else "REFUSED", reason=granted.reason)
            case AskReport() if ids.express_node_of(ask.outcome.key) is not None:
                return Answer(number, self._engine.express.report(ask.outcome))
            case AskClaim():
                granted = await self._claim_here(ask.claim)
                return Answer(number, "GRANTED" if granted.granted else "REFUSED", reason=granted.reason)
            case AskReport():
                return Answer(number, await self._report_here(ask.outcome))
            case AskPerform():
                self._must_own(ExecutionId(ask.execution))
                return await self._engine.once.answer(ask, number)
            case AskExpress():
                return await self._express.answer(ask, number)
            case _:
                assert_never(ask)

    def _must_own(self, id: ExecutionId) -> None:
        if not self._here(id):
            raise NotOwnerError("This node does not own the execution.")

    # -- start and wait --------------------------------------------------------------------------------------------

    async def start(self, request: StartRequest) -> StartAnswer:
        """See `ports.Runtime.start`."""
        machine = request.machine
        name, arn, id = self._identify(request)
        ask = AskStart(
            machine.key, machine.revision, machine.arn, machine.name, machine.role_arn, name, arn, request.input.text,
            request.trace_header, request.version_arn, request.alias_arn,
        )  # fmt: skip
        if self._here(id):
            return await self._start_here(ask, request.input)
        answer = await self._ask(id, ask)
        if answer is not None:
            return StartAnswer(
                outcome=StartOutcome(answer.outcome), id=id, arn=answer.arn, name=answer.name, started_at=answer.at
            )
        new = _new_execution(ask, self._clock.now_ms())
        if await self._store.post_start(id, new, request.input):
            return StartAnswer(outcome=StartOutcome.STARTED, id=id, arn=arn, name=name, started_at=new.started_at)
        return await self._exists(id, request.input)

    def _identify(self, request: StartRequest) -> tuple[str, str, ExecutionId]:
        """Name, ARN and id of a new execution; an unnamed one is named so that its shard is ours, where we have any."""
        if request.name is not None:
            arn = ids.execution_arn(request.machine.arn, request.name)
            return request.name, arn, ids.execution_id(arn)
        entropy = Entropy(self._seeds.seed())
        owned = self._executor.owned
        tries = 64
        while True:
            name = str(entropy.uuid4())
            arn = ids.execution_arn(request.machine.arn, name)
            id = ids.execution_id(arn)
            tries -= 1
            if not owned or shard_of(id) in owned or not tries:
                return name, arn, id

    async def _start_here(self, ask: AskStart, input: Document | None = None) -> StartAnswer:
        if self._engine.committer.backlog_bytes > BACKLOG_BYTES:
            raise StoreUnavailableError("The engine is catching up with the database; ask again.")
        machine = await self._engine.machine(ask.machine_key, ask.revision)
        id = ids.execution_id(ask.arn)
        new = _new_execution(ask, self._clock.now_ms())
        info = ExecutionInfo(
            id=id, arn=ask.arn, name=ask.name, machine_arn=ask.machine_arn, machine_name=ask.machine_name,
            role_arn=ask.role_arn, started_at=new.started_at, region=ask.arn.split(":", 4)[3],
            version_arn=ask.version_arn, alias_arn=ask.alias_arn,
        )  # fmt: skip
        future = self._executor.begin(info, new, machine, events.Started(msgspec.Raw(ask.input)))
        if future is None:  # a start under this name is under way: see what became of it
            await self._executor.ask(id, events.Continued())
        elif await future:
            return StartAnswer(
                outcome=StartOutcome.STARTED, id=id, arn=ask.arn, name=ask.name, started_at=new.started_at
            )
        return await self._exists(id, input or Document.trusted(ask.input))

    async def _exists(self, id: ExecutionId, input: Document) -> StartAnswer:
        """The name is taken: is it the same start again?"""
        stored = await self._store.load(id)
        if stored is None:
            raise StoreUnavailableError("The execution could not be started just now; ask again.")
        same = stored.status is Status.RUNNING and await self._input_of(stored) == input.text
        return StartAnswer(
            outcome=StartOutcome.EXISTS_SAME if same else StartOutcome.EXISTS_OTHER,
            id=id, arn=stored.arn, name=stored.name, started_at=stored.started_at,
        )  # fmt: skip

    async def _input_of(self, stored: StoredExecution) -> bytes | None:
        if stored.rev == 0:
            return await self._store.started_input(stored.id)
        history = History()
        history.add(chunks.decode(stored.first_chunk or stored.chunks[0]))
        return history.payload(1).text

    async def start_express(self, request: StartRequest) -> StartAnswer:
        """See `ports.Runtime.start_express`."""
        return await self._express.start(request)

    async def wait_express(self, id: ExecutionId, timeout_ms: int) -> ExpressView | None:
        """See `ports.Runtime.wait_express`."""
        return await self._express.wait(id, timeout_ms)

    async def run_express(self, request: StartRequest) -> ExpressView:
        """See `ports.Runtime.run_express`."""
        return await self._express.run(request)

    async def wait(self, id: ExecutionId, timeout_ms: int) -> Waited:
        """See `ports.Runtime.wait`."""
        deadline = self._clock.monotonic() + timeout_ms / 1000
        pause = self._poll_least
        while True:
            with self._engine.watching(id) as ended:
                if not self._runs_here(id):
                    status = await self._store.status(id)
                    if status is not Status.RUNNING:
                        return Waited(status is not None)
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    return Waited(False)
                if not self._here(id):
                    answer = await self._ask(id, AskWait(id, int(left * 1000)), left + ASK_SECONDS)
                    if answer is not None:
                        return Waited(answer.outcome == "ENDED")
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, 5.0 if self._here(id) else pause)):
                        return Waited(True, await ended)
                pause = min(pause * 1.5, 1.0)

    def _runs_here(self, id: ExecutionId) -> bool:
        """Whether it runs in this node's memory, so that its end will be heard of and the store need not be asked."""
        hot = self._executor.hot(id)
        return hot is not None and hot.state.status is Status.RUNNING and self._here(id)

    # -- stop and redrive ------------------------------------------------------------------------------------------

    async def stop(self, id: ExecutionId, error: str | None, cause: str | None) -> CommandAnswer:
        """See `ports.Runtime.stop`."""
        if self._here(id):
            with suppress(NotOwnerError):
                return await self._stop_here(id, error, cause)
        answer = await self._ask(id, AskStop(id, error, cause))
        if answer is not None:
            return CommandAnswer(CommandOutcome(answer.outcome), answer.at, answer.reason)
        if not await self._by_row(id, events.StopRequested(error, cause), lambda now: now.status is not Status.RUNNING):
            return CommandAnswer(CommandOutcome.NOT_FOUND)
        return await self._stopped(id)

    async def _stop_here(self, id: ExecutionId, error: str | None, cause: str | None) -> CommandAnswer:
        self._must_own(id)
        deadline = self._clock.monotonic() + COMMAND_SECONDS
        while not await self._executor.ask(id, events.StopRequested(error, cause)):
            stored = await self._store.load(id)
            if stored is None or stored.status is not Status.RUNNING:
                break
            if self._clock.monotonic() > deadline:
                raise StoreUnavailableError("The execution cannot take its first step; ask again.")
            self._engine.wake_inbox()  # it has been started by another node and waits for its first step
            await asyncio.sleep(self._poll_least)
        return await self._stopped(id)

    async def _stopped(self, id: ExecutionId) -> CommandAnswer:
        stored = await self._store.load(id)
        if stored is None:
            return CommandAnswer(CommandOutcome.NOT_FOUND)
        return CommandAnswer(CommandOutcome.DONE, stored.stopped_at or self._clock.now_ms())

    async def redrive(self, id: ExecutionId, client_token: str | None = None) -> CommandAnswer:
        """See `ports.Runtime.redrive`."""
        if self._here(id):
            with suppress(NotOwnerError):
                return await self._redrive_here(id, client_token)
        answer = await self._ask(id, AskRedrive(id, client_token))
        if answer is not None:
            return CommandAnswer(CommandOutcome(answer.outcome), answer.at, answer.reason)
        stored, early = await self._redrivable(id, client_token)
        if stored is None or early is not None:
            return early or CommandAnswer(CommandOutcome.NOT_FOUND)
        count = stored.redrive_count
        await self._by_row(id, events.Redriven(client_token), lambda now: now.redrive_count > count)
        return await self._redriven(id, count)

    async def _redrive_here(self, id: ExecutionId, client_token: str | None) -> CommandAnswer:
        self._must_own(id)
        stored, early = await self._redrivable(id, client_token)
        if stored is None or early is not None:
            return early or CommandAnswer(CommandOutcome.NOT_FOUND)
        await self._executor.ask(id, events.Redriven(client_token))
        return await self._redriven(id, stored.redrive_count)

    async def _redrivable(
        self, id: ExecutionId, token: str | None
    ) -> tuple[StoredExecution | None, CommandAnswer | None]:
        """The execution as stored; and the answer, where it needs no redrive or does not allow one."""
        stored = await self._store.load(id)
        if stored is None:
            return None, None
        if token is not None and stored.redrive_token == token and stored.redriven_at:
            return stored, CommandAnswer(CommandOutcome.DONE, stored.redriven_at)
        if stored.status in (Status.RUNNING, Status.SUCCEEDED):
            reason = f"Execution is {stored.status} and cannot be redriven"
            return stored, CommandAnswer(CommandOutcome.NOT_ALLOWED, reason=reason)
        return stored, None

    async def _redriven(self, id: ExecutionId, count: int) -> CommandAnswer:
        stored = await self._store.load(id)
        if stored is None or stored.redrive_count == count:
            return CommandAnswer(CommandOutcome.NOT_ALLOWED, reason="Another command came first")
        return CommandAnswer(CommandOutcome.DONE, stored.redriven_at or self._clock.now_ms())

    async def _by_row(self, id: ExecutionId, event: events.Event, done: Callable[[StoredExecution], bool]) -> bool:
        """Write a command down for the owner and wait until the store shows it; False if there is no such execution."""
        stored = await self._store.load(id)
        if stored is None:
            return False
        if done(stored):
            return True
        await self._store.post(id, event)
        deadline = self._clock.monotonic() + COMMAND_SECONDS
        pause = self._poll_least
        while self._clock.monotonic() < deadline:
            stored = await self._store.load(id)
            if stored is None or done(stored):
                return True
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 1.0)
        raise StoreUnavailableError("The execution's owner has not answered; the command stays written down for it.")

    # -- tasks -----------------------------------------------------------------------------------------------------

    async def complete_task(self, token: TaskToken, output: Document) -> TaskAnswer:
        """See `ports.Runtime.complete_task`."""
        return await self._outcome(AskOutcome(token.execution, token.task, token.secret, output.text))

    async def fail_task(self, token: TaskToken, error: str | None, cause: str | None) -> TaskAnswer:
        """See `ports.Runtime.fail_task`."""
        return await self._outcome(AskOutcome(token.execution, token.task, token.secret, None, error, cause))

    async def _outcome(self, ask: AskOutcome) -> TaskAnswer:
        id = ExecutionId(ask.execution)
        if self._here(id):
            with suppress(NotOwnerError):
                return await self._outcome_here(ask)
        answer = await self._ask(id, ask)
        if answer is not None:
            return TaskAnswer(answer.outcome)
        return await self._store.post_outcome(id, ask.task, ask.secret, _outcome_event(ask))

    async def _outcome_here(self, ask: AskOutcome) -> TaskAnswer:
        id = ExecutionId(ask.execution)
        self._must_own(id)
        _, frame, known = await self._open_task(id, ask.task)
        if frame is None or frame.task is None:
            return TaskAnswer.TIMED_OUT if known else TaskAnswer.INVALID
        if frame.task.secret != ask.secret:
            return TaskAnswer.INVALID
        changed = await self._executor.ask(id, _outcome_event(ask))
        return TaskAnswer.ACCEPTED if changed else TaskAnswer.TIMED_OUT

    async def _open_task(self, id: ExecutionId, task: int) -> tuple[Hot | None, Frame | None, bool]:
        """The execution and the frame that waits for the task; and whether there is such an execution at all."""
        while True:
            hot = await self._executor.read(id)
            if hot is None:
                return None, None, False
            frame = hot.state.tasks.get(task)
            if (frame is not None and hot.rev > 0) or not hot.busy:
                return hot, frame, True
            # What closed the task is not durable yet; or this is another start under the name of what is in the store.
            await self._executor.ask(id, events.Continued())

    async def heartbeat(self, token: TaskToken) -> TaskAnswer:
        """See `ports.Runtime.heartbeat`."""
        ask = AskHeartbeat(token.execution, token.task, token.secret)
        if self._here(token.execution):
            with suppress(NotOwnerError):
                return await self._heartbeat_here(ask)
        answer = await self._ask(token.execution, ask)
        if answer is not None:
            return TaskAnswer(answer.outcome)
        return await self._store.post_heartbeat(token.execution, token.task, token.secret, self._clock.now_ms())

    async def _heartbeat_here(self, ask: AskHeartbeat) -> TaskAnswer:
        """Heard at once in memory, written down at most once a second."""
        id = ExecutionId(ask.execution)
        self._must_own(id)
        hot, frame, known = await self._open_task(id, ask.task)
        if hot is None or frame is None or frame.task is None:
            return TaskAnswer.TIMED_OUT if known else TaskAnswer.INVALID
        if frame.task.secret != ask.secret:
            return TaskAnswer.INVALID
        now = self._clock.now_ms()
        last = hot.heartbeats.get(ask.task, 0)
        hot.heartbeats[ask.task] = now
        if now - last < 1000:
            return TaskAnswer.ACCEPTED
        return await self._store.post_heartbeat(id, ask.task, ask.secret, now)

    async def next_activity_task(self, activity_arn: str, worker: str | None, wait_ms: int) -> ActivityTask | None:
        """See `ports.Runtime.next_activity_task`."""
        deadline = self._clock.monotonic() + wait_ms / 1000
        pause = self._poll_least
        ready = self._engine.dispatcher.activity_ready
        while True:
            ready.clear()
            taken = await self._store.take_activity_task(activity_arn, worker)
            if taken is not None:
                id, task, secret, scheduled = taken
                self._engine.wake_inbox()
                history = History()
                for data in await self._store.chunks_with(id, [scheduled]):
                    history.add(chunks.decode(data))
                return ActivityTask(ids.task_token(id, task, secret), history.payload(scheduled))
            left = deadline - self._clock.monotonic()
            if left <= 0:
                return None
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, pause)):
                    await ready.wait()
            pause = min(pause * 1.5, 1.0)

    async def claim(self, claim: Claim) -> ClaimAnswer:
        """See `ports.Runtime.claim`."""
        node = ids.express_node_of(claim.key)
        if node is not None:
            return await self._express.claim(claim, node)
        id = ExecutionId(bytes.fromhex(claim.execution))
        if self._here(id):
            with suppress(NotOwnerError):
                return await self._claim_here(claim)
        answer = await self._ask(id, AskClaim(claim))
        if answer is not None:
            return ClaimAnswer(answer.outcome == "GRANTED", answer.reason)
        return await self._claim_by_row(id, claim)

    async def _claim_by_row(self, id: ExecutionId, claim: Claim) -> ClaimAnswer:
        if claim.heartbeat:
            secret = await self._store.task_secret(id, claim.task)
            if secret is None or ids.claim_key(secret) != claim.key:
                return ClaimAnswer(False, "The task is closed.")
            return _alive(await self._store.post_heartbeat(id, claim.task, secret, self._clock.now_ms()))
        granted = await self._store.post_claim(id, claim)
        self._engine.wake_inbox()
        return ClaimAnswer(granted, None if granted else "The task is closed, or another worker runs it.")

    async def _claim_here(self, claim: Claim) -> ClaimAnswer:
        tested = self._engine.once.claim(claim)
        if tested is not None:
            return tested
        id = ExecutionId(bytes.fromhex(claim.execution))
        self._must_own(id)
        hot, frame, _ = await self._open_task(id, claim.task)
        if hot is None or frame is None or frame.task is None:
            return ClaimAnswer(False, "The task is closed.")
        if ids.claim_key(frame.task.secret) != claim.key:
            return ClaimAnswer(False, "The key does not belong to this task.")
        if claim.heartbeat:
            return _alive(await self._heartbeat_here(AskHeartbeat(id, claim.task, frame.task.secret)))
        if frame.task.started:  # claimed before, perhaps by this very worker, or delivered again: the row knows
            return await self._claim_by_row(id, claim)
        changed = await self._executor.ask(id, events.TaskStarted(claim.task, claim.name), worker=claim.worker)
        return ClaimAnswer(changed, None if changed else "The task is closed.")

    async def report_outcome(self, outcome: Outcome) -> TaskAnswer:
        """See `ports.Runtime.report_outcome`."""
        node = ids.express_node_of(outcome.key)
        if node is not None:
            return await self._express.report(outcome, node)
        id = ExecutionId(bytes.fromhex(outcome.execution))
        if self._here(id):
            with suppress(NotOwnerError):
                return await self._report_here(outcome)
        answer = await self._ask(id, AskReport.of(outcome))
        if answer is not None:
            return TaskAnswer(answer.outcome)
        secret = await self._store.task_secret(id, outcome.task)
        if secret is None:
            return TaskAnswer.TIMED_OUT
        if ids.claim_key(secret) != outcome.key:
            return TaskAnswer.INVALID
        return await self._store.post_outcome(id, outcome.task, secret, reported_event(outcome))

    async def _report_here(self, outcome: Outcome) -> TaskAnswer:
        tested = self._engine.once.report(outcome)
        if tested is not None:
            return tested
        id = ExecutionId(bytes.fromhex(outcome.execution))
        self._must_own(id)
        _, frame, _ = await self._open_task(id, outcome.task)
        if frame is None or frame.task is None:
            return TaskAnswer.TIMED_OUT
        if ids.claim_key(frame.task.secret) != outcome.key:
            return TaskAnswer.INVALID
        changed = await self._executor.ask(id, reported_event(outcome))
        return TaskAnswer.ACCEPTED if changed else TaskAnswer.TIMED_OUT

    async def report_worker(self, report: WorkerReport) -> None:
        """See `ports.Runtime.report_worker`."""
        await self._store.report_worker(report, WORKER_LEASE_SECONDS)

    async def perform_once(self, request: TaskRequest) -> events.TaskSucceeded | events.TaskFailed:
        """See `ports.TaskPerformer`."""
        id = request.execution
        if self._here(id):
            return await self._engine.once.perform(request)
        try:
            answer = await self._ask(id, ask_of(request), TEST_STATE_SECONDS + ASK_SECONDS)
        except StoreUnavailableError as error:
            raise TargetUnavailableError(str(error)) from None
        if answer is None:
            raise TargetUnavailableError("No engine node that could perform the task can be reached.")
        return outcome_of(answer, request)


def _new_execution(ask: AskStart, now: int) -> NewExecution:
    return NewExecution(
        machine_key=ask.machine_key, revision=ask.revision, name=ask.name, arn=ask.arn, started_at=now,
        trace_header=ask.trace_header, version_arn=ask.version_arn, alias_arn=ask.alias_arn,
    )  # fmt: skip


def _outcome_event(ask: AskOutcome) -> events.TaskSucceeded | events.TaskFailed:
    if ask.output is not None:
        return events.TaskSucceeded(ask.task, msgspec.Raw(ask.output))
    return events.TaskFailed(ask.task, ask.error, ask.cause)


def _alive(beat: TaskAnswer) -> ClaimAnswer:
    """What a worker is told that says a claimed task is alive."""
    accepted = beat is TaskAnswer.ACCEPTED
    return ClaimAnswer(accepted, None if accepted else "The task is closed.")
