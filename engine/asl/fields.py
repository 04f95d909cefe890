"""Which fields a definition may have, where, in which query language, and what their values are: the specification as data.

`validate` walks these tables, `rules` has one check for each `Kind`. They must not know how a check is made.

Sources: Amazon States Language specification (https://states-language.net), and the AWS guide for what came later
(Items, variables, Distributed Map).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from stepwell.engine.asl.language import QueryLanguage, StateType


class Kind(Enum):
    """What the value of a field is. `rules.CHECKS` has one check for each."""

    ANY = auto()
    STRING = auto()
    """A string, taken as it is."""
    COMPUTED_STRING = auto()
    """A string; JSONata may give it."""
    TRUE = auto()
    """A boolean; `End: false` means the same as no End."""
    STATE_TYPE = auto()
    QUERY_LANGUAGE = auto()
    VERSION = auto()
    STATE_NAME = auto()
    """The name of a state of the same container; graph checks that it exists."""
    STATES = auto()
    BRANCHES = auto()
    PROCESSOR = auto()
    PROCESSOR_CONFIG = auto()
    PROCESSOR_MODE = auto()
    EXECUTION_TYPE = auto()
    CHOICES = auto()
    RETRIERS = auto()
    CATCHERS = auto()
    ERROR_NAMES = auto()
    RESOURCE = auto()
    READER_RESOURCE = auto()
    WRITER_RESOURCE = auto()
    CREDENTIALS = auto()
    TEMPLATE = auto()
    """A payload template: any JSON, `.$` fields computed."""
    OBJECT_TEMPLATE = auto()
    """A payload template which is an object."""
    ASSIGN = auto()
    JSONATA_VALUE = auto()
    """Any JSON, strings of the form `{% ... %}` computed."""
    JSONATA_OBJECT = auto()
    """An object, or a JSONata string that gives one."""
    CONDITION = auto()
    """A boolean, or a JSONata string that gives one."""
    ITEMS = auto()
    """An array, or a JSONata string that gives one."""
    PATH_OR_NULL = auto()
    """A JSONPath, or null."""
    REFERENCE_PATH = auto()
    """A path to one place, over the input, a variable or the context object."""
    RESULT_PATH = auto()
    """A path to one place of the input, or null."""
    PATH_OR_INTRINSIC = auto()
    """A Reference Path or an intrinsic call, either of which gives a string."""
    SECONDS = auto()
    """0 to 99999999."""
    POSITIVE_SECONDS = auto()
    """1 to 99999999."""
    MACHINE_SECONDS = auto()
    INTERVAL_SECONDS = auto()
    MAX_ATTEMPTS = auto()
    BACKOFF_RATE = auto()
    MAX_DELAY_SECONDS = auto()
    JITTER = auto()
    TIMESTAMP = auto()
    NON_NEGATIVE_INTEGER = auto()
    POSITIVE_INTEGER = auto()
    PERCENTAGE = auto()
    LABEL = auto()
    ITEM_READER = auto()
    READER_CONFIG = auto()
    INPUT_TYPE = auto()
    CSV_HEADER_LOCATION = auto()
    CSV_HEADERS = auto()
    CSV_DELIMITER = auto()
    MANIFEST_TYPE = auto()
    READER_TRANSFORMATION = auto()
    MAX_ITEMS = auto()
    ITEM_BATCHER = auto()
    BATCH_BYTES = auto()
    RESULT_WRITER = auto()
    WRITER_CONFIG = auto()
    OUTPUT_TYPE = auto()
    WRITER_TRANSFORMATION = auto()


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its kind in each query language; a language in which it does not exist has None."""

    name: str
    jsonpath: Kind | None
    jsonata: Kind | None
    required: bool = False

    def kind(self, language: QueryLanguage) -> Kind | None:
        """The kind in a query language; None where the field belongs to the other one."""
        return self.jsonata if language is QueryLanguage.JSONATA else self.jsonpath


@dataclass(frozen=True, slots=True)
class FieldSet:
    """The fields of one kind of object, and the groups of them that exclude each other.

    Of an `exclusive` group at most one field may be there, of a `one_of` group exactly one. A `one_of` group that names
    fields of one query language only counts in that language.
    """

    fields: Mapping[str, Field]
    exclusive: tuple[tuple[str, ...], ...] = ()
    one_of: tuple[tuple[str, ...], ...] = ()


def _both(name: str, kind: Kind, *, required: bool = False) -> Field:
    return Field(name, kind, kind, required)


