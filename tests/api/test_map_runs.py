"""Map Runs as callers see them: over REST and over the wire."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
from botocore.exceptions import ClientError

from stepwell.engine.ids import child_arn, execution_id
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.map_run import ItemStatus, Progress, Tally
from stepwell.engine.machine.map_spec import MapRunSpec
from stepwell.engine.map_ports import MapItem, MapRunEntry, NewChild, NewMapRun
from stepwell.engine.service.context import RequestContext
from stepwell.engine.store.memory_map_runs import MemoryMapRuns
from stepwell.engine.store.memory_runtime import MapRunRow, MemoryRuntimeStore
from tests.api.conftest import Stack

WAITS = '{"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 600, "End": true}}}'
NODE = UUID(int=1)


async def with_map_run(stack: Stack, *, ended: bool = False) -> tuple[str, str]:
    """An execution that has begun a Map Run of two children; the ARNs of both."""
    services = stack.services
    settings = services.settings
    context = RequestContext(settings.region, settings.account)
    machine = await services.state_machines.create(
        context, name="m", definition=WAITS, role_arn="arn:aws:iam::000000000000:role/r"
    )
    started = await services.executions.start(machine.arn, name="one")
    arn = f"{machine.arn.replace(':stateMachine:', ':mapRun:')}/L:6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
    store: MemoryRuntimeStore = stack.map_runs
    spec = MapRunSpec("Each", "L", arn, started.answer.arn)
    new = NewMapRun(
        id=execution_id(arn), number=1, arn=arn, state="Each", spec=msgspec.json.encode(spec), max_concurrency=3,
        tolerated_count=None, tolerated_percentage=2.5,
    )  # fmt: skip
    store.map_runs[new.id] = MapRunRow(new, started.answer.id, stack.clock.now_ms())
    await store.register_node(NODE, None, 1000)
    await store.take_shards(NODE, 256)
    progress = Progress(made=2, executions=Tally(running=1, pending=1), items=Tally(running=5, pending=4))
    name = "child"
    child = NewChild(id=execution_id(child_arn(arn, name)), name=name, arn=child_arn(arn, name), number=0, input=b"1")
    entry = MapRunEntry(
        id=new.id, rev=0, status=Status.SUCCEEDED if ended else Status.RUNNING, progress=progress, now=stack.clock.now_ms(),
        stopped_at=stack.clock.now_ms() if ended else None, children=[child],
        items_new=[MapItem(number=0, status=ItemStatus.RUNNING, size=5, input=b"1"), MapItem(number=1, status=ItemStatus.PENDING, size=4)],
    )  # fmt: skip
    assert await MemoryMapRuns(store, stack.clock).commit_map_run(NODE, entry) is not None
    return started.answer.arn, arn


async def test_over_rest(stack: Stack, rest: httpx.AsyncClient) -> None:
    execution, arn = await with_map_run(stack)
    (listed,) = (await rest.get(f"/v1/executions/{execution}/map-runs")).json()["items"]
    shown = (await rest.get(f"/v1/map-runs/{arn}")).json()
    assert listed == shown
    assert (shown["arn"], shown["execution"], shown["status"], shown["maxConcurrency"]) == (
        arn,
        execution,
        "RUNNING",
        3,
    )
    assert shown["items"] == {
        "pending": 4, "running": 5, "succeeded": 0, "failed": 0, "timedOut": 0, "aborted": 0, "total": 9,
    }  # fmt: skip
    (child,) = (await rest.get(f"/v1/map-runs/{arn}/executions")).json()["items"]
    assert (child["name"], child["mapRun"], child["items"], child["stateMachine"]) == ("child", arn, 5, "m/L")
    changed = await rest.patch(f"/v1/map-runs/{arn}", json={"maxConcurrency": 7, "toleratedFailureCount": 1})
    assert (changed.status_code, changed.json()["maxConcurrency"], changed.json()["toleratedFailureCount"]) == (
        200,
        7,
        1,
    )
    assert (await rest.patch(f"/v1/map-runs/{arn}", json={"maxConcurrency": -1})).status_code == 400
    assert (await rest.patch(f"/v1/map-runs/{arn}", json={"most": 1})).status_code == 400
    assert (await rest.get(f"/v1/map-runs/{arn}x")).status_code == 404


async def test_over_the_wire(stack: Stack, sfn: Any) -> None:
    execution, arn = await with_map_run(stack)
    (listed,) = sfn.list_map_runs(executionArn=execution)["mapRuns"]
    assert listed.keys() == {"executionArn", "mapRunArn", "stateMachineArn", "startDate"}
    assert listed["stateMachineArn"].endswith(":stateMachine:m/L")
    shown = sfn.describe_map_run(mapRunArn=arn)
    shown.pop("ResponseMetadata")
    assert shown.keys() == {
        "mapRunArn", "executionArn", "status", "startDate", "maxConcurrency", "toleratedFailurePercentage",
        "toleratedFailureCount", "itemCounts", "executionCounts",
    }  # fmt: skip
    assert (shown["itemCounts"]["total"], shown["executionCounts"]["total"]) == (9, 2)
    (child,) = sfn.list_executions(mapRunArn=arn)["executions"]
    assert (child["mapRunArn"], child["itemCount"]) == (arn, 5)
    assert sfn.list_executions(mapRunArn=arn, statusFilter="FAILED")["executions"] == []
    assert sfn.list_executions(mapRunArn=arn, redriveFilter="REDRIVEN")["executions"] == []
    described = sfn.describe_execution(executionArn=child["executionArn"])
    assert described["mapRunArn"] == arn
    sfn.update_map_run(mapRunArn=arn, maxConcurrency=9, toleratedFailurePercentage=12.5)
    shown = sfn.describe_map_run(mapRunArn=arn)
    assert (shown["maxConcurrency"], shown["toleratedFailurePercentage"]) == (9, 12.5)


async def test_refusals(stack: Stack, sfn: Any) -> None:
    execution, arn = await with_map_run(stack, ended=True)
    with pytest.raises(ClientError) as caught:
        sfn.update_map_run(mapRunArn=arn, maxConcurrency=1)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert caught.value.response["reason"] == "CANNOT_UPDATE_COMPLETED_MAP_RUN"
    for call, arguments, code in (
        (sfn.describe_map_run, {"mapRunArn": arn + "x"}, "ResourceNotFound"),
        (sfn.describe_map_run, {"mapRunArn": execution}, "InvalidArn"),
        (sfn.list_map_runs, {"executionArn": execution + "x"}, "ExecutionDoesNotExist"),
        (sfn.list_map_runs, {"executionArn": arn}, "InvalidArn"),
        (sfn.list_executions, {"mapRunArn": arn + "x"}, "ResourceNotFound"),
        (sfn.update_map_run, {"mapRunArn": arn, "toleratedFailurePercentage": 100.5}, "ValidationException"),
    ):
        with pytest.raises(ClientError) as caught:
            call(**arguments)
        assert caught.value.response["Error"]["Code"] == code, arguments


async def with_express_children(stack: Stack) -> tuple[str, str]:
    """An execution with a Map Run of Express children: one that runs, one that has failed, one that waits; the ARNs of both."""
    execution, arn = await with_map_run(stack)
    row = stack.map_runs.map_runs[execution_id(arn)]
    row.new = replace(row.new, express=True)
    entry = MapRunEntry(
        id=execution_id(arn), rev=row.rev, status=Status.RUNNING, progress=Progress(), now=stack.clock.now_ms(),
        items_new=[MapItem(number=2, status=ItemStatus.RUNNING, size=1, input=b'{"n": 2}')],
    )  # fmt: skip
    assert await MemoryMapRuns(stack.map_runs, stack.clock).commit_map_run(NODE, entry) is not None
    failed = MapItem(
        number=2, status=ItemStatus.FAILED, size=1, error="E", cause="why", stopped_at=stack.clock.now_ms()
    )
    entry = replace(entry, rev=row.rev, items_new=[], items_ended=[failed])
    assert await MemoryMapRuns(stack.map_runs, stack.clock).commit_map_run(NODE, entry) is not None
    return execution, arn


async def test_express_children_over_the_wire(stack: Stack, sfn: Any) -> None:
    _, arn = await with_express_children(stack)
    failed, running = sfn.list_executions(mapRunArn=arn)["executions"]
    assert [(one["status"], one["itemCount"]) for one in (failed, running)] == [("FAILED", 1), ("RUNNING", 5)]
    home, place = arn.rpartition(":")[0].replace(":mapRun:", ":express:"), arn.rpartition(":")[2]
    assert failed["executionArn"] == f"{home}:{place}:{failed['name']}"
    assert sfn.list_executions(mapRunArn=arn, statusFilter="SUCCEEDED")["executions"] == []
    assert sfn.list_executions(mapRunArn=arn, redriveFilter="REDRIVEN")["executions"] == []
    first = sfn.list_executions(mapRunArn=arn, maxResults=1)
    second = sfn.list_executions(mapRunArn=arn, maxResults=1, nextToken=first["nextToken"])
    assert [*first["executions"], *second["executions"]] == [failed, running] and "nextToken" not in second
    shown = sfn.describe_execution(executionArn=failed["executionArn"])
    assert (shown["status"], shown["error"], shown["cause"], shown["input"]) == ("FAILED", "E", "why", '{"n": 2}')
    assert (shown["mapRunArn"], shown["redriveCount"], shown["redriveStatus"]) == (arn, 0, "NOT_REDRIVABLE")
    assert shown["stateMachineArn"].endswith(":stateMachine:m/L")
    machine = sfn.describe_state_machine_for_execution(executionArn=failed["executionArn"])
    assert machine["definition"] == WAITS


async def test_what_is_not_there_for_express_children(stack: Stack, sfn: Any) -> None:
    _, arn = await with_express_children(stack)
    (child, _) = sfn.list_executions(mapRunArn=arn)["executions"]
    child_arn = child["executionArn"]
    other = child_arn[:-1] + ("0" if child_arn[-1] != "0" else "1")
    for call, execution, code in (
        (sfn.get_execution_history, child_arn, "StateMachineTypeNotSupported"),
        (sfn.stop_execution, child_arn, "StateMachineTypeNotSupported"),
        (sfn.redrive_execution, child_arn, "ExecutionNotRedrivable"),
        (sfn.describe_execution, other, "ExecutionDoesNotExist"),
        (sfn.get_execution_history, other, "ExecutionDoesNotExist"),
        (sfn.describe_execution, child_arn.rpartition(":")[0] + ":x", "ExecutionDoesNotExist"),
        (sfn.describe_execution, child_arn.replace("/L:", ":"), "InvalidArn"),
    ):
        with pytest.raises(ClientError) as caught:
            call(executionArn=execution)
        assert caught.value.response["Error"]["Code"] == code, (call, execution)


async def test_express_children_over_rest(stack: Stack, rest: httpx.AsyncClient) -> None:
    _, arn = await with_express_children(stack)
    failed, running = (await rest.get(f"/v1/map-runs/{arn}/executions")).json()["items"]
    shown = (await rest.get(f"/v1/executions/{failed['id']}")).json()
    assert (shown["arn"], shown["status"], shown["input"]) == (failed["arn"], "FAILED", {"n": 2})
    assert (await rest.get(f"/v1/executions/{running['id']}?wait=0.01")).json()["status"] == "RUNNING"
    history = await rest.get(f"/v1/executions/{failed['id']}/history")
    assert "have no history" in history.text and history.status_code == 400
