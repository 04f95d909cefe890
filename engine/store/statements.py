"""SQLAlchemy Core statements, compiled once to the SQL that asyncpg prepares.

Ordinary reads and writes are Core over `tables`; only the statements of the commit path are files. It must not know which
statements there are.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import asyncpg
from sqlalchemy import BindParameter, bindparam
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.types import TypeEngine

from stepwell.engine.store.failures import store_errors

_DIALECT: Final = PGDialect_asyncpg()  # type: ignore[no-untyped-call]

Pool: TypeAlias = "asyncpg.Pool[Any]"
Connection: TypeAlias = "asyncpg.Connection[Any]"
Row: TypeAlias = "asyncpg.Record"


class Statement:
    """A compiled statement. Its parameters are given by name; those it has a value for need not be."""

    __slots__ = ("_defaults", "_names", "sql")

    def __init__(self, clause: ClauseElement) -> None:
        compiled = clause.compile(dialect=_DIALECT)
        assert isinstance(compiled, SQLCompiler)
        self.sql = str(compiled)
        self._names = tuple(compiled.positiontup or ())
        self._defaults = {name: value for name, value in compiled.params.items() if value is not None}

    def arguments(self, values: dict[str, Any]) -> list[Any]:
        """The values in the order of the parameters."""
        defaults = self._defaults
        return [values[name] if name in values else defaults[name] for name in self._names]

    async def rows(self, on: Pool | Connection, **values: Any) -> list[Row]:
        with store_errors():
            rows: list[Row] = await on.fetch(self.sql, *self.arguments(values))
            return rows

    async def row(self, on: Pool | Connection, **values: Any) -> Row | None:
        with store_errors():
            return await on.fetchrow(self.sql, *self.arguments(values))

    async def happened(self, on: Pool | Connection, **values: Any) -> bool:
        """Run a statement that returns the rows it wrote: whether there was any."""
        return await self.row(on, **values) is not None


def given(name: str, type_: type[TypeEngine[Any]] | None = None) -> BindParameter[Any]:
    """A parameter of a statement; its type is that of what it is compared with, unless given."""
    return bindparam(name, type_=type_, required=True)
