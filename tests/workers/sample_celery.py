"""Somebody's own Celery app, with tasks as people write them and one line of Stepwell's."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery
from celery.exceptions import Ignore

import stepwell.workers

app = Celery("shop", broker=os.environ["SHOP_BROKER"], backend=None)
app.conf.update(broker_connection_retry_on_startup=True, task_ignore_result=True)
if os.environ.get("SHOP_HOOK", "on") == "on":
    stepwell.workers.install(app)


def note(path: str, text: str) -> None:
    with Path(path).open("a") as log:
        log.write(text)


@app.task(name="shop.echo")
def echo(event: Any) -> Any:
    if isinstance(event, dict) and "log" in event:
        note(event["log"], "x")
    return event


@app.task(name="shop.add")
def add(a: int, b: int = 1) -> int:
    return a + b


@app.task(name="shop.outer")
def outer(event: Any) -> Any:
    """Calls other tasks as functions, which are not Stepwell's tasks then."""
    return [echo(event), add(1, b=2)]


@app.task(name="shop.about")
def about(event: Any) -> Any:
    task = stepwell.workers.current_task()
    assert task is not None
    return {
        "arn": task.execution_arn, "state": task.state_name, "attempt": task.attempt, "key": task.idempotency_key,
        "step": task.step_id, "alive": stepwell.workers.heartbeat(),
    }  # fmt: skip


class StockError(Exception):
    pass


@app.task(name="shop.fail")
def fail(event: Any) -> None:
    raise StockError("no stock")


@app.task(name="shop.unusable")
def unusable(event: Any) -> object:
    return object()


@app.task(name="shop.ignore")
def ignore(event: Any) -> None:
    raise Ignore


@app.task(name="shop.flaky", bind=True, default_retry_delay=0, max_retries=5)
def flaky(self: Any, event: Any) -> Any:
    note(event["log"], "x")
    if self.request.retries < 2:
        raise self.retry(exc=StockError("not yet"))
    return {"retries": self.request.retries}


@app.task(name="shop.hang", time_limit=1)
def hang(event: Any) -> None:
    while True:
        time.sleep(0.1)


@app.task(name="shop.soft_hang")
def soft_hang(event: Any) -> None:
    while True:
        time.sleep(0.1)


@app.task(name="shop.die")
def die(event: Any) -> None:
    os.kill(os.getpid(), 9)


@app.task(name="shop.wait")
def wait(event: Any) -> str:
    note(event["began"], "x")
    while not Path(event["until"]).exists():
        time.sleep(0.005)
    return "released"
