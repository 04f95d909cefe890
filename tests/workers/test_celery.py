"""Celery tasks with a real broker and real worker processes: claims, outcomes, retries, limits, losses, duplicates."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import kombu
import msgspec
import pytest
import redis
from celery import Celery

from stepwell.engine.asl.resources import parse_resource
from stepwell.engine.errors import StoreUnavailableError, TargetUnavailableError
from stepwell.engine.ids import ExecutionId
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.events import TaskFailed
from stepwell.engine.messages import RESULTS_QUEUE, Outcome
from stepwell.engine.ports import TaskAnswer, TaskRequest
from stepwell.engine.targets import celery_results
from stepwell.engine.targets.broker import Message, Publisher
from stepwell.engine.targets.celery import CeleryTarget
from stepwell.engine.targets.celery_results import ResultsConsumer
from tests.conftest import ROOT
from tests.fixtures.processes import StartProcess
from tests.support.processes import RunningProcess
from tests.support.waiting import until
from tests.workers.engine_stand_in import KEY, EngineStandIn

EXECUTION = ExecutionId(bytes(range(16)))
ARN = "arn:aws:states:us-east-1:000000000000:execution:m:e"
_numbers = itertools.count(1)


def request(resource: str, payload: Any = None, **changes: Any) -> TaskRequest:
    parsed = parse_resource(resource)
    assert parsed is not None
    task = next(_numbers)
    fields: dict[str, Any] = {
        "execution": EXECUTION, "execution_arn": ARN, "machine_name": "m", "task": task, "state": "Pay", "attempt": 2,
        "delivery": 1, "resource": parsed, "payload": Document.of(payload), "idempotency_key": f"idem-{task}",
        "step_id": "step", "claim_key": f"claim-{task}",
    }  # fmt: skip
    return TaskRequest(**{**fields, **changes})


@pytest.fixture
def engine() -> Iterator[EngineStandIn]:
    with EngineStandIn() as stand_in:
        yield stand_in


@pytest.fixture
async def celery(valkey: str) -> AsyncIterator[CeleryTarget]:
    target = CeleryTarget(Publisher(valkey))
    yield target
    await target.close()


@pytest.fixture
async def results(valkey: str, engine: EngineStandIn) -> AsyncIterator[ResultsConsumer]:
    consumer = ResultsConsumer(valkey, engine.on_outcome)
    await consumer.start()
    yield consumer
    await consumer.close()


class Workers:
    """Starts worker processes of the sample app."""

    def __init__(self, start: StartProcess, broker: str, engine: EngineStandIn) -> None:
        self._start = start
        self._environment = {"SHOP_BROKER": broker, "STEPWELL_URL": engine.url, "STEPWELL_API_KEY": KEY}

    def worker(
        self, pool: str = "solo", *, concurrency: int = 1, queue: str = "celery", hook: bool = True
    ) -> RunningProcess:
        process = self._start(
            [
                sys.executable, "-m", "celery", "-A", "tests.workers.sample_celery", "worker", "-P", pool, "-Q", queue,
                "-c", str(concurrency), "-l", "INFO", "-n", f"w{next(_numbers)}@here",
                "--without-gossip", "--without-mingle", "--without-heartbeat",
            ],
            environment={**self._environment, "SHOP_HOOK": "on" if hook else "off"},
            directory=ROOT,
        )  # fmt: skip
        process.wait_for(r"ready\.")
        return process


@pytest.fixture
def workers(start_process: StartProcess, valkey: str, engine: EngineStandIn) -> Workers:
    return Workers(start_process, valkey, engine)


def result(outcome: Outcome) -> Any:
    assert outcome.output is not msgspec.UNSET, outcome
    return json.loads(bytes(outcome.output))


async def outcome(engine: EngineStandIn, task: TaskRequest) -> Outcome:
    key = EXECUTION.hex(), task.task
    await until(lambda: key in engine.outcomes)
    return engine.outcomes[key]


async def perform(celery: CeleryTarget, engine: EngineStandIn, resource: str, payload: Any = None) -> Outcome:
    task = request(resource, payload)
    assert await celery.perform(task) is None
    return await outcome(engine, task)


@pytest.mark.usefixtures("results")
async def test_any_task_of_a_foreign_app_is_claimed_run_and_reported(
    celery: CeleryTarget, engine: EngineStandIn, workers: Workers
) -> None:
    workers.worker("solo")
    done = await perform(celery, engine, "celery:shop.echo", {"a": [1, "ü", None]})
    assert result(done) == {"a": [1, "ü", None]}
    assert (done.key, done.worker) == (engine.claims[0].key, engine.claims[0].worker)
    assert engine.reports and engine.reports[0].worker == done.worker, (
        "the engine knows a worker before it grants it a task"
    )

    assert result(await perform(celery, engine, "celery:shop.add?call=kwargs", {"a": 2, "b": 3})) == 5
    assert result(await perform(celery, engine, "celery:shop.add?call=args", [2])) == 3
    assert result(await perform(celery, engine, "celery:shop.outer", "x")) == ["x", 3]
    about = result(await perform(celery, engine, "celery:shop.about"))
    assert about.pop("key").startswith("idem-")
    assert about == {"arn": ARN, "state": "Pay", "attempt": 2, "step": "step", "alive": True}

    failed = await perform(celery, engine, "celery:shop.fail")
    cause = json.loads(failed.cause or "")
    assert (failed.error, cause["errorType"], cause["errorMessage"]) == ("StockError", "StockError", "no stock")
    assert len(cause["stackTrace"]) == 1 and "in fail" in cause["stackTrace"][0]
    assert (await perform(celery, engine, "celery:shop.unusable")).error == "Runtime.MarshalError"
    assert (await perform(celery, engine, "celery:shop.ignore")).error == "Ignore"


@pytest.mark.usefixtures("results")
async def test_envelope_text_is_put_around_the_result(
    celery: CeleryTarget, engine: EngineStandIn, workers: Workers
) -> None:
    workers.worker()
    task = request("arn:aws:states:::lambda:invoke", {"FunctionName": "f"})
    await celery.send(task, "shop.echo", b'{"n":1}', around=(b'{"Payload":', b',"StatusCode":200}'))
    done = await outcome(engine, task)
    assert result(done) == {"Payload": {"n": 1}, "StatusCode": 200}


@pytest.mark.usefixtures("results")
async def test_a_second_copy_is_refused_and_dropped(
    celery: CeleryTarget, engine: EngineStandIn, workers: Workers, tmp_path: Path
) -> None:
    """Copies before, beside and after the run, on two workers, run once in all."""
    worker = workers.worker("prefork", concurrency=2)
    log = tmp_path / "log"
    task = request("celery:shop.echo", {"log": str(log)})
    for _ in range(5):
        await celery.perform(task)
    await outcome(engine, task)
    await celery.perform(task)
    await until(lambda: worker.output.count("] ignored") == 5)
    assert log.read_text() == "x"


@pytest.mark.usefixtures("results")
async def test_a_later_delivery_of_a_finished_task_is_the_engines_to_grant(
    celery: CeleryTarget, engine: EngineStandIn, workers: Workers, tmp_path: Path
) -> None:
    """The broker lost the outcome; the engine delivers again, and the same process takes it."""
    workers.worker("solo")
    log = tmp_path / "log"
    task = request("celery:shop.echo", {"log": str(log)})
    await celery.perform(task)
    await outcome(engine, task)
    with engine.changed:
        engine.outcomes.clear()
    await celery.perform(dataclasses.replace(task, delivery=2))
    await outcome(engine, task)
    assert log.read_text() == "xx"


@pytest.mark.usefixtures("results")
async def test_a_retry_of_celerys_keeps_the_claim_and_duplicates_stay_out(
    celery: CeleryTarget, engine: EngineStandIn, workers: Workers, tmp_path: Path
) -> None:
    workers.worker("prefork", concurrency=2)
    log = tmp_path / "log"
    task = request("celery:shop.flaky", {"log": str(log)})
    await celery.perform(task)
    await celery.perform(task)
    done = await outcome(engine, task)
    assert result(done) == {"retries": 2}
    assert log.read_text() == "xxx"


@pytest.mark.usefixtures("results")
async def test_time_limits_end_as_failures(celery: CeleryTarget, engine: EngineStandIn, workers: Workers) -> None:
    workers.worker("prefork")
    assert (await perform(celery, engine, "celery:shop.hang")).error == "TimeLimitExceeded"
    limited = request("celery:shop.soft_hang", timeout_seconds=1)
    await celery.perform(limited)
    assert (await outcome(engine, limited)).error == "SoftTimeLimitExceeded"


@pytest.mark.usefixtures("results")
async def test_a_lost_process_gives_up_its_lease_and_the_task_can_be_delivered_again(
    celery: CeleryTarget, engine: EngineStandIn, workers: Workers
) -> None:
    workers.worker("prefork")
    task = request("celery:shop.die")
    await celery.perform(task)
    await until(lambda: any(report.ended for report in engine.reports))
    ended = next(report for report in engine.reports if report.ended)
    assert ended.worker == engine.claims[0].worker
    assert not engine.outcomes, "it is for the engine to say whether the task is given up"
    assert result(await perform(celery, engine, "celery:shop.echo", 1)) == 1, "the worker lives"


@pytest.mark.usefixtures("results")
async def test_a_revoked_task_fails_its_state(
    celery: CeleryTarget, engine: EngineStandIn, workers: Workers, valkey: str, tmp_path: Path
) -> None:
    """Revoked while it waits behind another task, and while it runs."""
    worker = workers.worker("prefork")
    began, release = tmp_path / "began", tmp_path / "until"
    running = request("celery:shop.wait", {"began": str(began), "until": str(release)})
    waiting = request("celery:shop.echo", 1)
    await celery.perform(running)
    await until(began.exists)
    await celery.perform(waiting)
    ids = worker.wait_for(r"shop\.wait\[(\S+)\] received[^$]*shop\.echo\[(\S+)\] received").groups()
    with Celery(broker=valkey) as client:
        client.control.revoke(ids[1])
        client.control.revoke(ids[0], terminate=True)
    assert (await outcome(engine, running)).error == "TaskRevokedError"
    assert (await outcome(engine, waiting)).error == "TaskRevokedError"


@pytest.mark.usefixtures("results")
async def test_tasks_of_stepwells_own_app_need_nothing_but_the_decorator(
    celery: CeleryTarget, engine: EngineStandIn, start_process: StartProcess, valkey: str
) -> None:
    worker = start_process(
        [
            sys.executable, "-m", "celery", "-A", "stepwell.workers.app", "worker", "-P", "threads", "-c", "4", "-l", "INFO",
            "--include", "tests.workers.sample_sdk", "--without-gossip", "--without-mingle",
        ],
        environment={"STEPWELL_BROKER_URL": valkey, "STEPWELL_URL": engine.url, "STEPWELL_API_KEY": KEY},
        directory=ROOT,
    )  # fmt: skip
    worker.wait_for(r"ready\.")
    assert result(await perform(celery, engine, "celery:orders.charge", {"total": 3})) == {"charged": 3}
    several = [request("celery:tests.workers.sample_sdk.plain", number) for number in range(40)]
    await asyncio.gather(*(celery.perform(task) for task in several))
    assert [result(await outcome(engine, task)) for task in several] == list(range(40))
    assert len({claim.worker for claim in engine.claims}) == 1, "a process is one worker"


@pytest.mark.usefixtures("results")
async def test_messages_without_the_header_are_untouched(
    celery: CeleryTarget, engine: EngineStandIn, workers: Workers, valkey: str, tmp_path: Path
) -> None:
    worker = workers.worker("solo")
    with Celery(broker=valkey) as client:
        client.send_task("shop.echo", [{"log": str(tmp_path / "log")}], ignore_result=True)
        client.send_task("shop.fail", [1], ignore_result=True)
    worker.wait_for("StockError")
    assert (tmp_path / "log").read_text() == "x"
    assert not engine.claims and not engine.outcomes and not engine.reports


@pytest.mark.usefixtures("results")
async def test_queue_and_priority_come_from_the_resource(
    celery: CeleryTarget, engine: EngineStandIn, workers: Workers
) -> None:
    workers.worker(queue="gold")
    assert result(await perform(celery, engine, "celery:shop.echo?queue=gold&priority=3", 1)) == 1


@pytest.mark.parametrize(
    ("resource", "payload"),
    (
        ("celery:t?color=red", 1),
        ("celery:t?priority=high", 1),
        ("celery:t?queue=stepwell.results", 1),
        ("celery:t?queue=_kombu.binding.celery", 1),
        ("celery:t?queue=a%0Ab", 1),
        ("celery:t?call=kwargs", [1]),
        ("celery:t?call=args", {}),
    ),
)
async def test_what_cannot_be_sent_fails_the_task(celery: CeleryTarget, resource: str, payload: Any) -> None:
    answer = await celery.perform(request(resource, payload))
    assert isinstance(answer, TaskFailed)
    assert answer.error == "States.Runtime"


async def test_outcomes_go_to_the_api_where_the_broker_cannot_take_them(
    celery: CeleryTarget, engine: EngineStandIn, workers: Workers, valkey: str
) -> None:
    """The results queue is made unusable; the worker's own queue is not."""
    workers.worker("solo")
    with kombu.Connection(valkey) as connection:
        connection.default_channel.client.set(RESULTS_QUEUE, "not a list")
    done = await perform(celery, engine, "celery:shop.echo", 7)
    assert result(done) == 7
    assert engine.by_http == [done]


