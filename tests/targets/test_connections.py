"""Connections: how requests are authenticated, tokens had and renewed, and secrets kept out of everything people read."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from aiohttp import web

from stepwell.engine.jsontypes import Json
from stepwell.engine.machine.events import TaskFailed
from stepwell.engine.ports import HttpTrace, TargetResult
from stepwell.engine.secretbox import BLOT, SecretBox
from stepwell.engine.targets.http import HttpTarget
from stepwell.engine.targets.http_trace import REQUEST_MEMBERS, RESPONSE_MEMBERS
from tests.targets.servers import ConnectionShelf, StillClock, failure, output, request, serving, url
from tests.targets.test_http import echo

API_KEY = '{"ApiKeyAuthParameters": {"ApiKeyName": "X-Api-Key", "ApiKeyValue": "key-hunter22"}}'


async def call(target: HttpTarget, endpoint: str, arn: str, **parameters: Any) -> TargetResult:
    payload = {"ApiEndpoint": endpoint, "Method": "POST", "Authentication": {"ConnectionArn": arn}, **parameters}
    return await target.perform(request(payload))


class Wire:
    """A server that notes what it got, before answering."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], str]] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.path_qs, headers, await request.text()))
        return await self.answer(request)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"ok": True})


async def test_an_api_key_is_sent(target: HttpTarget, shelf: ConnectionShelf) -> None:
    wire = Wire()
    async with serving(wire) as server:
        output(await call(target, url(server), shelf.add("c", API_KEY)))
    assert wire.requests[0][1]["x-api-key"] == "key-hunter22"


@pytest.mark.parametrize("field", ("Authentication", "InvocationConfig"))
@pytest.mark.parametrize(
    "name",
    (
        "c",
        "arn:aws:events:us-east-1:000000000000:connection/c/8d6f2a7e",
        "arn:aws:events:eu-west-1:123456789012:connection/c/other",
    ),
)
async def test_a_connection_is_found_by_arn_or_name(
    target: HttpTarget, shelf: ConnectionShelf, field: str, name: str
) -> None:
    """Also by the ARN it has in another account: a definition moves without change."""
    shelf.add("c", API_KEY)
    wire = Wire()
    async with serving(wire) as server:
        parameters: Json = {"ApiEndpoint": url(server), "Method": "GET", field: {"ConnectionArn": name}}
        output(await target.perform(request(parameters)))
    assert wire.requests[0][1]["x-api-key"] == "key-hunter22"


async def test_basic_authentication(target: HttpTarget, shelf: ConnectionShelf) -> None:
    wire = Wire()
    arn = shelf.add("c", '{"BasicAuthParameters": {"Username": "mé", "Password": "pass:wörd22"}}')
    async with serving(wire) as server:
        output(await call(target, url(server), arn))
    kind, _, text = wire.requests[0][1]["authorization"].partition(" ")
    assert (kind, base64.b64decode(text).decode()) == ("Basic", "mé:pass:wörd22")


ADDING = json.dumps(
    {
        "ApiKeyAuthParameters": {"ApiKeyName": "X-Api-Key", "ApiKeyValue": "key-hunter22"},
        "InvocationHttpParameters": {
            "HeaderParameters": [{"Key": "X-Tenant", "Value": "theirs"}],
            "QueryStringParameters": [{"Key": "version", "Value": "2"}],
            "BodyParameters": [{"Key": "account", "Value": "acc-hunter33", "IsValueSecret": True}],
        },
    }
)


async def test_what_a_connection_adds_wins_over_the_definition(target: HttpTarget, shelf: ConnectionShelf) -> None:
    wire = Wire()
    async with serving(wire) as server:
        result = await call(
            target,
            url(server, "/x?version=0&keep=1"),
            shelf.add("c", ADDING),
            Headers={"x-tenant": "mine", "x-api-key": "mine", "X-Other": "o"},
            QueryParameters={"version": ["1", "1.5"], "q": "r"},
            RequestBody={"account": "mine", "amount": 5},
        )
        output(result)
    path, headers, body = wire.requests[0]
    assert path == "/x?keep=1&q=r&version=2"
    assert (headers["x-tenant"], headers["x-api-key"], headers["x-other"]) == ("theirs", "key-hunter22", "o")
    assert json.loads(body) == {"account": "acc-hunter33", "amount": 5}


