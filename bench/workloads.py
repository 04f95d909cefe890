"""The workloads: their definitions, how their end is waited for, and what they are compared with."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload over REST. With `waits` a request is answered when its execution has ended, else when it is durable."""

    name: str
    about: str
    definition: dict[str, object]
    steps: int
    waits: bool
    celery: bool = False


WORKLOADS: Final = {
    one.name: one
    for one in (
        Workload("w1", "ten Pass states, one execution per request", chain(10, Type="Pass"), 10, waits=False),
        Workload("w1t", "ten function tasks in sequence", chain(10, Type="Task", Resource=FUNCTION), 10, waits=True),
        Workload("w2", "one function task", chain(1, Type="Task", Resource=FUNCTION), 1, waits=True),
        Workload(
            "w2c", "one Celery task", chain(1, Type="Task", Resource=f"celery:{TASK}?queue=claimed"), 1, waits=True, celery=True
        ),
    )
}  # fmt: skip
WAITING: Final = chain(1, Type="Wait", Seconds=60)
"""W4: executions that wait."""
