"""What is outside of executions that run on Postgres: functions, a broker and its workers, whoever holds task tokens or polls
an activity. Each task comes to an outcome drawn at random, at a moment of its own; what was said of it is noted."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

import msgspec

from stepwell.engine.asl.resources import IntegrationPattern, TargetKind
from stepwell.engine.ids import ExecutionId, TaskToken, parse_task_token
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.events import TaskFailed, TaskSubmitted, TaskSucceeded
from stepwell.engine.messages import Claim, Outcome
from stepwell.engine.ports import TargetResult, TaskAnswer, TaskRequest
from stepwell.engine.runtime.requests import Requests
from tests.properties.chance import Chance
from tests.properties.happenings import FAILURES, RESULTS, TOO_LARGE
from tests.properties.machines import ACTIVITY
from tests.support.local_machine import raw

Task: TypeAlias = tuple[ExecutionId, int]
Said: TypeAlias = TaskSucceeded | TaskFailed

WORKER = UUID(int=7)


@dataclass(slots=True, eq=False)
class Call:
    """A function that runs for a task."""

    request: TaskRequest
    answer: asyncio.Future[TargetResult]


class Outside:
    """Whom tasks go to. It outlives the engine's nodes."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self.calm = False
        """Every task succeeds, as soon as it can."""
        self.heard = 0
        """How many tasks have come in."""
        self.calls: list[Call] = []
        self.messages: dict[Task, TaskRequest] = {}
        """What lies in the broker."""
        self.tokens: dict[Task, TaskToken] = {}
        """Tasks that wait for somebody who has their token."""
        self.said: dict[Task, list[Said | TaskSubmitted]] = defaultdict(list)
        self.accepted: dict[Task, list[Said]] = defaultdict(list)
        """Outcomes that were answered for."""

    # -- what engines ask ------------------------------------------------------------------------------------------

    async def perform(self, request: TaskRequest) -> TargetResult:
        self.heard += 1
        task = request.execution, request.task
        if request.resource.kind is TargetKind.CELERY:
            self.messages[task] = request
            return None
        if request.resource.pattern is not IntegrationPattern.REQUEST_RESPONSE:
            return self._submitted(task, request)
        call = Call(request, asyncio.get_running_loop().create_future())
        self.calls.append(call)
        return await call.answer

    def _submitted(self, task: Task, request: TaskRequest) -> TargetResult:
        if not self.calm and self._chance.often(5):
            return self._say(task, TaskFailed(request.task, "Never", None, "submit"))
        token = parse_task_token(request.payload.value["MessageBody"])  # type: ignore[call-overload,index,arg-type]
        assert token is not None
        self.tokens[task] = token
        submitted = TaskSubmitted(request.task, raw({"id": 1}))
        self.said[task].append(submitted)
        return submitted

    # -- what it does ----------------------------------------------------------------------------------------------

    def _say(self, task: Task, said: Said) -> Said:
        self.said[task].append(said)
        return said

    def _outcome(self, task: Task, stage: str = "run") -> Said:
        chance = self._chance
        kinds = {"succeeds": 68, "fails": 25, "large": 1, "stage": 6}
        kind = "calm" if self.calm else chance.weighted(kinds)
        match kind:
            case "calm":
                outcome: Said = TaskSucceeded(task[1], raw({"n": 5}))
            case "succeeds":
                outcome = TaskSucceeded(task[1], raw(chance.pick(RESULTS)))
            case "large":
                outcome = TaskSucceeded(task[1], TOO_LARGE)
            case "stage" if stage != "run":
                outcome = TaskFailed(task[1], "Never", None, stage)
            case _:
                outcome = TaskFailed(task[1], chance.weighted(FAILURES), chance.pick(("a cause", None)))
        return self._say(task, outcome)

    def answer_calls(self) -> int:
        """Functions come to their end, mostly."""
        calls, self.calls = [call for call in self.calls if not call.answer.done()], []
        for call in calls:
            if self.calm or self._chance.often(75):
                task = call.request.execution, call.request.task
                call.answer.set_result(self._outcome(task, self._chance.pick(("schedule", "start"))))
            else:
                self.calls.append(call)
        return len(calls)

    async def work(self, requests: Requests, task: Task, request: TaskRequest) -> None:
        """A worker takes a message from the broker: claims its task, mostly, and tells how it ended."""
        chance = self._chance
        claim = Claim(task[0].hex(), task[1], request.claim_key, str(WORKER), chance.pick(("worker-1", None)))
        if self.calm or chance.often(80):
            answer = await requests.claim(claim)
            if not answer.granted and not chance.often(20):
                self.messages.pop(task, None)
                return
            if chance.often(20):
                await requests.claim(msgspec.structs.replace(claim, heartbeat=True))
        said = self._outcome(task)
        outcome = Outcome(task[0].hex(), task[1], request.claim_key, worker=str(WORKER))
        if isinstance(said, TaskSucceeded):
            outcome.output = said.output
        else:
            outcome.error, outcome.cause = said.error, said.cause
        self._answered(task, said, await requests.report_outcome(outcome))
        self.messages.pop(task, None)

    async def use_token(self, requests: Requests, task: Task, token: TaskToken) -> None:
        """Whoever has a token says that its task is alive, or how it ended."""
        if not self.calm and self._chance.often(15):
            await requests.heartbeat(token)
            return
        said = self._outcome(task)
        if isinstance(said, TaskSucceeded):
            answer = await requests.complete_task(token, Document.trusted(bytes(said.output)))
        else:
            answer = await requests.fail_task(token, said.error, said.cause)
        self._answered(task, said, answer)
        if self.calm or not self._chance.often(5):  # else it is said twice
            self.tokens.pop(task, None)

    def _answered(self, task: Task, said: Said, answer: TaskAnswer) -> None:
        if answer is TaskAnswer.ACCEPTED:
            self.accepted[task].append(said)

    async def poll(self, requests: Requests) -> None:
        """A worker asks for tasks of the activity."""
        for _ in range(20):
            found = await requests.next_activity_task(ACTIVITY, "poller", 0)
            if found is None:
                return
            self.heard += 1
            token = parse_task_token(found.token)
            assert token is not None
            self.tokens[token.execution, token.task] = token
