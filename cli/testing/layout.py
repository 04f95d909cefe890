"""Where the states of a graph stand: layers from the start downwards, long edges bent around what is between.

The method of Sugiyama, Tagawa and Toda (1981): break cycles, assign layers, insert bends, order layers by barycentres, then place.
Knows boxes and edges, not states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

GAP_X: Final = 34
GAP_Y: Final = 56
_SWEEPS: Final = 6


class Size(NamedTuple):
    """Of a box, in pixels."""

    width: float
    height: float


class Link(NamedTuple):
    """An edge; `label` tells edges between the same boxes apart."""

    source: str
    target: str
    label: str = ""


@dataclass(slots=True)
class Placed:
    """Upper left corners of the boxes, and the points each link goes through."""

    boxes: dict[str, tuple[float, float]]
    routes: dict[Link, list[tuple[float, float]]]
    size: Size


@dataclass(slots=True)
class _Layered:
    sizes: dict[str, Size]
    layers: list[list[str]] = field(default_factory=list)
    above: dict[str, list[str]] = field(default_factory=dict)
    below: dict[str, list[str]] = field(default_factory=dict)
    loops: list[Link] = field(default_factory=list)
    """Links of a box to itself."""
    chains: dict[Link, tuple[list[str], bool]] = field(default_factory=dict)
    """The boxes and bends each link passes, downwards; and whether it really leads upwards."""


def place(sizes: Mapping[str, Size], links: Sequence[Link], start: str) -> Placed:
    """Place boxes so that links lead downwards where they can. Boxes that nothing leads to stand in the first layer."""
    links = [link for link in dict.fromkeys(links) if link.source in sizes and link.target in sizes]
    back = _back_links(list(sizes), links, start)
    graph = _layers(sizes, links, back, start)
    _order(graph)
    centres = _centres(graph)
    return _coordinates(graph, centres)


def _back_links(names: Sequence[str], links: Sequence[Link], start: str) -> set[Link]:
    """The links that close a cycle, seen from the start."""
    out: dict[str, list[Link]] = {name: [] for name in names}
    for link in links:
        out[link.source].append(link)
    back: set[Link] = set()
    done: set[str] = set()
    open_: set[str] = set()
    for root in [start, *names]:
        if root in done or root not in out:
            continue
        stack = [(root, iter(out[root]))]
        open_.add(root)
        while stack:
            name, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                stack.pop()
                open_.discard(name)
                done.add(name)
            elif following.target in open_:
                back.add(following)
            elif following.target not in done:
                open_.add(following.target)
                stack.append((following.target, iter(out[following.target])))
    return back


def _layers(sizes: Mapping[str, Size], links: Sequence[Link], back: set[Link], start: str) -> _Layered:
    down = [(link, link.target, link.source) if link in back else (link, link.source, link.target) for link in links]
    loops = [link for link, upper, lower in down if upper == lower]
    down = [one for one in down if one[1] != one[2]]
    level = dict.fromkeys([start, *sizes], 0) if start in sizes else dict.fromkeys(sizes, 0)
    for _ in range(len(level)):  # longest path; as many rounds as there can be layers
        changed = False
        for _, upper, lower in down:
            if level[lower] < level[upper] + 1:
                level[lower] = level[upper] + 1
                changed = True
        if not changed:
            break
    graph = _Layered(dict(sizes), [[] for _ in range(max(level.values(), default=0) + 1)], loops=loops)
    for name, number in level.items():
        graph.layers[number].append(name)
        graph.above[name], graph.below[name] = [], []
    for index, (link, upper, lower) in enumerate(down):
        chain = [upper]
        for number in range(level[upper] + 1, level[lower]):
            bend = f"\0{index}.{number}"
            graph.sizes[bend] = Size(14, 0)
            graph.above[bend], graph.below[bend] = [], []
            graph.layers[number].append(bend)
            chain.append(bend)
        chain.append(lower)
        for one, other in pairwise(chain):
            graph.below[one].append(other)
            graph.above[other].append(one)
        graph.chains[link] = (chain, link in back)
    return graph


def _order(graph: _Layered) -> None:
    for sweep in range(_SWEEPS):
        layers = graph.layers if sweep % 2 == 0 else graph.layers[::-1]
        neighbours = graph.above if sweep % 2 == 0 else graph.below
        position = {name: index for layer in graph.layers for index, name in enumerate(layer)}
        for layer in layers:
            weight = {
                name: sum(position[one] for one in near) / len(near) if (near := neighbours[name]) else position[name]
                for name in layer
            }
            layer.sort(key=weight.__getitem__)
            position.update({name: index for index, name in enumerate(layer)})


def _centres(graph: _Layered) -> dict[str, float]:
    """The horizontal centre of each box and bend: near its neighbours, and no two in one place."""
    centre: dict[str, float] = {}
    for layer in graph.layers:
        at = 0.0
        for name in layer:
            width = graph.sizes[name].width
            centre[name] = at + width / 2
            at += width + GAP_X
        for name in layer:
            centre[name] -= (at - GAP_X) / 2
    for sweep in range(2 * _SWEEPS):
        layers = graph.layers if sweep % 2 == 0 else graph.layers[::-1]
        neighbours = graph.above if sweep % 2 == 0 else graph.below
        for layer in layers:
            wanted = {
                name: sum(centre[one] for one in near) / len(near) if (near := neighbours[name]) else centre[name]
                for name in layer
            }
            _settle(layer, wanted, graph, centre)
    return centre


def _settle(layer: Sequence[str], wanted: Mapping[str, float], graph: _Layered, centre: dict[str, float]) -> None:
    """As near to what is wanted as the others of the layer allow: the mean of pushing to the right and to the left."""
    pushed = []
    for names, sign in ((list(layer), 1), (list(layer)[::-1], -1)):
        at: dict[str, float] = {}
        before: str | None = None
        for name in names:
            value = wanted[name]
            if before is not None:
                apart = (graph.sizes[before].width + graph.sizes[name].width) / 2 + GAP_X
                value = max(value, at[before] + apart) if sign > 0 else min(value, at[before] - apart)
            at[name] = value
            before = name
        pushed.append(at)
    for name in layer:
        centre[name] = (pushed[0][name] + pushed[1][name]) / 2


def _coordinates(graph: _Layered, centre: Mapping[str, float]) -> Placed:
    left = min((centre[name] - size.width / 2 for name, size in graph.sizes.items()), default=0)
    right = max((centre[name] + size.width / 2 for name, size in graph.sizes.items()), default=0)
    top: dict[str, float] = {}
    bottom: dict[str, float] = {}
    y = 0.0
    for layer in graph.layers:
        height = max((graph.sizes[name].height for name in layer), default=0)
        for name in layer:
            own = graph.sizes[name].height
            is_bend = name.startswith("\0")
            top[name] = y if is_bend else y + (height - own) / 2
            bottom[name] = y + height if is_bend else top[name] + own
        y += height + GAP_Y
    boxes = {
        name: (centre[name] - size.width / 2 - left, top[name])
        for name, size in graph.sizes.items()
        if not name.startswith("\0")
    }
    routes = {}
    for link, (chain, upwards) in graph.chains.items():
        points = [(centre[chain[0]] - left, bottom[chain[0]])]
        for bend in chain[1:-1]:
            points += [(centre[bend] - left, top[bend]), (centre[bend] - left, bottom[bend])]
        points.append((centre[chain[-1]] - left, top[chain[-1]]))
        routes[link] = points[::-1] if upwards else points
    _spread(routes, boxes, graph.sizes)
    for link in graph.loops:
        (edge, upper), size = boxes[link.source], graph.sizes[link.source]
        edge += size.width
        routes[link] = [(edge - 14, upper + size.height), (edge + 16, upper + size.height / 2), (edge - 14, upper)]
    return Placed(boxes, routes, Size(right - left, max(0.0, y - GAP_Y)))


def _spread(
    routes: dict[Link, list[tuple[float, float]]], boxes: Mapping[str, tuple[float, float]], sizes: Mapping[str, Size]
) -> None:
    """Let the links of one side of a box leave and arrive beside each other."""
    for name in boxes:
        size = sizes[name]
        for y in (boxes[name][1], boxes[name][1] + size.height):
            ends: list[tuple[float, Link, int]] = []
            for link, points in routes.items():
                if link.source == name and points[0][1] == y:
                    ends.append((points[1][0], link, 0))
                if link.target == name and points[-1][1] == y:
                    ends.append((points[-2][0], link, len(points) - 1))
            ends.sort(key=lambda one: one[0])
            step = min(36.0, (size.width - 24) / max(1, len(ends)))
            for number, (_, link, index) in enumerate(ends):
                x = boxes[name][0] + size.width / 2 + (number - (len(ends) - 1) / 2) * step
                routes[link][index] = (x, y)
