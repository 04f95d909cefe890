"""One whole Stepwell for the session: `stepwell up` with everything a user has, the services of the examples, and a ledger outside.

Whoever uses it makes names of their own (`fresh`): the tests share its database.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from stepwell.cli.demonstration import buckets_of, find_examples, stand_ins
from stepwell.cli.embedded.postgres import EmbeddedPostgres
from stepwell.cli.embedded.valkey import EmbeddedValkey
from tests.cli.conftest import COMMAND, Up, clean_environment
from tests.conftest import ROOT
from tests.support.embedded import server_place, wait_until_stopped
from tests.support.ledger import Ledger
from tests.support.processes import RunningProcess

ENOUGH_SECONDS = 60
NUMBERS = itertools.count(1)


def fresh(what: str) -> str:
    """A name that no other test uses."""
    return f"{what}-{next(NUMBERS)}"


def machine(**states: dict[str, Any]) -> dict[str, Any]:
    """A definition: states one after the other, but for those that say where they lead."""
    names = list(states)
    for name, following in zip(names, [*names[1:], None], strict=True):
        state = states[name]
        if state["Type"] not in ("Choice", "Succeed", "Fail") and not {"Next", "End"} & set(state):
            states[name] = {**state, **({"Next": following} if following else {"End": True})}
    return {"StartAt": names[0], "States": states}


PASS = machine(Pass={"Type": "Pass"})
WAITING = machine(Wait={"Type": "Wait", "Seconds": 600})


@dataclass(frozen=True)
class Stepwell(Up):
    """The server, and those outside of it whom its tasks call."""

    api: httpx.Client
    ledger: Ledger
    stand_ins: str

    def effect(self, name: str, **extra: Any) -> dict[str, Any]:
        """A Task state that calls the ledger, which writes it down under this name."""
        return {
            "Type": "Task",
            "Resource": f"{self.ledger.url}/effects/{name}",
            "Parameters": {"execution.$": "$$.Execution.Name"},
            **extra,
        }

    def deploy(self, definition: Mapping[str, Any], name: str | None = None) -> str:
        """Make a state machine; its name."""
        name = name or fresh("machine")
        answer = self.api.put(f"/v1/state-machines/{name}", json={"definition": definition})
        assert answer.status_code in (200, 201), answer.text
        return name

    def start(self, machine: str, input: Any = None, **query: Any) -> httpx.Response:
        """Ask for a start; the answer, whatever it is."""
        return self.api.post(
            f"/v1/state-machines/{machine}/executions", json={} if input is None else {"input": input}, params=query
        )

    def ended(self, reference: str) -> Any:
        """The execution when it has ended."""
        shown = self.api.get(f"/v1/executions/{reference}", params={"wait": ENOUGH_SECONDS}).json()
        assert shown["status"] != "RUNNING", shown
        return shown


@pytest.fixture(scope="session")
def ledger() -> Iterator[Ledger]:
    with Ledger() as ledger:
        yield ledger


@pytest.fixture(scope="session")
def server(ledger: Ledger) -> Iterator[Stepwell]:
    """`stepwell up` with a database, a broker, a function host and a Celery worker of its own."""
    with ExitStack() as life:
        services = life.enter_context(stand_ins(ROOT))
        place = life.enter_context(server_place())
        life.callback(wait_until_stopped, EmbeddedPostgres(place / "postgres"))
        life.callback(wait_until_stopped, EmbeddedValkey(place / "valkey"))
        environment = clean_environment(
            STEPWELL_FUNCTION_MODULES="asl_examples.functions",
            STEPWELL_CELERY_APP="asl_examples.celery_app:app",
            STEPWELL_HTTP_ALLOW="127.0.0.1",
            STEPWELL_BUCKETS=buckets_of(find_examples()),
            PYTHONPATH=str(ROOT),
        )
        started: list[str | Path] = [*COMMAND, "up", "--port", "0", "--workers", "1", "--data-dir", place]
        process = life.enter_context(RunningProcess(started, environment=environment, directory=place))
        url = process.ready_url(120)
        api = life.enter_context(httpx.Client(base_url=url, timeout=2 * ENOUGH_SECONDS, trust_env=False))
        yield Stepwell(process, url, place, api, ledger, services)
        assert 'status="500"' not in api.get("/metrics").text, process.output
        process.terminate()
        assert process.wait() == 0, process.output


@pytest.fixture
def sfn(server: Stepwell, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """boto3 as a user has it: credentials that mean nothing in the environment, and the endpoint."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("stepfunctions", endpoint_url=server.url)
    yield client
    client.close()
