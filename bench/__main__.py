"""`python -m bench`: measure everything, print the tables, write a JSON file."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from bench import report
from bench.run import Plan, Result, run
from bench.workloads import WORKLOADS

EVERYTHING: Final = ("floor", *WORKLOADS, "w4")
QUICK: Final = {"seconds": 1.0, "rounds": 1}


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="WHAT: " + "; ".join(
        ["run (everything)", "floor (Postgres alone)", *(f"{one.name} ({one.about})" for one in WORKLOADS.values()),
         "w4 (executions that wait)"]
    ),
)  # fmt: skip
@click.argument("what", nargs=-1, type=click.Choice(["run", *EVERYTHING]))
@click.option("--quick", is_flag=True, help="One round of a second each: a look, no result.")
@click.option("--seconds", type=click.FloatRange(0.2, 120), help="Length of one measurement.  [2]")
@click.option("--rounds", type=click.IntRange(1, 50), help="Interleaved rounds.  [3]")
@click.option("--clients", default="1,16,64", show_default=True, help="Numbers of clients, separated by commas.")
@click.option("--dbos/--no-dbos", default=True, help="Measure DBOS beside it (installs it into .venv-bench).")
@click.option("--database-url", help="A Postgres to use; its databases bench_* are made and dropped.  [one of its own]")
@click.option("--client", "tool", type=click.Choice(["wrk", "python"]), help="The load generator.  [wrk if installed]")
@click.option(
    "--directory", type=click.Path(path_type=Path), help="Where servers keep data and logs.  [a temporary one]"
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), default="bench.json", show_default=True)
def main(
    what: tuple[str, ...],
    quick: bool,
    seconds: float | None,
    rounds: int | None,
    clients: str,
    dbos: bool,
    database_url: str | None,
    tool: str | None,
    directory: Path | None,
    json_file: Path,
) -> None:
    """Measure Stepwell, the Postgres floor and DBOS side by side, in interleaved rounds."""
    chosen = EVERYTHING if not what or "run" in what else tuple(dict.fromkeys(what))
    plan = Plan(
        workloads=chosen,
        clients=[int(part) for part in clients.split(",")],
        seconds=seconds or (QUICK["seconds"] if quick else 2.0),
        rounds=rounds or (int(QUICK["rounds"]) if quick else 3),
        dbos=dbos,
        database_url=database_url,
        tool=tool,
    )
    with _place(directory) as place:
        result: Result = run(plan, place, lambda line: click.echo(line, err=True))
    click.echo(report.as_text(result))
    json_file.write_text(json.dumps(report.as_json(result), indent=1) + "\n")
    click.echo(f"\nAll figures are in {json_file}.")


@contextmanager
def _place(directory: Path | None) -> Iterator[Path]:
    """The directory for servers; a temporary one that every user can pass through, as the database's must."""
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        yield directory.absolute()
        return
    place = Path(tempfile.mkdtemp(prefix="stepwell-bench-"))
    place.chmod(0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
