"""Heartbeats of tasks of durable executions: heard, they give a task time; missed, they end it."""

from __future__ import annotations

import asyncio

import pytest

from stepwell.engine import ids
from stepwell.engine.machine.commands import Status
from stepwell.engine.ports import TaskAnswer
from stepwell.engine.runtime.requests import Requests
from tests.support.nodes import open_node

ACTIVITY = "arn:aws:states:us-east-1:000000000000:activity:check"
TASK = {"Type": "Task", "Resource": ACTIVITY, "HeartbeatSeconds": 1, "End": True}


async def keep_alive(requests: Requests, token: ids.TaskToken, seconds: float) -> None:
    """Tell every now and then, for longer than one heartbeat lasts, that the worker is there."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        assert await requests.heartbeat(token) is TaskAnswer.ACCEPTED
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("elsewhere", (False, True), ids=("at the owner", "at another node"))
async def test_heartbeats_keep_a_task_from_timing_out(database: str, *, elsewhere: bool) -> None:
    async with open_node(database) as node, open_node(database, owns_shards=False) as other:
        started = await node.start(await node.machine({"StartAt": "A", "States": {"A": TASK}}))
        task = await node.requests.next_activity_task(ACTIVITY, "me", 5000)
        assert task is not None
        token = ids.parse_task_token(task.token)
        assert token is not None
        await keep_alive(other.requests if elsewhere else node.requests, token, 1.6)
        assert not (await node.requests.wait(started.id, 0)).ended
        view = await node.ended(started.id)
        assert (view.status, view.error) == (Status.FAILED, "States.Timeout")
        assert await node.requests.heartbeat(token) is TaskAnswer.TIMED_OUT
