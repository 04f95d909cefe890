"""The results of a Map Run put together: joined into an array, or written out in parts, each of which is written once.

A part is written whole and then noted in the Map Run's progress, with how far the children have been looked through: whoever
goes on after a crash writes at most the last part again, under the same key.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from stepwell.engine import ids
from stepwell.engine.jsontypes import Json, write
from stepwell.engine.limits import MAX_JOINED_BYTES
from stepwell.engine.machine.map_run import (
    MANIFEST,
    ChildResult,
    ItemStatus,
    Part,
    Progress,
    child_of,
    joined,
    result_place,
    result_texts,
    too_large,
    written_result,
)
from stepwell.engine.map_ports import ItemSource, MapRunStore, StoredMapRun
from stepwell.engine.states_errors import ErrorName, StatesError

PART_BYTES: Final = 16 * 1024 * 1024
"""A result file is closed when so much has been gathered for it."""
_PAGE: Final = 500
_KINDS: Final[dict[ItemStatus, str]] = {
    ItemStatus.SUCCEEDED: "SUCCEEDED",
    ItemStatus.FAILED: "FAILED",
    ItemStatus.TIMED_OUT: "FAILED",
    ItemStatus.ABORTED: "FAILED",
    ItemStatus.PENDING: "PENDING",
}


class Results:
    """The results of one Map Run that has come to rest."""

    def __init__(self, store: MapRunStore, source: ItemSource, run: StoredMapRun) -> None:
        self._store = store
        self._source = source
        self._run = run
        self._spec = run.spec
        self._machine_arn, _ = ids.labelled_machine(run.arn)

    async def join(self) -> bytes:
        """The array of what succeeded, in order. Raises `StatesError` States.DataLimitExceeded."""
        texts: list[bytes] = []
        size = 0
        async for child in self._children(-1):
            if child.status is ItemStatus.SUCCEEDED:
                for text in result_texts(self._spec, child):
                    texts.append(text)
                    size += len(text) + 1
                if size > MAX_JOINED_BYTES:
                    raise StatesError(ErrorName.DATA_LIMIT_EXCEEDED, too_large(self._spec.state))
        return joined(texts)

    async def write(self, progress: Progress, save: Callable[[], Awaitable[None]]) -> bytes:
        """Write the result files and the manifest; gives the state's result. Raises `StatesError` States.ResultWriterFailed."""
        bucket, folder = result_place(self._spec)
        gathered: dict[str, list[bytes]] = {}
        size = 0
        at = progress.scanned - 1
        async for child in self._children(at):
            texts = result_texts(self._spec, child)
            gathered.setdefault(_KINDS[child.status], []).extend(texts)
            size += sum(map(len, texts))
            at = child.number
            if size > PART_BYTES:
                await self._write_parts(bucket, folder, gathered, progress)
                progress.scanned, size = at + 1, 0
                await save()
        await self._write_parts(bucket, folder, gathered, progress)
        manifest: dict[str, Json] = {
            "DestinationBucket": bucket,
            "MapRunArn": self._spec.arn,
            "ResultFiles": {
                kind: [{"Key": part.key, "Size": part.size} for part in progress.parts if part.kind == kind]
                for kind in ("FAILED", "PENDING", "SUCCEEDED")
            },
        }
        await self._source.write(bucket, f"{folder}/{MANIFEST}", write(manifest), self._owner)
        return written_result(self._spec)

    async def _write_parts(
        self, bucket: str, folder: str, gathered: dict[str, list[bytes]], progress: Progress
    ) -> None:
        writer = self._spec.writer
        lines = writer is not None and writer.config.get("OutputType") == "JSONL"
        for kind, texts in gathered.items():
            if not texts:
                continue
            data = b"".join(text + b"\n" for text in texts) if lines else joined(texts)
            number = sum(part.kind == kind for part in progress.parts)
            key = f"{folder}/{kind}_{number}.{'jsonl' if lines else 'json'}"
            await self._source.write(bucket, key, data, self._owner)
            progress.parts = [*progress.parts, Part(kind, key, len(data))]
        gathered.clear()

    @property
    def _owner(self) -> str | None:
        return None if self._spec.writer is None else self._spec.writer.owner

    async def _children(self, after: int) -> AsyncIterator[ChildResult]:
        while True:
            page = await self._store.map_items(self._run.id, after=after, limit=_PAGE)
            for item in page:
                name, arn = child_of(self._run.arn, self._run.id, item.number, express=self._run.express)
                yield ChildResult(
                    item.number,
                    item.size,
                    item.status,
                    arn,
                    name,
                    self._machine_arn,
                    item.input,
                    item.started_at,
                    item.stopped_at,
                    item.output,
                    item.error,
                    item.cause,
                    0 if self._run.express else item.redrives,  # these begin anew, and are not seen to be redriven
                )
            if not page:
                return
            after = page[-1].number
