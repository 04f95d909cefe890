"""Mocked results against the models of the APIs they stand for."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from stepwell.engine.asl.resources import parse_resource
from stepwell.engine.service.mock_shapes import FieldValidation, MockShapeError, NoModelError, check_mock, spellings

STRICT, PRESENT, NONE = FieldValidation


def check(resource: str, result: Any, mode: FieldValidation = STRICT) -> None:
    parsed = parse_resource(f"arn:aws:states:::{resource}")
    assert parsed is not None
    check_mock(parsed, result, mode)


@pytest.mark.parametrize(
    ("resource", "result", "says"),
    (
        ("lambda:invoke", [], "The result must be an object"),
        ("lambda:invoke", {"StatusCode": True}, "Field 'StatusCode' must be a number"),
        ("lambda:invoke", {"ExecutedVersion": ""}, "Field 'ExecutedVersion' is smaller than the minimum length"),
        ("states:startExecution", {"StartDate": "now"}, "Required field 'ExecutionArn' is missing"),
        ("states:startExecution.sync:2", {"ExecutionArn": "a"}, "Required field 'StateMachineArn' is missing"),
        ("sqs:sendMessage", {"MD5OfMessageBody": 1}, "Field 'MD5OfMessageBody' must be a string"),
        ("aws-sdk:sqs:sendMessage", {"Md5OfMessageBody": 1}, "Field 'Md5OfMessageBody' must be a string"),
        ("dynamodb:getItem", {"Item": {"a": {"N": 1}}}, "Field 'N' must be a string"),
        ("dynamodb:getItem", {"Item": {"a": {"BOOL": "yes"}}}, "Field 'BOOL' must be a boolean"),
        ("dynamodb:getItem", {"Item": [1]}, "Field 'Item' must be an object"),
        ("dynamodb:getItem", {"Item": {"a": {"L": [{"M": {"b": {"SS": "x"}}}]}}}, None),
        ("aws-sdk:dynamodb:batchGetItem", {"Responses": {"t": "x"}}, "Field 'Responses' must be an array"),
        ("aws-sdk:sfn:describeExecution", {}, "Required field 'ExecutionArn' is missing"),
        ("aws-sdk:cognitoidentityprovider:listUsers", {"Users": {}}, "Field 'Users' must be an array"),
    ),
)
def test_what_an_api_would_not_answer(resource: str, result: Any, says: str | None) -> None:
    pytest.importorskip("botocore")
    if says is None:
        check(resource, result)
        return
    with pytest.raises(MockShapeError) as wrong:
        check(resource, result)
    assert str(wrong.value) == f"Mock result schema validation error: {says}"
    check(resource, result, NONE)


@pytest.mark.parametrize(
    ("resource", "result"),
    (
        ("lambda:invoke", {"Payload": [1], "StatusCode": 200, "SdkHttpMetadata": {}}),
        ("http:invoke", "anything"),
        ("apigateway:invoke", 1),
        ("sqs:sendMessage.waitForTaskToken", 1),
        ("glue:startJobRun.sync", 1),
        ("aws-sdk:nosuchservice:doIt", 1),
        ("aws-sdk:s3:noSuchAction", 1),
        ("states:startExecution", {"ExecutionArn": "a", "StartDate": "2026", "New": 1}),
        (
            "states:startExecution.sync:2",
            {"ExecutionArn": "a", "StateMachineArn": "b", "Status": "SUCCEEDED", "StartDate": 1, "Output": {"a": 1}},
        ),
    ),
)
def test_what_is_let_pass(resource: str, result: Any) -> None:
    pytest.importorskip("botocore")
    check(resource, result)


def test_only_what_is_there_counts_where_that_is_asked() -> None:
    check("states:startExecution", {}, PRESENT)
    with pytest.raises(MockShapeError):
        check("states:startExecution", {"ExecutionArn": ""}, PRESENT)


def test_without_botocore_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.loaders", None)
    with pytest.raises(NoModelError, match=r"sns:publish.*stepwell\[aws\].*fieldValidationMode to NONE"):
        check("aws-sdk:sns:publish", {})
    check("lambda:invoke", {"StatusCode": 200})
    check("sns:publish", {}, NONE)


@pytest.mark.parametrize(
    ("member", "spelt"),
    (
        ("executionArn", ["ExecutionArn"]),
        ("MD5OfMessageBody", ["MD5OfMessageBody", "Md5OfMessageBody"]),
        ("SSECustomerAlgorithm", ["SSECustomerAlgorithm", "SseCustomerAlgorithm"]),
        ("DBInstanceArn", ["DBInstanceArn", "DbInstanceArn"]),
        ("ETag", ["ETag"]),
    ),
)
def test_how_members_are_spelt(member: str, spelt: list[str]) -> None:
    assert list(spellings(member)) == spelt
