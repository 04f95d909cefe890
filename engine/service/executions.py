"""Executions: starting, describing, listing, stopping and redriving them, and reading their history.

Rules are those of the Step Functions API; the runtime decides what is true, this module what is allowed to be asked and in
which words it is answered. It must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stepwell.engine import limits
from stepwell.engine.clock import Clock
from stepwell.engine.errors import JsonTextError
from stepwell.engine.ids import ExecutionId, execution_id, express_child
from stepwell.engine.jsontypes import EMPTY_OBJECT, Document
from stepwell.engine.machine.commands import Status
from stepwell.engine.machine.history import HistoryEvent
from stepwell.engine.ports import (
    CommandOutcome,
    ExecutionFilter,
    ExecutionReader,
    ExecutionView,
    ExpressReader,
    ExpressView,
    MachineRecord,
    Page,
    Revision,
    Runtime,
    StartAnswer,
    StartOutcome,
    StartRequest,
)
from stepwell.engine.service import checks, paging, refusals
from stepwell.engine.service.express_children import ExpressChildren
from stepwell.engine.service.redriving import Redrivability, redrivability
from stepwell.engine.service.state_machines import StateMachines

_MAX_HISTORY_POSITION_DIGITS = 9
_MAX_HISTORY_PAGE_BYTES = 4 * 1_048_576
"""A page of history ends early rather than hold more data than this."""


@dataclass(frozen=True, slots=True)
class Started:
    """A start that is durable. `created` is False when the execution was there already (an idempotent repetition)."""

    answer: StartAnswer
    created: bool
    express: bool = False


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Events with their ids, and the token of the next page."""

    events: Sequence[tuple[int, HistoryEvent]]
    next: str | None


