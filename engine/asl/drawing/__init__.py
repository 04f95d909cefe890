"""Pictures of a definition: as SVG, laid out here, and as text for Mermaid and Graphviz.

`model` says what there is to draw, `captions` what is written on it, `layout` where it goes, `svg` and `text_formats` write it down.
It draws what can be read, valid or not.
"""

from stepwell.engine.asl.drawing.model import draw
from stepwell.engine.asl.drawing.svg import svg
from stepwell.engine.asl.drawing.text_formats import dot, mermaid

__all__ = ["dot", "draw", "mermaid", "svg"]
