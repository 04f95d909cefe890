"""The contract of the runtime's store: fences, first outcome wins, claims, lost workers, activities, leases, inbox, timers."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from msgspec import structs

from stepwell.engine.errors import BadBatchError, NotOwnerError
from stepwell.engine.ids import SHARD_COUNT, ExecutionId, claim_key, shard_of
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine import events
from stepwell.engine.machine.commands import Status
from stepwell.engine.ports import (
    CommitEntry,
    NewExecution,
    NodeRow,
    TaskAnswer,
)
from stepwell.engine.store.codes import UNKNOWN_WORKER_GRACE_MS
from tests.store.conftest import ALL, NODE, WORKER, RuntimeStores, claim_of
from tests.support.local_machine import START, info_of, raw
from tests.support.stored import TASK, StoredRun

ACTIVITY = "arn:aws:states:us-east-1:000000000000:activity:a"
POLLED = {"StartAt": "Work", "States": {"Work": {"Type": "Task", "Resource": ACTIVITY, "End": True}}}
WAITS = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 60, "End": True}}}
ONE, TWO, THREE = WORKER, str(UUID(int=102)), str(UUID(int=103))
DONE = events.TaskSucceeded(1, raw({"done": True}))
BROKE = events.TaskFailed(1, "Broke")


# ------------------------------------------------------------------------------------------------------------- commits


async def test_a_step_is_written_once(of: RuntimeStores) -> None:
    run = await of.started()
    run.apply(DONE)
    (entry,) = run.entries
    assert await of.store.commit(NODE, [entry]) == {run.id}
    assert await of.store.commit(NODE, [entry]) == set()
    assert await of.store.status(run.id) is Status.SUCCEEDED
    stored = await of.store.load(run.id)
    assert stored is not None and (stored.rev, len(stored.chunks)) == (2, 2)


async def test_a_name_is_begun_once(of: RuntimeStores) -> None:
    run = StoredRun(TASK, machine_key=(await of.started()).machine_key).start()
    assert not await of.commit(run)


async def test_who_does_not_own_the_shard_writes_nothing(of: RuntimeStores) -> None:
    run = await of.started()
    run.apply(DONE)
    (entry,) = run.entries
    await of.store.release_shards(NODE, [shard_of(run.id)])
    assert await of.store.commit(NODE, [entry]) == set()
    other = UUID(int=8)
    await of.store.register_node(other, None, 60_000)
    assert list(await of.store.take_shards(other, SHARD_COUNT)) == [shard_of(run.id)]
    assert await of.store.commit(NODE, [entry]) == set()
    assert len(await of.waiting()) == 1
    assert await of.store.commit(other, [entry]) == {run.id}


async def test_the_steps_that_pass_are_written_beside_those_that_do_not(of: RuntimeStores) -> None:
    first, second = await of.started(name="first"), await of.started(name="second")
    for run in (first, second):
        run.apply(DONE)
    stale = replace(first.entries[0], rev=7)
    assert await of.store.commit(NODE, [stale, second.entries[0]]) == {second.id}


async def test_two_steps_of_one_execution_in_a_batch_are_refused(of: RuntimeStores) -> None:
    run = await of.started()
    run.apply(DONE)
    entry = run.entries[0]
    with pytest.raises(BadBatchError):
        await of.store.commit(NODE, [entry, replace(entry, new=_new(run))])


def _new(run: StoredRun) -> NewExecution:
    return NewExecution(
        machine_key=run.machine_key, revision=1, name=run.info.name, arn=run.info.arn, started_at=run.info.started_at
    )


# ------------------------------------------------------------------------------------------------------------ outcomes


async def test_the_first_outcome_wins(of: RuntimeStores) -> None:
    run = await of.started()
    secret = run.tasks[1].secret
    assert await of.store.post_outcome(run.id, 1, b"x" * 16, BROKE) is TaskAnswer.TIMED_OUT
    assert await of.store.post_outcome(run.id, 1, secret, DONE) is TaskAnswer.ACCEPTED
    assert await of.store.post_outcome(run.id, 1, secret, DONE) is TaskAnswer.TIMED_OUT
    assert await of.store.post_outcome(run.id, 1, secret, BROKE) is TaskAnswer.TIMED_OUT
    assert await of.store.post_outcome(run.id, 2, secret, DONE) is TaskAnswer.TIMED_OUT
    assert await of.store.post_outcome(ExecutionId(b"?" * 16), 1, secret, DONE) is TaskAnswer.INVALID
    assert await of.inbox() == [DONE]
    assert await of.waiting() == []
    assert await of.store.task_secret(run.id, 1) is None


async def test_a_step_that_closes_a_task_without_its_durable_outcome_is_void(of: RuntimeStores) -> None:
    run = await of.started()
    assert await of.store.post_outcome(run.id, 1, run.tasks[1].secret, DONE) is TaskAnswer.ACCEPTED
    (row,) = await of.store.inbox(ALL, 10)
    run.apply(events.StopRequested())
    (stop,) = run.entries
    assert stop.tasks_closed == [(1, False)]
    assert await of.store.commit(NODE, [stop]) == set()
    assert await of.store.status(run.id) is Status.RUNNING
    assert await of.store.commit(NODE, [replace(stop, tasks_closed=[(1, True)], inbox_gone=[row.id])]) == {run.id}
    assert await of.inbox() == []


# -------------------------------------------------------------------------------------------------------------- claims


async def test_one_worker_claims_a_task(of: RuntimeStores) -> None:
    run = await of.started()
    assert not await of.store.post_claim(run.id, structs.replace(claim_of(run, ONE), key=claim_key(b"x" * 16)))
    assert not await of.store.post_claim(run.id, structs.replace(claim_of(run, ONE), task=2))
    assert await of.claim(run, ONE)
    assert await of.claim(run, ONE)  # its answer may have been lost
    assert not await of.claim(run, TWO)
    assert not await of.claim(run, TWO, holder=THREE)
    assert await of.inbox() == [events.TaskStarted(1, "name")] * 2
    assert await of.waiting() == []


async def test_a_claim_is_handed_on(of: RuntimeStores) -> None:
    run = await of.claimed(ONE)
    assert await of.claim(run, TWO, holder=ONE)
    assert not await of.claim(run, ONE)
    assert await of.claim(run, TWO)


async def test_a_task_with_an_outcome_cannot_be_claimed(of: RuntimeStores) -> None:
    run = await of.claimed(ONE)
    await of.store.post_outcome(run.id, 1, run.tasks[1].secret, DONE)
    assert not await of.claim(run, ONE)
    # Nor by its owner, who has heard neither of the claim nor of the outcome.
    assert await of.store.commit(NODE, [_claiming(run, ONE)]) == set()


async def test_a_claim_by_a_step_respects_one_by_a_row(of: RuntimeStores) -> None:
    run = await of.claimed(ONE)
    entry = _claiming(run, TWO)
    assert await of.store.commit(NODE, [entry]) == set()
    assert await of.store.commit(NODE, [replace(entry, tasks_started=[(1, ONE)])]) == {run.id}
    assert not await of.claim(run, TWO)


async def test_a_claim_by_a_row_respects_one_by_a_step(of: RuntimeStores) -> None:
    run = await of.started()
    assert await of.store.commit(NODE, [_claiming(run, ONE)]) == {run.id}
    assert not await of.claim(run, TWO)
    assert await of.claim(run, ONE)


def _claiming(run: StoredRun, worker: str) -> CommitEntry:
    run.apply(events.TaskStarted(1, "name"))
    entry = run.entries.pop()
    assert entry.tasks_started == [(1, None)]
    return replace(entry, tasks_started=[(1, worker)])


# -------------------------------------------------------------------------------------------------------- lost workers


async def test_a_task_is_lost_when_its_workers_lease_has_run_out(of: RuntimeStores) -> None:
    run, other = await of.claimed(ONE), await of.claimed(TWO, "other")
    for worker in (ONE, TWO):
        await of.report(worker)
    assert await of.lost() == []
    await of.lapse_worker(ONE)
    assert await of.lost() == [run.id]
    assert await of.store.lost_tasks([shard_of(other.id)]) == []
    assert await of.store.requeue_tasks([(run.id, 1, TWO), (other.id, 1, TWO), (run.id, 1, ONE)]) == {(run.id, 1)}
    (row,) = await of.waiting()
    assert (row.execution, row.delivery, row.worker) == (run.id, 1, None)
    assert await of.claim(run, THREE)
    assert not await of.claim(run, ONE)


async def test_a_task_is_not_taken_from_a_worker_that_is_back(of: RuntimeStores) -> None:
    run = await of.claimed(ONE)
    await of.report(ONE)
    await of.lapse_worker(ONE)
    assert await of.lost() == [run.id]
    await of.report(ONE)
    assert await of.store.requeue_tasks([(run.id, 1, ONE)]) == set()
    assert await of.lost() == [] == await of.waiting()


async def test_a_task_that_has_an_outcome_is_not_lost(of: RuntimeStores) -> None:
    run = await of.claimed(ONE)
    await of.report(ONE, ended=True)
    assert await of.lost() == [run.id]
    await of.store.post_outcome(run.id, 1, run.tasks[1].secret, DONE)
    assert await of.lost() == []
    assert await of.store.requeue_tasks([(run.id, 1, ONE)]) == set()


async def test_a_worker_that_says_goodbye_has_lost_its_tasks_at_once(of: RuntimeStores) -> None:
    run = await of.claimed(ONE)
    await of.report(ONE, f"{run.id.hex()}/1")
    await of.report(ONE, ended=True)
    assert await of.lost() == [run.id]
    assert await of.store.requeue_tasks([(run.id, 1, ONE)]) == {(run.id, 1)}


async def test_a_worker_that_never_reported_is_given_time(of: RuntimeStores) -> None:
    run = await of.claimed(ONE)
    of.clock.now = START + UNKNOWN_WORKER_GRACE_MS
    assert await of.lost() == []
    of.clock.now += 1
    assert await of.lost() == [run.id]
    assert await of.store.requeue_tasks([(run.id, 1, ONE)]) == {(run.id, 1)}


async def test_a_live_worker_may_have_forgotten_a_task(of: RuntimeStores) -> None:
    run, other = await of.claimed(ONE), await of.claimed(ONE, "other")
    await of.report(ONE, f"{other.id.hex()}/1")
    assert await of.lost(START) == []  # started at that very moment, not before
    assert await of.lost(START + 1) == [run.id]
    assert await of.store.requeue_tasks([(run.id, 1, ONE)]) == set()
    assert await of.store.requeue_tasks([(run.id, 1, ONE), (other.id, 1, ONE)], START + 1) == {(run.id, 1)}
    await of.report(ONE, f"{other.id.hex()}/12", f"{run.id.hex()}/1")
    assert await of.lost(START + 1) == [other.id]


# ---------------------------------------------------------------------------------------------- activities, heartbeats


async def test_the_oldest_task_of_an_activity_is_handed_out_once(of: RuntimeStores) -> None:
    first = await of.started(POLLED, "first")
    of.clock.now += 10
    second = await of.started(POLLED, "second")
    await of.started(TASK, "other")
    for run in (first, second):
        taken = await of.store.take_activity_task(ACTIVITY, "poller")
        task = run.tasks[1]
        assert taken == (run.id, 1, task.secret, task.scheduled_event)
    assert await of.store.take_activity_task(ACTIVITY, "poller") is None
    assert await of.inbox() == [events.TaskStarted(1, "poller")] * 2
    assert await of.store.take_activity_task(ACTIVITY + "b", None) is None


async def test_an_activity_task_with_an_outcome_is_not_handed_out(of: RuntimeStores) -> None:
    run = await of.started(POLLED)
    await of.store.post_outcome(run.id, 1, run.tasks[1].secret, DONE)
    assert await of.store.take_activity_task(ACTIVITY, None) is None


async def test_a_task_in_a_broker_still_waits(of: RuntimeStores) -> None:
    run = await of.started()
    await of.store.mark_sent([(run.id, 1), (run.id, 9)], START)
    assert [row.execution for row in await of.waiting()] == [run.id]
    assert await of.claim(run, ONE)
    await of.store.mark_sent([(run.id, 1)], START)  # comes late
    assert await of.waiting() == []


async def test_heartbeats_are_heard_until_the_task_is_closed(of: RuntimeStores) -> None:
    run = await of.started()
    secret = run.tasks[1].secret
    assert await of.store.last_heartbeat(run.id, 1) == 0
    assert await of.store.post_heartbeat(run.id, 1, secret, START + 5) is TaskAnswer.ACCEPTED
    assert await of.store.post_heartbeat(run.id, 1, secret, START + 3) is TaskAnswer.ACCEPTED
    assert await of.store.last_heartbeat(run.id, 1) == START + 5
    assert await of.store.post_heartbeat(run.id, 1, b"x" * 16, START + 9) is TaskAnswer.TIMED_OUT
    assert await of.store.post_heartbeat(ExecutionId(b"?" * 16), 1, secret, START) is TaskAnswer.INVALID
    await of.store.post_outcome(run.id, 1, secret, DONE)
    assert await of.store.post_heartbeat(run.id, 1, secret, START + 9) is TaskAnswer.TIMED_OUT


# -------------------------------------------------------------------------------------------------------------- leases


async def test_shards_are_shared_and_given_back(of: RuntimeStores) -> None:
    store, other = of.store, UUID(int=8)
    await store.register_node(other, None, 60_000)
    assert list(await store.take_shards(other, SHARD_COUNT)) == []
    await store.release_shards(other, [0])  # not its own
    await store.release_shards(NODE, range(100, SHARD_COUNT))
    assert sorted(await store.take_shards(other, 50)) == list(range(100, 150))
    assert sorted(await store.owned_shards(other)) == list(range(100, 150))
    assert sorted(await store.owned_shards(NODE)) == list(range(100))
    owners = await store.shard_owners()
    assert (owners[99], owners[100], len(owners)) == (NODE, other, 150)
    await store.remove_node(other)
    assert sorted(await store.take_shards(NODE, SHARD_COUNT)) == list(range(100, SHARD_COUNT))
    assert list(await store.live_nodes()) == [NodeRow(NODE, "a:1")]


async def test_the_shards_of_a_node_whose_lease_ran_out_are_taken(of: RuntimeStores) -> None:
    store, other = of.store, UUID(int=8)
    await store.register_node(other, None, 60_000)
    await of.lapse_node(NODE)
    assert list(await store.live_nodes()) == [NodeRow(other, None)]
    assert len(await store.take_shards(other, 10)) == 10
    # The sleeper is back before the others were taken: those it keeps.
    assert {row.incarnation for row in await store.renew_node(NODE, 60_000)} == {NODE, other}
    assert len(await store.take_shards(other, SHARD_COUNT)) == 0
    assert sorted(await store.owned_shards(NODE)) == list(range(10, SHARD_COUNT))


async def test_a_lease_that_is_gone_cannot_be_renewed(of: RuntimeStores) -> None:
    await of.store.remove_node(NODE)
    assert await of.store.shard_owners() == {}
    with pytest.raises(NotOwnerError):
        await of.store.renew_node(NODE, 60_000)


async def test_a_new_name_keeps_the_shards_and_shuts_out_the_old_one(of: RuntimeStores) -> None:
    run = await of.started()
    run.apply(DONE)
    (entry,) = run.entries
    fresh = UUID(int=9)
    await of.store.rename_node(NODE, fresh)
    await of.store.rename_node(NODE, fresh)
    assert list(await of.store.live_nodes()) == [NodeRow(fresh, "a:1")]
    assert sorted(await of.store.owned_shards(fresh)) == list(ALL)
    assert await of.store.commit(NODE, [entry]) == set()
    with pytest.raises(NotOwnerError):
        await of.store.renew_node(NODE, 60_000)
    assert await of.store.commit(fresh, [entry]) == {run.id}


# ------------------------------------------------------------------------------------------------------ inbox and timers


async def test_the_inbox_keeps_what_was_put_down_until_a_step_consumes_it(of: RuntimeStores) -> None:
    run = await of.started()
    stop, go_on = events.StopRequested("E", "c"), events.Redriven("t")
    await of.store.post(run.id, stop)
    await of.store.post(run.id, go_on)
    await of.store.post(ExecutionId(b"?" * 16), stop)
    rows = await of.store.inbox([shard_of(run.id)], 10)
    assert [(row.execution, row.event) for row in rows] == [(run.id, stop), (run.id, go_on)]
    assert [row.event for row in await of.store.inbox(ALL, 1)] == [stop]
    assert await of.store.inbox([shard for shard in ALL if shard != shard_of(run.id)], 10) == []
    run.apply(stop)
    entry = replace(run.entries.pop(), inbox_gone=[rows[0].id])
    assert await of.store.commit(NODE, [replace(entry, rev=5)]) == set()
    assert await of.inbox() == [stop, go_on]
    assert await of.store.commit(NODE, [entry]) == {run.id}
    assert await of.inbox() == [go_on]


async def test_a_start_is_put_down_once(of: RuntimeStores) -> None:
    machine_key = (await of.started()).machine_key
    run = StoredRun(TASK, machine_key=machine_key, info=info_of(name="new"))
    assert await of.store.started_input(run.id) is None
    assert await of.store.post_start(run.id, _new(run), Document.of({"a": 1}))
    assert not await of.store.post_start(run.id, _new(run), Document.of({"a": 2}))
    assert await of.store.started_input(run.id) == b'{"a":1}'
    stored = await of.store.load(run.id)
    assert stored is not None and (stored.rev, stored.status, list(stored.chunks)) == (0, Status.RUNNING, [])
    (row,) = await of.store.inbox(ALL, 10)
    run.start()
    entry = replace(run.entries.pop(), new=None, inbox_gone=[row.id])
    assert await of.store.commit(NODE, [entry]) == {run.id}
    assert await of.store.started_input(run.id) is None


async def test_timers_are_found_soonest_first(of: RuntimeStores) -> None:
    early = await of.started(WAITS, "early")
    late = await of.started({**WAITS, "TimeoutSeconds": 90}, "late")
    found = await of.store.timers_due(ALL, START + 90_001, 10)
    assert [due_at - START for _, _, due_at in found] == [60_000, 60_000, 90_000]
    assert {id for id, _, _ in found[:2]} == {early.id, late.id}
    assert len(await of.store.timers_due(ALL, START + 90_000, 10)) == 2
    assert len(await of.store.timers_due(ALL, START + 90_001, 1)) == 1
    assert {id for id, _, _ in await of.store.timers_due([shard_of(early.id)], START + 90_001, 10)} == {early.id}
    early.fire()
    assert await of.commit(early)
    assert {id for id, _, _ in await of.store.timers_due(ALL, START + 90_001, 10)} == {late.id}
