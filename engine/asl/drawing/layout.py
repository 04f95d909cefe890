"""Where the nodes of a layered picture go, from top to bottom: ranks, an order in each rank, and columns.

After Sugiyama, Tagawa and Toda (1981): edges that close a loop are turned round, long edges get a bend in each rank between, the order is
improved by barycentres, and columns by least squares under the order (pool adjacent violators), which is exact for a rank at a time.
It must not know what is drawn.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

RANK_GAP: Final = 40.0
NODE_GAP: Final = 30.0
BEND_GAP: Final = 16.0
_MOST_ASIDE: Final = 24.0
_MOST_BENDS: Final = 50_000
"""A picture that would need more has lines from box to box that go over others: it is too large to look at as a whole."""
_ORDER_ROUNDS: Final = 12
_COLUMN_ROUNDS: Final = 40
_FIRST_ROUNDS: Final = 3
_BEND_WEIGHT: Final = 12.0
"""How much more a bend wants to stay above the next one than a node does: long edges are to be straight."""


@dataclass(frozen=True, slots=True)
class Link:
    """An edge to be laid out: indexes of boxes, the size of its caption (0, 0 for none), and how straight it wants to be."""

    source: int
    target: int
    width: float = 0.0
    height: float = 0.0
    weight: float = 1.0


@dataclass(slots=True)
class Placed:
    """The picture: its size, the centre of each box, and for each link its points from source to target and its caption's centre."""

    width: float
    height: float
    boxes: list[tuple[float, float]]
    links: list[list[tuple[float, float]]]
    captions: list[tuple[float, float] | None]


@dataclass(slots=True)
class _Spot:
    """A box, or the bend of a link in a rank between its ends."""

    width: float
    height: float
    rank: int
    bend: bool
    x: float = 0.0
    above: list[int] = field(default_factory=list)
    below: list[int] = field(default_factory=list)
    pulls_up: list[tuple[int, float]] = field(default_factory=list)
    pulls_down: list[tuple[int, float]] = field(default_factory=list)
    """The spots it is linked to, above and below, and how much it wants to be in their columns."""


def place(sizes: Sequence[tuple[float, float]], links: Sequence[Link]) -> Placed:
    """Lay out boxes of these sizes; the first has no box above it. Links from a box to itself get no points."""
    forward = _forward(len(sizes), links)
    ranks = _ranks(len(sizes), links, forward)
    spots = [_Spot(width, height, rank, bend=False) for (width, height), rank in zip(sizes, ranks, strict=True)]
    bends = sum(abs(ranks[link.source] - ranks[link.target]) for link in links) <= _MOST_BENDS
    chains = [_chain(spots, link, down, bends) for link, down in zip(links, forward, strict=True)]
    rows = _ordered(spots)
    _columns(spots, rows)
    _straighten(spots, rows)
    tops, heights, height = _rows_down(spots, rows)
    left = min(spot.x - spot.width / 2 for spot in spots)
    for spot in spots:
        spot.x -= left
    width = max(spot.x + spot.width / 2 for spot in spots)

    def centre(index: int) -> tuple[float, float]:
        rank = spots[index].rank
        return spots[index].x, tops[rank] + heights[rank] / 2

    def band(index: int, down: bool) -> list[tuple[float, float]]:
        """Straight through a rank, so that lines bend between ranks only and never run over a box."""
        spot = spots[index]
        ends = [(spot.x, tops[spot.rank]), (spot.x, tops[spot.rank] + heights[spot.rank])]
        return ends if down else ends[::-1]

    def aside(index: int, following: int) -> float:
        """How far beside its box's middle a line that leads up meets it, so that it covers none that leads down."""
        to_left = spots[following].x < spots[index].x
        room = min(spots[index].width / 4, _MOST_ASIDE)
        return -room if to_left else room

    points: list[list[tuple[float, float]]] = []
    captions: list[tuple[float, float] | None] = []
    for link, (chain, caption) in zip(links, chains, strict=True):
        captions.append(None if caption is None else centre(caption))
        if not chain:
            points.append([])
            continue
        down = spots[chain[0]].rank < spots[chain[-1]].rank
        side = 0.5 if down else -0.5
        (sx, sy), (tx, ty) = centre(link.source), centre(link.target)
        if not down:
            sx += aside(chain[0], chain[1])
            tx += aside(chain[-1], chain[-2])
        line = [(sx, sy + side * sizes[link.source][1]), (sx, band(chain[0], down)[1][1])]
        for index in chain[1:-1]:
            line += band(index, down)
        line += [(tx, band(chain[-1], down)[0][1]), (tx, ty - side * sizes[link.target][1])]
        points.append(line)
    return Placed(width, height, [centre(index) for index in range(len(sizes))], points, captions)


