"""The hot paths of REST: starting and describing executions, and what workers and tasks report. No framework in between.

Bodies are msgspec structs, user data stays the text it came as. Each is described for OpenAPI in `api.rest.openapi`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import msgspec

from stepwell.api.http import Reply, Request
from stepwell.api.rest import bodies, views
from stepwell.api.rest.references import execution_of
from stepwell.engine import limits
from stepwell.engine.messages import Claim, Outcome, WorkerReport
from stepwell.engine.ports import ExpressView, TaskAnswer
from stepwell.engine.service import refusals
from stepwell.engine.service.services import Services
from stepwell.engine.telemetry import current_traceparent, parse_traceparent

MAX_WAIT_SECONDS: Final = 300

Handler: TypeAlias = Callable[[Services, Request, str], Awaitable[Reply]]

_encoder: Final = msgspec.json.Encoder()
_start = bodies.decoder(bodies.StartBody)
_success = bodies.decoder(bodies.TaskSuccessBody)
_failure = bodies.decoder(bodies.TaskFailureBody)
_token = bodies.decoder(bodies.TaskTokenBody)
_claim = bodies.decoder(Claim)
_outcome = bodies.decoder(Outcome)
_report = bodies.decoder(WorkerReport)


def reply(value: Any, status: int = 200, **headers: str) -> Reply:
    """A JSON reply."""
    pairs = tuple((name.replace("_", "-").encode(), text.encode("latin-1")) for name, text in headers.items())
    return Reply(status, _encoder.encode(value), headers=pairs)


NO_CONTENT: Final = Reply(204, b"")


def wait_of(request: Request) -> int | None:
    """The query parameter `wait` in milliseconds; None if it is absent."""
    if not request.query_string:
        return None
    text = request.query().get("wait")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_WAIT_SECONDS:
        raise refusals.invalid(f"'wait' must be a number of seconds from 0 to {MAX_WAIT_SECONDS}")
    return int(seconds * 1000)


def sync_of(request: Request) -> bool:
    """The query parameter `sync`."""
    text = request.query().get("sync") if request.query_string else None
    if text is None or text == "false":
        return False
    if text not in ("", "true"):
        raise refusals.invalid("'sync' must be true or false")
    return True


async def start_execution(services: Services, request: Request, machine: str) -> Reply:
    body = bodies.read(_start, request.body)
    wait = wait_of(request)
    parent = parse_traceparent(request.header(b"traceparent"))
    trace = current_traceparent() if parent is None else str(parent)
    arn = await services.state_machines.arn_named(request.context, machine)
    if sync_of(request):
        if wait is not None:
            raise refusals.invalid("'sync' and 'wait' exclude each other: a synchronous execution is always waited for")
        input = None if body.input is msgspec.UNSET else bytes(body.input)
        ran = await services.executions.run_sync(arn, input=input, name=body.name, trace_header=trace)
        return reply(views.express(ran))
    started = await services.executions.start(
        arn,
        input=None if body.input is msgspec.UNSET else bytes(body.input),
        name=body.name,
        trace_header=trace,
        adopt=True,
    )
    answer = started.answer
    location = f"/v1/executions/{answer.id.hex()}"
    if started.express and wait:
        ran = await request.while_connected(services.executions.wait_express(answer.id, answer.arn, wait))
        return reply(views.express(ran), 202 if ran.stopped_at is None else 200, location=location)
    if wait is not None and not started.express:
        ended, view = await request.while_connected(services.executions.wait(answer.id, answer.arn, wait))
        shown = views.execution(view, services.executions.redrivability(view))
        return reply(shown, 200 if ended else 202, location=location)
    if not started.created:
        view = await services.executions.by_id(answer.id, answer.arn, data=False)
        return reply(views.execution(view, services.executions.redrivability(view)), 200, location=location)
    name = arn.rsplit(":", 1)[1]
    return reply(views.started(answer, name, trace), 201, location=location)


async def describe_execution(services: Services, request: Request, reference: str) -> Reply:
    id = execution_of(request.context, reference)
    wait = wait_of(request)
    finding = services.executions.find(id, reference, wait_ms=wait or 0)
    view = await (request.while_connected(finding) if wait else finding)
    if isinstance(view, ExpressView):
        return reply(views.express(view))
    return reply(views.execution(view, services.executions.redrivability(view)))


async def task_success(services: Services, request: Request, _: str) -> Reply:
    body = bodies.read(_success, request.body)
    await services.tasks.succeed(_task_token(body.token), bytes(body.output))
    return NO_CONTENT


async def task_failure(services: Services, request: Request, _: str) -> Reply:
    body = bodies.read(_failure, request.body)
    await services.tasks.fail(_task_token(body.token), body.error, body.cause)
    return NO_CONTENT


async def task_heartbeat(services: Services, request: Request, _: str) -> Reply:
    await services.tasks.heartbeat(_task_token(bodies.read(_token, request.body).token))
    return NO_CONTENT


async def worker_claim(services: Services, request: Request, _: str) -> Reply:
    return reply(await services.tasks.claim(bodies.read(_claim, request.body)))


async def worker_outcome(services: Services, request: Request, _: str) -> Reply:
    answer: TaskAnswer = await services.tasks.report_outcome(bodies.read(_outcome, request.body))
    return reply({"answer": answer})


async def worker_report(services: Services, request: Request, _: str) -> Reply:
    await services.tasks.report_worker(bodies.read(_report, request.body))
    return NO_CONTENT


def _task_token(token: str) -> str:
    if not 1 <= len(token) <= limits.MAX_TASK_TOKEN_CHARS:
        raise refusals.invalid_token()
    return token


EXACT: Final[dict[tuple[str, str], tuple[str, Handler]]] = {
    ("POST", "/v1/tasks/success"): ("rest:task_success", task_success),
    ("POST", "/v1/tasks/failure"): ("rest:task_failure", task_failure),
    ("POST", "/v1/tasks/heartbeat"): ("rest:task_heartbeat", task_heartbeat),
    ("POST", "/v1/workers/claim"): ("rest:worker_claim", worker_claim),
    ("POST", "/v1/workers/outcome"): ("rest:worker_outcome", worker_outcome),
    ("POST", "/v1/workers/report"): ("rest:worker_report", worker_report),
}
_MACHINES: Final = "/v1/state-machines/"
_STARTS: Final = "/executions"
_EXECUTIONS: Final = "/v1/executions/"


def find(method: str, path: str) -> tuple[str, Handler, str] | None:
    """The hot handler of a path, its name for metrics, and the part of the path that varies; None: it is not a hot one."""
    if method == "POST":
        exact = EXACT.get((method, path))
        if exact is not None:
            return (*exact, "")
        if path.startswith(_MACHINES) and path.endswith(_STARTS):
            machine = path[len(_MACHINES) : -len(_STARTS)]
            if machine and "/" not in machine:
                return "rest:start_execution", start_execution, machine
    elif method == "GET" and path.startswith(_EXECUTIONS) and not path.endswith(("/history", "/map-runs")):
        return "rest:describe_execution", describe_execution, path[len(_EXECUTIONS) :]
    return None
