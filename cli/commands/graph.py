"""`stepwell graph`: a picture of a definition."""

from __future__ import annotations

from pathlib import Path

import click

from stepwell.cli.definition_files import UnreadableError, is_yaml, printable, read_definition_file
from stepwell.cli.failures import ExitCode, Failure
from stepwell.cli.options import examples, json_option, pass_output
from stepwell.cli.output import Output
from stepwell.engine.jsontypes import Json

FORMATS = ("mermaid", "dot", "svg")
FORMAT_OF_SUFFIX = {".svg": "svg", ".mmd": "mermaid", ".mermaid": "mermaid", ".dot": "dot", ".gv": "dot"}


@click.command(
    epilog=examples("stepwell graph order.asl.json -o order.svg", "stepwell graph --format mermaid order.asl.yaml")
)
@click.argument("file", metavar="FILE")
@click.option(
    "--format", "format_", type=click.Choice(FORMATS), help="What is written.  [default: by -o, else mermaid]"
)
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write it there, not to stdout.")
@json_option
@pass_output
def graph(output: Output, file: str, format_: str | None, out: Path | None) -> None:
    """Draw the definition in FILE (JSON or YAML, - is stdin): as SVG, for Mermaid, or in DOT for Graphviz.

    Parallel and Map states have their branches inside; choices say what they ask; catchers are dashed; ↻ counts retries.
    """
    from stepwell.engine.asl import drawing

    kind = format_ or _format_of(out)
    picture = drawing.draw(_read(file))
    text = {"svg": drawing.svg, "dot": drawing.dot, "mermaid": drawing.mermaid}[kind](picture)
    if out is not None:
        try:
            out.write_bytes(text.encode("utf-8", "replace"))
        except OSError as error:
            raise Failure(f"{out} cannot be written: {error.strerror}.", ExitCode.UNUSABLE, code="NoFile") from None
    if output.json:
        output.document({"format": kind, "file": None if out is None else str(out), "text": text})
    elif out is None:
        click.echo(text.encode("utf-8", "replace"), nl=False)


def _format_of(out: Path | None) -> str:
    if out is None:
        return "mermaid"
    kind = FORMAT_OF_SUFFIX.get(out.suffix.lower())
    if kind is None:
        raise click.UsageError(
            f"{out} does not say what to write: end it with {', '.join(FORMAT_OF_SUFFIX)}, or give --format."
        )
    return kind


def _read(file: str) -> Json:
    from stepwell.engine.asl.diagnostics import DefinitionError
    from stepwell.engine.asl.document import Syntax, read_document

    try:
        text, _ = read_definition_file(file)
        value = read_document(text, Syntax.YAML if is_yaml(file, text) else Syntax.JSON).value
    except (UnreadableError, ImportError) as error:
        raise Failure(str(error), ExitCode.UNUSABLE, code="NoFile") from None
    except DefinitionError as error:
        finding = error.diagnostics[0]
        place = f"{printable(file)}:{finding.line}:{finding.column}" if finding.line else printable(file)
        said = f"{place}: {finding.message.partition(chr(10))[0]}"
        advice = f"\n{finding.hint}" if finding.hint else ""
        raise Failure(said + advice, ExitCode.UNUSABLE, code="NoJson") from None
    if not isinstance(value, dict) or not isinstance(value.get("States"), dict):
        raise Failure(f"{printable(file)} is no definition: it has no States.", ExitCode.UNUSABLE, code="NoDefinition")
    return value
