from __future__ import annotations

from typing import Any

import pytest

from stepwell.engine.asl.diagnostics import DefinitionError, DiagnosticCode
from stepwell.engine.asl.parse import parse_definition
from stepwell.engine.asl.resource_rules import OWN_SCHEMES
from tests.unit.asl.definitions import FUNCTION, body, errors, machine, texts, warnings

ACTIVITY = "arn:aws:states:us-east-1:123456789012:activity:a"


@pytest.mark.parametrize(
    "resource",
    (
        FUNCTION,
        FUNCTION + ":PROD",
        FUNCTION + ":$LATEST",
        ACTIVITY,
        "arn:aws:states:::lambda:invoke",
        "arn:aws:states:::states:startExecution.sync:2",
        "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
        "arn:aws:states:::aws-sdk:s3:getObject",
        "arn:aws-us-gov:states:::sns:publish",
    ),
)
def test_resources_valid_everywhere(resource: str) -> None:
    definition = machine(body("Task", Resource=resource))
    assert errors(definition) == warnings(definition) == []
    assert errors(definition, target="aws") == []
    parse_definition(definition)


@pytest.mark.parametrize("scheme", OWN_SCHEMES)
def test_own_schemes_are_named_under_target_aws(scheme: str) -> None:
    definition = machine(body("Task", Resource=f"{scheme}x"))
    assert errors(definition) == []
    (found,) = errors(definition, target="aws")
    assert (found.code, found.location) == (DiagnosticCode.STEPWELL_ONLY_RESOURCE, "/States/X/Resource")


@pytest.mark.parametrize(
    "resource", ("arn:x", "docker://a:latest", "plain", "arn:aws:states:::aws-sdk:s3:getObject.sync", "celery:")
)
def test_unknown_resources_are_warned_of_and_never_created(resource: str) -> None:
    definition = machine(body("Task", Resource=resource))
    assert errors(definition) == []
    assert [found.code for found in warnings(definition)] == [DiagnosticCode.INVALID_RESOURCE]
    assert len(errors(definition, target="aws")) == len(errors(definition, runnable=True)) == 1
    with pytest.raises(DefinitionError, match=r"is not recognized\. The value is not a valid resource ARN"):
        parse_definition(definition)


@pytest.mark.parametrize(
    ("query", "right"),
    (
        ("queue=gold&priority=5&call=kwargs", True),
        ("queue=${Queue}", True),
        ("queu=gold", False),
        ("priority=256", False),
        ("call=all", False),
        ("queue=stepwell.results", False),
    ),
)
def test_the_query_of_a_celery_resource_is_read_before_it_runs(query: str, right: bool) -> None:
    found = errors(machine(body("Task", Resource=f"celery:orders.charge?{query}")))
    assert [one.code for one in found] == [DiagnosticCode.INVALID_RESOURCE] * (not right)
    assert all("is not understood: give queue=<name>" in one.message for one in found)


@pytest.mark.parametrize("suffix", (":", ":$*#$7485"))
def test_a_function_arn_with_a_wrong_alias(suffix: str) -> None:
    assert len(errors(machine(body("Task", Resource=FUNCTION + suffix)))) == 1


@pytest.mark.parametrize("resource", ("${Function}", "${Function.Arn}", "arn:${AWS::Partition}:states:::sns:publish"))
def test_substitutions_left_to_fill_in(resource: str) -> None:
    definition = machine(body("Task", Resource=resource))
    assert errors(definition) == []
    assert [found.code for found in warnings(definition)] == [DiagnosticCode.STEPWELL_PLACEHOLDER]
    with pytest.raises(DefinitionError, match=r"INVALID_RESOURCE: .* nobody has filled in at /States/X/Resource"):
        parse_definition(definition)


@pytest.mark.parametrize(
    "resource",
    (
        "arn:aws:lambda:#{AWS::Region}:#{AWS::AccountId}:function:f",
        "arn:aws:lambda:<region>:<account>:function:<name>",
        "arn:aws:lambda:us-east-1:123456789012:function:{{name}}",
        "arn:aws:lambda:{region}:{account}:function:{name}",
        "arn:aws:lambda:us-east-1:[ACCOUNT]:function:[NAME]",
        "arn:<PARTITION>:states:::sns:publish",
        "<the function's ARN>",
        "{{function}}",
    ),
)
@pytest.mark.parametrize("target", ("stepwell", "aws"))
def test_what_samples_write_in_place_of_values(resource: str, target: str) -> None:
    definition = machine(body("Task", Resource=resource))
    assert errors(definition, target=target) == []
    assert [found.code for found in warnings(definition, target=target)] == [DiagnosticCode.STEPWELL_PLACEHOLDER]
    assert len(errors(definition, runnable=True)) == 1


