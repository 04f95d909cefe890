"""Tasks whose workers die of them, one after the other."""

from __future__ import annotations

from uuid import UUID

from stepwell.engine.machine.commands import Status
from stepwell.engine.messages import WorkerReport
from stepwell.engine.ports import TaskAnswer
from tests.runtime.test_express_sync import Broker, claim, outcome
from tests.support.nodes import Node, open_node
from tests.support.waiting import until

WORK = {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": "celery:work", "End": True}}}


async def lose_worker(node: Node, broker: Broker, number: int) -> None:
    """The worker with this number gets the task's message, claims the task and dies, and the engine finds out."""
    await until(lambda: len(broker.calls) == number)
    worker = str(UUID(int=number))
    assert (await node.requests.claim(claim(broker.calls[-1], worker))).granted
    await node.requests.report_worker(WorkerReport(worker, "here", number, ended=True))
    await node.engine._rescue_once()  # what it does by itself every few seconds


async def test_a_task_is_given_up_when_its_fifth_worker_is_lost(database: str) -> None:
    broker = Broker()
    async with open_node(database, broker) as node:
        started = await node.start(await node.machine(WORK))
        for number in (1, 2, 3, 4, 5):
            await lose_worker(node, broker, number)
        view = await node.ended(started.id)
        assert (view.status, view.error) == (Status.FAILED, "Stepwell.WorkerLost")
        assert view.cause == "The worker that ran this task was lost, 5 times in a row."
        assert [call.delivery for call in broker.calls] == [1, 2, 3, 4, 5]
        assert len({call.idempotency_key for call in broker.calls}) == 1


async def test_the_fifth_worker_may_still_do_it(database: str) -> None:
    broker = Broker()
    async with open_node(database, broker) as node:
        started = await node.start(await node.machine(WORK))
        for number in (1, 2, 3, 4):
            await lose_worker(node, broker, number)
        await until(lambda: len(broker.calls) == 5)
        assert (await node.requests.claim(claim(broker.calls[-1]))).granted
        assert await node.requests.report_outcome(outcome(broker.calls[-1])) is TaskAnswer.ACCEPTED
        assert (await node.ended(started.id)).status is Status.SUCCEEDED
