"""Heartbeats of tasks of durable executions: heard, they give a task time; missed, they end it."""

from __future__ import annotations

import asyncio

import pytest

from stepwell.engine import ids
from stepwell.engine.machine.commands import Status
from stepwell.engine.ports import TaskAnswer
from tests.support.nodes import StandingClock, open_node
from tests.support.waiting import until

ACTIVITY = "arn:aws:states:us-east-1:000000000000:activity:check"
TASK = {"Type": "Task", "Resource": ACTIVITY, "HeartbeatSeconds": 1, "End": True}


@pytest.mark.parametrize("elsewhere", (False, True), ids=("at the owner", "at another node"))
async def test_heartbeats_keep_a_task_from_timing_out(database: str, *, elsewhere: bool) -> None:
    clock = StandingClock()
    async with open_node(database, clock=clock) as node, open_node(database, owns_shards=False, clock=clock) as other:
        started = await node.start(await node.machine({"StartAt": "A", "States": {"A": TASK}}))
        task = await node.requests.next_activity_task(ACTIVITY, "me", 60_000)
        assert task is not None
        token = ids.parse_task_token(task.token)
        assert token is not None
        heap = node.engine.timers._heap
        await until(lambda: heap)
        due, ending = heap[0], asyncio.create_task(node.ended(started.id))
        for _ in range(3):  # together longer than one heartbeat lasts
            clock.forward(600)
            assert await (other if elsewhere else node).requests.heartbeat(token) is TaskAnswer.ACCEPTED
        await until(lambda: ending.done() or (heap and heap[0] > due))  # it was due, and was put off
        assert not ending.done()
        clock.forward(1000)
        view = await ending
        assert (view.status, view.error) == (Status.FAILED, "States.Timeout")
        assert await node.requests.heartbeat(token) is TaskAnswer.TIMED_OUT
