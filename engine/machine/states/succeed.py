"""Succeed: ends its branch well."""

from __future__ import annotations

from stepwell.engine.machine.dataflow import hand_on
from stepwell.engine.machine.run import Run
from stepwell.engine.machine.snapshot import Frame


def run_succeed(run: Run, frame: Frame) -> None:
    """Run the body of a Succeed state: InputPath, then OutputPath."""
    hand_on(run, frame, None)
