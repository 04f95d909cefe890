"""Random state machines: every state type, nested, with Retry, Catch, timers, loops and the whole data flow.

Each is right by the rules of the language, and each comes to its end if its tasks are answered: states lead to later ones,
and loops count. What is drawn how often is published in docs/property-tests.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from tests.properties.chance import Chance
from tests.properties.distributed import Fields, distribute
from tests.properties.fields import JsonPathFields, State
from tests.properties.jsonata_fields import JsonataFields

FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:f"
ACTIVITY = "arn:aws:states:us-east-1:123456789012:activity:a"
CELERY = "celery:app.work"
INVOKE = "arn:aws:states:::lambda:invoke"
TOKEN = "arn:aws:states:::sqs:sendMessage.waitForTaskToken"

ERRORS = ("Broken", "Busy")
"""What tasks and Fail states fail with, mostly."""
CATCHABLE = {
    "States.ALL": 25,
    "Busy": 20,
    "Broken": 15,
    "States.TaskFailed": 15,
    "States.Timeout": 12,
    "States.HeartbeatTimeout": 5,
    "States.NoChoiceMatched": 3,
    "States.DataLimitExceeded": 3,
    "States.ResultPathMatchFailure": 2,
    "States.QueryEvaluationError": 6,
    "States.ExceedToleratedFailureThreshold": 6,
    "States.ItemReaderFailed": 2,
    "States.ResultWriterFailed": 2,
}


def _resources() -> Mapping[str, int]:
    return {FUNCTION: 35, ACTIVITY: 15, CELERY: 15, TOKEN: 15, INVOKE: 20}


def _kinds() -> Mapping[str, int]:
    return {
        "Pass": 12, "Task": 32, "Wait": 12, "Choice": 10, "Succeed": 3, "Fail": 4, "Parallel": 14, "Map": 14,
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What machines are made of. `kinds` and `resources` are weights; `depth` bounds Parallels and Maps in each other."""

    depth: int = 3
    longest: int = 6
    """States of the outermost container; inner ones have half as many."""
    kinds: Mapping[str, int] = field(default_factory=_kinds)
    resources: Mapping[str, int] = field(default_factory=_resources)
    looping: int = 8
    """Loops in a hundred containers."""
    timed: int = 20
    """Machines in a hundred with TimeoutSeconds."""
    jsonata: int = 35
    """Machines in a hundred that are written in JSONata."""
    mixed: int = 10
    """States in a hundred of the others that are."""
    distributed: int = 30
    """Maps in a hundred that are distributed."""


ANY = Traits()


