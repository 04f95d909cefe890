"""Options and arguments that several commands share: `--json`, JSON input given in one of three ways, times."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from stepwell.cli.failures import ExitCode, Failure
from stepwell.cli.output import Output

C = TypeVar("C", bound=Any)


def _set_json(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    output = ctx.find_object(Output)
    if value and output is not None:
        output.json = True


def json_option(command: C) -> C:
    """`--json` on the command itself, as well as before it."""
    return click.option(
        "--json", is_flag=True, expose_value=False, is_eager=True, callback=_set_json, help="Print JSON for machines."
    )(command)


def examples(*lines: str) -> str:
    """The end of a command's help: how it is called."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


pass_output = click.make_pass_decorator(Output, ensure=True)


def read_input(text: str | None, option: str = "--input") -> bytes:
    """The JSON text of an input: as it stands, `@file`, or `-` for stdin; `{}` where none is given. Checked to be JSON."""
    from stepwell.engine.errors import JsonTextError
    from stepwell.engine.jsontypes import read

    if text is None:
        return b"{}"
    if text == "-":
        raw, place = sys.stdin.buffer.read(), "stdin"
    elif text.startswith("@"):
        raw, place = read_file(Path(text[1:])), text[1:]
    else:
        raw, place = text.encode("utf-8", "surrogateescape"), option
    try:
        read(raw)
    except JsonTextError as error:
        raise Failure(f"{place}: {error}", ExitCode.UNUSABLE, code="InvalidInput") from None
    return raw


def read_file(path: Path) -> bytes:
    """A file's bytes, `-` being stdin."""
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}.", ExitCode.UNUSABLE, code="NoFile") from None


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "": 1}


class Duration(click.ParamType):  # type: ignore[type-arg] # generic from click 8.3 on
    """Seconds, or a number with a unit: `90`, `1.5h`, `2d`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)", str(value))
        if match is None:
            self.fail(f"{value!r} is no duration; say for example 90, 15m, 2h or 1d.", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


DURATION = Duration()


class Time(click.ParamType):  # type: ignore[type-arg] # generic from click 8.3 on
    """A time or a date, UTC where it does not say otherwise; as the API takes it."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time; say for example 2026-01-31 or 2026-01-31T08:00:00Z.", param, ctx)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


TIME = Time()
