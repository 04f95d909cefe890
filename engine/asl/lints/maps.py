"""Fields of Distributed Maps in Maps that are not, Distributed Maps that leave out what AWS's guide says they must have, and fields
that another field makes useless.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stepwell.engine.asl.diagnostics import DiagnosticCode
from stepwell.engine.asl.lints.walk import Machine, StateAt
from stepwell.engine.asl.placeholders import is_open
from stepwell.engine.asl.report import Place, Report
from stepwell.engine.jsontypes import Json

_DISTRIBUTED_ONLY: Final = (
    "ItemReader", "ItemBatcher", "ResultWriter", "Label", "ToleratedFailureCount", "ToleratedFailureCountPath",
    "ToleratedFailurePercentage", "ToleratedFailurePercentagePath",
)  # fmt: skip
_LISTING: Final = "s3:listObjectsV2"
_FOR_TYPE: Final = {
    "CSVHeaderLocation": ("CSV",),
    "CSVHeaders": ("CSV",),
    "CSVDelimiter": ("CSV",),
    "ItemsPointer": ("JSON",),
}
"""Fields of ReaderConfig and the values of InputType they are for."""


def check_maps(report: Report, machine: Machine) -> None:
    """Look at every Map."""
    for state in machine.states:
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
            if isinstance(config, dict) and "ExecutionType" in config:
                report.warn(
                    ((each.place, "ProcessorConfig"), "ExecutionType"),
                    "ExecutionType is of Distributed Maps alone, and this Map is inline",
                    DiagnosticCode.DISTRIBUTED_ONLY_FIELD,
                    hint='Add "Mode": "DISTRIBUTED", or remove ExecutionType.',
                )
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
    if not isinstance(reader, dict):
        return
    for field in ("ItemsPath", "Items"):
        if field in state.fields:
            report.warn(
                (state.place, field),
                f"{field} is not used: ItemReader brings the items",
                DiagnosticCode.UNUSED_FIELD,
                hint=f"Remove {field} or ItemReader.",
            )
    config = reader.get("ReaderConfig")
    if not isinstance(config, dict):
        return
    _check_input_type(report, reader, config, ((state.place, "ItemReader"), "ReaderConfig"))
    if config.get("InputType") == "CSV" and "CSVHeaderLocation" not in config and "ManifestType" not in config:
        report.warn(
            ((state.place, "ItemReader"), "ReaderConfig"),
            "CSVHeaderLocation does not say where the names of the columns are",
            DiagnosticCode.NO_CSV_HEADERS,
            hint="Add CSVHeaderLocation: FIRST_ROW, or GIVEN with CSVHeaders. AWS wants one of them.",
        )
    if config.get("CSVHeaderLocation") == "GIVEN" and "CSVHeaders" not in config:
        report.warn(
            ((state.place, "ItemReader"), "ReaderConfig"),
            "CSVHeaderLocation is GIVEN, and no CSVHeaders are",
            DiagnosticCode.NO_CSV_HEADERS,
            hint="Add CSVHeaders with the names of the columns, or let CSVHeaderLocation be FIRST_ROW.",
        )


def _check_input_type(report: Report, reader: Mapping[str, Json], config: Mapping[str, Json], place: Place) -> None:
    listing = str(reader.get("Resource")).endswith(_LISTING)
    given = config.get("InputType", "JSON")
    if is_open(given) or config.get("ManifestType") is not None or config.get("Transformation") == "LOAD_AND_FLATTEN":
        return
    for field, types in _FOR_TYPE.items():
        if field in config and (listing or (isinstance(given, str) and given not in types)):
            report.warn(
                (place, field),
                f"{field} is not used: it is for objects whose InputType is {' or '.join(types)}",
                DiagnosticCode.UNUSED_FIELD,
                hint=f"Remove it, or give InputType: {types[0]}." if not listing else "Remove it.",
            )
