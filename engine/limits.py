"""Every quota of Stepwell, in one table, each with its source. It must not know who enforces which.

Sources: [Q] the AWS guide's page "Step Functions service quotas"; [M] the constraint of the API model (botocore);
[ASL] the Amazon States Language specification; [G] the AWS guide's page of the state or field; [S] Stepwell's own choice.
Sizes are bytes of UTF-8, times are in the unit the name says, inclusive.
"""

from __future__ import annotations

from typing import Final

# --- Definitions -------------------------------------------------------------------------------------------------------

MAX_DEFINITION_BYTES: Final = 1_048_576
"""A state machine definition. [Q][M]"""

MAX_DEFINITION_DEPTH: Final = 128
"""Levels of JSON nesting in a definition; deeper ones are TOO_DEEPLY_NESTED. [S]"""

MAX_STATE_NAME_CHARS: Final = 80
"""The name of a state. [ASL][Q]"""

MAX_LABEL_CHARS: Final = 40
"""The Label of a Distributed Map. [G]"""

MAX_VARIABLE_NAME_CHARS: Final = 80
"""The name of a workflow variable. [G]"""

MAX_ASSIGN_BYTES: Final = 262_144
"""All variables that one Assign sets, as JSON. [G]"""

MAX_VARIABLE_BYTES: Final = 262_144
"""One workflow variable, as JSON. [G]"""

MAX_EXECUTION_VARIABLES_BYTES: Final = 10_485_760
"""All variables of one execution together, as JSON. [G]"""

MAX_TASK_SECONDS: Final = 99_999_999
"""TimeoutSeconds and HeartbeatSeconds of a Task. [G]"""

MAX_WAIT_SECONDS: Final = 99_999_999
"""Seconds of a Wait. [G]"""

MAX_MACHINE_TIMEOUT_SECONDS: Final = 99_999_998
"""TimeoutSeconds of a state machine: less than 99,999,999. [ASL, by its linter]"""

MAX_RETRY_ATTEMPTS: Final = 99_999_998
"""MaxAttempts of a retrier: less than 99,999,999. [ASL, by its linter]"""

DEFAULT_RETRY_ATTEMPTS: Final = 3
"""MaxAttempts of a retrier that names none. [ASL]"""

DEFAULT_RETRY_INTERVAL_SECONDS: Final = 1
"""IntervalSeconds of a retrier that names none. [ASL]"""

DEFAULT_RETRY_BACKOFF_RATE: Final = 2.0
"""BackoffRate of a retrier that names none. [ASL]"""

MAX_RETRY_DELAY_SECONDS: Final = 31_622_400
"""MaxDelaySeconds of a retrier is smaller than this: 366 days. [G]"""

MAX_RETRY_INTERVAL_SECONDS: Final = 99_999_999
"""IntervalSeconds of a retrier. [G]"""

MAX_DIAGNOSTICS: Final = 100
"""Diagnostics of one ValidateStateMachineDefinition answer. [M]"""

# --- Data --------------------------------------------------------------------------------------------------------------

MAX_PAYLOAD_BYTES: Final = 262_144
"""Input or output of an execution, a state or a task; beyond it States.DataLimitExceeded. [Q]"""

MAX_EXPRESSION_BYTES: Final = 4_194_304
"""What one path, intrinsic call or payload template may give before a state's limit is applied to it. [S]"""

JSONATA_QUICK_SECONDS: Final = 0.02
"""Time of one JSONata evaluation in the process that asks; one that needs more goes on in a helper process. [S]"""

JSONATA_QUICK_STEPS: Final = 50_000
"""Steps of one JSONata evaluation in the process that asks: about 5 ms. [S]"""

JSONATA_QUICK_DEPTH: Final = 400
"""Depth of calls of one JSONata evaluation in the process that asks. [S]"""

JSONATA_QUICK_STRING_BYTES: Final = 524_288
"""A string made by one JSONata evaluation in the process that asks. [S]"""

JSONATA_QUICK_ARRAY_ITEMS: Final = 50_000
"""An array made by one JSONata evaluation in the process that asks. [S]"""

JSONATA_SMALL_STRING_BYTES: Final = 8_192
"""A string made in the process that asks, by expressions with functions whose work grows with the square of it. [S]"""

JSONATA_SMALL_ARRAY_ITEMS: Final = 2_048
"""An array made in the process that asks, by expressions with functions whose work grows with the square of it. [S]"""

JSONATA_SECONDS: Final = 1.0
"""Time of one JSONata evaluation. [S]"""

JSONATA_STEPS: Final = 100_000_000
"""Steps of one JSONata evaluation; time strikes first. [S]"""

JSONATA_DEPTH: Final = 2_000
"""Depth of calls of one JSONata evaluation. [S]"""

JSONATA_STRING_BYTES: Final = 16_777_216
"""A string made by one JSONata evaluation. [S]"""

JSONATA_ARRAY_ITEMS: Final = 1_000_000
"""An array made by one JSONata evaluation. [S]"""

JSONATA_MEMORY_BYTES: Final = 268_435_456
"""Memory of one JSONata evaluation. [S]"""


MAX_JOINED_BYTES: Final = 33_554_432
"""What the branches of a Parallel or the iterations of a Map may hand on together, before ResultSelector. [S]"""

MAX_ERROR_LENGTH: Final = 256
"""The error name a task reports. [M]"""

MAX_CAUSE_LENGTH: Final = 32_768
"""The cause a task reports. [M]"""

MAX_REQUEST_BYTES: Final = 1_048_576
"""One API request, headers included. [Q]"""

# --- Executions --------------------------------------------------------------------------------------------------------

