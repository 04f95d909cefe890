"""Dead letters: what is kept of runs that ended badly, to be looked at, redriven or discarded. It must not know HTTP."""

from __future__ import annotations

from stepwell.engine.clock import Clock
from stepwell.engine.ports import DeadLetter, DeadLetterFilter, DeadLetterStatus, DeadLetterStore, Page
from stepwell.engine.service import checks, paging, refusals
from stepwell.engine.service.executions import Executions
from stepwell.engine.service.refusals import ErrorCode, ServiceError


class DeadLetters:
    """The use-cases of dead letters."""

    def __init__(self, store: DeadLetterStore, executions: Executions, clock: Clock) -> None:
        self._store = store
        self._executions = executions
        self._clock = clock

    async def list(
        self, where: DeadLetterFilter, *, max_results: int | None = None, token: str | None = None
    ) -> Page[DeadLetter]:
        """Dead letters by a filter, newest first, without input; the page's `next` is a token."""
        checks.no_nul(where.error, "error")
        checks.no_nul(where.state, "state")
        checks.no_nul(where.machine_arn, "stateMachine")
        now = self._clock.now_ms()
        scope = f"dead-letters {where!r}"
        page = await self._store.list(where, paging.page_size(max_results), paging.read_token(scope, token, now))
        return Page(page.items, paging.make_token(scope, page.next, now))

    async def get(self, id: int) -> DeadLetter:
        """One, with its input."""
        letter = await self._store.get(id)
        if letter is None:
            raise refusals.not_found("Dead Letter", str(id))
        return letter

    async def redrive(self, id: int) -> int:
        """Redrive the execution of an open dead letter and close the letter; the moment of it.

        The redrive carries a client token made of the letter, so that asking again after a lost answer is safe.
        """
        letter = await self._open(id)
        at = await self._executions.redrive_by_id(letter.execution, letter.execution_arn, f"dead-letter-{letter.id}")
        await self._store.close(id, DeadLetterStatus.REDRIVEN, at)
        return at

    async def discard(self, id: int) -> None:
        """Close an open dead letter: nobody will do anything about it. The execution stays as it is."""
        await self._open(id)
        if not await self._store.close(id, DeadLetterStatus.DISCARDED, self._clock.now_ms()):
            raise _closed(await self.get(id))

    async def _open(self, id: int) -> DeadLetter:
        letter = await self.get(id)
        if letter.status is not DeadLetterStatus.OPEN:
            raise _closed(letter)
        return letter


def _closed(letter: DeadLetter) -> ServiceError:
    return ServiceError(ErrorCode.CONFLICT, f"Dead letter {letter.id} is {letter.status} already")