def _jsonpath(name: str, kind: Kind, *, required: bool = False) -> Field:
    return Field(name, kind, None, required)


def _jsonata(name: str, kind: Kind, *, required: bool = False) -> Field:
    return Field(name, None, kind, required)


def _set(
    *fields: Field, exclusive: tuple[tuple[str, ...], ...] = (), one_of: tuple[tuple[str, ...], ...] = ()
) -> FieldSet:
    return FieldSet({field.name: field for field in fields}, exclusive, one_of)


_TRANSITION: Final = (_both("Next", Kind.STATE_NAME), _both("End", Kind.TRUE))
_COMMON: Final = (
    _both("Type", Kind.STATE_TYPE, required=True),
    _both("Comment", Kind.STRING),
    _both("QueryLanguage", Kind.QUERY_LANGUAGE),
)
_INPUT_OUTPUT: Final = (
    _jsonpath("InputPath", Kind.PATH_OR_NULL),
    _jsonpath("OutputPath", Kind.PATH_OR_NULL),
    _jsonata("Output", Kind.JSONATA_VALUE),
)
_ASSIGN: Final = (_both("Assign", Kind.ASSIGN),)
_PARAMETERS: Final = (_jsonpath("Parameters", Kind.TEMPLATE),)
_ARGUMENTS: Final = (_jsonata("Arguments", Kind.JSONATA_OBJECT),)
_RESULT: Final = (_jsonpath("ResultSelector", Kind.OBJECT_TEMPLATE),)
_RESULT_PATH: Final = (_jsonpath("ResultPath", Kind.RESULT_PATH),)
_ERRORS: Final = (_both("Retry", Kind.RETRIERS), _both("Catch", Kind.CATCHERS))
_NEXT_OR_END: Final = (("Next", "End"),)

MACHINE_FIELDS: Final = _set(
    _both("States", Kind.STATES, required=True),
    _both("StartAt", Kind.STATE_NAME, required=True),
    _both("Comment", Kind.STRING),
    _both("Version", Kind.VERSION),
    _both("TimeoutSeconds", Kind.MACHINE_SECONDS),
    _both("QueryLanguage", Kind.QUERY_LANGUAGE),
)
"""The fields of a whole definition. Order is that of AWS's message for missing ones."""

BRANCH_FIELDS: Final = _set(
    _both("States", Kind.STATES, required=True),
    _both("StartAt", Kind.STATE_NAME, required=True),
    _both("Comment", Kind.STRING),
)
"""The fields of a branch of a Parallel."""

PROCESSOR_FIELDS: Final = _set(
    *BRANCH_FIELDS.fields.values(),
    _both("ProcessorConfig", Kind.PROCESSOR_CONFIG),
)
"""The fields of an ItemProcessor, or Iterator by its old name."""

