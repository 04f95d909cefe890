"""The edge where exceptions of the driver and the network become Stepwell's own.

Everything in `store` that talks to Postgres does so inside `store_errors()`. It must not know what was being asked.
"""

from __future__ import annotations

from types import TracebackType
from typing import Final

import asyncpg

from stepwell.engine.errors import ConfigurationError, StepwellError, StoreError, StoreUnavailableError

UNAVAILABLE_CLASSES: Final = ("08", "53", "57", "58")
"""SQLSTATE classes: connection, resources, operator intervention (also a statement's time-out), system error."""

UNAVAILABLE_STATES: Final = frozenset(
    {
        "25006",  # read-only: the server has become a standby
        "25P03",  # idle in transaction for too long
        "40001",  # serialization failure
        "40P01",  # deadlock
        "55P03",  # lock time-out
    }
)

CONFIGURATION_STATES: Final[dict[str, str]] = {
    "28000": "The database refuses this user. Check the user in STEPWELL_DATABASE_URL.",
    "28P01": "The database refuses this password. Check STEPWELL_DATABASE_URL.",
    "3D000": "The database named in STEPWELL_DATABASE_URL does not exist. Create it, then run `stepwell db upgrade`.",
    "3F000": "The schema of the database is missing. Check the user's search_path.",
    "42501": "The database user lacks a privilege that Stepwell needs",
    "42703": "The database's schema is not the one this version needs. Run `stepwell db upgrade`.",
    "42P01": "The database has no Stepwell tables, or not all of them. Run `stepwell db upgrade`.",
}


def convert(error: BaseException) -> StepwellError | None:
    """What Stepwell raises for an exception of asyncpg or the network; None for one that is neither."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state[:2] in UNAVAILABLE_CLASSES or state in UNAVAILABLE_STATES:
            return StoreUnavailableError(f"The database cannot answer now: {error}.")
        if state in CONFIGURATION_STATES:
            hint = CONFIGURATION_STATES[state]
            return ConfigurationError(hint if hint.endswith(".") else f"{hint}: {error}.")
        return StoreError(f"The database refused a statement ({state}): {error}.")
    if isinstance(error, asyncpg.DataError):
        return StoreError(f"The database cannot keep a value: {error}.")
    if isinstance(error, asyncpg.ClientConfigurationError):
        return ConfigurationError(
            "STEPWELL_DATABASE_URL cannot be used: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE."
        )
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError | OSError | TimeoutError):
        return StoreUnavailableError(f"The database cannot be reached: {error or type(error).__name__}.")
    return None


class StoreErrors:
    """`with store_errors():` converts what is raised inside. Stateless: one object serves all."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            converted = convert(error)
            if converted is not None:
                raise converted from error


_ERRORS: Final = StoreErrors()


def store_errors() -> StoreErrors:
    """A context that raises `StoreUnavailableError`, `ConfigurationError` or `StoreError` for the driver's exceptions."""
    return _ERRORS
