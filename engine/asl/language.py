"""The two choices everything in a definition depends on: how a state reads data, and what type it is.

Apart from the model, so that checking a definition does not load what running one takes.
"""

from __future__ import annotations

from enum import StrEnum


class StateType(StrEnum):
    """The eight state types of the specification."""

    PASS = "Pass"
    TASK = "Task"
    CHOICE = "Choice"
    WAIT = "Wait"
    SUCCEED = "Succeed"
    FAIL = "Fail"
    PARALLEL = "Parallel"
    MAP = "Map"


class QueryLanguage(StrEnum):
    """How a state reads data."""

    JSONPATH = "JSONPath"
    JSONATA = "JSONata"
