"""Retry and Catch: which entry matches an error, and how long a retry waits.

ASL specification, "Errors"; AWS guide, "Handling errors in Step Functions workflows".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from stepwell.engine.asl.states import Catcher, JitterStrategy, Retrier
from stepwell.engine.clock import Entropy
from stepwell.engine.limits import MAX_RETRY_DELAY_SECONDS
from stepwell.engine.states_errors import ErrorName

_Entry = TypeVar("_Entry", Retrier, Catcher)


def matches(names: Iterable[str], error: str | None, alias: str | None = None) -> bool:
    """Whether ErrorEquals matches an error. States.Runtime is matched by nothing: it always ends the execution.

    `alias` is a second, narrower name of the error: a missed heartbeat shows as States.Timeout and may be matched as
    States.HeartbeatTimeout too.
    """
    if error == ErrorName.RUNTIME:
        return False
    for name in names:
        if name == ErrorName.ALL or name == error:
            return True
        if name == ErrorName.TASK_FAILED and error != ErrorName.TIMEOUT:
            return True
        if alias is not None and name == alias:
            return True
    return False


def first_match(entries: tuple[_Entry, ...], error: str | None, alias: str | None = None) -> int | None:
    """Index of the first entry that matches the error."""
    for index, entry in enumerate(entries):
        if matches(entry.error_equals, error, alias):
            return index
    return None


def delay_ms(retrier: Retrier, done: int, entropy: Entropy) -> int:
    """Milliseconds to wait before the next attempt, after `done` retries by this retrier."""
    try:
        seconds = retrier.interval_seconds * retrier.backoff_rate**done
    except OverflowError:
        seconds = MAX_RETRY_DELAY_SECONDS
    if retrier.max_delay_seconds is not None:
        seconds = min(seconds, retrier.max_delay_seconds)
    seconds = min(seconds, MAX_RETRY_DELAY_SECONDS)
    if retrier.jitter_strategy is JitterStrategy.FULL:
        seconds *= entropy.fraction()
    return int(seconds * 1000)
