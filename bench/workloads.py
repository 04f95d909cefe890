"""The workloads: their definitions, how their end is waited for, and what they are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from bench.noops import TASK

FUNCTION: Final = "arn:aws:lambda:us-east-1:000000000000:function:noop"


def chain(count: int, **state: object) -> dict[str, object]:
    """A state machine of equal states in sequence."""
    names = [f"S{number}" for number in range(1, count + 1)]
    states = {
        name: {**state, **({"Next": names[number]} if number < count else {"End": True})}
        for number, name in enumerate(names, 1)
    }
    return {"StartAt": names[0], "States": states}


class Answered(Enum):
    """When a start is answered; the value is its query string."""

    DURABLE = ""
    ENDED = "?wait=60"
    SYNC = "?sync=true"
    """When it has ended, and nothing of it is kept."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload over REST."""

    name: str
    about: str
    definition: dict[str, object]
    steps: int
    answered: Answered
    celery: bool = False
    express: bool = False


WORKLOADS: Final = {
    one.name: one
    for one in (
        Workload("w1", "ten Pass states, one execution per request", chain(10, Type="Pass"), 10, Answered.DURABLE),
        Workload("w1t", "ten function tasks in sequence", chain(10, Type="Task", Resource=FUNCTION), 10, Answered.ENDED),
        Workload("w2", "one function task", chain(1, Type="Task", Resource=FUNCTION), 1, Answered.ENDED),
        Workload(
            "w2c", "one Celery task", chain(1, Type="Task", Resource=f"celery:{TASK}?queue=claimed"), 1, Answered.ENDED, celery=True
        ),
        Workload("x1", "ten Pass states, Express, started", chain(10, Type="Pass"), 10, Answered.DURABLE, express=True),
        Workload("x1s", "ten Pass states, Express, called", chain(10, Type="Pass"), 10, Answered.SYNC, express=True),
        Workload("x2s", "one function task, Express, called", chain(1, Type="Task", Resource=FUNCTION), 1, Answered.SYNC, express=True),
    )
}  # fmt: skip
W4: Final = Workload("w4", "executions that wait", chain(1, Type="Wait", Seconds=60), 1, Answered.DURABLE)
"""Measured apart from the others: what is asked is how many can wait at once."""
