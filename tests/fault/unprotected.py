"""`python -m tests.fault.unprotected NAME ARGUMENTS...`: the `stepwell` command with one protection patched out.

For negative controls alone: a fault test must fail when what protects from the fault is missing. Production code has no such
switches; every patch here fails loudly when what it patches is no longer there.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import textwrap
from collections.abc import Callable
from typing import Any, Final

import msgspec

from stepwell.engine.store.sql import QUERIES

BEHIND_SECONDS: Final = 0.5
"""How long a commit comes after its answer, where answers do not wait for it."""


def without_text(query: str, *parts: str) -> None:
    """Take parts of a statement away."""
    for part in parts:
        assert part in QUERIES[query], f"{query}.sql has no {part!r}"
        QUERIES[query] = QUERIES[query].replace(part, "true" if part.startswith("e.rev") else "")


def patch(owner: Any, name: str, replacement: Any) -> None:
    """Replace a member that exists."""
    assert hasattr(owner, name), f"{owner} has no {name}"
    setattr(owner, name, replacement)


def without_code(owner: Any, name: str, *parts: tuple[str, str]) -> None:
    """Replace parts of a method, where what protects is the order in which it does things."""
    method = getattr(owner, name)
    source = textwrap.dedent(inspect.getsource(method))
    for part, instead in parts:
        assert source.count(part) == 1, f"{owner}.{name} has no, or more than one, {part!r}"
        source = source.replace(part, instead)
    made: dict[str, Any] = {}
    exec(compile(source, f"{name} without a protection", "exec"), vars(inspect.getmodule(owner)), made)
    patch(owner, name, made[name])


def redelivery() -> None:
    """Tasks found open in the store are left alone."""
    from stepwell.engine.runtime.dispatch import Dispatcher

    patch(Dispatcher, "again", lambda *_: None)


def timers() -> None:
    """Timers live in memory alone."""
    from stepwell.engine.runtime.timers import Timers

    async def nothing(_: Timers) -> None: ...

    patch(Timers, "scan_now", nothing)


def durability() -> None:
    """Callers are answered, and effects happen, before the commit."""
    from stepwell.engine.runtime.commit import Committer, Fate

    submit, commit = Committer.submit, Committer._commit

    def submit_and_tell(self: Committer, entry: Any, told: Callable[[Fate, str], None]) -> None:
        submit(self, entry, lambda *_: None)
        asyncio.get_running_loop().call_soon(told, Fate.COMMITTED, "")

    async def commit_later(self: Committer, batch: Any) -> None:
        await asyncio.sleep(BEHIND_SECONDS)
        await commit(self, batch)

    patch(Committer, "submit", submit_and_tell)
    patch(Committer, "_commit", commit_later)


def stable_keys() -> None:
    """Each delivery has an idempotency key of its own."""
    from stepwell.engine import ids

    patch(ids, "idempotency_key", lambda *_: os.urandom(8).hex())


def express_take_over() -> None:
    """Express executions of lost nodes are left alone."""
    from stepwell.engine.runtime.express_log import ExpressLog

    async def nothing(_: ExpressLog) -> int:
        return 0

    patch(ExpressLog, "_take_some", nothing)


def express_durability() -> None:
    """Who starts an Express execution is answered before its start is written."""
    from stepwell.engine.runtime.express_log import ExpressLog

    begin, write = ExpressLog.begin, ExpressLog._write_begins

    async def begin_and_tell(self: ExpressLog, *start: Any, **more: Any) -> bool:
        writing = asyncio.ensure_future(begin(self, *start, **more))
        self._tasks.append(writing)  # type: ignore[arg-type]
        return True

    async def write_later(self: ExpressLog, begins: Any) -> None:
        await asyncio.sleep(BEHIND_SECONDS)
        await write(self, begins)

    patch(ExpressLog, "begin", begin_and_tell)
    patch(ExpressLog, "_write_begins", write_later)


def express_keys() -> None:
    """The calls of each run of an Express execution have keys of their own."""
    from stepwell.engine.runtime.express import Express

    patch(Express, "_step_key", staticmethod(lambda *_: os.urandom(16)))


def express_fence() -> None:
    """A run that was lost goes on, and says how the execution ended."""
    from stepwell.engine.runtime.express import Express

    without_text("express_end", "AND e.attempt = n.attempt AND e.status = 1")

    def go_on(self: Express, *_: object) -> None:
        self.doubtful = False
        for run in self.asynchronous():
            self._schedule(run)

    patch(Express, "resume", go_on)


def express_children_again() -> None:
    """Express children of a Map Run that were lost with their node are left alone."""
    from stepwell.engine.runtime.map_run_steps import Steps

    async def nothing(*_: object) -> None: ...

    patch(Steps, "_run_again", nothing)


def express_children_fence() -> None:
    """A node without a lease goes on with the Express children of its Map Runs."""
    from stepwell.engine.runtime.express import Express
    from stepwell.engine.runtime.map_run_express import ExpressChildren

    patch(Express, "_stands_still", lambda *_: False)
    patch(ExpressChildren, "drop", lambda *_: None)


def lapses() -> None:
    """A node looks at its shards before it forgets what it did in a time without a lease."""
    from stepwell.engine.runtime.leases import Leases

    forgets = "self._lose(set(self.owned))"
    without_code(
        Leases, "_share", (forgets, "pass"), ("self._lose(self.owned - owned)", f"{forgets} if not was_valid else None")
    )


def reservations() -> None:
    """Express children take memory once they are begun, and not while the step that begins them is written."""
    from stepwell.engine.runtime.map_run_express import ExpressChildren

    begin, reserve = ExpressChildren.begin, ExpressChildren.reserve

    def reserve_and_begin(self: ExpressChildren, children: Any, machine: Any) -> None:
        for child in children:
            reserve(self, child)
        begin(self, children, machine)

    patch(ExpressChildren, "begin", reserve_and_begin)
    patch(ExpressChildren, "reserve", lambda *_: None)
    patch(ExpressChildren, "release", lambda *_: None)


def given_back() -> None:
    """Whatever runs on a node that goes away counts as what it died of."""
    from stepwell.engine.runtime.map_runs import MapRuns

    patch(MapRuns, "given", lambda *_: None)


def in_hand() -> None:
    """A task is under way until its target answers, and not until the answer is durable."""
    from stepwell.engine.runtime.dispatch import Dispatcher

    without_code(Dispatcher, "_perform", ("await durable", "pass"))


def own_tasks() -> None:
    """What a node that takes its shards up finds open, it sends, though it has scheduled it itself meanwhile."""
    from stepwell.engine.runtime.dispatch import Dispatcher

    without_code(Dispatcher, "taken_up", (" and (hot is None or row.task in hot.inherited)", ""))


def second_look() -> None:
    """A task that was found open is sent without another look whether it still is."""
    from stepwell.engine.runtime.dispatch import Dispatcher

    without_code(Dispatcher, "_request_of", (" or row.task not in tasks_of(stored)", ""))


def stored_outcomes() -> None:
    """What came of expressions that were carried out elsewhere is not written beside the event."""
    from stepwell.engine.query.jsonata import Outcomes

    patch(Outcomes, "holds", property(lambda _: []))


def claims() -> None:
    """Every copy of a task may run."""
    from stepwell.engine.messages import ClaimAnswer
    from stepwell.engine.runtime.requests import Requests

    claim = Requests.claim

    async def grant(self: Requests, asked: Any) -> ClaimAnswer:
        await claim(self, asked)
        return ClaimAnswer(True)

    patch(Requests, "claim", grant)


def worker_leases() -> None:
    """Nobody looks after tasks of workers that died."""
    from stepwell.engine.store.runtime_store import PostgresRuntimeStore

    async def nothing(*_: object) -> list[object]:
        return []

    patch(PostgresRuntimeStore, "lost_tasks", nothing)


def first_outcome() -> None:
    """An outcome written down for the owner takes the place of an earlier one, and the owner does not look for any."""
    without_text("post_outcome", " AND outcome IS NULL")
    without_text("commit", "(t.outcome IS NOT NULL AND NOT c.known) OR ")


def fate() -> None:
    """A commit whose connection is lost counts as done."""
    from stepwell.engine.errors import StoreUnavailableError
    from stepwell.engine.store.runtime_store import PostgresRuntimeStore

    commit = PostgresRuntimeStore.commit

    async def hope(self: PostgresRuntimeStore, node: Any, entries: Any) -> Any:
        try:
            return await commit(self, node, entries)
        except StoreUnavailableError:
            return {entry.id for entry in entries}

    patch(PostgresRuntimeStore, "commit", hope)


def fences() -> None:
    """A node does not notice that it lost its shards, and neither does the database."""
    from stepwell.engine.runtime.leases import Leases

    without_text("commit", " AND owner = :node")
    QUERIES["commit"] = "-- :node\n" + QUERIES["commit"].replace(
        "id = ANY (:shards)", "id = ANY (:shards) AND :node IS NOT NULL"
    )
    without_text("commit", "e.rev = u.rev")
    patch(Leases, "valid", property(lambda _: True))
    patch(Leases, "_lose", lambda *_: None)


def bisection() -> None:
    """A batch that is refused is refused as a whole."""
    from stepwell.engine.runtime.commit import Committer, Fate

    async def all_of_it(self: Committer, batch: Any, reason: str) -> None:
        for _, told in batch:
            self._tell(told, Fate.POISON, reason)

    patch(Committer, "_refused", all_of_it)


def polling() -> None:
    """The inbox is read when NOTIFY says so, and only then."""
    from stepwell.engine.runtime.engine import EngineOptions

    fields: Any = EngineOptions.__init__
    patch(EngineOptions, "__init__", lambda self, **given: fields(self, **given, poll_least=3600.0, poll_most=3600.0))


def peers() -> None:
    """Not a protection: a node that can reach no other, as behind a firewall."""
    from stepwell.engine.runtime.directory import Directory

    async def nobody(*_: object) -> None: ...

    patch(Directory, "owner", nobody)


def impatience() -> None:
    """Not a protection: callers are told soon that their command was not carried out."""
    from stepwell.engine.runtime import requests

    patch(requests, "COMMAND_SECONDS", 8.0)


def patience() -> None:
    """Not a protection: leases of workers, and waits for a task to be started, that are short enough for a test."""
    from stepwell.engine.runtime import dispatch, requests

    patch(requests, "WORKER_LEASE_SECONDS", 7)
    patch(dispatch, "OVERDUE_MS", {False: 2_000, True: 2_000})


def consumer_patience() -> None:
    """Not a protection: outcomes whose consumer died are given to another soon enough for a test."""
    from stepwell.engine.targets.celery_results import ResultsConsumer

    patch(ResultsConsumer.__init__, "__kwdefaults__", {"visibility_seconds": 2})


def result_first() -> None:
    """Outcomes are taken from the broker before they are durable."""
    from stepwell.engine.targets.redis_results import RedisResults

    settle = RedisResults._settle

    async def forget_and_settle(self: RedisResults, client: Any, taken: list[bytes]) -> None:
        await client.delete(self._taken)
        await settle(self, client, taken)

    patch(RedisResults, "_settle", forget_and_settle)


def whose_outcome() -> None:
    """An outcome is taken for that of whatever task is open."""
    from stepwell.engine.ids import ExecutionId
    from stepwell.engine.messages import Outcome
    from stepwell.engine.ports import TaskAnswer
    from stepwell.engine.runtime import once, requests

    async def take(self: requests.Requests, outcome: Outcome) -> TaskAnswer:
        id = ExecutionId(bytes.fromhex(outcome.execution))
        hot = await self._executor.read(id)
        assert hot is not None
        outcome = msgspec.structs.replace(outcome, task=next(iter(hot.state.tasks), outcome.task))
        changed = await self._executor.ask(id, once.reported_event(outcome))
        return TaskAnswer.ACCEPTED if changed else TaskAnswer.TIMED_OUT

    patch(requests.Requests, "report_outcome", take)


def host_redelivery() -> None:
    """A call that was lost with its function host is given up."""
    from stepwell.engine.targets.function_hosts import FunctionHostPool, HostLostError

    async def give_up(*_: object) -> None:
        raise HostLostError

    patch(FunctionHostPool, "_call_suspect", give_up)


def cursors() -> None:
    """How far the items of a Map Run have been read is kept in memory alone."""
    from stepwell.engine.machine.map_run import Plan

    made = Plan.made

    def forget(self: Plan, children: Any, *, exhausted: bool) -> None:
        made(self, children, exhausted=exhausted)
        self.progress.cursor, self.progress.source = None, 0

    patch(Plan, "made", forget)


PROTECTIONS: Final[dict[str, Callable[[], None]]] = {
    one.__name__: one
    for one in (
        redelivery, timers, durability, stable_keys, claims, worker_leases, first_outcome, fate, fences, bisection, polling,
        result_first, whose_outcome, host_redelivery, express_take_over, express_durability, express_keys, express_fence,
        express_children_again, express_children_fence, lapses, reservations, given_back, in_hand, own_tasks, second_look,
        cursors, stored_outcomes, peers, impatience, patience, consumer_patience,
    )
}  # fmt: skip
"""The one list of protections that can be taken away."""


if __name__ == "__main__":
    for name in sys.argv[1].split(","):
        PROTECTIONS[name]()
    from stepwell.cli.main import main

    main(sys.argv[2:])