def _forward(count: int, links: Sequence[Link]) -> list[bool]:
    """Whether each link leads down; those that close a loop, found by going through in depth, lead up."""
    outgoing: list[list[int]] = [[] for _ in range(count)]
    for number, link in enumerate(links):
        outgoing[link.source].append(number)
    down = [True] * len(links)
    state = [0] * count  # 0: not seen, 1: on the way, 2: done
    for root in range(count):
        if state[root]:
            continue
        state[root] = 1
        stack = [(root, iter(outgoing[root]))]
        while stack:
            node, following = stack[-1]
            number = next(following, -1)
            if number < 0:
                state[node] = 2
                stack.pop()
                continue
            target = links[number].target
            if state[target] == 1:
                down[number] = False
            elif state[target] == 0:
                state[target] = 1
                stack.append((target, iter(outgoing[target])))
    return down


def _ranks(count: int, links: Sequence[Link], forward: Sequence[bool]) -> list[int]:
    """The longest way from the top; a link with a caption spans two ranks, so that the caption has one to itself."""
    incoming = [0] * count
    outgoing: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for link, down in zip(links, forward, strict=True):
        if link.source == link.target:
            continue
        source, target = (link.source, link.target) if down else (link.target, link.source)
        outgoing[source].append((target, 2 if link.width or not down else 1))
        incoming[target] += 1
    ranks = [0] * count
    ready = [node for node in range(count) if not incoming[node]]
    while ready:
        node = ready.pop()
        for target, span in outgoing[node]:
            ranks[target] = max(ranks[target], ranks[node] + span)
            incoming[target] -= 1
            if not incoming[target]:
                ready.append(target)
    return ranks


def _chain(spots: list[_Spot], link: Link, down: bool, bends: bool) -> tuple[list[int], int | None]:
    """The spots a link goes through, from its source to its target, and the one that has its caption."""
    if link.source == link.target:
        return [], None
    source, target = (link.source, link.target) if down else (link.target, link.source)
    first, last = spots[source].rank, spots[target].rank
    chain = [source]
    caption: int | None = None
    middle = first + 1 if down else last - 1
    for rank in range(first + 1, last) if bends else ():
        has_caption = rank == middle and bool(link.width)
        spot = _Spot(link.width if has_caption else 2.0, link.height if has_caption else 0.0, rank, bend=True)
        spots.append(spot)
        chain.append(len(spots) - 1)
        if has_caption:
            caption = len(spots) - 1
    chain.append(target)
    for upper, lower in pairwise(chain):
        spots[upper].below.append(lower)
        spots[lower].above.append(upper)
        weight = link.weight * (_BEND_WEIGHT if spots[upper].bend and spots[lower].bend else 1.0)
        spots[upper].pulls_down.append((lower, weight))
        spots[lower].pulls_up.append((upper, weight))
    return (chain if down else chain[::-1]), caption


def _ordered(spots: list[_Spot]) -> list[list[int]]:
    """The spots of each rank from left to right, with few crossings."""
    rows: list[list[int]] = [[] for _ in range(max(spot.rank for spot in spots) + 1)]
    for index in _by_first_visit(spots):
        rows[spots[index].rank].append(index)
    position = {index: float(place) for row in rows for place, index in enumerate(row)}
    best, best_crossings = [list(row) for row in rows], _crossings(spots, rows)
    for round in range(_ORDER_ROUNDS):
        if not best_crossings:
            break
        downward = round % 2 == 0
        for row in rows if downward else rows[::-1]:
            keys = {}
            for index in row:
                near = spots[index].above if downward else spots[index].below
                keys[index] = sum(position[each] for each in near) / len(near) if near else position[index]
            row.sort(key=keys.__getitem__)
            position.update((index, float(place)) for place, index in enumerate(row))
        crossings = _crossings(spots, rows)
        if crossings < best_crossings:
            best, best_crossings = [list(row) for row in rows], crossings
    return best


def _by_first_visit(spots: list[_Spot]) -> list[int]:
    """All spots in the order in which a walk in depth from the top meets them."""
    seen: set[int] = set()
    found: list[int] = []
    for root in sorted(range(len(spots)), key=lambda index: (spots[index].rank, index)):
        pending = [root]
        while pending:
            index = pending.pop()
            if index not in seen:
                seen.add(index)
                found.append(index)
                pending.extend(reversed(spots[index].below))
    return found


def _crossings(spots: list[_Spot], rows: list[list[int]]) -> int:
    total = 0
    for upper, lower in pairwise(rows):
        position = {index: place for place, index in enumerate(lower)}
        ends: list[int] = []
        for index in upper:
            ends += sorted(position[each] for each in spots[index].below if each in position)
        seen: list[int] = []
        for end in ends:
            total += len(seen) - bisect_right(seen, end)
            insort(seen, end)
    return total


