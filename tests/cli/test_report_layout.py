"""Where the report puts the states of a graph."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.cli.testing.layout import GAP_X, Link, Size, place

NAMES = [f"s{number}" for number in range(9)]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, Size], list[Link]]:
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    sizes = {name: Size(draw(st.integers(40, 300)), draw(st.integers(20, 200))) for name in names}
    ends = st.sampled_from([*names, "nowhere"])
    links = draw(st.lists(st.builds(Link, ends, ends, st.sampled_from(["", "x"])), max_size=14))
    return sizes, links


@given(graphs())
@settings(max_examples=150, deadline=None)
def test_boxes_stand_apart_and_links_run_between_them(graph: tuple[dict[str, Size], list[Link]]) -> None:
    sizes, links = graph
    placed = place(sizes, links, NAMES[0])
    assert placed.boxes.keys() == sizes.keys()
    for (one, (x, y)), (other, (u, v)) in combinations(placed.boxes.items(), 2):
        beside = x + sizes[one].width + GAP_X <= u + 0.01 or u + sizes[other].width + GAP_X <= x + 0.01
        above = y + sizes[one].height < v or v + sizes[other].height < y
        assert beside or above, (one, other)
    for name, (x, y) in placed.boxes.items():
        assert x >= -0.01 and x + sizes[name].width <= placed.size.width + 0.01
        assert y >= 0 and y + sizes[name].height <= placed.size.height + 0.01
    known = {link for link in links if "nowhere" not in (link.source, link.target)}
    assert placed.routes.keys() == known
    for link, points in placed.routes.items():
        for end, (x, y) in ((link.source, points[0]), (link.target, points[-1])):
            left, top = placed.boxes[end]
            assert left <= x <= left + sizes[end].width
            assert y in (top, top + sizes[end].height)


def test_a_chain_leads_downwards() -> None:
    sizes = dict.fromkeys(["a", "b", "c"], Size(100, 40))
    placed = place(sizes, [Link("a", "b"), Link("b", "c"), Link("c", "a"), Link("a", "c")], "a")
    tops = [placed.boxes[name][1] for name in ("a", "b", "c")]
    assert tops == sorted(tops) and len(set(tops)) == 3
    assert placed.routes[Link("c", "a")][0][1] > placed.routes[Link("c", "a")][-1][1]
