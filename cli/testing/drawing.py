"""A machine's graph as SVG, with what tests went through in green and what they did not in red."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

from stepwell.cli.testing.coverage import ItemKind, Key, MachineCoverage, condition_text
from stepwell.cli.testing.layout import Link, Placed, Size, place
from stepwell.engine.jsontypes import Json

_LETTER: Final = 7.2
_NODE_HEIGHT: Final = 44.0
_PAD: Final = 18.0
_HEAD: Final = 34.0
_NAME_CHARS: Final = 34


@dataclass(slots=True)
class _Edge:
    """How an edge is drawn: its class, its number or word, and what a pointer resting on it is told."""

    kind: str
    mark: str
    title: str


@dataclass(slots=True)
class _Container:
    """A laid-out container: its states' sizes and places, those nested in them, and its edges."""

    states: Mapping[str, Mapping[str, Json]]
    start: str
    placed: Placed
    inner: dict[str, list[_Container]] = field(default_factory=dict)
    sizes: dict[str, Size] = field(default_factory=dict)
    edges: dict[Link, _Edge] = field(default_factory=dict)


def machine_svg(source: Mapping[str, Json], coverage: MachineCoverage) -> str:
    """The graph of a definition as an `svg` element without style; its classes are those of `STYLE`."""
    container = _lay_out(source, coverage)
    if container is None:
        return ""
    width, height = container.placed.size.width + 2 * _PAD, container.placed.size.height + 2 * _PAD
    body = "".join(_drawn(container, coverage, _PAD, _PAD))
    return (
        f'<svg class="graph" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img">'
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="context-stroke"/></marker></defs>'
        f"{body}</svg>"
    )


def _lay_out(source: Json, coverage: MachineCoverage) -> _Container | None:
    states = source.get("States") if isinstance(source, dict) else None
    if not isinstance(source, dict) or not isinstance(states, dict):
        return None
    known = {name: state for name, state in states.items() if isinstance(state, dict)}
    container = _Container(known, str(source.get("StartAt", "")), Placed({}, {}, Size(0, 0)))
    for name, state in known.items():
        inner = [_lay_out(one, coverage) for one in _nested(state)]
        container.inner[name] = [one for one in inner if one is not None]
        container.sizes[name] = _size(name, state, container.inner[name])
        for link, edge in _edges(name, state, coverage):
            container.edges[link] = edge
    container.placed = place(container.sizes, list(container.edges), container.start)
    return container


def _nested(state: Mapping[str, Json]) -> list[Json]:
    branches = state.get("Branches")
    found = list(branches) if isinstance(branches, list) else []
    return found + [state[name] for name in ("ItemProcessor", "Iterator") if name in state]


def _size(name: str, state: Mapping[str, Json], inner: Sequence[_Container]) -> Size:
    words = min(len(name), _NAME_CHARS) * _LETTER + 44 + 30 * ("Retry" in state)
    if not inner:
        return Size(max(120.0, words), _NODE_HEIGHT)
    width = sum(one.placed.size.width for one in inner) + _PAD * (len(inner) + 1)
    height = max(one.placed.size.height for one in inner)
    return Size(max(words, width, 120.0), height + _HEAD + 2 * _PAD)


def _edges(name: str, state: Mapping[str, Json], coverage: MachineCoverage) -> Iterator[tuple[Link, _Edge]]:
    if isinstance(target := state.get("Next"), str):
        yield Link(name, target), _Edge("next", "", "Next")
    rules = state.get("Choices")
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        if isinstance(rule, dict) and isinstance(target := rule.get("Next"), str):
            hits = coverage.hits[Key(ItemKind.RULE, name, index)]
            title = f"{condition_text(rule)}: taken {hits} times"
            yield Link(name, target, f"rule {index}"), _Edge(_covered(hits), str(index + 1), title)
    if isinstance(target := state.get("Default"), str):
        hits = coverage.hits[Key(ItemKind.DEFAULT, name)]
        yield Link(name, target, "default"), _Edge(_covered(hits), "else", f"Default: taken {hits} times")
    catchers = state.get("Catch")
    for index, catcher in enumerate(catchers if isinstance(catchers, list) else ()):
        if isinstance(catcher, dict) and isinstance(target := catcher.get("Next"), str):
            hits = coverage.hits[Key(ItemKind.CATCHER, name, index)]
            errors = catcher.get("ErrorEquals")
            names = ", ".join(map(str, errors)) if isinstance(errors, list) else ""
            edge = _Edge(f"{_covered(hits)} catch", "!", f"Catch {names}: fired {hits} times")
            yield Link(name, target, f"catch {index}"), edge


