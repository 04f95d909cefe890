"""Finding and reading the files of definitions: names, patterns, folders, stdin; JSON or YAML.

It must not import click: see `cli.main`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from stepwell.engine.limits import MAX_DEFINITION_BYTES

STDIN: Final = "-"
_YAML: Final = (".yaml", ".yml")
_ALWAYS: Final = (".asl", ".asl.json", ".asl.yaml", ".asl.yml")
"""Files so named are definitions; in a folder, others count if they look like one."""
_MAYBE: Final = (".json", *_YAML)
_SKIPPED: Final = frozenset({"node_modules", "__pycache__", "venv", "site-packages"})
_FIRST_BYTES: Final = 4096
_LIKE_JSON: Final = re.compile(
    rb'(?:\xef\xbb\xbf)?\s*\{\s*"(?:Comment|StartAt|States|QueryLanguage|TimeoutSeconds|Version)"\s*:'
)
_LIKE_YAML: Final = re.compile(rb"^[\"']?StartAt[\"']?[ \t]*:", re.MULTILINE)
_MACHINES: Final = (b"AWS::StepFunctions::StateMachine", b"AWS::Serverless::StateMachine")
_EMBEDDED: Final = re.compile(rb"\bDefinition(?:String)?[\"']?[ \t]*:")
_PLUGIN: Final = re.compile(rb"^stepFunctions[ \t]*:.*^[ \t]+definition[ \t]*:[ \t]*\r?$", re.MULTILINE | re.DOTALL)


class UnreadableError(Exception):
    """A file that cannot be read; says why."""


def files_of(names: Iterable[str], *, templates: bool = False) -> Iterator[str]:
    """The files that arguments name, each once: a file, a pattern, a folder with all below it, or `-` for stdin.

    A name that leads to nothing is given as it is, so that reading it says so. `templates`: whether a folder's deployment templates
    with definitions in them count.
    """
    seen: set[str] = set()
    for name in names:
        for file in _expanded(name, templates):
            if file not in seen:
                seen.add(file)
                yield file


def _expanded(name: str, templates: bool) -> Iterable[str]:
    if name == STDIN or "\0" in name:
        return [name]
    if Path(name).is_dir():
        return list(_below(name, templates)) or [name]
    if any(char in name for char in "*?[") and not Path(name).exists():
        import glob

        found = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - patterns may be absolute
        return [file for file in found if Path(file).is_file()] or [name]
    return [name]


def _below(folder: str, templates: bool) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith(".") and one not in _SKIPPED)
        for name in sorted(files):
            file = str(Path(place) / name)
            lower = name.lower()
            if lower.endswith(_ALWAYS) or (lower.endswith(_MAYBE) and _looks_like_one(file, templates)):
                yield file


def _looks_like_one(file: str, templates: bool) -> bool:
    """Whether a file's top level seems to be a definition's, or a deployment template's with a definition in it."""
    try:
        with Path(file).open("rb") as opened:
            text = opened.read(MAX_DEFINITION_BYTES)
    except OSError:
        return False
    if templates and _holds_some(text):
        return True
    if file.lower().endswith(_YAML) and not text.lstrip().startswith(b"{"):
        return _LIKE_YAML.search(text) is not None
    return b'"StartAt"' in text and b'"States"' in text and _LIKE_JSON.match(text[:_FIRST_BYTES]) is not None


def _holds_some(text: bytes) -> bool:
    """Whether a text seems to be a deployment template with a definition in it."""
    if any(one in text for one in _MACHINES):
        return _EMBEDDED.search(text) is not None
    return b"stateMachines" in text and _PLUGIN.search(text) is not None


def is_yaml(name: str, text: bytes) -> bool:
    """Whether a text is to be read as YAML: by the file's name; from stdin, where it does not begin as an object does."""
    if name != STDIN:
        return name.lower().endswith(_YAML)
    return bool(text.strip()) and not text.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and b":" in text


def read_definition_file(name: str) -> tuple[bytes, int]:
    """The bytes of a definition's file and its size; of one that is too long to be one, only the beginning."""
    try:
        if name == STDIN:
            text = sys.stdin.buffer.read(4 * MAX_DEFINITION_BYTES)
            size = len(text)
        else:
            with Path(name).open("rb") as file:
                text = file.read(MAX_DEFINITION_BYTES + 1)
                size = max(len(text), os.fstat(file.fileno()).st_size)
    except IsADirectoryError:
        raise UnreadableError(f"{printable(name)} is a folder without definitions.") from None
    except OSError as error:
        if isinstance(error, FileNotFoundError) and any(char in name for char in "*?["):
            raise UnreadableError(f"Nothing matches the pattern {printable(name)}.") from None
        raise UnreadableError(f"{printable(name)} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise UnreadableError(f"{printable(name)} is not the name of a file.") from None
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnreadableError(f"{printable(name)} is in UTF-16; save it as UTF-8.")
    return text, size


def printable(text: str, most: int = 300) -> str:
    """Text of unknown origin made fit for a terminal: one line, no control characters, not too long."""
    plain = "".join(char if char.isprintable() else "·" for char in text[:most])
    return plain + ("…" if len(text) > most else "")
