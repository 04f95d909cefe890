"""The names of JSONata's functions where they are read as variables.

A function is a variable that is always there. `Assign` may set one of the same name, and from then on that is what the name
means: `$count + 1` reads the variable, `$count(...)` tries to call it.
"""

from __future__ import annotations

import re
from typing import Final

from stepwell.engine.query.jsonata import functions
from stepwell.engine.query.jsonata.tokens import LAMBDAS, tokens_of

_DOLLAR: Final = re.compile(r"\$(\w+)")

_OF_THE_LANGUAGE: Final = (
    "sum", "count", "max", "min", "average", "string", "substring", "substringBefore",
    "substringAfter", "lowercase", "uppercase", "length", "trim", "pad", "match", "contains",
    "replace", "split", "join", "formatNumber", "formatBase", "formatInteger", "parseInteger", "number",
    "floor", "ceil", "round", "abs", "sqrt", "power", "boolean", "not",
    "map", "filter", "single", "reduce", "sift", "keys", "lookup", "append",
    "exists", "spread", "merge", "reverse", "each", "error", "assert", "type",
    "sort", "shuffle", "distinct", "base64encode", "base64decode", "encodeUrlComponent", "encodeUrl", "decodeUrlComponent",
    "decodeUrl", "eval", "zip", "toMillis", "fromMillis", "now", "millis", "clone",
)  # fmt: skip
FUNCTIONS: Final = frozenset(_OF_THE_LANGUAGE).union(functions.NAMES)
"""The functions there are, without the dollar."""


def functions_named(source: str) -> frozenset[str]:
    """The functions whose names stand in an expression, and perhaps some more."""
    return FUNCTIONS.intersection(_DOLLAR.findall(source))


def read_as_variables(source: str) -> frozenset[str]:
    """The functions whose names an expression reads where a function makes no sense: neither to be called nor to be handed
    over. What it names so itself is not meant."""
    tokens = tokens_of(source) if functions_named(source) else None
    texts = [token.text if token.kind == "name" else token.text[:2] for token in tokens or ()]
    own, read = set[str](), set[str]()
    for index, text in enumerate(texts):
        before = texts[index - 1] if index else ""
        after = texts[index + 1] if index + 1 < len(texts) else ""
        if text in LAMBDAS and after == "(":
            own.update(texts[index : texts.index(")", index)])
        elif text.startswith("$") and text[1:] in FUNCTIONS:
            if after == ":=" or before in ("#", "@"):
                own.add(text)
            elif (
                after != "("
                and before != "~>"
                and after != "~>"
                and (before not in ("(", ",") or after not in (",", ")"))
            ):
                read.add(text)
    return frozenset(text[1:] for text in read - own)
