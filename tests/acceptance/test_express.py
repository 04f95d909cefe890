"""Express state machines as users call them: by boto3 and REST, with a function host, a Celery worker and HTTP at work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.acceptance.conftest import Stepwell, fresh, machine

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("acceptance")]

ROLE = "arn:aws:iam::000000000000:role/any"
SUM = machine(Add={"Type": "Pass", "Parameters": {"sum.$": "States.MathAdd($.a, $.b)"}})


@pytest.fixture
def express(server: Stepwell) -> Iterator[Any]:
    """boto3 as the documentation tells: without the prefix of the host."""
    client = boto3.client(
        "stepfunctions",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(inject_host_prefix=False),
    )
    yield client
    client.close()


def create(client: Any, definition: dict[str, Any]) -> str:
    made = client.create_state_machine(
        name=fresh("express"), definition=json.dumps(definition), roleArn=ROLE, type="EXPRESS"
    )
    return str(made["stateMachineArn"])


def deploy(server: Stepwell, definition: dict[str, Any]) -> str:
    name = fresh("express")
    answer = server.api.put(f"/v1/state-machines/{name}", json={"definition": definition, "type": "EXPRESS"})
    assert answer.status_code == 201, answer.text
    return name


def test_boto3_waits_for_the_end(express: Any) -> None:
    arn = create(express, SUM)
    answer = express.start_sync_execution(stateMachineArn=arn, input='{"a": 1, "b": 2}')
    assert (answer["status"], json.loads(answer["output"])) == ("SUCCEEDED", {"sum": 3})
    assert answer["executionArn"].split(":")[5] == "express"
    failed = express.start_sync_execution(stateMachineArn=arn, input="{}")
    assert (failed["status"], failed["error"]) == ("FAILED", "States.Runtime")


def test_many_wait_at_once(express: Any) -> None:
    arn = create(express, machine(Rest={"Type": "Wait", "Seconds": 1}, Add=SUM["States"]["Add"]))

    def call(number: int) -> int:
        answer = express.start_sync_execution(stateMachineArn=arn, input=json.dumps({"a": number, "b": 1}))
        return int(json.loads(answer["output"])["sum"])

    with ThreadPoolExecutor(10) as callers:
        assert list(callers.map(call, range(40))) == list(range(1, 41))


def test_boto3_starts_one_and_rest_tells_how_it_ended(server: Stepwell, express: Any) -> None:
    arn = create(express, SUM)
    execution = express.start_execution(stateMachineArn=arn, name="n", input='{"a": 1, "b": 2}')["executionArn"]
    with pytest.raises(ClientError, match="Resource type not valid in this context: express"):
        express.describe_execution(executionArn=execution)
    with pytest.raises(express.exceptions.StateMachineTypeNotSupported):
        express.list_executions(stateMachineArn=arn)
    shown = server.ended(execution)
    assert (shown["type"], shown["status"], shown["output"], shown["attempt"]) == (
        "EXPRESS",
        "SUCCEEDED",
        {"sum": 3},
        1,
    )
    listed = server.api.get("/v1/executions", params={"stateMachine": arn}).json()["items"]
    assert [one["arn"] for one in listed] == [execution]


def test_function_celery_worker_and_http_work_for_it(server: Stepwell) -> None:
    function = fresh("price")
    target = {"kind": "python", "target": "asl_examples.functions:price_order"}
    assert server.api.put(f"/v1/functions/{function}", json=target).status_code in (200, 201)
    effect = fresh("Tell")
    definition = machine(
        Price={"Type": "Task", "Resource": f"arn:aws:lambda:us-east-1:000000000000:function:{function}", "ResultPath": "$.price"},
        Reserve={"Type": "Task", "Resource": "celery:order_processing.reserve_goods", "ResultPath": "$.reserved"},
        Tell=server.effect(effect, ResultPath="$.told"),
    )  # fmt: skip
    name = deploy(server, definition)
    order = {"order_id": "7", "items": [{"sku": "desk", "quantity": 1}], "coupon": None}
    told = server.start(name, order, sync="true").json()
    assert told["status"] == "SUCCEEDED", told
    assert told["output"]["reserved"]["reservation_id"] == "R-7"
    waited = server.start(name, order, wait=30).json()
    assert (waited["status"], waited["output"]["reserved"]) == ("SUCCEEDED", told["output"]["reserved"])
    assert len(server.ledger.of(effect)) == 2
    refused = server.start(name, {**order, "items": [{"sku": "desk", "quantity": 9}]}, sync="true").json()
    assert (refused["status"], refused["error"]) == ("FAILED", "OutOfStock")


@pytest.mark.parametrize(
    ("resource", "said"),
    (
        ("arn:aws:states:us-east-1:000000000000:activity:a", "does not support Activity ARN"),
        ("arn:aws:states:::lambda:invoke.waitForTaskToken", "does not support '.waitForTaskToken' service integration"),
        ("arn:aws:states:::states:startExecution.sync", "does not support '.sync' service integration"),
    ),
)
def test_what_an_express_state_machine_cannot_do(express: Any, resource: str, said: str) -> None:
    with pytest.raises(express.exceptions.InvalidDefinition, match=said.replace("(", r"\(")):
        create(express, machine(Work={"Type": "Task", "Resource": resource, "Parameters": {}}))
