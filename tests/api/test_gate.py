"""Who gets in, and what becomes of requests that go wrong: keys, signatures, hosts, sizes, an absent database, faults."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from stepwell.api.app import ApiSettings
from stepwell.api.auth import check_bind
from stepwell.engine.errors import ConfigurationError
from tests.api.conftest import Stack, aws
from tests.support.served import served

LIST = {"X-Amz-Target": "AWSStepFunctions.ListStateMachines"}


@pytest.mark.parametrize("host", ("127.0.0.1", "::1", "localhost", "127.8.8.8"))
def test_the_loopback_may_be_open(host: str) -> None:
    check_bind(host, has_keys=False)


@pytest.mark.parametrize("host", ("0.0.0.0", "::", "", "10.0.0.1", "stepwell.example"))
def test_other_addresses_need_a_key(host: str) -> None:
    with pytest.raises(ConfigurationError, match="API key"):
        check_bind(host, has_keys=False)
    check_bind(host, has_keys=True)


@pytest.mark.parametrize(
    "host", ("localhost:8080", "127.0.0.1", "[::1]:80", "sync-localhost:8080", "sync-127.0.0.1:1", "stepwell.lan")
)
async def test_own_names_are_answered(stack: Stack, host: str) -> None:
    async with stack.client(app=stack.app(ApiSettings(allowed_hosts=["stepwell.lan"]))) as rest:
        assert (await rest.get("/v1/state-machines", headers={"host": host})).status_code == 200


@pytest.mark.parametrize("host", ("evil.example", "localhost.evil.example", "sync-evil.example:80", ""))
async def test_a_rebound_name_is_refused(rest: httpx.AsyncClient, host: str) -> None:
    assert (await rest.get("/v1/state-machines", headers={"host": host})).status_code == 403
    answer = await rest.post("/", headers={"host": host, **LIST}, content=b"{}")
    assert (answer.status_code, answer.json()["__type"].rsplit("#")[-1]) == (403, "AccessDeniedException")
    assert (await rest.get("/healthz", headers={"host": host})).status_code == 200


@pytest.mark.parametrize("origin", ("https://evil.example", "null", "http://localhost.evil.example"))
async def test_a_page_of_another_origin_is_refused(rest: httpx.AsyncClient, origin: str) -> None:
    assert (await rest.post("/", headers={"origin": origin, **LIST}, content=b"{}")).status_code == 403
    own = {"origin": "http://localhost:8080", **LIST}
    assert (await rest.post("/", headers=own, content=b"{}")).status_code == 200


async def test_a_bearer_key_opens_as_long_as_it_is_there(stack: Stack, rest: httpx.AsyncClient) -> None:
    key = await stack.services.api_keys.create_bearer("ci")
    assert key.secret not in repr(key)
    good = {"authorization": f"Bearer {key.secret}", "host": "any.example"}
    assert (await rest.get("/v1/state-machines", headers=good)).status_code == 200
    absent = await rest.get("/v1/state-machines")
    assert (absent.status_code, absent.json()["code"]) == (401, "MissingAuthenticationToken")
    assert absent.headers["www-authenticate"].startswith("Bearer")
    wrong = await rest.get("/v1/state-machines", headers={"authorization": "Bearer swk_wrong"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "UnrecognizedClientException")
    assert (await rest.get("/readyz")).status_code == 200
    other = await stack.services.api_keys.create_bearer("other")
    await stack.services.api_keys.delete(key.record.id)
    stack.clock.offset_ms += 5_001
    assert (await rest.get("/v1/state-machines", headers=good)).status_code == 401
    assert (await rest.get("/metrics", headers={"authorization": f"Bearer {other.secret}"})).status_code == 200


async def test_the_server_s_own_key_opens_it_and_closes_it_to_nobody(stack: Stack, rest: httpx.AsyncClient) -> None:
    own = {"authorization": f"Bearer {stack.services.api_keys.own_bearer()}"}
    assert stack.services.api_keys.own_bearer() == own["authorization"].removeprefix("Bearer ")
    assert (await rest.get("/v1/state-machines")).status_code == 200
    await stack.services.api_keys.create_bearer("ci")
    stack.clock.offset_ms += 5_001
    assert (await rest.get("/v1/state-machines")).status_code == 401
    assert (await rest.get("/v1/state-machines", headers=own)).status_code == 200
    assert [key.name for key in await stack.services.api_keys.list()] == ["ci"]


async def test_a_server_that_others_reach_is_not_open_even_when_its_last_key_is_revoked(stack: Stack) -> None:
    async with stack.client(app=stack.app(ApiSettings(never_open=True))) as rest:
        assert (await rest.get("/v1/state-machines")).status_code == 401
        assert (await rest.post("/", headers=LIST, content=b"{}")).status_code == 403
        assert (await rest.get("/readyz")).status_code == 200


async def test_signed_requests_are_verified(stack: Stack) -> None:
    pair = await stack.services.api_keys.create_pair("boto3")
    with served(stack.app()) as url:
        client = aws(url, key=pair.record.id, secret=pair.secret)
        assert client.list_state_machines()["stateMachines"] == []

        def refusal(**credentials: Any) -> str:
            with pytest.raises(ClientError) as caught:
                aws(url, **credentials).list_state_machines()
            code: str = caught.value.response["Error"]["Code"]
            return code

        assert refusal(key=pair.record.id, secret="wrong") == "InvalidSignatureException"
        assert refusal(key="nobody", secret=pair.secret) == "UnrecognizedClientException"
        stack.clock.offset_ms += 16 * 60_000
        assert refusal(key=pair.record.id, secret=pair.secret) == "InvalidSignatureException"


async def test_a_changed_body_breaks_the_signature(stack: Stack) -> None:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    pair = await stack.services.api_keys.create_pair("signer")
    credentials = Credentials(pair.record.id, pair.secret)

    async def send(path: str, body: bytes, sent: bytes, method: str = "POST") -> int:
        request = AWSRequest(method, f"http://localhost:8080{path}", headers=dict(LIST), data=body)
        SigV4Auth(credentials, "states", "us-east-1").add_auth(request)
        async with stack.client() as rest:
            answer = await rest.request(method, path, headers=dict(request.headers), content=sent)
        return answer.status_code

    assert await send("/", b"{}", b"{}") == 200
    assert await send("/", b"{}", b'{"maxResults": 1}') == 400
    assert await send("/v1/state-machines?limit=5&after=", b"", b"", "GET") == 400  # signed well; `after` is empty
    assert await send("/v1/executions/m:x%20y", b"", b"", "GET") == 404


async def test_a_body_that_is_announced_as_too_long_is_refused(stack: Stack) -> None:
    async with stack.client(app=stack.app(ApiSettings(max_body_bytes=10_000))) as rest:
        answer = await rest.post("/v1/tasks/success", content=b"x" * 10_001)
        wire = await rest.post("/", content=b"x" * 10_001, headers=LIST)
    assert (answer.status_code, answer.json()["code"]) == (413, "RequestEntityTooLargeException")
    assert (wire.status_code, wire.json()["__type"].rsplit("#")[-1]) == (413, "RequestEntityTooLargeException")


def test_a_chunked_body_is_refused_while_it_is_read(stack: Stack) -> None:
    with served(stack.app(ApiSettings(max_body_bytes=10_000))) as url, httpx.Client() as client:
        answer = client.post(f"{url}/v1/tasks/success", content=(b"x" * 1000 for _ in range(20)))
    assert (answer.status_code, answer.json()["code"]) == (413, "RequestEntityTooLargeException")


async def test_an_absent_database_is_a_503_that_says_try_again(stack: Stack, rest: httpx.AsyncClient) -> None:
    await rest.put("/v1/state-machines/m", json={"definition": {"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}})
    stack.runtime.away = True
    answer = await rest.post("/v1/state-machines/m/executions")
    assert (answer.status_code, answer.json()["code"]) == (503, "ServiceUnavailable")
    assert answer.headers["retry-after"] == "1"
    answer = await rest.post(
        "/",
        headers={"X-Amz-Target": "AWSStepFunctions.StartExecution"},
        json={"stateMachineArn": "arn:aws:states:us-east-1:000000000000:stateMachine:m"},
    )
    assert (answer.status_code, answer.json()["__type"].rsplit("#")[-1]) == (503, "ServiceUnavailable")
    stopped = await rest.post(f"/v1/executions/{'0' * 32}/stop")
    assert stopped.status_code == 503


@pytest.mark.parametrize("path", ("/v1/executions", "/v1/executions/m:x", "/"))
async def test_a_fault_shows_a_request_id_and_nothing_of_the_inside(
    stack: Stack, rest: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr(type(stack.services.executions), "list", broken)
    monkeypatch.setattr(type(stack.services.executions), "find", broken)
    monkeypatch.setattr(type(stack.services.state_machines), "list", broken)
    with caplog.at_level(logging.ERROR):
        if path == "/":
            answer = await rest.post("/", headers={**LIST, "x-request-id": "my-id"}, content=b"{}")
        else:
            answer = await rest.get(path, headers={"x-request-id": "my-id"})
    assert answer.status_code == 500
    assert "secret inside" not in answer.text
    assert "my-id" in answer.text
    assert any(record.exc_info and "secret inside" in str(record.exc_info[1]) for record in caplog.records)


async def test_request_ids_are_taken_and_given(rest: httpx.AsyncClient) -> None:
    given = await rest.get("/healthz", headers={"x-request-id": "abc-1"})
    assert given.headers["x-request-id"] == "abc-1"
    made = {
        (await rest.get("/healthz", headers={"x-request-id": bad})).headers["x-request-id"]
        for bad in ("", "a b", "x" * 129)
    }
    assert len(made) == 3
    wire = await rest.post("/", headers={**LIST, "x-request-id": "abc-2"}, content=b"{}")
    assert wire.headers["x-amzn-requestid"] == "abc-2"
