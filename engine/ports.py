"""What the layers above the machine ask of each other, as protocols and the records they exchange.

`store` and `runtime` fill them, `service` asks for them, `cli.assembly` puts them together; none of these imports another.
Times are milliseconds since the Unix epoch. Ids are the sixteen bytes of `ids.ExecutionId`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar
from uuid import UUID

from stepwell.engine.asl.resources import Resource, TargetKind
from stepwell.engine.ids import ExecutionId, TaskToken
from stepwell.engine.jsontypes import Document
from stepwell.engine.machine.commands import Status, TimerKind
from stepwell.engine.machine.events import Event, TaskFailed, TaskSubmitted, TaskSucceeded
from stepwell.engine.machine.history import HistoryEvent
from stepwell.engine.machine.map_events import Message
from stepwell.engine.map_ports import NewMapRun
from stepwell.engine.messages import Claim, ClaimAnswer, Outcome, WorkerReport
from stepwell.engine.query.evaluations import carry_out
from stepwell.engine.query.jsonata import FULL, Evaluation
from stepwell.engine.query.jsonata import Outcome as EvaluationOutcome

Evaluate: TypeAlias = Callable[[Evaluation], Awaitable[EvaluationOutcome]]
"""Carries out an evaluation that needs more than it may use in this process. Raises `ExpressionsUnavailableError`."""


async def evaluate_here(evaluation: Evaluation) -> EvaluationOutcome:
    """An `Evaluate` for tests and simulations, which have no helper processes."""
    return carry_out(evaluation, FULL)


# ---------------------------------------------------------------------------------------------------- state machines


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRecord:
    """A state machine at its newest revision. `key` is the store's own number; `logging`... are JSON texts as given."""

    key: int
    arn: str
    name: str
    type: str
    definition: str
    role_arn: str
    revision: int
    revision_id: str | None
    created_at: int
    updated_at: int
    status: str = "ACTIVE"
    logging: str | None = None
    tracing: str | None = None
    encryption: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision of a definition: what an execution runs, whatever happens to the machine later."""

    machine_key: int
    revision: int
    definition: str
    role_arn: str
    revision_id: str | None
    updated_at: int


T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Page(Generic[T_co]):
    """A page of a listing; `next` is the opaque position after it (None: it was the last)."""

    items: Sequence[T_co]
    next: str | None = None


class MachineStore(Protocol):
    """State machines and their revisions."""

    async def create(self, record: MachineRecord) -> MachineRecord | None:
        """Insert (its `key` is ignored and assigned); None if the ARN is taken."""

    async def update(
        self,
        arn: str,
        *,
        definition: str | None,
        role_arn: str | None,
        logging: str | None,
        tracing: str | None,
        encryption: str | None,
        revision_id: str,
        now: int,
    ) -> MachineRecord | None:
        """Make a new revision; what is None stays as it is. None if there is no such machine."""

    async def get(self, arn: str) -> MachineRecord | None:
        """The machine with its newest revision."""

    async def by_name(self, name: str) -> MachineRecord | None:
        """The machine of that name in the default region and account, else the only one so named."""

    async def revision(self, machine_key: int, revision: int) -> Revision | None:
        """One revision."""

    async def list(self, limit: int, after: str | None) -> Page[MachineRecord]:
        """Machines by creation date."""

    async def delete(self, arn: str) -> bool:
        """Mark as deleted, free the name; running executions go on. False if there was none."""


# -------------------------------------------------------------------------------------------------------- executions


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyExecutionView:
    """What is known of any execution, Standard or Express. `input` and `output` are set only when asked for."""

    id: ExecutionId
    arn: str
    name: str
    machine_arn: str
    machine_name: str
    machine_key: int
    revision: int
    status: Status
    started_at: int
    stopped_at: int | None = None
    error: str | None = None
    cause: str | None = None
    trace_header: str | None = None
    input: Document | None = None
    output: Document | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionView(AnyExecutionView):
    """One execution as it stands in the store."""

    last_event: int = 0
    redrive_count: int = 0
    redriven_at: int | None = None
    version_arn: str | None = None
    alias_arn: str | None = None
    map_run_arn: str | None = None
    """For a child execution: its Map Run."""
    item_count: int | None = None
    """For a child execution: how many items it has been given."""
    pending_redrive: bool = False
    """For a child execution that has not ended well: its Map Run goes on, and is to redrive it when there is room."""


class Waited(NamedTuple):
    """Whether an execution has ended; and, where whoever waited saw it end, how. Else it is for the store to tell."""

    ended: bool
    view: ExecutionView | None = None


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """Which executions a listing shows."""

    machine_arn: str | None = None
    status: Status | None = None
    started_after: int | None = None
    started_before: int | None = None
    name_prefix: str | None = None
    map_run: ExecutionId | None = None
    """Its child executions; None: those that are no Map Run's children."""
    redriven: bool | None = None
    pending_redrive: bool | None = None
    """Those that wait to be redriven by their Map Run, or those that do not."""


