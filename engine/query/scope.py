"""What an expression reads: in JSONPath the state's input (`$`), the variables (`$name`), the context object (`$$`); in JSONata
`$states` and the variables; and chance.

It must not know which state is running or who asks; one scope is made for each field group a state evaluates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from stepwell.engine.clock import Entropy
from stepwell.engine.jsontypes import Document, Json

if TYPE_CHECKING:
    from stepwell.engine.query.evaluation import Evaluation, Outcome

Heavy: TypeAlias = "Callable[[Evaluation], Outcome]"
"""Carries out an evaluation that needs more than it may use in this process."""

_NO_VARIABLES: Final[Mapping[str, Json]] = MappingProxyType({})


def _no_context() -> Json:
    return {}


class Scope:
    """`input` is `$`, `variables` holds `$name` without the dollar, `context` is `$$`; `heavy` carries out what needs too much (None:
    nobody does).

    The context object is built by a factory, at most once and only when an expression asks, because most never do.
    A scope is read-only to expressions except for `entropy`, whose draws follow the order of evaluation.
    """

    __slots__ = ("_context", "_factory", "entropy", "heavy", "input", "variables")

    def __init__(
        self,
        input: Json,
        *,
        variables: Mapping[str, Json] = _NO_VARIABLES,
        context: Callable[[], Json] = _no_context,
        entropy: Entropy | None = None,
        heavy: Heavy | None = None,
    ) -> None:
        self.heavy = heavy
        self.input = input
        self.variables = variables
        self.entropy = Entropy(0) if entropy is None else entropy
        self._factory: Callable[[], Json] | None = context
        self._context: Json = None

    @property
    def context(self) -> Json:
        """The context object, `$$`."""
        if self._factory is not None:
            self._context = self._factory()
            self._factory = None
        return self._context

    def with_input(self, value: Json) -> Scope:
        """The same variables, context and entropy around another input. The context is still built at most once."""
        return Scope(
            value, variables=self.variables, context=lambda: self.context, entropy=self.entropy, heavy=self.heavy
        )


class StatesScope(Scope):
    """What a JSONata expression reads. `document`, `result` and `error_output` are `$states.input`, `$states.result` and
    `$states.errorOutput`; `now` is the time in milliseconds."""

    __slots__ = ("document", "error_output", "now", "result")

    def __init__(
        self,
        document: Document,
        *,
        result: Document | None = None,
        error_output: Document | None = None,
        variables: Mapping[str, Json] = _NO_VARIABLES,
        context: Callable[[], Json] = _no_context,
        entropy: Entropy | None = None,
        now: int = 0,
        heavy: Heavy | None = None,
    ) -> None:
        super().__init__(None, variables=variables, context=context, entropy=entropy, heavy=heavy)
        self.document = document
        self.result = result
        self.error_output = error_output
        self.now = now


Expression: TypeAlias = Callable[[Scope], Json]
"""A compiled path, intrinsic call or template."""