@pytest.mark.usefixtures("results")
async def test_a_worker_holds_a_task_back_while_the_engine_cannot_be_asked(
    celery: CeleryTarget, engine: EngineStandIn, workers: Workers
) -> None:
    worker = workers.worker("solo")
    engine.refuse = True
    task = request("celery:shop.echo", 1)
    await celery.perform(task)
    worker.wait_for("Cannot ask for a task")
    with engine.changed:
        engine.refuse = False
    assert result(await outcome(engine, task)) == 1


async def test_a_broker_that_is_away_is_said_to_be_and_found_again(start_process: StartProcess) -> None:
    publisher = Publisher("redis://127.0.0.1:1/0")
    target = CeleryTarget(publisher)
    try:
        for _ in range(2):
            with pytest.raises(TargetUnavailableError, match="broker"):
                await asyncio.gather(*(target.perform(request("celery:t", 1)) for _ in range(3)))
    finally:
        await target.close()


async def test_a_queue_that_cannot_be_written_holds_up_no_other(valkey: str) -> None:
    with redis.Redis.from_url(valkey) as client:
        client.set("somebody-elses-key", "no list")
        publisher = Publisher(valkey)
        names = ["somebody-elses-key", "good", "somebody-elses-key", "good", "good"]
        told = await asyncio.gather(
            *(publisher.publish(Message(name, b"{}", {})) for name in names), return_exceptions=True
        )
        await publisher.close()
        assert [isinstance(one, TargetUnavailableError) for one in told] == [name != "good" for name in names]
        assert client.llen("good") == 3


