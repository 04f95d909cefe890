"""`stepwell validate` with all its options; the work is done by `cli.checking`."""

from __future__ import annotations

import click

from stepwell.cli.checking import check
from stepwell.cli.options import json_option, pass_output
from stepwell.cli.output import Output


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--target", type=click.Choice(["stepwell", "aws"]), default="stepwell", show_default=True,
    help="Whose rules: with aws, resources that only Stepwell has are reported.",
)  # fmt: skip
@click.option(
    "--type", "machine_type", type=click.Choice(["STANDARD", "EXPRESS"]), default="STANDARD", show_default=True,
    help="The kind of state machine it is to be.",
)  # fmt: skip
@click.option("--strict", is_flag=True, help="Let warnings fail as errors do.")
@json_option
@pass_output
def validate(output: Output, files: tuple[str, ...], target: str, machine_type: str, strict: bool) -> None:
    """Check definitions in FILEs (- is stdin) and show everything that is wrong with them.

    Exit code 0: no errors; 1: errors; 2: a file could not be read.
    """
    code = check(files, as_json=output.json, target=target, machine_type=machine_type, strict=strict)
    click.get_current_context().exit(code)
