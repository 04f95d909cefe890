"""What the language allows and hardly anyone means: each lint notes warnings about a definition, and is sure of them.

A lint reads JSON that validation may have refused, so it takes nothing for granted and raises nothing. It must not refuse a definition,
and what a server answers to AWS's clients has none of its warnings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from stepwell.engine.asl.lints import (
    choices,
    context_object,
    errors,
    integrations,
    literals,
    loops,
    maps,
    paths,
    secrets,
    timeouts,
    variables,
)
from stepwell.engine.asl.lints.walk import Machine
from stepwell.engine.asl.report import Report
from stepwell.engine.asl.resource_rules import Target
from stepwell.engine.jsontypes import Json

Lint: TypeAlias = Callable[[Report, Machine], None]

LINTS: Final[tuple[Lint, ...]] = (
    errors.check_error_names,
    timeouts.check_timeouts,
    variables.check_variables,
    paths.check_paths,
    paths.check_path_ends,
    context_object.check_context,
    literals.check_literals,
    choices.check_choices,
    maps.check_maps,
    loops.check_loops,
    secrets.check_secrets,
)
"""The one list of lints that hold wherever a machine runs."""


def run_lints(report: Report, definition: Json, target: Target = Target.STEPWELL) -> None:
    """Note what every lint finds in a definition's JSON value, which is not nested too deeply. `target`: where it is to run."""
    if isinstance(definition, dict):
        machine = Machine(definition)
        for lint in LINTS:
            lint(report, machine)
        integrations.check_integrations(report, machine, target)
