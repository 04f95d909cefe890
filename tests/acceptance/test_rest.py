"""REST as its users call it: waiting, idempotency, problems, pages, dead letters, monitoring, traces."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.conftest import PASS, WAITING, Stepwell, fresh, machine

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("acceptance")]

ECHO = machine(Echo={"Type": "Pass"})


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """A problem document (RFC 9457); what every one of them must have is checked."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert (document["status"], document["code"]) == (status, code)
    assert document["type"] and document["title"] and document["detail"]
    assert document["requestId"] == answer.headers["x-request-id"]
    return document


# --------------------------------------------------------------------------------------------------------------- waiting


def test_a_start_may_wait_for_the_end(server: Stepwell) -> None:
    name = server.deploy(ECHO)
    answer = server.start(name, {"a": [1, "é", None]}, wait=30)
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["output"]) == ("SUCCEEDED", {"a": [1, "é", None]})
    assert answer.headers["location"] == f"/v1/executions/{answer.json()['id']}"


def test_a_failure_is_an_answer_too(server: Stepwell) -> None:
    name = server.deploy(machine(Fail={"Type": "Fail", "Error": "Bad", "Cause": "as told"}))
    answer = server.start(name, wait=30)
    assert answer.status_code == 200
    assert {"status": "FAILED", "error": "Bad", "cause": "as told"}.items() <= answer.json().items()


def test_what_still_runs_is_a_202_with_its_place(server: Stepwell) -> None:
    answer = server.start(server.deploy(WAITING), wait=0.1)
    assert (answer.status_code, answer.json()["status"]) == (202, "RUNNING")
    place = answer.headers["location"]
    assert server.api.get(place, params={"wait": 0.1}).json()["status"] == "RUNNING"
    with ThreadPoolExecutor(1) as waiting:
        seen = waiting.submit(server.api.get, place, params={"wait": 60})
        stopped = server.api.post(f"{place}/stop", json={"error": "Enough"})
        assert seen.result().json()["status"] == "ABORTED"
    assert (stopped.json()["status"], stopped.json()["error"]) == ("ABORTED", "Enough")


# ----------------------------------------------------------------------------------------------------------- idempotency


def test_a_name_is_an_idempotency_key(server: Stepwell) -> None:
    effect = fresh("once")
    path = f"/v1/state-machines/{server.deploy(machine(Once=server.effect(effect)))}/executions"
    body = {"name": "key-1", "input": {"a": 1}}
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda _: server.api.post(path, json=body), range(24)))
    assert sorted(answer.status_code for answer in answers) == [200] * 23 + [201]
    (id,) = {answer.json()["id"] for answer in answers}
    assert server.ended(id)["status"] == "SUCCEEDED"
    # a caller who lost the answer asks again when all is over
    again = server.api.post(path, json=body, params={"wait": 1})
    assert (again.status_code, again.json()["id"], again.json()["status"]) == (200, id, "SUCCEEDED")
    refused = server.api.post(path, json={**body, "input": {"a": 2}})
    assert problem(refused, 409, "ExecutionAlreadyExists")["resource"].endswith(":key-1")
    assert len(server.ledger.of(effect)) == 1


# -------------------------------------------------------------------------------------------------------------- problems


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "place"),
    (
        ("GET", "/v1/executions/none:none", None, 404, "ExecutionDoesNotExist", {}),
        ("GET", "/v1/state-machines/none", None, 404, "StateMachineDoesNotExist", {}),
        ("POST", "/v1/state-machines/none/executions", "{}", 404, "StateMachineDoesNotExist", {}),
        ("GET", "/v1/executions?limit=0", None, 400, "ValidationException", {}),
        ("GET", "/v1/executions?after=none", None, 400, "InvalidToken", {}),
        ("GET", "/v1/nothing", None, 404, "UnknownOperationException", {}),
        ("DELETE", "/v1/executions", None, 405, "UnknownOperationException", {}),
        ("PUT", "/v1/state-machines/x", '{"definition": {}, "typ": 1}', 400, "ValidationException", {"pointer": "/typ"}),
        ("PUT", "/v1/state-machines/x", "{}", 400, "ValidationException", {"pointer": "/definition"}),
        ("PUT", "/v1/state-machines/x", '{"definition":\n }', 400, "SerializationException", {"line": 2, "column": 2}),
        ("PUT", "/v1/state-machines/x", '{"definition": {"StartAt": "A",\n "States": {"A": {"Type": "Pas"}}}}', 400,
         "InvalidDefinition", {"pointer": "/States/A/Type", "line": 2}),
        ("POST", "/v1/tasks/success", '{"token": "none", "output": 1}', 400, "InvalidToken", {}),
        ("POST", "/v1/dead-letters/999999999/redrive", None, 404, "ResourceNotFound", {}),
    ),
)  # fmt: skip
def test_refusals_are_problems_with_their_place(
    server: Stepwell, method: str, path: str, body: str | None, status: int, code: str, place: dict[str, Any]
) -> None:
    document = problem(server.api.request(method, path, content=body), status, code)
    assert {name: document.get(name) for name in place} == place


def test_all_findings_about_a_definition_are_told(server: Stepwell) -> None:
    definition = {
        "StartAt": "None",
        "States": {"A": {"Type": "Pass"}, "B": {"Type": "Wait", "Seconds": -1, "End": True}},
    }
    document = problem(
        server.api.put("/v1/state-machines/x", json={"definition": definition}), 400, "InvalidDefinition"
    )
    assert {"/StartAt", "/States/A", "/States/B/Seconds"} <= {one["pointer"] for one in document["diagnostics"]}


