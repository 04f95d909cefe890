"""The fields of the random machines' states that read and write data, in JSONPath: Parameters to OutputPath, Assign, paths in
place of constants, choice rules, intrinsic functions.

Most of what they read is there: the execution's input, the context object, and the variables the first state sets. A few
read what is absent or of the wrong kind, so that the errors of evaluation are met as well.
"""

from __future__ import annotations

from typing import Any

from tests.properties.chance import Chance

State = dict[str, Any]

INPUT: State = {
    "n": 5,
    "items": [1, {"k": 2}, "three"],
    "few": ["a", "b"],
    "text": "abc",
    "when": "2026-01-02T03:04:07.5Z",
    "past": "2026-01-01T00:00:00Z",
    "flag": True,
    "error": "Broken",
    "seconds": 2,
    "half": 50,
    "deep": {"er": {"n": 1}},
}
"""What each execution is started with."""

VARIABLES = {"top.$": "$$.Execution.Input.n", "list.$": "$$.Execution.Input.items", "text.$": "States.UUID()"}
"""What the first state of each machine sets."""

READABLE = (
    "$",
    "$$.Execution.Input.n",
    "$top",
    "$list[1].k",
    "$$.State.EnteredTime",
    "$$.Execution.Name",
    "$$.Execution.RedriveCount",
    "$$.StateMachine.Name",
    "$$",
    "$list[*]",
    "$$.Execution.Input.items[0:2]",
    "$$.Execution.Input..n",
    "$$.Execution.Input.items[?(@.k == 2)]",
    "States.Format('{}-{}', $$.State.Name, $top)",
    "States.UUID()",
    "States.MathAdd($top, 1)",
    "States.MathRandom(0, 9)",
    "States.ArrayLength($list)",
    "States.ArrayPartition($list, 2)",
    "States.ArrayRange(0, $top, 2)",
    "States.ArrayContains($list, 1)",
    "States.ArrayGetItem($list, 0)",
    "States.ArrayUnique($list)",
    "States.Array($top, $text, 'x')",
    "States.JsonToString($$.Execution.Input.deep)",
    "States.StringToJson(States.Format('\\{\"n\": {}\\}', $top))",
    "States.JsonMerge($$.Execution.Input.deep, $$.Execution.Input.deep.er, false)",
    "States.Base64Encode($text)",
    "States.Base64Decode(States.Base64Encode('abc'))",
    "States.Hash($text, 'SHA-256')",
    "States.StringSplit('a,b', ',')",
)
"""What can be read anywhere."""
UNREADABLE: tuple[str, ...] = (
    "$.absent.path",
    "$absent",
    "States.ArrayLength($top)",
    "States.MathAdd($text, 1)",
    "$$.Task.Token",
)

TEXTS = ("$text", "$$.Execution.Input.error", "States.Format('{} times', $top)", "$$.State.Name")


