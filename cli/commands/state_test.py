"""`stepwell test-state`: one state of a definition, run once by itself; here, or on a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click

from stepwell.cli.failures import ExitCode, Failure, fail_hard
from stepwell.cli.options import examples, json_option, pass_output, read_input
from stepwell.cli.output import Output, pretty

if TYPE_CHECKING:
    from stepwell.cli.local import Performers
    from stepwell.engine.machine.events import TaskFailed, TaskSucceeded
    from stepwell.engine.ports import TaskRequest

SUCCESSES = ("SUCCEEDED", "CAUGHT_ERROR")
LONGEST_TEST = 320.0
SHOWN_NAMES = 10


@click.command(
    "test-state",
    epilog=examples(
        "stepwell test-state order.asl.json -s Charge -m '{\"charged\": 40}' --inspect",
        "stepwell test-state order.asl.json -s Charge --mock-error Busy --retries 1",
    ),
)
@click.argument("file", metavar="FILE")
@click.option("-s", "--state", metavar="NAME", help="Which state of a state machine; its first where none is named.")
@click.option("-i", "--input", "input_text", metavar="JSON|@FILE|-", help="The state's input; {} where none is given.")
@click.option("-m", "--mock", metavar="JSON|@FILE", help="The result of the state's work, instead of doing it.")
@click.option("--mock-error", metavar="NAME[:CAUSE]", help="The error the state's work ends with, instead of doing it.")
@click.option(
    "--validation", type=click.Choice(["STRICT", "PRESENT", "NONE"]), default="STRICT", show_default=True,
    help="How strictly a mocked result of an AWS service is held to its API.",
)  # fmt: skip
@click.option("--variables", metavar="JSON|@FILE", help="The variables the state sees.")
@click.option("--context", metavar="JSON|@FILE", help="The context object the state sees; needs a mock.")
@click.option("--retries", type=click.IntRange(0), help="How many retries of the mocked error were made before.")
@click.option("--failed-iterations", type=click.IntRange(0), help="How many iterations of the mocked Map failed.")
@click.option("--items", metavar="TEXT|@FILE", help="What the ItemReader of the mocked Map reads.")
@click.option(
    "-f", "--functions", multiple=True, metavar="MODULE[:ATTR]",
    help="Python functions to call: a module, a callable or a mapping in it, or NAME=MODULE:CALLABLE.",
)  # fmt: skip
@click.option("--http", is_flag=True, help="Let an HTTP task really go out, to public addresses.")
@click.option("--http-allow", metavar="HOST,..", help="Let an HTTP task go out to these addresses too.")
@click.option("--reveal-secrets", is_flag=True, help="Show what a connection adds to an HTTP request.")
@click.option("--inspect", is_flag=True, help="Show the value at each step of the state's data flow.")
@click.option("--server", is_flag=True, help="Test it on the server, with its functions, connections and workers.")
@json_option
@pass_output
def test_state(
    output: Output,
    /,
    file: str,
    state: str | None,
    input_text: str | None,
    functions: tuple[str, ...],
    http: bool,
    http_allow: str | None,
    inspect: bool,
    server: bool,
    **options: Any,
) -> None:
    """Run one state of the definition in FILE once, by itself. FILE holds the state, or a state machine.

    Its output goes to stdout, the picture of --inspect to stderr. Exit code 0: it succeeded, or its error is caught; 1: it
    failed, or the definition is invalid; 2: it needs what is not given here.
    """
    from stepwell.cli.flow_picture import picture

    text, state, fields = _definition(output, file, state)
    body = {"definition": text, "inspectionLevel": "TRACE", **_body(state, input_text, options)}
    if server:
        from stepwell.cli.client import Client

        client = Client.from_environment()
        told = client.post("/v1/test-state", body, patience=LONGEST_TEST)
    else:
        allow = http_allow if http_allow is not None else ("" if http else None)
        told = asyncio.run(_test_here(body, functions, allow))
    output.document(told)
    if inspect:
        for line in picture(told, fields, state or "State"):
            output.remark(line)
    elif "error" in told or told["status"] != "SUCCEEDED":
        output.remark(f"{told['status']}: {told.get('error', '')} {told.get('cause', '')}".rstrip(), fg="red")
    if "output" in told:
        output.say(pretty(told["output"]))
    if told["status"] not in SUCCESSES:
        fail_hard(ExitCode.FAILED)


def _definition(output: Output, file: str, state: str | None) -> tuple[str, str | None, dict[str, Any]]:
    """The text of a definition, the name of the state in it that is meant (None: it is the state), and that state's fields."""
    from stepwell.cli.checking import Paint, refused, result_lines
    from stepwell.cli.definition_files import UnreadableError, is_yaml, read_definition_file
    from stepwell.engine.asl.diagnostics import DefinitionError
    from stepwell.engine.asl.document import Syntax, read_document

    raw = b""
    try:
        raw, _ = read_definition_file(file)
        value = read_document(raw, Syntax.YAML if is_yaml(file, raw) else Syntax.JSON).value
    except UnreadableError as error:
        raise Failure(str(error), ExitCode.UNUSABLE, code="NoFile") from None
    except DefinitionError as error:
        for line in result_lines(refused(file, raw, error), Paint()):
            output.remark(line)
        raise Failure("The definition is invalid.", code="InvalidDefinition") from None
    text = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict) or "States" not in value:
        if state is not None:
            raise click.UsageError(f"{file} holds a single state; --state is for a state machine.")
        return text, None, value if isinstance(value, dict) else {}
    name = state if state is not None else str(value.get("StartAt", ""))
    found = _find(value, name)
    if found is None and state is not None:
        raise click.UsageError(f"{file} has no state '{state}'{_instead(state, list(_names(value)))}")
    return text, name, found or {}


