"""The inputs of the operations: members and their constraints, transcribed from the API model (stepfunctions 2016-11-23)."""

from __future__ import annotations

from typing import Final

from stepwell.api.wire.constraints import Choice, Flag, ListOf, Number, Structure, Text, structure

ARN: Final = Text(1, 256)
NAME: Final = Text(1, 80)
DEFINITION: Final = Text(1, 1_048_576)
DATA: Final = Text(0, 262_144)
PAGE_SIZE: Final = Number(0, 1_000)
PAGE_TOKEN: Final = Text(1, 1_024)
TASK_TOKEN: Final = Text(1, 2_048)
ERROR: Final = Text(0, 256)
CAUSE: Final = Text(0, 32_768)
TRACE_HEADER: Final = Text(0, 256, r"\p{ASCII}*")
MACHINE_TYPE: Final = Choice(("STANDARD", "EXPRESS"))
EXECUTION_STATUS: Final = Choice(("SUCCEEDED", "TIMED_OUT", "PENDING_REDRIVE", "ABORTED", "FAILED", "RUNNING"))
INCLUDED_DATA: Final = Choice(("ALL_DATA", "METADATA_ONLY"))
TAGS: Final = ListOf(structure(key=Text(1, 128), value=Text(0, 256)))
LOGGING: Final = structure(
    level=Choice(("ALL", "ERROR", "FATAL", "OFF")),
    includeExecutionData=Flag(),
    destinations=ListOf(structure(cloudWatchLogsLogGroup=structure(logGroupArn=ARN))),
)
TRACING: Final = structure(enabled=Flag())
ENCRYPTION: Final = structure(
    "type",
    kmsKeyId=Text(1, 2_048),
    kmsDataKeyReusePeriodSeconds=Number(60, 900),
    type=Choice(("AWS_OWNED_KEY", "CUSTOMER_MANAGED_KMS_KEY")),
)

INPUTS: Final[dict[str, Structure]] = {
    "CreateActivity": structure("name", name=NAME, tags=TAGS, encryptionConfiguration=ENCRYPTION),
    "CreateStateMachine": structure(
        "name definition roleArn",
        name=NAME,
        definition=DEFINITION,
        roleArn=ARN,
        type=MACHINE_TYPE,
        loggingConfiguration=LOGGING,
        tags=TAGS,
        tracingConfiguration=TRACING,
        publish=Flag(),
        versionDescription=Text(0, 256),
        encryptionConfiguration=ENCRYPTION,
    ),
    "DeleteActivity": structure("activityArn", activityArn=ARN),
    "DeleteStateMachine": structure("stateMachineArn", stateMachineArn=ARN),
    "DescribeActivity": structure("activityArn", activityArn=ARN),
    "DescribeExecution": structure("executionArn", executionArn=ARN, includedData=INCLUDED_DATA),
    "DescribeMapRun": structure("mapRunArn", mapRunArn=Text(1, 2_000)),
    "DescribeStateMachine": structure("stateMachineArn", stateMachineArn=ARN, includedData=INCLUDED_DATA),
    "DescribeStateMachineForExecution": structure("executionArn", executionArn=ARN, includedData=INCLUDED_DATA),
    "GetActivityTask": structure("activityArn", activityArn=ARN, workerName=NAME),
    "GetExecutionHistory": structure(
        "executionArn",
        executionArn=ARN,
        maxResults=PAGE_SIZE,
        reverseOrder=Flag(),
        nextToken=PAGE_TOKEN,
        includeExecutionData=Flag(),
    ),
    "ListActivities": structure(maxResults=PAGE_SIZE, nextToken=PAGE_TOKEN),
    "ListExecutions": structure(
        stateMachineArn=ARN,
        statusFilter=EXECUTION_STATUS,
        maxResults=PAGE_SIZE,
        nextToken=Text(1, 3_096),
        mapRunArn=Text(1, 2_000),
        redriveFilter=Choice(("REDRIVEN", "NOT_REDRIVEN")),
    ),
    "ListMapRuns": structure("executionArn", executionArn=ARN, maxResults=PAGE_SIZE, nextToken=PAGE_TOKEN),
    "ListStateMachineVersions": structure(
        "stateMachineArn", stateMachineArn=ARN, nextToken=PAGE_TOKEN, maxResults=PAGE_SIZE
    ),
    "ListStateMachines": structure(maxResults=PAGE_SIZE, nextToken=PAGE_TOKEN),
    "ListTagsForResource": structure("resourceArn", resourceArn=ARN),
    "RedriveExecution": structure("executionArn", executionArn=ARN, clientToken=Text(1, 64, "[!-~]+")),
    "SendTaskFailure": structure("taskToken", taskToken=TASK_TOKEN, error=ERROR, cause=CAUSE),
    "SendTaskHeartbeat": structure("taskToken", taskToken=TASK_TOKEN),
    "SendTaskSuccess": structure("taskToken output", taskToken=TASK_TOKEN, output=DATA),
    "StartExecution": structure(
        "stateMachineArn", stateMachineArn=ARN, name=NAME, input=DATA, traceHeader=TRACE_HEADER
    ),
    "StartSyncExecution": structure(
        "stateMachineArn",
        stateMachineArn=ARN,
        name=NAME,
        input=DATA,
        traceHeader=TRACE_HEADER,
        includedData=INCLUDED_DATA,
    ),
    "StopExecution": structure("executionArn", executionArn=ARN, error=ERROR, cause=CAUSE),
    "TestState": structure(
        "definition",
        definition=DEFINITION,
        roleArn=ARN,
        input=DATA,
        inspectionLevel=Choice(("INFO", "DEBUG", "TRACE")),
        revealSecrets=Flag(),
        variables=DATA,
        stateName=NAME,
        mock=structure(
            result=DATA,
            errorOutput=structure(error=ERROR, cause=CAUSE),
            fieldValidationMode=Choice(("STRICT", "PRESENT", "NONE")),
        ),
        context=DATA,
        stateConfiguration=structure(
            retrierRetryCount=Number(0),
            errorCausedByState=NAME,
            mapIterationFailureCount=Number(0),
            mapItemReaderData=DATA,
        ),
    ),
    "UpdateMapRun": structure(
        "mapRunArn",
        mapRunArn=Text(1, 2_000),
        maxConcurrency=Number(0),
        toleratedFailurePercentage=Number(0, 100, fraction=True),
        toleratedFailureCount=Number(0),
    ),
    "UpdateStateMachine": structure(
        "stateMachineArn",
        stateMachineArn=ARN,
        definition=DEFINITION,
        roleArn=ARN,
        loggingConfiguration=LOGGING,
        tracingConfiguration=TRACING,
        publish=Flag(),
        versionDescription=Text(0, 256),
        encryptionConfiguration=ENCRYPTION,
    ),
    "ValidateStateMachineDefinition": structure(
        "definition",
        definition=DEFINITION,
        type=MACHINE_TYPE,
        severity=Choice(("ERROR", "WARNING")),
        maxResults=Number(0, 100),
    ),
}
"""One entry an operation that is served."""
