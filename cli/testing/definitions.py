"""Definitions that run on this machine: read from JSON or YAML, checked and compiled, with the places of their parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stepwell.cli.definition_files import UnreadableError, is_yaml, read_definition_file
from stepwell.engine.asl.diagnostics import DefinitionError
from stepwell.engine.asl.document import Document, Syntax, read_document
from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.asl.states import StateMachine

SUFFIXES = (".json", ".yaml", ".yml")
"""Of definitions, behind `.asl`."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A definition in a file."""

    file: str
    text: bytes
    machine: StateMachine


def read_machine(file: str) -> Definition:
    """Read a file. Raises `UnreadableError`, or `DefinitionError` with places."""
    text, _ = read_definition_file(file)
    return Definition(file, text, compiled(file, text))


def compiled(file: str, text: bytes) -> StateMachine:
    """The machine of a file's text. Raises as `read_machine` does."""
    document = document_of(file, text)
    if not is_yaml(file, text):
        return parse_definition(text)
    try:
        return parse_definition(document.value if isinstance(document.value, dict) else "[]")
    except DefinitionError as error:
        raise DefinitionError([document.placed(one) for one in error.diagnostics]) from None


def document_of(file: str, text: bytes) -> Document:
    """The text of a file, read as its name says. Raises `UnreadableError` and `DefinitionError`."""
    try:
        return read_document(text, Syntax.YAML if is_yaml(file, text) else Syntax.JSON)
    except ImportError:
        raise UnreadableError("YAML is read by ruamel.yaml: install stepwell[server].") from None


def definition_beside(test_file: Path) -> Path:
    """The definition a test file is named after: order.asl.json (or .yaml, .yml) for order.asl.test.json."""
    base = test_file.name.rpartition(".test.")[0] or test_file.stem
    beside = [test_file.with_name(base + suffix) for suffix in SUFFIXES]
    return next((one for one in beside if one.is_file()), beside[0])