def _covered(hits: int) -> str:
    return "hit" if hits else "miss"


def _drawn(container: _Container, coverage: MachineCoverage, x: float, y: float) -> Iterator[str]:
    for link, points in container.placed.routes.items():
        yield _edge(container.edges[link], [(x + px, y + py) for px, py in points])
    for name, (left, top) in container.placed.boxes.items():
        yield from _node(container, coverage, name, x + left, y + top)


def _edge(edge: _Edge, points: Sequence[tuple[float, float]]) -> str:
    (x, y), *rest = points
    path = f"M{x:.1f} {y:.1f}"
    for px, py in rest:
        bend = (py - y) / 2
        path += f"C{x:.1f} {y + bend:.1f} {px:.1f} {py - bend:.1f} {px:.1f} {py:.1f}"
        x, y = px, py
    drawn = f'<path d="{path}" marker-end="url(#arrow)"/>'
    if edge.mark:
        (x, y), (px, py) = points[0], points[1]
        mx, my = x + (px - x) * 0.2, y + (py - y) * 0.3
        width = 10 + 6.5 * len(edge.mark)
        drawn += (
            f'<rect class="pill" x="{mx - width / 2:.1f}" y="{my - 8:.1f}" width="{width:.1f}" height="16" rx="8"/>'
            f'<text class="mark" x="{mx:.1f}" y="{my + 4:.1f}">{escape(edge.mark)}</text>'
        )
    return f'<g class="edge {edge.kind}"><title>{escape(edge.title)}</title>{drawn}</g>'


def _node(container: _Container, coverage: MachineCoverage, name: str, x: float, y: float) -> Iterator[str]:
    state, size, inner = container.states[name], container.sizes[name], container.inner[name]
    hits = coverage.hits[Key(ItemKind.STATE, name)]
    kind = str(state.get("Type", ""))
    shown = name if len(name) <= _NAME_CHARS else name[: _NAME_CHARS - 1] + "…"
    start = " start" if name == container.start else ""
    title = f"{name} ({kind}): entered {hits} times"
    radius = {"Choice": 22, "Succeed": 22, "Fail": 22}.get(kind, 9)
    yield (
        f'<g class="node {_covered(hits)}{start}{" group" if inner else ""}"><title>{escape(title)}</title>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{size.width:.1f}" height="{size.height:.1f}" rx="{radius}"/>'
        f'<text class="name" x="{x + size.width / 2:.1f}" y="{y + 19:.1f}">{escape(shown)}</text>'
        f'<text class="type" x="{x + size.width / 2:.1f}" y="{y + 34:.1f}">{escape(kind)} · {hits}×</text>'
    )
    yield from _retriers(name, state, coverage, x + size.width, y)
    yield "</g>"
    left = x + (size.width - sum(one.placed.size.width for one in inner) - _PAD * (len(inner) - 1)) / 2
    for one in inner:
        yield from _drawn(one, coverage, left, y + _HEAD + _PAD)
        left += one.placed.size.width + _PAD


def _retriers(name: str, state: Mapping[str, Json], coverage: MachineCoverage, x: float, y: float) -> Iterator[str]:
    retriers = state.get("Retry")
    if not isinstance(retriers, list) or not retriers:
        return
    fired = sum(coverage.hits[Key(ItemKind.RETRIER, name, index)] > 0 for index in range(len(retriers)))
    kind = "hit" if fired == len(retriers) else "miss"
    yield (
        f'<g class="retry {kind}"><title>{fired} of {len(retriers)} retriers fired</title>'
        f'<rect x="{x - 38:.1f}" y="{y - 9:.1f}" width="34" height="18" rx="9"/>'
        f'<text class="mark" x="{x - 21:.1f}" y="{y + 4:.1f}">↻{fired}/{len(retriers)}</text></g>'
    )
