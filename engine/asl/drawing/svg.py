"""A picture of a graph as SVG: one file that needs nothing else, no fonts, no scripts. All text of users is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Final

from stepwell.engine.asl.drawing.captions import shortened
from stepwell.engine.asl.drawing.layout import Link, Placed, place
from stepwell.engine.asl.drawing.model import END, START, Edge, EdgeKind, Graph, Node

MARGIN: Final = 24.0
_INSET: Final = 16.0
_HEAD: Final = 14.0
"""A little more than the size of names, which are bold."""
_LINE: Final = 17.0
_SMALL: Final = 11.0
_DOT: Final = 9.0
_LEAST_WIDTH: Final = 130.0
_MOST_CHARS: Final = 26
_MOST_LINES: Final = 3
_CAPTION_CHARS: Final = 34
_CAPTION_LINES: Final = 2
_LOOP: Final = 30.0

_COLOURS: Final = {
    "Task": "#2563eb",
    "Choice": "#b45309",
    "Parallel": "#0f766e",
    "Map": "#7c3aed",
    "Wait": "#475569",
    "Pass": "#64748b",
    "Succeed": "#15803d",
    "Fail": "#b91c1c",
    "missing": "#b91c1c",
}
_OTHER: Final = "#64748b"
_EDGES: Final = {
    EdgeKind.NEXT: ("next", "#64748b"),
    EdgeKind.CHOICE: ("choice", "#b45309"),
    EdgeKind.DEFAULT: ("default", "#b45309"),
    EdgeKind.CATCH: ("catch", "#dc2626"),
}
_STRAIGHT: Final = {EdgeKind.NEXT: 4.0, EdgeKind.CHOICE: 1.0, EdgeKind.DEFAULT: 1.0, EdgeKind.CATCH: 0.3}
"""How straight edges want to be: the way without errors and choices most of all."""
_GROUND: Final = "#fff"
_INNER_GROUND: Final = "#f8fafc"
_STYLE: Final = """\
text{font-family:Inter,system-ui,-apple-system,"Segoe UI","Liberation Sans","DejaVu Sans",Helvetica,Arial,sans-serif;fill:#0f172a}
.kind{font-size:10px;font-weight:600;letter-spacing:.06em}
.name{font-size:13px;font-weight:600}
.detail{font-size:11px;fill:#475569}
.retry{font-size:10.5px;font-weight:600;fill:#475569}
.caption{font-size:11px;fill:#334155}
.catch .caption{fill:#b91c1c}
.choice .caption{fill:#92400e}
.default .caption{fill:#92400e;font-style:italic}
.box{fill:#fff;stroke:#cbd5e1}
.missing .box{stroke:#dc2626;stroke-dasharray:4 3;fill:#fef2f2}
.inner{fill:#f8fafc;stroke:#cbd5e1;stroke-dasharray:3 3}
.edge path{fill:none;stroke-width:1.4}
.catch path{stroke-dasharray:5 4}
.default path{stroke-dasharray:1 3;stroke-linecap:round}"""

_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NARROW: Final = frozenset("iIljtfr.,:;'|!()[]{} -")
_WIDE: Final = frozenset("mwMW@%—…≥≤")


def svg(graph: Graph) -> str:
    """The picture of a graph."""
    drawn = _laid_out(graph)
    width, height = drawn.placed.width + 2 * MARGIN, drawn.placed.height + 2 * MARGIN
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="State machine">',
        f"<style>{escape(_STYLE, quote=False)}</style>",
        "<defs>",
        *(
            f'<marker id="arrow-{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0 .6 7.5 4 0 7.4z" fill="{colour}"/></marker>'
            for name, colour in _EDGES.values()
        ),
        "</defs>",
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#fff"/>',
    ]
    _write_graph(parts, drawn, MARGIN, MARGIN)
    parts.append("</svg>\n")
    return "\n".join(parts)


@dataclass(slots=True)
class _Card:
    """A node with the size it needs. `loop` is the room at each side for edges from it to itself."""

    node: Node
    lines: list[str]
    width: float
    height: float
    loop: float
    inside: list[_Drawn]


@dataclass(slots=True)
class _Drawn:
    """A graph with the places of all that is in it."""

    cards: list[_Card]
    edges: list[Edge]
    captions: list[list[str]]
    placed: Placed


def _laid_out(graph: Graph) -> _Drawn:
    captions = [_wrapped(edge.caption, _CAPTION_CHARS, _CAPTION_LINES) if edge.caption else [] for edge in graph.edges]
    loops: dict[str, float] = {}
    for edge, lines in zip(graph.edges, captions, strict=True):
        if edge.source == edge.target:
            room = _LOOP + max((_width(line, _SMALL) for line in lines), default=0.0)
            loops[edge.source] = max(loops.get(edge.source, 0.0), room)
    cards = [_card(node, loops.get(node.name, 0.0)) for node in graph.nodes.values()]
    index = {node.name: number for number, node in enumerate(graph.nodes.values())}
    links = []
    for edge, lines in zip(graph.edges, captions, strict=True):
        size = _caption_size(lines) if edge.source != edge.target else (0.0, 0.0)
        links.append(Link(index[edge.source], index[edge.target], *size, weight=_STRAIGHT[edge.kind]))
    placed = place([(card.width + 2 * card.loop, card.height) for card in cards], links)
    return _Drawn(cards, graph.edges, captions, placed)


def _caption_size(lines: list[str]) -> tuple[float, float]:
    if not lines:
        return 0.0, 0.0
    return max(_width(line, _SMALL) for line in lines) + 12, 14.0 * len(lines) + 4


def _card(node: Node, loop: float) -> _Card:
    if node.name in (START, END) and not node.type:
        return _Card(node, [], 2 * _DOT, 2 * _DOT, 0.0, [])
    lines = _wrapped(node.name, _MOST_CHARS, _MOST_LINES) or ["(no name)"]
    width = max(_width(line, _HEAD) for line in lines) + 34
    width = max(width, _width(_kind(node), 11) + (_width(node.retry, 11) + 26 if node.retry else 0) + 30, _LEAST_WIDTH)
    height = 28 + _LINE * len(lines)
    if node.detail:
        width = max(width, _width(shortened(node.detail, 40), _SMALL) + 34)
        height += 15
    inside = [_laid_out(graph) for graph in node.inside]
    if inside:
        width = max(width, sum(each.placed.width + 2 * _INSET for each in inside) + _INSET * (len(inside) + 1))
        height += max(each.placed.height for each in inside) + 2 * _INSET + 22
    return _Card(node, lines, width, height, loop, inside)


def _kind(node: Node) -> str:
    return "NO SUCH STATE" if node.type == "missing" else node.type.upper()[:20]


def _write_graph(parts: list[str], drawn: _Drawn, left: float, top: float, ground: str = _GROUND) -> None:
    index = {card.node.name: number for number, card in enumerate(drawn.cards)}
    for edge, points in zip(drawn.edges, drawn.placed.links, strict=True):
        name, colour = _EDGES[edge.kind]
        if points:
            path = _path([(x + left, y + top) for x, y in points])
        else:
            card, (x, y) = drawn.cards[index[edge.source]], drawn.placed.boxes[index[edge.source]]
            path = _loop(x + left + card.width / 2, y + top)
        parts.append(
            f'<g class="edge {name}{_mark(edge.mark)}"><path d="{path}" stroke="{colour}" marker-end="url(#arrow-{name})"/></g>'
        )
    for card, (x, y) in zip(drawn.cards, drawn.placed.boxes, strict=True):
        _write_card(parts, card, x + left, y + top)
    for number, (edge, lines) in enumerate(zip(drawn.edges, drawn.captions, strict=True)):
        if lines:
            at = drawn.placed.captions[number]
            if at is None:
                card, (x, y) = drawn.cards[index[edge.source]], drawn.placed.boxes[index[edge.source]]
                at = (x + card.width / 2 + _LOOP + (card.loop - _LOOP) / 2, y)
            _write_caption(parts, edge, lines, at[0] + left, at[1] + top, ground)


def _write_caption(parts: list[str], edge: Edge, lines: list[str], x: float, y: float, ground: str) -> None:
    width, height = _caption_size(lines)
    parts.append(f'<g class="{_EDGES[edge.kind][0]}{_mark(edge.mark)}"><title>{_xml(edge.caption[:1000])}</title>')
    parts.append(
        f'<rect x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width:.1f}" height="{height:.1f}" rx="4" '
        f'fill="{ground}" fill-opacity=".92"/>'
    )
    for number, line in enumerate(lines):
        baseline = y - height / 2 + 13 + 14 * number
        parts.append(f'<text class="caption" x="{x:.1f}" y="{baseline:.1f}" text-anchor="middle">{_xml(line)}</text>')
    parts.append("</g>")


def _write_card(parts: list[str], card: _Card, x: float, y: float) -> None:
    node = card.node
    if not card.lines:
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_DOT - 1.5}" fill="#0f172a"/>')
        if node.name == END:
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_DOT - 4}" fill="none" stroke="#fff" stroke-width="2"/>'
            )
        return
    left, top = x - card.width / 2, y - card.height / 2
    colour = _COLOURS.get(node.type, _OTHER)
    about = f"{node.name}\n{node.comment}" if node.comment else node.name
    parts.append(f'<g class="state {_class(node.type)}{_mark(node.mark)}"><title>{_xml(about[:1000])}</title>')
    parts.append(
        f'<rect class="box" x="{left:.1f}" y="{top:.1f}" width="{card.width:.1f}" height="{card.height:.1f}" rx="7"/>'
    )
    parts.append(
        f'<path d="M{left + 7:.1f} {top:.1f}h-1a6 6 0 0 0 -6 6v{card.height - 12:.1f}a6 6 0 0 0 6 6h1'
        f'a3 3 0 0 1 -3 -3v{-(card.height - 6):.1f}a3 3 0 0 1 3 -3z" fill="{colour}"/>'
    )
    parts.append(
        f'<text class="kind" x="{left + 16:.1f}" y="{top + 17:.1f}" style="fill:{colour}">{_xml(_kind(node))}</text>'
    )
    if node.retry:
        _write_retry(parts, node.retry, left + card.width - 9, top + 7)
    baseline = top + 17
    for line in card.lines:
        baseline += _LINE
        parts.append(f'<text class="name" x="{left + 16:.1f}" y="{baseline:.1f}">{_xml(line)}</text>')
    if node.detail:
        baseline += 15
        shown = shortened(node.detail, 40)
        parts.append(f'<text class="detail" x="{left + 16:.1f}" y="{baseline:.1f}">{_xml(shown)}</text>')
    _write_inside(parts, card, left, baseline + 12, top + card.height - _INSET)
    parts.append("</g>")


def _write_retry(parts: list[str], text: str, right: float, top: float) -> None:
    width = _width(text, 11) + 12
    parts.append(
        f'<rect x="{right - width:.1f}" y="{top:.1f}" width="{width:.1f}" height="15" rx="7.5" fill="#e2e8f0"/>'
    )
    parts.append(
        f'<text class="retry" x="{right - width / 2:.1f}" y="{top + 11.2:.1f}" text-anchor="middle">{_xml(text)}</text>'
    )


def _write_inside(parts: list[str], card: _Card, left: float, top: float, bottom: float) -> None:
    taken = sum(each.placed.width + 2 * _INSET for each in card.inside) + _INSET * (len(card.inside) - 1)
    x = left + (card.width - taken) / 2
    for each in card.inside:
        width = each.placed.width + 2 * _INSET
        parts.append(
            f'<rect class="inner" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{bottom - top:.1f}" rx="6"/>'
        )
        _write_graph(parts, each, x + _INSET, top + (bottom - top - each.placed.height) / 2, _INNER_GROUND)
        x += width + _INSET


def _path(points: Sequence[tuple[float, float]]) -> str:
    """A line through points: straight down, and in curves from one column to another."""
    (x, y), *_ = points
    steps = [f"M{x:.1f} {y:.1f}"]
    for (x, y), (to_x, to_y) in pairwise(points):
        if abs(x - to_x) < 0.5:
            steps.append(f"V{to_y:.1f}" if abs(y - to_y) > 0.05 else "")
        else:
            middle = (y + to_y) / 2
            steps.append(f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}")
    return "".join(steps)


def _loop(x: float, y: float) -> str:
    """From the right side of a box back to it."""
    return f"M{x:.1f} {y + 9:.1f}C{x + _LOOP:.1f} {y + 16:.1f} {x + _LOOP:.1f} {y - 16:.1f} {x:.1f} {y - 9:.1f}"


def _mark(mark: str) -> str:
    return f" {escape(mark)}" if mark else ""


def _class(type_name: str) -> str:
    return type_name if type_name in _COLOURS else "other"


def _xml(text: str) -> str:
    return escape(_NOT_IN_XML.sub("\ufffd", text))


def _width(text: str, size: float) -> float:
    """About how wide a text is; no font is at hand."""
    total = 0.0
    for char in text:
        if char in _NARROW:
            total += 0.38
        elif char in _WIDE:
            total += 0.92
        elif ord(char) > 0x2E7F:
            total += 1.05
        else:
            total += 0.76 if char.isupper() else 0.635
    return total * size


_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[_\-/.:])(?=[^_\-/.:])")
"""Where a word can be broken: before a capital, after a sign between words."""


def _cut(text: str, chars: int) -> int:
    """Where a text is broken so that at most so many characters come before."""
    cut = text.rfind(" ", chars // 2, chars + 1)
    if cut < 0:
        cut = max((match.start() for match in _HUMP.finditer(text, 0, chars + 2) if match.start() <= chars), default=0)
    return cut if cut >= chars // 3 else chars


def _wrapped(text: str, chars: int, most: int) -> list[str]:
    """A text on a few lines, broken at blanks where there are any, else where its words seem to begin."""
    lines: list[str] = []
    rest = " ".join(text.split())
    while rest and len(lines) < most:
        if len(rest) <= chars:
            lines.append(rest)
            break
        if len(lines) == most - 1:
            lines.append(f"{rest[: chars - 1]}…")
            break
        cut = _cut(rest, chars)
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return lines
