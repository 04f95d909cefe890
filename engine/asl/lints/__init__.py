"""What the language allows and hardly anyone means: each lint notes warnings about a definition, and is sure of them.

A lint reads JSON that validation may have refused, so it takes nothing for granted and raises nothing. It must not refuse a definition,
and what a server answers to AWS's clients has none of its warnings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from stepwell.engine.asl.lints import errors, maps, paths, secrets, timeouts, variables
from stepwell.engine.asl.report import Report
from stepwell.engine.jsontypes import Json

Lint: TypeAlias = Callable[[Report, Mapping[str, Json]], None]

LINTS: Final[tuple[Lint, ...]] = (
    errors.check_error_names,
    timeouts.check_timeouts,
    variables.check_variables,
    paths.check_paths,
    paths.check_path_ends,
    maps.check_maps,
    secrets.check_secrets,
)
"""The one list of lints."""


def run_lints(report: Report, definition: Json) -> None:
    """Note what every lint finds in a definition's JSON value, which is not nested too deeply."""
    if isinstance(definition, dict):
        for lint in LINTS:
            lint(report, definition)