def put_outcomes(broker: str, count: int) -> list[Outcome]:
    outcomes = [Outcome(EXECUTION.hex(), number, "key", output=msgspec.Raw(b"1")) for number in range(count)]
    with kombu.Connection(broker) as connection, connection.channel() as channel:
        producer = kombu.Producer(channel)
        for one in outcomes:
            producer.publish(
                msgspec.json.encode(one), exchange="", routing_key=RESULTS_QUEUE, content_type="application/json",
                content_encoding="utf-8",
            )  # fmt: skip
    return outcomes


CONSUMER = """
import asyncio, sys
from stepwell.engine.targets.celery_results import ResultsConsumer

async def on_outcome(outcome):
    print("storing", outcome.task, flush=True)
    await asyncio.Event().wait()

async def main():
    consumer = ResultsConsumer(sys.argv[1], on_outcome, visibility_seconds=5)
    await consumer.start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_an_outcome_is_acknowledged_only_when_it_is_durable(
    valkey: str, engine: EngineStandIn, start_process: StartProcess
) -> None:
    """A consumer is killed while it stores; the outcome comes to the next one."""
    put_outcomes(valkey, 3)
    first = start_process([sys.executable, "-c", CONSUMER, valkey], directory=ROOT)
    first.wait_for("storing")
    first.kill()
    second = ResultsConsumer(valkey, engine.on_outcome, visibility_seconds=5)
    await second.start()
    try:
        await until(lambda: len(engine.outcomes) == 3)
    finally:
        await second.close()


@pytest.mark.parametrize("way", ("redis", "kombu"))
async def test_an_outcome_the_store_cannot_take_comes_again_and_garbage_is_dropped(
    valkey: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "kombu":  # as for a broker that is no Redis
        monkeypatch.setattr(celery_results, "redis_url", lambda url: None)
    stored: list[Outcome] = []
    refusals = 3

    async def on_outcome(outcome: Outcome) -> TaskAnswer:
        nonlocal refusals
        if outcome.task == 1 and refusals:
            refusals -= 1
            raise StoreUnavailableError("away")
        stored.append(outcome)
        return TaskAnswer.ACCEPTED

    with kombu.Connection(valkey) as connection, connection.channel() as channel:
        kombu.Producer(channel).publish(b"{nonsense", routing_key=RESULTS_QUEUE, content_type="application/json",
                                        content_encoding="utf-8")  # fmt: skip
    put_outcomes(valkey, 3)
    consumer = ResultsConsumer(valkey, on_outcome)
    await consumer.start()
    try:
        await until(lambda: len(stored) == 3)
    finally:
        await consumer.close()
    assert sorted(one.task for one in stored) == [0, 1, 2]
    assert refusals == 0
    with kombu.Connection(valkey) as connection:
        client = connection.default_channel.client
        assert client.llen(RESULTS_QUEUE) == 0
        assert client.hlen(f"{RESULTS_QUEUE}.unacked") == 0
        assert not client.keys(f"{RESULTS_QUEUE}.taken:*")
