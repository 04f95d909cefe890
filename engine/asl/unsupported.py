"""What a definition may say and this version does not run yet: refused when a machine is created, not by validation.

The one place to shorten as features arrive; empty, it goes away.
"""

from __future__ import annotations

from collections.abc import Mapping

from stepwell.engine.asl.report import Report
from stepwell.engine.asl.validate import MachineType
from stepwell.engine.jsontypes import Json


def check_supported(report: Report, definition: Mapping[str, Json], machine_type: MachineType) -> None:
    """Note, once each, what this version cannot run."""
    if machine_type is MachineType.EXPRESS:
        report.error(None, "State machines of type EXPRESS are not supported by this version yet")