class MachineMaker:
    """Makes one definition."""

    def __init__(self, chance: Chance, traits: Traits = ANY) -> None:
        self._chance = chance
        self._traits = traits
        self._names = 0
        self._jsonpath = JsonPathFields(chance)
        self._jsonata = JsonataFields(chance)
        self._all_jsonata = chance.often(traits.jsonata)
        self._default: Fields = self._jsonata if self._all_jsonata else self._jsonpath

    def definition(self) -> State:
        chance, traits = self._chance, self._traits
        machine = self._with_variables(self._container(traits.depth, traits.longest))
        if self._all_jsonata:
            machine["QueryLanguage"] = "JSONata"
        if chance.often(traits.timed):
            machine["TimeoutSeconds"] = chance.whole(1, 30)
        return machine

    def _with_variables(self, container: State) -> State:
        """A container of states, which finds the variables set that its states read."""
        start = self._name()
        first = {"Type": "Pass", "Assign": self._default.variables, "Next": container["StartAt"]}
        return {"StartAt": start, "States": {start: first, **container["States"]}}

    def _name(self) -> str:
        self._names += 1
        return f"S{self._names}"

    # -- containers ------------------------------------------------------------------------------------------------

    def _container(self, depth: int, longest: int) -> State:
        chance = self._chance
        names = [self._name() for _ in range(chance.whole((longest + 1) // 3, longest))]
        looping = chance.often(self._traits.looping)
        tail = [self._name(), self._name()] if looping else []
        states: State = {}
        for index, own in enumerate(names):
            states[own] = self._state(own, names[index + 1 :] + tail[:1], depth)
        start = names[0]
        if looping:
            start = self._loop(states, start, *tail)
        return {"StartAt": start, "States": _reachable(start, states)}

    def _loop(self, states: State, first: str, step: str, again: str) -> str:
        """Go through the states two or three times; gives the state that begins it."""
        begin = self._name()
        zero, more, below = self._default.counter(f"c{begin}", self._chance.whole(2, 3))
        states[begin] = {"Type": "Pass", **zero, "Next": first}
        states[step] = {"Type": "Pass", **more, "Next": again}
        end = self._name()
        states[again] = {"Type": "Choice", "Choices": [{**below, "Next": first}], "Default": end}
        states[end] = {"Type": "Succeed"}
        return begin

    # -- states ----------------------------------------------------------------------------------------------------

    def _state(self, own: str, later: list[str], depth: int) -> State:
        kinds = {
            kind: weight
            for kind, weight in self._traits.kinds.items()
            if (later or kind != "Choice") and (depth or kind not in ("Parallel", "Map"))
        }
        kind = self._chance.weighted(kinds)
        state: State = {"Type": kind}
        fields = self._default
        if not self._all_jsonata and self._chance.often(self._traits.mixed):
            fields, state["QueryLanguage"] = self._jsonata, "JSONata"
        if kind not in ("Choice", "Succeed", "Fail"):
            state.update({"Next": self._onward(later)} if later else {"End": True})
        match kind:
            case "Pass":
                fields.common(own, state)
                if self._chance.often(40):
                    fields.result(state)
            case "Task":
                self._task(own, state, fields)
            case "Choice":
                self._choice(own, state, fields, later)
            case "Wait":
                self._wait(own, state, fields)
            case "Succeed":
                fields.input(state)
            case "Fail":
                fields.text(state, "Error", ERRORS)
                fields.text(state, "Cause", ("as written",))
            case "Parallel":
                half = max(1, self._traits.longest // 2)
                count = 1 + self._chance.weighted({1: 50, 0: 20, 2: 30})
                state["Branches"] = [self._container(depth - 1, half) for _ in range(count)]
                fields.common(own, state)
            case _:
                self._map(own, state, fields, depth)
        if kind in ("Task", "Parallel", "Map"):
            self._handlers(own, state, fields, later)
        return state

    def _onward(self, later: list[str]) -> str:
        """Mostly the next state; sometimes one is left out."""
        return later[0] if self._chance.often(85) else self._chance.pick(later)

    def _task(self, own: str, state: State, fields: Fields) -> None:
        chance = self._chance
        resource = state["Resource"] = chance.weighted(dict(self._traits.resources))
        fields.common(own, state)
        if resource == TOKEN:
            fields.callback(state)
        elif resource == INVOKE:
            fields.invocation(state)
        if chance.often(35):
            fields.seconds(state, "TimeoutSeconds", 2, 9)
        if chance.often(20):
            fields.seconds(state, "HeartbeatSeconds", 1, 1)
            if any(isinstance(state.get(f"{name}Seconds", ""), str) for name in ("Timeout", "Heartbeat")):
                state.pop("TimeoutSecondsPath", None)  # which of two computed ones is the longer, nobody knows
                state["TimeoutSeconds"] = 9
        if chance.often(10):
            state["Credentials"] = {"RoleArn": "arn:aws:iam::123456789012:role/r"}

    def _choice(self, own: str, state: State, fields: Fields, later: list[str]) -> None:
        chance = self._chance
        count = chance.whole(1, 3)
        state["Choices"] = [{**fields.rule(f"{own}x{n}"), "Next": chance.pick(later)} for n in range(count)]
        if chance.often(85):
            state["Default"] = chance.pick(later)
        fields.input(state)
        if chance.often(15):
            fields.assign(own, state)

    def _wait(self, own: str, state: State, fields: Fields) -> None:
        if self._chance.often(25):
            fields.moment(state)
        else:
            fields.seconds(state, "Seconds", 0, 5)
        fields.input(state)
        fields.assign(own, state)

    def _map(self, own: str, state: State, fields: Fields, depth: int) -> None:
        chance = self._chance
        processor = self._container(depth - 1, max(1, self._traits.longest // 2))
        if chance.often(self._traits.distributed):
            distribute(chance, own, state, self._with_variables(processor), fields)
            fields.common(own, state)
            return
        if chance.often(30):
            processor["ProcessorConfig"] = {"Mode": "INLINE"}
        state["Iterator" if chance.often(20) else "ItemProcessor"] = processor
        fields.items(own, state)
        if chance.often(70):
            fields.number(state, "MaxConcurrency", 3)
        if chance.often(10):
            fields.number(state, "ToleratedFailureCount", 2)
        if chance.often(10):
            fields.number(state, "ToleratedFailurePercentage", 100)
        fields.common(own, state)

    # -- errors ----------------------------------------------------------------------------------------------------

    def _handlers(self, own: str, state: State, fields: Fields, later: list[str]) -> None:
        chance = self._chance
        if chance.often(45):
            state["Retry"] = [self._retrier(names) for names in self._error_names()]
        if later and chance.often(45):
            state["Catch"] = [
                self._catcher(f"{own}x{number}", names, fields, later)
                for number, names in enumerate(self._error_names())
            ]

    def _error_names(self) -> list[list[str]]:
        """One to three lists of error names; States.ALL stands alone and last."""
        chance = self._chance
        drawn = [[chance.weighted(CATCHABLE) for _ in range(chance.whole(1, 2))] for _ in range(chance.whole(1, 3))]
        some = [sorted(set(names) - {"States.ALL"}) for names in drawn]
        found = [names for names in some if names]
        if any("States.ALL" in names for names in drawn):
            found.append(["States.ALL"])
        return found

    def _retrier(self, names: list[str]) -> State:
        chance = self._chance
        retrier: State = {"ErrorEquals": names}
        if chance.often(60):
            retrier["IntervalSeconds"] = chance.whole(1, 3)
        if chance.often(80):
            retrier["MaxAttempts"] = chance.whole(0, 3)
        if chance.often(50):
            retrier["BackoffRate"] = chance.pick((1.0, 1.5, 3))
        if chance.often(30):
            retrier["MaxDelaySeconds"] = chance.whole(4, 6)
        if chance.often(40):
            retrier["JitterStrategy"] = chance.pick(("FULL", "NONE"))
        return retrier

    def _catcher(self, own: str, names: list[str], fields: Fields, later: list[str]) -> State:
        catcher: State = {"ErrorEquals": names, "Next": self._chance.pick(later)}
        fields.catch(own, catcher)
        return catcher


def _reachable(start: str, states: State) -> State:
    """Only what can be reached: anything else is refused."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        at = waiting.pop()
        if at in found:
            continue
        found.add(at)
        state = cast("dict[str, Any]", states[at])
        rules = [*state.get("Catch", ()), *state.get("Choices", ()), state, {"Next": state.get("Default")}]
        waiting += [rule["Next"] for rule in rules if rule.get("Next")]
    return {own: state for own, state in states.items() if own in found}