def _instead(name: str, names: list[str]) -> str:
    near = get_close_matches(name, names, 1)
    if near:
        return f". Did you mean '{near[0]}'?"
    shown = ", ".join(names[:SHOWN_NAMES])
    return f". It has {shown}{', ...' if len(names) > SHOWN_NAMES else ''}." if names else "."


def _names(value: Any) -> Iterator[str]:
    """The names of all states, however deep they lie."""
    if isinstance(value, list):
        for one in value:
            yield from _names(one)
    elif isinstance(value, dict):
        states = value.get("States")
        yield from states if isinstance(states, dict) else ()
        for one in value.values():
            yield from _names(one)


def _find(value: Any, name: str) -> dict[str, Any] | None:
    """The state of this name, however deep it lies."""
    if isinstance(value, list):
        return next((found for one in value if (found := _find(one, name)) is not None), None)
    if not isinstance(value, dict):
        return None
    states = value.get("States")
    if isinstance(states, dict) and isinstance(states.get(name), dict):
        return dict(states[name])
    return next((found for one in value.values() if (found := _find(one, name)) is not None), None)


def _body(state: str | None, input_text: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """The request, as REST has it."""
    body: dict[str, Any] = {"input": json.loads(read_input(input_text))}
    if state is not None:
        body["stateName"] = state
    for member in ("variables", "context"):
        if options[member] is not None:
            body[member] = json.loads(read_input(options[member], f"--{member}"))
    if options["reveal_secrets"]:
        body["revealSecrets"] = True
    if options["mock"] is not None and options["mock_error"] is not None:
        raise click.UsageError("--mock and --mock-error exclude each other.")
    if options["mock"] is not None:
        result = json.loads(read_input(options["mock"], "--mock"))
        body["mock"] = {"result": result, "fieldValidationMode": options["validation"]}
    elif options["mock_error"] is not None:
        error, _, cause = options["mock_error"].partition(":")
        body["mock"] = {"errorOutput": {"error": error} | ({"cause": cause.strip()} if cause else {})}
    configuration = {
        "retrierRetryCount": options["retries"],
        "mapIterationFailureCount": options["failed_iterations"],
        "mapItemReaderData": None if options["items"] is None else _source(options["items"]),
    }
    configuration = {name: value for name, value in configuration.items() if value is not None}
    return {**body, "stateConfiguration": configuration} if configuration else body


def _source(text: str) -> str:
    """What an ItemReader reads, as it is: it need not be JSON."""
    from pathlib import Path

    from stepwell.cli.options import read_file

    if not text.startswith("@"):
        return text
    try:
        return read_file(Path(text[1:])).decode()
    except UnicodeDecodeError:
        raise Failure(f"{text[1:]} is not in UTF-8.", ExitCode.UNUSABLE, code="InvalidInput") from None


async def _test_here(body: dict[str, Any], functions: tuple[str, ...], http_allow: str | None) -> Any:
    """Test it in this process; the answer is the one REST gives."""
    import msgspec

    from stepwell.api.rest import bodies, views
    from stepwell.api.rest.state_tests import request_of
    from stepwell.cli.local import Performers, load_functions
    from stepwell.cli.system import SystemClock, SystemSeeds
    from stepwell.engine.runtime.expressions import carry_out_in_thread
    from stepwell.engine.service.context import RequestContext
    from stepwell.engine.service.state_tests import StateTests

    clock = SystemClock()
    performers = Performers(load_functions(functions), clock, http_allow)
    tests = StateTests(_Here(performers), clock, SystemSeeds(), carry_out_in_thread, reveals=True)
    try:
        request = request_of(bodies.read(bodies.decoder(bodies.TestStateBody), json.dumps(body).encode()))
        result = await tests.test(RequestContext(), request)
    finally:
        await performers.close()
    return json.loads(msgspec.json.encode(views.state_test(result)))


class _Here:
    """Who performs a task without a server."""

    def __init__(self, performers: Performers) -> None:
        self._performers = performers

    async def perform_once(self, request: TaskRequest) -> TaskSucceeded | TaskFailed:
        from stepwell.engine.machine.events import TaskFailed, TaskSucceeded

        try:
            result = await self._performers.perform(request)
        except Failure:
            result = None
        if isinstance(result, TaskSucceeded | TaskFailed):
            return result
        raise Failure(
            f"The state calls {request.resource.text}, which is not given here. Give a Python function with --functions, let "
            "HTTP go out with --http, test it on a server with --server, or make its result up with --mock or --mock-error.",
            ExitCode.UNUSABLE,
            code="NoTarget",
        )
