"""Fields that may hold JSONata anywhere in their JSON: Arguments, Output, Assign, Items, ItemSelector and the like.

A template is its own JSON text with holes, and all expressions in it are evaluated at once: the data they read is handed over a
single time, and what they give is put into the holes as text.
"""

from __future__ import annotations

from stepwell.engine.errors import InvalidQueryError
from stepwell.engine.jsontypes import Document, Json, write
from stepwell.engine.limits import MAX_EXPRESSION_BYTES
from stepwell.engine.query.failures import template_too_large
from stepwell.engine.query.jsonata.expressions import Jsonata, Together, compile_jsonata, is_jsonata
from stepwell.engine.query.scope import Scope
from stepwell.engine.query.templates import MAX_DEPTH, InvalidTemplateError, Template, TemplateProblem


def compile_jsonata_template(template: Json, field: str) -> Template:
    """Compile a field's value: every string `{% ... %}` in it is computed. Raises `InvalidTemplateError` with all faults."""
    builder = _Builder()
    builder.add(template, field, ())
    if builder.problems:
        raise InvalidTemplateError(tuple(builder.problems))
    if not builder.expressions:
        return Template(lambda scope: template, constant=True, variables=frozenset())
    filled = _Filled(builder.texts(), tuple(builder.expressions))
    variables = frozenset().union(*(one.variables for one in builder.expressions))
    return Template(filled, constant=False, variables=variables, text_of=filled.document)


class _Filled:
    """The texts between the holes, one more than there are expressions."""

    __slots__ = ("_texts", "_together")

    def __init__(self, texts: tuple[bytes, ...], expressions: tuple[Jsonata, ...]) -> None:
        self._texts = texts
        self._together = Together(expressions)

    def __call__(self, scope: Scope) -> Json:
        return self.document(scope).value

    def document(self, scope: Scope) -> Document:
        values = self._together.texts(scope)
        if len(values) == 1 and self._texts == (b"", b""):
            return Document.trusted(values[0])
        if sum(map(len, values)) > MAX_EXPRESSION_BYTES:
            raise template_too_large(MAX_EXPRESSION_BYTES)
        parts = [self._texts[0]]
        for value, text in zip(values, self._texts[1:], strict=True):
            parts += (value, text)
        return Document.trusted(b"".join(parts))


class _Builder:
    """Walks a template in the order of its text."""

    def __init__(self) -> None:
        self.problems: list[TemplateProblem] = []
        self.expressions: list[Jsonata] = []
        self._parts: list[list[bytes]] = [[]]

    def texts(self) -> tuple[bytes, ...]:
        return tuple(b"".join(parts) for parts in self._parts)

    def add(self, part: Json, field: str, location: tuple[str, ...]) -> None:
        if is_jsonata(part):
            assert isinstance(part, str)
            self.add_expression(part, field, location)
        elif not isinstance(part, dict | list):
            self.put(write(part))
        elif len(location) > MAX_DEPTH:
            self.problems.append(
                TemplateProblem(_pointer(location), "nested too deeply", f"at most {MAX_DEPTH} levels")
            )
        elif isinstance(part, dict):
            self.put(b"{")
            for index, (key, value) in enumerate(part.items()):
                self.put(b"," * (index > 0) + write(key) + b":")
                self.add(value, f"{field}/{key}", (*location, key))
            self.put(b"}")
        else:
            self.put(b"[")
            for index, value in enumerate(part):
                self.put(b"," * (index > 0))
                self.add(value, f"{field}[{index}]", (*location, str(index)))
            self.put(b"]")

    def add_expression(self, text: str, field: str, location: tuple[str, ...]) -> None:
        try:
            self.expressions.append(compile_jsonata(text, field))
        except InvalidQueryError as error:
            problem = TemplateProblem(_pointer(location), "not a valid JSONata expression", str(error))
            self.problems.append(problem)
        self._parts.append([])

    def put(self, text: bytes) -> None:
        self._parts[-1].append(text)


def _pointer(location: tuple[str, ...]) -> str:
    return "/" + "/".join(location)