class JsonPathFields:
    """Writes the data flow of states in JSONPath."""

    variables = VARIABLES

    def __init__(self, chance: Chance) -> None:
        self._chance = chance

    def template(self) -> Any:
        chance = self._chance
        made: State = {"fixed": chance.pick((1, "x", [1, 2], None))}
        for number in range(chance.whole(0, 2)):
            made[f"a{number}.$"] = self.reading()
        if chance.often(20):
            made["inner"] = {"list": [{"b.$": self.reading()}]}
        return made

    def reading(self) -> str:
        return self._chance.pick(UNREADABLE if self._chance.often(1) else READABLE)

    def common(self, own: str, state: State) -> None:
        """Fields of any state with a result."""
        chance = self._chance
        if chance.often(12):
            state["InputPath"] = self._input_path()
        if chance.often(40) and state["Type"] in ("Pass", "Task", "Parallel"):
            state["Parameters"] = self.template()
        if chance.often(15) and state["Type"] in ("Task", "Parallel", "Map"):
            state["ResultSelector"] = {"all.$": "$", "n.$": self.reading()}
        if chance.often(45):
            state["ResultPath"] = chance.weighted({"$.got": 50, None: 25, "$.a.b": 15, "$": 5, "$.items[0]": 1})
        self.output(state)
        self.assign(own, state)

    def output(self, state: State) -> None:
        if self._chance.often(8):
            state["OutputPath"] = self._chance.weighted({"$": 50, "$$.Execution.Input": 30, None: 12, "$.got": 8})

    def input(self, state: State) -> None:
        """Fields of a state without a result."""
        if self._chance.often(8):
            state["InputPath"] = self._input_path()
        self.output(state)

    def assign(self, own: str, state: State) -> None:
        chance = self._chance
        if chance.often(25):
            state["Assign"] = {f"v{own}.$": self.reading()}
            if chance.often(30):
                state["Assign"][f"w{own}"] = {"fixed": [own], "read.$": self.reading()}

    def _input_path(self) -> str | None:
        return self._chance.weighted({"$": 40, "$$.Execution.Input": 40, "$top": 10, None: 8, "$.absent": 2})

    def seconds(self, state: State, name: str, least: int, most: int) -> None:
        """A field in seconds: a constant, or the path to one."""
        chance = self._chance
        if chance.often(20):
            path = chance.weighted({"$$.Execution.Input.seconds": 90, "$top": 8, "$text": 1, "$.absent": 1})
            state[f"{name}Path"] = path
        else:
            state[name] = chance.whole(least, most)

    def number(self, state: State, name: str, most: int) -> None:
        if self._chance.often(20):
            state[f"{name}Path"] = self._chance.weighted({"$$.Execution.Input.seconds": 96, "$top": 3, "$text": 1})
        else:
            state[name] = self._chance.whole(0, most)

    def moment(self, state: State) -> None:
        if self._chance.often(40):
            state["TimestampPath"] = self._chance.weighted(
                {"$$.Execution.Input.when": 60, "$$.Execution.Input.past": 30, "$$.Execution.StartTime": 8, "$text": 2}
            )
        else:
            state["Timestamp"] = self._chance.pick(("2026-01-02T03:04:07Z", "2026-01-02T04:04:09.25+01:00"))

    def text(self, state: State, name: str, constants: tuple[str, ...]) -> None:
        if self._chance.often(25):
            state[f"{name}Path"] = "$top" if self._chance.often(3) else self._chance.pick(TEXTS)
        else:
            state[name] = self._chance.pick(constants)

    def items(self, own: str, state: State) -> None:
        """What a Map runs over, and what each iteration gets."""
        chance = self._chance
        state["ItemsPath"] = chance.weighted(
            {"$$.Execution.Input.items": 50, "$list": 25, "$$.Execution.Input.few": 24, "$.items": 2, "$text": 1}
        )
        if chance.often(40):
            name = "Parameters" if chance.often(25) else "ItemSelector"
            state[name] = self.item()

    parameters = "Parameters"
    """The field that holds the parameters of an action."""

    def read(self, name: str, path: str) -> tuple[str, str]:
        """A member of a template that holds what stands at this path of the context object."""
        return f"{name}.$", f"$$.{path}"

    def item(self) -> State:
        """Members of an ItemSelector."""
        return {"i.$": "$$.Map.Item.Index", "v.$": "$$.Map.Item.Value", "r.$": self.reading()}

    def distributed_items(self, state: State) -> None:
        """What a Distributed Map runs over."""
        state["ItemsPath"] = self._chance.weighted(
            {"$$.Execution.Input.items": 45, "$list": 20, "$$.Execution.Input.few": 25, "$.items": 2, "$text": 1}
        )

    def result(self, state: State) -> None:
        """The fixed result of a Pass."""
        state.pop("Parameters", None)
        state["Result"] = self._chance.pick(({"fixed": [1, 2]}, "text", [], None, 7))

    def callback(self, state: State) -> None:
        """The parameters of a task that waits for its token."""
        state["Parameters"] = {"QueueUrl": "http://q", "MessageBody.$": "$$.Task.Token"}

    def invocation(self, state: State) -> None:
        """The parameters of `lambda:invoke`."""
        state["Parameters"] = {"FunctionName": "f", "Payload.$": "$"}

    def catch(self, own: str, catcher: State) -> None:
        """Where a catcher puts the error, and what it sets."""
        chance = self._chance
        if chance.often(60):
            catcher["ResultPath"] = chance.weighted({"$": 20, "$.error": 40, "$.n.deeper": 5, None: 20, "$.a.b": 15})
        if chance.often(20):
            catcher["Assign"] = {f"e{own}.$": "$.Error"}

    def rule(self, own: str) -> State:
        """A choice rule, without Next."""
        chance = self._chance
        rule = self._condition(2)
        if chance.often(20):
            rule["Assign"] = {f"r{own}.$": self.reading()}
        return rule

    def _condition(self, depth: int) -> State:
        chance = self._chance
        if depth and chance.often(25):
            kind = chance.pick(("Not", "And", "Or"))
            if kind == "Not":
                return {"Not": self._condition(depth - 1)}
            return {kind: [self._condition(depth - 1) for _ in range(chance.whole(1, 2))]}
        name, operand = chance.pick(_OPERATORS)
        variable = "$.absent" if chance.often(1) else chance.pick(_VARIABLES)
        if name == "IsPresent":
            variable = chance.pick(("$.got", "$.absent", "$top"))
        return {"Variable": variable, name: operand}

    def counter(self, name: str, times: int) -> tuple[State, State, State]:
        """The fields of a Pass that sets a variable to 0, of one that adds 1, and a rule that is true below `times`."""
        return (
            {"Assign": {name: 0}},
            {"Assign": {f"{name}.$": f"States.MathAdd(${name}, 1)"}},
            {"Variable": f"${name}", "NumericLessThan": times},
        )


_VARIABLES = ("$top", "$text", "$list[0]", "$$.Execution.Input.flag", "$$.Execution.Input.when", "$$.State.Name")
_OPERATORS: tuple[tuple[str, Any], ...] = (
    ("NumericGreaterThan", 4),
    ("NumericLessThanEquals", 4.5),
    ("NumericEqualsPath", "$$.Execution.Input.n"),
    ("StringEquals", "abc"),
    ("StringMatches", "*b*"),
    ("StringLessThanPath", "$text"),
    ("BooleanEquals", True),
    ("TimestampGreaterThan", "2026-01-02T03:04:06Z"),
    ("TimestampLessThanEqualsPath", "$$.Execution.StartTime"),
    ("IsPresent", True),
    ("IsNull", False),
    ("IsNumeric", True),
    ("IsString", False),
    ("IsBoolean", True),
    ("IsTimestamp", True),
)
