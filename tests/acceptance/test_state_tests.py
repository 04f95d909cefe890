"""States tested on a real server: its function host, its Celery worker and HTTP do their work, and nothing of it is kept."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.acceptance.conftest import Stepwell, fresh
from tests.cli.conftest import command, machine

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("acceptance")]

RESERVE = {
    "Type": "Task",
    "Resource": "celery:order_processing.reserve_goods",
    "ResultPath": "$.reserved",
    "Catch": [{"ErrorEquals": ["OutOfStock"], "Next": "Apologise"}],
    "Next": "Charge",
}


def order(quantity: int) -> dict[str, Any]:
    return {"order_id": "7", "items": [{"sku": "desk", "quantity": quantity}]}


def test_a_celery_worker_does_the_work_of_a_tested_state(server: Stepwell) -> None:
    def tested(quantity: int) -> dict[str, Any]:
        body = {"definition": RESERVE, "input": order(quantity)}
        told: dict[str, Any] = server.api.post("/v1/test-state", json=body).json()
        return told

    def executions() -> set[str]:
        return {one["id"] for one in server.api.get("/v1/executions", params={"limit": 1000}).json()["items"]}

    before = executions()
    told = tested(2)
    assert (told["status"], told["nextState"]) == ("SUCCEEDED", "Charge"), told
    assert told["output"]["reserved"]["reservation_id"] == "R-7"
    assert told["inspectionData"]["result"] == told["output"]["reserved"]
    told = tested(9)
    assert (told["status"], told["error"], told["nextState"]) == ("CAUGHT_ERROR", "OutOfStock", "Apologise")
    assert executions() == before, "a test is no execution"


def test_a_function_does_the_work_for_boto3(server: Stepwell) -> None:
    name = fresh("price")
    target = {"kind": "python", "target": "asl_examples.functions:price_order"}
    assert server.api.put(f"/v1/functions/{name}", json=target).status_code in (200, 201)
    client = boto3.client(
        "stepfunctions",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(inject_host_prefix=False),
    )
    definition = {"Type": "Task", "Resource": f"arn:aws:lambda:us-east-1:000000000000:function:{name}", "End": True}
    request = {"definition": json.dumps(definition), "roleArn": "arn:aws:iam::000000000000:role/any"}
    told = client.test_state(**request, input=json.dumps({**order(1), "coupon": None}), inspectionLevel="DEBUG")
    assert told["status"] == "SUCCEEDED", told
    assert json.loads(told["inspectionData"]["result"]) == json.loads(told["output"])
    client.close()


def test_the_command_tests_on_the_server_and_shows_the_exchange(server: Stepwell, tmp_path: Any) -> None:
    secret = "hunter22"
    arn = server.api.put(
        f"/v1/connections/{fresh('connection')}",
        json={"authParameters": {"ApiKeyAuthParameters": {"ApiKeyName": "X-Api-Key", "ApiKeyValue": secret}}},
    ).json()["arn"]
    call = {
        "Type": "Task",
        "Resource": "arn:aws:states:::http:invoke",
        "Parameters": {
            "ApiEndpoint": f"{server.ledger.url}/effects/{fresh('call')}",
            "Method": "POST",
            "RequestBody": {"execution": "none"},
            "Authentication": {"ConnectionArn": arn},
        },
        "End": True,
    }
    file = tmp_path / "machine.asl.json"
    file.write_text(json.dumps(machine("Call", Call=call)))
    ran = command("test-state", file, "--server", "--inspect", STEPWELL_URL=server.url)
    assert ran.returncode == 0, ran.stderr
    assert "  request               POST" in ran.stderr and "  response              200" in ran.stderr
    assert secret not in ran.stdout + ran.stderr
    refused = command("test-state", file, "--server", "--reveal-secrets", STEPWELL_URL=server.url)
    assert (refused.returncode, "STEPWELL_REVEAL_SECRETS" in refused.stderr) == (2, True), refused
