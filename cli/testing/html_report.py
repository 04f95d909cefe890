"""The report of `stepwell test --html`: one file that needs no other, with graphs, definitions and cases. All text is escaped."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from importlib.resources import files
from typing import Final

from stepwell import __version__
from stepwell.cli.output import duration
from stepwell.cli.testing.coverage import GROUPS, Item, ItemKind, Key, MachineCoverage, Share, total
from stepwell.cli.testing.definitions import document_of
from stepwell.cli.testing.running import CaseResult, SuiteResult
from stepwell.engine.asl import drawing
from stepwell.engine.asl.document import Document, Syntax, read_document
from stepwell.engine.asl.drawing.model import EdgeKind, Graph
from stepwell.engine.jsontypes import Json

_LONG_LINE: Final = 400
_EDGE_ITEMS: Final = {
    EdgeKind.CHOICE: ItemKind.RULE,
    EdgeKind.DEFAULT: ItemKind.DEFAULT,
    EdgeKind.CATCH: ItemKind.CATCHER,
}


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
    document = document_of(machine.file, text)
    yield (
        f'<div class="drawing">{_picture(document.value, machine)}</div><p class="key"><span class="hit">gone through</span>'
        '<span class="miss">not gone through</span> ↻: retriers that tried again</p>'
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
    yield f"<details><summary>Definition</summary>{_listing(machine, document)}</details></section>"


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


def _listing(machine: MachineCoverage, document: Document) -> str:
    """The definition, its lines marked by what stands in them; written anew where it has no lines to speak of."""
    if document.syntax is Syntax.JSON and any(len(line) > _LONG_LINE for line in document.text.splitlines()):
        document = read_document(json.dumps(document.value, ensure_ascii=False, indent=2))
    by_line: dict[int, list[Item]] = {}
    for item in machine.items:
        by_line.setdefault(document.place(item.pointer)[0], []).append(item)
    rows = []
    for number, line in enumerate(document.text.splitlines(), 1):
        hits = [machine.hits[item.key] for item in by_line.get(number, [])]
        mark = "" if not hits else "hit" if all(hits) else "part" if any(hits) else "miss"
        count = "/".join(f"{one}×" for one in hits)
        rows.append(
            f'<tr class="{mark}"><td class="number">{number}</td><td class="count">{count}</td>'
            f"<td><pre>{escape(line)}</pre></td></tr>"
        )
    return f'<table class="listing">{"".join(rows)}</table>'


def _picture(value: Json, machine: MachineCoverage) -> str:
    """The graph, its states and edges marked by what was gone through."""
    graph = drawing.draw(value)
    _mark(graph, machine)
    return drawing.svg(graph)


def _mark(graph: Graph, machine: MachineCoverage) -> None:
    retriers = Counter(item.key.state for item in machine.items if item.key.kind is ItemKind.RETRIER)
    for node in graph.nodes.values():
        for inner in node.inside:
            _mark(inner, machine)
        if not node.type:  # a dot
            continue
        hits = machine.hits[Key(ItemKind.STATE, node.name)]
        node.mark = _gone_through(hits)
        node.detail = f"{hits}× · {node.detail}" if node.detail else f"{hits}×"
        count = retriers[node.name]
        if count:
            fired = sum(machine.hits[Key(ItemKind.RETRIER, node.name, index)] > 0 for index in range(count))
            node.retry = f"↻ {fired} of {count}"
    seen: Counter[tuple[str, EdgeKind]] = Counter()
    for number, edge in enumerate(graph.edges):
        kind = _EDGE_ITEMS.get(edge.kind)
        if kind is not None:
            key = Key(kind, edge.source, seen[edge.source, edge.kind])
            seen[edge.source, edge.kind] += 1
            graph.edges[number] = replace(edge, mark=_gone_through(machine.hits[key]))


def _gone_through(hits: int) -> str:
    return "hit" if hits else "miss"
