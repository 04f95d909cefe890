"""The report of `stepwell test --html`: one file that needs no other, with graphs, definitions and cases. All text is escaped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from typing import Final

from stepwell import __version__
from stepwell.cli.output import duration
from stepwell.cli.testing.coverage import GROUPS, Item, MachineCoverage, Share, total
from stepwell.cli.testing.drawing import machine_svg
from stepwell.cli.testing.running import CaseResult, SuiteResult
from stepwell.engine.asl.diagnostics import DefinitionError
from stepwell.engine.asl.scanner import LineIndex
from stepwell.engine.asl.source import value_offsets
from stepwell.engine.jsontypes import Json, read

_LONG_LINE: Final = 400


def html_report(suites: Sequence[SuiteResult], machines: Sequence[MachineCoverage]) -> str:
    """The whole page."""
    style = files("stepwell.cli.testing").joinpath("report.css").read_text(encoding="utf-8")
    count = sum(len(suite.cases) for suite in suites)
    failed = sum(len(suite.failed) for suite in suites)
    broken = [suite for suite in suites if suite.error is not None]
    share = total(machines)
    verdict = "bad" if failed or broken else "good"
    head = (
        f'<header class="{verdict}"><h1>State machine tests</h1><p class="figures">'
        f"{f'<b>{count - failed}</b> passed<b>{failed}</b> failed' if count or broken else ''}"
        f"<b>{share.percent:.0f} %</b> covered<b>{len(machines)}</b> {'machine' if len(machines) == 1 else 'machines'}"
        "</p></header>"
    )
    body = [
        head,
        _summary(machines, suites),
        *(f'<section class="broken"><pre>{escape(suite.error or "")}</pre></section>' for suite in broken),
    ]
    by_file = {suite.definition: suite for suite in suites}
    for machine in sorted(machines, key=lambda one: one.name):
        own = [suite for suite in suites if suite.coverage is not None and suite.definition == machine.file]
        body += _machine(machine, own, by_file[machine.file].text)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>State machine tests</title><style>{style}</style></head><body>"
        f"{''.join(body)}<footer>Stepwell {escape(__version__)}</footer></body></html>\n"
    )


def _summary(machines: Sequence[MachineCoverage], suites: Sequence[SuiteResult]) -> str:
    rows = []
    for machine in sorted(machines, key=lambda one: one.name):
        own = [suite for suite in suites if suite.definition == machine.file]
        count, failed = sum(len(one.cases) for one in own), sum(len(one.failed) for one in own)
        cases = f'<span class="bad">{failed} of {count} failed</span>' if failed else f"{count} passed" if count else ""
        groups = "".join(f"<td>{escape(str(machine.share(group)))}</td>" for group in GROUPS)
        rows.append(
            f'<tr><td><a href="#{_anchor(machine)}">{escape(machine.name)}</a></td><td>{cases}</td>{groups}'
            f"<td>{_bar(machine.share())}</td></tr>"
        )
    heads = "".join(f"<th>{escape(group)}</th>" for group in GROUPS)
    return (
        f'<section><table class="summary"><tr><th>machine</th><th>cases</th>{heads}<th>covered</th></tr>'
        f"{''.join(rows)}</table></section>"
    )


def _bar(share: Share) -> str:
    level = "full" if share.covered == share.total else "part"
    return (
        f'<span class="bar {level}"><i style="width:{share.percent:.1f}%"></i></span>'
        f'<span class="percent">{share.percent:.0f} %</span>'
    )


def _anchor(machine: MachineCoverage) -> str:
    return escape("m-" + "".join(char if char.isalnum() else "-" for char in machine.file), quote=True)


def _machine(machine: MachineCoverage, suites: Sequence[SuiteResult], text: bytes) -> Iterator[str]:
    yield (
        f'<section class="machine" id="{_anchor(machine)}"><h2>{escape(machine.name)} {_bar(machine.share())}</h2>'
        f'<p class="file">{escape(machine.file)}</p>'
    )
    source = read(text[3:] if text.startswith(b"\xef\xbb\xbf") else text)
    if isinstance(source, dict):
        yield (
            f'<div class="drawing">{machine_svg(source, machine)}</div><p class="key"><span class="hit">gone through</span>'
            '<span class="miss">not gone through</span> 1, 2, …: choice rules; !: catchers; ↻: retriers that fired</p>'
        )
    if machine.missing:
        rows = "".join(
            f"<tr><td>{escape(item.key.kind)}</td><td>{escape(item.text)}</td><td>{escape(item.target or '')}</td>"
            f"<td><code>{escape(item.pointer)}</code></td></tr>"
            for item in machine.missing
        )
        yield (
            f"<h3>Not covered</h3><table><tr><th></th><th>what</th><th>leads to</th><th>where</th></tr>{rows}</table>"
        )
    if any(suite.cases for suite in suites):
        yield "<h3>Cases</h3>"
    for suite in suites:
        yield from (_case(case) for case in suite.cases)
    yield f"<details><summary>Definition</summary>{_listing(machine, text, source)}</details></section>"


def _case(case: CaseResult) -> str:
    outcome = case.outcome
    word = "good" if case.passed else "bad"
    head = (
        f'<span class="dot {word}"></span><b>{escape(case.name)}</b> <span class="faint">{escape(outcome.status.value)}'
        f"{escape(f' {outcome.error}') if outcome.error else ''}, {escape(duration(outcome.milliseconds))}</span>"
    )
    lines = [line for problem in case.problems for line in (problem.message, *(f"    {one}" for one in problem.lines))]
    lines += [f"warning: {one}" for one in case.warnings]
    told = f'<pre class="problems">{escape(chr(10).join(lines))}</pre>' if lines else ""
    path = f'<p class="path">{" → ".join(escape(name) for name in outcome.path)}</p>'
    history = f'<pre class="faint">{escape(chr(10).join(case.history))}</pre>' if case.history else ""
    return f'<details class="case"{"" if case.passed else " open"}><summary>{head}</summary>{told}{path}{history}</details>'


def _listing(machine: MachineCoverage, text: bytes, source: Json) -> str:
    """The definition, its lines marked by what stands in them; written anew where it has no lines to speak of."""
    plain = text.decode("utf-8-sig", "replace")
    if max((len(line) for line in plain.splitlines()), default=0) > _LONG_LINE:
        plain = json.dumps(source, ensure_ascii=False, indent=2)
    try:
        offsets = value_offsets(plain)
    except DefinitionError:
        return f"<pre>{escape(plain)}</pre>"
    index = LineIndex(plain)
    by_line: dict[int, list[Item]] = {}
    for item in machine.items:
        by_line.setdefault(index.position(offsets.get(item.pointer, 0))[0], []).append(item)
    rows = []
    for number, line in enumerate(plain.splitlines(), 1):
        items = by_line.get(number, [])
        hits = [machine.hits[item.key] for item in items]
        mark = "" if not items else "hit" if all(hits) else "part" if any(hits) else "miss"
        count = "/".join(f"{one}×" for one in hits)
        rows.append(
            f'<tr class="{mark}"><td class="number">{number}</td><td class="count">{count}</td>'
            f"<td><pre>{escape(line)}</pre></td></tr>"
        )
    return f'<table class="listing">{"".join(rows)}</table>'
