"""A cluster of real processes over one database and one broker, and the way a patient caller speaks to it.

Nodes are `stepwell up` over given servers: API and engine in one process. A node can be started with a failpoint armed, or
with one of its protections patched out (`tests.fault.unprotected`), never with both hidden in production code.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx

from stepwell.engine.store.check import check
from stepwell.engine.store.pool import connect
from tests.conftest import ROOT
from tests.fixtures.processes import StartProcess
from tests.support.ledger import Ledger
from tests.support.processes import RunningProcess
from tests.support.sql import run_sql

DEADLINE: Final = 60.0
LEASE_SECONDS: Final = 2.0
PAUSE: Final = 0.02

TERMINAL: Final = frozenset({"SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"})


def until(condition: Callable[[], object], what: str = "the condition", deadline: float = DEADLINE) -> None:
    """Ask until the condition holds; fail when time is up first."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {deadline:g} s"
        time.sleep(PAUSE)


class Api:
    """A caller that asks again when the server is away or answers 503, under the same name: what is accepted is counted once."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = httpx.Client(base_url=url, timeout=30.0, trust_env=False)
        self.unavailable = 0
        """How often it was told, or found, that the server cannot answer now."""

    def call(self, method: str, path: str, body: Any = None, *, deadline: float = DEADLINE) -> httpx.Response:
        """A request, asked again until it is answered with anything but a server's error."""
        end = time.monotonic() + deadline
        while True:
            said = ""
            try:
                answer = self.client.request(method, path, json=body)
                if answer.status_code < 500:
                    return answer
                said = f"{answer.status_code} {answer.text}"
                assert answer.status_code == 503, said
            except httpx.TransportError as error:
                said = repr(error)
            self.unavailable += 1
            assert time.monotonic() < end, f"{method} {path}: not answered within {deadline:g} s: {said}"
            time.sleep(PAUSE)

    def deploy(self, name: str, definition: dict[str, Any]) -> str:
        answer = self.call("PUT", f"/v1/state-machines/{name}", {"definition": definition})
        assert answer.status_code in (200, 201), answer.text
        return name

    def start(self, machine: str, name: str, input: Any = None) -> str:
        """Start until it is known to be started; the execution's id."""
        answer = self.call("POST", f"/v1/state-machines/{machine}/executions", {"name": name, "input": input or {}})
        assert answer.status_code in (200, 201), answer.text
        return str(answer.json()["id"])

    def try_start(self, machine: str, name: str, input: Any = None) -> int | None:
        """Ask once; the answer's status, None if there was none."""
        body = {"name": name, "input": input or {}}
        try:
            return self.client.post(f"/v1/state-machines/{machine}/executions", json=body).status_code
        except httpx.TransportError:
            return None

    def describe(self, id: str, wait: float = 0) -> dict[str, Any]:
        answer = self.call("GET", f"/v1/executions/{id}" + (f"?wait={wait:g}" if wait else ""))
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    def ended(self, id: str, deadline: float = DEADLINE) -> dict[str, Any]:
        """Wait for the end."""
        end = time.monotonic() + deadline
        while True:
            shown = self.describe(id, wait=5)
            if shown["status"] in TERMINAL:
                return shown
            assert time.monotonic() < end, f"{shown} has not ended within {deadline:g} s"

    def event_types(self, id: str) -> list[str]:
        answer = self.call("GET", f"/v1/executions/{id}/history?limit=1000")
        assert answer.status_code == 200, answer.text
        return [event["type"] for event in answer.json()["items"]]


class Node:
    """One node's process and its API."""

    def __init__(self, process: RunningProcess) -> None:
        self.process = process
        self.api = Api(process.ready_url())

    def died(self) -> None:
        """Wait for the failpoint to strike."""
        assert self.process.wait() == -9, self.process.output