STATE_FIELDS: Final[Mapping[StateType, FieldSet]] = {
    StateType.PASS: _set(
        *_COMMON,
        *_TRANSITION,
        *_INPUT_OUTPUT,
        *_ASSIGN,
        *_PARAMETERS,
        *_RESULT_PATH,
        _jsonpath("Result", Kind.ANY),
        one_of=_NEXT_OR_END,
    ),
    StateType.TASK: _set(
        *_COMMON,
        *_TRANSITION,
        *_INPUT_OUTPUT,
        *_ASSIGN,
        *_PARAMETERS,
        *_ARGUMENTS,
        *_RESULT,
        *_RESULT_PATH,
        *_ERRORS,
        _both("Resource", Kind.RESOURCE, required=True),
        _both("TimeoutSeconds", Kind.POSITIVE_SECONDS),
        _jsonpath("TimeoutSecondsPath", Kind.REFERENCE_PATH),
        _both("HeartbeatSeconds", Kind.POSITIVE_SECONDS),
        _jsonpath("HeartbeatSecondsPath", Kind.REFERENCE_PATH),
        _both("Credentials", Kind.CREDENTIALS),
        exclusive=(("TimeoutSeconds", "TimeoutSecondsPath"), ("HeartbeatSeconds", "HeartbeatSecondsPath")),
        one_of=_NEXT_OR_END,
    ),
    StateType.CHOICE: _set(
        *_COMMON,
        *_INPUT_OUTPUT,
        *_ASSIGN,
        _both("Choices", Kind.CHOICES, required=True),
        _both("Default", Kind.STATE_NAME),
    ),
    StateType.WAIT: _set(
        *_COMMON,
        *_TRANSITION,
        *_INPUT_OUTPUT,
        *_ASSIGN,
        _both("Seconds", Kind.SECONDS),
        _jsonpath("SecondsPath", Kind.REFERENCE_PATH),
        _both("Timestamp", Kind.TIMESTAMP),
        _jsonpath("TimestampPath", Kind.REFERENCE_PATH),
        one_of=(*_NEXT_OR_END, ("Seconds", "SecondsPath", "Timestamp", "TimestampPath")),
    ),
    StateType.SUCCEED: _set(*_COMMON, *_INPUT_OUTPUT),
    StateType.FAIL: _set(
        *_COMMON,
        _both("Error", Kind.COMPUTED_STRING),
        _jsonpath("ErrorPath", Kind.PATH_OR_INTRINSIC),
        _both("Cause", Kind.COMPUTED_STRING),
        _jsonpath("CausePath", Kind.PATH_OR_INTRINSIC),
        exclusive=(("Error", "ErrorPath"), ("Cause", "CausePath")),
    ),
    StateType.PARALLEL: _set(
        *_COMMON,
        *_TRANSITION,
        *_INPUT_OUTPUT,
        *_ASSIGN,
        *_PARAMETERS,
        *_ARGUMENTS,
        *_RESULT,
        *_RESULT_PATH,
        *_ERRORS,
        _both("Branches", Kind.BRANCHES, required=True),
        one_of=_NEXT_OR_END,
    ),
    StateType.MAP: _set(
        *_COMMON,
        *_TRANSITION,
        *_INPUT_OUTPUT,
        *_ASSIGN,
        *_PARAMETERS,
        *_RESULT,
        *_RESULT_PATH,
        *_ERRORS,
        _both("ItemProcessor", Kind.PROCESSOR),
        _both("Iterator", Kind.PROCESSOR),
        _jsonpath("ItemsPath", Kind.REFERENCE_PATH),
        _jsonata("Items", Kind.ITEMS),
        Field("ItemSelector", Kind.OBJECT_TEMPLATE, Kind.JSONATA_VALUE),
        _both("MaxConcurrency", Kind.NON_NEGATIVE_INTEGER),
        _jsonpath("MaxConcurrencyPath", Kind.REFERENCE_PATH),
        _both("ItemReader", Kind.ITEM_READER),
        _both("ItemBatcher", Kind.ITEM_BATCHER),
        _both("ResultWriter", Kind.RESULT_WRITER),
        _both("ToleratedFailureCount", Kind.NON_NEGATIVE_INTEGER),
        _jsonpath("ToleratedFailureCountPath", Kind.REFERENCE_PATH),
        _both("ToleratedFailurePercentage", Kind.PERCENTAGE),
        _jsonpath("ToleratedFailurePercentagePath", Kind.REFERENCE_PATH),
        _both("Label", Kind.LABEL),
        exclusive=(
            ("Parameters", "ItemSelector"),
            ("MaxConcurrency", "MaxConcurrencyPath"),
            ("ToleratedFailureCount", "ToleratedFailureCountPath"),
            ("ToleratedFailurePercentage", "ToleratedFailurePercentagePath"),
        ),
        one_of=(*_NEXT_OR_END, ("ItemProcessor", "Iterator")),
    ),
}
"""The fields of each state type: the one list."""

RETRIER_FIELDS: Final = _set(
    _both("ErrorEquals", Kind.ERROR_NAMES, required=True),
    _both("IntervalSeconds", Kind.INTERVAL_SECONDS),
    _both("MaxAttempts", Kind.MAX_ATTEMPTS),
    _both("BackoffRate", Kind.BACKOFF_RATE),
    _both("MaxDelaySeconds", Kind.MAX_DELAY_SECONDS),
    _both("JitterStrategy", Kind.JITTER),
    _both("Comment", Kind.STRING),
)
"""The fields of an entry of Retry."""

CATCHER_FIELDS: Final = _set(
    _both("ErrorEquals", Kind.ERROR_NAMES, required=True),
    _both("Next", Kind.STATE_NAME, required=True),
    _jsonpath("ResultPath", Kind.RESULT_PATH),
    _jsonata("Output", Kind.JSONATA_VALUE),
    _both("Assign", Kind.ASSIGN),
    _both("Comment", Kind.STRING),
)
"""The fields of an entry of Catch."""

