"""The tokens of a JSONata expression that parses, for what is judged by its text. It must not know what is judged."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(
    r"""\s+|/\*.*?\*/|(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|`[^`]*`|(?P<number>\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)"""
    r"""|(?P<name>\$?\w+|\$+)|(?P<sign>:=|~>|\*\*|\.\.|!=|<=|>=|\?:|\?\?|.)""",
    re.DOTALL,
)
_REGEX: Final = re.compile(r"/(?:[^/\\\n\[]|\\.|\[(?:[^\]\\]|\\.)*\])+/[a-z]*")
_WORDS: Final = frozenset({"and", "or", "in"})
LAMBDAS: Final = frozenset({"function", "λ"})
"""What begins a function."""


class Token(NamedTuple):
    """`kind` is string (as is a quoted name), number, name, sign or regex."""

    kind: str
    text: str


def tokens_of(source: str) -> list[Token] | None:
    """The tokens; None where it is not certain what a slash is."""
    tokens: list[Token] = []
    position = 0
    while position < len(source):
        if source[position] == "/" and not source.startswith("/*", position):
            last = tokens[-1] if tokens else Token("sign", "(")
            if last.text in _WORDS:
                return None
            if last.kind == "sign" and last.text not in (")", "]", "}", "%", "*", "**"):
                regex = _REGEX.match(source, position)
                if regex is None:
                    return None
                tokens.append(Token("regex", regex[0]))
                position = regex.end()
                continue
            if last.text in ("%", "*", "**"):
                return None
        match = _TOKEN.match(source, position)
        if match is None:
            return None
        if match[0].startswith("`"):
            tokens.append(Token("string", match[0]))
        elif match.lastgroup is not None:
            tokens.append(Token(match.lastgroup, match[0]))
        position = match.end()
    return tokens