def _columns(spots: list[_Spot], rows: list[list[int]]) -> None:
    """Columns: each spot near the middle of those it is linked to, in its row's order and with the gaps kept."""
    for row in rows:
        x = 0.0
        for place, index in enumerate(row):
            x += _gap(spots, row, place)
            spots[index].x = x
    for round in range(_COLUMN_ROUNDS):
        for row in rows if round % 2 == 0 else rows[::-1]:
            wanted, weights = [], []
            for index in row:
                spot = spots[index]
                linked = spot.pulls_up if round % 2 == 0 else spot.pulls_down
                if round > _FIRST_ROUNDS:
                    linked = [*spot.pulls_up, *spot.pulls_down]
                pulls = [(spots[each].x, weight) for each, weight in linked]
                total = sum(weight for _, weight in pulls)
                wanted.append(sum(x * weight for x, weight in pulls) / total if total else spot.x)
                weights.append(max(total, 0.1))
            gaps = [_gap(spots, row, place) for place in range(len(row))]
            for index, x in zip(row, _spread(wanted, weights, gaps), strict=True):
                spots[index].x = x


def _straighten(spots: list[_Spot], rows: list[list[int]]) -> None:
    """Put spots that follow one another by their strongest links into one column, as far down as there is room for it."""
    place_of = {index: (row, place) for row in rows for place, index in enumerate(row)}

    def room(index: int) -> tuple[float, float]:
        row, place = place_of[index]
        low = spots[row[place - 1]].x + _gap(spots, row, place) if place else float("-inf")
        high = spots[row[place + 1]].x - _gap(spots, row, place + 1) if place + 1 < len(row) else float("inf")
        return low, high

    for thread in sorted(_threads(spots), key=len, reverse=True):
        start = 0
        while start < len(thread):
            low, high = room(thread[start])
            end = start + 1
            while end < len(thread):
                next_low, next_high = room(thread[end])
                if max(low, next_low) > min(high, next_high):
                    break
                low, high = max(low, next_low), min(high, next_high)
                end += 1
            part = thread[start:end]
            column = min(max(sum(spots[index].x for index in part) / len(part), low), high)
            for index in part:
                spots[index].x = column
            start = end


def _threads(spots: list[_Spot]) -> list[list[int]]:
    """Chains of spots, from top to bottom, each the strongest link of the one above and of the one below."""

    def strongest(pulls: list[tuple[int, float]]) -> int | None:
        return max(pulls, key=lambda pull: (pull[1], -pull[0]))[0] if pulls else None

    under = {index: strongest(spot.pulls_down) for index, spot in enumerate(spots)}
    over = {index: strongest(spot.pulls_up) for index, spot in enumerate(spots)}
    following = {index: below for index, below in under.items() if below is not None and over[below] == index}
    threads = []
    for index in set(following) - set(following.values()):
        thread = [index]
        while (below := following.get(thread[-1])) is not None:
            thread.append(below)
        threads.append(thread)
    return sorted(threads)


def _gap(spots: list[_Spot], row: list[int], place: int) -> float:
    """The least distance between the centres of a spot and the one left of it."""
    if place == 0:
        return 0.0
    left, right = spots[row[place - 1]], spots[row[place]]
    return (left.width + right.width) / 2 + (BEND_GAP if left.bend or right.bend else NODE_GAP)


def _spread(wanted: list[float], weights: list[float], gaps: list[float]) -> list[float]:
    """The columns nearest to those wanted (least squares) that keep order and gaps: pool adjacent violators."""
    offsets, total = [], 0.0
    for gap in gaps:
        total += gap
        offsets.append(total)
    pools: list[tuple[float, float, int]] = []  # mean, weight, members
    for want, weight, offset in zip(wanted, weights, offsets, strict=True):
        mean, members = want - offset, 1
        while pools and pools[-1][0] > mean:
            other, other_weight, count = pools.pop()
            mean = (mean * weight + other * other_weight) / (weight + other_weight)
            weight += other_weight
            members += count
        pools.append((mean, weight, members))
    means = [mean for mean, _, members in pools for _ in range(members)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _rows_down(spots: list[_Spot], rows: list[list[int]]) -> tuple[list[float], list[float], float]:
    """The top and height of each rank, and the height of all."""
    tops, heights, y = [], [], 0.0
    for row in rows:
        height = max((spots[index].height for index in row), default=0.0)
        tops.append(y)
        heights.append(height)
        y += height + (RANK_GAP if height > 0 else RANK_GAP / 3)
    return tops, heights, tops[-1] + heights[-1]