async def test_a_body_that_nothing_can_be_added_to(target: HttpTarget, shelf: ConnectionShelf) -> None:
    error, cause = failure(await call(target, "http://127.0.0.1:1/", shelf.add("c", ADDING), RequestBody=[1]))
    assert error == "States.Runtime"
    assert "must be an object" in cause


async def test_a_service_that_repeats_the_secrets_does_not_put_them_into_history(
    target: HttpTarget, shelf: ConnectionShelf
) -> None:
    async def failing(request: web.Request) -> web.Response:
        got = await echo(request)
        got.set_status(400)
        return got

    for handler in (echo, failing):
        async with serving(handler) as server:
            result = await call(target, url(server), shelf.add("c", ADDING), RequestBody={"visible": "yes"})
        text = failure(result)[1] if isinstance(result, TaskFailed) else json.dumps(output(result))
        assert "hunter" not in text
        assert "yes" in text and BLOT in text


@pytest.mark.parametrize("reveal", (False, True))
async def test_a_trace_shows_what_is_sent_and_what_a_connection_adds_only_on_request(
    target: HttpTarget, shelf: ConnectionShelf, reveal: bool
) -> None:
    trace = HttpTrace(reveal=reveal)
    async with serving(echo) as server:
        parameters: Json = {
            "ApiEndpoint": url(server, "/x"),
            "Method": "POST",
            "Headers": {"X-Other": "o"},
            "RequestBody": {"amount": 5},
            "Authentication": {"ConnectionArn": shelf.add("c", ADDING)},
        }
        output(await target.perform(request(parameters, trace=trace)))
    assert trace.request is not None and trace.response is not None
    assert frozenset(trace.request) == REQUEST_MEMBERS
    assert frozenset(trace.response) == RESPONSE_MEMBERS
    assert (trace.request["protocol"], trace.request["method"]) == ("http", "POST")
    assert "X-Other: o" in trace.request["headers"]
    shown = {"theirs": "headers", "key-hunter22": "headers", "version=2": "url", "acc-hunter33": "body"}
    for secret, place in shown.items():
        assert (secret in trace.request[place]) is reveal, secret
    assert f"X-Tenant: {'theirs' if reveal else BLOT}" in trace.request["headers"]
    assert (trace.response["statusCode"], trace.response["statusMessage"]) == ("200", "OK")
    assert "content-type: application/json" in trace.response["headers"].lower()
    assert ("acc-hunter33" in trace.response["body"]) is reveal


@pytest.mark.parametrize("status", (302, 307))
async def test_a_redirect_to_another_origin_takes_no_credentials_along(
    target: HttpTarget, shelf: ConnectionShelf, status: int
) -> None:
    """With its control: a redirect within the origin keeps them."""
    other, arn = Wire(), shelf.add("c", API_KEY)
    async with serving(other) as stranger:

        class Moving(Wire):
            place = ""

            async def answer(self, request: web.Request) -> web.StreamResponse:
                if request.path == "/end":
                    return web.Response()
                return web.Response(status=status, headers={"Location": self.place})

        home = Moving()
        async with serving(home) as server:
            home.place = url(stranger, "/elsewhere")
            output(await call(target, url(server), arn, Headers={"X-Mine": "1"}))
            home.place = "/end"
            output(await call(target, url(server), arn))
    (_, headers, _), *more = other.requests
    assert not more
    assert "x-api-key" not in headers
    assert headers["x-mine"] == "1"
    assert [path for path, headers, _ in home.requests if "x-api-key" in headers] == ["/", "/", "/end"]


