"""Plausible mistakes in the runtime and in the statements of the store, each of which the tests must notice."""

from __future__ import annotations

from tests.mutants.harness import Mutant

RUNTIME = "engine/runtime"
QUERIES = "engine/store/queries"


def seeds(*firsts: int) -> tuple[str, ...]:
    """The simulation, of ten seeds from each of these on."""
    return tuple(f"tests/simulation/test_simulation.py::test_every_promise_holds[{first}]" for first in firsts)


SIMULATION = seeds(0, 10, 20, 30, 40)
STORE = "tests/store/test_runtime_store.py"
NODE = "tests/runtime/test_node.py"
POSTGRES = ("tests/properties/test_on_postgres.py::test_restarts_change_nothing[0]",)
"""Random machines on Postgres, on nodes that die at their commits."""

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "anybody_may_write_to_a_shard",
        f"{QUERIES}/commit.sql",
        "SELECT id FROM shard WHERE id = ANY (:shards) AND owner = :node ORDER BY id FOR SHARE",
        "SELECT id FROM shard WHERE id = ANY (:shards) ORDER BY id FOR SHARE",
        "the epoch fence: only the owner of a shard writes to it",
        (f"{STORE}::test_who_does_not_own_the_shard_writes_nothing",),
    ),
    Mutant(
        "the_shard_is_not_locked",
        f"{QUERIES}/commit.sql",
        "ORDER BY id FOR SHARE\n",
        "ORDER BY id\n",
        "a change of owner waits for the commits under way",
        ("tests/store/test_fences.py",),
    ),
    Mutant(
        "any_revision_will_do",
        f"{QUERIES}/commit.sql",
        "WHERE e.id = u.id AND e.rev = u.rev\n",
        "WHERE e.id = u.id\n",
        "the revision fence: a step is written only onto the position it was computed from",
        (f"{STORE}::test_a_step_is_written_once", "tests/store/test_fences.py"),
    ),
    Mutant(
        "a_step_overwrites_an_outcome",
        f"{QUERIES}/commit.sql",
        "SELECT t.execution_id, (t.outcome IS NOT NULL AND NOT c.known) OR",
        "SELECT t.execution_id, false OR",
        "the first durable outcome of a task wins, also over a time-out",
        (f"{STORE}::test_a_step_that_closes_a_task_without_its_durable_outcome_is_void",),
    ),
    Mutant(
        "the_second_outcome_wins",
        f"{QUERIES}/post_outcome.sql",
        "AND secret = $3 AND outcome IS NULL",
        "AND secret = $3",
        "the first durable outcome of a task wins",
        (f"{STORE}::test_the_first_outcome_wins",),
    ),
    Mutant(
        "two_workers_claim_one_task",
        f"{QUERIES}/post_claim.sql",
        "AND (status < {task.STARTED} OR worker = $3 OR worker = $7)",
        "",
        "a task that is claimed is refused to everybody else",
        (f"{STORE}::test_one_worker_claims_a_task",),
    ),
    Mutant(
        "an_expired_lease_counts",
        f"{QUERIES}/take_shards.sql",
        " AND n.expires_at > clock_timestamp()",
        "",
        "the shards of a node whose lease has run out are free",
        (f"{STORE}::test_the_shards_of_a_node_whose_lease_ran_out_are_taken",),
    ),
    Mutant(
        "shards_are_taken_from_the_living",
        f"{QUERIES}/take_shards.sql",
        "WHERE n.incarnation = f.owner AND n.expires_at > clock_timestamp())",
        "WHERE n.incarnation = f.owner AND n.expires_at < clock_timestamp())",
        "a live node keeps its shards",
        (f"{STORE}::test_shards_are_shared_and_given_back",),
    ),
    Mutant(
        "the_inbox_is_never_consumed",
        f"{QUERIES}/commit.sql",
        "WHERE d.id = g.id AND i.shard = g.shard AND i.id = g.row",
        "WHERE d.id = g.id AND i.shard = g.shard AND i.id = -g.row",
        "a row of the inbox goes away with the commit that applies it",
        (f"{STORE}::test_the_inbox_keeps_what_was_put_down_until_a_step_consumes_it",),
    ),
    Mutant(
        "the_inbox_is_consumed_before_the_commit",
        f"{QUERIES}/inbox.sql",
        "SELECT id, execution_id, event FROM inbox\n"
        " WHERE shard = ANY ($1::smallint[]) AND id <> ALL ($3::bigint[]) AND execution_id <> ALL ($4::uuid[])\n"
        " ORDER BY id LIMIT $2",
        "WITH read AS (DELETE FROM inbox\n"
        " WHERE shard = ANY ($1::smallint[]) AND id <> ALL ($3::bigint[]) AND execution_id <> ALL ($4::uuid[])\n"
        " RETURNING id, execution_id, event)\n"
        "SELECT id, execution_id, event FROM read ORDER BY id LIMIT $2",
        "a row that was read is there until the step that applies it is durable",
        (f"{STORE}::test_the_inbox_keeps_what_was_put_down_until_a_step_consumes_it",),
    ),
    Mutant(
        "effects_before_the_commit",
        f"{RUNTIME}/executor.py",
        "        hot.busy = True\n        if batch.more:\n",
        "        hot.busy = True\n        self._carry_out(hot, commands)\n        if batch.more:\n",
        "nobody is told of a step that may never have been written",
        SIMULATION,
    ),
    Mutant(
        "a_commit_of_unknown_fate_is_believed",
        f"{RUNTIME}/executor.py",
        "        if fate is Fate.COMMITTED:\n            hot.rev += 1\n",
        "        if fate in (Fate.COMMITTED, Fate.UNKNOWN):\n            hot.rev += 1\n",
        "only the store knows whether a step was written whose answer was lost",
        SIMULATION,
    ),
    Mutant(
        "doubt_is_forgotten",
        f"{RUNTIME}/identity.py",
        "        self._in_doubt = True\n",
        "        self._in_doubt = False\n",
        "a commit under the old name may still take effect: the node takes a new name first",
        ("tests/runtime/test_unanswered_commits.py", *SIMULATION),
    ),
    Mutant(
        "every_task_closed_is_known",
        f"{RUNTIME}/entries.py",
        "entry.tasks_closed.append((command.task, command.task in ended))",
        "entry.tasks_closed.append((command.task, True))",
        "a time-out that meets an outcome which is durable already is void",
        SIMULATION,
    ),
    Mutant(
        "time_goes_back",
        f"{RUNTIME}/batch.py",
        "now = hot.last_now = max(clock.now_ms() if moment is None else moment, hot.last_now)",
        "now = hot.last_now = clock.now_ms() if moment is None else moment",
        "the clock of the next owner may be behind that of the last one",
        SIMULATION,
    ),
    Mutant(
        "nothing_says_that_there_is_more",
        f"{RUNTIME}/entries.py",
        "        entry.timers_new.append((CONTINUE_TIMER, hot.last_now, TimerKind.WAIT, None))\n",
        "        pass\n",
        "who takes an execution over between two slices has to be told to go on",
        ("tests/runtime/test_unanswered_commits.py",),
    ),
    Mutant(
        "a_delta_passes_for_a_full_snapshot",
        f"{RUNTIME}/entries.py",
        "        delta = full_delta(state)\n",
        "",
        "what is read back begins with the last full snapshot",
        (f"{NODE}::test_a_node_goes_on_from_a_whole_snapshot",),
    ),
    Mutant(
        "heartbeats_are_not_heard",
        f"{RUNTIME}/engine.py",
        "if heard and heard + 1000 * seconds > self._clock.now_ms():",
        "if heard and heard + 1000 * seconds > self._clock.now_ms() + 10**12:",
        "a heartbeat renews the time a task has until the next",
        ("tests/runtime/test_heartbeats.py",),
    ),
    Mutant(
        "a_timer_fires_once_only",
        f"{RUNTIME}/timers.py",
        "                self._known.discard((id, timer))\n",
        "",
        "a timer that fired in vain (its node was losing the shard) is armed again",
        ("tests/runtime/test_timers.py",),
    ),
    Mutant(
        "half_of_a_refused_batch_is_lost",
        f"{RUNTIME}/commit.py",
        "        await self._commit(batch[half:])\n",
        "",
        "a step that cannot be written must not take its neighbours with it",
        ("tests/runtime/test_commit.py",),
    ),
    Mutant(
        "open_tasks_are_not_sent_again",
        f"{RUNTIME}/engine.py",
        "                self.dispatcher.taken_up(await self._store.open_tasks(sorted(shards & self.executor.owned)))\n",
        "                pass\n",
        "who takes shards over sends the tasks that may never have been sent",
        (f"{NODE}::test_a_node_goes_on_where_the_last_one_stopped",),
    ),
    Mutant(
        "a_task_that_was_closed_meanwhile_is_sent_again",
        f"{RUNTIME}/dispatch.py",
        " or row.task not in tasks_of(stored)",
        "",
        "what the store found open may have ended by the time its answer comes",
        ("tests/runtime/test_taking_up.py",),
    ),
    Mutant(
        "a_task_of_this_node_itself_is_sent_again",
        f"{RUNTIME}/dispatch.py",
        "(hot is None or row.task in hot.inherited)",
        "True",
        "a node that takes up its shards does not send what it has scheduled itself meanwhile",
        ("tests/runtime/test_taking_up.py",),
    ),
    Mutant(
        "a_task_is_forgotten_before_its_outcome_is_durable",
        f"{RUNTIME}/dispatch.py",
        "                await durable\n",
        "                pass\n",
        "a task whose outcome the engine has is not done once more while it is being written",
        ("tests/runtime/test_taking_up.py",),
    ),
    Mutant(
        "the_lease_never_ends",
        f"{RUNTIME}/leases.py",
        "return self._clock.monotonic() < self._valid_until",
        "return self._valid_until > 0",
        "a node that could not renew its lease stops acting",
        ("tests/runtime/test_leases.py",),
    ),
    Mutant(
        "timers_fire_in_any_order",
        f"{RUNTIME}/local.py",
        "return min((timer.due_at for timer in self.timers.values()), default=None)",
        "return max((timer.due_at for timer in self.timers.values()), default=None)",
        "a run in memory lets the timer fire first that is due first",
        ("tests/cli/test_local_execution.py",),
    ),
    Mutant(
        "workers_may_die_of_a_task_for_ever",
        f"{RUNTIME}/dispatch.py",
        "MAX_DELIVERIES: Final = 5",
        "MAX_DELIVERIES: Final = 500",
        "a task that five workers were lost with is given up",
        ("tests/runtime/test_lost_workers.py",),
    ),
    Mutant(
        "a_task_its_worker_has_forgotten_stays_with_it",
        f"{QUERIES}/lost_tasks.sql",
        "\n        OR t.started_at < $3 AND NOT replace(t.execution_id::text, '-', '') || '/' || t.task = ANY (w.running))",
        " AND $3::bigint IS NOT NULL)",
        "a worker lives and does not have the task any more: its word of the outcome was lost",
        (f"{STORE}::test_a_live_worker_may_have_forgotten_a_task",),
    ),
    Mutant(
        "engines_may_die_of_an_execution_for_ever",
        f"{RUNTIME}/express_log.py",
        "if start.attempt > MAX_RUNS:",
        "if start.attempt > 100 * MAX_RUNS:",
        "an Express execution that three engines were lost with is given up",
        ("tests/runtime/test_express_async.py::test_one_that_outlives_no_node_is_given_up",),
    ),
    Mutant(
        "an_express_execution_has_all_the_time_it_asks_for",
        f"{RUNTIME}/express.py",
        "seconds = min(MAX_EXPRESS_SECONDS, machine.timeout_seconds or MAX_EXPRESS_SECONDS)",
        "seconds = machine.timeout_seconds or 1000 * MAX_EXPRESS_SECONDS",
        "an Express execution ends after five minutes at the latest",
        ("tests/runtime/test_express_children.py::test_a_child_that_lasts_too_long_times_out",),
    ),
    Mutant(
        "all_attempts_have_one_key",
        "engine/ids.py",
        'b"%d/%d" % (entry, attempt), digest_size=16, key=id',
        'b"%d" % entry, digest_size=16, key=id',
        "a retry has an idempotency key of its own",
        (f"{NODE}::test_waits_and_retries_outlive_a_restart",),
    ),
    Mutant(
        "each_attempt_is_a_step_of_its_own",
        f"{RUNTIME}/dispatch.py",
        "step_id=ids.step_id(hot.id, command.entry),",
        "step_id=ids.step_id(hot.id, command.entry + command.attempt),",
        "the id of a step is the same for all attempts",
        (f"{NODE}::test_waits_and_retries_outlive_a_restart",),
    ),
    Mutant(
        "any_server_will_do",
        "engine/store/settings_check.py",
        'if settings[name] != "on"',
        'if settings[name] not in ("on", "off")',
        "a server that may lose what it has committed is refused",
        ("tests/store/test_migrations.py::test_a_server_that_may_lose_commits_is_refused",),
    ),
    Mutant(
        "what_older_chunks_hold_is_lost",
        f"{QUERIES}/chunks_with.sql",
        "w.event BETWEEN c.first_event AND c.last_event",
        "w.event > c.first_event AND w.event <= c.last_event",
        "a position refers to data in events from before the last full snapshot: to the first of a chunk as well",
        POSTGRES,
    ),
    Mutant(
        "when_it_was_redriven_is_not_read_back",
        f"{RUNTIME}/hot.py",
        "    state.redriven_at = stored.redriven_at or 0\n",
        "",
        "the date of the last redrive is in the execution's row, and in the context object",
        POSTGRES,
    ),
    Mutant(
        "a_page_of_history_ends_too_early",
        "engine/store/views.py",
        "min(first + len(chunk.texts) - 1, max(ids, default=0)) + 1",
        "min(first + len(chunk.texts) - 1, max(ids, default=0) - 1) + 1",
        "a page of history goes up to its last event",
        POSTGRES,
    ),
    Mutant(
        "a_request_that_was_taken_is_made_again",
        "engine/machine/states/task.py",
        "    run.commands.append(MarkTaskStarted(event.task, None))  # else the request would be made again\n",
        "",
        "a task that waits for its token has been sent, and is not sent again",
        ("tests/runtime/test_taking_up.py",),
    ),
)
