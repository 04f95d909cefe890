"""Test files: `order.asl.test.json` beside `order.asl.json` says which cases there are, with what input, mocks and expectations.

Reads and checks them, together with the MockConfigFile they stand on. Knows nothing of running them. The format is described in
docs/testing.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from stepwell.cli.definition_files import UnreadableError
from stepwell.cli.testing.definitions import definition_beside, read_machine
from stepwell.cli.testing.expectations import Expectation, read_expectation
from stepwell.engine.asl.diagnostics import DefinitionError
from stepwell.engine.asl.scanner import escape_pointer
from stepwell.engine.asl.states import StateMachine, walk_states
from stepwell.engine.asl.yaml_source import read_yaml
from stepwell.engine.errors import JsonTextError
from stepwell.engine.jsontypes import Json, read, write
from stepwell.engine.runtime.mock_config import (
    Finding,
    MockCase,
    MockConfig,
    MockConfigError,
    MockedResponse,
    Notes,
    Places,
    check_case,
    near,
    parse_mock_config,
    read_case,
    read_object,
    read_responses,
    with_places,
)

DEFAULT_START: Final = 1_767_225_600_000
"""2026-01-01T00:00:00Z: where the virtual clock begins unless a test says otherwise."""

SUITE_MEMBERS: Final = (
    "Comment",
    "MockConfigFile",
    "MockedResponses",
    "Name",
    "StartTime",
    "StateMachine",
    "TestCases",
)
CASE_MEMBERS: Final = ("Comment", "Expect", "Input", "InputFile", "Mocks", "StartTime")


class UnusableTestError(Exception):
    """Tests that cannot be run at all: which file, and why."""

    def __init__(self, file: str, findings: Sequence[Finding]) -> None:
        self.file = file
        self.findings = tuple(findings)
        super().__init__("\n".join(f"{file}: {one}" for one in findings))


class Defaults(NamedTuple):
    """What cases have that do not say: the JSON text of the input, and the start of the clock."""

    input: bytes = b"{}"
    start: int = DEFAULT_START


@dataclass(frozen=True, slots=True)
class Case:
    """One test case. `input` is its JSON text; `pointer` where it stands in its file (empty: in the MockConfigFile)."""

    name: str
    mocks: MockCase
    input: bytes = b"{}"
    expect: Expectation = field(default_factory=Expectation)
    start: int = DEFAULT_START
    pointer: str = ""


@dataclass(frozen=True, slots=True)
class Suite:
    """All cases of one machine. `file` is where they stand."""

    file: str
    definition: str
    name: str
    machine: StateMachine
    text: bytes
    """Of the definition."""
    cases: tuple[Case, ...]
    warnings: tuple[str, ...] = ()
    config: MockConfig | None = None
    config_file: str | None = None


def read_suite(file: Path, mock_config: Path | None = None, input: bytes = b"{}") -> Suite:
    """Read a test file; `input` is that of cases which have none of their own. Raises `UnusableTestError`, or `DefinitionError` for its definition."""
    text = read_bytes(file)
    value, places = _value_of(file, text)
    notes = Notes()
    notes.known(value, "", SUITE_MEMBERS, "A test file")
    definition = _definition_of(notes, file, value)
    name = value.get("Name", definition_name(definition))
    config_file = _config_of(notes, file, value, mock_config)
    try:
        found = read_machine(str(definition))
    except UnreadableError as error:
        notes.error("/StateMachine", str(error), "Name the definition in the member StateMachine.")
        raise UnusableTestError(str(file), with_places(notes.findings, text, places)) from error
    machine = found.machine
    config = None if config_file is None else read_config(config_file)
    own = read_responses(notes, value.get("MockedResponses", {}), "/MockedResponses", short=True)
    responses = {**(config.responses if config is not None else {}), **own}
    defaults = Defaults(input, _start(notes, value, "", DEFAULT_START))
    reader = _CaseReader(notes, file.parent, machine, responses, defaults)
    shared = {}
    if config is not None:
        known = config.machine_for(str(name))
        shared = dict(config.machines.get(known, {}))
    cases = [
        reader.case(case, given, shared.pop(case, None))
        for case, given in notes.object(value.get("TestCases", {}), "/TestCases", "TestCases").items()
    ]
    if not cases and not shared:
        notes.error("/TestCases", "There are no test cases")
    used = {response.name for case in cases for response in case.mocks.values()}
    for response in own:
        if response not in used:
            notes.warn(f"/MockedResponses/{escape_pointer(response)}", f"No test case uses the response {response!r}")
    try:
        warnings = notes.raise_errors(text, places)
    except MockConfigError as error:
        raise UnusableTestError(str(file), error.findings) from None
    rest = _config_cases(config_file, config, machine, str(name), shared, reader.defaults)
    return Suite(
        str(file), str(definition), str(name), machine, found.text, (*cases, *rest),
        tuple(f"{file}: {one}" for one in warnings), config, None if config_file is None else str(config_file),
    )  # fmt: skip


def config_suite(definition: Path, mock_config: Path, input: bytes = b"{}") -> Suite:
    """The cases a MockConfigFile has for a definition that has no test file. Raises as `read_suite` does."""
    name = definition_name(definition)
    config = read_config(mock_config)
    try:
        found = read_machine(str(definition))
    except UnreadableError as error:
        raise UnusableTestError(str(definition), [Finding(str(error))]) from None
    known = config.machine_for(name)
    if known not in config.machines:
        finding = Finding(f"There is no state machine {name!r}", "/StateMachines", near(name, config.machines))
        raise UnusableTestError(str(mock_config), with_places([finding], read_bytes(mock_config)))
    cases = _config_cases(mock_config, config, found.machine, name, config.machines[known], Defaults(input))
    return Suite(
        str(mock_config),
        str(definition),
        name,
        found.machine,
        found.text,
        tuple(cases),
        config=config,
        config_file=str(mock_config),
    )


def _config_cases(
    file: Path | None,
    config: MockConfig | None,
    machine: StateMachine,
    name: str,
    cases: Mapping[str, MockCase],
    defaults: Defaults,
) -> list[Case]:
    if file is None or config is None:
        return []
    place = f"/StateMachines/{escape_pointer(config.machine_for(name))}/TestCases"
    wrong = [
        one for case, mocks in cases.items() for one in check_case(machine, mocks, f"{place}/{escape_pointer(case)}")
    ]
    if wrong:
        raise UnusableTestError(str(file), with_places(wrong, read_bytes(file)))
    return [Case(case, mocks, defaults.input, start=defaults.start) for case, mocks in cases.items()]


def read_config(file: Path) -> MockConfig:
    """Read a MockConfigFile. Raises `UnusableTestError`."""
    try:
        return parse_mock_config(read_bytes(file))
    except MockConfigError as error:
        raise UnusableTestError(str(file), error.findings) from None


def read_bytes(file: Path) -> bytes:
    """A file's bytes. Raises `UnusableTestError`."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise UnusableTestError(str(file), [Finding(f"The file cannot be read: {error.strerror}")]) from None


