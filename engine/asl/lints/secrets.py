"""Secrets written into a definition, where everyone who may describe the machine reads them.

What is found is never part of a message; `hide` takes it out of whatever is shown of a definition.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

from stepwell.engine.asl.diagnostics import DiagnosticCode
from stepwell.engine.asl.lints.walk import Machine
from stepwell.engine.asl.report import Place, Report
from stepwell.engine.jsontypes import Json, write_text

_SHAPES: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    ("an AWS access key", re.compile(r"\b(?:AKIA|ASIA)(?![A-Z0-9]*EXAMPLE\b)[A-Z2-7]{16}\b")),
    ("a private key", re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")),
    ("a GitHub token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})")),
    ("a GitLab token", re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}")),
    ("a Slack token", re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}")),
    ("a Stripe key", re.compile(r"\b[rs]k_live_[A-Za-z0-9]{16,}")),
    ("a Google API key", re.compile(r"\bAIza[A-Za-z0-9_-]{35}\b")),
    ("an API key", re.compile(r"\bsk-(?:[a-z]+-)*[A-Za-z0-9_-]{32,}")),
    ("a JSON web token", re.compile(r"\beyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,8000}\.[A-Za-z0-9_-]{10,}")),
    (
        "a password in a URL",
        re.compile(r"\b[a-z][a-z0-9+.-]{0,20}://[^/\s:@]{0,200}:(?!\$\{)[^/\s:@{}$]{3,200}@[^/\s]"),
    ),
    ("credentials", re.compile(r"(?:^|['\"\s])(?:Bearer|Basic) +[A-Za-z0-9+/_.~-]{16,}=*(?=$|['\"\s])")),
)
"""What secrets of well-known kinds look like."""

_SECRET_NAMES: Final = re.compile(
    r"(?:^|[_.-]|[a-z])(?:password|passwd|passphrase|client[_-]?secret|secret[_-]?access[_-]?key|secret[_-]?key|"
    r"api[_-]?key|access[_-]?token|auth[_-]?token|refresh[_-]?token|private[_-]?key)$",
    re.IGNORECASE,
)
_COMPUTED: Final = re.compile(r"^\$|^\{%|\$\{|\{\{resolve:|^arn:|^States\.|^https?:|[<>*\s{}]")
"""What a value looks like that is no secret but says where it comes from, or stands for one."""
_LEAST_CHARS: Final = 6
_LEAST_WORD: Final = 16
_MOST_SECRETS: Final = 100
_SEEN: Final = re.compile(r"\S")
_NAMED_IN_TEXT: Final = re.compile(r"(?<![\w.-])([A-Za-z_][\w.-]{0,100})[\"']?\s{0,10}:\s{0,10}[\"']?([^\s\"',}]{6,})")
_NAMED: Final = "what its name says is a secret"


def check_secrets(report: Report, machine: Machine) -> None:
    """Note every string that is a secret by its form or by the name of its field."""
    for kind, _, place in _secrets(machine.definition):
        report.warn(
            place,
            f"The definition has {kind} written into it",
            DiagnosticCode.SECRET,
            hint="Whoever may read the definition or its history reads it. Keep it in a connection, or where the task finds it; "
            "and change it now.",
        )


def secret_values(definition: Json) -> frozenset[str]:
    """The strings `check_secrets` warns of."""
    return frozenset(text for _, text, _ in _secrets(definition))


def secrets_in_text(text: str) -> frozenset[str]:
    """What looks like a secret in text that could not be read as a definition."""
    found = {match[0] for _, shape in _SHAPES for match in shape.finditer(text)}
    found.update(match[2] for match in _NAMED_IN_TEXT.finditer(text) if _SECRET_NAMES.search(match[1]))
    return frozenset(found)


def hide(text: str, secrets: Collection[str]) -> str:
    """Text with each secret in it, however it is written down, covered by as many dots; all of it where there are very many."""
    if len(secrets) > _MOST_SECRETS:
        return _SEEN.sub("•", text)
    forms = {form for secret in secrets for form in (secret, write_text(secret)[1:-1], *_long_words(secret))}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "•" * len(form))
    return text


def hide_in_source(text: str, secrets: Collection[str]) -> str:
    """As `hide`, of the text that a definition was read from: all of it where a secret is written there in a way of its own,
    as with escapes that nobody needs."""
    if all(_is_written_plainly(text, secret) for secret in secrets):
        return hide(text, secrets)
    return _SEEN.sub("•", text)


def _is_written_plainly(text: str, secret: str) -> bool:
    words = _long_words(secret)
    return secret in text or write_text(secret)[1:-1] in text or (bool(words) and all(word in text for word in words))


def _long_words(secret: str) -> list[str]:
    """The parts of a secret that are written on several lines."""
    return [word for word in secret.split() if len(word) >= _LEAST_WORD]


def _secrets(definition: Json) -> Iterator[tuple[str, str, Place]]:
    pending: list[tuple[Json, Place]] = [(definition, None)]
    while pending:
        value, place = pending.pop()
        if isinstance(value, dict):
            pending.extend((item, (place, key)) for key, item in value.items())
        elif isinstance(value, list):
            pending.extend((item, (place, index)) for index, item in enumerate(value))
        elif isinstance(value, str) and len(value) >= _LEAST_CHARS:
            kind = _kind_of(value, place)
            if kind is not None:
                yield kind, value, place


def _kind_of(text: str, place: Place) -> str | None:
    for kind, shape in _SHAPES:
        if shape.search(text):
            return kind
    name = place[1] if place is not None else None
    if isinstance(name, str) and _SECRET_NAMES.search(name) and not _COMPUTED.search(text):
        return _NAMED
    return None
