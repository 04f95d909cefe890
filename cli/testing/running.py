"""Running test cases: each is one execution in memory on a virtual clock, judged by its expectations.

Results are plain data, so that they can come from another process. Knows no report.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final, TypeVar

from stepwell.cli.failures import Failure
from stepwell.cli.local import Performers
from stepwell.cli.progress import Progress
from stepwell.cli.system import SystemClock
from stepwell.cli.testing.coverage import Hits, MachineCoverage, coverage_of, hits_of
from stepwell.cli.testing.expectations import Outcome, Problem, judge, outcome_of
from stepwell.cli.testing.suites import Case, Suite
from stepwell.engine.errors import StepwellError
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.commands import ScheduleTask
from stepwell.engine.runtime.local import LocalExecution, Numbered
from stepwell.engine.runtime.mock_config import Entry
from stepwell.engine.runtime.mocks import MockedRun, MockedTasks, Performer, Reply, StuckRunError, UnperformedError

EXCERPT_LINES: Final = 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What came of a case. `history` are lines for people, of a failed case only; `seconds` are real ones."""

    name: str
    problems: tuple[Problem, ...]
    outcome: Outcome
    seconds: float
    warnings: tuple[str, ...] = ()
    history: tuple[str, ...] = ()
    hits: Hits = field(default_factory=Hits)
    used: frozenset[tuple[str, int]] = frozenset()
    """The answers given out: response, first invocation."""

    @property
    def passed(self) -> bool:
        return not self.problems


@dataclass(slots=True)
class SuiteResult:
    """What came of the cases of one machine; `error` says why there are none."""

    file: str
    definition: str
    name: str
    cases: list[CaseResult] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    coverage: MachineCoverage | None = None
    text: bytes = b""
    """Of the definition."""
    error: str | None = None

    @property
    def failed(self) -> list[CaseResult]:
        return [case for case in self.cases if not case.passed]


def selected(suite: Suite, patterns: Sequence[str]) -> list[Case]:
    """The cases that one of the globs names, by themselves or as `machine::case`; all where there is no glob."""
    return [
        case
        for case in suite.cases
        if not patterns
        or any(fnmatchcase(case.name, one) or fnmatchcase(f"{suite.name}::{case.name}", one) for one in patterns)
    ]


def run_suite(
    suite: Suite,
    patterns: Sequence[str] = (),
    functions: Mapping[str, Callable[..., Any]] | None = None,
    *,
    first_failure: bool = False,
) -> SuiteResult:
    """Run the selected cases of a suite, one after the other; with `first_failure` only up to that."""
    results: list[CaseResult] = []
    for case in selected(suite, patterns):
        results.append(run_case(suite, case, functions or {}))
        if first_failure and not results[-1].passed:
            break
    return collected(suite, results, whole=len(results) == len(suite.cases))


def collected(suite: Suite, results: list[CaseResult], *, whole: bool) -> SuiteResult:
    """The result of a suite; only of all its cases can be said which mocks no case needs."""
    hits: Hits = Hits()
    for result in results:
        hits.update(result.hits)
    warnings = list(suite.warnings)
    if whole:
        warnings += unused_answers(suite, results)
    coverage = coverage_of(suite.machine, suite.name, suite.definition, hits)
    return SuiteResult(suite.file, suite.definition, suite.name, results, warnings, coverage, suite.text)


def unused_answers(suite: Suite, results: Sequence[CaseResult]) -> list[str]:
    """What to say of mocked answers that no case has needed, though some case has the response they belong to."""
    used = {one for result in results for one in result.used}
    told: dict[tuple[str, int], Entry] = {}
    for case in suite.cases:
        for response in case.mocks.values():
            for entry in response.entries:
                if (response.name, entry.first) not in used:
                    told.setdefault((response.name, entry.first), entry)
    called = {response for response, _ in used}
    return [
        f"No case came to the answer of {response!r} to the invocation {entry.invocations}"
        for (response, _), entry in told.items()
        if response in called and entry.last is not None
    ]


def run_case(suite: Suite, case: Case, functions: Mapping[str, Callable[..., Any]]) -> CaseResult:
    """Run one case."""
    clock = SystemClock()
    began = clock.monotonic()
    execution = LocalExecution(suite.machine, case.start, name=case.name, machine_name=suite.name)
    tasks = MockedTasks(case.mocks)
    performers: list[Performer] = [tasks]
    if functions:
        performers.append(FunctionCalls(execution, functions))
    problem: Problem | None = None
    try:
        execution.start(Document.trusted(case.input))
        MockedRun(execution, performers, tasks.read_items).run()
    except UnperformedError as error:
        problem = Problem(str(error), (f'Give it a mock: "Mocks": {{"{error.state}": {{"Return": ...}}}}.',))
    except (StuckRunError, Failure) as error:
        problem = Problem(error.message if isinstance(error, Failure) else str(error))
    except StepwellError as error:
        problem = Problem(str(error))
    outcome = outcome_of(execution)
    if problem is not None:
        problems = [problem]
    elif tasks.exhausted:
        problems = [Problem(why, ("Invocations count each attempt, retries included.",)) for why in tasks.exhausted]
    else:
        problems = judge(case.expect, outcome)
    warnings = tuple(f"The mock of {state!r} was never asked for" for state in tasks.unused)
    return CaseResult(
        case.name, tuple(problems), outcome, clock.monotonic() - began, warnings,
        told(execution) if problems else (), hits_of(execution), frozenset(tasks.given),
    )  # fmt: skip


def told(execution: LocalExecution) -> tuple[str, ...]:
    """What happened in an execution, and in the first of its child executions that did not succeed."""
    lines = excerpt(execution.history)
    child = next((one for one in execution.children if one.finish is None or one.finish.status != "SUCCEEDED"), None)
    if child is None:
        return lines
    number = execution.children.index(child) + 1
    return (*lines, f"  in child execution {number} of {len(execution.children)}:", *told(child))


def excerpt(history: Sequence[Numbered]) -> tuple[str, ...]:
    """The last of what happened, a line for each thing, as `stepwell run` tells it; without colours."""
    from click import unstyle

    from stepwell.cli.commands.run import event_views

    lines: list[str] = []
    progress = Progress(lines.append)
    for event in event_views(history):
        progress.feed([event])
    told = [unstyle(line) for line in lines]
    left = len(told) - EXCERPT_LINES
    return (f"... {left} lines before", *told[-EXCERPT_LINES:]) if left > 1 else tuple(told)


class FunctionCalls:
    """Performs tasks that call functions, by calling Python functions of this process. They take no virtual time."""

    def __init__(self, execution: LocalExecution, functions: Mapping[str, Callable[..., Any]]) -> None:
        self._execution = execution
        self._performers = Performers(functions, SystemClock())

    def __call__(self, task: ScheduleTask) -> Reply | None:
        result = run_here(self._performers.perform(self._execution.request(task)))
        return None if result is None else Reply([result])


def run_here(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also where an event loop runs already (in an asynchronous test)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(asyncio.run(coroutine))
        except BaseException as error:  # noqa: BLE001 -- it is raised where it was asked for
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
