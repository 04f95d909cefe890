"""State machines in Postgres: `ports.MachineStore`. A definition is never changed: an update adds a revision."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Integer, Text, and_, func, insert, literal_column, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as pg_insert

from stepwell.engine.ports import MachineRecord, Page, Revision
from stepwell.engine.store.failures import store_errors
from stepwell.engine.store.pages import make_position, page_of, read_position
from stepwell.engine.store.statements import Pool, Row, Statement, given
from stepwell.engine.store.tables import state_machine as machine
from stepwell.engine.store.tables import state_machine_revision as revision

DEFAULT_HOME: Final = ("us-east-1", "000000000000")

_SCOPE: Final = "machines"
_NOW: Final = literal_column("(extract(epoch FROM clock_timestamp()) * 1000)::bigint", BigInteger)
_CONFIG: Final = ("logging", "tracing", "encryption")

_newest: Final = (
    select(machine, revision.c.definition, revision.c.role_arn, revision.c.revision_id)
    .join(revision, and_(revision.c.machine_key == machine.c.key, revision.c.revision == machine.c.revision))
    .where(machine.c.deleted_at.is_(None))
)
_by_arn: Final = Statement(_newest.where(machine.c.arn == given("arn")))
_by_name: Final = Statement(
    _newest.where(machine.c.name == given("name"))
    .order_by(
        (func.right(machine.c.arn, func.length(given("home", Text))) == given("home", Text)).desc(), machine.c.key
    )
    .limit(2)
)
_first_page: Final = Statement(_newest.order_by(machine.c.created_at, machine.c.key).limit(given("limit")))
_next_page: Final = Statement(
    _newest.where(
        tuple_(machine.c.created_at, machine.c.key) > tuple_(given("created_at", BigInteger), given("key", Integer))
    )
    .order_by(machine.c.created_at, machine.c.key)
    .limit(given("limit"))
)
_revision: Final = Statement(
    select(revision).where(revision.c.machine_key == given("key"), revision.c.revision == given("number"))
)
_create: Final = Statement(
    pg_insert(machine)
    .values({column: given(column) for column in (
        "arn", "name", "type", "status", "revision", "created_at", "updated_at", *_CONFIG, "description",
    )})
    .on_conflict_do_nothing(index_elements=[machine.c.arn], index_where=machine.c.deleted_at.is_(None))
    .returning(machine.c.key)
)  # fmt: skip
_create_revision: Final = Statement(
    insert(revision)
    .values({column.name: given(column.name) for column in revision.c})
    .returning(revision.c.machine_key)
)
_update: Final = Statement(
    update(machine)
    .where(machine.c.arn == given("of"), machine.c.deleted_at.is_(None))
    .values(
        revision=machine.c.revision + 1,
        updated_at=given("now"),
        **{name: func.coalesce(given(f"new_{name}", Text), machine.c[name]) for name in _CONFIG},
    )
    .returning(machine.c.key, machine.c.revision)
)
_update_revision: Final = Statement(
    insert(revision)
    .from_select(
        [column.name for column in revision.c],
        select(
            revision.c.machine_key,
            revision.c.revision + 1,
            func.coalesce(given("definition", Text), revision.c.definition),
            func.coalesce(given("role", Text), revision.c.role_arn),
            given("id", Text),
            given("now", BigInteger),
        ).where(revision.c.machine_key == given("key"), revision.c.revision == given("number", Integer) - 1),
    )
    .returning(revision.c.machine_key)
)
_delete: Final = Statement(
    update(machine)
    .where(machine.c.arn == given("of"), machine.c.deleted_at.is_(None))
    .values(deleted_at=_NOW, status="DELETING")
    .returning(machine.c.key)
)


def arn_in(home: tuple[str, str], name: str) -> str:
    """How the ARN of a machine ends that has this name in a region and account."""
    return f":states:{home[0]}:{home[1]}:stateMachine:{name}"


def _machine(row: Row | None) -> MachineRecord:
    assert row is not None
    values = dict(row)
    del values["deleted_at"]
    return MachineRecord(**values)


class PostgresMachines:
    """`MachineStore`. `home` is the region and account a bare name is first looked for in."""

    def __init__(self, pool: Pool, home: tuple[str, str] = DEFAULT_HOME) -> None:
        self._pool = pool
        self._home = home

    async def create(self, record: MachineRecord) -> MachineRecord | None:
        with store_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                made = await _create.row(
                    connection,
                    arn=record.arn,
                    name=record.name,
                    type=record.type,
                    status=record.status,
                    revision=record.revision,
                    created_at=record.created_at,
                    updated_at=record.updated_at,
                    logging=record.logging,
                    tracing=record.tracing,
                    encryption=record.encryption,
                    description=record.description,
                )
                if made is None:
                    return None
                await _create_revision.row(
                    connection,
                    machine_key=made["key"],
                    revision=record.revision,
                    definition=record.definition,
                    role_arn=record.role_arn,
                    revision_id=record.revision_id,
                    updated_at=record.updated_at,
                )
                return _machine(await _by_arn.row(connection, arn=record.arn))

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
        with store_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                changed = await _update.row(
                    connection, of=arn, now=now, new_logging=logging, new_tracing=tracing, new_encryption=encryption
                )
                if changed is None:
                    return None
                # A statement of its own: it must see the revision that a concurrent update has just committed
                await _update_revision.row(
                    connection,
                    definition=definition,
                    role=role_arn,
                    id=revision_id,
                    now=now,
                    key=changed["key"],
                    number=changed["revision"],
                )
                return _machine(await _by_arn.row(connection, arn=arn))

    async def get(self, arn: str) -> MachineRecord | None:
        row = await _by_arn.row(self._pool, arn=arn)
        return None if row is None else _machine(row)

    async def by_name(self, name: str) -> MachineRecord | None:
        home = arn_in(self._home, name)
        rows = await _by_name.rows(self._pool, name=name, home=home)
        return _machine(rows[0]) if rows and (len(rows) == 1 or rows[0]["arn"].endswith(home)) else None

    async def revision(self, machine_key: int, revision: int) -> Revision | None:
        row = await _revision.row(self._pool, key=machine_key, number=revision)
        return None if row is None else Revision(**row)

    async def list(self, limit: int, after: str | None) -> Page[MachineRecord]:
        if after is None:
            rows = await _first_page.rows(self._pool, limit=limit + 1)
        else:
            created_at, key = read_position(_SCOPE, after, (int, int))
            rows = await _next_page.rows(self._pool, limit=limit + 1, created_at=created_at, key=key)
        return page_of(rows, limit, _machine, lambda row: make_position(_SCOPE, row["created_at"], row["key"]))

    async def delete(self, arn: str) -> bool:
        return await _delete.happened(self._pool, of=arn)
