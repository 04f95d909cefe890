"""Test results as JUnit XML, in the form that CI servers read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from stepwell.cli.testing.expectations import Problem
from stepwell.cli.testing.running import CaseResult, SuiteResult

_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(suites: Sequence[SuiteResult]) -> str:
    """A `testsuites` document: a suite for each machine, its cases with real times, its failures with what `stepwell test` says."""
    cases = sum(len(suite.cases) for suite in suites)
    failures = sum(len(suite.failed) for suite in suites)
    errors = sum(suite.error is not None for suite in suites)
    seconds = sum(case.seconds for suite in suites for case in suite.cases)
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        f'<testsuites name="stepwell" tests="{cases + errors}" failures="{failures}" errors="{errors}" time="{seconds:.3f}">',
    ]
    for suite in suites:
        lines += _suite(suite)
    return "\n".join([*lines, "</testsuites>", ""])


def _suite(suite: SuiteResult) -> list[str]:
    broken = suite.error is not None
    seconds = sum(case.seconds for case in suite.cases)
    lines = [
        (
            f'  <testsuite name={_attribute(suite.name)} file={_attribute(suite.file)} tests="{len(suite.cases) + broken}" '
            f'failures="{len(suite.failed)}" errors="{int(broken)}" skipped="0" time="{seconds:.3f}">'
        )
    ]
    if suite.error is not None:
        lines += [
            f'    <testcase classname={_attribute(suite.name)} name="(reading the tests)" time="0.000">',
            f'      <error message="The tests cannot be run">{_text(suite.error)}</error>',
            "    </testcase>",
        ]
    for case in suite.cases:
        lines += _case(suite, case)
    return [*lines, "  </testsuite>"]


def _case(suite: SuiteResult, case: CaseResult) -> list[str]:
    head = f'    <testcase classname={_attribute(suite.name)} name={_attribute(case.name)} file={_attribute(suite.file)} time="{case.seconds:.3f}"'
    if case.passed:
        return [f"{head}/>"]
    told = "\n".join([*(line for problem in case.problems for line in _lines(problem)), "", *case.history])
    message = "; ".join(problem.message for problem in case.problems)
    return [
        f"{head}>",
        f"      <failure message={_attribute(message)}>{_text(told)}</failure>",
        "    </testcase>",
    ]


def _lines(problem: Problem) -> list[str]:
    return [problem.message, *(f"  {line}" for line in problem.lines)]


def _attribute(text: str) -> str:
    return quoteattr(_NOT_XML.sub("\ufffd", text))


def _text(text: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", text))
