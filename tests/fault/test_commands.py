"""Commands that an engine had answered, or had not, when it was killed before what they change was written."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait

import httpx
import pytest

from tests.fault.cluster import DEADLINE, Api, Cluster, sequence, until
from tests.fault.proxy import Half, Proxy, Statement
from tests.fault.test_two_nodes import approval, take_task

pytestmark = pytest.mark.fault


def status_of(api: Api, path: str, body: object) -> int | None:
    """What a caller is told that asks once."""
    try:
        return httpx.post(api.url + path, json=body, timeout=60, trust_env=False).status_code
    except httpx.TransportError:
        return None


def killed_while_commands_are_written(cluster: Cluster, proxy: Proxy, without: str | None = None) -> list[str]:
    """Four commands have come, and the commit of the first has not got to the store; then the engine is killed."""
    doomed = cluster.node(database=proxy.database, without=without)
    api = doomed.api
    api.call("POST", "/v1/activities", {"name": "approve"})
    api.deploy("rest", sequence(Rest={"Type": "Wait", "Seconds": 3600}))
    api.deploy("approval", approval(3600))
    api.deploy("failing", {"StartAt": "No", "States": {"No": {"Type": "Fail"}}})
    open, resting, failed = (api.start(machine, machine) for machine in ("approval", "rest", "failing"))
    token = take_task(api)
    until(lambda: "ActivityStarted" in api.event_types(open), "the task's start to be written")
    assert cluster.sql("SELECT status FROM execution ORDER BY status") == [1, 1, 3]
    commands: dict[str, tuple[str, object]] = {
        "start": ("/v1/state-machines/rest/executions", {"name": "new", "input": {}}),
        "success": ("/v1/tasks/success", {"token": token, "output": {}}),
        "stop": (f"/v1/executions/{resting}/stop", {}),
        "redrive": (f"/v1/executions/{failed}/redrive", {}),
    }
    with ThreadPoolExecutor(len(commands)) as callers:
        with proxy.holding(Statement.COMMIT, Half.REQUEST) as commits:
            told = {name: callers.submit(status_of, api, *command) for name, command in commands.items()}
            commits.wait_for()
            if without:
                wait([told["start"], told["success"], told["stop"]], timeout=DEADLINE)
            for _ in range(5):  # by now the others have come, too
                assert api.client.get("/healthz").status_code == 200
            doomed.process.kill()
            commits.lose()
        answers = {name: answer.result() for name, answer in told.items()}
    broken = [f"{name}: answered {answer}" for name, answer in answers.items() if answer is not None]
    last = cluster.node().api
    before = [last.describe(id)["status"] for id in (open, resting, failed)]
    assert before == ["RUNNING", "RUNNING", "FAILED"]
    assert cluster.sql("SELECT count(*) FROM execution WHERE name = 'new'") == [0]
    again = {name: last.call("POST", *command).status_code for name, command in commands.items()}
    assert all(answer < 300 for answer in again.values()), again
    after = [last.ended(id)["status"] for id in (open, resting, failed)]
    assert after == ["SUCCEEDED", "ABORTED", "FAILED"]
    assert cluster.sql("SELECT redrive_count FROM execution WHERE name = 'failing'") == [1]
    return broken + cluster.findings()


def test_killed_while_commands_are_written(cluster: Cluster, proxy: Proxy) -> None:
    assert killed_while_commands_are_written(cluster, proxy) == []


def test_control_killed_while_commands_are_written(cluster: Cluster, proxy: Proxy) -> None:
    broken = killed_while_commands_are_written(cluster, proxy, without="durability")
    assert {"start: answered 201", "success: answered 204", "stop: answered 200"} <= set(broken), broken