class ExecutionReader(Protocol):
    """Reading executions from the store: what is committed, on any node."""

    async def describe(self, id: ExecutionId, *, data: bool = True) -> ExecutionView | None:
        """The execution, with input, output, error and cause when `data`."""

    async def list(self, where: ExecutionFilter, limit: int, after: str | None) -> Page[ExecutionView]:
        """Executions, newest first, without data."""

    async def history(
        self, id: ExecutionId, *, after: int = 0, limit: int = 100, reverse: bool = False
    ) -> tuple[Sequence[tuple[int, HistoryEvent]], int] | None:
        """Up to `limit` events with their ids, beginning after event `after` (before it, when `reverse` and `after`);
        and the id of the last event there is. None if there is no such execution."""


class DeadLetterStatus(StrEnum):
    """What has become of a dead letter."""

    OPEN = "OPEN"
    REDRIVEN = "REDRIVEN"
    DISCARDED = "DISCARDED"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """What is kept of a run that ended badly. `kind` is `execution` or `delivery` (a task message that could not be delivered)."""

    id: int
    kind: str
    execution: ExecutionId
    execution_arn: str
    machine_arn: str
    machine_name: str
    state: str | None
    attempt: int
    error: str | None
    cause: str | None
    input: Document | None
    at: int
    status: DeadLetterStatus = DeadLetterStatus.OPEN
    closed_at: int | None = None
    redrive_count: int = 0


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters a listing shows; `error` matches the error name exactly."""

    machine_arn: str | None = None
    state: str | None = None
    error: str | None = None
    status: DeadLetterStatus | None = DeadLetterStatus.OPEN
    after: int | None = None
    before: int | None = None


class DeadLetterStore(Protocol):
    """Dead letters. They are written by the commit that ends an execution."""

    async def list(self, where: DeadLetterFilter, limit: int, after: str | None) -> Page[DeadLetter]:
        """Newest first, without input."""

    async def get(self, id: int) -> DeadLetter | None:
        """One, with its input."""

    async def close(self, id: int, status: DeadLetterStatus, now: int) -> bool:
        """Mark an open one as discarded or redriven; False if it is not open."""


# ------------------------------------------------------------------------------------------------- asking the runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """A start that has been checked. `name` None means that one is made. `wait_ms`: see `StartAnswer.view`."""

    machine: MachineRecord
    input: Document
    name: str | None = None
    trace_header: str | None = None
    version_arn: str | None = None
    alias_arn: str | None = None


class StartOutcome(StrEnum):
    """What came of a start."""

    STARTED = "STARTED"
    EXISTS_SAME = "EXISTS_SAME"
    """An execution of that name with the same input is running: the start is idempotent."""
    EXISTS_OTHER = "EXISTS_OTHER"
    """The name is taken by another input, or by an execution that has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartAnswer:
    """The answer to a start, given only when it is durable."""

    outcome: StartOutcome
    id: ExecutionId
    arn: str
    name: str
    started_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpressView(AnyExecutionView):
    """An execution of an Express state machine. `attempt` counts its runs; 0: it was called synchronously, and is kept nowhere."""

    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpressStart:
    """What is needed to run an Express execution. `started_at` is that of its first run; `attempt` is as in `ExpressView`."""

    id: ExecutionId
    arn: str
    name: str
    machine_key: int
    revision: int
    machine_arn: str
    machine_name: str
    role_arn: str
    input: Document
    started_at: int
    attempt: int = 0
    trace_header: str | None = None
    version_arn: str | None = None
    alias_arn: str | None = None


class ExpressReader(Protocol):
    """Reading asynchronous Express executions: those that run, and those that have ended and are kept."""

    async def describe(self, id: ExecutionId) -> ExpressView | None:
        """The execution, with its data."""

    async def list(self, where: ExecutionFilter, limit: int, after: str | None) -> Page[ExpressView]:
        """Newest first, without data."""


