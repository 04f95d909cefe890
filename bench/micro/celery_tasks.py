"""Celery tasks a second, raw and as Stepwell's, in turns: `python -m bench.micro.celery_tasks [--tasks 3000] [--rounds 3]`.

One worker process over a Valkey of its own. Raw: messages without the header, each ending with a push to a list. Stepwell's:
published by the target, claimed over HTTP at a bare loop that grants everything, outcome read from the results queue.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time

import redis
from celery import Celery

from stepwell.cli.embedded.valkey import EmbeddedValkey
from stepwell.engine.asl.resources import parse_resource
from stepwell.engine.ids import ExecutionId
from stepwell.engine.jsontypes import Document
from stepwell.engine.messages import Outcome
from stepwell.engine.ports import TaskAnswer, TaskRequest
from stepwell.engine.targets.broker import Publisher
from stepwell.engine.targets.celery import CeleryTarget
from stepwell.engine.targets.celery_results import ResultsConsumer
from tests.support.embedded import server_place

DONE = "bench.done"
BROKER = os.environ.get("STEPWELL_BROKER_URL", "")


def make_app() -> Celery:
    """The worker's app; `celery -A bench.micro.celery_tasks:app`."""
    import stepwell.workers

    app = Celery("bench", broker=BROKER)
    app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
    stepwell.workers.install(app)
    client = redis.Redis.from_url(BROKER)

    @app.task(name="bench.raw")  # type: ignore[untyped-decorator]
    def raw(event: object) -> object:
        client.lpush(DONE, 1)  # what reporting an outcome costs at least
        return event

    @app.task(name="bench.claimed")  # type: ignore[untyped-decorator]
    def claimed(event: object) -> object:
        return event

    return app


app = make_app() if BROKER else None


class Grants(asyncio.Protocol):
    """An HTTP server that grants every claim: what is measured is the worker, not a server."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not data.rstrip().endswith(b"}"):
            return  # the head; the body follows
        body = b'{"granted":true}'
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)  # type: ignore[attr-defined]


def raw_round(broker: str, tasks: int) -> float:
    client = redis.Redis.from_url(broker)
    client.delete(DONE)
    began = time.perf_counter()
    with Celery(broker=broker) as sender:
        for number in range(tasks):
            sender.send_task("bench.raw", [number], ignore_result=True)
        while client.llen(DONE) < tasks:
            time.sleep(0.002)
    return tasks / (time.perf_counter() - began)


async def claimed_round(broker: str, tasks: int, first: int) -> float:
    done, count = asyncio.Event(), 0

    async def on_outcome(outcome: Outcome) -> TaskAnswer:
        nonlocal count
        count += 1
        if count == tasks:
            done.set()
        return TaskAnswer.ACCEPTED

    resource = parse_resource("celery:bench.claimed")
    assert resource is not None
    target, consumer = CeleryTarget(Publisher(broker)), ResultsConsumer(broker, on_outcome)
    await consumer.start()
    began = time.perf_counter()
    await asyncio.gather(
        *(
            target.perform(
                TaskRequest(
                    execution=ExecutionId(bytes(16)), execution_arn="arn", machine_name="m", task=first + number, state="S",
                    attempt=0, delivery=1, resource=resource, payload=Document.of(number), idempotency_key="k", step_id="s",
                    claim_key="c",
                )
            )
            for number in range(tasks)
        )
    )  # fmt: skip
    await done.wait()
    rate = tasks / (time.perf_counter() - began)
    await target.close()
    await consumer.close()
    return rate


async def main(tasks: int, rounds: int, pool: str) -> None:
    with server_place() as place, EmbeddedValkey(place).acquire() as valkey:
        server = await asyncio.get_running_loop().create_server(Grants, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "bench.micro.celery_tasks:app",
            "worker",
            "-P",
            pool,
            "-c",
            "2",
        ]
        worker = subprocess.Popen(  # noqa: ASYNC220 - nothing else is to be done meanwhile
            [*command, "-l", "ERROR", "--without-gossip", "--without-mingle"],
            env={**os.environ, "STEPWELL_BROKER_URL": valkey.url, "STEPWELL_URL": url},
        )
        try:
            await asyncio.to_thread(raw_round, valkey.url, 50)  # until the worker is warm
            for number in range(rounds):
                raw = await asyncio.to_thread(raw_round, valkey.url, tasks)
                claimed = await claimed_round(valkey.url, tasks, number * tasks)
                print(f"{pool}: raw {raw:7,.0f}/s   claimed and reported {claimed:7,.0f}/s   {claimed / raw:4.0%}")
        finally:
            worker.terminate()
            worker.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pool", default="solo")
    options = parser.parse_args()
    asyncio.run(main(options.tasks, options.rounds, options.pool))
