"""Workers for the activities of recorded executions: each does with its task what the recorded one did."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.support import recorded

NAME = "BASE_ID_ACTIVITY_CONSUMER"
"""What the recorded workers called themselves."""
_ENDS = ("ActivitySucceeded", "ActivityFailed", "ActivityTimedOut")


@contextmanager
def activity_workers(folder: Path, url: str) -> Iterator[None]:
    """Create the activities of `activities.json`, and have a worker wait for the task of each."""
    config = Config(read_timeout=70, retries={"max_attempts": 0})
    client = boto3.client(
        "stepfunctions",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="000000000000",
        aws_secret_access_key="test",
        config=config,
    )
    workers = []
    for case in json.loads((folder / "asl" / "activities.json").read_text()):
        (state,) = case["definition"]["States"].values()
        client.create_activity(name=state["Resource"].rpartition(":")[2])
        (end,) = [event for event in recorded.recorded_history(case) or () if event["type"] in _ENDS]
        worker = threading.Thread(target=_work, args=(client, state["Resource"], end), daemon=True)
        worker.start()
        workers.append(worker)
    yield
    for worker in workers:
        worker.join(10)
        assert not worker.is_alive()


def _work(client: Any, arn: str, end: Mapping[str, Any]) -> None:
    token = client.get_activity_task(activityArn=arn, workerName=NAME)["taskToken"]
    details = recorded.details(end)
    if end["type"] == "ActivitySucceeded":
        client.send_task_heartbeat(taskToken=token)
        client.send_task_success(taskToken=token, output=json.dumps(details["output"]))
    elif end["type"] == "ActivityFailed":
        client.send_task_failure(taskToken=token, error=details["error"], cause=json.dumps(details["cause"]))