class ExpressStore(ExpressReader, Protocol):
    """What is kept of asynchronous Express executions. All raise `StoreUnavailableError`, as those of `RuntimeStore` do."""

    async def begin(self, node: UUID | None, starts: Sequence[ExpressStart]) -> set[ExecutionId]:
        """Write executions that begin, to be run by this node (None: by whoever takes them). Returns those that were not there."""

    async def end(self, ends: Sequence[ExpressView], *, keep: bool = True) -> set[ExecutionId]:
        """Write how executions ended, or without `keep` delete them. Returns those whose newest run this was."""

    async def discard(self, nodes: Sequence[UUID], ids: Sequence[ExecutionId]) -> None:
        """Delete executions that one of these nodes runs for the first time, and that have not ended."""

    async def release(self, nodes: Sequence[UUID], ids: Sequence[ExecutionId]) -> None:
        """Leave those that one of these nodes runs for the first time, and that have not ended, to whoever takes them."""

    async def take(self, node: UUID, limit: int, forgotten_before: int) -> Sequence[ExpressStart]:
        """Take executions that no live node runs, and those taken before that moment; each counts one run more."""

    async def still(self, node: UUID, ids: Sequence[ExecutionId]) -> dict[ExecutionId, int]:
        """Which of these executions this node still runs, and in which attempt."""

    async def lost_workers(self, workers: Sequence[str]) -> set[str]:
        """Which of these worker processes have no lease (any more)."""

    async def expire(self, before: int, limit: int) -> int:
        """Delete up to so many executions that ended before that moment; how many."""


class CommandOutcome(StrEnum):
    """What came of a stop, redrive, discard or other command, decided by one compare-and-set on the execution's row."""

    DONE = "DONE"
    NOT_FOUND = "NOT_FOUND"
    NOT_ALLOWED = "NOT_ALLOWED"
    """The execution is not in a status that allows it; `CommandAnswer.reason` says why."""


@dataclass(frozen=True, slots=True)
class CommandAnswer:
    """The answer to a command. `at` is its moment (stop date, redrive date)."""

    outcome: CommandOutcome
    at: int = 0
    reason: str | None = None


class TaskAnswer(StrEnum):
    """What came of reporting on a task."""

    ACCEPTED = "ACCEPTED"
    TIMED_OUT = "TIMED_OUT"
    """The task was closed: timed out, finished, or its execution has ended."""
    NOT_FOUND = "NOT_FOUND"
    INVALID = "INVALID"


@dataclass(frozen=True, slots=True)
class ActivityTask:
    """A task for an activity worker."""

    token: str
    input: Document


class Runtime(Protocol):
    """What the use-cases ask of the running engine, wherever the owner of the execution is.

    All of these raise `StoreUnavailableError` when nothing was written or nobody knows; asking again is safe.
    """

    async def start(self, request: StartRequest) -> StartAnswer:
        """Start an execution; answered when it is durable."""

    async def start_express(self, request: StartRequest) -> StartAnswer:
        """Start an Express execution; answered when that is durable. It may be run more than once."""

    async def wait_express(self, id: ExecutionId, timeout_ms: int) -> ExpressView | None:
        """Wait until an asynchronous Express execution has ended, so long at most; as it stands then. None: there is none."""

    async def run_express(self, request: StartRequest) -> ExpressView:
        """Run an Express execution and answer when it has ended: at most once. Raises `StoreUnavailableError` also when the
        node that ran it was lost; asking again runs it again."""

    async def wait(self, id: ExecutionId, timeout_ms: int) -> Waited:
        """Wait until an execution has ended, so long at most."""

    async def stop(self, id: ExecutionId, error: str | None, cause: str | None) -> CommandAnswer:
        """Stop an execution. Stopping one that has ended is answered with DONE and its stop date."""

    async def redrive(self, id: ExecutionId, client_token: str | None = None) -> CommandAnswer:
        """Redrive an unsuccessful execution; `client_token` makes it idempotent."""

    async def complete_task(self, token: TaskToken, output: Document) -> TaskAnswer:
        """SendTaskSuccess; ACCEPTED only when it is durable."""

    async def fail_task(self, token: TaskToken, error: str | None, cause: str | None) -> TaskAnswer:
        """SendTaskFailure."""

    async def heartbeat(self, token: TaskToken) -> TaskAnswer:
        """SendTaskHeartbeat."""

    async def next_activity_task(self, activity_arn: str, worker: str | None, wait_ms: int) -> ActivityTask | None:
        """The next task of an activity, waiting up to `wait_ms` for one."""

    async def claim(self, claim: Claim) -> ClaimAnswer:
        """A worker wants to run a task it received."""

    async def report_outcome(self, outcome: Outcome) -> TaskAnswer:
        """A worker reports how a claimed task ended."""

    async def report_worker(self, report: WorkerReport) -> None:
        """A worker process is alive."""


