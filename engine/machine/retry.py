"""Retry and Catch: which entry matches an error, and how long a retry waits.

ASL specification, "Errors"; AWS guide, "Handling errors in Step Functions workflows".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from stepwell.engine.asl.states import Catcher, JitterStrategy, Retrier
from stepwell.engine.clock import Entropy
from stepwell.engine.states_errors import NEVER_CAUGHT_BY_ALL, ErrorName

_Entry = TypeVar("_Entry", Retrier, Catcher)


def matches(names: Iterable[str], error: str | None) -> bool:
    """Whether ErrorEquals matches an error name. States.Runtime is matched by nothing: it always ends the execution."""
    if error == ErrorName.RUNTIME:
        return False
    for name in names:
        if name == error:
            return True
        if error in NEVER_CAUGHT_BY_ALL:
            continue
        if name == ErrorName.ALL:
            return True
        if name == ErrorName.TASK_FAILED and error != ErrorName.TIMEOUT:
            return True
        if name == ErrorName.TIMEOUT and error == ErrorName.HEARTBEAT_TIMEOUT:
            return True
    return False


def first_match(entries: tuple[_Entry, ...], error: str | None) -> int | None:
    """Index of the first entry that matches the error."""
    for index, entry in enumerate(entries):
        if matches(entry.error_equals, error):
            return index
    return None


def delay_ms(retrier: Retrier, done: int, entropy: Entropy) -> int:
    """Milliseconds to wait before the next attempt, after `done` retries by this retrier."""
    seconds = retrier.interval_seconds * retrier.backoff_rate**done if done < 1000 else float("inf")
    if retrier.max_delay_seconds is not None:
        seconds = min(seconds, retrier.max_delay_seconds)
    seconds = min(seconds, 31_622_400.0)
    if retrier.jitter_strategy is JitterStrategy.FULL:
        seconds *= entropy.fraction()
    return int(seconds * 1000)
