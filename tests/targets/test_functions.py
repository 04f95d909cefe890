"""Function tasks: whom a name leads to, what comes back, and how errors are called."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Self

import pytest
from aiohttp import web

from stepwell.engine.asl.resources import TargetKind
from stepwell.engine.errors import ConfigurationError
from stepwell.engine.jsontypes import read
from stepwell.engine.machine.events import TaskSubmitted
from stepwell.engine.ports import FunctionKind, FunctionRecord, TargetResult, TaskRequest
from stepwell.engine.targets.function_hosts import FunctionHostPool
from stepwell.engine.targets.functions import REGISTRY_SECONDS, FunctionTarget
from stepwell.engine.targets.http import HttpSettings
from stepwell.engine.targets.registry import POLLED, TargetRegistry
from tests.conftest import ROOT
from tests.targets.servers import StillClock, failure, output, request, serving, url

INVOKE = "arn:aws:states:::lambda:invoke"
PLAIN = "arn:aws:lambda:us-east-1:000000000000:function:"
MODULE = "tests.workers.sample_functions"
HEADERS = {
    "X-Amz-Executed-Version", "x-amzn-Remapped-Content-Length", "Connection", "x-amzn-RequestId", "Content-Length", "Date",
    "X-Amzn-Trace-Id", "Content-Type",
}  # fmt: skip


class Registry:
    """The function registry in memory; counts how often it is asked."""

    def __init__(self) -> None:
        self.records: dict[str, FunctionRecord] = {}
        self.asked: list[str] = []

    def add(self, name: str, kind: FunctionKind, target: str) -> None:
        self.records[name] = FunctionRecord(name, kind, target)

    async def get(self, name: str) -> FunctionRecord | None:
        self.asked.append(name)
        return self.records.get(name)


class CeleryStub:
    """Notes what it is to send."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, tuple[bytes, bytes] | None]] = []

    async def send(
        self, request: TaskRequest, task: str, payload: bytes, *, around: tuple[bytes, bytes] | None = None
    ) -> None:
        self.sent.append((task, payload, around))


class Bench:
    """A function target and what it stands on."""

    def __init__(self, hosts: FunctionHostPool, function_url: str | None = None, *, allow: str = "loopback") -> None:
        self.registry, self.clock, self.celery = Registry(), StillClock(), CeleryStub()
        self.session = HttpSettings(allow=allow).session()
        self.target = FunctionTarget(
            self.registry, hosts, self.session, self.clock, celery=self.celery, url=function_url
        )

    async def invoke(self, **parameters: Any) -> TargetResult:
        return await self.target.perform(request(parameters, INVOKE))

    async def call(self, name: str, payload: Any = None) -> TargetResult:
        return await self.target.perform(request(payload, PLAIN + name))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.target.close()
        await self.session.close()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    hosts = FunctionHostPool([MODULE], directory=ROOT)
    await hosts.start()
    async with Bench(hosts) as bench:
        bench.registry.add("echo", FunctionKind.PYTHON, f"{MODULE}:echo")
        yield bench
    await hosts.close()


async def test_a_function_arn_gives_the_functions_own_result(bench: Bench) -> None:
    assert output(await bench.call("echo", {"a": 1})) == {"a": 1}
    answer = output(await bench.call("charge-card", {"amount": 3}))
    assert answer["arn"] == PLAIN + "charge-card:$LATEST"
    assert (answer["charged"], answer["key"], answer["state"]) == (3, "key-of-this-attempt", "Call")


async def test_invoke_gives_the_whole_answer(bench: Bench) -> None:
    answer = output(await bench.invoke(FunctionName="echo", Payload={"n": [1, None]}))
    assert list(answer) == ["ExecutedVersion", "Payload", "SdkHttpMetadata", "SdkResponseMetadata", "StatusCode"]
    assert (answer["ExecutedVersion"], answer["Payload"], answer["StatusCode"]) == ("$LATEST", {"n": [1, None]}, 200)
    http = answer["SdkHttpMetadata"]
    assert http["HttpStatusCode"] == 200
    assert set(http["HttpHeaders"]) == set(http["AllHttpHeaders"]) == HEADERS
    assert http["AllHttpHeaders"] == {name: [value] for name, value in http["HttpHeaders"].items()}
    assert http["HttpHeaders"]["Content-Length"] == str(len('{"n":[1,null]}'))
    assert http["HttpHeaders"]["Date"] == "Thu, 01 Jan 1970 00:16:40 GMT"
    assert answer["SdkResponseMetadata"] == {"RequestId": http["HttpHeaders"]["x-amzn-RequestId"]}


@pytest.mark.parametrize(
    "name", ("echo", "echo:prod", "000000000000:function:echo", PLAIN + "echo", PLAIN + "echo:$LATEST", "function:echo")
)
async def test_a_function_has_many_names(bench: Bench, name: str) -> None:
    assert output(await bench.invoke(FunctionName=name, Payload=1))["Payload"] == 1


