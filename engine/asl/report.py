"""Where findings are collected while a definition is walked, and the places they point to.

A `Place` is a linked tuple, so that walking a definition without a fault builds no text. It must not know any rule.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, TypeAlias

from stepwell.engine.asl.diagnostics import Diagnostic, DiagnosticCode, Severity
from stepwell.engine.asl.scanner import escape_pointer
from stepwell.engine.query.jsonata import Jsonata

Place: TypeAlias = "tuple[Place, str | int] | None"
"""The container's place and the name or index in it; None is the root."""


_MOST_GUESSES: Final = 20
_MOST_KNOWN: Final = 500
_MOST_CHARS: Final = 100


class Report:
    """The findings of one walk, in the order found.

    `placeholders`: whether a deployment tool may still have values to fill in. `expressions`: what JSONata expressions were
    compiled, by their text.
    """

    __slots__ = ("_guesses", "expressions", "findings", "placeholders")

    def __init__(self, *, placeholders: bool = False) -> None:
        self.findings: list[Diagnostic] = []
        self.expressions: dict[str, Jsonata] = {}
        self.placeholders = placeholders
        self._guesses = _MOST_GUESSES

    def error(
        self,
        place: Place,
        message: str,
        code: DiagnosticCode = DiagnosticCode.SCHEMA_VALIDATION_FAILED,
        *,
        hint: str | None = None,
        at: Place = None,
    ) -> None:
        """Note a fault that refuses the definition. `at` is where in `place`, which AWS names, it is."""
        pointer = pointer_of(at or place)
        self.findings.append(Diagnostic(code, message, location_of(place), pointer=pointer, hint=hint))

    def warn(
        self, place: Place, message: str, code: DiagnosticCode, *, hint: str | None = None, at: Place = None
    ) -> None:
        """Note something that is allowed and probably not meant."""
        pointer = pointer_of(at or place)
        self.findings.append(
            Diagnostic(code, message, location_of(place), severity=Severity.WARNING, pointer=pointer, hint=hint)
        )

    def unplaced(self, place: Place, message: str, code: DiagnosticCode, *, hint: str | None = None) -> None:
        """Note a fault for which AWS names no location; `place` still serves line and column."""
        self.findings.append(Diagnostic(code, message, pointer=pointer_of(place), hint=hint))

    def nearest(self, name: str, known: Collection[str]) -> str | None:
        """The known name that was probably meant. Few are looked for, because each takes long."""
        if not self._guesses or len(known) > _MOST_KNOWN or len(name) > _MOST_CHARS:
            return None
        from difflib import get_close_matches  # takes a while to load, and most definitions need no guess

        self._guesses -= 1
        lower = {each.lower(): each for each in known}
        near = get_close_matches(name.lower(), lower, 1, cutoff=0.75)
        return lower[near[0]] if near else None

    def meant(self, name: str, known: Collection[str]) -> str | None:
        """A hint at the field that was probably meant."""
        near = self.nearest(name, known)
        if near is None:
            return None
        if near.lower() == name.lower():
            return f"Field names are case-sensitive: write '{near}'."
        return f"Did you mean '{near}'?"

    @property
    def has_errors(self) -> bool:
        """Whether any finding refuses the definition."""
        return any(finding.severity is Severity.ERROR for finding in self.findings)


def steps_of(place: Place) -> list[str | int]:
    """The names and indexes from the root to a place."""
    steps: list[str | int] = []
    while place is not None:
        place, step = place
        steps.append(step)
    steps.reverse()
    return steps


def location_of(place: Place) -> str:
    """A place as AWS writes it: `/States/X/Choices[0]/Next`; the root is `/`."""
    if place is None:
        return "/"
    return "".join(f"[{step}]" if isinstance(step, int) else f"/{step}" for step in steps_of(place))


def pointer_of(place: Place) -> str:
    """A place as a JSON pointer (RFC 6901)."""
    return "".join(f"/{step}" if isinstance(step, int) else f"/{escape_pointer(step)}" for step in steps_of(place))
