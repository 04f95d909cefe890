"""The group every subcommand hangs on; it loads a subcommand's module only when that is called.

It must not know what a subcommand does: the table below holds names, places and one line of help each.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any, Final, NamedTuple

import click

from stepwell import __version__
from stepwell.cli.failures import EXIT_CODES, ExitCode, Failure, as_failure, fail_hard
from stepwell.cli.output import Output


class Place(NamedTuple):
    """Where a subcommand is, and what the list of commands says of it."""

    module: str
    attribute: str
    help: str


SECTIONS: Final[dict[str, dict[str, Place]]] = {
    "On this machine, without a server": {
        "validate": Place("validate", "validate", "Check definitions; show what is wrong and where."),
        "fmt": Place("fmt", "fmt", "Write definitions in their canonical form; --check, --diff."),
        "graph": Place("graph", "graph", "Draw a definition: SVG, Mermaid or DOT."),
        "run": Place("run", "run", "Run a definition here, in memory; --fast skips its waits."),
        "test-state": Place("state_test", "test_state", "Run one state here; show its data flow."),
        "test": Place("test", "test", "Run the test cases of definitions, with mocks; coverage."),
        "doctor": Place("doctor", "doctor", "Check this machine and its settings; say what to do."),
    },
    "State machines and executions": {
        "deploy": Place("deploy", "deploy", "Create or update state machines from files."),
        "start": Place("executions", "start", "Start an execution; --wait for its result."),
        "status": Place("executions", "status", "Show where an execution stands."),
        "history": Place("executions", "history", "Show what happened in an execution; --follow it."),
        "list": Place("executions", "list_", "List executions, newest first."),
        "stop": Place("executions", "stop", "Stop a running execution."),
        "redrive": Place("executions", "redrive", "Let failed executions go on from where they failed."),
        "map-runs": Place("map_runs", "map_runs", "How far Distributed Maps are; what became of their items."),
        "machines": Place("machines", "machines", "List, show and delete state machines."),
        "dead-letters": Place("dead_letters", "dead_letters", "Find, redrive and discard what failed for good."),
    },
    "What tasks call, and who may call us": {
        "functions": Place("functions", "functions", "The registry of functions."),
        "connections": Place("connections", "connections", "How HTTP tasks authenticate."),
        "activities": Place("activities", "activities", "Activities, and working on their tasks by hand."),
        "keys": Place("keys", "keys", "API keys: bearer keys, and key pairs for AWS clients."),
    },
    "Servers": {
        "up": Place("up", "up", "Start everything here: database, broker, API, engine, workers."),
        "demo": Place("demo", "demo", "Start everything and run the examples through it."),
        "api": Place("server", "api", "Serve the API (beside engines that run elsewhere)."),
        "engine": Place("server", "engine", "Run executions (beside an API that runs elsewhere)."),
        "worker": Place("worker", "worker", "Run Celery tasks and Python functions."),
        "db": Place("db", "db", "The database: upgrade it, check it."),
    },
}
"""The one list of subcommands, as the help shows them."""

PLACES: Final = {name: place for section in SECTIONS.values() for name, place in section.items()}


class StepwellGroup(click.Group):
    """Finds subcommands by the table, and turns every exception into a message and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(PLACES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = PLACES.get(cmd_name)
        if place is None:
            return None
        command = getattr(import_module(f"stepwell.cli.commands.{place.module}"), place.attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            near = get_close_matches(args[0], PLACES, 1)
            if near:
                raise click.UsageError(f"{error.message} Did you mean '{near[0]}'?", ctx) from None
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, place.help) for name, place in section.items()])
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), meaning) for code, meaning in EXIT_CODES.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand. What it raises on purpose, or by a fault of ours, becomes a message without a stack trace."""
        try:
            return super().invoke(ctx)
        except click.exceptions.Exit:
            raise
        except (KeyboardInterrupt, click.Abort):  # the latter from a prompt
            click.echo("\nAborted.", err=True)
            return fail_hard(ExitCode.INTERRUPTED)
        except Failure as error:
            error.as_json = _wants_json(ctx)
            raise
        except (click.ClickException, BrokenPipeError):
            raise
        except Exception as error:
            if os.environ.get("STEPWELL_DEBUG", "") not in ("", "0", "off"):
                raise
            failure = as_failure(error)
            failure.as_json = _wants_json(ctx)
            raise failure from None


def _wants_json(ctx: click.Context) -> bool:
    return isinstance(ctx.obj, Output) and ctx.obj.json


@click.group(
    cls=StepwellGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every command takes --json. Client commands talk to STEPWELL_URL and show STEPWELL_API_KEY.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines instead of text for people.")
@click.version_option(__version__, prog_name="stepwell")
@click.pass_context
def stepwell(ctx: click.Context, as_json: bool) -> None:
    """Stepwell: durable Step Functions on your own Postgres."""
    ctx.obj = Output(as_json)
