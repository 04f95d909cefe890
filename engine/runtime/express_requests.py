"""What callers ask of Express executions, wherever they run: on this node, or on one that is asked over the internal listener.

An Express execution stays on the node that took it. Any engine node may take one: where this node runs executions, it does so
itself; a node that only takes requests asks another one.
"""

from __future__ import annotations

import asyncio
from typing import Final

from stepwell.engine import ids
from stepwell.engine.clock import Clock, Entropy, SeedSource
from stepwell.engine.errors import StoreUnavailableError
from stepwell.engine.ids import ExecutionId
from stepwell.engine.jsontypes import Document
from stepwell.engine.limits import MAX_EXPRESS_SECONDS
from stepwell.engine.machine.commands import Status
from stepwell.engine.messages import Claim, ClaimAnswer, Outcome
from stepwell.engine.ports import ExpressStart, ExpressView, StartAnswer, StartOutcome, StartRequest, TaskAnswer
from stepwell.engine.runtime.directory import Directory
from stepwell.engine.runtime.engine import Engine
from stepwell.engine.runtime.peer_messages import Answer, Ask, AskClaim, AskExpress, AskReport
from stepwell.engine.runtime.peers import Peer, PeerLostError, PeerUnavailableError
from stepwell.engine.telemetry import EXPRESS_REFUSED, EXPRESS_STARTED

ASK_SECONDS: Final = 10.0
FULL: Final = "FULL"
"""What a node answers that has no room for an execution."""
POLL_SECONDS: Final = 0.05
LOST: Final = "The node that ran the execution was lost. How far it came is not known, and it is not run again: ask again to start another."