class Cluster:
    """Starts nodes and workers over one database and broker."""

    def __init__(self, start: StartProcess, database: str, broker: str, ledger: Ledger, place: Path) -> None:
        self._start = start
        self.database = database
        self.broker = broker
        self.ledger = ledger
        self._place = place
        self._processes: list[RunningProcess] = []
        self._apis: list[Api] = []

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up, and say what all processes said; pytest shows it for a test that fails."""
        for api in self._apis:
            api.client.close()
        for process in self._processes:
            sys.stdout.write(f"{process} ({process.returncode}) said:\n{process.output}\n")

    def keep(self, api: Api) -> None:
        """Hang up at the end."""
        self._apis.append(api)

    def node(
        self, *, failpoint: str | None = None, without: str | None = None, database: str | None = None, port: int = 0,
        **settings: str,
    ) -> Node:  # fmt: skip
        """An engine node with an API. `without` names a protection that it lacks; `settings` are STEPWELL_* by their end."""
        node = Node(self.process("up", "--port", str(port), "--workers", "0", failpoint=failpoint, without=without,
                                 database=database, **settings))  # fmt: skip
        self.keep(node.api)
        return node

    def process(
        self, *arguments: str, failpoint: str | None = None, without: str | None = None, database: str | None = None,
        **settings: str,
    ) -> RunningProcess:  # fmt: skip
        """A `stepwell` command."""
        module = ["tests.fault.unprotected", without] if without else ["stepwell.cli.main"]
        environment = {
            "STEPWELL_DATABASE_URL": database or self.database,
            "STEPWELL_BROKER_URL": self.broker,
            "STEPWELL_DATA_DIR": str(self._place),
            "STEPWELL_LEASE_SECONDS": str(LEASE_SECONDS),
            "STEPWELL_HTTP_ALLOW": "127.0.0.1",
            "STEPWELL_FAILPOINT": failpoint or "",
            **{f"STEPWELL_{name.upper()}": value for name, value in settings.items()},
        }
        process = self._start([sys.executable, "-m", *module, *arguments], environment=environment, directory=ROOT)
        self._processes.append(process)
        return process

    def worker(self, url: str, *, pool: str = "solo", concurrency: int = 1) -> RunningProcess:
        """A Celery worker that claims at the API at `url`; returns when it takes messages."""
        process = self._start(
            [sys.executable, "-m", "stepwell.cli.main", "worker", "--app", "tests.fault.tasks:app", "--pool", pool,
             "--concurrency", str(concurrency), "--", "-n", f"w{time.monotonic_ns()}@here"],
            environment={"STEPWELL_URL": url, "STEPWELL_BROKER_URL": self.broker},
            directory=ROOT,
        )  # fmt: skip
        self._processes.append(process)
        process.wait_for(r"ready\.")
        return process

    def books(self) -> Path:
        """A directory that nodes can be given as a bucket."""
        place = self._place / "books"
        place.mkdir(exist_ok=True)
        return place

    # -- what the database says --------------------------------------------------------------------------------------

    def sql(self, statement: str) -> list[Any]:
        """The first column of a statement's rows."""
        return run_sql(self.database, statement)

    def shards_owned(self) -> int:
        """How many shards live nodes own."""
        return int(self.sql(
            "SELECT count(*) FROM shard s JOIN node n ON n.incarnation = s.owner WHERE n.expires_at > clock_timestamp()"
        )[0])  # fmt: skip

    def findings(self) -> list[str]:
        """What `stepwell db check` reports."""

        async def run() -> list[str]:
            connection = await connect(self.database, statement_timeout_ms=0)
            try:
                found = await check(connection)
            finally:
                await connection.close()
            return [f"{one.invariant} ({one.count}): {one.examples}" for one in found]

        return asyncio.run(run())


# -------------------------------------------------------------------------------------------------------------- machines


def http_state(ledger: Ledger, name: str, **extra: Any) -> dict[str, Any]:
    """A state that calls the ledger by HTTP."""
    return {
        "Type": "Task",
        "Resource": f"{ledger.url}/effects/{name}",
        "Parameters": {"execution.$": "$$.Execution.Id"},
        **extra,
    }


def celery_state(ledger: Ledger, **extra: Any) -> dict[str, Any]:
    """A state whose Celery task reports to the ledger."""
    return {"Type": "Task", "Resource": "celery:ledger.effect", "Parameters": {"ledger": ledger.url}, **extra}


def function_state(ledger: Ledger, **extra: Any) -> dict[str, Any]:
    """A state whose function reports to the ledger."""
    resource = "arn:aws:lambda:us-east-1:000000000000:function:ledger-effect"
    return {"Type": "Task", "Resource": resource, "Parameters": {"ledger": ledger.url}, **extra}


def sequence(**states: dict[str, Any]) -> dict[str, Any]:
    """States one after the other."""
    names = list(states)
    for name, following in zip(names, [*names[1:], None], strict=True):
        states[name] = {**states[name], **({"Next": following} if following else {"End": True})}
    return {"StartAt": names[0], "States": states}
