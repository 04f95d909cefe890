"""What commands print: JSON for machines, aligned or drawn tables for people. Rich is loaded only when a terminal is there.

Results go to stdout; progress, remarks and errors to stderr, so that `stepwell ... | jq` works with any of them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from rich.console import Console

STATUS_STYLES: Final[Mapping[str, str]] = {
    "RUNNING": "cyan",
    "SUCCEEDED": "green",
    "FAILED": "red",
    "TIMED_OUT": "red",
    "ABORTED": "yellow",
    "OPEN": "red",
    "REDRIVEN": "green",
    "DISCARDED": "bright_black",
}


class Output:
    """Where a command's results go. `json` is the machine's form: one document, or one a line (`record`)."""

    def __init__(self, json: bool = False) -> None:
        self.json = json

    def document(self, value: Any) -> None:
        """The one JSON document of this command; nothing unless `--json` was given."""
        if self.json:
            click.echo(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))

    def record(self, value: Any) -> None:
        """One of many documents, on a line of its own; nothing unless `--json` was given."""
        if self.json:
            click.echo(json.dumps(value, ensure_ascii=False))

    def say(self, text: str = "", **style: Any) -> None:
        """A line of result for people."""
        if not self.json:
            click.echo(click.style(text, **style) if style else text)

    def remark(self, text: str, **style: Any) -> None:
        """A line beside the result, on stderr."""
        if not self.json:
            click.echo(click.style(text, **style) if style else text, err=True)

    def value(self, value: Any) -> None:
        """User data, as JSON to be read by people."""
        if not self.json:
            click.echo(pretty(value))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], empty: str) -> None:
        """Rows for people; `empty` is said where there are none."""
        if self.json:
            return
        cells = [[_cell(value) for value in row] for row in rows]
        if not cells:
            click.echo(empty)
        elif sys.stdout.isatty() and (console := terminal()) is not None:
            _draw(console, columns, cells)
        else:
            _align(columns, cells)

    def fields(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Names and values, one pair a line; pairs without a value are left out."""
        if self.json:
            return
        shown = [(name, _cell(value)) for name, value in pairs if value is not None]
        width = max((len(name) for name, _ in shown), default=0)
        for name, text in shown:
            label = click.style(f"{name:<{width}}", fg="bright_black")
            click.echo(f"{label}  {status(text)}")


def pretty(value: Any) -> str:
    """A JSON value laid out for people."""
    return json.dumps(value, ensure_ascii=False, indent=2)


def status(text: str) -> str:
    """A status in its colour; any other text as it is."""
    style = STATUS_STYLES.get(text)
    return text if style is None else click.style(text, fg=style, bold=text != "DISCARDED")


def terminal() -> Console | None:
    """A console on stdout; None where rich is not installed."""
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        return None
    return Console(highlight=False)


def moment(milliseconds: int | float | str | None) -> str | None:
    """A time as people read it, UTC to the second."""
    if milliseconds is None:
        return None
    if isinstance(milliseconds, str):
        return milliseconds.replace("T", " ").partition(".")[0].removesuffix("Z")
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def duration(milliseconds: float) -> str:
    """How long something took, in two units at most."""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h" if hours else f"{days} days"


def width() -> int:
    """The columns there are for text."""
    try:
        return min(int(os.environ.get("COLUMNS") or os.get_terminal_size().columns), 160)
    except (OSError, ValueError):
        return 100


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(text.split()) if "\n" in text else text


def _draw(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(
            name,
            overflow="fold" if name in {"ID", "ARN", "NAME"} else "ellipsis",
            no_wrap=name not in {"ID", "ARN", "NAME"},
        )
    for row in rows:
        table.add_row(*[Text(text, style=STATUS_STYLES.get(text, "")) for text in row])
    console.print(table)


def _align(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(name), *(len(row[index]) for row in rows)) for index, name in enumerate(columns)]
    for row in (columns, *rows):
        click.echo("  ".join(f"{text:<{size}}" for text, size in zip(row, widths, strict=True)).rstrip())
