"""Use-cases where the rule, not the protocol, is the point."""

from __future__ import annotations

import json

import pytest

from stepwell.engine.ids import ExecutionId
from stepwell.engine.jsontypes import Json
from stepwell.engine.limits import MAX_EXECUTION_SECONDS, MAX_REDRIVE_HISTORY_EVENTS, REDRIVABLE_DAYS
from stepwell.engine.machine.commands import Status
from stepwell.engine.ports import DeadLetterFilter, ExecutionView
from stepwell.engine.service import paging
from stepwell.engine.service.context import RequestContext, ServiceSettings
from stepwell.engine.service.redriving import redrivability
from stepwell.engine.service.refusals import ServiceError
from stepwell.engine.service.state_machines import MachineConfig, StateMachines
from stepwell.engine.store.memory import MemoryMachines
from tests.api.conftest import ROLE, RandomSeeds, Stack

PASS = '{"StartAt": "A", "States": {"A": {"Type": "Pass", "End": true}}}'
FAIL = '{"StartAt": "A", "States": {"A": {"Type": "Fail"}}}'
HERE = RequestContext()
DAY = 86_400_000
NOW = 400 * DAY


def view(
    status: Status, *, started: int = NOW - DAY, stopped: int | None = NOW - DAY, events: int = 9
) -> ExecutionView:
    return ExecutionView(
        id=ExecutionId(bytes(16)),
        arn="a",
        name="x",
        machine_arn="m",
        machine_name="m",
        machine_key=1,
        revision=1,
        status=status,
        started_at=started,
        stopped_at=stopped,
        last_event=events,
    )


@pytest.mark.parametrize(
    ("execution", "reason"),
    (
        (view(Status.FAILED), None),
        (view(Status.TIMED_OUT), None),
        (view(Status.ABORTED), None),
        (view(Status.RUNNING, stopped=None), "Execution is RUNNING and cannot be redriven"),
        (view(Status.SUCCEEDED), "Execution is SUCCEEDED and cannot be redriven"),
        (view(Status.FAILED, events=MAX_REDRIVE_HISTORY_EVENTS - 1), None),
        (view(Status.FAILED, events=MAX_REDRIVE_HISTORY_EVENTS), "Execution history event limit exceeded"),
        (view(Status.FAILED, stopped=NOW - REDRIVABLE_DAYS * DAY + 1), None),
        (view(Status.FAILED, stopped=NOW - REDRIVABLE_DAYS * DAY), "Execution redrivable period exceeded"),
        (
            view(Status.FAILED, started=NOW - MAX_EXECUTION_SECONDS * 1000),
            "Execution has exceeded the max execution time",
        ),
    ),
)
def test_when_an_execution_can_be_redriven(execution: ExecutionView, reason: str | None) -> None:
    assert redrivability(execution, NOW).reason == reason


async def test_a_redrive_token_is_answered_again_after_success(stack: Stack) -> None:
    machines, executions = stack.services.state_machines, stack.services.executions
    machine = await machines.create(HERE, name="m", definition=FAIL, role_arn=ROLE)
    started = (await executions.start(machine.arn)).answer
    at = await executions.redrive(started.arn, "token")
    stack.runtime.executions[started.id].state.status = Status.SUCCEEDED
    assert await executions.redrive(started.arn, "token") == at
    with pytest.raises(ServiceError, match="cannot be redriven"):
        await executions.redrive(started.arn, "another")


async def test_a_start_may_use_a_definition_for_the_time_of_the_cache_and_no_longer(stack: Stack) -> None:
    ours = stack.services.state_machines
    theirs = StateMachines(MemoryMachines(stack.database), stack.clock, RandomSeeds(), ServiceSettings())
    arn = (await ours.create(HERE, name="m", definition=PASS, role_arn=ROLE)).arn
    assert (await ours.for_start(arn)).revision == 1
    await theirs.update(arn, definition=FAIL)
    stack.clock.offset_ms += 1_001
    assert (await ours.for_start(arn)).revision == 2
    await ours.update(arn, definition=PASS)
    assert (await ours.for_start(arn)).revision == 3  # what this node changes itself it sees at once
    await theirs.delete(arn)
    stack.clock.offset_ms += 1_001
    with pytest.raises(ServiceError, match="Does Not Exist"):
        await ours.for_start(arn)


