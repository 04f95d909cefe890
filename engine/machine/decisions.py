"""Which way the machine went where it had a choice: told beside a step, kept by nobody. Tests measure their coverage by it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DecisionKind(StrEnum):
    """What a state decided for."""

    RULE = "rule"
    DEFAULT = "default"
    RETRY = "retry"
    CATCH = "catch"


@dataclass(slots=True)
class Decision:
    """One decision. `index` is that of the rule in Choices, of the retrier in Retry or of the catcher in Catch; 0 for Default."""

    state: str
    kind: DecisionKind
    index: int = 0
