"""The service integrations of AWS Step Functions: which actions a Resource can name, and how it can wait for them.

AWS guide, "Integrating services with Step Functions". Calls of the SDK (`aws-sdk:...`) are not listed here. It must not know what
carries an integration out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stepwell.engine.asl.resources import IntegrationPattern

_TOKEN: Final = frozenset({IntegrationPattern.REQUEST_RESPONSE, IntegrationPattern.WAIT_FOR_TASK_TOKEN})
_SYNC: Final = frozenset({IntegrationPattern.REQUEST_RESPONSE, IntegrationPattern.SYNC})
_PLAIN: Final = frozenset({IntegrationPattern.REQUEST_RESPONSE})
_ALL: Final = frozenset(IntegrationPattern)


def _actions(names: str, patterns: frozenset[IntegrationPattern]) -> dict[str, frozenset[IntegrationPattern]]:
    return dict.fromkeys(names.split(), patterns)


INTEGRATIONS: Final[Mapping[str, Mapping[str, frozenset[IntegrationPattern]]]] = {
    "apigateway": _actions("invoke", _TOKEN),
    "athena": {
        **_actions("startQueryExecution", _SYNC),
        **_actions("stopQueryExecution getQueryExecution getQueryResults", _PLAIN),
    },
    "batch": _actions("submitJob", _SYNC | _TOKEN),
    "bedrock": {
        **_actions("invokeModel", _PLAIN),
        **_actions("createModelCustomizationJob", _SYNC),
    },
    "codebuild": {
        **_actions("startBuild startBuildBatch retryBuild retryBuildBatch", _SYNC),
        **_actions("stopBuild stopBuildBatch batchDeleteBuilds batchGetReports deleteBuildBatch", _PLAIN),
    },
    "databrew": _actions("startJobRun", _SYNC),
    "dynamodb": _actions("getItem putItem deleteItem updateItem", _PLAIN),
    "ecs": _actions("runTask", _SYNC | _TOKEN),
    "eks": {
        **_actions(
            "createCluster deleteCluster createFargateProfile deleteFargateProfile createNodegroup deleteNodegroup runJob",
            _SYNC,
        ),
        **_actions("call", _PLAIN),
    },
    "elasticmapreduce": {
        **_actions("createCluster terminateCluster addStep", _SYNC),
        **_actions(
            "cancelStep setClusterTerminationProtection modifyInstanceFleetByName modifyInstanceGroupByName", _PLAIN
        ),
    },
    "emr-containers": {
        **_actions("deleteVirtualCluster startJobRun", _SYNC),
        **_actions("createVirtualCluster", _PLAIN),
    },
    "emr-serverless": _actions(
        "createApplication deleteApplication startApplication stopApplication startJobRun cancelJobRun", _SYNC
    ),
    "events": _actions("putEvents", _TOKEN),
    "glue": _actions("startJobRun", _SYNC),
    "http": _actions("invoke", _PLAIN),
    "lambda": _actions("invoke", _TOKEN),
    "mediaconvert": _actions("createJob", _SYNC),
    "sagemaker": {
        **_actions(
            "createHyperParameterTuningJob createLabelingJob createProcessingJob createTrainingJob createTransformJob",
            _SYNC,
        ),
        **_actions("createEndpoint createEndpointConfig createModel updateEndpoint", _PLAIN),
    },
    "sns": _actions("publish", _TOKEN),
    "sqs": _actions("sendMessage", _TOKEN),
    "states": _actions("startExecution", _ALL),
}
"""Services to their actions to the patterns each can be called with."""

REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "apigateway:invoke": ("ApiEndpoint", "Method"),
    "athena:startQueryExecution": ("QueryString",),
    "batch:submitJob": ("JobName", "JobQueue", "JobDefinition"),
    "bedrock:invokeModel": ("ModelId",),
    "codebuild:startBuild": ("ProjectName",),
    "dynamodb:deleteItem": ("TableName", "Key"),
    "dynamodb:getItem": ("TableName", "Key"),
    "dynamodb:putItem": ("TableName", "Item"),
    "dynamodb:updateItem": ("TableName", "Key"),
    "ecs:runTask": ("TaskDefinition",),
    "events:putEvents": ("Entries",),
    "glue:startJobRun": ("JobName",),
    "http:invoke": ("ApiEndpoint", "Method"),
    "lambda:invoke": ("FunctionName",),
    "s3:getObject": ("Bucket", "Key"),
    "s3:listObjectsV2": ("Bucket",),
    "s3:putObject": ("Bucket",),
    "sns:publish": ("Message",),
    "sqs:sendMessage": ("QueueUrl", "MessageBody"),
    "states:startExecution": ("StateMachineArn",),
}
"""Parameters without which a call cannot be made."""

KNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "http:invoke": (
        "ApiEndpoint", "Method", "Authentication", "InvocationConfig", "Headers", "QueryParameters", "RequestBody",
        "Transform",
    ),
    "lambda:invoke": (
        "FunctionName", "Payload", "InvocationType", "LogType", "ClientContext", "Qualifier", "TenantId",
        "DurableExecutionName",
    ),
    "s3:getObject": ("Bucket", "Key", "VersionId", "ExpectedBucketOwner"),
    "s3:putObject": ("Bucket", "Prefix", "ExpectedBucketOwner"),
}  # fmt: skip
"""All parameters, for the calls that Stepwell carries out."""
