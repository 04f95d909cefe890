"""`stepwell fmt`: definitions in their canonical form."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

import click

from stepwell.cli.checking import Paint, refused, result_lines
from stepwell.cli.definition_files import STDIN, UnreadableError, files_of, is_yaml, printable, read_definition_file
from stepwell.cli.failures import ExitCode
from stepwell.cli.options import examples, json_option, pass_output
from stepwell.cli.output import Output
from stepwell.cli.replacing import replace_file


@click.command(epilog=examples("stepwell fmt flows/", "stepwell fmt --check --diff order.asl.json"))
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 if a file is not in its canonical form.")
@click.option("--diff", is_flag=True, help="Change nothing; show what would change.")
@json_option
@pass_output
def fmt(output: Output, files: tuple[str, ...], check: bool, diff: bool) -> None:
    """Write definitions in their canonical form: the language's fields in one order, indented by two spaces.

    FILE is a file in JSON or YAML, a pattern, a folder, or - to read stdin and write stdout. The meaning never changes, nor does the
    order of states and of your own data; comments of YAML stay.
    """
    changed: list[str] = []
    unusable: list[str] = []
    for name in files_of(files):
        texts = _formatted(output, name)
        if texts is None:
            unusable.append(name)
            continue
        old, new = texts
        if old != new:
            changed.append(name)
            if diff:
                _show_diff(output, name, old, new)
            elif not check and name != STDIN:
                try:
                    replace_file(Path(name), new.encode())
                except OSError as error:
                    output.remark(
                        f"{printable(name)} cannot be written: {error.strerror or error}. It is as it was.", fg="red"
                    )
                    changed.remove(name)
                    unusable.append(name)
                    continue
            if name != STDIN and not diff:
                output.say(f"{'would change' if check else 'formatted'} {printable(name)}")
        if name == STDIN and not check and not diff:
            sys.stdout.write(new)
    output.document({"changed": changed, "unusable": unusable})
    failed = bool(changed) and (check or diff)
    code = ExitCode.UNUSABLE if unusable else ExitCode.FAILED if failed else ExitCode.OK
    click.get_current_context().exit(code)


def _formatted(output: Output, name: str) -> tuple[str, str] | None:
    """A file's text and its canonical form; None, having said why, for what is no definition."""
    from stepwell.engine.asl.diagnostics import DefinitionError

    raw = b""
    try:
        raw, _ = read_definition_file(name)
        return _canonical(name, raw)
    except UnreadableError as error:
        output.remark(str(error), fg="red")
    except DefinitionError as error:
        for line in result_lines(refused(name, raw, error), Paint()):
            output.remark(line)
    return None


def _canonical(name: str, raw: bytes) -> tuple[str, str]:
    from stepwell.engine.asl.canonical import canonical_json
    from stepwell.engine.asl.document import Syntax, read_document

    syntax = Syntax.YAML if is_yaml(name, raw) else Syntax.JSON
    try:
        document = read_document(raw, syntax)
    except ImportError:
        raise UnreadableError("YAML is read by ruamel.yaml: install stepwell[server].") from None
    if not isinstance(document.value, dict) or not isinstance(document.value.get("States"), dict):
        raise UnreadableError(f"{printable(name)} is no definition: it has no States.")
    if syntax is Syntax.YAML:
        from stepwell.engine.asl.canonical_yaml import canonical_yaml

        return raw.decode(), canonical_yaml(document.text)
    return raw.decode(), canonical_json(document.value)


def _show_diff(output: Output, name: str, old: str, new: str) -> None:
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), name, f"{name} (canonical)", lineterm="")
    colours = {"+": "green", "-": "red", "@": "cyan"}
    for line in lines:
        output.say(printable(line, 2000), fg=colours.get(line[:1]))
