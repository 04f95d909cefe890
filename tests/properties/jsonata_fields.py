"""The fields of the random machines' states in JSONata: Arguments, Output, Assign, Items, Condition, and expressions in place of
constants. As `fields` does it for JSONPath, and with the same methods."""

from __future__ import annotations

from typing import Any

from tests.properties.chance import Chance
from tests.properties.fields import State

VARIABLES = {
    "top": "{% $states.context.Execution.Input.n %}",
    "list": "{% $states.context.Execution.Input.items %}",
    "text": "{% $uuid() %}",
}
"""What the first state of each machine sets."""

READABLE = (
    "$states.input",
    "$top",
    "$states.context.Execution.Input.n",
    "$list[1].k",
    "$states.context.State.EnteredTime",
    "$states.context.Execution.Name",
    "$states.context.Execution.RedriveCount",
    "$states.context",
    "$top + 1",
    "$top > 3 ? 'big' : 'small'",
    "$states.context.State.Name & '-' & $top",
    "$uuid()",
    "$random()",
    "$now()",
    "$millis()",
    "$count($list)",
    "$partition($list, 2)",
    "$range(0, $top, 2)",
    "$string($states.context.Execution.Input.deep)",
    "$parse('{\"n\": 1}')",
    "$hash($text, 'SHA-256')",
    "$split('a,b', ',')",
    "$sum([1, 2.5, $top])",
    "$merge([$states.context.Execution.Input.deep, {'b': $top}])",
    "$list[k = 2]",
    "$map($list, function($v, $i) {{'v': $v, 'i': $i}})",
    "($x := $top * 2; [$x, $x + 1])",
    "$exists($states.input.got)",
)
"""What can be read anywhere."""
UNREADABLE = ("$states.input.absent.path", "$absent", "$number('x')", "$error('on purpose')")

TEXTS = ("$text", "$states.context.Execution.Input.error", "$top & ' times'", "$states.context.State.Name")


def written(expression: str) -> str:
    return f"{{% {expression} %}}"


