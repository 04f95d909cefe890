"""`stepwell deploy`: state machines from files, created or updated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from stepwell.cli.client import Client, part
from stepwell.cli.failures import ExitCode, Failure, fail_hard
from stepwell.cli.options import json_option, pass_output
from stepwell.cli.output import Output
from stepwell.cli.validate_settings import TYPES

SUFFIXES = (".asl.json", ".asl.yaml", ".asl.yml", ".json", ".asl", ".yaml", ".yml")
PLAIN_NAMES = ("definition", "statemachine", "state-machine", "machine")
"""Files so named are called after their folder."""


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--name", help="The state machine's name.  [the file's, or its folder's]")
@click.option("--type", "machine_type", type=click.Choice(TYPES), help="The kind of workflow.  [STANDARD]")
@click.option("--role-arn", help="The role in the machine's record and history.")
@click.option("--description", help="What the machine is for.")
@json_option
@pass_output
def deploy(
    output: Output,
    files: tuple[str, ...],
    name: str | None,
    machine_type: str | None,
    role_arn: str | None,
    description: str | None,
) -> None:
    """Create or update the state machines that FILEs define. Doing it twice changes nothing.

    All files are checked before the first is sent. Executions that run keep the definition they were started with.
    """
    if name is not None and len(files) > 1:
        raise click.UsageError("--name is for a single file.")
    texts = checked_texts(output, files, machine_type)
    client = Client.from_environment()
    views = []
    for file, text in texts:
        body: dict[str, Any] = {"definition": text}
        body |= {
            key: value
            for key, value in (("type", machine_type), ("roleArn", role_arn), ("description", description))
            if value is not None
        }
        view = deploy_one(client, name or name_of(file), body, file)
        views.append(view)
        output.say(f"{click.style('✓', fg='green')} {view['name']}  revision {view['revision']}  {view['arn']}")
    output.document({"stateMachines": views})


def deploy_one(client: Client, machine: str, body: dict[str, Any], file: str) -> Any:
    """Put one machine; a refusal names the file."""
    try:
        return client.put(f"/v1/state-machines/{part(machine)}", body)
    except Failure as failure:
        raise Failure(
            f"{file}: {failure.message}", ExitCode(failure.exit_code), code=failure.code, details=failure.details
        ) from None


def name_of(file: str) -> str:
    """The name of the machine a file defines: the file's, or its folder's where the file's says nothing."""
    path = Path(file)
    name = path.name
    suffix = next((one for one in SUFFIXES if name.lower().endswith(one)), "")
    plain = name[: len(name) - len(suffix)] if suffix else name
    return path.absolute().parent.name if plain.lower() in PLAIN_NAMES else plain


def checked_texts(output: Output, files: Sequence[str], machine_type: str | None = None) -> list[tuple[str, str]]:
    """The files with their texts, none of which has errors; shows those of all and ends with code 1 where any has."""
    from stepwell.cli.checking import Paint, check_file, diagnostic_json, result_lines
    from stepwell.cli.validate_settings import SettingsError, read_settings

    try:
        settings = read_settings(Path.cwd()).overridden(None, machine_type, None, ())
    except SettingsError as error:
        raise Failure(str(error), ExitCode.UNUSABLE, code="InvalidSetting") from None
    results = [check_file(file, settings, runnable=True) for file in files]
    for result in results:
        if result.findings or result.unreadable:
            for line in result_lines(result, Paint()):
                output.remark(line)
    if any(result.unreadable is not None for result in results):
        fail_hard(ExitCode.UNUSABLE)
    refused = [result for result in results if result.fails(strict=False)]
    if refused:
        files_json = [
            {"file": one.name, "diagnostics": [diagnostic_json(each) for each in one.findings]} for one in refused
        ]
        raise Failure("Nothing was deployed.", code="InvalidDefinition", details={"files": files_json})
    return [
        (file, as_text(one.value) if one.yaml else one.text.decode("utf-8-sig"))
        for file, one in zip(files, results, strict=True)
    ]


def as_text(value: Any) -> str:
    """A JSON value as the text of a definition."""
    return json.dumps(value, ensure_ascii=False, indent=2)
