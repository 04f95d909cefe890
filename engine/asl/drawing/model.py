"""What there is to draw of a definition: nodes, edges between them, and the graphs inside of nodes.

It reads JSON that may be no valid definition, and draws what is there. It must not know how a picture looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from stepwell.engine.asl.drawing.captions import detail, errors_caption, retry_caption, rule_caption
from stepwell.engine.asl.lints.walk import Machine, StateAt
from stepwell.engine.jsontypes import Json

START: Final = "\udc00"
"""The name of the dot before the first state. No state can be named so: it is no character."""
END: Final = "\udc01"
"""The name of the dot after the last."""


class EdgeKind(StrEnum):
    """Why one state leads to another."""

    NEXT = "next"
    CHOICE = "choice"
    DEFAULT = "default"
    CATCH = "catch"


@dataclass(frozen=True, slots=True)
class Edge:
    """One way from a node to another."""

    source: str
    target: str
    kind: EdgeKind = EdgeKind.NEXT
    caption: str = ""
    mark: str = ""
    """A class it gets in the picture beside its own."""


@dataclass(slots=True)
class Node:
    """A state, or a dot. `type` is empty for a dot and "missing" for a target that does not exist."""

    name: str
    type: str = ""
    detail: str = ""
    retry: str = ""
    comment: str = ""
    inside: list[Graph] = field(default_factory=list)
    mark: str = ""


@dataclass(slots=True)
class Graph:
    """A machine, branch or item processor. Its nodes are in the order of the definition, the dots first and last."""

    nodes: dict[str, Node]
    edges: list[Edge]


def draw(definition: Json) -> Graph:
    """The graph of a definition's JSON value."""
    machine = Machine(definition if isinstance(definition, dict) else {})
    return _graph(machine, machine.definition)


def _graph(machine: Machine, container: Mapping[str, Json]) -> Graph:
    states = machine.states_in(container, None)
    graph = Graph({START: Node(START)}, [])
    start = container.get("StartAt")
    if isinstance(start, str):
        graph.edges.append(Edge(START, start))
    for state in states.values():
        graph.nodes[state.name] = _node(machine, state)
        graph.edges.extend(_edges(state))
    for edge in graph.edges:
        if edge.target not in graph.nodes and edge.target != END:
            graph.nodes[edge.target] = Node(edge.target, "missing")
    if any(edge.target == END for edge in graph.edges):
        graph.nodes[END] = Node(END)
    return graph


def _node(machine: Machine, state: StateAt) -> Node:
    comment = state.fields.get("Comment")
    return Node(
        state.name,
        state.type or "?",
        detail(state.fields),
        retry_caption(state.fields),
        comment if isinstance(comment, str) else "",
        [_graph(machine, each.container) for each in state.nested()],
    )


def _edges(state: StateAt) -> Iterator[Edge]:
    for rule, _ in state.entries("Choices"):
        target = rule.get("Next")
        if isinstance(target, str):
            yield Edge(state.name, target, EdgeKind.CHOICE, rule_caption(rule))
    for name, kind, caption in (("Next", EdgeKind.NEXT, ""), ("Default", EdgeKind.DEFAULT, "otherwise")):
        target = state.fields.get(name)
        if isinstance(target, str):
            yield Edge(state.name, target, kind, caption)
    if state.fields.get("End") is True:
        yield Edge(state.name, END)
    for catcher, _ in state.entries("Catch"):
        target = catcher.get("Next")
        if isinstance(target, str):
            yield Edge(state.name, target, EdgeKind.CATCH, errors_caption(catcher))
