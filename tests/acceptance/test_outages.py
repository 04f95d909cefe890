"""Postgres away, the broker away: what was accepted is completed when they are back, and until then callers are told to ask again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from stepwell.cli.embedded.lifecycle import EmbeddedService, Handle
from stepwell.cli.embedded.postgres import EmbeddedPostgres
from stepwell.cli.embedded.valkey import EmbeddedValkey
from tests.acceptance.conftest import ENOUGH_SECONDS, Stepwell, fresh, machine
from tests.cli.conftest import COMMAND, clean_environment
from tests.conftest import ROOT
from tests.support.embedded import server_place, wait_until_stopped
from tests.support.ledger import Ledger
from tests.support.processes import RunningProcess

pytestmark = [pytest.mark.slow, pytest.mark.fault, pytest.mark.xdist_group("acceptance-outages")]

COUNT = 8
LEASE_SECONDS = 2


@dataclass
class Servant:
    """A database or broker that the test stops and starts; its address stays."""

    service: EmbeddedService
    handle: Handle

    def release(self) -> None:
        self.handle.release()

    def stop(self) -> None:
        self.release()
        wait_until_stopped(self.service)

    def start(self) -> None:
        before = self.handle.url
        self.handle = self.service.acquire()
        assert self.handle.url == before


@dataclass(frozen=True)
class Dependent:
    """A `stepwell up` over a database and a broker that can be taken away."""

    server: Stepwell
    postgres: Servant
    valkey: Servant


@pytest.fixture(scope="module")
def dependent() -> Iterator[Dependent]:
    with ExitStack() as life:
        ledger = life.enter_context(Ledger())
        place = life.enter_context(server_place())
        servants = []
        for service in (EmbeddedPostgres(place / "postgres"), EmbeddedValkey(place / "valkey")):
            life.callback(wait_until_stopped, service)
            servants.append(Servant(service, service.acquire()))
        for servant in servants:
            life.callback(servant.release)
        environment = clean_environment(
            STEPWELL_DATABASE_URL=servants[0].handle.url,
            STEPWELL_BROKER_URL=servants[1].handle.url,
            STEPWELL_HTTP_ALLOW="127.0.0.1",
            STEPWELL_LEASE_SECONDS=str(LEASE_SECONDS),
            STEPWELL_CELERY_APP="tests.fault.tasks:app",
            PYTHONPATH=str(ROOT),
        )
        started: list[str | Path] = [*COMMAND, "up", "--port", "0", "--workers", "1", "--data-dir", place / "data"]
        process = life.enter_context(RunningProcess(started, environment=environment, directory=place))
        url = process.ready_url(120)
        api = life.enter_context(httpx.Client(base_url=url, timeout=120, trust_env=False))
        yield Dependent(Stepwell(process, url, place / "data", api, ledger, ""), *servants)
        process.terminate()
        assert process.wait() == 0, process.output


def again(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """Ask as the answer 503 tells to: until it is another one."""
    end = time.monotonic() + 2 * ENOUGH_SECONDS
    while (answer := ask()).status_code == 503:
        assert time.monotonic() < end, f"it never became available: {answer.text}"
    return answer


def started(server: Stepwell, machine: str, input: Any = None, **query: Any) -> Any:
    """A start that was accepted: a busy machine may keep the server from renewing its short lease in time."""
    return again(lambda: server.start(machine, input, **query)).json()


def test_without_postgres_callers_are_told_and_afterwards_all_is_completed(dependent: Dependent) -> None:
    server = dependent.server
    effects = {name: fresh(name) for name in ("First", "Second")}
    name = server.deploy(
        machine(
            First=server.effect(effects["First"], ResultPath=None),
            Rest={"Type": "Wait", "Seconds": 1},
            Second=server.effect(effects["Second"], ResultPath=None),
        )
    )
    path = f"/v1/state-machines/{name}/executions"
    server.ledger.hold(effects["First"])
    accepted = [started(server, name, number)["id"] for number in range(COUNT)]
    server.ledger.wait_for_count(effects["First"], COUNT)

    dependent.postgres.stop()
    server.ledger.release(effects["First"])  # the outcomes come when nobody can write them down
    for method, where, body in (
        ("POST", path, {"name": "in-the-dark", "input": "late"}),
        ("GET", f"/v1/executions/{accepted[0]}", None),
        ("GET", "/v1/executions", None),
        ("POST", f"/v1/executions/{accepted[0]}/stop", None),
        ("PUT", "/v1/state-machines/other", {"definition": machine(A={"Type": "Pass"})}),
    ):
        answer = server.api.request(method, where, json=body)
        assert answer.status_code == 503, answer.text
        assert (answer.json()["code"], answer.headers["retry-after"]) == ("ServiceUnavailable", "1")
    sfn = boto3.client(
        "stepfunctions", endpoint_url=server.url, region_name="us-east-1", aws_access_key_id="any",
        aws_secret_access_key="any", config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip
    with pytest.raises(ClientError) as caught:
        sfn.list_state_machines()
    assert caught.value.response["Error"]["Code"] == "ServiceUnavailable"
    sfn.close()
    assert server.api.get("/healthz").status_code == 200
    assert server.api.get("/readyz").status_code == 503
    ran = server.run("list")
    assert ran.returncode != 0
    assert "Traceback" not in ran.stderr

    dependent.postgres.start()
    late = again(lambda: server.api.post(path, json={"name": "in-the-dark", "input": "late"}))
    assert late.status_code in (200, 201)
    for number, id in enumerate(accepted):
        ended = again(partial(server.api.get, f"/v1/executions/{id}", params={"wait": 60})).json()
        assert (ended["status"], ended["output"]) == ("SUCCEEDED", number)
    assert server.ended(late.json()["id"])["output"] == "late"
    assert len(server.api.get("/v1/executions", params={"stateMachine": name}).json()["items"]) == COUNT + 1
    for effect in effects.values():
        assert len(server.ledger.keys(effect)) == COUNT + 1  # one attempt for each, however often it was made
    assert server.api.get("/readyz").status_code == 200
    assert server.json("db", "check", STEPWELL_DATABASE_URL=dependent.postgres.handle.url)["ok"] is True


def test_without_the_broker_others_go_on_and_afterwards_its_tasks_are_done(dependent: Dependent) -> None:
    server = dependent.server
    effect = fresh("plain")
    task: dict[str, Any] = {
        "Type": "Task",
        "Resource": "celery:ledger.effect",
        "Parameters": {"ledger": server.ledger.url},
        "ResultPath": None,
    }
    state = fresh("Celery")
    celery = server.deploy(machine(**{state: task}))
    plain = server.deploy(machine(Plain=server.effect(effect, ResultPath=None)))
    assert started(server, celery, wait=60)["status"] == "SUCCEEDED"

    server.ledger.hold(state)
    running = started(server, celery, 0)["id"]
    server.ledger.wait_for_count(state, 2)
    dependent.valkey.stop()
    waiting = [started(server, celery, number)["id"] for number in range(1, COUNT)]
    for number in range(COUNT):
        ended = started(server, plain, number, wait=60)
        assert (ended["status"], ended["output"]) == ("SUCCEEDED", number)
    assert {server.api.get(f"/v1/executions/{id}").json()["status"] for id in waiting} == {"RUNNING"}
    server.ledger.release(state)
    assert server.ended(running)["output"] == 0  # its outcome came another way

    dependent.valkey.start()
    for number, id in enumerate([running, *waiting]):
        ended = server.ended(id)
        assert (ended["status"], ended["output"]) == ("SUCCEEDED", number)
    # a claimed task runs once, whatever the broker forgot
    assert len(server.ledger.of(state)) == COUNT + 1
