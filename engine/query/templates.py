"""Payload templates: Parameters, ResultSelector, ItemSelector, Assign and the other objects whose `x.$` fields are read.

A field whose name ends in `.$` holds a path or an intrinsic call; everything else is copied. Fields such as ErrorPath,
which take a path or a call as well, are compiled by `compile_field`. It must not know which state a template is in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from stepwell.engine.errors import EffortError, InvalidQueryError, PathNotFoundError, QueryError
from stepwell.engine.jsontypes import Document, Json
from stepwell.engine.limits import MAX_EXPRESSION_BYTES
from stepwell.engine.query.effort import FEW, FIELD_STEPS, begin, spend
from stepwell.engine.query.failures import (
    field_not_found,
    invalid_path,
    template_takes_too_long,
    template_too_large,
    variable_not_defined,
)
from stepwell.engine.query.intrinsics import PREFIX, Intrinsic, compile_intrinsic
from stepwell.engine.query.jsonpath import JsonPath, compile_jsonpath
from stepwell.engine.query.movable import Kind, Movable
from stepwell.engine.query.paths import document_of
from stepwell.engine.query.scope import Expression, Scope
from stepwell.engine.query.values import larger_than

SUFFIX: Final = ".$"
MAX_DEPTH: Final = 150
"""Levels of objects and arrays in a template."""


@dataclass(frozen=True, slots=True)
class TemplateProblem:
    """One field that does not compile: `location` inside the template (`/a/0/b.$`), AWS's `message`, and `detail`,
    which says what exactly is wrong."""

    location: str
    message: str
    detail: str


class InvalidTemplateError(InvalidQueryError):
    """A template with fields that do not compile. `problems` lists all of them, in the template's order."""

    def __init__(self, problems: tuple[TemplateProblem, ...]) -> None:
        super().__init__("; ".join(f"{problem.location}: {problem.message} ({problem.detail})" for problem in problems))
        self.problems = problems


class Template:
    """A compiled template. `constant` tells that it reads nothing: calling it gives the same value each time, which
    callers must not mutate. `variables` names the variables it reads, without the dollar. `text_of` gives the value of a
    template that is one JSONata expression with its text (None: any other template)."""

    __slots__ = ("constant", "expression", "text_of", "variables")

    def __init__(
        self,
        expression: Expression,
        *,
        constant: bool,
        variables: frozenset[str],
        text_of: Callable[[Scope], Document] | None = None,
    ) -> None:
        self.expression = expression
        self.constant = constant
        self.variables = variables
        self.text_of = text_of

    def document(self, scope: Scope) -> Document:
        """The value, as a document."""
        return Document.of(self.expression(scope)) if self.text_of is None else self.text_of(scope)

    def __call__(self, scope: Scope) -> Json:
        return self.expression(scope)


@dataclass(frozen=True, slots=True)
class Field:
    """A compiled path or call that a field holds; `variables` as in `Template`; `weight` counts it and the calls within it; `light` tells that
    it takes no effort, whatever the data are."""

    expression: Expression
    variables: frozenset[str]
    weight: int = 1
    light: bool = False

    def __call__(self, scope: Scope) -> Json:
        return self.expression(scope)


def compile_template(template: Json) -> Template:
    """Compile a template. Raises `InvalidTemplateError` with every field that does not compile."""
    builder = _Builder()
    expression = builder.build(template, ())
    if builder.problems:
        raise InvalidTemplateError(tuple(builder.problems))
    if expression is None:
        return Template(lambda scope: template, constant=True, variables=frozenset())
    if builder.weight > FEW:
        expression = _bounded(expression, builder.weight * FIELD_STEPS)
    if builder.weight > FEW or not builder.light:
        expression = Movable(expression, Kind.TEMPLATE, template)
    return Template(expression, constant=False, variables=frozenset(builder.variables))


def _bounded(expression: Expression, steps: int) -> Expression:
    """Many fields can read the same data; that is found out before its text fills the memory. `steps` are those of the template
    itself."""

    def evaluate(scope: Scope) -> Json:
        try:
            begin()
            spend(steps)
            value = expression(scope)
            if larger_than(value, MAX_EXPRESSION_BYTES, spend):
                raise template_too_large(MAX_EXPRESSION_BYTES)
        except EffortError as error:
            raise template_takes_too_long(str(error)) from None
        return value

    return evaluate