def definition_name(definition: Path) -> str:
    """The machine's name, as `stepwell deploy` gives it."""
    from stepwell.cli.commands.deploy import name_of

    return name_of(str(definition))


def _value_of(file: Path, text: bytes) -> tuple[Mapping[str, Json], Places | None]:
    """The object a test file holds, and the places in it if it is YAML."""
    try:
        if file.suffix not in (".yaml", ".yml"):
            return read_object(text, "A test file"), None
        document = read_yaml(text.decode("utf-8-sig"))
    except MockConfigError as error:
        raise UnusableTestError(str(file), error.findings) from None
    except DefinitionError as error:
        first = error.diagnostics[0]
        raise UnusableTestError(str(file), [Finding(first.message, line=first.line, column=first.column)]) from None
    except (UnicodeDecodeError, ImportError) as error:
        raise UnusableTestError(str(file), [Finding(f"The YAML cannot be read: {error}")]) from None
    if not isinstance(document.value, dict):
        raise UnusableTestError(str(file), [Finding("A test file must be an object")])
    return document.value, document.places


def _definition_of(notes: Notes, file: Path, value: Mapping[str, Json]) -> Path:
    if "StateMachine" in value:
        return file.parent / (notes.text(value["StateMachine"], "/StateMachine", "StateMachine") or "?")
    return definition_beside(file)


def _config_of(notes: Notes, file: Path, value: Mapping[str, Json], mock_config: Path | None) -> Path | None:
    if "MockConfigFile" in value:
        return file.parent / (notes.text(value["MockConfigFile"], "/MockConfigFile", "MockConfigFile") or "?")
    beside = file.parent / "MockConfigFile.json"
    return mock_config or (beside if beside.is_file() else None)


def _start(notes: Notes, value: Mapping[str, Json], place: str, default: int) -> int:
    if "StartTime" not in value:
        return default
    text = notes.text(value["StartTime"], f"{place}/StartTime", "StartTime")
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        notes.error(f"{place}/StartTime", f"{text!r} is no time", "Say for example 2026-01-31T08:00:00Z.")
        return default
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


class _CaseReader:
    """Reads the cases of one test file."""

    def __init__(
        self,
        notes: Notes,
        folder: Path,
        machine: StateMachine,
        responses: Mapping[str, MockedResponse],
        defaults: Defaults,
    ) -> None:
        self._notes = notes
        self._folder = folder
        self._machine = machine
        self._responses = responses
        self._types = {state.name: state.type for state in walk_states(machine)}
        self.defaults = defaults

    def case(self, name: str, value: Json, shared: MockCase | None) -> Case:
        notes, place = self._notes, f"/TestCases/{escape_pointer(name)}"
        given = notes.object(value, place, f"The test case {name!r}")
        notes.known(given, place, CASE_MEMBERS, "A test case")
        mocks: MockCase = shared or {}
        if "Mocks" in given:
            own = read_case(notes, given["Mocks"], f"{place}/Mocks", "Mocks", self._responses, inline=True)
            mocks = {**mocks, **own}
        notes.findings += check_case(self._machine, mocks, f"{place}/Mocks")
        return Case(
            name,
            mocks,
            self._input(given, place),
            read_expectation(notes, self._types, given.get("Expect", {}), f"{place}/Expect"),
            _start(notes, given, place, self.defaults.start),
            place,
        )

    def _input(self, given: Mapping[str, Json], place: str) -> bytes:
        if "Input" in given and "InputFile" in given:
            self._notes.error(f"{place}/InputFile", "Input and InputFile are two ways to say the same")
        if "InputFile" not in given:
            return write(given["Input"]) if "Input" in given else self.defaults.input
        name = self._notes.text(given["InputFile"], f"{place}/InputFile", "InputFile")
        try:
            text = read_bytes(self._folder / (name or "?"))
            read(text)
        except (UnusableTestError, JsonTextError) as error:
            self._notes.error(f"{place}/InputFile", f"The input {name} cannot be used: {error}".rstrip("."))
            return b"{}"
        return text
