"""`stepwell run`: one execution of a definition, here and now, with no server and nothing kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from stepwell.cli.commands.deploy import name_of
from stepwell.cli.failures import ExitCode, Failure, fail_hard
from stepwell.cli.options import examples, json_option, pass_output, read_file, read_input
from stepwell.cli.output import Output, duration, pretty, status

if TYPE_CHECKING:
    from stepwell.engine.asl.states import StateMachine
    from stepwell.engine.machine.commands import Finish
    from stepwell.engine.runtime.local import LocalExecution, Numbered
    from stepwell.engine.runtime.mocks import MockedTasks


@click.command(
    epilog=examples(
        'stepwell run order.asl.json -i \'{"id": "A-1"}\' --fast -f shop',
        "stepwell run order.asl.json -i @input.json -m mocks.json --history",
    )
)
@click.argument("file", metavar="FILE")
@click.option("-i", "--input", "input_text", metavar="JSON|@FILE|-", help="The input; {} where none is given.")
@click.option("--fast", is_flag=True, help="Skip waits and retry delays: a Wait of 30 days takes no time.")
@click.option(
    "-f", "--functions", multiple=True, metavar="MODULE[:ATTR]",
    help="Python functions to call, by name: a module, a callable or a mapping in it, or NAME=MODULE:CALLABLE.",
)  # fmt: skip
@click.option(
    "-m", "--mock", metavar="FILE", help='Results of Task states: {"State": [{"Return": ..}, {"Throw": {..}}]}.'
)
@click.option(
    "--mock-config", metavar="FILE", envvar="SFN_MOCK_CONFIG",
    help="A MockConfigFile of Step Functions Local; its state machine is the one named as FILE is.",
)  # fmt: skip
@click.option("--case", metavar="NAME", help="The test case of --mock-config.")
@click.option("--http", is_flag=True, help="Let HTTP tasks really go out, to public addresses.")
@click.option(
    "--http-allow", metavar="HOST,..", help="Let HTTP tasks go out to these addresses too, for example loopback."
)
@click.option("--name", default="local", show_default=True, help="The execution's name in the context object.")
@click.option("--history", "with_history", is_flag=True, help="Print the history events too.")
@json_option
@pass_output
def run(
    output: Output,
    file: str,
    input_text: str | None,
    fast: bool,
    functions: tuple[str, ...],
    mock: str | None,
    mock_config: str | None,
    case: str | None,
    http: bool,
    http_allow: str | None,
    name: str,
    with_history: bool,
) -> None:
    """Run the definition in FILE once, in memory. Its output goes to stdout, its progress to stderr.

    Exit code 0: it succeeded; 1: it failed, or the definition is invalid; 2: it needs what is not given here.
    """
    from stepwell.cli.local import LocalRunner, Performers, load_functions
    from stepwell.cli.progress import Progress
    from stepwell.cli.system import SystemClock, SystemSeeds
    from stepwell.engine.jsontypes import Document
    from stepwell.engine.runtime.local import LocalExecution

    machine = load_machine(output, file)
    input = Document.parse(read_input(input_text))
    mocks = mocks_of(machine, file, mock, mock_config, case)
    allow = http_allow if http_allow is not None else ("" if http else None)
    clock = SystemClock()
    performers = Performers(load_functions(functions), clock, allow)
    progress = Progress(output.remark)
    execution = LocalExecution(
        machine, clock.now_ms(), SystemSeeds(), name=name, machine_name=name_of(file) or "Local",
        on_events=lambda fresh: progress.feed(event_views(fresh)),
    )  # fmt: skip
    execution.start(input)
    runner = LocalRunner(execution, mocks, performers, clock, fast=fast)
    try:
        finish = asyncio.run(runner.whole())
    except Failure:
        if with_history:
            show_history(output, execution)
        raise
    show(output, execution, finish, with_history)
    if finish.status != "SUCCEEDED":
        fail_hard(ExitCode.FAILED)


def mocks_of(
    machine: StateMachine, file: str, mock: str | None, mock_config: str | None, case: str | None
) -> MockedTasks:
    """What answers tasks, by the options. The variable SFN_MOCK_CONFIG stands only for what --case asks for."""
    from stepwell.cli.local import read_mock_case, read_mocks
    from stepwell.engine.runtime.mocks import MockedTasks

    given = click.get_current_context().get_parameter_source("mock_config") is ParameterSource.COMMANDLINE
    wanted = given or case is not None
    if mock is not None and wanted:
        raise click.UsageError("--mock and --mock-config are two ways to say the same; give one of them.")
    if mock is not None:
        return read_mocks(read_file(Path(mock)), mock, machine)
    if not wanted:
        return MockedTasks({})
    if mock_config is None:
        raise click.UsageError("--case names a test case of the file that --mock-config gives.")
    return read_mock_case(read_file(Path(mock_config)), mock_config, machine, name_of(file), case)


def load_machine(output: Output, file: str) -> StateMachine:
    """The compiled machine of a file. Shows what is wrong with it and ends with code 1 if it is refused."""
    from stepwell.cli.checking import Paint, diagnostic_json, refused, result_lines
    from stepwell.cli.definition_files import UnreadableError, read_definition_file
    from stepwell.cli.testing.definitions import compiled
    from stepwell.engine.asl.diagnostics import DefinitionError

    try:
        text, _ = read_definition_file(file)
    except UnreadableError as error:
        raise Failure(str(error), ExitCode.UNUSABLE, code="NoFile") from None
    try:
        return compiled(file, text)
    except UnreadableError as error:
        raise Failure(str(error), ExitCode.UNUSABLE, code="NotInstalled") from None
    except DefinitionError as error:
        for line in result_lines(refused(file, text, error), Paint()):
            output.remark(line)
        details = {"diagnostics": [diagnostic_json(one) for one in error.diagnostics]}
        raise Failure("The definition is invalid.", code="InvalidDefinition", details=details) from None


def event_views(events: Sequence[Numbered]) -> list[dict[str, Any]]:
    """Events as REST shows them, their data parsed."""
    import msgspec

    from stepwell.api.rest import views

    return [json.loads(msgspec.json.encode(views.event(id, event))) for id, event in events]


def show_history(output: Output, execution: LocalExecution) -> None:
    for event in event_views(execution.history):
        click.echo(json.dumps(event, ensure_ascii=False), err=output.json)


def show(output: Output, execution: LocalExecution, finish: Finish, with_history: bool) -> None:
    """The result: the output for a success, error, cause and place for a failure."""
    started = execution.state.info.started_at
    took = finish.stopped_at - started
    value = None if finish.output is None else json.loads(finish.output.text)
    document: dict[str, Any] = {"status": finish.status.value, "durationMs": took, "events": len(execution.history)}
    if finish.output is not None:
        document["output"] = value
    told = {"error": finish.error, "cause": finish.cause, "state": finish.state}
    document |= {member: text for member, text in told.items() if text is not None}
    if with_history and output.json:
        document["history"] = event_views(execution.history)
    elif with_history:
        show_history(output, execution)
    output.document(document)
    if output.json:
        return
    word = status(finish.status.value)
    where = f" in state {finish.state}" if finish.state else ""
    output.remark(f"{word}{where} after {duration(took)}, {len(execution.history)} events")
    if finish.error or finish.cause:
        output.remark(f"  error: {finish.error or '(none)'}", fg="red")
        for line in cause_lines(finish.cause):
            output.remark(f"  {line}")
    if finish.output is not None:
        output.say(pretty(value))


def cause_lines(cause: str | None) -> list[str]:
    """A cause for people: a function's, which is JSON, as its message and stack trace."""
    if not cause:
        return []
    try:
        told = json.loads(cause)
    except ValueError:
        return [f"cause: {line}" if not number else f"       {line}" for number, line in enumerate(cause.splitlines())]
    if isinstance(told, dict) and "errorMessage" in told:
        trace = told.get("stackTrace") or []
        return [
            f"cause: {told['errorMessage']}",
            *(f"  {line}" for entry in trace for line in str(entry).rstrip().splitlines()),
        ]
    return [f"cause: {cause}"]