class ExpressRequests:
    """The Express part of `ports.Runtime`."""

    def __init__(self, engine: Engine, directory: Directory, clock: Clock, seeds: SeedSource) -> None:
        self._engine = engine
        self._store = engine.express_store
        self._directory = directory
        self._clock = clock
        self._seeds = seeds

    async def start(self, request: StartRequest) -> StartAnswer:
        """See `ports.Runtime.start_express`."""
        ask = self._ask(request, wait=False)
        if self._engine.performs:
            started_at = await self._start_here(ask, request.input)
        else:
            try:
                started_at = (await self._hand_over(ask, ASK_SECONDS)).at
            except PeerUnavailableError:  # nobody was asked, or nobody knows: the id is the same, so it is started once
                started_at = self._clock.now_ms()
                await self._store.begin(None, [_start_of(ask, request.input, started_at)])
        return StartAnswer(
            outcome=StartOutcome.STARTED,
            id=ids.execution_id(ask.arn),
            arn=ask.arn,
            name=ask.name,
            started_at=started_at,
        )

    async def _start_here(self, ask: AskExpress, input: Document, *, handed_over: bool = False) -> int:
        """When it was started, once that is durable."""
        self._admit(input)
        if not self._engine.leases.valid:
            raise StoreUnavailableError("This node has no lease on the database at the moment; ask again.")
        machine = await self._engine.machine(ask.machine_key, ask.revision)
        start = _start_of(ask, input, self._clock.now_ms(), attempt=1)
        if await self._engine.express_log.begin(start, machine, handed_over=handed_over):
            self._engine.metrics.count(EXPRESS_STARTED, "async")
        return start.started_at

    async def wait(self, id: ExecutionId, timeout_ms: int) -> ExpressView | None:
        """See `ports.Runtime.wait_express`."""
        deadline = self._clock.monotonic() + timeout_ms / 1000
        pause = POLL_SECONDS
        while True:
            run = self._engine.express.known(id)
            left = deadline - self._clock.monotonic()
            if run is not None and left > 0:
                await asyncio.wait([run.ended], timeout=left)  # how it ended is told by the store: there it is durable
            view = await self._store.describe(id)
            left = deadline - self._clock.monotonic()
            if view is None or view.stopped_at is not None or left <= 0:
                return view
            await asyncio.sleep(min(left, pause))
            pause = min(pause * 1.5, 1.0)

    async def run(self, request: StartRequest) -> ExpressView:
        """See `ports.Runtime.run_express`."""
        ask = self._ask(request, wait=True)
        if self._engine.performs:
            return await self._run_here(ask, request.input)
        try:
            answer = await self._hand_over(ask, MAX_EXPRESS_SECONDS + ASK_SECONDS)
        except PeerLostError:
            raise StoreUnavailableError(LOST) from None
        except PeerUnavailableError as error:
            raise StoreUnavailableError(str(error)) from None
        machine = request.machine
        return ExpressView(
            id=ids.execution_id(ask.arn), arn=ask.arn, name=ask.name, machine_arn=machine.arn,
            machine_name=machine.name, machine_key=machine.key, revision=machine.revision,
            status=Status(answer.outcome), started_at=answer.at, stopped_at=answer.stopped_at, error=answer.error,
            cause=answer.cause, trace_header=ask.trace_header, input=request.input,
            output=None if answer.output is None else Document.trusted(answer.output),
        )  # fmt: skip

    async def answer(self, ask: AskExpress, number: int) -> Answer:
        """Answer another node's question. Where there is no room for it, that is no failure: another node may have some."""
        try:
            self._engine.express.admit(Document.trusted(ask.input))
        except StoreUnavailableError as error:
            return Answer(number, FULL, reason=str(error))
        if not ask.wait:
            started_at = await self._start_here(ask, Document.trusted(ask.input), handed_over=True)
            return Answer(number, Status.RUNNING, started_at, None, ask.name, ask.arn)
        view = await self._run_here(ask, Document.trusted(ask.input))
        output = None if view.output is None else view.output.text
        return Answer(
            number, view.status, view.started_at, None, view.name, view.arn, stopped_at=view.stopped_at or 0,
            output=output, error=view.error, cause=view.cause,
        )  # fmt: skip

    def _ask(self, request: StartRequest, *, wait: bool) -> AskExpress:
        machine, entropy = request.machine, Entropy(self._seeds.seed())
        name = request.name if request.name is not None else str(entropy.uuid4())
        arn = ids.express_arn(machine.arn, name, entropy.uuid4())
        return AskExpress(
            machine.key, machine.revision, machine.arn, machine.name, machine.role_arn, name, arn, request.input.text, wait,
            request.trace_header, request.version_arn, request.alias_arn,
        )  # fmt: skip

    async def _run_here(self, ask: AskExpress, input: Document) -> ExpressView:
        express = self._engine.express
        self._admit(input)
        machine = await self._engine.machine(ask.machine_key, ask.revision)
        self._engine.metrics.count(EXPRESS_STARTED, "sync")
        run = express.run(_start_of(ask, input, self._clock.now_ms()), machine)
        return await asyncio.shield(run.ended)

    def _admit(self, input: Document) -> None:
        try:
            self._engine.express.admit(input)
        except StoreUnavailableError:
            self._engine.metrics.count(EXPRESS_REFUSED)
            raise

    async def _hand_over(self, ask: AskExpress, seconds: float) -> Answer:
        """Have one of the engine nodes do it. Once one may have begun, no other is asked: `PeerLostError`.

        Raises `PeerUnavailableError` if none was asked, `StoreUnavailableError` if none has room.
        """
        reason: str | None = None
        for peer in await self._directory.all():
            try:
                answer = await peer.ask(ask, seconds)
            except PeerLostError:
                raise
            except PeerUnavailableError:
                continue
            if answer.outcome != FULL:
                return answer
            reason = answer.reason
        if reason is not None:
            raise StoreUnavailableError(reason)
        raise PeerUnavailableError("No engine node can be reached; ask again.")

    # -- workers ---------------------------------------------------------------------------------------------------

    async def claim(self, claim: Claim, tag: str) -> ClaimAnswer:
        """A worker's claim, for the node that its key leads to."""
        if tag == self._engine.express.node:
            return self._engine.express.claim(claim)
        answer = await self._ask_node(tag, AskClaim(claim))
        if answer is None:
            return ClaimAnswer(False, "The node that ran the execution is gone.")
        return ClaimAnswer(answer.outcome == "GRANTED", answer.reason)

    async def report(self, outcome: Outcome, tag: str) -> TaskAnswer:
        """A worker's outcome, for the node that its key leads to."""
        if tag == self._engine.express.node:
            return self._engine.express.report(outcome)
        answer = await self._ask_node(tag, AskReport.of(outcome))
        return TaskAnswer.TIMED_OUT if answer is None else TaskAnswer(answer.outcome)

    async def _ask_node(self, tag: str, ask: Ask) -> Answer | None:
        """Ask the node; None if it is gone, and with it the execution. Raises `StoreUnavailableError` while nobody knows."""
        peer: Peer | None = await self._directory.node(tag)
        if peer is None:
            return None
        try:
            return await peer.ask(ask, ASK_SECONDS)
        except PeerUnavailableError as error:
            raise StoreUnavailableError(f"{error} Ask again.") from None


def _start_of(ask: AskExpress, input: Document, now: int, attempt: int = 0) -> ExpressStart:
    return ExpressStart(
        id=ids.execution_id(ask.arn), arn=ask.arn, name=ask.name, machine_key=ask.machine_key, revision=ask.revision,
        machine_arn=ask.machine_arn, machine_name=ask.machine_name, role_arn=ask.role_arn, input=input, started_at=now,
        attempt=attempt, trace_header=ask.trace_header, version_arn=ask.version_arn, alias_arn=ask.alias_arn,
    )  # fmt: skip