async def test_an_alias_may_be_registered_by_itself(bench: Bench) -> None:
    bench.registry.add("echo:triple", FunctionKind.PYTHON, f"{MODULE}:only_event_by_default")
    assert output(await bench.invoke(FunctionName="echo", Qualifier="triple", Payload=2))["Payload"] == 6
    assert output(await bench.invoke(FunctionName="echo", Payload=2))["Payload"] == 2


async def test_payload_may_be_absent_or_null_and_then_is_an_empty_object(bench: Bench) -> None:
    assert output(await bench.invoke(FunctionName="echo"))["Payload"] == {}
    assert output(await bench.invoke(FunctionName="echo", Payload=None))["Payload"] == {}


async def test_kinds_of_invocation(bench: Bench) -> None:
    left = output(await bench.invoke(FunctionName="echo", InvocationType="Event", Payload=1))
    assert (left["StatusCode"], left["Payload"], "ExecutedVersion" in left) == (202, "", False)
    dry = output(await bench.invoke(FunctionName="echo", InvocationType="DryRun"))
    assert dry["StatusCode"] == 204
    assert "LogResult" in output(await bench.invoke(FunctionName="echo", LogType="Tail"))


@pytest.mark.parametrize(
    "parameters",
    ({}, {"FunctionName": 5}, {"FunctionName": "no name"}, {"FunctionName": "echo", "InvocationType": "Now"}),
)
async def test_parameters_that_cannot_be(bench: Bench, parameters: dict[str, Any]) -> None:
    error, cause = failure(await bench.invoke(**parameters))
    assert error == "States.Runtime"
    assert "could not be used to start the Task" in cause


async def test_a_function_that_is_not_there(bench: Bench) -> None:
    error, cause = failure(await bench.invoke(FunctionName="nobody", Payload=None))
    assert error == "Lambda.ResourceNotFoundException"
    head, _, rest = cause.partition("Request ID: ")
    assert head == (
        "Function not found: arn:aws:lambda:us-east-1:000000000000:function:nobody:$LATEST "
        "(Service: AWSLambda; Status Code: 404; Error Code: ResourceNotFoundException; "
    )
    assert rest.endswith("; Proxy: null)")


async def test_an_error_of_the_function_is_the_tasks(bench: Bench) -> None:
    bench.registry.add("decline", FunctionKind.PYTHON, f"{MODULE}:decline")
    for answer in (await bench.call("decline"), await bench.invoke(FunctionName="decline")):
        error, cause = failure(answer)
        assert error == "CardDeclined"
        assert list(json.loads(cause)) == ["errorMessage", "errorType", "requestId", "stackTrace"]


async def test_a_function_that_ends_every_host_is_lost(bench: Bench, tmp_path: Any) -> None:
    bench.registry.add("crash", FunctionKind.PYTHON, f"{MODULE}:crash")
    error, cause = failure(await bench.call("crash", {"log": str(tmp_path / "log")}))
    assert error == "Stepwell.WorkerLost"
    assert "'crash'" in cause


async def test_with_a_task_token_the_answer_is_only_its_submission(bench: Bench) -> None:
    asked = request({"FunctionName": "echo", "Payload": {"t": 1}}, INVOKE + ".waitForTaskToken")
    answer = await bench.target.perform(asked)
    assert isinstance(answer, TaskSubmitted)
    submitted: Any = read(bytes(answer.output))
    assert submitted["Payload"] == {"t": 1}


async def test_the_registry_is_asked_once_in_a_while_and_at_once_when_it_changed(bench: Bench) -> None:
    for _ in range(3):
        await bench.call("echo", 1)
    assert bench.registry.asked == ["echo"]
    bench.registry.add("echo", FunctionKind.PYTHON, f"{MODULE}:only_event_by_default")
    assert output(await bench.call("echo", 1)) == 1
    bench.clock.seconds += REGISTRY_SECONDS
    assert output(await bench.call("echo", 1)) == 3
    bench.registry.add("echo", FunctionKind.PYTHON, f"{MODULE}:echo")
    bench.target.forget("echo")
    assert output(await bench.call("echo", 1)) == 1


async def test_a_celery_task_is_handed_over_with_its_envelope(bench: Bench) -> None:
    bench.registry.add("job", FunctionKind.CELERY, "shop.job")
    assert await bench.call("job", {"a": 1}) is None
    assert await bench.invoke(FunctionName="job", Payload={"a": 2}) is None
    (plain, enveloped) = bench.celery.sent
    assert plain == ("shop.job", b'{"a":1}', None)
    before, after = enveloped[2] or (b"", b"")
    answer: Any = read(before + b'"done"' + after)
    assert (answer["Payload"], answer["StatusCode"]) == ("done", 200)


