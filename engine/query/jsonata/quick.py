"""Which expressions may be evaluated in the engine's own process, judged by their text: those that the library's limits bound.

Its limits on steps and time are looked at between steps. Within one step some functions take time or memory that no limit
bounds: comparing values that hold each other many times over takes time exponential in the length of the expression, and
`$replace` multiplies two strings before anyone looks at the result. Where such a thing could happen the expression goes to a
helper process at once, unless its data are so small that it does not matter. It errs on that side: nothing but speed is lost.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from stepwell.engine.query.jsonata.names import FUNCTIONS
from stepwell.engine.query.jsonata.tokens import LAMBDAS, Token, tokens_of

MOST_BYTES: Final = 262_144
"""Data that any expression may be evaluated on."""
SMALL_BYTES: Final = 8_192
"""Data that expressions with functions whose work grows with the square of them may be evaluated on."""
GROWTH_BYTES: Final = 8_000_000
"""Bytes of data, counted once for each time it is part of a value the expression makes."""
MAX_RANGE: Final = 10_000

_QUADRATIC: Final = frozenset(
    {"$replace", "$distinct", "$join", "$toMillis", "$fromMillis", "$formatNumber", "$formatInteger"}
)
_BUILDERS: Final = frozenset({"$append", "$each", "$map", "$merge", "$zip"})
_SIZES: Final = frozenset({"$count", "$length"})


class Quick(NamedTuple):
    """`most_bytes` of data the expression may be evaluated on here (-1: on none). `small`: the strings and arrays it makes of them
    must stay small, too."""

    most_bytes: int
    small: bool = False


NEVER: Final = Quick(-1)


def judge(source: str) -> Quick:
    """Judge an expression that parses."""
    tokens = tokens_of(source)
    if tokens is None:
        return NEVER
    texts = [token.text if token.kind != "string" else "''" for token in tokens]
    if _goes_astray(tokens, texts):
        return NEVER
    small = not _QUADRATIC.isdisjoint(texts) or any(token.kind == "regex" for token in tokens) or "**" in texts
    most = min(SMALL_BYTES if small else MOST_BYTES, GROWTH_BYTES // _growth(texts))
    return Quick(most, small)


def _goes_astray(tokens: list[Token], texts: list[str]) -> bool:
    """Whether it may go on and on building values, copy its data, or make an array of any length."""
    loops = builds = False
    for index, text in enumerate(texts):
        before = texts[index - 1] if index else ""
        after = texts[index + 1] if index + 1 < len(texts) else ""
        if text in ("|", "$eval") or (text == ".." and not _short_range(texts, index)):
            return True
        if text in LAMBDAS and after == "(":
            loops |= before not in ("(", ",")
        elif (
            text == "$reduce"
            or (text.startswith("$") and after == "(" and text[1:] not in FUNCTIONS)
            or (text == "(" and before in (")", "}", "]"))
            or (text == "?" and before in ("(", ",") and after in (",", ")"))
        ):
            loops = True
        builds |= text in _BUILDERS or (text in ("[", "{") and _makes(texts, index))
    return loops and builds


def _makes(texts: list[str], index: int) -> bool:
    """Whether a bracket at this place makes an array or object (or may), and is no predicate or body of a function."""
    before = texts[index - 1] if index else "("
    if texts[index] == "{":
        return before != ")" or not _is_lambda_head(texts, index - 1)
    return before in _OPENS


_OPENS: Final = frozenset({"(", "[", "{", ",", ":", ";", ":=", "?", "?:", "??", ".", "~>", "&", "=", "!=", "<", ">", "<=", ">=",
                           "+", "-", "*", "/", "and", "or", "in", ".."})  # fmt: skip


def _is_lambda_head(texts: list[str], closing: int) -> bool:
    """Whether the parenthesis that closes here encloses the parameters of a function."""
    depth = 0
    for index in range(closing, -1, -1):
        depth += {")": 1, "(": -1}.get(texts[index], 0)
        if depth == 0:
            return index > 0 and texts[index - 1] in LAMBDAS
    return False


def _short_range(texts: list[str], index: int) -> bool:
    """Whether `..` begins and ends at small numbers that are written out, or ends at the size of something there is."""
    start = texts[max(index - 3, 0) : index]
    if start[-1:] and not _is_small(start[-1]):
        return False
    if start[-2:-1] not in (["["], [","]) and not (start[-2:-1] == ["-"] and start[:1] in (["["], [","])):
        return False
    rest = texts[index + 1 :]
    if rest[:1] and _is_small(rest[0]):
        return rest[1:2] in (["]"], [","])
    if rest[:1] and rest[0] in _SIZES and rest[1:2] == ["("]:
        depth = 0
        for position, text in enumerate(rest):
            depth += {"(": 1, ")": -1}.get(text, 0)
            if position and depth == 0:
                after = rest[position + 1 : position + 4]
                return after[:1] == ["]"] or (
                    after[:1] in (["-"], ["+"]) and _is_small(after[1]) and after[2:] == ["]"]
                )
    return False


def _is_small(text: str) -> bool:
    """Whether it is a whole number that a range may begin or end at."""
    return text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_RANGE)) and int(text) <= MAX_RANGE


def _growth(texts: list[str]) -> int:
    """How many times a part of the data may be part of a value that is made, at most: the elements named between two places
    at which a value can be given on multiply.
    """
    growth = elements = 1
    for index, text in enumerate(texts):
        if text == ",":
            elements += 1
        elif text in (":=", "~>") or text in LAMBDAS or (text == "." and _is_step(texts, index + 1)):
            growth, elements = growth * elements, 1
    return growth * elements


def _is_step(texts: list[str], index: int) -> bool:
    """Whether a step of a path at this place may make something of what it is given."""
    here = texts[index] if index < len(texts) else ""
    after = texts[index + 1] if index + 1 < len(texts) else ""
    return here in ("[", "{", "(") or (here.startswith("$") and after == "(")
