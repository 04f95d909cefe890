"""`stepwell validate` with all its options; the work is done by `cli.checking`."""

from __future__ import annotations

from pathlib import Path

import click

from stepwell.cli.checking import FORMATS, check
from stepwell.cli.failures import ExitCode, Failure
from stepwell.cli.options import examples, json_option, pass_output
from stepwell.cli.output import Output
from stepwell.cli.validate_settings import TARGETS, TYPES, SettingsError, read_settings


@click.command(
    epilog=examples(
        "stepwell validate order.asl.json",
        "stepwell validate --strict --target aws flows/ template.yaml",
        "stepwell validate --format github flows/",
    )
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--target", type=click.Choice(TARGETS),
    help="Whose rules: with aws, resources that only Stepwell has are errors.  [default: stepwell]",
)  # fmt: skip
@click.option(
    "--type", "machine_type", type=click.Choice(TYPES),
    help="The kind of state machine it is to be.  [default: STANDARD]",
)  # fmt: skip
@click.option("--ignore", multiple=True, metavar="CODE", help="A warning not to show. Can be given many times.")
@click.option("--strict/--no-strict", default=None, help="Let warnings fail as errors do.")
@click.option("--format", "format_", type=click.Choice(FORMATS), help="How findings are shown.  [default: text]")
@json_option
@pass_output
def validate(
    output: Output,
    files: tuple[str, ...],
    target: str | None,
    machine_type: str | None,
    ignore: tuple[str, ...],
    strict: bool | None,
    format_: str | None,
) -> None:
    """Check definitions and show everything that is wrong with them, with its line.

    FILE is a file in JSON or YAML, a pattern, a folder, or - for stdin. Of CloudFormation, SAM and Serverless templates the
    definitions in them are checked. Defaults of target, type, ignore and strict can be set in a [validate] table of .stepwell.toml, or in [tool.stepwell.validate] of pyproject.toml.

    Exit code 0: no errors; 1: errors, or warnings with --strict; 2: a file could not be read, or a wrong setting.
    """
    try:
        settings = read_settings(Path.cwd()).overridden(target, machine_type, strict, ignore)
    except SettingsError as error:
        raise Failure(str(error), ExitCode.UNUSABLE, code="InvalidSetting") from None
    code = check(files, format_ or ("json" if output.json else "text"), settings)
    click.get_current_context().exit(code)
