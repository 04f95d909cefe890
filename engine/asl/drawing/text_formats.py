"""A graph in the words of other drawing tools: Mermaid's flowcharts, and DOT for Graphviz. All text of users is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from stepwell.engine.asl.drawing.captions import shortened
from stepwell.engine.asl.drawing.model import END, Edge, EdgeKind, Graph, Node

_CAPTION_CHARS: Final = 60
_PLAIN: Final = re.compile(r"[^\w .,:+*=<>≥≤()?!/$'-]|[<>()'=]")
_INNER: Final = "inner"
_STYLES: Final = {
    _INNER: "fill:#f8fafc,stroke:#cbd5e1,stroke-dasharray:3 3",
    "Pass": "fill:#f8fafc,stroke:#64748b",
    "Wait": "fill:#f8fafc,stroke:#475569",
    "Task": "fill:#eff6ff,stroke:#2563eb",
    "Choice": "fill:#fffbeb,stroke:#b45309",
    "Parallel": "fill:#f0fdfa,stroke:#0f766e",
    "Map": "fill:#f5f3ff,stroke:#7c3aed",
    "Succeed": "fill:#f0fdf4,stroke:#15803d",
    "Fail": "fill:#fef2f2,stroke:#b91c1c",
    "missing": "fill:#fef2f2,stroke:#b91c1c,stroke-dasharray:4 3",
}


def mermaid(graph: Graph) -> str:
    """A flowchart for Mermaid."""
    lines = ["flowchart TD"]
    classes: dict[str, list[str]] = {}
    _mermaid_graph(lines, classes, graph, "s", "  ")
    for type_name, style in _STYLES.items():
        if classes.get(type_name):
            lines.append(f"  classDef {type_name} {style},color:#0f172a")
            lines.append(f"  class {','.join(classes[type_name])} {type_name}")
    return "\n".join(lines) + "\n"


def _mermaid_graph(lines: list[str], classes: dict[str, list[str]], graph: Graph, prefix: str, indent: str) -> None:
    ids = {name: f"{prefix}{number}" for number, name in enumerate(graph.nodes)}
    for name, node in graph.nodes.items():
        classes.setdefault(node.type, []).append(ids[name])
        if node.inside:
            lines.append(f'{indent}subgraph {ids[name]} ["{_mermaid_text(_title(node))}"]')
            for number, inner in enumerate(node.inside):
                branch = f"{ids[name]}_{number}_"
                lines.append(f'{indent}  subgraph {branch}box [" "]')
                classes.setdefault(_INNER, []).append(f"{branch}box")
                _mermaid_graph(lines, classes, inner, branch, f"{indent}    ")
                lines.append(f"{indent}  end")
            lines.append(f"{indent}end")
        else:
            lines.append(f"{indent}{ids[name]}{_mermaid_shape(node)}")
    for edge in graph.edges:
        arrow = "-.->" if edge.kind is EdgeKind.CATCH else "-->"
        caption = f'|"{_mermaid_text(_caption(edge))}"|' if edge.caption else ""
        lines.append(f"{indent}{ids[edge.source]} {arrow}{caption} {ids[edge.target]}")


def _mermaid_shape(node: Node) -> str:
    if not node.type:
        return "((( )))" if node.name == END else "(( ))"
    text = f'"{_mermaid_text(_title(node))}"'
    if node.type == "Choice":
        return f"{{{text}}}"
    return f"([{text}])" if node.type in ("Succeed", "Fail") else f"[{text}]"


def _mermaid_text(text: str) -> str:
    """Text for between quotes: what could mean something to Mermaid, or to the page around it, as a character's number."""
    return _PLAIN.sub(lambda match: f"#{ord(match[0])};", text)


def dot(graph: Graph) -> str:
    """A digraph in DOT."""
    lines = [
        "digraph machine {",
        "  compound=true; rankdir=TB; nodesep=0.4; ranksep=0.5;",
        '  node [shape=box, style="rounded,filled", fillcolor=white, fontname="Helvetica", fontsize=11];',
        '  edge [fontname="Helvetica", fontsize=9, color="#64748b"];',
    ]
    lines.extend(_dot_graph(graph, "s", "  "))
    return "\n".join([*lines, "}"]) + "\n"


def _dot_graph(graph: Graph, prefix: str, indent: str) -> Iterator[str]:
    ids = {name: f"{prefix}{number}" for number, name in enumerate(graph.nodes)}
    for name, node in graph.nodes.items():
        if node.inside:
            yield f"{indent}subgraph cluster_{ids[name]} {{"
            yield f"{indent}  style=rounded; color={_dot_colour(node)};"
            yield f"{indent}  {ids[name]} [{_dot_shape(node)}];"
            for number, inner in enumerate(node.inside):
                branch = f"{ids[name]}_{number}_"
                yield f"{indent}  subgraph cluster_{branch} {{"
                yield f'{indent}    style="rounded,dashed"; color="#cbd5e1";'
                yield from _dot_graph(inner, branch, f"{indent}    ")
                yield f"{indent}  }}"
                yield f"{indent}  {ids[name]} -> {branch}0 [style=invis];"
            yield f"{indent}}}"
        else:
            yield f"{indent}{ids[name]} [{_dot_shape(node)}];"
    for edge in graph.edges:
        tail = f"ltail=cluster_{ids[edge.source]}" if graph.nodes[edge.source].inside else ""
        style = 'style=dashed, color="#dc2626"' if edge.kind is EdgeKind.CATCH else ""
        caption = f"label={_dot_text(_caption(edge))}" if edge.caption else ""
        attributes = ", ".join(each for each in (caption, style, tail) if each)
        yield f"{indent}{ids[edge.source]} -> {ids[edge.target]}{f' [{attributes}]' if attributes else ''};"


def _dot_shape(node: Node) -> str:
    if not node.type:
        return f'shape={"doublecircle" if node.name == END else "circle"}, label="", width=0.15, fillcolor="#0f172a"'
    shape = ", shape=diamond, style=filled" if node.type == "Choice" else ""
    return f"label={_dot_text(_title(node))}, color={_dot_colour(node)}{shape}"


def _dot_colour(node: Node) -> str:
    stroke = re.search(r"stroke:(#[0-9a-f]{6})", _STYLES.get(node.type, ""))
    return f'"{stroke[1]}"' if stroke else '"#64748b"'


def _dot_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\0", "�")
    return f'"{escaped}"'


def _title(node: Node) -> str:
    name = " ".join(node.name.split()) or "(no name)"
    if node.type == "missing":
        return f"{name} (no such state)"
    return f"{name} {node.retry}" if node.retry else name


def _caption(edge: Edge) -> str:
    return shortened(edge.caption, _CAPTION_CHARS)
