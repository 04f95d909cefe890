"""The AWS wire protocol as boto3 speaks it, over real HTTP."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from botocore.exceptions import ClientError

from stepwell.engine.messages import Claim
from tests.api.conftest import ROLE, Stack, aws

PASS = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}})
FAIL = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Fail", "Error": "Broken", "Cause": "for good"}}})
TOKEN = json.dumps(
    {
        "StartAt": "A",
        "States": {
            "A": {
                "Type": "Task",
                "Resource": "arn:aws:states:us-east-1:000000000000:activity:work",
                "Assign": {"seen.$": "$"},
                "End": True,
            }
        },
    }
)


def create(sfn: Any, name: str = "m", definition: str = PASS, **more: Any) -> str:
    arn: str = sfn.create_state_machine(name=name, definition=definition, roleArn=ROLE, **more)["stateMachineArn"]
    return arn


def refused(call: Any, **kwargs: Any) -> tuple[str, str, int]:
    with pytest.raises(ClientError) as caught:
        call(**kwargs)
    response = caught.value.response
    return response["Error"]["Code"], response["message"], response["ResponseMetadata"]["HTTPStatusCode"]


def body(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def test_an_execution_from_start_to_history(sfn: Any) -> None:
    arn = create(sfn)
    started = sfn.start_execution(stateMachineArn=arn, name="x", input='{"a":  1}')
    assert set(body(started)) == {"executionArn", "startDate"}
    described = body(sfn.describe_execution(executionArn=started["executionArn"]))
    assert described.pop("startDate") <= described.pop("stopDate")
    assert described == {
        "executionArn": "arn:aws:states:us-east-1:000000000000:execution:m:x",
        "stateMachineArn": arn,
        "name": "x",
        "status": "SUCCEEDED",
        "input": '{"a":  1}',
        "inputDetails": {"included": True},
        "output": '{"a":  1}',
        "outputDetails": {"included": True},
        "redriveCount": 0,
        "redriveStatus": "NOT_REDRIVABLE",
        "redriveStatusReason": "Execution is SUCCEEDED and cannot be redriven",
    }
    history = sfn.get_execution_history(executionArn=started["executionArn"])
    events = [{k: v for k, v in event.items() if k != "timestamp"} for event in history["events"]]
    assert events[1] == {
        "type": "PassStateEntered",
        "id": 2,
        "previousEventId": 0,
        "stateEnteredEventDetails": {"name": "A", "input": '{"a":  1}', "inputDetails": {"truncated": False}},
    }
    assert [event["id"] for event in events] == [1, 2, 3, 4]


def test_metadata_only_leaves_data_out(sfn: Any) -> None:
    arn = create(sfn)
    execution = sfn.start_execution(stateMachineArn=arn)["executionArn"]
    described = sfn.describe_execution(executionArn=execution, includedData="METADATA_ONLY")
    assert not {"input", "output", "inputDetails", "outputDetails"} & set(described)
    assert sfn.describe_state_machine(stateMachineArn=arn, includedData="METADATA_ONLY")["definition"] == "{}"
    history = sfn.get_execution_history(executionArn=execution, includeExecutionData=False)
    assert "input" not in history["events"][0]["executionStartedEventDetails"]


def test_history_is_paged_both_ways(sfn: Any) -> None:
    execution = sfn.start_execution(stateMachineArn=create(sfn))["executionArn"]
    for reverse in (False, True):
        ids: list[int] = []
        token: dict[str, str] = {}
        while True:
            page = sfn.get_execution_history(executionArn=execution, maxResults=3, reverseOrder=reverse, **token)
            ids += [event["id"] for event in page["events"]]
            if "nextToken" not in page:
                break
            token = {"nextToken": page["nextToken"]}
        assert ids == sorted([1, 2, 3, 4], reverse=reverse)


def test_a_page_token_is_bound_to_its_listing_and_expires(stack: Stack, sfn: Any) -> None:
    first = sfn.start_execution(stateMachineArn=create(sfn))["executionArn"]
    second = sfn.start_execution(stateMachineArn=create(sfn))["executionArn"]
    token = sfn.get_execution_history(executionArn=first, maxResults=2)["nextToken"]
    invalid = ("InvalidToken", "Invalid Token: 'Invalid token'", 400)
    assert refused(sfn.get_execution_history, executionArn=second, nextToken=token) == invalid
    assert refused(sfn.list_state_machines, nextToken=token) == invalid
    assert refused(sfn.list_state_machines, nextToken="rubbish") == invalid
    assert sfn.get_execution_history(executionArn=first, nextToken=token)["events"][0]["id"] == 3
    stack.clock.offset_ms += 24 * 3_600_000 + 1
    assert refused(sfn.get_execution_history, executionArn=first, nextToken=token) == invalid


def test_creating_twice_is_one_machine_unless_something_differs(sfn: Any) -> None:
    arn = create(sfn)
    assert create(sfn) == arn
    other_role = sfn.create_state_machine(name="m", definition=PASS, roleArn=ROLE + "2")
    assert other_role["stateMachineArn"] == arn
    assert sfn.describe_state_machine(stateMachineArn=arn)["roleArn"] == ROLE
    exists = ("StateMachineAlreadyExists", f"State Machine Already Exists: '{arn}'", 400)
    spaced = PASS.replace(":", ": ", 1).replace('"StartAt"', '  "StartAt"')
    assert refused(sfn.create_state_machine, name="m", definition=spaced, roleArn=ROLE) == exists
    tracing = {"enabled": True}
    assert (
        refused(sfn.create_state_machine, name="m", definition=PASS, roleArn=ROLE, tracingConfiguration=tracing)
        == exists
    )


def test_describe_shows_defaults_and_an_update_gives_a_revision(sfn: Any) -> None:
    arn = create(sfn)
    described = body(sfn.describe_state_machine(stateMachineArn=arn))
    del described["creationDate"]
    assert described == {
        "stateMachineArn": arn,
        "name": "m",
        "status": "ACTIVE",
        "definition": PASS,
        "roleArn": ROLE,
        "type": "STANDARD",
        "loggingConfiguration": {"level": "OFF", "includeExecutionData": False},
        "tracingConfiguration": {"enabled": False},
    }
    revision = sfn.update_state_machine(stateMachineArn=arn, definition=FAIL)["revisionId"]
    described = sfn.describe_state_machine(stateMachineArn=arn)
    assert (described["revisionId"], described["definition"]) == (revision, FAIL)
    execution = sfn.start_execution(stateMachineArn=arn)["executionArn"]
    assert sfn.describe_execution(executionArn=execution)["status"] == "FAILED"


def test_an_execution_keeps_the_definition_it_was_started_with(sfn: Any) -> None:
    arn = create(sfn)
    execution = sfn.start_execution(stateMachineArn=arn)["executionArn"]
    sfn.update_state_machine(stateMachineArn=arn, definition=FAIL)
    sfn.delete_state_machine(stateMachineArn=arn)
    assert sfn.describe_state_machine_for_execution(executionArn=execution)["definition"] == PASS


def test_state_machines_are_listed_in_pages_and_deleted(sfn: Any) -> None:
    arns = [create(sfn, f"m{number}") for number in range(5)]
    pages = sfn.get_paginator("list_state_machines").paginate(PaginationConfig={"PageSize": 2})
    assert [item["stateMachineArn"] for page in pages for item in page["stateMachines"]] == arns
    item = sfn.list_state_machines()["stateMachines"][0]
    assert set(item) == {"stateMachineArn", "name", "type", "creationDate"}
    for arn in (*arns, arns[0]):
        assert body(sfn.delete_state_machine(stateMachineArn=arn)) == {}
    assert sfn.list_state_machines()["stateMachines"] == []


def test_executions_are_listed_newest_first_by_status(stack: Stack, sfn: Any) -> None:
    good, bad = create(sfn), create(sfn, "bad", FAIL)
    for number in range(3):
        stack.clock.offset_ms += 10
        sfn.start_execution(stateMachineArn=good, name=f"x{number}")
    sfn.start_execution(stateMachineArn=bad)
    listed = sfn.list_executions(stateMachineArn=good, maxResults=2)
    assert [item["name"] for item in listed["executions"]] == ["x2", "x1"]
    assert not {"input", "output"} & set(listed["executions"][0])
    rest = sfn.list_executions(stateMachineArn=good, nextToken=listed["nextToken"])
    assert [item["name"] for item in rest["executions"]] == ["x0"]
    assert "nextToken" not in rest
    assert sfn.list_executions(stateMachineArn=good, statusFilter="FAILED")["executions"] == []
    assert len(sfn.list_executions(stateMachineArn=bad, statusFilter="FAILED")["executions"]) == 1


def test_starting_again_under_one_name(sfn: Any) -> None:
    arn = create(sfn, definition=TOKEN)
    first = sfn.start_execution(stateMachineArn=arn, name="x", input="{}")
    again = sfn.start_execution(stateMachineArn=arn, name="x", input="{}")
    assert (again["executionArn"], again["startDate"]) == (first["executionArn"], first["startDate"])
    exists = ("ExecutionAlreadyExists", f"Execution Already Exists: '{first['executionArn']}'", 400)
    assert refused(sfn.start_execution, stateMachineArn=arn, name="x", input='{"b": 1}') == exists
    sfn.stop_execution(executionArn=first["executionArn"], error="E", cause="C")
    assert refused(sfn.start_execution, stateMachineArn=arn, name="x", input="{}") == exists
    described = sfn.describe_execution(executionArn=first["executionArn"])
    assert (described["status"], described["error"], described["cause"]) == ("ABORTED", "E", "C")


def test_an_unsuccessful_execution_is_redriven_until_it_is_too_old(stack: Stack, sfn: Any) -> None:
    execution = sfn.start_execution(stateMachineArn=create(sfn, definition=FAIL))["executionArn"]
    assert sfn.describe_execution(executionArn=execution)["redriveStatus"] == "REDRIVABLE"
    at = sfn.redrive_execution(executionArn=execution, clientToken="t")["redriveDate"]
    stack.clock.offset_ms += 1000
    assert sfn.redrive_execution(executionArn=execution, clientToken="t")["redriveDate"] == at
    described = sfn.describe_execution(executionArn=execution)
    assert (described["redriveCount"], described["redriveDate"]) == (1, at)
    stack.clock.offset_ms += 14 * 86_400_000
    reason = "Execution redrivable period exceeded"
    assert refused(sfn.redrive_execution, executionArn=execution) == ("ExecutionNotRedrivable", reason, 400)
    described = sfn.describe_execution(executionArn=execution)
    assert (described["redriveStatus"], described["redriveStatusReason"]) == ("NOT_REDRIVABLE", reason)


def test_a_successful_execution_is_not_redriven(sfn: Any) -> None:
    execution = sfn.start_execution(stateMachineArn=create(sfn))["executionArn"]
    reason = "Execution is SUCCEEDED and cannot be redriven"
    assert refused(sfn.redrive_execution, executionArn=execution) == ("ExecutionNotRedrivable", reason, 400)


def test_an_activity_worker_takes_a_task_and_reports(stack: Stack, sfn: Any) -> None:
    activity = sfn.create_activity(name="work")
    assert sfn.create_activity(name="work")["activityArn"] == activity["activityArn"]
    described = body(sfn.describe_activity(activityArn=activity["activityArn"]))
    assert described["encryptionConfiguration"] == {"type": "AWS_OWNED_KEY"}
    execution = sfn.start_execution(stateMachineArn=create(sfn, definition=TOKEN), input='{"n": 1}')["executionArn"]
    task = sfn.get_activity_task(activityArn=activity["activityArn"], workerName="w")
    assert task["input"] == '{"n": 1}'
    assert body(sfn.send_task_heartbeat(taskToken=task["taskToken"])) == {}
    assert refused(sfn.send_task_success, taskToken=task["taskToken"], output="no json")[0] == "InvalidOutput"
    assert body(sfn.send_task_success(taskToken=task["taskToken"], output='{"m": 2}')) == {}
    assert sfn.describe_execution(executionArn=execution)["output"] == '{"m": 2}'
    exited = sfn.get_execution_history(executionArn=execution, reverseOrder=True)["events"][1]
    details = exited["stateExitedEventDetails"]
    assert json.loads(details["assignedVariables"]["seen"]) == {"m": 2}
    assert details["assignedVariablesDetails"] == {"truncated": False}
    timed_out = ("TaskTimedOut", "Task Timed Out: 'Provided task does not exist anymore'", 400)
    assert refused(sfn.send_task_success, taskToken=task["taskToken"], output="{}") == timed_out
    assert refused(sfn.send_task_heartbeat, taskToken=task["taskToken"]) == timed_out
    invalid = ("InvalidToken", "Invalid Token: 'Invalid token'", 400)
    assert refused(sfn.send_task_failure, taskToken="rubbish") == invalid
    sfn.delete_activity(activityArn=activity["activityArn"])
    assert sfn.list_activities()["activities"] == []
    assert refused(sfn.describe_activity, activityArn=activity["activityArn"])[0] == "ActivityDoesNotExist"


def test_a_poll_is_answered_when_a_task_arrives(stack: Stack, sfn: Any, url: str) -> None:
    activity = sfn.create_activity(name="work")["activityArn"]
    arn = create(sfn, definition=TOKEN)
    answers: list[Any] = []
    poller = threading.Thread(target=lambda: answers.append(aws(url).get_activity_task(activityArn=activity)))
    poller.start()
    while not stack.runtime.polling.is_set():  # the poll has reached the runtime, in the server's thread
        poller.join(0.01)
    sfn.start_execution(stateMachineArn=arn, input="[1]")
    poller.join(60)
    assert answers[0]["input"] == "[1]"
    assert stack.runtime.claims == list[Claim]()


def test_a_definition_is_checked_with_all_findings(sfn: Any) -> None:
    definition = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Pass", "Next": "B"}}})
    answer = sfn.validate_state_machine_definition(definition=definition)
    assert answer["result"] == "FAIL"
    assert answer["truncated"] is False
    assert {"severity", "code", "message", "location"} == set(answer["diagnostics"][0])
    code, message, _ = refused(sfn.create_state_machine, name="m", definition=definition, roleArn=ROLE)
    assert code == "InvalidDefinition"
    assert message.startswith("Invalid State Machine Definition: 'MISSING_TRANSITION_TARGET: ")
    assert sfn.validate_state_machine_definition(definition=PASS)["result"] == "OK"


def test_resources_belong_to_the_region_of_the_signature(url: str) -> None:
    arn = create(aws(url, region="eu-west-3"))
    assert arn == "arn:aws:states:eu-west-3:000000000000:stateMachine:m"
    assert aws(url).list_state_machines()["stateMachines"][0]["stateMachineArn"] == arn


def test_a_trace_header_is_kept(sfn: Any) -> None:
    execution = sfn.start_execution(stateMachineArn=create(sfn), traceHeader="Root=1-abc")["executionArn"]
    assert sfn.describe_execution(executionArn=execution)["traceHeader"] == "Root=1-abc"


# -------------------------------------------------------------------------------------------------------------- Express


def test_a_synchronous_express_execution(sfn: Any) -> None:
    arn = create(sfn, "x", type="EXPRESS")
    assert sfn.describe_state_machine(stateMachineArn=arn)["type"] == "EXPRESS"
    answer = body(sfn.start_sync_execution(stateMachineArn=arn, name="n", input='{"a":  1}', traceHeader="t"))
    execution = answer.pop("executionArn")
    assert execution.startswith("arn:aws:states:us-east-1:000000000000:express:x:n:")
    assert answer.pop("startDate") <= answer.pop("stopDate")
    assert answer == {
        "stateMachineArn": arn,
        "name": "n",
        "status": "SUCCEEDED",
        "input": '{"a":  1}',
        "inputDetails": {"included": True},
        "output": '{"a":  1}',
        "outputDetails": {"included": True},
        "traceHeader": "t",
        "billingDetails": {"billedMemoryUsedInMB": 64, "billedDurationInMilliseconds": 100},
    }
    for call in (sfn.describe_execution, sfn.stop_execution, sfn.get_execution_history, sfn.redrive_execution):
        code, message, _ = refused(call, executionArn=execution)
        assert (code, message) == ("InvalidArn", "Invalid Arn: 'Resource type not valid in this context: express'")


def test_a_synchronous_execution_that_fails_is_an_answer(sfn: Any) -> None:
    arn = create(sfn, "x", FAIL, type="EXPRESS")
    answer = body(sfn.start_sync_execution(stateMachineArn=arn))
    assert (answer["status"], answer["error"], answer["cause"]) == ("FAILED", "Broken", "for good")
    assert "output" not in answer and answer["outputDetails"] == {"included": True}
    bare = body(sfn.start_sync_execution(stateMachineArn=arn, includedData="METADATA_ONLY"))
    assert "input" not in bare and bare["inputDetails"] == {"included": False}


def test_what_each_type_of_state_machine_does_not_support(sfn: Any) -> None:
    said = ("StateMachineTypeNotSupported", "This operation is not supported by this type of state machine", 400)
    assert refused(sfn.start_sync_execution, stateMachineArn=create(sfn, "standard")) == said
    assert refused(sfn.list_executions, stateMachineArn=create(sfn, "express", type="EXPRESS")) == said


def test_an_express_execution_is_started_and_then_asked_for_in_vain(sfn: Any) -> None:
    arn = create(sfn, "x", type="EXPRESS")
    first, second = (sfn.start_execution(stateMachineArn=arn, name="n", input="{}") for _ in range(2))
    assert set(body(first)) == {"executionArn", "startDate"}
    assert first["executionArn"] != second["executionArn"]
    assert first["executionArn"].rsplit(":", 1)[0] == "arn:aws:states:us-east-1:000000000000:express:x:n"
    code, message, _ = refused(sfn.describe_execution, executionArn=first["executionArn"])
    assert (code, message) == ("InvalidArn", "Invalid Arn: 'Resource type not valid in this context: express'")


def test_the_variables_that_states_read_are_told(sfn: Any) -> None:
    reads = {
        "StartAt": "A",
        "States": {
            "A": {"Type": "Pass", "Assign": {"x": 1, "y": 2}, "Next": "B"},
            "B": {"Type": "Pass", "Parameters": {"all.$": "States.Array($y, $x)"}, "End": True},
        },
    }
    arn = create(sfn, "reads", json.dumps(reads))
    assert sfn.describe_state_machine(stateMachineArn=arn)["variableReferences"] == {"B": ["x", "y"]}
    assert "variableReferences" not in sfn.describe_state_machine(stateMachineArn=arn, includedData="METADATA_ONLY")
    execution = sfn.start_execution(stateMachineArn=arn)["executionArn"]
    told = sfn.describe_state_machine_for_execution(executionArn=execution)
    assert told["variableReferences"] == {"B": ["x", "y"]}
    assert "variableReferences" not in sfn.describe_state_machine(stateMachineArn=create(sfn, "plain"))
