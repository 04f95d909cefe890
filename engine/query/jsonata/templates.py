"""Fields that may hold JSONata anywhere in their JSON: Arguments, Output, Assign, Items, ItemSelector and the like."""

from __future__ import annotations

from stepwell.engine.errors import InvalidQueryError
from stepwell.engine.jsontypes import Json
from stepwell.engine.limits import MAX_EXPRESSION_BYTES
from stepwell.engine.query.failures import template_too_large
from stepwell.engine.query.jsonata.expressions import Jsonata, compile_jsonata, is_jsonata
from stepwell.engine.query.scope import Expression, Scope
from stepwell.engine.query.templates import MAX_DEPTH, InvalidTemplateError, Template, TemplateProblem
from stepwell.engine.query.values import larger_than


def compile_jsonata_template(template: Json, field: str) -> Template:
    """Compile a field's value: every string `{% ... %}` in it is computed. Raises `InvalidTemplateError` with all faults."""
    builder = _Builder()
    expression = builder.build(template, field, ())
    if builder.problems:
        raise InvalidTemplateError(tuple(builder.problems))
    if expression is None:
        return Template(lambda scope: template, constant=True, variables=frozenset())
    variables = frozenset().union(*(one.variables for one in builder.expressions))
    if isinstance(expression, Jsonata):
        return Template(expression, constant=False, variables=variables, text_of=expression.document)
    if len(builder.expressions) > 1:
        expression = _bounded(expression)
    return Template(expression, constant=False, variables=variables)


def _bounded(expression: Expression) -> Expression:
    """Several expressions can each give much; that is found out before the text of all of it fills the memory."""

    def evaluate(scope: Scope) -> Json:
        value = expression(scope)
        if larger_than(value, MAX_EXPRESSION_BYTES):
            raise template_too_large(MAX_EXPRESSION_BYTES)
        return value

    return evaluate


class _Builder:
    """Builds from the leaves up; a part that computes nothing stays a value (`None` in place of an expression)."""

    def __init__(self) -> None:
        self.problems: list[TemplateProblem] = []
        self.expressions: list[Jsonata] = []

    def build(self, part: Json, field: str, location: tuple[str, ...]) -> Expression | None:
        if isinstance(part, str):
            return self.build_expression(part, field, location) if is_jsonata(part) else None
        if len(location) > MAX_DEPTH:
            self.problems.append(TemplateProblem("/" + "/".join(location), "nested too deeply", f"at most {MAX_DEPTH}"))
            return None
        if isinstance(part, dict):
            return self.build_object(part, field, location)
        return self.build_array(part, field, location) if isinstance(part, list) else None

    def build_expression(self, text: str, field: str, location: tuple[str, ...]) -> Expression | None:
        try:
            compiled = compile_jsonata(text, field)
        except InvalidQueryError as error:
            self.problems.append(
                TemplateProblem("/" + "/".join(location), "not a valid JSONata expression", str(error))
            )
            return None
        self.expressions.append(compiled)
        return compiled

    def build_object(self, part: dict[str, Json], field: str, location: tuple[str, ...]) -> Expression | None:
        built = [(key, self.build(value, f"{field}/{key}", (*location, key))) for key, value in part.items()]
        dynamic = [(key, expression) for key, expression in built if expression is not None]
        if not dynamic:
            return None

        def evaluate(scope: Scope) -> Json:
            result = part.copy()  # keeps the order of fields
            for key, expression in dynamic:
                result[key] = expression(scope)
            return result

        return evaluate

    def build_array(self, part: list[Json], field: str, location: tuple[str, ...]) -> Expression | None:
        built = [self.build(item, f"{field}[{index}]", (*location, str(index))) for index, item in enumerate(part)]
        dynamic = [(index, expression) for index, expression in enumerate(built) if expression is not None]
        if not dynamic:
            return None

        def evaluate(scope: Scope) -> Json:
            result = part.copy()
            for index, expression in dynamic:
                result[index] = expression(scope)
            return result

        return evaluate
