"""One run: everything is started, measured in interleaved rounds, checked against the database, and stopped again."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench import database, usage
from bench.children import ROOT, Child
from bench.database import Server
from bench.figures import Cells, Figures
from bench.load import drive
from bench.stepwell_server import Stepwell, stepwell
from bench.workloads import W4, WORKLOADS, Answered, Workload
from stepwell.cli.embedded.valkey import EmbeddedValkey

PEERS_VENV: Final = ROOT / ".venv-bench"
CELERY_CONCURRENCY: Final = 2
WARM_SECONDS: Final = 1.0
WAITING_START_CLIENTS: Final = 16


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. `workloads` may also name `floor` and `w4`."""

    workloads: Sequence[str]
    clients: Sequence[int] = (1, 16, 64)
    seconds: float = 2.0
    rounds: int = 3
    dbos: bool = True
    celery: bool = True
    database_url: str | None = None
    tool: str | None = None


@dataclass(slots=True)
class Result:
    """What a run found. `waiting` are the figures of W4."""

    plan: Plan
    postgres: str
    tool: str = ""
    cells: Cells = field(default_factory=Cells)
    waiting: dict[str, float] = field(default_factory=dict)


class Bench:
    """The systems of one run, and a way to measure a cell of each."""

    def __init__(self, plan: Plan, directory: Path, say: Callable[[str], None]) -> None:
        self.plan = plan
        self._directory = directory
        self._say = say
        self._life = ExitStack()
        self._postgres: Server | None = None
        self._stepwell: Stepwell | None = None
        self._dbos: Child | None = None
        self._broker = ""
        self._plain_worker: Child | None = None

    @contextmanager
    def opened(self) -> Iterator[Result]:
        """Everything that the plan needs, started."""
        plan = self.plan
        with self._life:
            self._postgres = self._life.enter_context(
                database.postgres(self._directory / "postgres", plan.database_url)
            )
            self._broker = self._life.enter_context(EmbeddedValkey(self._directory / "valkey").acquire()).url
            named = [WORKLOADS[name] for name in plan.workloads if name in WORKLOADS]
            if any(one.celery for one in named):
                self._start_celery()
            if named or "w4" in plan.workloads:
                self._stepwell = self._life.enter_context(
                    stepwell(self._directory, self._postgres.database("stepwell"), self._broker)
                )
            if any(one.celery for one in named):
                self._start_claiming_worker()
            if plan.dbos and any(one.name in ("w1", "w1t", "w2") for one in named):
                self._start_dbos()
            yield Result(plan, self._postgres.version)

    # -- starting --------------------------------------------------------------------------------------------------

    def _start_dbos(self) -> None:
        assert self._postgres is not None
        python = peers_python(self._say)
        child = Child(
            [str(python), "-m", "bench.peers.dbos_peer", self._postgres.database("dbos")], self._directory / "dbos.log"
        )
        self._dbos = self._life.enter_context(child)
        child.line(60)

    def _celery_worker(self, name: str, environment: dict[str, str]) -> Child:
        command = [sys.executable, "-m", "celery", "-A", "bench.celery_worker", "worker", "--loglevel=warning"]
        command += ["--without-gossip", "--without-mingle", "--pool=prefork", f"--concurrency={CELERY_CONCURRENCY}"]
        return self._life.enter_context(Child(command, self._directory / f"{name}.log", environment))

    def _start_celery(self) -> None:
        self._plain_worker = self._celery_worker(
            "celery", {"BENCH_BROKER_URL": self._broker, "BENCH_PLAIN_CELERY": "1"}
        )

    def _start_claiming_worker(self) -> None:
        assert self._stepwell is not None
        self._celery_worker(
            "claiming",
            {"BENCH_BROKER_URL": self._broker, "STEPWELL_BROKER_URL": self._broker, "STEPWELL_URL": self._stepwell.url},
        )

    # -- measuring -------------------------------------------------------------------------------------------------

    def floor(self, clients: int, mode: str) -> Figures:
        """The Postgres floor: rows made durable a second."""
        assert self._postgres is not None
        before = usage.usage(None, self._postgres.pid)
        command = [sys.executable, "-m", "bench.floor", self._postgres.database("floor"), str(clients)]
        told = _json_of([*command, str(self.plan.seconds), mode])
        after = usage.usage(None, self._postgres.pid)
        rows = told["rows"]
        return Figures(
            per_second=rows / told["seconds"],
            p50_ms=told["p50_ms"],
            p99_ms=told["p99_ms"],
            postgres_us=_each(before, after, "postgres", rows),
            client_us=1e6 * told["cpu_seconds"] / rows,
            commits_per_second=told["commits"] / told["seconds"],
            executions=rows,
            verified=rows,
        )

    def rest(self, workload: Workload, clients: int, result: Result) -> Figures:
        """A workload over REST, counted and checked in the database afterwards."""
        assert self._postgres is not None and self._stepwell is not None
        url = self._postgres.database("stepwell")
        before, used = asyncio.run(database.counters(url)), usage.usage(self._stepwell.pid, self._postgres.pid)
        succeeded = self._stepwell.express_succeeded() if workload.answered is Answered.SYNC else 0
        load = drive(
            self._stepwell.start_url(workload.name, workload.answered), clients, self.plan.seconds, tool=self.plan.tool
        )
        if workload.answered is Answered.SYNC:
            ended = self._stepwell.express_succeeded() - succeeded
            settled = database.Outcome(max(ended, load.requests), ended, 0, 0)
        else:
            settled = asyncio.run(database.outcome(url, workload, before.now, history=False))
        after, now_used = asyncio.run(database.counters(url)), usage.usage(self._stepwell.pid, self._postgres.pid)
        found = settled
        if not workload.express:
            found = asyncio.run(database.outcome(url, workload, before.now))
        result.tool = load.tool
        if load.errors or found.succeeded != found.total or found.total < load.requests:
            raise SystemExit(
                f"{workload.name} at {clients} clients is not right: {load.requests} answers, {load.errors} errors; "
                f"{found.total} executions, of which {found.succeeded} succeeded."
            )
        return Figures(
            per_second=load.requests / load.seconds,
            p50_ms=load.p50_ms,
            p99_ms=load.p99_ms,
            server_us=_each(used, now_used, "server", settled.total),
            worker_us=_each(used, now_used, "worker", settled.total),
            postgres_us=_each(used, now_used, "postgres", settled.total),
            client_us=1e6 * load.cpu_seconds / max(1, load.requests),
            commits_per_second=(after.transactions - before.transactions) / load.seconds,
            wal_per_step=(after.wal - before.wal) / max(1, settled.total) / workload.steps,
            history_bytes=None if workload.express else found.history_bytes / max(1, found.total),
            executions=load.requests,
            verified=found.succeeded,
        )

    def dbos(self, steps: int, clients: int, mode: str) -> Figures:
        """DBOS: workflows of so many steps, as `threads` or as `tasks`."""
        assert self._dbos is not None and self._postgres is not None
        question = {"steps": steps, "clients": clients, "seconds": self.plan.seconds, "mode": mode}
        url = self._postgres.database("dbos")
        before, used = asyncio.run(database.counters(url)), usage.usage(None, self._postgres.pid)
        told = json.loads(self._dbos.ask(json.dumps(question), 120))
        after, now_used = asyncio.run(database.counters(url)), usage.usage(None, self._postgres.pid)
        count = told["executions"]
        return Figures(
            per_second=count / told["seconds"],
            p50_ms=told["p50_ms"],
            p99_ms=told["p99_ms"],
            server_us=1e6 * told["cpu_seconds"] / count,
            postgres_us=_each(used, now_used, "postgres", count),
            commits_per_second=(after.transactions - before.transactions) / told["seconds"],
            wal_per_step=(after.wal - before.wal) / count / steps,
            executions=count,
            verified=count,
        )

    def plain_celery(self, clients: int) -> Figures:
        """Plain Celery on the same broker: one task and its result."""
        assert self._plain_worker is not None
        before = usage.usage(self._plain_worker.pid, None)
        told = _json_of(
            [sys.executable, "-m", "bench.peers.celery_peer", str(clients), str(self.plan.seconds)],
            {"BENCH_BROKER_URL": self._broker, "BENCH_PLAIN_CELERY": "1"},
        )
        after = usage.usage(self._plain_worker.pid, None)
        count = told["executions"]
        worker = None
        if before is not None and after is not None:
            worker = 1e6 * (after.server + after.worker - before.server - before.worker) / count
        return Figures(
            per_second=count / told["seconds"],
            p50_ms=told["p50_ms"],
            p99_ms=told["p99_ms"],
            worker_us=worker,
            executions=count,
            verified=count,
        )

    def waiting(self) -> dict[str, float]:
        """W4: executions that wait; starts a second, and engine memory for each."""
        assert self._postgres is not None and self._stepwell is not None
        url = self._postgres.database("stepwell")
        before, memory = asyncio.run(database.counters(url)), usage.resident_bytes(self._stepwell.pid)
        load = drive(
            self._stepwell.start_url(W4.name, W4.answered),
            WAITING_START_CLIENTS,
            self.plan.seconds,
            tool=self.plan.tool,
        )
        grown = usage.resident_bytes(self._stepwell.pid)
        found = asyncio.run(database.outcome(url, W4, before.now, settle=False))
        if load.errors or found.total < load.requests or found.running != found.total:
            raise SystemExit(f"w4 is not right: {load}, {found}")
        told = {"starts_per_second": load.requests / load.seconds, "waiting": float(found.running)}
        if memory is not None and grown is not None:
            told["kib_per_execution"] = (grown - memory) / found.running / 1024
        return told

    # -- the rounds ------------------------------------------------------------------------------------------------

    def measure(self, result: Result) -> None:
        """All rounds. In each, every system has its turn under one workload before the next number of clients."""
        named = [WORKLOADS[name] for name in self.plan.workloads if name in WORKLOADS]
        for workload in named:
            self._warm(workload)
        for number in range(1, self.plan.rounds + 1):
            for clients in self.plan.clients:
                if "floor" in self.plan.workloads:
                    self._note(
                        result, number, "floor", "postgres, row a commit", clients, 1, self.floor(clients, "single")
                    )
                for workload in named:
                    self._turns(result, number, workload, clients)
            if "floor" in self.plan.workloads:
                self._note(result, number, "floor", "postgres, 500 rows a commit", 1, 1, self.floor(1, "batch"))
        if "w4" in self.plan.workloads:
            self._say("w4: executions that wait")
            result.waiting = self.waiting()

    def _warm(self, workload: Workload) -> None:
        assert self._stepwell is not None
        seconds = min(WARM_SECONDS, self.plan.seconds)
        drive(self._stepwell.start_url(workload.name, workload.answered), 4, seconds, tool=self.plan.tool)

    def _turns(self, result: Result, number: int, workload: Workload, clients: int) -> None:
        name, steps = workload.name, workload.steps
        self._note(result, number, name, "stepwell", clients, steps, self.rest(workload, clients, result))
        if self._dbos is not None and name in ("w1t", "w2"):
            for mode in ("tasks", "threads"):
                self._note(result, number, name, f"dbos, {mode}", clients, steps, self.dbos(steps, clients, mode))
        if workload.celery:
            self._note(result, number, name, "plain celery", clients, steps, self.plain_celery(clients))

    def _note(
        self, result: Result, number: int, workload: str, system: str, clients: int, steps: int, figures: Figures
    ) -> None:
        result.cells.add(workload, system, clients, steps, figures)
        self._say(f"round {number}: {workload:5} {system:28} {clients:3} clients {figures.per_second:10,.0f}/s")