JSONATA_RULE_FIELDS: Final = _set(
    _both("Condition", Kind.CONDITION, required=True),
    _both("Next", Kind.STATE_NAME, required=True),
    _both("Output", Kind.JSONATA_VALUE),
    _both("Assign", Kind.ASSIGN),
    _both("Comment", Kind.STRING),
)
"""The fields of a choice rule in JSONata. Those in JSONPath depend on the operator: see `conditions`."""

PROCESSOR_CONFIG_FIELDS: Final = _set(
    _both("Mode", Kind.PROCESSOR_MODE),
    _both("ExecutionType", Kind.EXECUTION_TYPE),
)
"""The fields of ProcessorConfig."""

ITEM_READER_FIELDS: Final = _set(
    _both("Resource", Kind.READER_RESOURCE, required=True),
    _jsonpath("Parameters", Kind.OBJECT_TEMPLATE),
    _jsonata("Arguments", Kind.JSONATA_OBJECT),
    _both("ReaderConfig", Kind.READER_CONFIG),
)
"""The fields of ItemReader."""

READER_CONFIG_FIELDS: Final = _set(
    _both("InputType", Kind.INPUT_TYPE),
    _both("CSVHeaderLocation", Kind.CSV_HEADER_LOCATION),
    _both("CSVHeaders", Kind.CSV_HEADERS),
    _both("CSVDelimiter", Kind.CSV_DELIMITER),
    _both("MaxItems", Kind.MAX_ITEMS),
    _jsonpath("MaxItemsPath", Kind.REFERENCE_PATH),
    _both("ItemsPointer", Kind.STRING),
    _both("ManifestType", Kind.MANIFEST_TYPE),
    _both("Transformation", Kind.READER_TRANSFORMATION),
    exclusive=(("MaxItems", "MaxItemsPath"),),
)
"""The fields of ReaderConfig."""

ITEM_BATCHER_FIELDS: Final = _set(
    _both("MaxItemsPerBatch", Kind.POSITIVE_INTEGER),
    _jsonpath("MaxItemsPerBatchPath", Kind.REFERENCE_PATH),
    _both("MaxInputBytesPerBatch", Kind.BATCH_BYTES),
    _jsonpath("MaxInputBytesPerBatchPath", Kind.REFERENCE_PATH),
    Field("BatchInput", Kind.TEMPLATE, Kind.JSONATA_VALUE),
    exclusive=(
        ("MaxItemsPerBatch", "MaxItemsPerBatchPath"),
        ("MaxInputBytesPerBatch", "MaxInputBytesPerBatchPath"),
    ),
)
"""The fields of ItemBatcher."""

RESULT_WRITER_FIELDS: Final = _set(
    _both("Resource", Kind.WRITER_RESOURCE),
    _jsonpath("Parameters", Kind.OBJECT_TEMPLATE),
    _jsonata("Arguments", Kind.JSONATA_OBJECT),
    _both("WriterConfig", Kind.WRITER_CONFIG),
)
"""The fields of ResultWriter: Resource with Parameters, WriterConfig, or all of them."""

WRITER_CONFIG_FIELDS: Final = _set(
    _both("OutputType", Kind.OUTPUT_TYPE, required=True),
    _both("Transformation", Kind.WRITER_TRANSFORMATION),
)
"""The fields of WriterConfig."""

CHOSEN_VALUES: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.STATE_TYPE: ("Task", "Wait", "Pass", "Succeed", "Fail", "Choice", "Parallel", "Map"),
    Kind.QUERY_LANGUAGE: ("JSONPath", "JSONata"),
    Kind.JITTER: ("FULL", "NONE"),
    Kind.PROCESSOR_MODE: ("INLINE", "DISTRIBUTED"),
    Kind.EXECUTION_TYPE: ("STANDARD", "EXPRESS"),
    Kind.VERSION: ("1.0",),
    Kind.INPUT_TYPE: ("CSV", "JSON", "JSONL", "PARQUET", "MANIFEST"),
    Kind.CSV_HEADER_LOCATION: ("FIRST_ROW", "GIVEN"),
    Kind.CSV_DELIMITER: ("COMMA", "PIPE", "SEMICOLON", "SPACE", "TAB"),
    Kind.MANIFEST_TYPE: ("ATHENA_DATA", "S3_INVENTORY"),
    Kind.READER_TRANSFORMATION: ("NONE", "LOAD_AND_FLATTEN"),
    Kind.OUTPUT_TYPE: ("JSON", "JSONL"),
    Kind.WRITER_TRANSFORMATION: ("NONE", "COMPACT", "FLATTEN"),
}
"""The values of the fields that take one of a fixed list, in the order AWS's message names them."""
