"""Random state machines: every construct that makes the runtime work, nested at random, ending surely if the outside answers."""

from __future__ import annotations

import random
from typing import Any

ACTIVITY = "arn:aws:states:us-east-1:123456789012:activity:simulated"
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:simulated"
DEADLY = "arn:aws:lambda:us-east-1:123456789012:function:deadly"
"""The node that calls it dies of it."""
CELERY = "celery:simulated"
TOKEN = "arn:aws:states:::sqs:sendMessage.waitForTaskToken"
ERRORS = ("Flaky", "Broken")

State = dict[str, Any]


class MachineMaker:
    """Makes one definition. The data of each state is an object with `items`; results are put beside them."""

    def __init__(self, rng: random.Random, *, distributed: bool = False, express: bool = False) -> None:
        """`distributed`: mostly Distributed Maps; `express`: those with Express children above all."""
        self._rng = rng
        self._distributed = distributed
        self._express_share = 0.9 if express else 0.4
        self._express = False
        """What is made now is for an Express execution: nothing that waits for somebody outside, and no Distributed Map."""
        self._names = 0

    def definition(self, *, express: bool = False) -> State:
        """A definition; `express`: for an Express state machine."""
        self._express = express
        machine = self._container(1 if express else 0)
        if self._rng.random() < 0.2:
            machine["TimeoutSeconds"] = self._rng.randint(10, 90)
        return machine

    def _container(self, depth: int) -> State:
        rng = self._rng
        names = [self._name() for _ in range(rng.randint(1, 4 if depth == 0 else 2))]
        states: State = {}
        for at, name in enumerate(names):
            following = names[at + 1] if at + 1 < len(names) else None
            state = self._state(depth)
            if following is None:
                state["End"] = True
            else:
                state["Next"] = following
            if "Resource" in state or state["Type"] in ("Parallel", "Map"):
                self._handlers(state, following)
            states[name] = state
        if rng.random() < 0.12:
            self._failing_end(states, names[-1])
        return {"StartAt": names[0], "States": states}

    def _failing_end(self, states: State, last: str) -> None:
        end = self._name()
        states[last].pop("End", None)
        states[last]["Next"] = end
        states[end] = {"Type": "Fail", "Error": self._rng.choice(ERRORS), "Cause": "as written"}

    def _name(self) -> str:
        self._names += 1
        return f"S{self._names}"

    def _state(self, depth: int) -> State:
        rng = self._rng
        kinds = [
            self._function,
            self._function,
            self._celery,
            self._celery,
            self._token,
            self._activity,
            self._wait,
            self._pass,
        ]
        if self._express:
            kinds = [self._express_function, self._express_function, self._express_celery, self._wait, self._pass]
        if depth < 2:
            kinds += [self._parallel, self._map]
            kinds += [] if self._express else [self._distributed_map]
        if self._distributed and depth == 0:
            kinds = [self._distributed_map]
        make = rng.choice(kinds)
        return make(depth)

    def _function(self, depth: int) -> State:
        state: State = {"Type": "Task", "Resource": FUNCTION, "ResultPath": "$.r"}
        if self._rng.random() < 0.2:
            state["TimeoutSeconds"] = self._rng.randint(1, 20)
        return state

    def _celery(self, depth: int) -> State:
        state: State = {"Type": "Task", "Resource": CELERY, "ResultPath": "$.r"}
        if self._rng.random() < 0.3:
            state["TimeoutSeconds"] = self._rng.randint(2, 40)
        return state

    def _express_function(self, depth: int) -> State:
        state = self._function(depth)
        if self._rng.random() < 0.04:
            state["Resource"] = DEADLY
        return state

    def _express_celery(self, depth: int) -> State:
        """A message that gets lost is not sent again, so it must time out."""
        return self._celery(depth) | {"TimeoutSeconds": self._rng.randint(2, 40)}

    def _token(self, depth: int) -> State:
        state: State = {
            "Type": "Task",
            "Resource": TOKEN,
            "Parameters": {"QueueUrl": "q", "MessageBody": {"token.$": "$$.Task.Token"}},
            "ResultPath": "$.r",
        }
        if self._rng.random() < 0.3:
            state["TimeoutSeconds"] = self._rng.randint(3, 30)
        elif self._rng.random() < 0.4:
            state["HeartbeatSeconds"] = self._rng.randint(2, 6)
        return state

    def _activity(self, depth: int) -> State:
        state: State = {
            "Type": "Task",
            "Resource": ACTIVITY,
            "ResultPath": "$.r",
            "TimeoutSeconds": self._rng.randint(8, 40),
        }
        if self._rng.random() < 0.4:
            state["HeartbeatSeconds"] = self._rng.randint(3, 7)
        return state

    def _wait(self, depth: int) -> State:
        return {"Type": "Wait", "Seconds": self._rng.choice((0, 1, 1, 2, 5, 12))}

    def _pass(self, depth: int) -> State:
        if self._rng.random() < 0.5:
            return {"Type": "Pass", "Result": {"n": self._rng.randint(0, 9)}, "ResultPath": "$.p"}
        return {"Type": "Pass", "Parameters": {"id.$": "States.UUID()"}, "ResultPath": "$.id"}

    def _parallel(self, depth: int) -> State:
        branches = [self._container(depth + 1) for _ in range(self._rng.randint(1, 3))]
        return {"Type": "Parallel", "Branches": branches, "ResultPath": self._rng.choice((None, "$.b"))}

    def _map(self, depth: int) -> State:
        state: State = {
            "Type": "Map",
            "ItemsPath": "$.items",
            "ItemSelector": {"items.$": "$.items", "index.$": "$$.Map.Item.Index"},
            "ItemProcessor": self._container(depth + 1),
            "ResultPath": None,
        }
        if self._rng.random() < 0.5:
            state["MaxConcurrency"] = self._rng.randint(1, 2)
        if depth == 0 and self._rng.random() < 0.15:  # many events in one step: the slice is used up
            name = self._name()
            state["ItemsPath"] = "$.many"
            state["ItemProcessor"] = {"StartAt": name, "States": {name: {"Type": "Pass", "End": True}}}
        return state

    def _distributed_map(self, depth: int) -> State:
        rng = self._rng
        state: State = {
            "Type": "Map",
            "ItemsPath": "$.items",
            "ItemSelector": {"items.$": "$.items", "index.$": "$$.Map.Item.Index"},
            "ItemProcessor": self._processor(depth),
            "ResultPath": rng.choice((None, "$.d")),
        }
        if rng.random() < 0.5:
            state["MaxConcurrency"] = rng.randint(1, 2)
        if rng.random() < 0.6:
            state["ToleratedFailurePercentage"] = rng.choice((40, 100))
        if rng.random() < 0.2:  # more than one page of items
            state["ItemsPath"] = "$.many"
            state["ItemBatcher"] = {"MaxItemsPerBatch": rng.choice((25, 50)), "BatchInput": {"items": []}}
            name = self._name()
            processor = {"Type": "Pass", "Result": {"n": rng.randint(0, 9)}, "End": True}
            state["ItemProcessor"] |= {"StartAt": name, "States": {name: processor}}
        return state

    def _processor(self, depth: int) -> State:
        self._express = self._rng.random() < self._express_share
        kind = "EXPRESS" if self._express else "STANDARD"
        config = {"Mode": "DISTRIBUTED", "ExecutionType": kind}
        processor = {"ProcessorConfig": config, **self._container(depth + 1)}
        self._express = False
        return processor

    def _handlers(self, state: State, following: str | None) -> None:
        rng = self._rng
        if rng.random() < 0.5:
            state["Retry"] = [
                {
                    "ErrorEquals": [rng.choice((*ERRORS, "States.ALL", "States.Timeout"))],
                    "IntervalSeconds": rng.randint(1, 3),
                    "MaxAttempts": rng.randint(1, 3),
                    "BackoffRate": 1.5,
                    "JitterStrategy": rng.choice(("FULL", "NONE")),
                }
            ]
        if following is not None and rng.random() < 0.4:
            state["Catch"] = [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": following}]


def make_input(rng: random.Random, number: int) -> State:
    return {"n": number, "items": list(range(rng.randint(0, 3))), "many": list(range(120))}
