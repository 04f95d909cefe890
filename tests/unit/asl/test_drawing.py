"""Pictures: every state and edge is in them, nothing overlaps, and no text of a definition gets out of its place."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.engine.asl.drawing import dot, draw, mermaid, svg
from stepwell.engine.asl.drawing.captions import rule_caption
from stepwell.engine.asl.drawing.layout import Link, place
from stepwell.engine.asl.drawing.model import END, START, Edge, EdgeKind
from stepwell.engine.jsontypes import Json
from tests.unit.asl.definitions import BODIES, body, machine
from tests.unit.asl.test_fuzz import LIKELY

EXAMPLES = sorted((Path(__file__).parents[3] / "asl_examples").glob("*/definition.asl.json"))

ALL: Any = {
    "StartAt": "T",
    "States": {
        "T": body(
            "Task",
            Retry=[{"ErrorEquals": ["X"], "MaxAttempts": 5}],
            Catch=[{"ErrorEquals": ["States.Timeout", "Mine"], "Next": "F"}],
            Next="C",
            End=...,
        ),
        "C": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.n", "NumericGreaterThan": 3, "Next": "P"}],
            "Default": "T",
        },
        "P": body("Parallel"),
        "F": body("Fail", Error="Boo"),
        "W": {"Type": "Wait", "Seconds": 3, "Next": "gone"},
    },
}


def test_what_there_is_to_draw() -> None:
    graph = draw(ALL)
    assert list(graph.nodes) == [START, "T", "C", "P", "F", "W", "gone", END]
    assert graph.edges == [
        Edge(START, "T"),
        Edge("T", "C"),
        Edge("T", "F", EdgeKind.CATCH, "Timeout, Mine"),
        Edge("C", "P", EdgeKind.CHOICE, "$.n > 3"),
        Edge("C", "T", EdgeKind.DEFAULT, "otherwise"),
        Edge("P", END),
        Edge("W", "gone"),
    ]
    assert (graph.nodes["T"].retry, graph.nodes["T"].detail) == ("↻ 5", "f")
    assert (graph.nodes["gone"].type, graph.nodes["W"].detail, graph.nodes["F"].detail) == ("missing", "3 s", "Boo")
    (branch,) = graph.nodes["P"].inside
    assert list(branch.nodes) == [START, "B"]


@pytest.mark.parametrize(
    ("rule", "caption"),
    (
        ({"Variable": "$.a", "StringEquals": "x"}, '$.a = "x"'),
        ({"Variable": "$.a", "NumericLessThanEqualsPath": "$.b"}, "$.a ≤ $.b"),
        ({"Variable": "$.a", "IsPresent": False}, "$.a is absent"),
        ({"Variable": "$.a", "BooleanEquals": False}, "not $.a"),
        ({"Variable": "$.a", "StringMatches": "x*"}, '$.a matches "x*"'),
        ({"Not": {"Variable": "$.a", "IsNull": True}}, "not ($.a is null)"),
        (
            {"And": [{"Variable": "$.a", "IsNull": True}, {"Or": [{"Variable": "$.b", "NumericEquals": 1}] * 2}]},
            "$.a is null and ($.b = 1 or $.b = 1)",
        ),
        ({"Condition": "{% $x >\n 1 %}"}, "$x > 1"),
        ({"Condition": True}, "true"),
        ({}, "?"),
        (7, "…"),
    ),
)
def test_what_rules_ask(rule: Json, caption: str) -> None:
    assert rule_caption(rule) == caption


def texts(picture: str) -> str:
    root = ET.fromstring(picture)
    assert not any(element.tag.endswith("script") for element in root.iter())
    return " ".join(element.text or "" for element in root.iter() if element.tag.endswith("}text"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.parent.name)
def test_examples_have_all_their_states(file: Path) -> None:
    definition = json.loads(file.read_text())
    graph = draw(definition)
    shown = re.sub(r"\s+", " ", texts(svg(graph)))
    for name in definition["States"]:
        assert all(word in shown for word in name.split())
        assert name.split()[0] in mermaid(graph)
        assert f'"{name}' in dot(graph)


ODD_TEXT = st.text(st.sampled_from("<>&\"'#;|[](){}%\n\r\t\0\x1b\u202e\\`:-=.$é中"), min_size=1, max_size=12)


@settings(max_examples=60)
@given(ODD_TEXT, ODD_TEXT)
def test_no_text_gets_out_of_its_place(name: str, other: str) -> None:
    first: Any = {
        "Type": "Choice",
        "Comment": other,
        "Choices": [{"Variable": other, "StringEquals": other, "Next": other}],
        "Default": name,
    }
    task: Any = {"Type": "Task", "Resource": other, "Catch": [{"ErrorEquals": [other], "Next": name}], "End": True}
    graph = draw({"StartAt": name, "States": {name: first, other: task}})
    root = ET.fromstring(svg(graph))
    assert {element.tag.partition("}")[2] for element in root.iter()} <= {
        "svg", "style", "defs", "marker", "path", "rect", "circle", "g", "title", "text",
    }  # fmt: skip
    drawn = mermaid(graph)
    assert len(drawn.splitlines()) == len(drawn.split("\n")) - 1
    for line in drawn.splitlines()[1:]:
        assert re.fullmatch(
            r'  (\w+(\(\(\(? \)\)\)?|\{"[^"<>`]*"\}|\(?\[?"[^"<>`]*"\]?\)?)|\w+ -\.?->(\|"[^"<>`]*"\|)? \w+|class(Def)? [^"]+)',
            line,
        ), line
    for line in dot(graph).split("\n"):
        assert re.sub(r'"(?:[^"\\]|\\.)*"', "", line).count('"') == 0 or "\n" in name + other


@settings(max_examples=100)
@given(st.sampled_from(sorted(BODIES)), LIKELY)
def test_anything_can_be_drawn(type_name: str, value: Json) -> None:
    for definition in (value, machine({**BODIES[type_name], "Choices": value, "Catch": value, "Retry": value})):
        graph = draw(definition)
        ET.fromstring(svg(graph))
        mermaid(graph)
        dot(graph)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[list[tuple[float, float]], list[Link]]:
    count = draw(st.integers(1, 9))
    sizes = draw(st.lists(st.tuples(st.floats(10, 300), st.floats(10, 200)), min_size=count, max_size=count))
    ends = st.integers(0, count - 1)
    captions = st.sampled_from([(0.0, 0.0), (40.0, 16.0), (120.0, 30.0)])
    links = draw(
        st.lists(st.builds(lambda one, other, size: Link(one, other, *size), ends, ends, captions), max_size=14)
    )
    return sizes, links


@settings(max_examples=150)
@given(layouts())
def test_nothing_overlaps(layout: tuple[list[tuple[float, float]], list[Link]]) -> None:
    sizes, links = layout
    placed = place(sizes, links)
    areas = [(x, y, w, h) for (x, y), (w, h) in zip(placed.boxes, sizes, strict=True)]
    areas += [(at[0], at[1], link.width, link.height) for at, link in zip(placed.captions, links, strict=True) if at]
    for number, (x, y, w, h) in enumerate(areas):
        assert x - w / 2 >= -0.01
        assert x + w / 2 <= placed.width + 0.01
        assert y - h / 2 >= -0.01
        assert y + h / 2 <= placed.height + 0.01
        for other_x, other_y, other_w, other_h in areas[number + 1 :]:
            apart_x = abs(x - other_x) >= (w + other_w) / 2 - 0.01
            assert apart_x or abs(y - other_y) >= (h + other_h) / 2 - 0.01


@settings(max_examples=100)
@given(layouts())
def test_lines_begin_and_end_at_their_boxes(layout: tuple[list[tuple[float, float]], list[Link]]) -> None:
    sizes, links = layout
    placed = place(sizes, links)
    for link, points in zip(links, placed.links, strict=True):
        if link.source == link.target:
            assert points == []
            continue
        for box, (x, y) in ((link.source, points[0]), (link.target, points[-1])):
            (centre_x, centre_y), (width, height) = placed.boxes[box], sizes[box]
            leads_up = points[0][1] > points[-1][1]
            assert abs(x - centre_x) <= (width / 4 if leads_up else 0) + 0.01
            assert (abs(x - centre_x) > 0.01) is leads_up  # or it would cover a line that leads down
            assert abs(y - centre_y) == pytest.approx(height / 2)


def test_a_large_machine_is_drawn() -> None:
    states = {f"S{n}": {"Type": "Pass", "Next": f"S{n + 1}"} for n in range(1500)} | {"S1500": {"Type": "Succeed"}}
    assert svg(draw({"StartAt": "S0", "States": states})).count('class="state') == 1501


@pytest.mark.parametrize(
    ("name", "lines"),
    (
        ("ParallelizeDimensionLoadJob", ["ParallelizeDimensionLoad", "Job"]),
        ("get_the_status_of_the_long_job", ["get_the_status_of_the_", "long_job"]),
        ("Ask for the credit score again", ["Ask for the credit score", "again"]),
        ("x" * 30, ["x" * 26, "x" * 4]),
    ),
)
def test_long_names_are_broken_between_words(name: str, lines: list[str]) -> None:
    picture = svg(draw({"StartAt": name, "States": {name: {"Type": "Succeed"}}}))
    assert [element.text for element in ET.fromstring(picture).iter() if element.get("class") == "name"] == lines


@pytest.mark.parametrize(
    ("state", "shown"),
    (
        ({"Resource": "arn:aws:states:::http:invoke"}, "http:invoke"),
        (
            {
                "Resource": "arn:aws:states:::http:invoke",
                "Parameters": {"ApiEndpoint": "https://example.com/a", "Method": "GET"},
            },
            "GET example.com/a",
        ),
        ({"Resource": "arn:aws:lambda:#{Region}:#{Account}:function:charge"}, "charge"),
    ),
)
def test_what_a_task_calls(state: dict[str, Json], shown: str) -> None:
    assert draw({"States": {"A": {"Type": "Task", **state}}}).nodes["A"].detail == shown