async def test_a_body_with_secrets_is_not_sent_on_to_another_origin(target: HttpTarget, shelf: ConnectionShelf) -> None:
    other = Wire()
    async with serving(other) as stranger:

        async def move(_: web.Request) -> web.Response:
            raise web.HTTPTemporaryRedirect(url(stranger))

        async with serving(move) as server:
            error, cause = failure(await call(target, url(server), shelf.add("c", ADDING)))
    assert error == "Stepwell.EgressDenied"
    assert "hunter" not in cause
    assert other.requests == []


async def test_a_connection_that_is_not_there(target: HttpTarget) -> None:
    error, cause = failure(await call(target, "http://127.0.0.1:1/", "nobody"))
    assert error == "Events.ConnectionResource.NotFound"
    assert "nobody" in cause


async def test_a_connection_whose_key_is_lost(target: HttpTarget, shelf: ConnectionShelf) -> None:
    shelf.box = SecretBox(bytes(32))
    error, cause = failure(await call(target, "http://127.0.0.1:1/", shelf.add("c", API_KEY)))
    assert error == "Events.ConnectionResource.InvalidConnectionState"
    assert "STEPWELL_SECRET_KEY" in cause


class TokenServer(Wire):
    """Gives out tokens token-hunter-1, -2, ...; with `lifetime` seconds each."""

    def __init__(self, **fields: Any) -> None:
        super().__init__()
        self.fields = fields
        self.open = asyncio.Event()
        self.open.set()
        self.reached = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        number = len(self.requests)
        self.reached.set()
        await self.open.wait()
        return web.json_response({"access_token": f"token-hunter-{number}", "token_type": "Bearer", **self.fields})


class Guarded(Wire):
    """Accepts the tokens in `good`."""

    def __init__(self, *good: str) -> None:
        super().__init__()
        self.good = set(good)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        token = request.headers["Authorization"].removeprefix("Bearer token-hunter-")
        return web.json_response({"token": token}, status=200 if token in self.good else 401)


def oauth(endpoint: str, **more: Any) -> str:
    client = {"ClientID": "me:&", "ClientSecret": "secret-hunter22 +"}
    return json.dumps(
        {
            "OAuthParameters": {
                "AuthorizationEndpoint": endpoint,
                "HttpMethod": "POST",
                "ClientParameters": client,
                **more,
            }
        }
    )


async def test_a_token_is_asked_for_once_and_kept_until_shortly_before_its_end(
    target: HttpTarget, shelf: ConnectionShelf, clock: StillClock
) -> None:
    tokens, api = TokenServer(expires_in="3600"), Guarded("1", "2")
    async with serving(tokens) as identity, serving(api) as server:
        arn = shelf.add("c", oauth(url(identity, "/token")))
        for seconds, number in ((0, "1"), (3539, "1"), (2, "2"), (3000, "2")):
            clock.seconds += seconds
            result = output(await call(target, url(server), arn))
            assert result["ResponseBody"] == {"token": number}
    assert len(tokens.requests) == 2
    path, headers, body = tokens.requests[0]
    assert (path, body) == ("/token", "grant_type=client_credentials")
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    user = base64.b64decode(headers["authorization"].removeprefix("Basic ")).decode()
    assert user == "me%3A%26:secret-hunter22+%2B"


async def test_a_client_can_authenticate_in_the_body(target: HttpTarget, shelf: ConnectionShelf) -> None:
    tokens, api = TokenServer(), Guarded("1")
    more = {
        "ClientAuthentication": "BODY",
        "Scope": "read write",
        "OAuthHttpParameters": {
            "BodyParameters": [{"Key": "audience", "Value": "a b"}],
            "HeaderParameters": [{"Key": "X-Tenant", "Value": "t"}],
            "QueryStringParameters": [{"Key": "v", "Value": "1"}],
        },
    }
    async with serving(tokens) as identity, serving(api) as server:
        output(await call(target, url(server), shelf.add("c", oauth(url(identity, "/token?x=y"), **more))))
    path, headers, body = tokens.requests[0]
    assert path == "/token?x=y&v=1"
    assert "authorization" not in headers
    assert headers["x-tenant"] == "t"
    assert body == (
        "grant_type=client_credentials&scope=read+write&client_id=me%3A%26&client_secret=secret-hunter22+%2B&audience=a+b"
    )


