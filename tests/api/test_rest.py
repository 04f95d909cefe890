"""REST over the memory store and the real interpreter."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest

from stepwell.engine.jsontypes import MAX_DEPTH
from stepwell.engine.messages import Claim, Outcome, WorkerReport
from tests.api.conftest import Stack

PASS = {"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}}
FAIL = {"StartAt": "A", "States": {"A": {"Type": "Fail", "Error": "Broken", "Cause": "for good"}}}
WORK = {
    "StartAt": "A",
    "States": {
        "A": {"Type": "Task", "Resource": "arn:aws:states:us-east-1:000000000000:activity:work", "End": True},
    },
}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def make(rest: httpx.AsyncClient, name: str = "m", definition: Any = PASS) -> None:
    answer = await rest.put(f"/v1/state-machines/{name}", json={"definition": definition})
    assert answer.status_code == 201, answer.text


async def start(rest: httpx.AsyncClient, machine: str = "m", query: str = "", **body: Any) -> httpx.Response:
    return await rest.post(f"/v1/state-machines/{machine}/executions{query}", json=body)


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert (document["status"], document["code"]) == (status, code)
    assert {"type", "title", "detail", "requestId"} <= set(document)
    return document


# ---------------------------------------------------------------------------------------------------------- executions


async def test_start_answers_when_it_is_durable(rest: httpx.AsyncClient) -> None:
    await make(rest)
    answer = await start(rest, name="x", input={"a": 1})
    assert answer.status_code == 201
    shown = answer.json()
    assert (shown["name"], shown["stateMachine"], shown["status"]) == ("x", "m", "RUNNING")
    assert answer.headers["location"] == f"/v1/executions/{shown['id']}"
    described = (await rest.get(answer.headers["location"])).json()
    assert (described["status"], described["input"], described["output"]) == ("SUCCEEDED", {"a": 1}, {"a": 1})
    assert described["startedAt"].endswith("Z")


async def test_input_keeps_the_text_it_came_as(rest: httpx.AsyncClient) -> None:
    await make(rest)
    text = '{"b":  1.10, "a": 12345678901234567890}'
    content = '{"input": ' + text + "}"
    answer = await rest.post("/v1/state-machines/m/executions?wait=1", content=content)
    assert text in answer.text


@pytest.mark.parametrize(
    ("body", "input"), ((b"", {}), (b"{}", {}), (b'{"input": null}', None), (b'{"input": [1]}', [1]))
)
async def test_input_may_be_any_json_or_absent(rest: httpx.AsyncClient, body: bytes, input: Any) -> None:
    await make(rest)
    answer = await rest.post("/v1/state-machines/m/executions?wait=1", content=body)
    assert answer.status_code == 200
    assert answer.json()["output"] == input


async def test_waiting_for_the_end(rest: httpx.AsyncClient) -> None:
    await make(rest)
    await make(rest, "bad", FAIL)
    await make(rest, "work", WORK)
    ended = await start(rest, query="?wait=5", input=[1])
    assert (ended.status_code, ended.json()["status"], ended.json()["output"]) == (200, "SUCCEEDED", [1])
    failed = await start(rest, "bad", "?wait=5")
    assert failed.status_code == 200
    assert [failed.json()[name] for name in ("status", "error", "cause")] == ["FAILED", "Broken", "for good"]
    running = await start(rest, "work", "?wait=0")
    assert (running.status_code, running.json()["status"]) == (202, "RUNNING")
    for wait in ("-1", "301", "soon", "nan"):
        problem(await start(rest, query=f"?wait={wait}"), 400, "ValidationException")


async def test_a_name_is_an_idempotency_key_even_after_the_end(rest: httpx.AsyncClient) -> None:
    await make(rest)
    first = await start(rest, name="x", input={"a": 1})
    again = await start(rest, name="x", input={"a": 1})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["id"] == first.json()["id"]
    other = problem(await start(rest, name="x", input={"a": 2}), 409, "ExecutionAlreadyExists")
    assert other["resource"] == first.json()["arn"]


async def test_an_execution_is_found_by_each_of_its_names(rest: httpx.AsyncClient) -> None:
    await make(rest)
    shown = (await start(rest, name="x")).json()
    for reference in (shown["id"], shown["arn"], quote(shown["arn"], safe=""), "m:x"):
        assert (await rest.get(f"/v1/executions/{reference}")).json()["id"] == shown["id"]
        assert (await rest.get(f"/v1/executions/{reference}/history")).status_code == 200
    for reference in ("m:y", "0" * 32, "nothing"):
        problem(await rest.get(f"/v1/executions/{reference}"), 404, "ExecutionDoesNotExist")
    problem(await rest.get("/v1/executions/arn:aws:s3:::x"), 400, "InvalidArn")


async def test_history_is_real_json_in_pages(rest: httpx.AsyncClient) -> None:
    await make(rest)
    id = (await start(rest, input={"a": 1})).json()["id"]
    page = (await rest.get(f"/v1/executions/{id}/history?limit=3")).json()
    assert [event["id"] for event in page["items"]] == [1, 2, 3]
    assert page["items"][1]["details"] == {"name": "A", "input": {"a": 1}}
    rest_of = (await rest.get(f"/v1/executions/{id}/history", params={"after": page["next"]})).json()
    assert [event["type"] for event in rest_of["items"]] == ["ExecutionSucceeded"]
    assert "next" not in rest_of
    last = (await rest.get(f"/v1/executions/{id}/history?reverse=true&limit=1")).json()
    assert last["items"][0]["id"] == 4


async def test_executions_are_listed_by_filter(stack: Stack, rest: httpx.AsyncClient) -> None:
    await make(rest)
    await make(rest, "bad", FAIL)
    for number in range(3):
        stack.clock.offset_ms += 10
        await start(rest, name=f"x{number}")
    stack.clock.offset_ms += 10
    late = (await start(rest, "bad", name="y")).json()["startedAt"]

    async def names(**where: Any) -> list[str]:
        answer = await rest.get("/v1/executions", params=where)
        assert answer.status_code == 200, answer.text
        return [item["name"] for item in answer.json()["items"]]

    assert await names() == ["y", "x2", "x1", "x0"]
    assert await names(stateMachine="m", limit=2) == ["x2", "x1"]
    assert await names(status="FAILED") == ["y"]
    assert await names(namePrefix="x") == ["x2", "x1", "x0"]
    assert await names(startedAfter=late) == ["y"]
    problem(await rest.get("/v1/executions?status=DONE"), 400, "ValidationException")
    problem(await rest.get("/v1/executions?startedAfter=yesterday"), 400, "ValidationException")
    problem(await rest.get("/v1/executions?limit=1001"), 400, "ValidationException")
    problem(await rest.get("/v1/executions?stateMachine=none"), 404, "StateMachineDoesNotExist")
    problem(await rest.get("/v1/executions?after=rubbish"), 400, "InvalidToken")


async def test_stop_and_redrive(rest: httpx.AsyncClient) -> None:
    await make(rest, definition=WORK)
    id = (await start(rest)).json()["id"]
    problem(await rest.post(f"/v1/executions/{id}/redrive"), 409, "ExecutionNotRedrivable")
    stopped = (await rest.post(f"/v1/executions/{id}/stop", json={"error": "E", "cause": "C"})).json()
    assert [stopped[name] for name in ("status", "error", "cause")] == ["ABORTED", "E", "C"]
    assert (await rest.post(f"/v1/executions/{id}/stop")).json()["stoppedAt"] == stopped["stoppedAt"]
    redriven = (await rest.post(f"/v1/executions/{id}/redrive")).json()
    assert (redriven["status"], redriven["redriveCount"]) == ("RUNNING", 1)


async def test_a_traceparent_is_kept_and_shown(rest: httpx.AsyncClient) -> None:
    await make(rest)
    answer = await rest.post("/v1/state-machines/m/executions", headers={"traceparent": TRACE})
    assert answer.json()["traceHeader"] == TRACE
    assert (await rest.get(answer.headers["location"])).json()["traceHeader"] == TRACE
    invalid = await rest.post("/v1/state-machines/m/executions", headers={"traceparent": "00-0-0-01"})
    assert "traceHeader" not in invalid.json()


# ------------------------------------------------------------------------------------------------------- state machines


async def test_put_is_idempotent_and_keeps_revisions(rest: httpx.AsyncClient) -> None:
    await make(rest)
    same = await rest.put("/v1/state-machines/m", json={"definition": PASS})
    assert (same.status_code, same.json()["revision"]) == (200, 1)
    changed = await rest.put("/v1/state-machines/m", json={"definition": FAIL})
    assert (changed.status_code, changed.json()["revision"], changed.json()["definition"]) == (200, 2, FAIL)
    again = await rest.put("/v1/state-machines/m", json={"definition": json.dumps(FAIL, separators=(",", ":"))})
    assert again.json()["revision"] == 2
    problem(await rest.put("/v1/state-machines/m", json={"definition": PASS, "name": "n"}), 400, "ValidationException")


async def test_the_findings_of_one_answer_are_bounded(rest: httpx.AsyncClient) -> None:
    states = {str(number): {"Type": "Wrong"} for number in range(1_500)}
    body = {"definition": {"StartAt": "0", "States": states}}
    checked = (await rest.post("/v1/state-machines/validate", json=body)).json()
    assert (checked["valid"], len(checked["diagnostics"])) == (False, 1_000)
    refused = (await rest.put("/v1/state-machines/m", json=body)).json()
    assert len(refused["diagnostics"]) == 1_000


async def test_the_place_of_a_machine_whose_name_is_not_ascii(rest: httpx.AsyncClient) -> None:
    answer = await rest.post("/v1/state-machines", json={"name": "注文é", "definition": PASS})
    assert answer.status_code == 201, answer.text
    assert (await rest.get(answer.headers["location"])).json()["name"] == "注文é"


async def test_create_list_get_delete(rest: httpx.AsyncClient) -> None:
    body = {"name": "m", "definition": PASS, "description": "what it does"}
    created = await rest.post("/v1/state-machines", json=body)
    assert (created.status_code, created.json()["description"]) == (201, "what it does")
    problem(await rest.post("/v1/state-machines", json={**body, "definition": FAIL}), 409, "StateMachineAlreadyExists")
    problem(await rest.post("/v1/state-machines", json={"definition": PASS}), 400, "ValidationException")
    listed = (await rest.get("/v1/state-machines")).json()["items"]
    assert [item["name"] for item in listed] == ["m"]
    assert "definition" not in listed[0]
    for name in ("m", created.json()["arn"]):
        assert (await rest.get(f"/v1/state-machines/{name}")).json()["definition"] == PASS
    assert (await rest.delete("/v1/state-machines/m")).status_code == 204
    problem(await rest.get("/v1/state-machines/m"), 404, "StateMachineDoesNotExist")
    problem(await rest.delete("/v1/state-machines/m"), 404, "StateMachineDoesNotExist")
    problem(await start(rest), 404, "StateMachineDoesNotExist")


async def test_a_refused_definition_says_where(rest: httpx.AsyncClient) -> None:
    content = '{"definition": {\n  "StartAt": "A",\n  "States": {"A": {"Type": "Pass",\n    "Next": "B"}}}}'
    document = problem(await rest.put("/v1/state-machines/m", content=content), 400, "InvalidDefinition")
    finding = document["diagnostics"][0]
    assert finding["code"] == "MISSING_TRANSITION_TARGET"
    assert (document["pointer"], document["line"]) == (finding["pointer"], finding["line"])
    assert (finding["pointer"], finding["line"]) == ("/States/A/Next", 4)
    checked = await rest.post("/v1/state-machines/validate", content=content)
    assert checked.json()["valid"] is False
    assert finding in checked.json()["diagnostics"]
    assert (await rest.post("/v1/state-machines/validate", json={"definition": PASS})).json()["valid"] is True


@pytest.mark.parametrize(
    ("body", "pointer"),
    (
        ({"definitions": {}}, "/definitions"),
        ({"roleArn": "a"}, "/definition"),
        ({"definition": PASS, "roleArn": 1}, "/roleArn"),
        ({"definition": PASS, "type": "FAST"}, "/type"),
        ({"definition": ""}, "/definition"),
        ({"definition": PASS, "roleArn": "a\x00b"}, "/roleArn"),
    ),
)
async def test_a_wrong_body_is_refused(rest: httpx.AsyncClient, body: Any, pointer: str | None) -> None:
    answer = await rest.put("/v1/state-machines/m", json=body)
    assert answer.status_code == 400
    assert answer.json().get("pointer") == pointer


@pytest.mark.parametrize(
    ("content", "line", "column"),
    (
        (b'{"name": "a",\n "input": }', 2, 11),
        (b'{\n\n  "name": "\xc3\xa4\xff"}', 3, 13),
        ('{"name": "ä\\ud800"}'.encode(), 1, 12),
        (b'{"input": {"a": 1}', 1, 19),
        (b'{"input": ' + b"[" * 100_000, 1, 11 + MAX_DEPTH - 1),
    ),
)
async def test_a_fault_in_a_body_has_a_line_and_a_column(
    rest: httpx.AsyncClient, content: bytes, line: int, column: int
) -> None:
    await make(rest)
    document = problem(
        await rest.post("/v1/state-machines/m/executions", content=content), 400, "SerializationException"
    )
    assert (document["line"], document["column"]) == (line, column)
    assert f"(line {line}, column {column})" in document["detail"]


async def test_a_fault_in_an_input_is_placed_within_it(rest: httpx.AsyncClient) -> None:
    await make(rest)
    content = b'{"name": "n", "input": [\n  1e999]}'
    document = problem(
        await rest.post("/v1/state-machines/m/executions", content=content), 400, "InvalidExecutionInput"
    )
    assert (document["pointer"], document["line"], document["column"]) == ("/input", 2, 3)


@pytest.mark.parametrize("content", (b"{", b"[]", b"\xff", b'{"name": "\\ud800"}', b"[" * 100_000))
async def test_a_body_that_is_no_object_is_refused(rest: httpx.AsyncClient, content: bytes) -> None:
    await make(rest)
    answer = await rest.post("/v1/state-machines/m/executions", content=content)
    assert answer.status_code == 400
    assert answer.json()["code"] in ("SerializationException", "ValidationException")


# ------------------------------------------------------------------------------------------- tasks, activities, workers


async def test_an_activity_worker_over_rest(rest: httpx.AsyncClient) -> None:
    await make(rest, definition=WORK)
    assert (await rest.post("/v1/activities", json={"name": "work"})).status_code == 201
    assert (await rest.post("/v1/activities/work/tasks?wait=0")).status_code == 204
    id = (await start(rest, input={"n": 1})).json()["id"]
    task = (await rest.post("/v1/activities/work/tasks?worker=w")).json()
    assert task["input"] == {"n": 1}
    token = task["token"]
    assert (await rest.post("/v1/tasks/heartbeat", json={"token": token})).status_code == 204
    done = await rest.post("/v1/tasks/success", json={"token": token, "output": {"m": 2}})
    assert (done.status_code, done.content) == (204, b"")
    assert (await rest.get(f"/v1/executions/{id}?wait=5")).json()["output"] == {"m": 2}
    problem(await rest.post("/v1/tasks/failure", json={"token": token}), 409, "TaskTimedOut")
    problem(await rest.post("/v1/tasks/heartbeat", json={"token": "rubbish"}), 400, "InvalidToken")
    assert [item["name"] for item in (await rest.get("/v1/activities")).json()["items"]] == ["work"]
    assert (await rest.delete("/v1/activities/work")).status_code == 204
    problem(await rest.get("/v1/activities/work"), 404, "ActivityDoesNotExist")


async def test_a_failed_task_fails_its_execution(rest: httpx.AsyncClient) -> None:
    await make(rest, definition=WORK)
    await rest.post("/v1/activities", json={"name": "work"})
    id = (await start(rest)).json()["id"]
    token = (await rest.post("/v1/activities/work/tasks")).json()["token"]
    too_long = {"token": token, "error": "E" * 257}
    problem(await rest.post("/v1/tasks/failure", json=too_long), 400, "ValidationException")
    await rest.post("/v1/tasks/failure", json={"token": token, "error": "E", "cause": "C"})
    assert (await rest.get(f"/v1/executions/{id}")).json()["error"] == "E"


WORKER = "7d4f2a52-27cc-4f5c-8f6f-6f0d8f0a3c11"


async def test_workers_claim_report_and_live(stack: Stack, rest: httpx.AsyncClient) -> None:
    claim = {"execution": "0" * 32, "task": 1, "key": "k", "worker": WORKER}
    assert (await rest.post("/v1/workers/claim", json=claim)).json() == {"granted": True}
    outcome = {"execution": "0" * 32, "task": 1, "key": "k", "output": {"a": 1}}
    assert (await rest.post("/v1/workers/outcome", json=outcome)).json() == {"answer": "ACCEPTED"}
    report = {"worker": WORKER, "host": "h", "pid": 1}
    assert (await rest.post("/v1/workers/report", json=report)).status_code == 204
    assert [type(each[0]) for each in (stack.runtime.claims, stack.runtime.outcomes, stack.runtime.reports)] == [
        Claim,
        Outcome,
        WorkerReport,
    ]
    output = stack.runtime.outcomes[0].output
    assert isinstance(output, msgspec.Raw)
    assert json.loads(bytes(output)) == {"a": 1}


@pytest.mark.parametrize(
    ("path", "change"),
    (
        ("claim", {"execution": "0" * 31}),
        ("claim", {"execution": "z" * 32}),
        ("claim", {"task": -1}),
        ("claim", {"task": 2**31}),
        ("claim", {"worker": "w"}),
        ("claim", {"worker": None}),
        ("outcome", {"execution": "x"}),
        ("report", {"worker": "w", "host": "h", "pid": 1}),
    ),
)
async def test_a_malformed_message_of_a_worker_is_refused(
    rest: httpx.AsyncClient, path: str, change: dict[str, Any]
) -> None:
    message = {"execution": "0" * 32, "task": 1, "key": "k", "worker": WORKER, **change}
    problem(await rest.post(f"/v1/workers/{path}", json=message), 400, "ValidationException")


# -------------------------------------------------------------------------------------- dead letters and the registries


async def test_dead_letters_are_listed_redriven_and_discarded(rest: httpx.AsyncClient) -> None:
    await make(rest, definition=FAIL)
    for name in ("x", "y"):
        await start(rest, name=name)
    listed = (await rest.get("/v1/dead-letters?stateMachine=m&error=Broken&state=A")).json()["items"]
    assert [letter["executionArn"].rsplit(":")[-1] for letter in listed] == ["y", "x"]
    assert (await rest.get("/v1/dead-letters?error=Other")).json()["items"] == []
    redriven, discarded = listed[1]["id"], listed[0]["id"]
    answer = await rest.post(f"/v1/dead-letters/{redriven}/redrive")
    assert (answer.status_code, answer.json()["status"]) == (200, "REDRIVEN")
    assert (await rest.get("/v1/executions/m:x")).json()["redriveCount"] == 1
    assert (await rest.post(f"/v1/dead-letters/{discarded}/discard")).status_code == 204
    for id in (redriven, discarded):
        problem(await rest.post(f"/v1/dead-letters/{id}/redrive"), 409, "ConflictException")
    remaining = (await rest.get("/v1/dead-letters")).json()["items"]
    assert [letter["executionArn"].rsplit(":")[-1] for letter in remaining] == ["x"]  # it failed again
    assert len((await rest.get("/v1/dead-letters?status=ANY")).json()["items"]) == 3
    problem(await rest.get("/v1/dead-letters/99"), 404, "ResourceNotFound")
    problem(await rest.get("/v1/dead-letters/x"), 400, "ValidationException")


async def test_functions_are_registered(rest: httpx.AsyncClient) -> None:
    body = {"kind": "python", "target": "app.tasks:charge", "options": {"queue": "q"}}
    assert (await rest.put("/v1/functions/charge", json=body)).status_code == 201
    assert (await rest.put("/v1/functions/charge", json=body)).status_code == 200
    assert (await rest.get("/v1/functions/charge")).json()["options"] == {"queue": "q"}
    assert len((await rest.get("/v1/functions")).json()["items"]) == 1
    for wrong in ({"kind": "ruby", "target": "x"}, {"kind": "python", "target": "no callable"}):
        problem(await rest.put("/v1/functions/f", json=wrong), 400, "ValidationException")
    assert (await rest.delete("/v1/functions/charge")).status_code == 204
    problem(await rest.delete("/v1/functions/charge"), 404, "ResourceNotFound")


async def test_secrets_of_connections_never_come_out(stack: Stack, rest: httpx.AsyncClient) -> None:
    secret = "s3cret-value"
    parameters = {"ApiKeyAuthParameters": {"ApiKeyName": "X-Key", "ApiKeyValue": secret}}
    body = {"authorizationType": "API_KEY", "authParameters": parameters}
    created = await rest.put("/v1/connections/billing", json=body)
    assert created.status_code == 201
    again = await rest.put("/v1/connections/billing", json=body)
    assert (again.status_code, again.json()["arn"]) == (200, created.json()["arn"])
    shown = [created, await rest.get("/v1/connections/billing"), await rest.get("/v1/connections")]
    assert all(secret not in answer.text for answer in shown)
    assert "X-Key" in shown[1].text
    assert secret.encode() not in stack.database.connections["billing"].secret
    wrong = {"authParameters": {"BasicAuthParameters": {"Username": "u", "Passwort": secret}}}
    refused = problem(await rest.put("/v1/connections/b", json=wrong), 400, "ValidationException")
    assert secret not in refused["detail"]
    assert (await rest.delete("/v1/connections/billing")).status_code == 204
    problem(await rest.get("/v1/connections/billing"), 404, "ResourceNotFound")


# ----------------------------------------------------------------------------------------------- documentation and health


async def test_the_openapi_document_is_whole(rest: httpx.AsyncClient) -> None:
    document = (await rest.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    missing = [ref for ref in _references(document) if ref.removeprefix("#/components/schemas/") not in schemas]
    assert missing == []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"] and operation["description"], (method, path)
            assert any(code.startswith("2") for code in operation["responses"]), (method, path)
    assert "/v1/state-machines/{name}/executions" in document["paths"]


async def test_the_documentation_page_takes_nothing_from_elsewhere(rest: httpx.AsyncClient) -> None:
    page = await rest.get("/docs")
    assert page.status_code == 200
    parts = re.findall(r'(?:href|src)="([^"]+)"', page.text)
    assert len(parts) == 3
    for part in parts:
        assert part.startswith("/docs/"), "a page with our rights must hold no foreign code"
        answer = await rest.get(part)
        assert answer.status_code == 200 and len(answer.content) > 500
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert (await rest.get("/docs/other.js")).status_code == 404


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [ref for member in value.values() for ref in _references(member)]
    return [ref for member in value for ref in _references(member)] if isinstance(value, list) else []


async def test_health_and_readiness(stack: Stack, rest: httpx.AsyncClient) -> None:
    assert (await rest.get("/healthz")).json() == {"status": "ok"}
    assert (await rest.get("/readyz")).status_code == 200
    stack.missing = "the engine has not begun"
    answer = await rest.get("/readyz")
    assert (answer.status_code, answer.json()["reason"]) == (503, "the engine has not begun")


async def test_metrics_count_requests(rest: httpx.AsyncClient) -> None:
    await make(rest)
    await start(rest)
    text = (await rest.get("/metrics")).text
    assert 'stepwell_api_requests_total{code="201",operation="rest:start_execution"} 1.0' in text


async def test_unknown_paths_and_methods_are_problems(rest: httpx.AsyncClient) -> None:
    problem(await rest.get("/v1/nothing"), 404, "UnknownOperationException")
    problem(await rest.delete("/v1/tasks/success"), 404, "UnknownOperationException")
    problem(await rest.patch("/v1/state-machines/m", json={}), 405, "UnknownOperationException")


# -------------------------------------------------------------------------------------------------------------- Express


async def test_a_synchronous_express_execution(rest: httpx.AsyncClient) -> None:
    assert (await rest.put("/v1/state-machines/x", json={"definition": PASS, "type": "EXPRESS"})).status_code == 201
    answer = await start(rest, "x", "?sync=true", input={"a": 1}, name="n")
    assert answer.status_code == 200
    shown = answer.json()
    assert shown["arn"].startswith("arn:aws:states:us-east-1:000000000000:express:x:n:")
    assert (shown["type"], shown["status"], shown["input"], shown["output"]) == (
        "EXPRESS",
        "SUCCEEDED",
        {"a": 1},
        {"a": 1},
    )
    await rest.put("/v1/state-machines/f", json={"definition": FAIL, "type": "EXPRESS"})
    failed = (await start(rest, "f", "?sync")).json()
    assert (failed["status"], failed["error"], failed["cause"]) == ("FAILED", "Broken", "for good")


async def test_what_a_synchronous_start_refuses(rest: httpx.AsyncClient) -> None:
    await make(rest)
    problem(await start(rest, "m", "?sync=true"), 400, "StateMachineTypeNotSupported")
    problem(await start(rest, "m", "?sync=perhaps"), 400, "ValidationException")
    problem(await start(rest, "m", "?sync=true&wait=3"), 400, "ValidationException")


async def test_an_express_execution_that_is_left_to_itself(rest: httpx.AsyncClient) -> None:
    await rest.put("/v1/state-machines/x", json={"definition": FAIL, "type": "EXPRESS"})
    first, second = await start(rest, "x", name="n", input=1), await start(rest, "x", name="n", input=1)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["arn"] != second.json()["arn"]
    for reference in (first.json()["id"], quote(first.json()["arn"])):
        shown = (await rest.get(f"/v1/executions/{reference}?wait=5")).json()
        assert (shown["type"], shown["status"], shown["error"], shown["attempt"]) == ("EXPRESS", "FAILED", "Broken", 1)
        assert shown["input"] == 1
    waited = await start(rest, "x", "?wait=5")
    assert (waited.status_code, waited.json()["status"]) == (200, "FAILED")
    listed = (await rest.get("/v1/executions?stateMachine=x&status=FAILED")).json()["items"]
    assert len(listed) == 3 and all(item["type"] == "EXPRESS" and "input" not in item for item in listed)
    assert len((await rest.get("/v1/executions?type=EXPRESS&limit=2")).json()["items"]) == 2
    assert (await rest.get("/v1/executions")).json()["items"] == []


async def test_what_is_not_kept_of_express_executions_is_refused_as_such(rest: httpx.AsyncClient) -> None:
    await rest.put("/v1/state-machines/x", json={"definition": PASS, "type": "EXPRESS"})
    id = (await start(rest, "x")).json()["id"]
    for answer in (
        await rest.get(f"/v1/executions/{id}/history"),
        await rest.post(f"/v1/executions/{id}/stop"),
        await rest.post(f"/v1/executions/{id}/redrive"),
    ):
        problem(answer, 400, "StateMachineTypeNotSupported")
    problem(await rest.get(f"/v1/executions/{'0' * 32}"), 404, "ExecutionDoesNotExist")