async def test_put_leaves_alone_what_it_does_not_name(stack: Stack) -> None:
    machines = stack.services.state_machines
    logging: Json = {"level": "OFF", "includeExecutionData": True}
    first, created = await machines.put(
        HERE, name="m", definition=PASS, role_arn=ROLE, config=MachineConfig(logging=logging)
    )
    second, again = await machines.put(HERE, name="m", definition=FAIL, role_arn=ROLE)
    assert (created, again, second.revision, second.logging) == (True, False, 2, first.logging)
    third, _ = await machines.put(
        HERE, name="m", definition=FAIL, role_arn=ROLE, config=MachineConfig(logging={"level": "OFF"})
    )
    assert (third.revision, third.definition) == (3, FAIL)


async def test_only_keys_of_our_own_can_be_configured(stack: Stack) -> None:
    config = MachineConfig(encryption={"type": "CUSTOMER_MANAGED_KMS_KEY", "kmsKeyId": "k"})
    with pytest.raises(ServiceError, match="Invalid Encryption Configuration"):
        await stack.services.state_machines.create(HERE, name="m", definition=PASS, role_arn=ROLE, config=config)


async def test_a_page_of_history_is_not_larger_than_an_answer_may_be(stack: Stack) -> None:
    long = "x" * 260_000
    states = {f"S{n}": {"Type": "Pass", "Next": f"S{n + 1}"} for n in range(9)} | {"S9": {"Type": "Succeed"}}
    definition = json.dumps({"StartAt": "S0", "States": states})
    machine = await stack.services.state_machines.create(HERE, name="m", definition=definition, role_arn=ROLE)
    started = (await stack.services.executions.start(machine.arn, input=f'"{long}"'.encode())).answer
    ids: list[int] = []
    token: str | None = None
    pages = 0
    while pages == 0 or token is not None:
        page = await stack.services.executions.history(started.arn, max_results=1000, token=token)
        ids += [id for id, _ in page.events]
        token, pages = page.next, pages + 1
    assert ids == list(range(1, 23))
    assert pages == 2


async def test_a_dead_letter_redriven_twice_at_once_is_redriven_once(stack: Stack) -> None:
    machine = await stack.services.state_machines.create(HERE, name="m", definition=FAIL, role_arn=ROLE)
    started = (await stack.services.executions.start(machine.arn)).answer
    letter = (await stack.services.dead_letters.list(DeadLetterFilter())).items[0]
    first = await stack.services.executions.redrive_by_id(started.id, started.arn, f"dead-letter-{letter.id}")
    assert await stack.services.dead_letters.redrive(letter.id) == first  # the answer was lost before the letter closed
    assert (await stack.services.executions.describe(started.arn)).redrive_count == 1


@pytest.mark.parametrize(("asked", "given"), ((None, 100), (0, 100), (7, 7), (5000, 1000)))
def test_page_sizes(asked: int | None, given: int) -> None:
    assert paging.page_size(asked) == given


@pytest.mark.parametrize("position", ("7", "ä|{}", "x" * 500))
def test_a_token_carries_its_position(position: str) -> None:
    token = paging.make_token("listing", position, NOW)
    assert paging.read_token("listing", token, NOW + 1) == position
    assert token is not None
    for wrong in (token[:-4], token[4:], token.swapcase(), "===="):
        if wrong != token and paging_outcome(wrong) == position:
            pytest.fail(f"{wrong} was accepted")


def paging_outcome(token: str) -> str | None:
    try:
        return paging.read_token("listing", token, NOW)
    except ServiceError:
        return None
