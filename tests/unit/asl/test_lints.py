"""Each lint says what is surely wrong, and is silent about what may be right."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stepwell.engine.asl.diagnostics import Diagnostic, Severity
from stepwell.engine.asl.document import examine
from tests.unit.asl.definitions import FUNCTION

ACTIVITY = "arn:aws:states:us-east-1:123456789012:activity:a"
TOKEN = "arn:aws:states:::aws-sdk:sqs:sendMessage.waitForTaskToken"
TASK = {"Type": "Task", "Resource": FUNCTION}


def findings(
    states: dict[str, Any], start: str | None = None, target: str = "stepwell", **fields: Any
) -> list[Diagnostic]:
    definition = {"StartAt": start or next(iter(states)), "States": states, **fields}
    found = examine(json.dumps(definition), target=target).findings
    assert [one for one in found if one.severity is Severity.ERROR] == []
    assert all(one.line == 1 for one in found)
    return found


def codes(
    states: dict[str, Any], start: str | None = None, target: str = "stepwell", **fields: Any
) -> list[tuple[str, str | None]]:
    return [(one.code.value, one.location) for one in findings(states, start, target, **fields)]


def jsonata(states: dict[str, Any], target: str = "stepwell") -> list[tuple[str, str | None]]:
    return codes(states, target=target, QueryLanguage="JSONata")


def ends(**fields: Any) -> dict[str, Any]:
    return {"Type": "Pass", "End": True, **fields}


def leads(to: str, **fields: Any) -> dict[str, Any]:
    return {"Type": "Pass", "Next": to, **fields}


# Paths


@pytest.mark.parametrize("path", ("$.a[", "$.a[0][", "$$.Execution["))
def test_ends_of_paths_that_are_ignored(path: str) -> None:
    assert codes({"A": ends(InputPath=path)}) == [("ignored-path-end", "/States/A/InputPath")]
    assert codes({"A": ends(Parameters={"b": {"c.$": path}})}) == [("ignored-path-end", "/States/A/Parameters/b/c.$")]


@pytest.mark.parametrize("path", ("$", "$.a", "$.a[0]", "$['a[']", "$['a.']"))
def test_ends_of_paths_that_mean_something(path: str) -> None:
    assert codes({"A": ends(InputPath=path, Parameters={"a": "[$.", "b.$": "States.Format('$.[{}', $.a)"})}) == []


def test_only_paths_are_looked_at_for_their_ends() -> None:
    rule = {"Variable": "$.a", "StringEquals": "$5.", "Next": "B"}
    assert codes({"A": {"Type": "Choice", "Choices": [rule]}, "B": ends(Result="$.a[")}) == []


@pytest.mark.parametrize(
    ("path", "name"),
    (("$.a.b'c-d']", "b'c-d']"), ("$.a]", "a]"), ('$.a[0].b"c', 'b"c'), ("$$.Execution.Input.x']", "x']")),
)
def test_brackets_that_are_missing(path: str, name: str) -> None:
    (found,) = findings({"A": ends(InputPath=path)})
    assert (found.code, found.location) == ("odd-name", "/States/A/InputPath")
    assert f"'{name}'" in found.message


@pytest.mark.parametrize("path", ("$.a['b']", "$['a\"b'].c", "$.a[?(@.b=='c]')]", "$.a[0]['b'].c", "$..a"))
def test_brackets_that_are_there(path: str) -> None:
    assert codes({"A": ends(InputPath=path)}) == []


# The context object


@pytest.mark.parametrize(
    ("text", "hint"),
    (
        ("$$.Exection.Id", "Did you mean 'Execution'?"),
        ("$$.Execution.Idd", "Did you mean 'Id'?"),
        ("States.Format('{}', $$.State.Title)", "It has EnteredTime, Name, RetryCount."),
        ("$$.Execution.Id.x", "It has no fields."),
    ),
)
def test_what_the_context_object_has_not(text: str, hint: str) -> None:
    (found,) = findings({"A": ends(Parameters={"x.$": text})})
    assert (found.code, found.location, found.hint) == ("impossible-path", "/States/A/Parameters/x.$", hint)


@pytest.mark.parametrize(
    "text",
    (
        "$$",
        "$$.Execution",
        "$$.Execution.Input.anything.there",
        "$$.Map.Item.Value.x",
        "$$['Execution'].Id",
        "$$.Execution['Nope']",
        "States.Format('$$.Nope {}', $$.Execution.Name)",
    ),
)
def test_what_the_context_object_has(text: str) -> None:
    assert codes({"A": ends(Parameters={"x.$": text})}) == []


@pytest.mark.parametrize(
    "text", ("$states.inpt.a", "$states.context.Exection.Id", "$count($states.context.State.Title)", "$states . output")
)
def test_what_states_has_not(text: str) -> None:
    assert jsonata({"A": ends(Output=f"{{% {text} %}}")}) == [("impossible-path", "/States/A/Output")]


@pytest.mark.parametrize(
    "text",
    ("$states", "$states.input.any", "$states.context.Execution.Input.x", "'$states.nope'", "/* $states.nope */ 1"),
)
def test_what_states_has(text: str) -> None:
    assert jsonata({"A": ends(Output=f"{{% {text} %}}")}) == []


def test_a_task_that_has_no_token() -> None:
    told = {"Parameters": {"FunctionName": "f", "Payload": {"t.$": "$$.Task.Token"}}, "TimeoutSeconds": 5, "End": True}
    task = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", **told}
    assert codes({"A": task}) == [("impossible-path", "/States/A/Parameters/Payload/t.$")]
    assert codes({"A": {**task, "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken"}}) == []
    assert codes({"A": {**task, "Resource": "${Function}"}}) == [("STEPWELL_PLACEHOLDER", "/States/A/Resource")]
    assert codes({"A": ends(Parameters={"t.$": "$$.Task.Token"})}) == [("impossible-path", "/States/A/Parameters/t.$")]


@pytest.mark.parametrize(
    ("parameters", "told"),
    (
        ({"t.$": "$$.Task.Token"}, True),
        ({"t.$": "$$.Task"}, True),
        ({"t.$": "$$"}, True),
        ({"t.$": "States.Format('{}', $$.Task.Token)"}, True),
        ({"t.$": "$$['Task'].Token"}, True),
        ({"t.$": "$$.*"}, True),
        ({"t.$": "$$..Token"}, True),
        ({"t.$": "States.Format('${Url}?token={}', $$.Task.Token)"}, True),
        ({"a": [{"t.$": {"Fn::Sub": "States.Format('${Url}?token={}', $$.Task.Token)"}}]}, True),
        ("${Parameters}", True),
        ({"t": "told: $$.Task.Token"}, False),
        ({"t.$": "States.Format('${Url}', $$.Execution.Id)"}, False),
        ({"t.$": "$.token"}, False),
        ({"t.$": "$$.Execution.Id"}, False),
    ),
)
def test_a_token_that_nobody_is_told(parameters: Any, told: bool) -> None:
    task = {"Type": "Task", "Resource": TOKEN, "Parameters": parameters, "TimeoutSeconds": 5, "End": True}
    found = codes({"A": task}, target="aws")
    assert [one for one in found if one[0] != "STEPWELL_PLACEHOLDER"] == [("token-not-told", "/States/A")] * (not told)


@pytest.mark.parametrize(
    ("text", "told"),
    (
        ("$states.context.Task.Token", True),
        ("$states.context", True),
        ("$states.context.*.Token", True),
        ("$states.context.{'t': Task.Token}", True),
        ("$states.`context`.Task.Token", True),
        ("$replace('a', /'/, '') & $states.context.Task.Token", True),
        ("'${Url}' & $states.context.Task.Token", True),
        ("$states.input.t", False),
    ),
)
def test_a_token_that_nobody_is_told_in_jsonata(text: str, told: bool) -> None:
    task = {"Type": "Task", "Resource": TOKEN, "Arguments": {"t": f"{{% {text} %}}"}, "TimeoutSeconds": 5, "End": True}
    found = codes({"A": task}, target="aws", QueryLanguage="JSONata")
    assert [one for one in found if one[0] != "STEPWELL_PLACEHOLDER"] == [("token-not-told", "/States/A")] * (not told)


# Text that is not computed


@pytest.mark.parametrize(
    ("value", "where"),
    (
        ({"a.$": "$.x"}, "/a.$"),
        ({"a": ["$.x"]}, "/a[0]"),
        ("$states.input.x", ""),
        ("States.UUID()", ""),
        ("Order {% $states.input.id %}!", ""),
    ),
)
def test_text_in_jsonata_that_looks_computed(value: Any, where: str) -> None:
    assert jsonata({"A": ends(Output=value)}) == [("not-computed", f"/States/A/Output{where}")]


@pytest.mark.parametrize("value", ("$5.00", "{% $states.input.x %}", "a $ b", {"a": "States of mind"}, "100 %"))
def test_text_in_jsonata_that_is_text(value: Any) -> None:
    assert jsonata({"A": ends(Output=value)}) == []


EVENTS = "arn:aws:states:::aws-sdk:eventbridge:putTargets"


@pytest.mark.parametrize(
    ("resource", "value", "where"),
    (
        (EVENTS, {"Targets": [{"InputPath": "$.detail"}]}, []),
        (EVENTS, {"InputTransformer": {"InputPathsMap": {"id": "$.detail.id"}}}, []),
        (EVENTS, {"Input": "$.detail"}, ["/Input"]),
        (FUNCTION, {"imagePath": "$.image"}, ["/imagePath"]),
    ),
)
def test_paths_that_are_for_the_service_which_is_called(resource: str, value: Any, where: list[str]) -> None:
    states = {"A": ends(Type="Task", Resource=resource, Arguments=value)}
    found = [place for code, place in jsonata(states, target="aws") if code == "not-computed"]
    assert found == [f"/States/A/Arguments{one}" for one in where]


INNER = {"StartAt": "X", "States": {"X": {"Type": "Pass", "Parameters": {"a.$": "$.x"}, "End": True}}}


@pytest.mark.parametrize(
    "definition", (INNER, '{"StartAt": "X", "States": {"X": {"Type": "Succeed", "Output": "{% $states.input %}"}}}')
)
def test_a_definition_within_what_is_handed_on_is_not_looked_into(definition: Any) -> None:
    assert jsonata({"A": ends(Output={"Definition": definition})}) == []


def test_expressions_in_jsonpath() -> None:
    assert codes({"A": ends(Parameters={"a": "{% 1 %}"})}) == [("not-computed", "/States/A/Parameters/a")]
    assert codes({"A": {"Type": "Fail", "Cause": "{% 1 %}"}}) == [("not-computed", "/States/A/Cause")]
    assert codes({"A": ends(Comment="{% 1 %}")}) == []


@pytest.mark.parametrize(
    ("call", "why"),
    (
        ("States.Format('{} {}', $.a)", "2"),
        ("States.Format('none', $.a)", "0"),
        ("States.Hash($.a, 'MD6')", "algorithm"),
        ("States.ArrayPartition($.a, 0)", "chunk size"),
        ("States.ArrayRange(1, 9, 0)", "step"),
        ("States.JsonMerge($.a, $.b, true)", "third argument"),
        ("States.Array(States.MathRandom(9, 1))", "start"),
        ("States.ArrayLength('text')", "array"),
        ("States.StringToJson('{')", "States.StringToJson"),
    ),
)
def test_calls_that_fail_every_time(call: str, why: str) -> None:
    (found,) = findings({"A": ends(Parameters={"x.$": call})})
    assert (found.code, found.location) == ("failing-call", "/States/A/Parameters/x.$")
    assert why in found.message


@pytest.mark.parametrize(
    "call",
    (
        "States.Format('{} {}', $.a, $.b)",
        "States.Format($.template, $.a)",
        "States.Format('\\{}')",
        "States.Hash($.a, 'SHA-256')",
        "States.ArrayRange($.a, 5000, 1)",
        "States.ArrayGetItem($.a, 9)",
        "States.JsonMerge($.a, $.b, false)",
        "States.MathRandom(1, 9)",
        "States.UUID()",
        "States.Array(1, 'a', null)",
        "States.StringToJson('{}')",
    ),
)
def test_calls_that_may_go_well(call: str) -> None:
    assert codes({"A": ends(Parameters={"x.$": call})}) == []


# Loops


def choice(to: str, default: str | None) -> dict[str, Any]:
    rules = [{"Variable": "$.a", "IsPresent": True, "Next": to}]
    return {"Type": "Choice", "Choices": rules, **({} if default is None else {"Default": default})}


def test_a_loop_that_nothing_leads_out_of() -> None:
    states = {"A": choice("Z", "B"), "B": leads("C"), "C": leads("B"), "Z": ends()}
    (found,) = findings(states)
    assert (found.code, found.location) == ("no-way-out", "/States/B")
    assert "'B', 'C'" in found.message


@pytest.mark.parametrize(
    "states",
    (
        {"A": choice("Z", "B"), "B": leads("A"), "Z": ends()},
        {"A": choice("Z", "B"), "B": choice("B", None), "Z": ends()},
        {
            "A": choice("Z", "B"),
            "B": {**TASK, "Next": "B", "Catch": [{"ErrorEquals": ["X"], "Next": "Z"}]},
            "Z": ends(),
        },
    ),
)
def test_loops_that_something_leads_out_of(states: dict[str, Any]) -> None:
    assert codes(states) == []


def test_a_loop_in_a_branch() -> None:
    branch = {"StartAt": "B", "States": {"B": choice("C", "D"), "C": leads("C"), "D": ends()}}
    assert codes({"A": {"Type": "Parallel", "Branches": [branch], "End": True}}) == [
        ("no-way-out", "/States/A/Branches[0]/States/C")
    ]


# Choice rules


def rules(*given: dict[str, Any], default: bool = True, **fields: Any) -> list[tuple[str, str | None]]:
    state = {
        "Type": "Choice",
        "Choices": [{**rule, "Next": "Z"} for rule in given],
        **({"Default": "Z"} if default else {}),
    }
    return codes({"A": state, "Z": {"Type": "Succeed"}}, **fields)


def test_rules_that_ask_what_another_has_asked() -> None:
    one = {"Variable": "$.a", "NumericEquals": 1}
    assert rules(one, {"NumericEquals": 2, "Variable": "$.a"}) == []
    assert rules(one, {"NumericEquals": 1, "Variable": "$.a", "Comment": "again"}) == [
        ("unreachable-rule", "/States/A/Choices[1]")
    ]


@pytest.mark.parametrize("always", (True, "{% true %}"))
def test_rules_after_one_that_always_matches(always: Any) -> None:
    asks = {"Condition": "{% $states.input.a %}"}
    jsonata_too: dict[str, Any] = {"QueryLanguage": "JSONata", "default": False}
    assert rules(asks, {"Condition": always}, **jsonata_too) == []
    assert rules({"Condition": always}, asks, **jsonata_too) == [("unreachable-rule", "/States/A/Choices[1]")]
    assert rules({"Condition": always}, QueryLanguage="JSONata") == [("unreachable-rule", "/States/A/Default")]


def test_rules_that_ask_chance_or_the_clock_may_get_another_answer() -> None:
    half = {"Condition": "{% $random() < 0.5 %}"}
    assert rules(half, half, QueryLanguage="JSONata") == []


def test_rules_that_are_still_to_be_filled_in_may_differ() -> None:
    state = {"Type": "Choice", "Choices": [{"Ref": "P"}, {"Ref": "P"}], "Default": "Z"}
    assert "unreachable-rule" not in [code for code, _ in codes({"A": state, "Z": {"Type": "Succeed"}})]


# Functions of JSONata


@pytest.mark.parametrize(
    ("text", "hint"), (("$summ([1])", "'$sum'"), ("$lenght ('a')", "'$length'"), ("$qqqq()", "AWS's"))
)
def test_functions_that_do_not_exist(text: str, hint: str) -> None:
    (found,) = findings({"A": ends(Output=f"{{% {text} %}}")}, QueryLanguage="JSONata")
    assert (found.code, found.location) == ("unassigned-variable", "/States/A/Output")
    assert found.message.startswith("There is no function '$")
    assert hint in (found.hint or "")


def test_eval_does_not_exist() -> None:
    assert jsonata({"A": ends(Output="{% $eval('1 + 1') %}")}) == [("failing-call", "/States/A/Output")]
    assert jsonata({"A": ends(Output="{% '$eval(1)' %}")}) == []


# Integrations


@pytest.mark.parametrize(
    ("name", "hint"),
    (
        ("state:startExecution.sync:2", "Did you mean 'states'?"),
        ("lambda:invokes", "Did you mean 'invoke'?"),
        ("sqs:sendMessage.sync", "It can end with '.waitForTaskToken'."),
        ("dynamodb:getItem.sync", "Write it without."),
        ("dynamodb:query", "It has getItem, putItem, deleteItem, updateItem; others are called by aws-sdk:."),
        ("aws-sdk:s3:GetObject", "Write aws-sdk:s3:getObject."),
        ("aws-sdk:DynamoDB:query", "Write aws-sdk:dynamodb:query."),
        ("route53:listHostedZones", "Other actions of AWS are called as aws-sdk:<service>:<action>."),
    ),
)
@pytest.mark.parametrize("target", ("stepwell", "aws"))
def test_integrations_that_do_not_exist(name: str, hint: str, target: str) -> None:
    task = {"Type": "Task", "Resource": f"arn:aws:states:::{name}", "End": True}
    (found,) = findings({"A": task}, target=target)
    assert (found.code, found.location, found.hint) == ("unknown-integration", "/States/A/Resource", hint)


@pytest.mark.parametrize(
    ("name", "carried_out"),
    (
        ("lambda:invoke", True),
        ("http:invoke", True),
        ("sqs:sendMessage", False),
        ("aws-sdk:s3:getObject", False),
        ("states:startExecution.sync:2", False),
    ),
)
def test_services_that_only_aws_carries_out(name: str, carried_out: bool) -> None:
    task = {"Type": "Task", "Resource": f"arn:aws:states:::{name}", "End": True}
    assert codes({"A": task}) == [("unsupported-service", "/States/A/Resource")] * (not carried_out)
    assert codes({"A": task}, target="aws") == []


def test_a_pattern_that_only_stepwell_has() -> None:
    given = {"ApiEndpoint": "https://example.com", "Method": "POST", "RequestBody": {"t.$": "$$.Task.Token"}}
    told = {"Parameters": given, "TimeoutSeconds": 5, "End": True}
    task = {"Type": "Task", "Resource": "arn:aws:states:::http:invoke.waitForTaskToken", **told}
    assert codes({"A": task}) == []
    assert codes({"A": task}, target="aws") == [("unknown-integration", "/States/A/Resource")]


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    (
        ("lambda:invoke", {"Payload.$": "$"}, "'lambda:invoke' cannot do without FunctionName"),
        ("lambda:invoke", {"FunctionName.$": "$.f", "PayLoad": 1}, "'lambda:invoke' has no parameter 'PayLoad'"),
        ("http:invoke", {}, "'http:invoke' cannot do without ApiEndpoint and Method"),
        ("http:invoke", {"ApiEndpoint": "x", "Method": "GET", "Body": 1}, "'http:invoke' has no parameter 'Body'"),
        ("sqs:sendMessage", {"QueueUrl": "x"}, "'sqs:sendMessage' cannot do without MessageBody"),
    ),
)
def test_parameters_that_a_call_needs_or_has_not(name: str, parameters: dict[str, Any], said: str) -> None:
    task = {"Type": "Task", "Resource": f"arn:aws:states:::{name}", "Parameters": parameters, "End": True}
    (found,) = findings({"A": task}, target="aws")
    assert (found.code, found.location, found.message) == ("wrong-parameters", "/States/A/Parameters", said)


def test_parameters_that_are_right_or_may_be() -> None:
    resource = {"Resource": "arn:aws:states:::lambda:invoke", "Type": "Task", "End": True}
    for parameters in ({"FunctionName": "f", "Payload.$": "$"}, {"Fn::Transform": "x"}, "$.all"):
        found = codes({"A": {**resource, "Parameters": parameters}})
        assert [one for one in found if one[0] == "wrong-parameters"] == []
    assert codes({"A": resource}) == []
    assert jsonata({"A": {**resource, "Arguments": "{% $states.input %}"}}) == []
    assert jsonata({"A": {**resource, "Arguments": {"Payload": 1}}}) == [("wrong-parameters", "/States/A/Arguments")]


# Error names, Retry and Catch


def with_names(field: str, *names: list[str]) -> list[tuple[str, str | None]]:
    more = {} if field == "Retry" else {"Next": "B"}
    task = {**TASK, "Next": "B", field: [{"ErrorEquals": each, **more} for each in names]}
    return codes({"A": task, "B": {"Type": "Succeed"}})


@pytest.mark.parametrize("name", ("States.Timout", "States.timeout", "States.Mine", "States."))
def test_error_names_that_do_not_exist(name: str) -> None:
    assert with_names("Retry", [name]) == [("unknown-error-name", "/States/A/Retry[0]/ErrorEquals[0]")]


@pytest.mark.parametrize(
    "name",
    ("States.Timeout", "States.Http.Socket", "States.Http.StatusCode.429", "Mine", "Lambda.Unknown", "states.timeout"),
)
def test_error_names_that_do_or_may_exist(name: str) -> None:
    assert with_names("Catch", [name]) == []


def test_a_near_name_is_suggested() -> None:
    (found,) = findings({"A": {**TASK, "Retry": [{"ErrorEquals": ["States.TimeOut"]}], "End": True}})
    assert found.hint == "Did you mean 'States.Timeout'?"


@pytest.mark.parametrize("field", ("Retry", "Catch"))
@pytest.mark.parametrize(
    "names",
    (
        (["X"], ["X"]),
        (["X", "Y"], ["Y", "X"]),
        (["States.TaskFailed"], ["Mine"]),
        (["X"], ["States.TaskFailed"], ["X", "Y"]),
    ),
)
def test_entries_that_nothing_reaches(field: str, names: tuple[list[str], ...]) -> None:
    code = "unreachable-retrier" if field == "Retry" else "unreachable-catcher"
    assert with_names(field, *names) == [(code, f"/States/A/{field}[{len(names) - 1}]")]


@pytest.mark.parametrize(
    "names",
    (
        (["X"], ["Y"], ["States.ALL"]),
        (["X"], ["X", "Y"]),
        (["States.TaskFailed"], ["States.Timeout"]),
        (["Mine"], ["States.TaskFailed"]),
        (["States.Timeout"], ["States.HeartbeatTimeout"]),
    ),
)
def test_entries_that_something_reaches(names: tuple[list[str], ...]) -> None:
    assert with_names("Retry", *names) == with_names("Catch", *names) == []


# Times


@pytest.mark.parametrize(("heartbeat", "timeout", "wrong"), ((60, 60, True), (90, 60, True), (20, 60, False)))
def test_heartbeats(heartbeat: int, timeout: int, wrong: bool) -> None:
    found = codes({"A": {**TASK, "HeartbeatSeconds": heartbeat, "TimeoutSeconds": timeout, "End": True}})
    assert found == [("heartbeat-too-long", "/States/A/HeartbeatSeconds")] * wrong


@pytest.mark.parametrize("resource", (ACTIVITY, TOKEN))
def test_tasks_that_would_wait_for_years(resource: str) -> None:
    task = {"Type": "Task", "Resource": resource, "Parameters": {"token.$": "$$.Task.Token"}, "End": True}
    assert codes({"A": task}, target="aws") == [("unbounded-task", "/States/A")]
    assert codes({"A": task}, target="aws", TimeoutSeconds=60) == []
    for field, value in (("TimeoutSeconds", 5), ("HeartbeatSeconds", 5), ("TimeoutSecondsPath", "$.t")):
        assert codes({"A": {**task, field: value}}, target="aws") == []


@pytest.mark.parametrize("resource", (FUNCTION, "arn:aws:states:::lambda:invoke", "celery:x"))
def test_tasks_that_end_by_themselves(resource: str) -> None:
    assert codes({"A": {"Type": "Task", "Resource": resource, "End": True}}) == []


# Variables


def test_a_variable_that_nothing_assigns() -> None:
    (found,) = findings({"A": ends(Parameters={"x": {"y.$": "$order.id"}})})
    assert (found.code, found.location) == ("unassigned-variable", "/States/A/Parameters/x/y.$")
    assert "$order" in found.message


@pytest.mark.parametrize(
    "text", ("$", "$.a", "$$.Execution.Id", "$['a']", "States.Format('$a {}', $.b)", "States.Array('it\\'s $c')")
)
def test_what_is_no_variable(text: str) -> None:
    assert codes({"A": ends(Parameters={"x.$": text})}) == []


def test_intrinsic_functions_read_variables() -> None:
    assert codes({"A": ends(Parameters={"x.$": "States.Format('{}', $n)"})}) == [
        ("unassigned-variable", "/States/A/Parameters/x.$")
    ]


def test_assigned_on_one_way_is_enough() -> None:
    choice = {
        "Type": "Choice",
        "Choices": [{"Variable": "$.a", "IsPresent": True, "Next": "B", "Assign": {"v": 1}}],
        "Default": "C",
    }
    assert codes({"A": choice, "B": ends(OutputPath="$v"), "C": ends(Assign={"v": 1})}) == []
    assert codes({"A": choice, "B": leads("C"), "C": ends(OutputPath="$v")}) == []


def test_the_assign_of_a_choice_state_is_for_its_default() -> None:
    choice = {
        "Type": "Choice",
        "Choices": [{"Variable": "$.a", "IsNull": True, "Next": "B"}],
        "Default": "C",
        "Assign": {"v": 1},
    }
    states = {"A": choice, "B": ends(OutputPath="$v"), "C": ends(OutputPath="$v")}
    assert codes(states) == [("unassigned-variable", "/States/B/OutputPath")]


def test_a_state_does_not_see_its_own_assignments() -> None:
    assert codes({"A": ends(Assign={"v": 1, "w.$": "$v"})}) == [("unassigned-variable", "/States/A/Assign/w.$")]
    loop = {"A": leads("B", Assign={"v.$": "$v"}), "B": leads("A")}
    assert codes({**loop, "B": {**loop["B"], "Next": "C"}, "C": ends()}) == [
        ("unassigned-variable", "/States/A/Assign/v.$")
    ]


def test_a_loop_brings_back_what_it_assigns() -> None:
    choice = {
        "Type": "Choice",
        "Choices": [{"Variable": "$.a", "IsPresent": True, "Next": "C"}],
        "Default": "B",
    }
    states = {"A": choice, "B": leads("A", Assign={"v": 1}), "C": ends(OutputPath="$v")}
    assert codes(states) == []


def test_catchers_assign_for_where_they_lead() -> None:
    task = {**TASK, "Next": "B", "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "C", "Assign": {"e.$": "$.Error"}}]}
    states = {"A": task, "B": ends(OutputPath="$e"), "C": ends(OutputPath="$e")}
    assert codes(states) == [("unassigned-variable", "/States/B/OutputPath")]


def test_branches_see_out_and_are_not_seen() -> None:
    branch = {"StartAt": "B", "States": {"B": ends(Parameters={"x.$": "$outer"}, Assign={"inner": 1})}}
    states = {
        "A": leads("P", Assign={"outer": 1}),
        "P": {"Type": "Parallel", "Branches": [branch], "Next": "C", "Assign": {"late": 1}},
        "C": ends(Parameters={"x.$": "$inner", "y.$": "$late"}),
    }
    assert codes(states) == [("unassigned-variable", "/States/C/Parameters/x.$")]


@pytest.mark.parametrize("mode", ("INLINE", "DISTRIBUTED"))
def test_a_distributed_map_sees_nothing_of_outside(mode: str) -> None:
    processor = {
        "ProcessorConfig": {"Mode": mode, **({"ExecutionType": "STANDARD"} if mode == "DISTRIBUTED" else {})},
        "StartAt": "I",
        "States": {"I": ends(OutputPath="$outer")},
    }
    states = {
        "A": leads("M", Assign={"outer": 1}),
        "M": {"Type": "Map", "ItemSelector": {"x.$": "$outer"}, "ItemProcessor": processor, "End": True},
    }
    inside = "/States/M/ItemProcessor/States/I/OutputPath"
    assert codes(states) == ([("unassigned-variable", inside)] if mode == "DISTRIBUTED" else [])


def test_variables_in_jsonata() -> None:
    output = {"a": "{% $gone + 1 %}", "b": "{% ($local := 1; $local + $states.input.x) %}"}
    assert jsonata({"A": ends(Output=output)}) == [("unassigned-variable", "/States/A/Output/a")]
    assert jsonata({"A": ends(Output="{% $map([1, 2], function($x) { $x + $uppercase('a') }) %}")}) == []
    assert jsonata({"A": leads("B", Assign={"v": 1}), "B": ends(Output="{% $v %}")}) == []


# Paths


def test_a_field_that_a_constant_result_has_not() -> None:
    states = {"A": leads("B", Result={"x": {"y": 1}}), "B": ends(InputPath="$.x.z")}
    (found,) = findings(states)
    assert (found.code, found.location) == ("impossible-path", "/States/B/InputPath")
    assert found.hint == "The fields there are: y."


@pytest.mark.parametrize(
    "before",
    (
        {"Result": {"x": 1}, "ResultPath": "$.r"},
        {"Result": {"x": {"y": 2}}},
        {"Result": [{"x": 1}]},
        {"Parameters": {"x.$": "$.any"}},
        {"Parameters": {"x.$": "States.StringToJson($.any)"}},
        {"ResultPath": None},
        {},
    ),
)
def test_fields_that_may_be_there(before: dict[str, Any]) -> None:
    assert codes({"A": leads("B", **before), "B": ends(InputPath="$.x.y")}) == []


@pytest.mark.parametrize(
    "before",
    (
        {"Result": {"z": 1}},
        {"Result": {"x": 1}},
        {"Result": "text"},
        {"Parameters": {"z.$": "$.any"}},
        {"Result": {"x": {"y": 1}}, "OutputPath": "$.x"},
        {"InputPath": None},
        {"InputPath": None, "Result": 1, "ResultPath": "$.x", "OutputPath": "$"},
    ),
)
def test_fields_that_cannot_be_there(before: dict[str, Any]) -> None:
    expected = [("impossible-path", "/States/B/Parameters/a.$")]
    states = {"A": leads("B", **before), "B": ends(Parameters={"a.$": "$.x.y"})}
    assert codes(states) == expected or before.get("ResultPath") == "$.x"


def test_what_another_way_may_bring_is_possible() -> None:
    choice = {
        "Type": "Choice",
        "Choices": [{"Variable": "$.a", "IsPresent": True, "Next": "B"}],
        "Default": "C",
    }
    states = {"A": choice, "B": leads("C", Result={"x": 1}), "C": ends(InputPath="$.y")}
    assert codes(states) == []
    both = {"A": choice, "B": leads("D", Result={"x": 1}), "C": leads("D", Result={"z": 1}), "D": ends(InputPath="$.z")}
    assert codes(both) == []
    assert codes({**both, "D": ends(InputPath="$.y")}) == [("impossible-path", "/States/D/InputPath")]


def test_the_error_of_a_catcher() -> None:
    task = {**TASK, "Next": "B", "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "C"}]}
    states = {
        "A": task,
        "B": {"Type": "Succeed"},
        "C": {"Type": "Fail", "ErrorPath": "$.Error", "CausePath": "$.Message"},
    }
    assert codes(states) == [("impossible-path", "/States/C/CausePath")]


@pytest.mark.parametrize(
    ("resource", "path", "there"),
    (
        ("arn:aws:states:::lambda:invoke", "$.Payload.x", True),
        ("arn:aws:states:::lambda:invoke", "$.Paload", False),
        ("arn:aws:states:::http:invoke", "$.ResponseBody.x", True),
        ("arn:aws:states:::http:invoke", "$.Body", False),
        ("arn:aws:states:::sqs:sendMessage", "$.anything", True),
        ("https://example.com/x", "$.anything", True),
        (FUNCTION, "$.anything", True),
    ),
)
def test_what_a_call_gives(resource: str, path: str, there: bool) -> None:
    task = {"Type": "Task", "Resource": resource, "End": True}
    for field, value, where in (("OutputPath", path, ""), ("ResultSelector", {"x.$": path}, "/x.$")):
        found = codes({"A": {**task, field: value}}, target="stepwell")
        expected = [] if there else [("impossible-path", f"/States/A/{field}{where}")]
        assert [one for one in found if one[0] != "unsupported-service"] == expected


def test_a_choice_that_asks_whether_something_is_there() -> None:
    def choice(*rules: dict[str, Any]) -> dict[str, Any]:
        return {"Type": "Choice", "Choices": [{**rule, "Next": "C"} for rule in rules], "Default": "C"}

    unguarded = choice({"Variable": "$.y", "NumericEquals": 1})
    guarded = choice({"And": [{"Variable": "$.y", "IsPresent": True}, {"Variable": "$.y", "NumericEquals": 1}]})
    first, last = leads("B", Result={"x": 1}), {"Type": "Succeed"}
    assert codes({"A": first, "B": unguarded, "C": last}) == [("impossible-path", "/States/B/Choices[0]/Variable")]
    assert codes({"A": first, "B": guarded, "C": last}) == []


def test_items_of_a_map_and_inputs_of_branches() -> None:
    processor = {"StartAt": "I", "States": {"I": ends(InputPath="$.gone")}}
    selected = {"Type": "Map", "ItemSelector": {"x.$": "$$.Map.Item.Value"}, "ItemProcessor": processor, "End": True}
    assert codes({"A": selected}) == [("impossible-path", "/States/A/ItemProcessor/States/I/InputPath")]
    plain = {name: value for name, value in selected.items() if name != "ItemSelector"}
    assert codes({"A": plain}) == []
    parallel = {"Type": "Parallel", "Parameters": {"x": 1}, "Branches": [processor], "End": True}
    assert codes({"A": parallel}) == [("impossible-path", "/States/A/Branches[0]/States/I/InputPath")]


def test_a_loop_that_nests_a_value_into_itself() -> None:
    states = {
        "A": leads("B", Result={"x": 1}),
        "B": leads("C", Parameters={"prev.$": "$"}),
        "C": {"Type": "Choice", "Choices": [{"Variable": "$.prev.x", "IsPresent": True, "Next": "B"}], "Default": "D"},
        "D": ends(InputPath="$.prev.prev.prev"),
    }
    assert codes(states) == []


@pytest.mark.parametrize("text", ("$.order", "order.total", "order"))
def test_jsonata_that_reads_a_document(text: str) -> None:
    assert jsonata({"A": ends(Output=f"{{% {text} %}}")}) == [("impossible-path", "/States/A/Output")]


@pytest.mark.parametrize("text", ("true", "null", "$states.input.order", "[1, 2].($ * 2)", "{'a': 1}.a", "'order'"))
def test_jsonata_that_reads_what_is_there(text: str) -> None:
    assert jsonata({"A": ends(Output=f"{{% {text} %}}")}) == []


# Maps

ITEMS = {"StartAt": "I", "States": {"I": {"Type": "Succeed"}}}


def with_mode(config: dict[str, Any] | None, **more: Any) -> list[tuple[str, str | None]]:
    processor = ITEMS if config is None else {**ITEMS, "ProcessorConfig": config}
    return codes({"M": {"Type": "Map", "ItemProcessor": processor, "End": True, **more}})


@pytest.mark.parametrize("config", (None, {"Mode": "INLINE"}))
def test_fields_that_an_inline_map_does_not_use(config: dict[str, Any] | None) -> None:
    assert with_mode(config, Label="x") == [("distributed-only-field", "/States/M/Label")]
    assert with_mode(config, ToleratedFailureCount=1) == [("distributed-only-field", "/States/M/ToleratedFailureCount")]
    assert with_mode(config, MaxConcurrency=1) == []


def test_an_execution_type_without_its_mode() -> None:
    assert with_mode({"ExecutionType": "EXPRESS"}) == [
        ("distributed-only-field", "/States/M/ItemProcessor/ProcessorConfig/ExecutionType")
    ]


DISTRIBUTED = {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
READER = {
    "Resource": "arn:aws:states:::s3:getObject",
    "ReaderConfig": {"InputType": "JSON", "ItemsPointer": "/a"},
    "Parameters": {"Bucket": "b", "Key": "k"},
}


def test_a_reader_and_items_of_the_input() -> None:
    assert with_mode(DISTRIBUTED, ItemReader=READER) == []
    assert with_mode(DISTRIBUTED, ItemReader=READER, ItemsPath="$.a") == [("unused-field", "/States/M/ItemsPath")]


def test_parameters_of_a_reader_and_a_writer() -> None:
    reader = {**READER, "Parameters": {"Bucket": "b"}}
    writer = {"Resource": "arn:aws:states:::s3:putObject", "Parameters": {"Bucket": "b", "Key": "k"}}
    assert with_mode(DISTRIBUTED, ItemReader=reader, ResultWriter=writer) == [
        ("wrong-parameters", "/States/M/ItemReader/Parameters"),
        ("wrong-parameters", "/States/M/ResultWriter/Parameters"),
    ]


def test_columns_without_names() -> None:
    assert with_mode(DISTRIBUTED, ItemReader={**READER, "ReaderConfig": {"InputType": "CSV"}}) == [
        ("no-csv-headers", "/States/M/ItemReader/ReaderConfig")
    ]


@pytest.mark.parametrize(
    ("config", "unused"),
    (
        ({"InputType": "CSV", "CSVHeaderLocation": "FIRST_ROW", "CSVDelimiter": "TAB"}, []),
        ({"InputType": "JSON", "CSVDelimiter": "TAB"}, ["CSVDelimiter"]),
        ({"InputType": "JSONL", "ItemsPointer": "/a"}, ["ItemsPointer"]),
        ({"ItemsPointer": "/a"}, []),
        ({"CSVDelimiter": "TAB"}, ["CSVDelimiter"]),
        ({"ManifestType": "ATHENA_DATA", "InputType": "JSONL", "CSVDelimiter": "TAB"}, []),
        ({"InputType": "${Type}", "CSVDelimiter": "TAB"}, []),
    ),
)
def test_fields_for_another_input_type(config: dict[str, Any], unused: list[str]) -> None:
    found = with_mode(DISTRIBUTED, ItemReader={**READER, "ReaderConfig": config})
    at = "/States/M/ItemReader/ReaderConfig"
    assert [one for one in found if one[0] == "unused-field"] == [("unused-field", f"{at}/{name}") for name in unused]


@pytest.mark.parametrize(("headers", "wrong"), (({}, True), ({"CSVHeaders": ["a"]}, False)))
def test_headers_that_are_given(headers: dict[str, Any], wrong: bool) -> None:
    reader = {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": {"InputType": "CSV", "CSVHeaderLocation": "GIVEN", **headers},
        "Parameters": {"Bucket": "b", "Key": "k"},
    }
    found = with_mode({"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}, ItemReader=reader)
    assert found == [("no-csv-headers", "/States/M/ItemReader/ReaderConfig")] * wrong


# Secrets

SECRETS = {
    "aws": "AKIA" + "QWERTYUIOPASDFGH",
    "github": "ghp_" + "a1" * 18,
    "slack": "xoxb-" + "123456789012-abcdef",
    "url": "postgres://app:" + "s3cr3t" + "@db.example/x",
    "bearer": "Bearer " + "abcdefghijklmnop1234",
    "pem": "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEowIBAAKCAQEA7\n-----END RSA PRIVATE KEY-----",
}


@pytest.mark.parametrize("kind", SECRETS)
def test_secrets_are_found_and_never_shown(kind: str) -> None:
    found = findings({"A": {**TASK, "Parameters": {"x": SECRETS[kind]}, "End": True}})
    assert [one.code for one in found] == ["secret-in-definition"]
    assert SECRETS[kind] not in repr(found)


def test_no_other_finding_shows_a_secret() -> None:
    states = {"A": {"Type": "Task", "Resource": SECRETS["url"], "Comment": 5, "End": True}}
    for text in (json.dumps({"StartAt": "A", "States": states}), f'{{"a": "{SECRETS["url"]}", }}'):
        examined = examine(text)
        assert examined.findings
        assert "s3cr3t" not in repr(examined.findings)


@pytest.mark.parametrize("name", ("Password", "dbPassword", "api_key", "client-secret", "ACCESS_TOKEN"))
def test_secrets_by_their_names(name: str) -> None:
    assert codes({"A": ends(Result={name: "hunter2!x"})}) == [("secret-in-definition", f"/States/A/Result/{name}")]


@pytest.mark.parametrize(
    "value",
    ("$.password", "${Password}", "{{resolve:secretsmanager:x}}", "arn:aws:secretsmanager:x", "<password>", "a b c d"),
)
def test_what_stands_for_a_secret_is_none(value: str) -> None:
    assert codes({"A": ends(Result={"password": value, "Comment": "the password is elsewhere"})}) == []


def test_warnings_can_be_ignored_and_errors_cannot() -> None:
    text = json.dumps({"StartAt": "A", "States": {"A": ends(OutputPath="$v", Comment=5)}})
    every = {one.code for one in examine(text).findings}
    assert every == {"unassigned-variable", "SCHEMA_VALIDATION_FAILED"}
    left = examine(text, ignore=("unassigned-variable", "SCHEMA_VALIDATION_FAILED")).findings
    assert [one.code for one in left] == ["SCHEMA_VALIDATION_FAILED"]


def test_variables_that_no_expression_can_read() -> None:
    catcher = {"ErrorEquals": ["E"], "Next": "B", "Assign": {"a-b": 1}}
    states = {"A": {**TASK, "Next": "B", "Assign": {"top-level.$": "$"}, "Catch": [catcher]}, "B": {"Type": "Succeed"}}
    assert codes(states) == [
        ("unreadable-variable", "/States/A/Assign"),
        ("unreadable-variable", "/States/A/Catch[0]/Assign"),
    ]
    (first, _) = findings(states)
    assert first.hint == "Write 'top_level'."
    assert jsonata({"A": ends(Assign={"top-level": 1})}) == [("unreadable-variable", "/States/A/Assign")]


def test_aws_refuses_them() -> None:
    definition = {"StartAt": "A", "States": {"A": ends(Assign={"top-level": 1})}}
    found = examine(json.dumps(definition), target="aws").findings
    assert [one.message for one in found if one.severity is Severity.ERROR] == [
        "The variable name 'top-level' is not valid"
    ]
