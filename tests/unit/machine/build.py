"""Small machines for the tests of single state types."""

from __future__ import annotations

from typing import Any

FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:f"
ACTIVITY = "arn:aws:states:us-east-1:123456789012:activity:a"
CALLBACK = "arn:aws:states:::sqs:sendMessage.waitForTaskToken"
CELERY = "celery:app.work"

Definition = dict[str, Any]


def machine(*states: Definition, **more: Any) -> Definition:
    """States named A, B, C, ..., each going to the next unless it says otherwise; the last one ends."""
    named: Definition = {}
    for index, state in enumerate(states):
        state = dict(state)
        if state["Type"] not in ("Succeed", "Fail", "Choice") and not {"Next", "End"} & state.keys():
            state.update({"End": True} if index == len(states) - 1 else {"Next": chr(ord("A") + index + 1)})
        named[chr(ord("A") + index)] = state
    return {"StartAt": "A", "States": named, **more}


def inner(name: str, state: Definition) -> Definition:
    """A branch or processor of one state."""
    ends = {} if state["Type"] in ("Succeed", "Fail") else {"End": True}
    return {"StartAt": name, "States": {name: {**state, **ends}}}


def task(resource: str = FUNCTION, **fields: Any) -> Definition:
    return {"Type": "Task", "Resource": resource, **fields}


def pass_(**fields: Any) -> Definition:
    return {"Type": "Pass", **fields}


def parallel(*branches: Definition, **fields: Any) -> Definition:
    """Branches named X1, X2, ... of one state each."""
    return {
        "Type": "Parallel",
        "Branches": [inner(f"X{index}", branch) for index, branch in enumerate(branches, 1)],
        **fields,
    }


def map_(state: Definition, **fields: Any) -> Definition:
    """A Map over the input's `items` whose processor is one state, I."""
    return {"Type": "Map", "ItemsPath": "$.items", "ItemProcessor": inner("I", state), **fields}
