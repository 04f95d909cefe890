"""The `stepwell` command: the group every subcommand hangs on. It must not know what a subcommand does."""

from __future__ import annotations

import click

from stepwell import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="stepwell")
def main() -> None:
    """Stepwell: durable Step Functions on your own Postgres."""