class JsonataFields:
    """Writes the data flow of states in JSONata."""

    variables = VARIABLES

    def __init__(self, chance: Chance) -> None:
        self._chance = chance

    def template(self) -> Any:
        chance = self._chance
        made: State = {"fixed": chance.pick((1, "x", [1, 2], None))}
        for number in range(chance.whole(0, 2)):
            made[f"a{number}"] = self.reading()
        if chance.often(20):
            made["inner"] = {"list": [{"b": self.reading()}, self.reading()]}
        return made

    def reading(self) -> str:
        return written(self._chance.pick(UNREADABLE if self._chance.often(1) else READABLE))

    def common(self, own: str, state: State) -> None:
        """Fields of any state with a result."""
        chance = self._chance
        if chance.often(40) and state["Type"] in ("Task", "Parallel"):
            state["Arguments"] = self.template()
        if chance.often(45):
            has_result = state["Type"] != "Pass"
            whole = written("$states.result") if has_result else self.reading()
            state["Output"] = self.template() if chance.often(60) else whole
        self.assign(own, state)

    def input(self, state: State) -> None:
        """Fields of a state without a result."""
        if self._chance.often(12):
            state["Output"] = self.template()

    def result(self, state: State) -> None:
        """A Pass has no Result in JSONata; its Output stands for it."""
        state["Output"] = self._chance.pick(({"fixed": [1, 2]}, "text", [], None, 7))

    def assign(self, own: str, state: State) -> None:
        chance = self._chance
        if chance.often(25):
            state["Assign"] = {f"v{own}": self.reading()}
            if chance.often(30):
                state["Assign"][f"w{own}"] = {"fixed": [own], "read": self.reading()}

    def seconds(self, state: State, name: str, least: int, most: int) -> None:
        chance = self._chance
        if chance.often(20):
            computed = {"$states.context.Execution.Input.seconds": 90, "$top": 8, "$text": 1, "$absent": 1}
            state[name] = written(chance.weighted(computed))
        else:
            state[name] = chance.whole(least, most)

    def number(self, state: State, name: str, most: int) -> None:
        if self._chance.often(20):
            computed = {"$states.context.Execution.Input.seconds": 96, "$top": 3, "$text": 1}
            state[name] = written(self._chance.weighted(computed))
        else:
            state[name] = self._chance.whole(0, most)

    def moment(self, state: State) -> None:
        if self._chance.often(40):
            input = "$states.context.Execution.Input"
            computed = {f"{input}.when": 60, f"{input}.past": 30, "$states.context.Execution.StartTime": 8, "$text": 2}
            state["Timestamp"] = written(self._chance.weighted(computed))
        else:
            state["Timestamp"] = self._chance.pick(("2026-01-02T03:04:07Z", "2026-01-02T04:04:09.25+01:00"))

    def text(self, state: State, name: str, constants: tuple[str, ...]) -> None:
        if self._chance.often(25):
            state[name] = written("$top" if self._chance.often(3) else self._chance.pick(TEXTS))
        else:
            state[name] = self._chance.pick(constants)

    def items(self, own: str, state: State) -> None:
        """What a Map runs over, and what each iteration gets."""
        chance = self._chance
        computed = {
            "$states.context.Execution.Input.items": 40, "$list": 20, "$states.context.Execution.Input.few": 20,
            "[$random(), $uuid()]": 10, "$append($list, $top)": 8, "$text": 1, "$absent": 1,
        }  # fmt: skip
        state["Items"] = [1, written("$top")] if chance.often(10) else written(chance.weighted(computed))
        if chance.often(40):
            state["ItemSelector"] = self.item()

    parameters = "Arguments"
    """The field that holds the arguments of an action."""

    def read(self, name: str, path: str) -> tuple[str, str]:
        """A member of a template that holds what stands at this path of the context object."""
        return name, written(f"$states.context.{path}")

    def item(self) -> State:
        """Members of an ItemSelector."""
        return dict([self.read("i", "Map.Item.Index"), self.read("v", "Map.Item.Value"), ("r", self.reading())])

    def distributed_items(self, state: State) -> None:
        """What a Distributed Map runs over: an object, too."""
        input = "$states.context.Execution.Input"
        computed = {
            f"{input}.items": 40,
            "$list": 15,
            f"{input}.few": 20,
            f"{input}.deep": 15,
            "[$uuid(), $random()]": 8,
            "$top": 2,
        }
        state["Items"] = written(self._chance.weighted(computed))

    def callback(self, state: State) -> None:
        """The arguments of a task that waits for its token."""
        state["Arguments"] = {"QueueUrl": "http://q", "MessageBody": written("$states.context.Task.Token")}

    def invocation(self, state: State) -> None:
        """The arguments of `lambda:invoke`."""
        state["Arguments"] = {"FunctionName": "f", "Payload": written("$states.input")}

    def catch(self, own: str, catcher: State) -> None:
        """What a catcher hands on and sets."""
        chance = self._chance
        if chance.often(50):
            catcher["Output"] = {"why": written("$states.errorOutput"), "was": written("$states.input")}
        if chance.often(20):
            catcher["Assign"] = {f"e{own}": written("$states.errorOutput.Error")}

    def rule(self, own: str) -> State:
        """A choice rule, without Next."""
        chance = self._chance
        rule: State = {"Condition": True if chance.often(5) else written(chance.pick(_CONDITIONS))}
        if chance.often(1):
            rule["Condition"] = written(chance.pick(("$absent > 1", "$error('no')", "$top")))
        if chance.often(20):
            rule["Assign"] = {f"r{own}": self.reading()}
        if chance.often(10):
            rule["Output"] = self.template()
        return rule

    def counter(self, name: str, times: int) -> tuple[State, State, State]:
        """The fields of a Pass that sets a variable to 0, of one that adds 1, and a rule that is true below `times`."""
        return (
            {"Assign": {name: 0}},
            {"Assign": {name: written(f"${name} + 1")}},
            {"Condition": written(f"${name} < {times}")},
        )


_CONDITIONS = (
    "$top > 4",
    "$top <= 4.5",
    "$top = $states.context.Execution.Input.n",
    "$text = 'abc'",
    "$exists($states.input.got)",
    "$states.context.Execution.Input.flag and $count($list) > 2",
    "$not($states.context.Execution.Input.flag)",
    "$toMillis($states.context.Execution.Input.when) > 0 or false",
)
