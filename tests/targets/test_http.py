"""HTTP Tasks against real servers: what is sent, what comes back, and how it fails."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from aiohttp import web

from stepwell.engine.errors import ConfigurationError
from stepwell.engine.jsontypes import Json
from stepwell.engine.limits import MAX_CAUSE_LENGTH, MAX_PAYLOAD_BYTES
from stepwell.engine.machine.events import TaskFailed, TaskSubmitted
from stepwell.engine.secretbox import SecretBox
from stepwell.engine.settings import Settings
from stepwell.engine.targets.http import HttpSettings, HttpTarget, http_target
from tests.targets.servers import (
    HTTP_INVOKE,
    ConnectionShelf,
    StillClock,
    failure,
    let_time_pass,
    output,
    request,
    serving,
    url,
)


async def echo(request: web.Request) -> web.Response:
    """Answers with what it got."""
    return web.json_response(
        {
            "method": request.method,
            "path": request.path,
            "query": [[name, value] for name, value in request.query.items()],
            "headers": {name.lower(): request.headers.getall(name) for name in request.headers},
            "body": await request.text(),
        }
    )


async def sent(target: HttpTarget, path: str = "/", **parameters: Any) -> Any:
    """What the server got."""
    async with serving(echo) as server:
        result = await target.perform(request({"ApiEndpoint": url(server, path), "Method": "POST", **parameters}))
        return output(result)["ResponseBody"]


async def test_the_output_is_the_envelope_of_aws(target: HttpTarget) -> None:
    async def answer(_: web.Request) -> web.Response:
        response = web.json_response({"ok": [1, 2.5, None]}, status=201, reason="Made")
        response.headers.add("X-Two", "a")
        response.headers.add("X-Two", "b")
        return response

    async with serving(answer) as server:
        result = output(await target.perform(request({"ApiEndpoint": url(server), "Method": "GET"})))
    assert list(result) == ["Headers", "ResponseBody", "StatusCode", "StatusText"]
    assert (result["StatusCode"], result["StatusText"]) == (201, "Made")
    assert result["ResponseBody"] == {"ok": [1, 2.5, None]}
    assert result["Headers"]["x-two"] == ["a", "b"]
    assert result["Headers"]["content-type"] == ["application/json; charset=utf-8"]


async def test_the_request_carries_what_makes_it_safe_to_repeat(target: HttpTarget) -> None:
    async with serving(echo) as server:
        result = await target.perform(
            request({"ApiEndpoint": url(server), "Method": "GET"}, traceparent="00-a-b-01", delivery=2)
        )
    headers = output(result)["ResponseBody"]["headers"]
    assert headers["idempotency-key"] == ["key-of-this-attempt"]
    assert headers["stepwell-step-id"] == ["id-of-this-step"]
    assert headers["traceparent"] == ["00-a-b-01"]
    assert headers["range"] == ["bytes=0-262144"]
    assert headers["content-type"] == ["application/json"]
    assert headers["user-agent"] == ["Stepwell"]


async def test_headers_query_and_body_of_the_definition(target: HttpTarget) -> None:
    got = await sent(
        target,
        "/a%2Fb/ü?x=1&y=a%26b",
        Method="PATCH",
        Headers={"X-One": "1", "X-Many": ["a", 2, True], "user-agent": "mine", "Idempotency-Key": "my own"},
        QueryParameters={"y": "c d+é", "list": ["p", "q"], "n": 1.5, "flag": False},
        RequestBody={"a": [1, {"b": None}], "é": "ü"},
    )
    assert got["method"] == "PATCH"
    assert got["path"] == "/a/b/ü"
    assert got["query"] == [
        ["x", "1"], ["y", "a&b"], ["y", "c d+é"], ["list", "p"], ["list", "q"], ["n", "1.5"], ["flag", "false"],
    ]  # fmt: skip
    assert json.loads(got["body"]) == {"a": [1, {"b": None}], "é": "ü"}
    assert got["headers"]["x-one"] == ["1"]
    assert got["headers"]["x-many"] == ["a", "2", "true"]
    assert got["headers"]["user-agent"] == ["mine"]
    assert got["headers"]["idempotency-key"] == ["my own"]


@pytest.mark.parametrize("method", ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"))
async def test_each_method_is_sent(target: HttpTarget, method: str) -> None:
    assert (await sent(target, Method=method))["method"] == method


async def test_head_gives_headers_and_no_body(target: HttpTarget) -> None:
    async with serving(echo) as server:
        result = output(await target.perform(request({"ApiEndpoint": url(server), "Method": "HEAD"})))
    assert result["ResponseBody"] is None
    assert result["Headers"]["content-length"] != ["0"]


@pytest.mark.parametrize(
    ("content_type", "body", "wire"),
    (
        ("application/json", "text", '"text"'),
        ("application/vnd.api+json", "text", '"text"'),
        ("text/plain", "text", "text"),
        ("text/plain", {"a": 1}, '{"a":1}'),
        ("application/json", 0, "0"),
        ("application/json", None, ""),
    ),
)
async def test_a_body_is_json_unless_it_is_text_of_another_type(
    target: HttpTarget, content_type: str, body: Any, wire: str
) -> None:
    got = await sent(target, Headers={"Content-Type": content_type}, RequestBody=body)
    assert got["body"] == wire
    assert got["headers"]["content-type"] == [content_type]


FORM = {"a": ["x", "y z"], "o": {"k": [1, True]}, "n": None, "s": "é&="}


@pytest.mark.parametrize(
    ("arrays", "fields"),
    (
        (None, [("a[0]", "x"), ("a[1]", "y z"), ("o[k][0]", "1"), ("o[k][1]", "true")]),
        ("INDICES", [("a[0]", "x"), ("a[1]", "y z"), ("o[k][0]", "1"), ("o[k][1]", "true")]),
        ("REPEAT", [("a", "x"), ("a", "y z"), ("o[k]", "1"), ("o[k]", "true")]),
        ("COMMAS", [("a", "x,y z"), ("o[k]", "1,true")]),
        ("BRACKETS", [("a[]", "x"), ("a[]", "y z"), ("o[k][]", "1"), ("o[k][]", "true")]),
        ("NONE", [("a", '["x","y z"]'), ("o[k]", "[1,true]")]),
    ),
)
async def test_a_form_in_each_array_format(
    target: HttpTarget, arrays: str | None, fields: list[tuple[str, str]]
) -> None:
    transform: dict[str, Any] = {"RequestBodyEncoding": "URL_ENCODED"}
    if arrays is not None:
        transform["RequestEncodingOptions"] = {"ArrayFormat": arrays}
    got = await sent(target, RequestBody=FORM, Transform=transform)
    assert parse_qsl(got["body"], keep_blank_values=True, strict_parsing=True) == [*fields, ("n", ""), ("s", "é&=")]
    assert got["headers"]["content-type"] == ["application/x-www-form-urlencoded"]


@pytest.mark.parametrize(
    "name",
    (
        "Authorization", "connection", "Host", "Date", "Transfer-Encoding", "TE", "Upgrade", "Via", "Content-Length", "Cookie",
        "X-Forwarded-For", "x-amz-date", "X-Amzn-Trace-Id", "Proxy-Authorization", "Stepwell-Step-Id",
    ),
)  # fmt: skip
async def test_a_forbidden_header_is_refused_before_anything_is_sent(target: HttpTarget, name: str) -> None:
    result = await target.perform(
        request({"ApiEndpoint": "http://127.0.0.1:1/", "Method": "GET", "Headers": {name: "x"}})
    )
    error, cause = failure(result)
    assert error == "States.Runtime"
    assert name in cause


@pytest.mark.parametrize(
    ("changes", "says"),
    (
        ({"ApiEndpoint": None}, "ApiEndpoint must be the URL"),
        ({"ApiEndpoint": "ftp://example.com/"}, "https://"),
        ({"ApiEndpoint": "example.com/x"}, "https://"),
        ({"ApiEndpoint": "https:///x"}, "https://"),
        ({"ApiEndpoint": "https://me:hunter22@example.com/"}, "connection"),
        ({"ApiEndpoint": "https://example.com:99999/"}, "not a valid URL"),
        ({"Method": None}, "Method must be one of"),
        ({"Method": "TRACE"}, "TRACE"),
        ({"Headers": ["a"]}, "Headers must be a JSON object"),
        ({"Headers": {"X": "a\r\nHost: evil"}}, "line break"),
        ({"Headers": {"X Y": "a"}}, "X Y"),
        ({"Headers": {"X": {"a": 1}}}, "Headers.X"),
        ({"QueryParameters": {"q": None}}, "QueryParameters.q"),
        ({"Authentication": {}}, "Authentication.ConnectionArn"),
        ({"Authentication": {"ConnectionArn": "a"}, "InvocationConfig": {"ConnectionArn": "b"}}, "keep one"),
        ({"Transform": {"RequestBodyEncoding": "XML"}}, "URL_ENCODED"),
        ({"Transform": {"RequestEncodingOptions": {"ArrayFormat": "X"}}}, "INDICES"),
        ({"Transform": {"RequestBodyEncoding": "URL_ENCODED"}, "RequestBody": [1]}, "RequestBody"),
        ({"Nonsense": 1}, "'Nonsense'"),
    ),
)
async def test_parameters_that_mean_nothing(target: HttpTarget, changes: dict[str, Any], says: str) -> None:
    payload = {"ApiEndpoint": "http://127.0.0.1:1/", "Method": "GET", **changes}
    error, cause = failure(await target.perform(request(payload)))
    assert error == "States.Runtime"
    assert says in cause
    assert "hunter22" not in cause


async def test_parameters_must_be_an_object(target: HttpTarget) -> None:
    assert failure(await target.perform(request([1])))[0] == "States.Runtime"


@pytest.mark.parametrize(
    ("content_type", "raw", "body"),
    (
        ("application/json", b'{"a":1}', {"a": 1}),
        ("application/problem+json; charset=utf-8", b"7", 7),
        ("text/plain", b' {"a":1}', {"a": 1}),
        ("text/plain", b"123", "123"),
        ("application/json", b"not json", "not json"),
        ("text/csv; charset=latin-1", b"\xe9", "é"),
        ("text/plain", b"[half", "[half"),
        ("image/png", b"\x89PNG\xff", "iVBOR/8="),
        ("text/plain; charset=nonsense", b"ab", "YWI="),
        ("text/plain; charset=utf-7", b"+2AA-", "KzJBQS0="),
        ("application/json", b"", None),
    ),
)
async def test_how_a_body_is_read(target: HttpTarget, content_type: str, raw: bytes, body: Any) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=raw, headers={"Content-Type": content_type})

    async with serving(answer) as server:
        result = output(await target.perform(request({"ApiEndpoint": url(server), "Method": "GET"})))
    assert result["ResponseBody"] == body


async def test_header_bytes_that_are_no_text_do_no_harm(target: HttpTarget) -> None:
    async def raw(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX-Odd: \xff\xfe\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(raw, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        result = await target.perform(request({"ApiEndpoint": f"http://127.0.0.1:{port}/", "Method": "GET"}))
    assert output(result)["Headers"]["x-odd"] == ["\ufffd\ufffd"]


async def test_an_error_status_keeps_the_body_in_the_cause(target: HttpTarget) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(
            {"code": "card_declined"}, status=402, headers={"Retry-After": "7", "Set-Cookie": "session=1"}
        )

    async with serving(answer) as server:
        error, cause = failure(
            await target.perform(request({"ApiEndpoint": url(server, "/pay?q=1"), "Method": "POST"}))
        )
        place = url(server, "/pay")
    assert error == "States.Http.StatusCode.402"
    told = json.loads(cause)
    assert (told["StatusCode"], told["StatusText"]) == (402, "Payment Required")
    assert told["ResponseBody"] == {"code": "card_declined"}
    assert told["Headers"]["retry-after"] == ["7"]
    assert "session" not in cause
    assert told["ApiEndpoint"] == place


@pytest.mark.parametrize("character", ("x", "ü", '"', "\x01"))
@pytest.mark.parametrize("size", (MAX_CAUSE_LENGTH, MAX_PAYLOAD_BYTES * 3))
async def test_a_long_error_body_is_cut_and_the_cause_stays_json(target: HttpTarget, size: int, character: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=character * size, status=500)

    async with serving(answer) as server:
        error, cause = failure(await target.perform(request({"ApiEndpoint": url(server), "Method": "GET"})))
    assert error == "States.Http.StatusCode.500"
    assert MAX_CAUSE_LENGTH * 0.9 < len(cause) <= MAX_CAUSE_LENGTH
    told = json.loads(cause)
    assert told["ResponseBodyTruncated"] is True
    assert set(told["ResponseBody"]) == {character}


@pytest.mark.parametrize("encoding", (None, "gzip"))
async def test_a_body_that_is_too_long_is_a_data_limit(target: HttpTarget, encoding: str | None) -> None:
    """Also one that only becomes too long when it is unpacked."""

    async def answer(_: web.Request) -> web.Response:
        body = b"x" * (MAX_PAYLOAD_BYTES * 20)
        if encoding is None:
            return web.Response(body=body)
        return web.Response(body=gzip.compress(body), headers={"Content-Encoding": encoding})

    async with serving(answer) as server:
        error, cause = failure(await target.perform(request({"ApiEndpoint": url(server), "Method": "GET"})))
    assert error == "States.DataLimitExceeded"
    assert str(MAX_PAYLOAD_BYTES) in cause


async def test_nesting_without_end_is_an_error_not_a_crash(target: HttpTarget) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=b"[" * 60_000 + b"]" * 60_000, content_type="application/json")

    async with serving(answer) as server:
        result = await target.perform(request({"ApiEndpoint": url(server), "Method": "GET"}))
    assert isinstance(result, TaskFailed) or isinstance(output(result)["ResponseBody"], str)


async def test_nobody_listens(target: HttpTarget) -> None:
    async with serving(echo) as server:
        dead = url(server)
    error, cause = failure(await target.perform(request({"ApiEndpoint": dead + "?token=hunter22", "Method": "GET"})))
    assert error == "States.Http.Socket"
    assert dead in cause
    assert "refused" in cause
    assert "hunter22" not in cause


@pytest.mark.parametrize("said", (b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"))
async def test_a_connection_that_breaks_off(target: HttpTarget, said: bytes) -> None:
    async def breaks(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(breaks, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        result = await target.perform(request({"ApiEndpoint": f"http://127.0.0.1:{port}/x", "Method": "POST"}))
    error, cause = failure(result)
    assert error == "States.Http.Socket"
    assert f"127.0.0.1:{port}/x" in cause


@pytest.mark.parametrize(
    ("own", "error", "says"),
    ((None, "States.Http.Socket", "60"), (30, "States.Timeout", "30"), (90, "States.Http.Socket", "60")),
)
@pytest.mark.parametrize("headers_first", (False, True))
async def test_a_slow_answer(target: HttpTarget, own: int | None, error: str, says: str, headers_first: bool) -> None:
    reached, never = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if headers_first:
            await response.prepare(request)
            await response.write(b"x")
        reached.set()
        await never.wait()
        return response

    async with serving(slow) as server:
        performing = asyncio.create_task(
            target.perform(request({"ApiEndpoint": url(server), "Method": "GET"}, timeout_seconds=own))
        )
        await reached.wait()
        let_time_pass(100)
        got = failure(await performing)
        never.set()
    assert got[0] == error
    assert f"{says} seconds" in got[1]


async def test_a_request_that_is_cancelled_stops(target: HttpTarget) -> None:
    reached, gone = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.StreamResponse:
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        return web.Response()

    async with serving(slow) as server:
        performing = asyncio.create_task(target.perform(request({"ApiEndpoint": url(server), "Method": "GET"})))
        await reached.wait()
        performing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await performing
        await target.close()
    await gone.wait()


async def test_redirects_are_followed_as_browsers_do(target: HttpTarget) -> None:
    async def move(request: web.Request) -> web.Response:
        status = int(request.path[1:]) if request.path != "/end" else 0
        if status == 0:
            return await echo(request)
        return web.Response(status=status, headers={"Location": "end?x=1#part"})

    async with serving(move) as server:
        for status, method in ((301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")):
            parameters: Json = {"ApiEndpoint": url(server, f"/{status}"), "Method": "POST", "RequestBody": {"a": 1}}
            got = output(await target.perform(request(parameters)))["ResponseBody"]
            assert (got["method"], got["path"], got["query"]) == (method, "/end", [["x", "1"]])
            assert got["body"] == ('{"a":1}' if method == "POST" else "")


async def test_redirects_in_a_circle_end(target: HttpTarget) -> None:
    hits = 0

    async def circle(_: web.Request) -> web.Response:
        nonlocal hits
        hits += 1
        raise web.HTTPFound("/again")

    async with serving(circle) as server:
        error, cause = failure(await target.perform(request({"ApiEndpoint": url(server), "Method": "GET"})))
    assert (error, hits) == ("States.Http.Socket", 6)
    assert "more than 5 redirects" in cause


async def test_a_url_as_resource_posts_the_input_and_gives_the_answer(target: HttpTarget) -> None:
    async with serving(echo) as server:
        result = output(await target.perform(request({"order": 7}, url(server, "/orders?x=1"))))
        empty = await target.perform(request(None, url(server)))
    assert result["method"] == "POST"
    assert result["query"] == [["x", "1"]]
    assert json.loads(result["body"]) == {"order": 7}
    assert result["headers"]["content-type"] == ["application/json"]
    assert result["headers"]["idempotency-key"] == ["key-of-this-attempt"]
    assert "range" not in result["headers"]
    assert output(empty)["body"] == "null"


async def test_a_url_as_resource_fails_like_an_http_task(target: HttpTarget) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=503, text="later")

    async with serving(answer) as server:
        error, cause = failure(await target.perform(request({}, url(server))))
    assert error == "States.Http.StatusCode.503"
    assert json.loads(cause)["ResponseBody"] == "later"


async def test_with_a_task_token_the_request_only_submits(target: HttpTarget) -> None:
    async with serving(echo) as server:
        resource = HTTP_INVOKE + ".waitForTaskToken"
        submitted = await target.perform(request({"ApiEndpoint": url(server), "Method": "POST"}, resource))
        failed = await target.perform(request({"ApiEndpoint": "http://127.0.0.1:1/", "Method": "POST"}, resource))
    assert isinstance(submitted, TaskSubmitted)
    assert json.loads(bytes(submitted.output))["StatusCode"] == 200
    assert isinstance(failed, TaskFailed)
    assert (failed.error, failed.stage) == ("States.Http.Socket", "submit")


async def test_there_is_no_job_to_wait_for(target: HttpTarget) -> None:
    error, cause = failure(await target.perform(request({}, HTTP_INVOKE + ".sync")))
    assert error == "States.Runtime"
    assert HTTP_INVOKE + ".sync" in cause


async def test_what_is_not_allowed_is_an_error_that_can_be_caught(
    shelf: ConnectionShelf, box: SecretBox, clock: StillClock
) -> None:
    hits: list[str] = []

    async def note(request: web.Request) -> web.Response:
        hits.append(request.path)
        return web.Response()

    target = http_target(HttpSettings(), shelf, box, clock)
    async with serving(note) as server:
        error, cause = failure(await target.perform(request({"ApiEndpoint": url(server), "Method": "GET"})))
    await target.close()
    assert error == "Stepwell.EgressDenied"
    assert "STEPWELL_HTTP_ALLOW" in cause
    assert hits == []


def make_certificate(key: Path, certificate: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", certificate, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip


async def test_tls_is_verified_and_a_certificate_can_be_trusted(
    tmp_path: Path, shelf: ConnectionShelf, box: SecretBox, clock: StillClock
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    await asyncio.to_thread(make_certificate, key, certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    strict = http_target(HttpSettings(allow="loopback"), shelf, box, clock)
    trusting = http_target(HttpSettings(allow="loopback", ca_file=certificate), shelf, box, clock)
    app = web.Application()
    app.router.add_get("/", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    place = f"https://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        error, cause = failure(await strict.perform(request({"ApiEndpoint": place, "Method": "GET"})))
        assert error == "States.Http.Socket"
        assert "certificate" in cause
        assert output(await trusting.perform(request({"ApiEndpoint": place, "Method": "GET"})))["StatusCode"] == 200
    finally:
        await strict.close()
        await trusting.close()
        await runner.cleanup()


def test_settings_are_those_of_the_process(tmp_path: Path) -> None:
    environment = {
        "STEPWELL_HTTP_ALLOW": "loopback",
        "STEPWELL_HTTP_TIMEOUT": "5",
        "STEPWELL_HTTP_REDIRECTS": "0",
        "STEPWELL_HTTP_CONNECTIONS": "7",
        "STEPWELL_HTTP_CA_FILE": str(tmp_path / "ca.pem"),
    }
    assert HttpSettings.of(Settings.load(environment)) == HttpSettings(
        allow="loopback", timeout_seconds=5.0, max_redirects=0, max_connections=7, ca_file=tmp_path / "ca.pem"
    )
    assert HttpSettings.of(Settings.load({})) == HttpSettings()


def test_a_file_without_certificates_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing\n")
    for file in (tmp_path / "empty.pem", tmp_path / "absent.pem"):
        with pytest.raises(ConfigurationError, match="STEPWELL_HTTP_CA_FILE"):
            HttpSettings(ca_file=file).session()