class LambdaServer:
    """A server of Lambda's Invoke API with a few functions."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []

    async def __call__(self, asked: web.Request) -> web.StreamResponse:
        self.requests.append(asked)
        name = asked.path.split("/")[3]
        body = await asked.read()
        headers = {"X-Amz-Executed-Version": "7", "x-amzn-RequestId": "theirs"}
        match name:
            case "echo":
                return web.Response(body=body, headers=headers)
            case "failing":
                failed = {"errorMessage": "m", "errorType": "CustomError", "stackTrace": []}
                return web.json_response(failed, headers={**headers, "X-Amz-Function-Error": "Unhandled"})
            case "timing-out":
                failed = {"errorMessage": "Task timed out after 3.00 seconds"}
                return web.json_response(failed, headers={"X-Amz-Function-Error": "Unhandled"})
            case "busy":
                return web.json_response(
                    {"Message": "Rate Exceeded."}, status=429, headers={"X-Amzn-ErrorType": "TooManyRequestsException"}
                )
            case "forbidden":
                return web.json_response(
                    {"message": "no"}, status=403, headers={"X-Amzn-ErrorType": "AccessDenied:http"}
                )
            case "broken":
                return web.Response(status=500, text="oops")
            case "garbage":
                return web.Response(text="no json")
        return web.json_response({"Message": "?"}, status=404)


async def test_an_invoke_url_is_called_as_lambda_is() -> None:
    server = LambdaServer()
    async with (
        serving(server) as place,
        Bench(FunctionHostPool(), url(place, "/2015-03-31/functions/") + "{name}/invocations") as bench,
    ):
        answer = output(await bench.invoke(FunctionName="echo:prod", Payload={"a": 1}, ClientContext="e30="))
        assert (answer["Payload"], answer["ExecutedVersion"]) == ({"a": 1}, "7")
        assert answer["SdkResponseMetadata"] == {"RequestId": "theirs"}
        asked = server.requests[0]
        assert asked.path_qs == "/2015-03-31/functions/echo/invocations?Qualifier=prod"
        assert asked.headers["X-Amz-Invocation-Type"] == "RequestResponse"
        assert asked.headers["X-Amz-Client-Context"] == "e30="
        assert asked.headers["Idempotency-Key"] == "key-of-this-attempt"
        assert output(await bench.call("echo", [1])) == [1]

        error, cause = failure(await bench.call("failing"))
        assert (error, json.loads(cause)["errorMessage"]) == ("CustomError", "m")
        error, cause = failure(await bench.call("timing-out"))
        assert error == "Lambda.Unknown"
        assert cause == (
            "The cause could not be determined because Lambda did not return an error type. "
            'Returned payload: {"errorMessage": "Task timed out after 3.00 seconds"}'
        )
        errors = {
            name: failure(await bench.call(name))[0] for name in ("busy", "forbidden", "broken", "garbage", "none")
        }
        assert errors == {
            "busy": "Lambda.TooManyRequestsException",
            "forbidden": "Lambda.AWSLambdaException",
            "broken": "Lambda.ServiceException",
            "garbage": "Lambda.ServiceException",
            "none": "Lambda.ResourceNotFoundException",
        }


async def test_a_registered_url_is_called_and_one_that_does_not_answer_is_an_sdk_error() -> None:
    async with Bench(FunctionHostPool()) as bench:
        async with serving(LambdaServer()) as place:
            bench.registry.add("echo", FunctionKind.HTTP, url(place, "/2015-03-31/functions/echo/invocations"))
            assert output(await bench.call("echo", 5)) == 5
        error, cause = failure(await bench.call("echo", 5))
        assert error == "Lambda.SdkClientException"
        assert cause.startswith("Unable to execute HTTP request: ")


async def test_a_registered_url_inside_the_operators_network_is_refused_unless_allowed() -> None:
    async with Bench(FunctionHostPool(), allow="") as bench:
        bench.registry.add("inner", FunctionKind.HTTP, "http://127.0.0.1:9/")
        assert failure(await bench.call("inner"))[0] == "Stepwell.EgressDenied"


class Deaf:
    """A target that is told what it is asked."""

    def __init__(self) -> None:
        self.closed = 0

    async def perform(self, request: TaskRequest) -> TargetResult:
        return None

    async def close(self) -> None:
        self.closed += 1


async def test_the_registry_of_targets_has_one_for_every_kind_and_closes_each_once() -> None:
    target = Deaf()
    kinds = [kind for kind in TargetKind if kind not in POLLED]
    registry = TargetRegistry(dict.fromkeys(kinds, target))
    await registry.close()
    assert target.closed == 1
    for kind in kinds:
        with pytest.raises(ConfigurationError, match=kind.value):
            TargetRegistry({other: target for other in kinds if other is not kind})