def compile_field(text: str, name: str) -> Field:
    """Compile a path or intrinsic call that the field `name` holds. Raises `InvalidQueryError`; evaluating raises
    `StatesError` with AWS's cause, which repeats the name."""
    if text.startswith(PREFIX):
        call: Intrinsic = compile_intrinsic(text)
        return Field(call.expression, call.variables, call.weight, call.light)
    path = compile_jsonpath(text)
    variables = frozenset() if path.variable is None else frozenset({path.variable})
    return Field(_field_reader(path, name), variables, light=path.plain)


def movable_field(text: str, name: str) -> Expression:
    """As `compile_field`, for a field by itself."""
    field = compile_field(text, name)
    return field.expression if field.light else Movable(field.expression, Kind.FIELD, [text, name])


def _field_reader(path: JsonPath, name: str) -> Expression:
    expression = path.expression

    def read(scope: Scope) -> Json:
        try:
            return expression(scope)
        except PathNotFoundError:
            if path.variable is not None and path.variable not in scope.variables:
                raise variable_not_defined(path.text, name, path.variable) from None
            raise field_not_found(path.text, name, document_of(path, scope)) from None
        except QueryError as error:
            raise invalid_path(path.text, str(error)) from None

    return read


class _Builder:
    """Builds expressions from the leaves up; a part that reads nothing stays a value (`None` in place of an expression)."""

    def __init__(self) -> None:
        self.problems: list[TemplateProblem] = []
        self.variables: set[str] = set()
        self.weight = 0
        """Fields that are computed, the calls of functions in them, and the objects and arrays around them."""
        self.light = True
        """Whether none of them takes any effort, whatever the data are."""

    def build(self, part: Json, location: tuple[str, ...]) -> Expression | None:
        if not isinstance(part, dict | list):
            return None
        if len(location) > MAX_DEPTH:
            self.report(location, f"Templates may be nested {MAX_DEPTH} levels deep at most", "nested too deeply")
            return None
        return self.build_object(part, location) if isinstance(part, dict) else self.build_array(part, location)

    def build_object(self, part: dict[str, Json], location: tuple[str, ...]) -> Expression | None:
        base: dict[str, Json] = {}
        dynamic: list[tuple[str, Expression]] = []
        for key, value in part.items():
            if key.endswith(SUFFIX):
                name = key.removesuffix(SUFFIX)
                expression = self.build_field(key, value, (*location, key))
            else:
                name = key
                expression = self.build(value, (*location, key))
            base[name] = value if expression is None else None
            if expression is not None:
                dynamic.append((name, expression))
        if not dynamic:
            return None
        self.weight += 1

        def evaluate(scope: Scope) -> Json:
            result = base.copy()  # keeps the template's order of fields
            for name, expression in dynamic:
                result[name] = expression(scope)
            return result

        return evaluate

    def build_array(self, part: list[Json], location: tuple[str, ...]) -> Expression | None:
        parts = [self.build(item, (*location, str(index))) for index, item in enumerate(part)]
        dynamic = [(index, expression) for index, expression in enumerate(parts) if expression is not None]
        if not dynamic:
            return None
        self.weight += 1

        def evaluate(scope: Scope) -> Json:
            result = part.copy()
            for index, expression in dynamic:
                result[index] = expression(scope)
            return result

        return evaluate

    def build_field(self, key: str, value: Json, location: tuple[str, ...]) -> Expression | None:
        message = f"The value for the field '{key}' must be a valid JSONPath or a valid intrinsic function call"
        if not isinstance(value, str):
            self.report(location, message, "it must be a string")
            return None
        try:
            field = compile_field(value, key)
        except InvalidQueryError as error:
            self.report(location, message, str(error))
            return None
        self.weight += field.weight
        self.light = self.light and field.light
        self.variables.update(field.variables)
        return field.expression

    def report(self, location: tuple[str, ...], message: str, detail: str) -> None:
        self.problems.append(TemplateProblem("".join(_pointer(location)), message, detail))


def _pointer(location: tuple[str, ...]) -> Iterator[str]:
    for part in location:
        yield "/"
        yield part.replace("~", "~0").replace("/", "~1")
