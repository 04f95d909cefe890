"""Fields of Distributed Maps in Maps that are not, and Distributed Maps that leave out what AWS's guide says they must have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stepwell.engine.asl.diagnostics import DiagnosticCode
from stepwell.engine.asl.lints.walk import StateAt, all_states
from stepwell.engine.asl.placeholders import is_open
from stepwell.engine.asl.report import Report
from stepwell.engine.jsontypes import Json

_DISTRIBUTED_ONLY: Final = ("ItemReader", "ItemBatcher", "ResultWriter", "Label")


def check_maps(report: Report, definition: Mapping[str, Json]) -> None:
    """Look at every Map."""
    for state in all_states(definition):
        if state.type == "Map":
            _check_mode(report, state)
            _check_reader(report, state)


def _check_mode(report: Report, state: StateAt) -> None:
    for each in state.nested():
        config = each.container.get("ProcessorConfig", {})
        mode = config.get("Mode") if isinstance(config, dict) else config
        if each.isolated:
            if isinstance(config, dict) and "ExecutionType" not in config:
                report.warn(
                    (each.place, "ProcessorConfig"),
                    "A Distributed Map does not say what its executions are",
                    DiagnosticCode.NO_EXECUTION_TYPE,
                    hint="Add ExecutionType: STANDARD or EXPRESS. AWS wants one of them.",
                )
        elif not is_open(mode) and not is_open(config):
            for field in _DISTRIBUTED_ONLY:
                if field in state.fields:
                    report.warn(
                        (state.place, field),
                        f"{field} is of Distributed Maps alone, and this Map is inline",
                        DiagnosticCode.DISTRIBUTED_ONLY_FIELD,
                        hint='Give its processor the ProcessorConfig {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}, '
                        f"or remove {field}.",
                    )


def _check_reader(report: Report, state: StateAt) -> None:
    reader = state.fields.get("ItemReader")
    config = reader.get("ReaderConfig") if isinstance(reader, dict) else None
    if isinstance(config, dict) and config.get("CSVHeaderLocation") == "GIVEN" and "CSVHeaders" not in config:
        report.warn(
            ((state.place, "ItemReader"), "ReaderConfig"),
            "CSVHeaderLocation is GIVEN, and no CSVHeaders are",
            DiagnosticCode.NO_CSV_HEADERS,
            hint="Add CSVHeaders with the names of the columns, or let CSVHeaderLocation be FIRST_ROW.",
        )