def run(plan: Plan, directory: Path, say: Callable[[str], None]) -> Result:
    """Measure what is planned. What the systems log stays in `directory`."""
    bench = Bench(plan, directory, say)
    with bench.opened() as result:
        bench.measure(result)
    return result


def peers_python(say: Callable[[str], None]) -> Path:
    """The interpreter of .venv-bench, which is made when it is first needed or its requirements have changed."""
    python = PEERS_VENV / "bin" / "python"
    wanted = ROOT / "bench" / "requirements.txt"
    stamp = PEERS_VENV / "requirements.txt"
    if stamp.exists() and stamp.read_bytes() == wanted.read_bytes():
        return python
    say(f"Making {PEERS_VENV.name} for the peers")
    shutil.rmtree(PEERS_VENV, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(PEERS_VENV)], check=True)
    subprocess.run(
        [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "-qq", "install", "-r", str(wanted)],
        check=True,
    )
    shutil.copyfile(wanted, stamp)
    return python


def _json_of(command: Sequence[str], environment: dict[str, str] | None = None) -> dict[str, Any]:
    import os

    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode != 0:
        raise SystemExit(f"`{' '.join(command)}` failed:\n{done.stderr[-2000:]}")
    told = json.loads(done.stdout)
    assert isinstance(told, dict)
    return told


def _each(before: usage.Usage | None, after: usage.Usage | None, part: str, count: int) -> float | None:
    if before is None or after is None or not count:
        return None
    difference: float = getattr(after, part) - getattr(before, part)
    return 1e6 * difference / count