MAX_HISTORY_EVENTS: Final = 25_000
"""Events of one execution; at the limit it fails. [Q]"""

MAX_EXECUTION_SECONDS: Final = 31_536_000
"""Open time of a STANDARD execution: one year. [Q]"""

MAX_EXPRESS_SECONDS: Final = 300
"""Open time of an EXPRESS execution: five minutes. [Q]"""

MAX_OPEN_EXECUTIONS: Final = 1_000_000
"""Open STANDARD executions of one account. [Q]"""

MAX_INLINE_MAP_CONCURRENCY: Final = 40
"""Iterations of an Inline Map that run at once. [Q]"""

HISTORY_RETENTION_DAYS: Final = 90
"""How long a closed execution and its name are kept. [Q]"""

REDRIVABLE_DAYS: Final = 14
"""How long after its close an execution can be redriven. [Q]"""

MAX_REDRIVE_HISTORY_EVENTS: Final = 24_999
"""An execution with this many events or more cannot be redriven. [G]"""

# --- Distributed Map ---------------------------------------------------------------------------------------------------

MAX_OPEN_MAP_RUNS: Final = 1_000
"""Open Map Runs of one account. [Q]"""

MAX_MAP_RUN_REDRIVES: Final = 1_000
"""Redrives of one Map Run. [Q]"""

MAX_MAP_RUN_CONCURRENCY: Final = 10_000
"""Child executions of one Map Run that run at once; also what MaxConcurrency 0 means. [Q]"""

MAX_READER_ITEMS: Final = 100_000_000
"""MaxItems of a ReaderConfig. [G]"""

MAX_CSV_HEADER_BYTES: Final = 10 * 1024
"""The headers of a CSV object. [G]"""

MAX_BATCH_INPUT_BYTES: Final = 262_144
"""MaxInputBytesPerBatch of an ItemBatcher. [G]"""

# --- Resources of the API ----------------------------------------------------------------------------------------------

MAX_STATE_MACHINES: Final = 100_000
"""State machines of one account. [Q]"""

MAX_ACTIVITIES: Final = 100_000
"""Activities of one account. [Q]"""

MAX_VERSIONS: Final = 1_000
"""Published versions of one state machine. [Q]"""

MAX_ALIASES: Final = 100
"""Aliases of one state machine. [Q]"""

MAX_TAGS: Final = 50
"""Tags of one resource. [Q]"""

MAX_NAME_CHARS: Final = 80
"""The name of a state machine, execution, activity or alias. [M]"""

MAX_ARN_CHARS: Final = 256
"""An ARN. [M]"""

MAX_LONG_ARN_CHARS: Final = 2_000
"""An ARN of a Map Run or a version. [M]"""

MAX_TAG_KEY_CHARS: Final = 128
"""The key of a tag. [M]"""

MAX_TAG_VALUE_CHARS: Final = 256
"""The value of a tag. [M]"""

MAX_PAGE_SIZE: Final = 1_000
"""`maxResults` of the listing operations. [M]"""

DEFAULT_PAGE_SIZE: Final = 100
"""`maxResults` where it is absent or 0. [M]"""

MAX_PAGE_TOKEN_CHARS: Final = 1_024
"""`nextToken`. [M]"""

MAX_EXECUTIONS_PAGE_TOKEN_CHARS: Final = 3_096
"""`nextToken` of ListExecutions. [M]"""

PAGE_TOKEN_HOURS: Final = 24
"""How long a `nextToken` is accepted. [M]"""

MAX_TASK_TOKEN_CHARS: Final = 2_048
"""A task token. [M]"""

MAX_ACTIVITY_POLLERS: Final = 1_000
"""Pollers of one activity at once. [Q]"""

ACTIVITY_POLL_SECONDS: Final = 60
"""How long GetActivityTask waits for a task. [M]"""

HTTP_TASK_SECONDS: Final = 60
"""How long an HTTP Task may take. [Q]"""

TEST_STATE_SECONDS: Final = 300
"""How long TestState may take. [M]"""

TEST_STATE_COMPUTING_SECONDS: Final = 20
"""How long the data flow of a tested state may take, before its task and after it. [S]"""

# --- Token buckets (large regions): operation -> (bucket size, refill a second) ------------------------------------------

API_THROTTLES: Final[dict[str, tuple[int, int]]] = {
    "CreateActivity": (100, 1),
    "CreateStateMachine": (100, 1),
    "CreateStateMachineAlias": (100, 1),
    "DeleteActivity": (100, 1),
    "DeleteStateMachine": (100, 1),
    "DeleteStateMachineAlias": (100, 1),
    "DeleteStateMachineVersion": (100, 1),
    "DescribeExecution": (300, 15),
    "DescribeStateMachine": (200, 20),
    "GetActivityTask": (3_000, 500),
    "GetExecutionHistory": (400, 20),
    "ListExecutions": (200, 5),
    "ListStateMachines": (100, 5),
    "PublishStateMachineVersion": (100, 1),
    "RedriveExecution": (1_300, 300),
    "SendTaskFailure": (3_000, 500),
    "SendTaskHeartbeat": (3_000, 500),
    "SendTaskSuccess": (3_000, 500),
    "StartExecution": (1_300, 300),
    "StartExecution:EXPRESS": (6_000, 6_000),
    "StateTransition": (5_000, 5_000),
    "StopExecution": (1_000, 200),
    "TagResource": (200, 1),
    "TestState": (50, 10),
    "UntagResource": (200, 1),
    "UpdateStateMachine": (100, 1),
    "UpdateStateMachineAlias": (100, 1),
    "ValidateStateMachineDefinition": (100, 1),
}
"""AWS's default request rates. [Q] A server that enforces none is allowed to; these are what a client must expect of AWS."""
