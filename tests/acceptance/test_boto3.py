"""boto3 with nothing changed but its endpoint: every operation that is served, and those that are not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from stepwell.api.wire.operations import OPERATIONS
from tests.acceptance.conftest import ENOUGH_SECONDS, PASS, WAITING, Stepwell, fresh, machine

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("acceptance")]

ROLE = "arn:aws:iam::000000000000:role/any"
ARN = "arn:aws:states:us-east-1:000000000000"


def create(sfn: Any, definition: dict[str, Any], name: str | None = None) -> str:
    arn = sfn.create_state_machine(name=name or fresh("boto"), definition=json.dumps(definition), roleArn=ROLE)
    return str(arn["stateMachineArn"])


def start(sfn: Any, machine_arn: str, **more: Any) -> str:
    return str(sfn.start_execution(stateMachineArn=machine_arn, **more)["executionArn"])


def ended(server: Stepwell, sfn: Any, arn: str) -> dict[str, Any]:
    """DescribeExecution after the end, which REST waits for."""
    server.ended(arn)
    shown: dict[str, Any] = sfn.describe_execution(executionArn=arn)
    return shown


def history(sfn: Any, arn: str, **more: Any) -> list[dict[str, Any]]:
    pages = sfn.get_paginator("get_execution_history").paginate(executionArn=arn, **more)
    return [event for page in pages for event in page["events"]]


# -------------------------------------------------------------------------------------------------------- state machines


def test_a_state_machine_from_its_creation_to_its_end(server: Stepwell, sfn: Any) -> None:
    name = fresh("lives")
    arn = create(sfn, PASS, name)
    assert arn == f"{ARN}:stateMachine:{name}"
    shown = sfn.describe_state_machine(stateMachineArn=arn)
    assert (shown["name"], shown["status"], shown["type"], shown["roleArn"]) == (name, "ACTIVE", "STANDARD", ROLE)
    assert json.loads(shown["definition"]) == PASS

    first = start(sfn, arn)
    changed = machine(Answer={"Type": "Pass", "Result": 42})
    updated = sfn.update_state_machine(stateMachineArn=arn, definition=json.dumps(changed))
    assert updated["updateDate"] >= shown["creationDate"]
    assert json.loads(sfn.describe_state_machine(stateMachineArn=arn)["definition"]) == changed
    used = sfn.describe_state_machine_for_execution(executionArn=first)
    assert json.loads(used["definition"]) == PASS
    listed = [item for page in sfn.get_paginator("list_state_machines").paginate() for item in page["stateMachines"]]
    assert [item["creationDate"] for item in listed if item["stateMachineArn"] == arn] == [shown["creationDate"]]

    sfn.delete_state_machine(stateMachineArn=arn)
    sfn.delete_state_machine(stateMachineArn=arn)
    with pytest.raises(sfn.exceptions.StateMachineDoesNotExist):
        sfn.describe_state_machine(stateMachineArn=arn)
    with pytest.raises(sfn.exceptions.StateMachineDoesNotExist):
        start(sfn, arn)
    assert ended(server, sfn, first)["status"] == "SUCCEEDED"


def test_the_same_creation_again_is_the_same_machine(sfn: Any) -> None:
    name = fresh("twice")
    assert create(sfn, PASS, name) == create(sfn, PASS, name)
    with pytest.raises(sfn.exceptions.StateMachineAlreadyExists):
        create(sfn, WAITING, name)


def test_a_wrong_definition_is_refused_with_its_place(sfn: Any) -> None:
    wrong = json.dumps(machine(A={"Type": "Pass", "Next": "Nowhere"}, B={"Type": "Pass"}))
    with pytest.raises(sfn.exceptions.InvalidDefinition, match=r"MISSING_TRANSITION_TARGET.*/States/A/Next"):
        sfn.create_state_machine(name=fresh("wrong"), definition=wrong, roleArn=ROLE)
    found = sfn.validate_state_machine_definition(definition=wrong)
    assert found["result"] == "FAIL"
    assert "/States/A/Next" in [finding.get("location") for finding in found["diagnostics"]]
    assert sfn.validate_state_machine_definition(definition=json.dumps(PASS))["result"] == "OK"


# ------------------------------------------------------------------------------------------------------------ executions


def test_an_execution_and_its_history(server: Stepwell, sfn: Any) -> None:
    arn = create(sfn, machine(First={"Type": "Pass"}, Second={"Type": "Pass", "Result": {"b": 2}, "ResultPath": "$.r"}))
    run = start(sfn, arn, input='{"a":  1}')
    shown = ended(server, sfn, run)
    assert (shown["status"], json.loads(shown["output"])) == ("SUCCEEDED", {"a": 1, "r": {"b": 2}})
    assert shown["input"] == '{"a":  1}'
    assert shown["startDate"] <= shown["stopDate"]

    events = sfn.get_execution_history(executionArn=run)["events"]
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    entered = [event["stateEnteredEventDetails"]["name"] for event in events if "stateEnteredEventDetails" in event]
    assert entered == ["First", "Second"]
    assert history(sfn, run, PaginationConfig={"PageSize": 2}) == events
    assert history(sfn, run, reverseOrder=True, PaginationConfig={"PageSize": 4}) == events[::-1]
    bare = history(sfn, run, includeExecutionData=False)
    assert "input" not in json.dumps([event.get("executionStartedEventDetails") for event in bare])


def test_executions_are_listed_in_pages_and_by_status(server: Stepwell, sfn: Any) -> None:
    arn = create(sfn, machine(Rest={"Type": "Wait", "SecondsPath": "$.rest"}))
    done = [start(sfn, arn, input='{"rest": 0}') for _ in range(5)]
    running = start(sfn, arn, input='{"rest": 600}')
    for run in done:
        server.ended(run)
    pages = sfn.get_paginator("list_executions").paginate(stateMachineArn=arn, PaginationConfig={"PageSize": 2})
    listed = [[item["executionArn"] for item in page["executions"]] for page in pages]
    assert [len(page) for page in listed] == [2, 2, 2]
    assert [run for page in listed for run in page] == [running, *done[::-1]]
    found = sfn.list_executions(stateMachineArn=arn, statusFilter="RUNNING")["executions"]
    assert [(item["executionArn"], item["status"]) for item in found] == [(running, "RUNNING")]
    sfn.stop_execution(executionArn=running)


def test_an_execution_is_stopped(sfn: Any) -> None:
    run = start(sfn, create(sfn, WAITING))
    stopped = sfn.stop_execution(executionArn=run, error="Enough", cause="nobody needs it")
    shown = sfn.describe_execution(executionArn=run)
    assert (shown["status"], shown["error"], shown["cause"]) == ("ABORTED", "Enough", "nobody needs it")
    assert shown["stopDate"] == stopped["stopDate"]
    assert sfn.stop_execution(executionArn=run)["stopDate"] == stopped["stopDate"]
    last = sfn.get_execution_history(executionArn=run, reverseOrder=True, maxResults=1)["events"][0]
    assert (last["type"], last["executionAbortedEventDetails"]["error"]) == ("ExecutionAborted", "Enough")


def test_a_name_is_one_execution(server: Stepwell, sfn: Any) -> None:
    arn = create(sfn, WAITING)
    first = sfn.start_execution(stateMachineArn=arn, name="once", input='{"a": 1}')
    again = sfn.start_execution(stateMachineArn=arn, name="once", input='{"a": 1}')
    assert (again["executionArn"], again["startDate"]) == (first["executionArn"], first["startDate"])
    with pytest.raises(sfn.exceptions.ExecutionAlreadyExists):
        start(sfn, arn, name="once", input='{"a": 2}')
    sfn.stop_execution(executionArn=first["executionArn"])
    with pytest.raises(sfn.exceptions.ExecutionAlreadyExists):
        start(sfn, arn, name="once", input='{"a": 1}')
    assert len(sfn.list_executions(stateMachineArn=arn)["executions"]) == 1


def test_a_redrive_runs_what_did_not_succeed_and_nothing_else(server: Stepwell, sfn: Any) -> None:
    names = {name: fresh(name) for name in ("before", "good", "broken", "after")}
    branches = [machine(**{state: server.effect(names[state], ResultPath=None)}) for state in ("good", "broken")]
    definition = machine(
        Before=server.effect(names["before"], ResultPath=None),
        Both={"Type": "Parallel", "Branches": branches, "ResultPath": None},
        After=server.effect(names["after"], ResultPath=None),
    )
    server.ledger.hold(names["broken"])
    server.ledger.fail(names["broken"])
    run = start(sfn, create(sfn, definition), input='{"kept": true}')
    # the branch that fails does so after the other has succeeded, so that there is something to keep
    server.ledger.wait_for_count(names["good"], 1)
    _until(lambda: any(_left(event, "good") for event in history(sfn, run)))
    server.ledger.release(names["broken"])
    failed = ended(server, sfn, run)
    assert (failed["status"], failed["error"]) == ("FAILED", "States.Http.StatusCode.500")
    assert failed["redriveStatus"] == "REDRIVABLE"

    redriven = sfn.redrive_execution(executionArn=run)
    shown = ended(server, sfn, run)
    assert (shown["status"], json.loads(shown["output"])) == ("SUCCEEDED", {"kept": True})
    assert (shown["redriveCount"], shown["redriveDate"]) == (1, redriven["redriveDate"])
    assert {name: len(server.ledger.of(effect)) for name, effect in names.items()} == {
        "before": 1,
        "good": 1,
        "broken": 2,
        "after": 1,
    }
    assert [event["type"] for event in history(sfn, run)].count("ExecutionRedriven") == 1
    with pytest.raises(sfn.exceptions.ExecutionNotRedrivable):
        sfn.redrive_execution(executionArn=run)


def _left(event: dict[str, Any], state: str) -> bool:
    return bool(event.get("stateExitedEventDetails", {}).get("name") == state)


def _until(condition: Callable[[], bool]) -> None:
    """What the history shows is known after the outcome is durable: ask until it is."""
    end = time.monotonic() + ENOUGH_SECONDS
    while not condition():
        assert time.monotonic() < end, "it never came"


def failed_children(server: Stepwell, sfn: Any, items: int) -> tuple[str, str, str]:
    """A Map Run that gave up after two children, one at a time; the ARNs of its activity, its parent and itself."""
    activity = sfn.create_activity(name=fresh("child"))["activityArn"]
    work = machine(Work={"Type": "Task", "Resource": activity, "End": True})
    processor = {**work, "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}}
    bounds = {"MaxConcurrency": 1, "ToleratedFailureCount": 1}
    definition = machine(Each={"Type": "Map", "Label": "L", "ItemProcessor": processor, **bounds})
    run = start(sfn, create(sfn, definition), input=json.dumps(list(range(items))))
    for _ in range(2):
        task = sfn.get_activity_task(activityArn=activity)
        sfn.send_task_failure(taskToken=task["taskToken"], error="Broken")
    assert ended(server, sfn, run)["status"] == "FAILED"
    (map_run,) = sfn.list_map_runs(executionArn=run)["mapRuns"]
    return activity, run, map_run["mapRunArn"]


def children(sfn: Any, map_run: str, status: str) -> list[str]:
    """The ARNs of the children with a status, which all of them show."""
    found = sfn.list_executions(mapRunArn=map_run, statusFilter=status)["executions"]
    assert all(one["status"] == status for one in found)
    return sorted(one["executionArn"] for one in found)


def test_children_that_wait_to_be_redriven_say_so(server: Stepwell, sfn: Any) -> None:
    """Two of three have failed when the run gives up; one at a time is redriven, and the other waits."""
    activity, run, map_run = failed_children(server, sfn, 3)
    failed = children(sfn, map_run, "FAILED")
    assert (len(failed), children(sfn, map_run, "PENDING_REDRIVE")) == (2, [])
    sfn.redrive_execution(executionArn=run)
    task = sfn.get_activity_task(activityArn=activity)
    (waiting,), (running,) = children(sfn, map_run, "PENDING_REDRIVE"), children(sfn, map_run, "RUNNING")
    assert sorted([waiting, running]) == failed
    assert children(sfn, map_run, "FAILED") == []
    listed = sfn.list_executions(mapRunArn=map_run)["executions"]
    assert {one["executionArn"]: one["status"] for one in listed} == {waiting: "PENDING_REDRIVE", running: "RUNNING"}
    assert sfn.describe_execution(executionArn=waiting)["status"] == "PENDING_REDRIVE"
    for counts in ("executionCounts", "itemCounts"):
        told = sfn.describe_map_run(mapRunArn=map_run)[counts]
        assert (told["pendingRedrive"], told["pending"], told["running"], told["total"]) == (1, 1, 1, 3)
    sfn.send_task_success(taskToken=task["taskToken"], output="1")
    for _ in range(2):
        task = sfn.get_activity_task(activityArn=activity)
        sfn.send_task_success(taskToken=task["taskToken"], output="1")
    assert ended(server, sfn, run)["status"] == "SUCCEEDED"
    assert len(children(sfn, map_run, "SUCCEEDED")) == 3
    assert sfn.describe_map_run(mapRunArn=map_run)["executionCounts"]["pendingRedrive"] == 0


def test_children_that_waited_when_their_run_was_stopped_are_what_they_were(server: Stepwell, sfn: Any) -> None:
    activity, run, map_run = failed_children(server, sfn, 2)
    sfn.redrive_execution(executionArn=run)
    sfn.get_activity_task(activityArn=activity)
    waiting = children(sfn, map_run, "PENDING_REDRIVE")
    sfn.stop_execution(executionArn=run)
    _until(lambda: sfn.describe_map_run(mapRunArn=map_run)["status"] == "ABORTED")
    assert (children(sfn, map_run, "PENDING_REDRIVE"), children(sfn, map_run, "FAILED")) == ([], waiting)
    assert sfn.describe_map_run(mapRunArn=map_run)["executionCounts"]["pendingRedrive"] == 0


# -------------------------------------------------------------------------------------------------- activities and tasks


def test_an_activity_worker(server: Stepwell, sfn: Any) -> None:
    activity = sfn.create_activity(name=fresh("sign"))["activityArn"]
    arn = create(
        sfn,
        machine(
            Sign={
                "Type": "Task",
                "Resource": activity,
                "HeartbeatSeconds": 60,
                "Catch": [{"ErrorEquals": ["Refused"], "Next": "Refused"}],
                "Next": "Signed",
            },
            Signed={"Type": "Succeed"},
            Refused={"Type": "Pass", "End": True},
        ),
    )
    with ThreadPoolExecutor(1) as waiting:
        poll = waiting.submit(sfn.get_activity_task, activityArn=activity, workerName="me")
        run = start(sfn, arn, input='{"page": 1}')
        task = poll.result(ENOUGH_SECONDS)
    assert json.loads(task["input"]) == {"page": 1}
    sfn.send_task_heartbeat(taskToken=task["taskToken"])
    sfn.send_task_success(taskToken=task["taskToken"], output='{"by": "me"}')
    assert json.loads(ended(server, sfn, run)["output"]) == {"by": "me"}
    with pytest.raises(sfn.exceptions.TaskTimedOut):
        sfn.send_task_success(taskToken=task["taskToken"], output="{}")

    run = start(sfn, arn)
    task = sfn.get_activity_task(activityArn=activity)
    with pytest.raises(sfn.exceptions.InvalidOutput):
        sfn.send_task_success(taskToken=task["taskToken"], output="{")
    sfn.send_task_failure(taskToken=task["taskToken"], error="Refused", cause="no pen")
    assert json.loads(ended(server, sfn, run)["output"]) == {"Error": "Refused", "Cause": "no pen"}
    assert "ActivityStarted" in [event["type"] for event in history(sfn, run)]

    assert sfn.describe_activity(activityArn=activity)["name"] == activity.rpartition(":")[2]
    listed = [item for page in sfn.get_paginator("list_activities").paginate() for item in page["activities"]]
    assert activity in [item["activityArn"] for item in listed]
    sfn.delete_activity(activityArn=activity)
    with pytest.raises(sfn.exceptions.ActivityDoesNotExist):
        sfn.describe_activity(activityArn=activity)


# ---------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("operation", "arguments", "error"),
    (
        ("describe_state_machine", {"stateMachineArn": f"{ARN}:stateMachine:none"}, "StateMachineDoesNotExist"),
        ("update_state_machine", {"stateMachineArn": f"{ARN}:stateMachine:none", "roleArn": ROLE}, "StateMachineDoesNotExist"),
        ("describe_state_machine", {"stateMachineArn": "none"}, "InvalidArn"),
        ("describe_execution", {"executionArn": f"{ARN}:execution:none:none"}, "ExecutionDoesNotExist"),
        ("get_execution_history", {"executionArn": f"{ARN}:execution:none:none"}, "ExecutionDoesNotExist"),
        ("stop_execution", {"executionArn": f"{ARN}:execution:none:none"}, "ExecutionDoesNotExist"),
        ("redrive_execution", {"executionArn": f"{ARN}:execution:none:none"}, "ExecutionDoesNotExist"),
        ("describe_activity", {"activityArn": f"{ARN}:activity:none"}, "ActivityDoesNotExist"),
        ("send_task_success", {"taskToken": "none", "output": "1"}, "InvalidToken"),
        ("send_task_heartbeat", {"taskToken": "none"}, "InvalidToken"),
        ("list_state_machines", {"nextToken": "none"}, "InvalidToken"),
        ("create_activity", {"name": "no name"}, "InvalidName"),
        ("create_state_machine", {"name": "a*b", "definition": json.dumps(PASS), "roleArn": ROLE}, "InvalidName"),
        ("create_state_machine", {"name": "a", "definition": "{", "roleArn": ROLE}, "InvalidDefinition"),
    ),
)  # fmt: skip
def test_errors_have_their_classes(sfn: Any, operation: str, arguments: dict[str, Any], error: str) -> None:
    with pytest.raises(getattr(sfn.exceptions, error)) as caught:
        getattr(sfn, operation)(**arguments)
    answer = caught.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert answer["ResponseMetadata"]["RequestId"]
    assert answer["Error"]["Message"]


def test_input_that_is_no_json_and_input_that_is_too_long(sfn: Any) -> None:
    arn = create(sfn, PASS)
    with pytest.raises(sfn.exceptions.InvalidExecutionInput):
        start(sfn, arn, input="nope")
    with pytest.raises(sfn.exceptions.ValidationException, match="less than or equal to 262144"):
        start(sfn, arn, input=json.dumps("x" * 262_144))


def _smallest(shape: Any) -> Any:
    """The smallest value that boto3 lets through for a shape of the API model."""
    match shape.type_name:
        case "structure":
            return {name: _smallest(shape.members[name]) for name in shape.required_members}
        case "list":
            return [_smallest(shape.member)] * shape.metadata.get("min", 0)
        case "string":
            return shape.enum[0] if getattr(shape, "enum", None) else "x" * max(1, shape.metadata.get("min", 0))
        case "boolean":
            return False
        case "integer" | "long" | "float":
            return shape.metadata.get("min", 0)
    raise AssertionError(shape)


def test_operations_that_are_not_there_say_so(server: Stepwell, sfn: Any) -> None:
    model = sfn.meta.service_model
    absent = set(model.operation_names) - set(OPERATIONS)
    assert absent
    # two of them would go to another host, which does not resolve
    client = boto3.client("stepfunctions", endpoint_url=server.url, config=Config(inject_host_prefix=False))
    names = {operation: method for method, operation in client.meta.method_to_api_mapping.items()}
    for operation in sorted(absent):
        with pytest.raises(ClientError) as caught:
            getattr(client, names[operation])(**_smallest(model.operation_model(operation).input_shape))
        error = caught.value.response["Error"]
        assert (error["Code"], operation in error["Message"]) == ("UnknownOperationException", True)
    client.close()
