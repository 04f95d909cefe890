"""The plugin for pytest: the fixture `state_machine`, test files as tests, and coverage over the session.

pytest loads it in every project that has Stepwell installed, so it imports nothing of Stepwell before it is used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from stepwell.cli.testing.coverage import Hits, MachineCoverage
    from stepwell.cli.testing.machines import LocalMachine, LocalMachineFactory
    from stepwell.cli.testing.running import CaseResult
    from stepwell.cli.testing.suites import Case, Suite
    from stepwell.engine.asl.states import StateMachine

_SUFFIXES: Final = (".asl.test.json", ".asl.test.yaml", ".asl.test.yml")
_WORKER_KEY: Final = "stepwell_coverage"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options and the setting of the plugin."""
    group = parser.getgroup("stepwell", "state machines")
    group.addoption("--stepwell-coverage", action="store_true", help="show what tests went through in state machines")
    group.addoption("--stepwell-html", metavar="FILE", help="write the coverage of state machines to a file to look at")
    group.addoption(
        "--stepwell-fail-under",
        type=float,
        metavar="PERCENT",
        help="fail if less than that of the state machines is covered",
    )
    group.addoption(
        "--stepwell-collect", action="store_true", help="run *.asl.test.json (and .yaml) files as tests, too"
    )
    parser.addini("stepwell_collect", "run *.asl.test.json (and .yaml) files as tests", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Have a place to put the session's coverage."""
    config.stash[_COVERAGE] = SessionCoverage()


def _wanted(config: pytest.Config) -> bool:
    option = config.option
    return bool(option.stepwell_coverage or option.stepwell_html or option.stepwell_fail_under is not None)


# -- the fixture ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def state_machine(request: pytest.FixtureRequest) -> LocalMachineFactory:
    """Makes state machines to run: `state_machine("order.asl.json").run({"id": 1}, mocks={"Charge": Return({"ok": True})})`.

    Paths are relative to the test file's folder, or to the root of the project.
    """
    from stepwell.cli.testing.machines import LocalMachine

    coverage = request.config.stash[_COVERAGE]
    places = (request.path.parent, request.config.rootpath)

    def found(path: str | Path) -> Path:
        return next((place / path for place in places if (place / path).exists()), places[0] / path)

    def make(
        definition: str | Path | Mapping[str, Any],
        *,
        name: str | None = None,
        mock_config: str | Path | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        start_time: datetime | None = None,
    ) -> LocalMachine:
        return LocalMachine(
            definition if isinstance(definition, Mapping) else found(definition),
            name=name,
            mock_config=None if mock_config is None else found(mock_config),
            functions=functions,
            start_time=start_time,
            record=coverage.machine,
        )

    return make


# -- test files ----------------------------------------------------------------------------------------------------------


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Take test files as tests, where the project or the command asks for it."""
    if not file_path.name.endswith(_SUFFIXES):
        return None
    config = parent.config
    if not (config.option.stepwell_collect or config.getini("stepwell_collect")):
        return None
    collector: pytest.Collector = StateMachineFile.from_parent(parent, path=file_path)
    return collector


class StateMachineFile(pytest.File):
    """A test file; its cases are its tests."""

    def collect(self) -> Iterable[pytest.Item]:
        from stepwell.cli.testing.suites import UnusableTestError, read_suite
        from stepwell.engine.asl.diagnostics import DefinitionError

        try:
            suite = read_suite(self.path)
        except (UnusableTestError, DefinitionError) as error:
            raise self.CollectError(str(error)) from None
        for case in suite.cases:
            item: StateMachineCase = StateMachineCase.from_parent(self, name=case.name)
            item.suite, item.case = suite, case
            yield item


class CaseFailedError(Exception):
    """A case of a test file did not come to what it expects."""

    def __init__(self, result: CaseResult) -> None:
        super().__init__("; ".join(problem.message for problem in result.problems))
        self.result = result


class StateMachineCase(pytest.Item):
    """A case of a test file."""

    suite: Suite
    case: Case

    def runtest(self) -> None:
        from stepwell.cli.testing.running import run_case

        result = run_case(self.suite, self.case, {})
        suite = self.suite
        self.config.stash[_COVERAGE].add(suite.definition, suite.name, suite.text, suite.machine, result.hits)
        if not result.passed:
            raise CaseFailedError(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if not isinstance(excinfo.value, CaseFailedError):
            return super().repr_failure(excinfo, style)
        result = excinfo.value.result
        lines = [
            line for problem in result.problems for line in (problem.message, *(f"    {one}" for one in problem.lines))
        ]
        return "\n".join([*lines, "  what happened:", *result.history])

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"{self.suite.name}::{self.case.name}"


# -- coverage ------------------------------------------------------------------------------------------------------------


class SessionCoverage:
    """What all tests of a session went through, by definition. Empty, and free of charge, where none runs a state machine."""

    def __init__(self) -> None:
        self.machines: dict[str, tuple[MachineCoverage, bytes]] = {}
        self.unwritten: str | None = None
        """Why the report could not be written."""

    def machine(self, machine: LocalMachine, hits: Hits) -> None:
        """Count what an execution of a test goes through."""
        self.add(machine.file, machine.name, machine.text, machine.machine, hits)

    def add(self, file: str, name: str, text: bytes, machine: StateMachine, hits: Hits) -> None:
        """Count what was gone through."""
        from stepwell.cli.testing.coverage import coverage_of

        key = file if file.startswith("<") else str(Path(file).resolve())
        if key not in self.machines:
            self.machines[key] = (coverage_of(machine, name, file), text)
        self.machines[key][0].hits.update(hits)

    def dump(self) -> str:
        """For the controller of a distributed run."""
        return json.dumps(
            [
                [
                    coverage.file,
                    coverage.name,
                    text.decode("utf-8", "replace"),
                    [[*key, hits] for key, hits in coverage.hits.items()],
                ]
                for coverage, text in self.machines.values()
            ]
        )

    def load(self, dumped: str) -> None:
        """Count what a worker has counted."""
        from stepwell.cli.testing.coverage import Hits, ItemKind, Key
        from stepwell.cli.testing.definitions import compiled

        for file, name, text, counted in json.loads(dumped):
            hits = Hits({Key(ItemKind(kind), state, number): count for kind, state, number, count in counted})
            self.add(file, name, text.encode(), compiled(file, text.encode()), hits)

    def __iter__(self) -> Iterator[MachineCoverage]:
        return iter(sorted((coverage for coverage, _ in self.machines.values()), key=lambda one: (one.name, one.file)))


_COVERAGE: Final = pytest.StashKey[SessionCoverage]()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """A worker of pytest-xdist has ended."""
    dumped = getattr(node, "workeroutput", {}).get(_WORKER_KEY)
    if dumped:
        node.config.stash[_COVERAGE].load(dumped)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the coverage to the controller; or judge it and write it down."""
    config = session.config
    coverage = config.stash[_COVERAGE]
    if not coverage.machines or not _wanted(config):
        return
    output = getattr(config, "workeroutput", None)
    if output is not None:
        output[_WORKER_KEY] = coverage.dump()
        return
    least = config.option.stepwell_fail_under
    if least is not None and _percent(coverage) < least and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if config.option.stepwell_html:
        from stepwell.cli.testing.html_report import html_report
        from stepwell.cli.testing.running import SuiteResult

        suites = [
            SuiteResult(one.file, one.file, one.name, coverage=one, text=text)
            for one, text in coverage.machines.values()
        ]
        try:
            text = html_report(suites, list(coverage))
            Path(config.option.stepwell_html).write_text(text, encoding="utf-8", errors="replace")
        except OSError as error:
            coverage.unwritten = f"{config.option.stepwell_html} cannot be written: {error.strerror}."
            session.exitstatus = pytest.ExitCode.USAGE_ERROR


def _percent(coverage: SessionCoverage) -> float:
    from stepwell.cli.testing.coverage import total

    return total(coverage).percent


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Show the coverage, if it was asked for."""
    coverage = config.stash[_COVERAGE]
    if not coverage.machines or not _wanted(config):
        return
    from stepwell.cli.testing.coverage import GROUPS

    terminalreporter.section("coverage of state machines")
    rows = [("machine", *GROUPS, "all")]
    rows += [
        (one.name, *(str(one.share(group)) for group in GROUPS), f"{one.share().percent:.0f} %") for one in coverage
    ]
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    for row in rows:
        terminalreporter.line("  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip())
    for one in coverage:
        for item in one.missing[:12]:
            terminalreporter.line(f"  not covered: {one.name}{item.pointer}  {item.text}")
    least = config.option.stepwell_fail_under
    if least is not None and _percent(coverage) < least:
        text = f"Only {_percent(coverage):.1f} % of the state machines is covered, wanted are {least:g} %."
        terminalreporter.line(text, red=True)
    if coverage.unwritten is not None:
        terminalreporter.line(coverage.unwritten, red=True)