@pytest.mark.parametrize("resource", ("${Function", "arn:${a}:${b", "${}"))
def test_a_substitution_that_is_not_closed(resource: str) -> None:
    (found,) = errors(machine(body("Task", Resource=resource)))
    assert found.code is DiagnosticCode.INVALID_RESOURCE


@pytest.mark.parametrize(
    ("resource", "message"),
    (
        (
            "arn:aws:states:::states:startExecution.sync",
            "Express state machine does not support '.sync' service integration",
        ),
        (
            "arn:aws:states:::states:startExecution.sync:2",
            "Express state machine does not support '.sync' service integration",
        ),
        (
            "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
            "Express state machine does not support '.waitForTaskToken' service integration ",
        ),
        (ACTIVITY, "Express state machine does not support Activity ARN"),
    ),
)
def test_what_express_machines_cannot_call_as_recorded(resource: str, message: str) -> None:
    definition = machine(body("Task", Resource=resource))
    assert texts(definition) == []
    assert texts(definition, machine_type="EXPRESS") == [f"SCHEMA_VALIDATION_FAILED: {message} at /States/X/Resource"]


def test_an_express_machine_has_no_distributed_map() -> None:
    processor = {"StartAt": "I", "States": {"I": {"Type": "Succeed"}}, "ProcessorConfig": {"Mode": "DISTRIBUTED"}}
    definition = machine(body("Map", ItemProcessor=processor))
    assert texts(definition) == []
    assert len(texts(definition, machine_type="EXPRESS")) == 1


def children(kind: str | None, states: dict[str, Any], mode: str = "DISTRIBUTED") -> dict[str, Any]:
    """A Map of children of this ExecutionType."""
    config = {"Mode": mode, **({"ExecutionType": kind} if kind else {})}
    processor = {"StartAt": next(iter(states)), "States": states, "ProcessorConfig": config}
    return body("Map", ItemProcessor=processor)


@pytest.mark.parametrize("resource", ("arn:aws:states:::sqs:sendMessage.waitForTaskToken", ACTIVITY))
def test_express_children_are_bound_as_express_machines_are(resource: str) -> None:
    task = {"I": {"Type": "Task", "Resource": resource, "End": True}}
    inline = {"In": {**children(None, task, "INLINE"), "End": True}}
    for states, place in ((task, "I"), (inline, "In/ItemProcessor/States/I")):
        (found,) = texts(machine(children("EXPRESS", states)))
        assert "Express state machine does not support" in found
        assert found.endswith(f" at /States/X/ItemProcessor/States/{place}/Resource")
        assert texts(machine(children("STANDARD", states))) == texts(machine(children(None, states))) == []
    after = {**machine(children("EXPRESS", {"I": {"Type": "Succeed"}}))}
    after["States"]["X"]["Next"] = "Y"
    del after["States"]["X"]["End"]
    after["States"]["Y"] = {"Type": "Task", "Resource": resource, "End": True}
    assert texts(after) == [], "what comes after them is bound by nothing"


def test_express_children_have_no_distributed_map() -> None:
    for kind in ("STANDARD", "EXPRESS"):
        inner = {"In": {**children(kind, {"I": {"Type": "Succeed"}}), "End": True}}
        assert texts(machine(children("STANDARD", inner))) == []
        (found,) = texts(machine(children("EXPRESS", inner)))
        assert "Express state machine does not support Distributed Map" in found


@pytest.mark.parametrize("kind", ("stateMachine:m", "execution:m:e", "express:m:e:f", "mapRun:m/l:i"))
def test_arns_of_machines_and_executions_are_no_resources(kind: str) -> None:
    definition = machine(body("Task", Resource=f"arn:aws:states:us-east-1:123456789012:{kind}"))
    (found,) = warnings(definition)
    assert found.code is DiagnosticCode.INVALID_RESOURCE
    assert ("startExecution.sync:2" in (found.hint or "")) is kind.startswith("stateMachine")
    assert len(errors(definition, runnable=True)) == 1


@pytest.mark.parametrize(
    ("field", "action", "right"),
    (
        ("ItemReader", "s3:getObject", True),
        ("ItemReader", "s3:listObjectsV2", True),
        ("ItemReader", "s3:putObject", False),
        ("ItemReader", "dynamodb:getItem", False),
        ("ResultWriter", "s3:putObject", True),
        ("ResultWriter", "s3:getObject", False),
    ),
)
def test_what_a_distributed_map_reads_from_and_writes_to(field: str, action: str, right: bool) -> None:
    for partition in ("aws", "aws-cn"):
        definition = machine(body("Map", **{field: {"Resource": f"arn:{partition}:states:::{action}"}}))
        assert errors(definition) == []
        assert [found.location for found in warnings(definition)] == ([] if right else [f"/States/X/{field}/Resource"])
        assert (errors(definition, runnable=True) == []) is right