async def test_many_tasks_share_one_token_request(target: HttpTarget, shelf: ConnectionShelf) -> None:
    """Also when the task that began it is given up."""
    tokens, api = TokenServer(expires_in=60), Guarded("1")
    tokens.open.clear()
    async with serving(tokens) as identity, serving(api) as server:
        arn = shelf.add("c", oauth(url(identity)))
        first, *others = [asyncio.create_task(call(target, url(server), arn)) for _ in range(20)]
        await tokens.reached.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        tokens.open.set()
        results = await asyncio.gather(*others)
    assert [output(result)["StatusCode"] for result in results] == [200] * 19
    assert len(tokens.requests) == 1


async def test_a_token_that_is_refused_is_renewed_once(target: HttpTarget, shelf: ConnectionShelf) -> None:
    tokens, api = TokenServer(expires_in=3600), Guarded("1")
    async with serving(tokens) as identity, serving(api) as server:
        arn = shelf.add("c", oauth(url(identity)))
        output(await call(target, url(server), arn))
        api.good = {"2"}
        assert output(await call(target, url(server), arn))["ResponseBody"] == {"token": "2"}
        api.good = set()
        error, cause = failure(await call(target, url(server), arn))
    assert error == "States.Http.StatusCode.401"
    assert "hunter" not in cause
    assert len(tokens.requests) == 3
    assert len(api.requests) == 1 + 2 + 2


async def test_a_401_without_a_token_is_not_repeated(target: HttpTarget, shelf: ConnectionShelf) -> None:
    class Closed(Wire):
        async def answer(self, request: web.Request) -> web.StreamResponse:
            return web.Response(status=401)

    wire = Closed()
    async with serving(wire) as server:
        assert failure(await call(target, url(server), shelf.add("c", API_KEY)))[0] == "States.Http.StatusCode.401"
    assert len(wire.requests) == 1


async def test_a_changed_connection_asks_for_a_new_token(target: HttpTarget, shelf: ConnectionShelf) -> None:
    tokens, api = TokenServer(expires_in=3600), Guarded("1", "2")
    async with serving(tokens) as identity, serving(api) as server:
        for number in ("1", "2"):
            arn = shelf.add("c", oauth(url(identity)))
            assert output(await call(target, url(server), arn))["ResponseBody"] == {"token": number}


@pytest.mark.parametrize(
    ("status", "text", "says"),
    (
        (400, '{"error":"invalid_client","got":"secret-hunter22 +"}', "invalid_client"),
        (200, "<html>log in</html>", "with no JSON object"),
        (200, '{"access_token": 5}', "access_token but answered 200 with access_token"),
        (200, '{"access_token": "a\\nhunter22"}', "no usable access_token"),
        (200, '{"accessToken": "token-hunter22", "x": 1}', "with accessToken, x"),
        (500, "", "500"),
    ),
)
async def test_no_token_to_be_had(
    target: HttpTarget, shelf: ConnectionShelf, status: int, text: str, says: str
) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    async with serving(refuse) as identity:
        error, cause = failure(await call(target, "http://127.0.0.1:1/", shelf.add("c", oauth(url(identity)))))
    assert error == "Events.ConnectionResource.AuthorizationFailed"
    assert says in cause
    assert "connection c" in cause
    assert "hunter" not in cause


async def test_the_token_endpoint_is_guarded_too(target: HttpTarget, shelf: ConnectionShelf) -> None:
    arn = shelf.add("c", oauth("http://169.254.169.254/token"))
    error, cause = failure(await call(target, "http://127.0.0.1:1/", arn))
    assert error == "Stepwell.EgressDenied"
    assert "connection c" in cause
