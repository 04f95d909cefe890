"""What a Distributed Map state asks of its Map Run, as plain data with every expression evaluated."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from stepwell.engine.limits import MAX_BATCH_INPUT_BYTES

ABSENT: Final = msgspec.Raw(b"null")
"""Stands in place of JSON text that a specification does not hold."""


class ReaderSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where items are read, all expressions evaluated: `arguments` are those of the storage's action (Bucket, Key, ...), `config`
    is the ReaderConfig by its constants' names."""

    action: str
    arguments: dict[str, Any]
    config: dict[str, Any] = {}


class BatchSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """How items are put together. `input` is the JSON text of BatchInput."""

    max_items: int = 0
    max_bytes: int = MAX_BATCH_INPUT_BYTES
    input: msgspec.Raw = ABSENT


class WriterSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where results are written (`action` None: they become the state's result), and in which form."""

    action: str | None = None
    arguments: dict[str, Any] = {}
    config: dict[str, Any] = {}

    @property
    def owner(self) -> Any:
        """The account the bucket must belong to; None where any will do."""
        return self.arguments.get("ExpectedBucketOwner")

    @property
    def transformation(self) -> str:
        """NONE, COMPACT or FLATTEN."""
        given = self.config.get("Transformation")
        return given if isinstance(given, str) else "NONE" if self.action is not None else "COMPACT"


class MapRunSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a Distributed Map state asks for, as plain data: written once, with the step that starts the Map Run.

    `state` names the Map state in the parent's definition. `items` is the JSON text of the array or object to run over, where
    no reader brings them. `input`, `context` and `variables` are what ItemSelector reads besides the item.
    """

    state: str
    label: str
    arn: str
    parent_arn: str
    max_concurrency: int = 0
    tolerated_count: int | None = None
    tolerated_percentage: float | None = None
    items: msgspec.Raw = ABSENT
    reader: ReaderSpec | None = None
    batch: BatchSpec | None = None
    writer: WriterSpec | None = None
    execution_type: str = "STANDARD"
    input: msgspec.Raw = ABSENT
    context: msgspec.Raw = ABSENT
    variables: msgspec.Raw = ABSENT
