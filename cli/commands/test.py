"""`stepwell test`: the test cases of definitions, run in memory; results for people, machines and CI servers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stepwell.cli.definition_files import printable
from stepwell.cli.failures import ExitCode, Failure, fail_hard
from stepwell.cli.options import examples, json_option, pass_output, read_input
from stepwell.cli.output import Output, duration

if TYPE_CHECKING:
    from stepwell.cli.testing.coverage import MachineCoverage
    from stepwell.cli.testing.running import CaseResult, SuiteResult


@click.command(
    epilog=examples("stepwell test", 'stepwell test flows/ -k "order::*" --fail-under 90 --html report.html')
)
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option(
    "--mock-config", metavar="FILE", envvar="SFN_MOCK_CONFIG",
    help="A MockConfigFile of Step Functions Local.  [MockConfigFile.json beside the definition]",
)  # fmt: skip
@click.option("-i", "--input", "input_text", metavar="JSON|@FILE|-", help="The input of cases that have none.  [{}]")
@click.option(
    "-k", "--case", "cases", multiple=True, metavar="GLOB", help="Only the cases so named: CASE or MACHINE::CASE."
)
@click.option(
    "-f", "--functions", multiple=True, metavar="MODULE[:ATTR]",
    help="Python functions for tasks without a mock, as in stepwell run.",
)  # fmt: skip
@click.option("-v", "--verbose", is_flag=True, help="A line for each case, with its status and virtual time.")
@click.option("-x", "--exitfirst", is_flag=True, help="Stop at the first failure.")
@click.option("--strict", is_flag=True, help="Let warnings fail: mocks that no case needs, for example.")
@click.option("--coverage/--no-coverage", default=True, help="Show what the cases went through.  [yes]")
@click.option(
    "--fail-under", type=click.FloatRange(0, 100), metavar="PERCENT", help="Fail if less than that is covered."
)
@click.option("--junit", type=click.Path(dir_okay=False, writable=True), metavar="FILE", help="Write JUnit XML.")
@click.option(
    "--html", type=click.Path(dir_okay=False, writable=True), metavar="FILE", help="Write a report to look at."
)
@click.option("-j", "--jobs", type=click.IntRange(0, 64), default=0, help="Processes.  [as many as pay]")
@json_option
@pass_output
def test(
    output: Output,
    paths: tuple[str, ...],
    mock_config: str | None,
    input_text: str | None,
    cases: tuple[str, ...],
    functions: tuple[str, ...],
    verbose: bool,
    exitfirst: bool,
    strict: bool,
    coverage: bool,
    fail_under: float | None,
    junit: str | None,
    html: str | None,
    jobs: int,
) -> None:
    """Run the test cases of state machines, in memory, with mocks, on a virtual clock.

    PATH is a test file (order.asl.test.json), a definition, or a folder with such files; the current one by default.

    Exit code 0: all cases passed; 1: some did not, or too little is covered; 2: there are no tests, or no usable ones.
    """
    from stepwell.cli.local import load_functions
    from stepwell.cli.testing.coverage import total
    from stepwell.cli.testing.discovery import find_targets, run_targets

    targets = find_targets(paths, None if mock_config is None else Path(mock_config), read_input(input_text))
    told = Told(output, verbose)
    suites = run_targets(
        targets,
        cases,
        functions=load_functions(functions),
        jobs=jobs,
        first_failure=exitfirst,
        on_suite=told.suite,
    )
    if cases and not any(suite.cases or suite.error for suite in suites):
        raise Failure(f"No case is named {' or '.join(cases)}.", ExitCode.UNUSABLE, code="NoTests")
    machines = merged([suite.coverage for suite in suites if suite.coverage is not None])
    share = total(machines)
    too_little = fail_under is not None and share.percent < fail_under
    told.end(suites)
    if coverage:
        show_coverage(output, machines)
    if too_little:
        output.say(f"Only {share.percent:.1f} % is covered, wanted are {fail_under:g} %.", fg="red")
    if junit is not None:
        from stepwell.cli.testing.junit import junit_xml

        write_report(junit, junit_xml(suites))
    if html is not None:
        from stepwell.cli.testing.html_report import html_report

        write_report(html, html_report(suites, machines))
    warned = strict and any(suite.warnings or any(case.warnings for case in suite.cases) for suite in suites)
    output.document(as_json(suites, machines))
    if any(suite.error for suite in suites):
        fail_hard(ExitCode.UNUSABLE)
    if any(suite.failed for suite in suites) or too_little or warned:
        fail_hard(ExitCode.FAILED)


def write_report(file: str, text: str) -> None:
    try:
        Path(file).write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise Failure(f"{file} cannot be written: {error.strerror}.", ExitCode.UNUSABLE, code="NoFile") from None


def merged(machines: Sequence[MachineCoverage]) -> list[MachineCoverage]:
    """One coverage for each definition, whichever files its tests are in."""
    found: dict[Path, MachineCoverage] = {}
    for one in machines:
        place = Path(one.file).resolve()
        if place in found:
            found[place].hits.update(one.hits)
        else:
            found[place] = one
    return list(found.values())


class Told:
    """What is said while suites run."""

    def __init__(self, output: Output, verbose: bool) -> None:
        self._output = output
        self._verbose = verbose

    def _say(self, text: str, **style: Any) -> None:
        """Text with words of users in it, fit for a terminal."""
        for line in text.splitlines():
            self._output.say(printable(line, 2000), **style)

    def suite(self, suite: SuiteResult) -> None:
        """A line for a suite: a dot for each case that passed, an F for each that did not; or a line for each case."""
        if suite.error is not None:
            self._output.say(f"{printable(suite.file)} " + click.style("E", fg="red"))
            return
        if not suite.cases:
            return
        if not self._verbose:
            marks = (click.style(".", fg="green") if one.passed else click.style("F", fg="red") for one in suite.cases)
            self._output.say(f"{printable(suite.file)} {''.join(marks)}")
            return
        self._say(suite.file)
        for case in suite.cases:
            mark = click.style("✓", fg="green") if case.passed else click.style("✗", fg="red")
            told = f"{case.outcome.status}, {len(case.outcome.path)} states, {duration(case.outcome.milliseconds)}"
            self._output.say(f"  {mark} {printable(case.name)}  {click.style(told, fg='bright_black')}")

    def end(self, suites: Sequence[SuiteResult]) -> None:
        """The failures one by one, the warnings, and the count of all."""
        failed = [(suite, case) for suite in suites for case in suite.failed]
        for suite, case in failed:
            self._failure(suite, case)
        for suite in suites:
            if suite.error is not None:
                self._output.say()
                self._say(suite.error, fg="red")
        warnings = [line for suite in suites for line in told_warnings(suite)]
        if warnings:
            self._output.say()
            for line in warnings:
                self._output.say(click.style("warning: ", fg="yellow") + printable(line, 2000))
        count = sum(len(suite.cases) for suite in suites)
        broken = sum(suite.error is not None for suite in suites)
        words = [(f"{len(failed)} failed", "red")] if failed else []
        words += [(f"{count - len(failed)} passed", "green")] if count > len(failed) or not failed else []
        words += [(f"{broken} unusable", "red")] if broken else []
        words += [(f"{len(warnings)} {'warning' if len(warnings) == 1 else 'warnings'}", "yellow")] if warnings else []
        self._output.say()
        self._output.say(", ".join(click.style(text, fg=colour, bold=True) for text, colour in words))

    def _failure(self, suite: SuiteResult, case: CaseResult) -> None:
        self._output.say()
        self._say(f"── {suite.name}::{case.name} ".ljust(72, "─"), fg="red", bold=True)
        for problem in case.problems:
            self._say(problem.message)
            for line in problem.lines:
                self._say(f"    {line}")
        if case.history:
            self._output.say("  what happened:", fg="bright_black")
            for line in case.history:
                self._say(line, fg="bright_black")


def told_warnings(suite: SuiteResult) -> list[str]:
    """The warnings of a suite and its cases, in full."""
    return [*suite.warnings, *(f"{suite.name}::{case.name}: {one}" for case in suite.cases for one in case.warnings)]


def show_coverage(output: Output, machines: Sequence[MachineCoverage]) -> None:
    """A row for each machine, and what is missing."""
    from stepwell.cli.testing.coverage import GROUPS, total

    if not machines:
        return
    rows = [
        [one.name, *(str(one.share(group)) for group in GROUPS), f"{one.share().percent:.0f} %"]
        for one in sorted(machines, key=lambda one: one.name)
    ]
    if len(machines) > 1:
        rows.append(["(all)", *[""] * len(GROUPS), f"{total(machines).percent:.0f} %"])
    output.say()
    output.table(["COVERAGE", *(group.upper() for group in GROUPS), "ALL"], rows, "")
    for machine in machines:
        for item in machine.missing[:12]:
            leads = f" → {item.target}" if item.target else ""
            text = printable(f"{machine.name}{item.pointer}  {item.text}{leads}")
            output.say(f"  not covered: {text}", fg="bright_black")
        if len(machine.missing) > 12:
            output.say(f"  ... and {len(machine.missing) - 12} more of {machine.name}", fg="bright_black")


def as_json(suites: Sequence[SuiteResult], machines: Sequence[MachineCoverage]) -> dict[str, Any]:
    """Everything, for machines."""
    from stepwell.cli.testing.coverage import total

    failed = sum(len(suite.failed) for suite in suites)
    count = sum(len(suite.cases) for suite in suites)
    return {
        "passed": count - failed,
        "failed": failed,
        "unusable": sum(suite.error is not None for suite in suites),
        "suites": [suite_json(suite) for suite in suites],
        "coverage": {"percent": round(total(machines).percent, 1), "machines": [one.as_json() for one in machines]},
    }


def suite_json(suite: SuiteResult) -> dict[str, Any]:
    if suite.error is not None:
        return {"file": suite.file, "error": suite.error}
    return {
        "file": suite.file,
        "definition": suite.definition,
        "name": suite.name,
        "cases": [case_json(case) for case in suite.cases],
        "warnings": suite.warnings,
    }


def case_json(case: CaseResult) -> dict[str, Any]:
    outcome = case.outcome
    ended = {"error": outcome.error, "cause": outcome.cause, "failedState": outcome.failed_state}
    return {
        "name": case.name,
        "passed": case.passed,
        "problems": [{"message": one.message, "details": list(one.lines)} for one in case.problems],
        "warnings": list(case.warnings),
        "status": outcome.status.value,
        **({"output": outcome.output} if outcome.status == "SUCCEEDED" else {}),
        **{name: text for name, text in ended.items() if text is not None},
        "durationMs": outcome.milliseconds,
        "path": list(outcome.path),
        "attempts": dict(outcome.attempts),
    }
