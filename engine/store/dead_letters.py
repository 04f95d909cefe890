"""Dead letters in Postgres: `ports.DeadLetterStore`. The commit that ends an execution writes them."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnClause, Integer, Select, Text, func, literal_column, select, tuple_, update

from stepwell.engine.ids import ExecutionId
from stepwell.engine.ports import DeadLetter, DeadLetterFilter, DeadLetterStatus, Page
from stepwell.engine.store.codes import DEAD_LETTER_CODES, DEAD_LETTER_OF
from stepwell.engine.store.executions import first_chunk_of
from stepwell.engine.store.pages import make_position, page_of, read_position
from stepwell.engine.store.statements import Pool, Row, Statement, given
from stepwell.engine.store.tables import INDEXED_ERROR_CHARS, dead_letter, execution, state_machine
from stepwell.engine.store.views import DEAD_LETTERS, input_of, scope_of

_indexed: Final[ColumnClause[int]] = literal_column(str(INDEXED_ERROR_CHARS), Integer)
_letter: Final = (
    select(
        dead_letter,
        execution.c.arn.label("execution_arn"),
        state_machine.c.arn.label("machine_arn"),
        state_machine.c.name.label("machine_name"),
    )
    .join(execution, execution.c.id == dead_letter.c.execution_id)
    .join(state_machine, state_machine.c.key == dead_letter.c.machine_key)
)
_get: Final = Statement(_letter.add_columns(first_chunk_of.label("first_chunk")).where(dead_letter.c.id == given("id")))
_close: Final = Statement(
    update(dead_letter)
    .where(
        dead_letter.c.id == given("of"),
        dead_letter.c.status == literal_column(str(DEAD_LETTER_CODES[DeadLetterStatus.OPEN])),
    )
    .values(status=given("new_status"), closed_at=given("now"))
    .returning(dead_letter.c.id)
)
_CONDITIONS: Final[dict[str, Any]] = {
    "machine_arn": dead_letter.c.machine_key.in_(
        select(state_machine.c.key).where(state_machine.c.arn == given("machine_arn"))
    ),
    "state": dead_letter.c.state == given("state"),
    "error": (func.left(dead_letter.c.error, _indexed) == func.left(given("error", Text), _indexed))
    & (dead_letter.c.error == given("error", Text)),
    "status": dead_letter.c.status == given("status"),
    "after": dead_letter.c.at >= given("after"),
    "before": dead_letter.c.at < given("before"),
    "position": tuple_(dead_letter.c.at, dead_letter.c.id)
    < tuple_(given("position_at", BigInteger), given("position_id", BigInteger)),
}


@cache
def _listing(conditions: frozenset[str]) -> Statement:
    clause: Select[Any] = _letter.where(*(_CONDITIONS[name] for name in sorted(conditions)))
    return Statement(clause.order_by(dead_letter.c.at.desc(), dead_letter.c.id.desc()).limit(given("limit")))


def _record(row: Row, first_chunk: bytes | None = None) -> DeadLetter:
    return DeadLetter(
        id=row["id"],
        kind=row["kind"],
        execution=ExecutionId(row["execution_id"].bytes),
        execution_arn=row["execution_arn"],
        machine_arn=row["machine_arn"],
        machine_name=row["machine_name"],
        state=row["state"],
        attempt=row["attempt"],
        error=row["error"],
        cause=row["cause"],
        input=input_of(first_chunk),
        at=row["at"],
        status=DEAD_LETTER_OF[row["status"]],
        closed_at=row["closed_at"],
        redrive_count=row["redrive_count"],
    )


class PostgresDeadLetters:
    """`DeadLetterStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def list(self, where: DeadLetterFilter, limit: int, after: str | None) -> Page[DeadLetter]:
        scope = scope_of(DEAD_LETTERS, where)
        values: dict[str, Any] = {
            "machine_arn": where.machine_arn,
            "state": where.state,
            "error": where.error,
            "status": DEAD_LETTER_CODES[where.status] if where.status is not None else None,
            "after": where.after,
            "before": where.before,
        }
        values = {name: value for name, value in values.items() if value is not None}
        statement = _listing(frozenset(values if after is None else [*values, "position"]))
        if after is not None:
            at, id = read_position(scope, after, (int, int))
            values |= {"position_at": at, "position_id": id}
        rows = await statement.rows(self._pool, limit=limit + 1, **values)
        return page_of(rows, limit, _record, lambda row: make_position(scope, row["at"], row["id"]))

    async def get(self, id: int) -> DeadLetter | None:
        row = await _get.row(self._pool, id=id)
        return None if row is None else _record(row, row["first_chunk"])

    async def close(self, id: int, status: DeadLetterStatus, now: int) -> bool:
        return await _close.happened(self._pool, of=id, new_status=DEAD_LETTER_CODES[status], now=now)