class Executions:
    """The use-cases of executions."""

    def __init__(
        self,
        machines: StateMachines,
        reader: ExecutionReader,
        express: ExpressReader,
        express_children: ExpressChildren,
        runtime: Runtime,
        clock: Clock,
    ) -> None:
        self._machines = machines
        self._reader = reader
        self._express = express
        self._express_children = express_children
        self._runtime = runtime
        self._clock = clock

    async def start(
        self,
        machine_arn: str,
        *,
        input: bytes | None = None,
        name: str | None = None,
        trace_header: str | None = None,
        adopt: bool = False,
    ) -> Started:
        """Start an execution with this input text (StartExecution); None is `{}`.

        A second start with the same name and input is answered with the first while that is running; with `adopt` also
        when it has ended, so that a caller who lost an answer can safely ask again.
        """
        if name is not None:
            checks.name_of(name)
        document = _input_document(input)
        record = await self._machines.for_start(machine_arn)
        trace_header = checks.no_nul(trace_header, "traceHeader")
        request = StartRequest(machine=record, input=document, name=name, trace_header=trace_header)
        if record.type == "EXPRESS":  # each start is another execution, whatever its name
            return Started(await self._runtime.start_express(request), True, express=True)
        answer = await self._runtime.start(request)
        if answer.outcome is StartOutcome.EXISTS_OTHER and not (adopt and await self._same_input(answer, document)):
            raise refusals.execution_already_exists(answer.arn)
        return Started(answer, answer.outcome is StartOutcome.STARTED)

    async def run_sync(
        self, machine_arn: str, *, input: bytes | None = None, name: str | None = None, trace_header: str | None = None
    ) -> ExpressView:
        """Run an Express execution and answer when it has ended, well or badly (StartSyncExecution). At most once."""
        if name is not None:
            checks.name_of(name)
        document = _input_document(input)
        record = await self._machines.for_start(machine_arn)
        if record.type != "EXPRESS":
            raise refusals.machine_type_not_supported()
        trace_header = checks.no_nul(trace_header, "traceHeader")
        return await self._runtime.run_express(
            StartRequest(machine=record, input=document, name=name, trace_header=trace_header)
        )

    async def _same_input(self, answer: StartAnswer, input: Document) -> bool:
        view = await self._reader.describe(answer.id)
        return view is not None and view.input is not None and view.input.text == input.text

    async def describe(self, arn: str, *, data: bool = True) -> ExecutionView:
        """The execution (DescribeExecution). Of Express executions those that a Map Run has begun can be asked for."""
        self._standard_or_child(arn)
        return await self.by_id(execution_id(arn), arn, data=data)

    def _standard_or_child(self, arn: str) -> None:
        """Refuse what is the ARN of neither a Standard execution nor an Express child of a Map Run."""
        if express_child(arn) is None:
            checks.arn_of(arn, checks.EXECUTION)

    async def by_id(self, id: ExecutionId, shown: str, *, data: bool = True) -> ExecutionView:
        """The execution with this key; `shown` is what the caller called it."""
        view = await self._reader.describe(id, data=data) or await self._express_children.find(shown, data=data)
        if view is None:
            raise await self._absent(id, shown)
        return view

    async def _absent(self, id: ExecutionId, shown: str) -> refusals.ServiceError:
        """Why there is no Standard execution with this key: none at all, or it is of another type."""
        if await self._express_children.find(shown, data=False) is not None:
            return refusals.not_for_express_children()
        if await self._express.describe(id) is not None:
            return refusals.machine_type_not_supported()
        return refusals.execution_does_not_exist(shown)

    async def find(self, id: ExecutionId, shown: str, *, wait_ms: int = 0) -> ExecutionView | ExpressView:
        """The execution with this key, of whatever type; with `wait_ms` when it has ended, or the time is up."""
        if wait_ms:
            waited = await self._runtime.wait(id, wait_ms)
            if waited.view is not None:
                return waited.view
        view = await self._reader.describe(id) or await self._express_children.find(shown)
        if view is not None:
            return view
        express = await self._runtime.wait_express(id, wait_ms)
        if express is None:
            raise refusals.execution_does_not_exist(shown)
        return express

    async def wait_express(self, id: ExecutionId, shown: str, timeout_ms: int) -> ExpressView:
        """Wait until an asynchronous Express execution has ended, so long at most; as it stands then."""
        view = await self._runtime.wait_express(id, timeout_ms)
        if view is None:
            raise refusals.execution_does_not_exist(shown)
        return view

    async def list_express(
        self, where: ExecutionFilter, *, max_results: int | None = None, token: str | None = None
    ) -> Page[ExpressView]:
        """Asynchronous Express executions that run or are still kept, newest first."""
        now = self._clock.now_ms()
        scope = f"express executions {where!r}"
        page = await self._express.list(where, paging.page_size(max_results), paging.read_token(scope, token, now))
        return Page(page.items, paging.make_token(scope, page.next, now))

    async def wait(self, id: ExecutionId, shown: str, timeout_ms: int) -> tuple[bool, ExecutionView]:
        """Wait until an execution has ended, so long at most; whether it has, and the execution. `shown` as in `by_id`."""
        waited = await self._runtime.wait(id, timeout_ms)
        view = waited.view or await self.by_id(id, shown)
        return waited.ended or view.stopped_at is not None, view

    def redrivability(self, view: ExecutionView) -> Redrivability:
        """Whether the execution can be redriven, and why not."""
        return redrivability(view, self._clock.now_ms())

    async def machine_of(self, arn: str) -> tuple[ExecutionView, Revision, MachineRecord | None]:
        """The definition an execution runs, and its machine if that is still there (DescribeStateMachineForExecution)."""
        view = await self.describe(arn, data=False)
        revision = await self._machines.revision(view.machine_key, view.revision)
        if revision is None:
            raise refusals.machine_does_not_exist(view.machine_arn)
        try:
            return view, revision, await self._machines.describe(view.machine_arn)
        except refusals.ServiceError:
            return view, revision, None

    async def list_of_machine(
        self,
        machine_arn: str,
        *,
        status: Status | None = None,
        max_results: int | None = None,
        token: str | None = None,
    ) -> Page[ExecutionView]:
        """Executions of one state machine, newest first (ListExecutions)."""
        record = await self._machines.describe(machine_arn)
        if record.type != "STANDARD":
            raise refusals.machine_type_not_supported()
        return await self.list(ExecutionFilter(machine_arn, status), max_results=max_results, token=token)

    async def list(
        self, where: ExecutionFilter, *, max_results: int | None = None, token: str | None = None
    ) -> Page[ExecutionView]:
        """Executions by a filter, newest first; the page's `next` is a token."""
        checks.no_nul(where.name_prefix, "namePrefix")
        now = self._clock.now_ms()
        scope = f"executions {where!r}"
        page = await self._reader.list(where, paging.page_size(max_results), paging.read_token(scope, token, now))
        return Page(page.items, paging.make_token(scope, page.next, now))

    async def history(
        self,
        arn: str,
        *,
        max_results: int | None = None,
        reverse: bool = False,
        token: str | None = None,
    ) -> HistoryPage:
        """A page of the events of an execution (GetExecutionHistory)."""
        self._standard_or_child(arn)
        return await self.history_by_id(execution_id(arn), arn, max_results=max_results, reverse=reverse, token=token)

    async def history_by_id(
        self,
        id: ExecutionId,
        shown: str,
        *,
        max_results: int | None = None,
        reverse: bool = False,
        token: str | None = None,
    ) -> HistoryPage:
        """A page of the events of the execution with this key; `shown` is what the caller called it."""
        now = self._clock.now_ms()
        scope = f"history {id.hex()} {reverse}"
        position = paging.read_token(scope, token, now)
        after = _event_id(position)
        found = await self._reader.history(id, after=after, limit=paging.page_size(max_results), reverse=reverse)
        if found is None:
            raise await self._absent(id, shown)
        events, last = found
        events = _within_bytes(events)
        next: str | None = None
        if events:
            edge = events[-1][0]
            more = edge > 1 if reverse else edge < last
            next = str(edge) if more else None
        return HistoryPage(events, paging.make_token(scope, next, now))

    async def stop(self, arn: str, *, error: str | None = None, cause: str | None = None) -> int:
        """Stop an execution; the moment it stopped (StopExecution). One that has ended is left as it is."""
        self._standard_or_child(arn)
        return await self.stop_by_id(execution_id(arn), arn, error=error, cause=cause)

    async def stop_by_id(
        self, id: ExecutionId, shown: str, *, error: str | None = None, cause: str | None = None
    ) -> int:
        """Stop the execution with this key."""
        checks.error_and_cause(error, cause)
        answer = await self._runtime.stop(id, error, cause)
        if answer.outcome is CommandOutcome.NOT_FOUND:
            raise await self._absent(id, shown)
        if answer.outcome is CommandOutcome.NOT_ALLOWED:
            raise refusals.invalid(answer.reason or "The execution cannot be stopped")
        return answer.at

    async def redrive(self, arn: str, client_token: str | None = None) -> int:
        """Set an unsuccessful execution going again; the moment of it (RedriveExecution)."""
        self._standard_or_child(arn)
        return await self.redrive_by_id(execution_id(arn), arn, client_token)

    async def redrive_by_id(self, id: ExecutionId, shown: str, client_token: str | None = None) -> int:
        """Redrive the execution with this key.

        The rules of time and size are checked here; the runtime decides on the status, so that of two redrives one wins
        and a repeated client token is answered as before.
        """
        checks.client_token(client_token)
        view = await self.by_id(id, shown, data=False)
        verdict = redrivability(view, self._clock.now_ms())
        if verdict.final and verdict.reason is not None:
            raise refusals.execution_not_redrivable(verdict.reason)
        answer = await self._runtime.redrive(id, client_token)
        if answer.outcome is CommandOutcome.NOT_FOUND:
            raise await self._absent(id, shown)
        if answer.outcome is CommandOutcome.NOT_ALLOWED:
            reason = verdict.reason or answer.reason or f"Execution is {view.status} and cannot be redriven"
            raise refusals.execution_not_redrivable(reason)
        return answer.at


def _input_document(input: bytes | None) -> Document:
    if input is None:
        return EMPTY_OBJECT
    if len(input) > limits.MAX_PAYLOAD_BYTES:
        raise refusals.constraints_broken([checks.size_fault(input, "input") or ""], pointer="/input")
    if not input.strip():
        raise refusals.invalid_input(JsonTextError("Invalid execution input."))
    try:
        return checks.document_of(input)
    except JsonTextError as error:
        raise refusals.invalid_input(error) from None


def _within_bytes(events: Sequence[tuple[int, HistoryEvent]]) -> Sequence[tuple[int, HistoryEvent]]:
    """The first events of a page that together are not too long for one answer; at least one."""
    size = 0
    for index, (_, event) in enumerate(events):
        if event.payload is not None:
            size += len(memoryview(event.payload))
        if size > _MAX_HISTORY_PAGE_BYTES and index:
            return events[:index]
    return events


def _event_id(position: str | None) -> int:
    if position is None:
        return 0
    if not position.isdecimal() or len(position) > _MAX_HISTORY_POSITION_DIGITS:
        raise refusals.invalid_token()
    return int(position)