# ------------------------------------------------------------------------------------- activities, functions, secrets


@dataclass(frozen=True, slots=True)
class ActivityRecord:
    """An activity."""

    arn: str
    name: str
    created_at: int


class ActivityStore(Protocol):
    """Activities."""

    async def create(self, record: ActivityRecord) -> ActivityRecord:
        """Insert, or answer the one that is there."""

    async def get(self, arn: str) -> ActivityRecord | None: ...

    async def list(self, limit: int, after: str | None) -> Page[ActivityRecord]: ...

    async def delete(self, arn: str) -> bool: ...


class FunctionKind(StrEnum):
    """What a registered function is."""

    PYTHON = "python"
    """`module:callable`, run in a function host."""
    CELERY = "celery"
    """The name of a Celery task."""
    HTTP = "http"
    """A Lambda-compatible Invoke URL."""


@dataclass(frozen=True, slots=True)
class FunctionRecord:
    """A function of the registry: `name` is what definitions say, `target` what is called."""

    name: str
    kind: FunctionKind
    target: str
    created_at: int = 0
    options: str = "{}"


class FunctionStore(Protocol):
    """The function registry."""

    async def put(self, record: FunctionRecord) -> None: ...

    async def get(self, name: str) -> FunctionRecord | None: ...

    async def list(self, limit: int, after: str | None) -> Page[FunctionRecord]: ...

    async def delete(self, name: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class ConnectionRecord:
    """A connection to an HTTP API: how to authenticate. `secret` is encrypted; `settings` is JSON text without secrets."""

    arn: str
    name: str
    auth: str
    settings: str
    secret: bytes = field(repr=False)
    created_at: int = 0


class ConnectionStore(Protocol):
    """Connections."""

    async def put(self, record: ConnectionRecord) -> None: ...

    async def get(self, name_or_arn: str) -> ConnectionRecord | None: ...

    async def list(self, limit: int, after: str | None) -> Page[ConnectionRecord]: ...

    async def delete(self, name: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class ApiKeyRecord:
    """A bearer key (`hash` is SHA-256 of it, `secret` empty) or a SigV4 key pair (`id` is the access key id, `secret` encrypted)."""

    id: str
    name: str
    hash: bytes = field(default=b"", repr=False)
    secret: bytes = field(default=b"", repr=False)
    created_at: int = 0


class ApiKeyStore(Protocol):
    """API keys."""

    async def put(self, record: ApiKeyRecord) -> None: ...

    async def by_hash(self, hash: bytes) -> ApiKeyRecord | None: ...

    async def by_id(self, id: str) -> ApiKeyRecord | None: ...

    async def list(self) -> Sequence[ApiKeyRecord]: ...

    async def delete(self, id: str) -> bool: ...


# ------------------------------------------------------------------------------------------------------------ targets


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRequest:
    """A task to be carried out by a target, after it is durable. `token` is set where the definition may use it."""

    execution: ExecutionId
    execution_arn: str
    machine_name: str
    task: int
    state: str
    attempt: int
    delivery: int
    resource: Resource
    payload: Document
    idempotency_key: str
    step_id: str
    claim_key: str = ""
    """What a worker shows to claim the task and report on it."""
    timeout_seconds: int | None = None
    heartbeat_seconds: int | None = None
    traceparent: str | None = None
    trace: HttpTrace | None = None
    """Where the target of an HTTP Task writes down what went over the wire, if somebody wants to see it."""


@dataclass(slots=True, kw_only=True)
class HttpTrace:
    """What an HTTP Task sent and got, as TestState shows it. Without `reveal` what a connection adds is blotted out."""

    reveal: bool = False
    request: dict[str, str] | None = None
    response: dict[str, str] | None = None


TargetResult: TypeAlias = "TaskSucceeded | TaskFailed | TaskSubmitted | None"
"""The outcome; or, for a task whose outcome comes back by another way, TaskSubmitted (it has history) or None."""


class Target(Protocol):
    """Whom a Task calls. A target never raises for what the user's side did wrong: that is a TaskFailed.

    It may be called again for the same task (`delivery` counts): after a crash nobody knows how far the first call came.
    """

    async def perform(self, request: TaskRequest) -> TargetResult:
        """Carry out one task."""

    async def close(self) -> None:
        """Let go of connections."""


class TaskPerformer(Protocol):
    """Has one task carried out that belongs to no execution: that of a state which is tested."""

    async def perform_once(self, request: TaskRequest) -> TaskSucceeded | TaskFailed:
        """Carry out the task, and wait for its outcome. Raises `TargetUnavailableError`."""


# ----------------------------------------------------------------------------------- what the runtime asks of the store


@dataclass(slots=True, kw_only=True)
class NewExecution:
    """What is written once, when an execution begins."""

    machine_key: int
    revision: int
    name: str
    arn: str
    started_at: int
    trace_header: str | None = None
    version_arn: str | None = None
    alias_arn: str | None = None


@dataclass(slots=True, kw_only=True)
class NewTask:
    """A task row to write: READY, to be dispatched once the commit is known."""

    task: int
    kind: TargetKind
    resource: str
    scheduled_event: int
    attempt: int
    secret: bytes
    state: str
    entry: int
    heartbeat_seconds: int | None
    timeout_seconds: int | None


@dataclass(slots=True, kw_only=True)
class NewDeadLetter:
    """A dead letter to write with the commit that ends an execution badly."""

    kind: str
    state: str | None
    attempt: int
    error: str | None
    cause: str | None


@dataclass(slots=True, kw_only=True)
class CommitEntry:
    """All that one step writes for one execution. `rev` is the revision it was computed from (0: the execution is new).

    `tasks_closed` are (task, outcome known): a task whose row holds an outcome the step does not know of makes the whole
    entry void. `timers` are (timer, due_at, kind, task).
    """

    id: ExecutionId
    shard: int
    rev: int
    new: NewExecution | None
    status: Status
    stopped_at: int | None
    first_event: int
    last_event: int
    chunk: bytes
    full_snapshot: bool
    redrive_count: int
    redriven_at: int | None
    redrive_token: str | None = None
    redriven: bool = False
    """This step redrives the execution: its dead letters are answered by it."""
    tasks_new: list[NewTask] = field(default_factory=list)
    tasks_closed: list[tuple[int, bool]] = field(default_factory=list)
    tasks_started: list[tuple[int, str | None]] = field(default_factory=list)
    timers_new: list[tuple[int, int, TimerKind, int | None]] = field(default_factory=list)
    timers_gone: list[int] = field(default_factory=list)
    inbox_gone: list[int] = field(default_factory=list)
    dead_letter: NewDeadLetter | None = None
    map_runs_new: list[NewMapRun] = field(default_factory=list)
    posts: list[tuple[ExecutionId, Message]] = field(default_factory=list)
    """What other aggregates are told in this very transaction: Map Runs, by their inboxes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredExecution:
    """An execution as `load` finds it: its row, the chunks from the last full snapshot on, and the first chunk."""

    id: ExecutionId
    rev: int
    status: Status
    machine_key: int
    revision: int
    machine_arn: str
    machine_name: str
    role_arn: str
    name: str
    arn: str
    started_at: int
    stopped_at: int | None
    last_event: int
    redrive_count: int
    redriven_at: int | None
    redrive_token: str | None
    trace_header: str | None
    version_arn: str | None
    alias_arn: str | None
    chunks: Sequence[bytes]
    first_chunk: bytes | None
    map_run: ExecutionId | None = None
    map_item: int = 0
    processor: str | None = None
    """For a child execution of a Map Run: the Map state whose processor it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTaskRow:
    """A task row: what is needed to dispatch it again."""

    execution: ExecutionId
    task: int
    kind: TargetKind
    started: bool
    resource: str
    scheduled_event: int
    attempt: int
    delivery: int
    secret: bytes
    state: str
    entry: int
    worker: str | None
    heartbeat_seconds: int | None
    timeout_seconds: int | None


@dataclass(frozen=True, slots=True)
class InboxRow:
    """Something that happened to an execution, made durable by a node that does not own it."""

    id: int
    execution: ExecutionId
    event: Message


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A live engine node."""

    incarnation: UUID
    address: str | None


class RuntimeStore(Protocol):
    """The durable side of the runtime. All raise `StoreUnavailableError` when Postgres is away or the outcome is unknown."""

    async def commit(self, node: UUID, entries: Sequence[CommitEntry]) -> set[ExecutionId]:
        """Write steps in one transaction, fenced by shard ownership and revision. Returns the executions that were written.

        Raises `BadBatchError` when an entry cannot be written as it is (the caller bisects).
        """

    async def load(self, id: ExecutionId) -> StoredExecution | None: ...

    async def hint_all(self) -> None:
        """Tell all nodes that there may be something in their inboxes. A hint only; never fails."""

    async def status(self, id: ExecutionId) -> Status | None: ...

    async def task_secret(self, id: ExecutionId, task: int) -> bytes | None:
        """The secret of an open task."""

    async def chunks_with(self, id: ExecutionId, events: Sequence[int]) -> Sequence[bytes]:
        """The chunks that hold these history events."""

    async def open_tasks(self, shards: Sequence[int]) -> Sequence[OpenTaskRow]:
        """Tasks without an outcome that nobody has started."""

    async def timers_due(self, shards: Sequence[int], until: int, limit: int) -> Sequence[tuple[ExecutionId, int, int]]:
        """(execution, timer, due_at) of timers due before `until`, soonest first."""

    async def inbox(
        self, shards: Sequence[int], limit: int, rows: Collection[int] = (), receivers: Collection[ExecutionId] = ()
    ) -> Sequence[InboxRow]:
        """The oldest messages for these shards, without these `rows` and those for these `receivers`."""

    async def post(self, execution: ExecutionId, event: Event) -> None:
        """Put an event into an execution's inbox, for its owner."""

    async def post_start(self, execution: ExecutionId, new: NewExecution, input: Document) -> bool:
        """Write a new execution and its Started event for the owner; False if there is one already."""

    async def post_outcome(self, execution: ExecutionId, task: int, secret: bytes, event: Event) -> TaskAnswer:
        """Make the first outcome of a task durable, for its owner."""

    async def post_claim(self, execution: ExecutionId, claim: Claim) -> bool:
        """Claim a task for a worker, for its owner to know of."""

    async def post_heartbeat(self, execution: ExecutionId, task: int, secret: bytes, now: int) -> TaskAnswer: ...

    async def last_heartbeat(self, execution: ExecutionId, task: int) -> int: ...

    async def take_activity_task(self, resource: str, worker: str | None) -> tuple[ExecutionId, int, bytes, int] | None:
        """Hand out a READY task of an activity: (execution, task, secret, scheduled event)."""

    async def requeue_tasks(
        self, tasks: Sequence[tuple[ExecutionId, int, str]], forgotten_before: int = 0
    ) -> set[tuple[ExecutionId, int]]:
        """Make STARTED tasks (execution, task, worker) READY again and count one delivery more; returns those that were
        still that worker's, and whose lease was still over. Whoever lists lost tasks may act on it much later.
        """

    async def mark_sent(self, tasks: Sequence[tuple[ExecutionId, int]], now: int) -> None: ...

    async def report_worker(self, report: WorkerReport, lease_seconds: int) -> None: ...

    async def lost_tasks(self, shards: Sequence[int], forgotten_before: int = 0) -> Sequence[OpenTaskRow]:
        """STARTED tasks whose worker's lease has expired; and those started before `forgotten_before` that their worker, though
        alive, does not report as running: what it said of their outcome was lost."""

    async def register_node(self, incarnation: UUID, address: str | None, ttl_ms: int) -> None: ...

    async def renew_node(self, incarnation: UUID, ttl_ms: int) -> Sequence[NodeRow]:
        """Renew the lease; returns the live nodes. Raises `NotOwnerError` if the lease had been lost and taken away."""

    async def remove_node(self, incarnation: UUID) -> None: ...

    async def rename_node(self, incarnation: UUID, fresh: UUID) -> None:
        """Hand a node's lease and shards to its new name. No commit under the old name takes effect after this has returned; asking
        again does no harm.
        """

    async def take_shards(self, incarnation: UUID, most: int) -> Sequence[int]:
        """Take up to `most` shards that nobody alive owns."""

    async def owned_shards(self, incarnation: UUID) -> Sequence[int]: ...

    async def release_shards(self, incarnation: UUID, shards: Sequence[int]) -> None: ...

    async def live_nodes(self) -> Sequence[NodeRow]: ...

    async def started_input(self, id: ExecutionId) -> bytes | None:
        """The input of an execution that waits for its first step, as text."""

    async def shard_owners(self) -> dict[int, UUID]: ...
