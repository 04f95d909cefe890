"""Map Runs that read their items from objects and write their results to objects, over a real database."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from stepwell.engine.asl.diagnostics import Severity
from stepwell.engine.asl.validate import validate
from stepwell.engine.errors import BadBatchError
from stepwell.engine.ids import ExecutionId
from stepwell.engine.jsontypes import Json
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.map_run import SourceItem
from stepwell.engine.machine.map_spec import ReaderSpec
from stepwell.engine.map_ports import MapRunEntry
from stepwell.engine.store.map_runs import PostgresMapRunStore
from stepwell.engine.targets.items.source import ObjectItems
from stepwell.engine.targets.objects import FileBuckets
from stepwell.engine.targets.s3_objects import S3Buckets
from tests.runtime.test_map_runs import TASK, breaks, distributed, map_run, started
from tests.support.nodes import open_node
from tests.support.s3 import OWNER, owned_s3

READ: dict[str, Any] = {"Resource": "arn:aws:states:::s3:getObject", "Parameters": {"Bucket": "b", "Key.$": "$.key"}}
WRITE: dict[str, Any] = {"Resource": "arn:aws:states:::s3:putObject", "Parameters": {"Bucket": "b", "Prefix": "out/"}}


def reading(**config: Json) -> dict[str, Any]:
    return {"ItemReader": {**READ, "ReaderConfig": config}}


async def test_csv_is_read_and_results_are_joined(database: str, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("A,B\n" + "".join(f"{n},x\n" for n in range(1200)))
    async with open_node(database, items=ObjectItems(FileBuckets({"b": tmp_path}))) as node:
        fields = reading(InputType="CSV", CSVHeaderLocation="FIRST_ROW", MaxItems=1100)
        id = await started(node, distributed(**fields), {"key": "in.csv"})
        view = await node.ended(id, 60_000)
        assert view.output is not None
        assert view.output.value == [{"A": str(n), "B": "x"} for n in range(1100)]
        history = await node.reader.history(id, limit=10)
        assert history is not None and (history[0][2][1].details or {}) == {"length": 0}


async def test_what_cannot_be_read_fails_the_run_and_is_read_by_a_redrive(database: str, tmp_path: Path) -> None:
    async with open_node(database, items=ObjectItems(FileBuckets({"b": tmp_path}))) as node:
        id = await started(node, distributed(**reading(InputType="JSON")), {"key": "in.json"})
        view = await node.ended(id)
        assert (view.status, view.error) == (Status.FAILED, "States.ItemReaderFailed")
        assert view.cause == "The object 'in.json' of bucket 'b' cannot be read: No such file or directory."
        (tmp_path / "in.json").write_text("[1, 2]")
        await node.requests.redrive(id)
        view = await node.ended(id)
        assert view.output is not None and view.output.value == [1, 2]


async def test_results_are_written_with_a_manifest(database: str, tmp_path: Path) -> None:
    async with open_node(database, breaks(1), items=ObjectItems(FileBuckets({"b": tmp_path}))) as node:
        id = await started(node, distributed(TASK, ResultWriter=WRITE, ToleratedFailureCount=1), [0, 1, 2])
        view = await node.ended(id)
        run = await map_run(node, id)
        folder = f"out/{run.arn.rpartition(':')[2]}"
        assert view.output is not None
        assert view.output.value == {
            "MapRunArn": run.arn,
            "ResultWriterDetails": {"Bucket": "b", "Key": f"{folder}/manifest.json"},
        }
        manifest = json.loads((tmp_path / folder / "manifest.json").read_text())
        assert (manifest["DestinationBucket"], manifest["MapRunArn"]) == ("b", run.arn)
        assert manifest["ResultFiles"]["PENDING"] == []
        path = tmp_path
        for kind, statuses in (("SUCCEEDED", ["SUCCEEDED", "SUCCEEDED"]), ("FAILED", ["FAILED"])):
            (file,) = manifest["ResultFiles"][kind]
            path = tmp_path / file["Key"]
            assert (path.name, path.stat().st_size) == (f"{kind}_0.json", file["Size"])
            entries = json.loads(path.read_text())
            assert [entry["Status"] for entry in entries] == statuses
            assert all(entry["ExecutionArn"].endswith(entry["Name"]) for entry in entries)
        assert json.loads(path.read_text())[0]["Cause"] == "item 1"
        assert "states" in json.loads(path.read_text())[0]["StateMachineArn"]


async def test_results_of_a_failed_run_are_written_too(database: str, tmp_path: Path) -> None:
    async with open_node(database, breaks(0), items=ObjectItems(FileBuckets({"b": tmp_path}))) as node:
        id = await started(node, distributed(TASK, ResultWriter=WRITE, MaxConcurrency=1), [0, 1, 2])
        assert (await node.ended(id)).error == "States.ExceedToleratedFailureThreshold"
        run = (await map_run(node, id)).arn.rpartition(":")[2]
        assert sorted(path.name for path in (tmp_path / "out" / run).iterdir()) == [
            "FAILED_0.json",
            "PENDING_0.json",
            "manifest.json",
        ]


async def test_results_as_lines_flattened_in_many_parts(database: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("stepwell.engine.runtime.map_results.PART_BYTES", 100)
    writer = {**WRITE, "WriterConfig": {"OutputType": "JSONL", "Transformation": "FLATTEN"}}
    async with open_node(database, items=ObjectItems(FileBuckets({"b": tmp_path}))) as node:
        id = await started(node, distributed(ResultWriter=writer), [[n, n] for n in range(200)])
        assert (await node.ended(id)).status is Status.SUCCEEDED
        run = await map_run(node, id)
        folder = tmp_path / "out" / run.arn.rpartition(":")[2]
        parts = [part for part in run.progress.parts if part.kind == "SUCCEEDED"]
        assert len(parts) > 5
        lines = [json.loads(line) for part in parts for line in (tmp_path / part.key).read_text().splitlines()]
        assert lines == [n for n in range(200) for _ in range(2)]
        assert len(list(folder.iterdir())) == len(parts) + 1


async def test_without_storage_the_writer_fails(database: str) -> None:
    async with open_node(database) as node:
        view = await node.ended(await started(node, distributed(ResultWriter=WRITE), [0]))
        assert (view.status, view.error) == (Status.FAILED, "States.ResultWriterFailed")


class Broken:
    """Storage with a bug."""

    async def read(self, reader: ReaderSpec, cursor: str | None) -> AsyncIterator[SourceItem]:
        yield SourceItem(b"1", "1")
        raise KeyError("key")

    async def write(self, bucket: str, key: str, data: bytes, owner: str | None = None) -> None:
        raise AssertionError

    async def close(self) -> None: ...


async def test_a_reader_that_breaks_fails_the_run(database: str) -> None:
    async with open_node(database, items=Broken()) as node:
        view = await node.ended(await started(node, distributed(**reading(InputType="JSON")), {"key": "k"}))
        assert (view.error, view.cause) == ("States.ItemReaderFailed", "The items cannot be read: KeyError.")


async def test_a_step_that_the_database_refuses_fails_the_run(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step that makes children is refused, however often it is tried."""
    commit = PostgresMapRunStore.commit_map_run

    async def refuse(self: PostgresMapRunStore, node: UUID, entry: MapRunEntry) -> dict[ExecutionId, int] | None:
        if entry.items_new:
            raise BadBatchError("The database refuses a value: so it is.")
        return await commit(self, node, entry)

    monkeypatch.setattr(PostgresMapRunStore, "commit_map_run", refuse)
    async with open_node(database) as node:
        view = await node.ended(await started(node, distributed(), [1]))
        assert view.error == "States.Runtime"
        assert view.cause is not None and "so it is" in view.cause