# ----------------------------------------------------------------------------------------------------------------- pages


def test_history_in_pages_is_the_whole_history(server: Stepwell) -> None:
    branches = [machine(**{name: {"Type": "Pass"}}) for name in ("Left", "Right")]
    name = server.deploy(machine(Both={"Type": "Parallel", "Branches": branches}, After={"Type": "Pass"}))
    path = f"/v1/executions/{server.start(name, wait=30).json()['id']}/history"
    whole = server.api.get(path).json()
    assert "next" not in whole
    events = whole["items"]
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["details"]["input"] == {}
    assert pages(server, path, limit=3) == events
    assert pages(server, path, limit=4, reverse=True) == events[::-1]


def pages(server: Stepwell, path: str, **query: Any) -> list[Any]:
    """All items of a listing, page after page; no page but the last is shorter than asked for."""
    items: list[Any] = []
    while True:
        page = server.api.get(path, params=query).json()
        items += page["items"]
        if "next" not in page:
            return items
        assert len(page["items"]) == query["limit"]
        query["after"] = page["next"]


def test_executions_and_machines_are_listed(server: Stepwell) -> None:
    name = server.deploy(PASS)
    ids = [server.start(name, wait=30).json()["id"] for _ in range(5)]
    found = pages(server, "/v1/executions", limit=2, stateMachine=name, status="SUCCEEDED")
    assert [one["id"] for one in found] == ids[::-1]
    assert name in [one["name"] for one in pages(server, "/v1/state-machines", limit=7)]


# ---------------------------------------------------------------------------------------------------------- dead letters


def test_a_dead_letter_is_found_understood_and_redriven(server: Stepwell) -> None:
    effects = {name: fresh(name) for name in ("First", "Call")}
    name = server.deploy(
        machine(
            First=server.effect(effects["First"], ResultPath=None),
            Call=server.effect(effects["Call"], ResultPath="$.call"),
        )
    )
    server.ledger.fail(effects["Call"])
    failed = server.start(name, {"order": 7}, wait=30).json()
    assert (failed["status"], failed["redriveStatus"]) == ("FAILED", "REDRIVABLE")

    (letter,) = server.api.get("/v1/dead-letters", params={"stateMachine": name}).json()["items"]
    assert (letter["status"], letter["execution"], letter["state"]) == ("OPEN", failed["id"], "Call")
    assert (letter["error"], "input" in letter) == ("States.Http.StatusCode.500", False)
    shown = server.api.get(f"/v1/dead-letters/{letter['id']}").json()
    assert shown["input"] == {"order": 7}
    assert "as the test told" in shown["cause"]

    redriven = server.api.post(f"/v1/dead-letters/{letter['id']}/redrive").json()
    assert redriven["status"] == "REDRIVEN"
    ended = server.ended(failed["id"])
    assert (ended["status"], ended["redriveCount"], ended["output"]["order"]) == ("SUCCEEDED", 1, 7)
    assert {state: len(server.ledger.of(effect)) for state, effect in effects.items()} == {"First": 1, "Call": 2}
    problem(server.api.post(f"/v1/dead-letters/{letter['id']}/redrive"), 409, "ConflictException")
    assert server.api.get("/v1/dead-letters", params={"stateMachine": name}).json()["items"] == []


def test_a_dead_letter_is_discarded(server: Stepwell) -> None:
    name = server.deploy(machine(Fail={"Type": "Fail", "Error": "Bad"}))
    failed = server.start(name, wait=30).json()
    (letter,) = server.api.get("/v1/dead-letters", params={"stateMachine": name, "error": "Bad"}).json()["items"]
    assert server.api.post(f"/v1/dead-letters/{letter['id']}/discard").status_code == 204
    problem(server.api.post(f"/v1/dead-letters/{letter['id']}/discard"), 409, "ConflictException")
    (kept,) = server.api.get("/v1/dead-letters", params={"stateMachine": name, "status": "DISCARDED"}).json()["items"]
    assert kept["id"] == letter["id"]
    assert server.api.get(f"/v1/executions/{failed['id']}").json()["status"] == "FAILED"


# ------------------------------------------------------------------------------------------------------------ monitoring


def test_health_and_readiness(server: Stepwell) -> None:
    for path, status in (("/healthz", "ok"), ("/readyz", "ready")):
        answer = server.api.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": status})


def test_metrics_are_prometheus_and_count(server: Stepwell) -> None:
    name = server.deploy(PASS)

    def starts() -> float:
        families = text_string_to_metric_families(server.api.get("/metrics").text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == "stepwell_api_requests_total" and sample.labels["operation"] == "rest:start_execution"
        )

    before = starts()
    for _ in range(3):
        server.start(name)
    assert starts() == before + 3


# ---------------------------------------------------------------------------------------------------------------- traces


def test_a_trace_goes_on_from_the_caller_to_what_tasks_call(server: Stepwell) -> None:
    effect = fresh("traced")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    name = server.deploy(machine(Traced=server.effect(effect)))
    answer = server.api.post(
        f"/v1/state-machines/{name}/executions?wait=30",
        headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"},
        content=json.dumps({"input": {}}),
    )
    assert answer.json()["status"] == "SUCCEEDED"
    assert trace in answer.json()["traceHeader"]
    (seen,) = server.ledger.of(effect)
    assert seen.trace is not None
    assert seen.trace.split("-")[1] == trace


def test_request_ids_are_those_of_the_caller(server: Stepwell) -> None:
    answer = server.api.get("/v1/nothing", headers={"X-Request-Id": "my-request-1"})
    assert problem(answer, 404, "UnknownOperationException")["requestId"] == "my-request-1"
