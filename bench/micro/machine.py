"""Processor time, in microseconds, that a state transition costs in the machine: ten Pass states with and without data flow, a Task, a Choice loop, a Map.

Run `python bench/micro/machine.py`. Each figure is the best of five rounds and covers `transition`, the change of position
and, in the second column, the writing of both as one chunk of history. `--profile NAME` shows where the time goes.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
import time
import timeit
from collections.abc import Callable
from typing import Final

import msgspec

from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.asl.states import StateMachine
from stepwell.engine.clock import Entropy
from stepwell.engine.jsontypes import Json
from stepwell.engine.machine import chunks, events
from stepwell.engine.machine.commands import ScheduleTask
from stepwell.engine.machine.snapshot import Delta, ExecutionInfo, ExecutionState, take_delta
from stepwell.engine.machine.transition import Step, transition

NOW: Final = 1_767_323_045_678
INPUT: Final = msgspec.Raw(b'{"order": {"id": 7, "total": 12.5, "items": [1, 2, 3]}, "customer": "Ada", "n": 0}')
FUNCTION: Final = "arn:aws:lambda:us-east-1:123456789012:function:charge"
INFO: Final = ExecutionInfo(
    id=b"0123456789abcdef",
    arn="arn:aws:states:us-east-1:123456789012:execution:bench:run",
    name="run",
    machine_arn="arn:aws:states:us-east-1:123456789012:stateMachine:bench",
    machine_name="bench",
    role_arn="arn:aws:iam::123456789012:role/bench",
    started_at=NOW,
)


def chain(count: int, **fields: Json) -> dict[str, Json]:
    """Pass states one after the other."""
    states: dict[str, Json] = {}
    for index in range(count):
        last = index == count - 1
        states[f"S{index}"] = {"Type": "Pass", **fields, **({"End": True} if last else {"Next": f"S{index + 1}"})}
    return {"StartAt": "S0", "States": states}


FLOW: Final[dict[str, Json]] = {
    "InputPath": "$.order",
    "Parameters": {"id.$": "$.id", "total.$": "$.total", "fixed": [1, 2, 3]},
    "ResultPath": "$.result",
}
TASK: Final[dict[str, Json]] = {
    "StartAt": "Charge",
    "States": {
        "Charge": {
            "Type": "Task",
            "Resource": FUNCTION,
            "TimeoutSeconds": 60,
            "Retry": [{"ErrorEquals": ["States.ALL"]}],
            "End": True,
        }
    },
}
LOOP: Final[dict[str, Json]] = {
    "StartAt": "More",
    "States": {
        "More": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.n", "NumericLessThan": 50, "Next": "Count"}],
            "Default": "Done",
        },
        "Count": {"Type": "Pass", "Parameters": {"n.$": "States.MathAdd($.n, 1)"}, "Next": "More"},
        "Done": {"Type": "Succeed"},
    },
}
MAP: Final[dict[str, Json]] = {
    "StartAt": "Each",
    "States": {
        "Each": {
            "Type": "Map",
            "ItemsPath": "$.order.items",
            "ItemProcessor": {"StartAt": "Item", "States": {"Item": {"Type": "Pass", "End": True}}},
            "End": True,
        }
    },
}


class Workload:
    """A machine run from start to end, its tasks answered at once. `states` is the number of states it enters."""

    def __init__(self, definition: dict[str, Json], states: int) -> None:
        self.machine: StateMachine = parse_definition(definition)
        self.states = states

    def run(self) -> list[tuple[Step, Delta, events.Event]]:
        state = ExecutionState(INFO)
        event: events.Event = events.Started(INPUT)
        done: list[tuple[Step, Delta, events.Event]] = []
        while True:
            step = transition(self.machine, state, event, NOW, Entropy(1))
            state = step.state
            done.append((step, take_delta(state), event))
            task = next((c for c in step.commands if isinstance(c, ScheduleTask)), None)
            if task is None:
                if not step.more:
                    return done
                event = events.Continued()
            else:
                event = events.TaskSucceeded(task.task, msgspec.Raw(b'{"charged": true}'))

    def run_and_write(self) -> None:
        for step, delta, event in self.run():
            applied = chunks.AppliedEvent(event, NOW, 1, step.first_event)
            chunks.encode(chunks.Chunk(step.first_event, step.events, delta, [applied]))


WORKLOADS: Final[dict[str, Workload]] = {
    "ten Pass states": Workload(chain(10), 10),
    "ten Pass states, data flow": Workload(chain(10, **FLOW), 10),
    "a Task": Workload(TASK, 1),
    "a loop of Choice and Pass": Workload(LOOP, 102),
    "a Map of three": Workload(MAP, 4),
}


def per_state(run: Callable[[], object], states: int) -> float:
    timer = timeit.Timer(run, timer=time.process_time)  # other work on the machine must not count
    number = max(1, 4_000 // states)
    return min(timer.repeat(5, number)) / number / states * 1e6


def main() -> None:
    if sys.argv[1:2] == ["--profile"]:
        workload = WORKLOADS[sys.argv[2]]
        profile = cProfile.Profile()
        with profile:
            for _ in range(3000):
                workload.run_and_write()
        pstats.Stats(profile).sort_stats("tottime").print_stats(20)
        return
    print(f"{'us per state':30}{'transition':>12}{'and write':>12}")
    for name, workload in WORKLOADS.items():
        pure, written = per_state(workload.run, workload.states), per_state(workload.run_and_write, workload.states)
        print(f"{name:30}{pure:12.2f}{written:12.2f}")


if __name__ == "__main__":
    main()