@pytest.mark.parametrize("language", ("JSONPath", "JSONata"))
async def test_a_version_and_the_owner_of_a_bucket_are_computed(
    database: str, monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with owned_s3() as s3:
        bucket = language.lower()
        client = s3.client()
        client.create_bucket(Bucket=bucket)
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        old = client.put_object(Bucket=bucket, Key="in.json", Body=b"[1, 2]")["VersionId"]
        client.put_object(Bucket=bucket, Key="in.json", Body=b"[3]")
        given = {"version": old, "owner": OWNER}
        if language == "JSONPath":
            which = {"VersionId.$": "$.version", "ExpectedBucketOwner.$": "$.owner"}
            read = {**READ, "Parameters": {"Bucket": bucket, "Key": "in.json", **which}}
            written = {**WRITE, "Parameters": {"Bucket": bucket, "Prefix": "out", "ExpectedBucketOwner.$": "$.owner"}}
        else:
            which = {"VersionId": "{% $states.input.version %}", "ExpectedBucketOwner": "{% $states.input.owner %}"}
            read = {"Resource": READ["Resource"], "Arguments": {"Bucket": bucket, "Key": "in.json", **which}}
            owner = {"ExpectedBucketOwner": "{% $states.input.owner %}"}
            written = {"Resource": WRITE["Resource"], "Arguments": {"Bucket": bucket, "Prefix": "out", **owner}}
        definition = distributed(QueryLanguage=language, ItemReader=read, ResultWriter=written)
        assert not [found for found in validate(definition) if found.severity is Severity.ERROR]
        s3.asked.clear()
        items = ObjectItems(S3Buckets(region="us-east-1", endpoint_url=s3.url))
        async with open_node(database, items=items) as node:
            view = await node.ended(await started(node, definition, given))
            assert view.status is Status.SUCCEEDED, view.cause
            assert {owner for _, _, owner in s3.asked} == {OWNER}
            manifest = view.output.value["ResultWriterDetails"]["Key"]  # type: ignore[union-attr,index,call-overload]
            folder = str(manifest).rpartition("/")[0]
            results = client.get_object(Bucket=bucket, Key=f"{folder}/SUCCEEDED_0.json")["Body"].read()
            assert [json.loads(one["Output"]) for one in json.loads(results)] == [1, 2]
            # of somebody else's bucket nothing is read, nor is anything written to it
            s3.asked.clear()
            view = await node.ended(await started(node, definition, {**given, "owner": "999988887777"}))
            assert (view.status, view.error) == (Status.FAILED, "States.ItemReaderFailed")
            assert view.cause is not None and "ExpectedBucketOwner '999988887777'" in view.cause
        await items.close()
