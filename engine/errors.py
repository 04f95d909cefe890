"""The exception tree: everything Stepwell itself raises on purpose.

::

    StepwellError
    ├── JsonTextError            text that is not (acceptable) JSON
    ├── ConfigurationError       a setting, key or server that cannot be used as given
    ├── TooMuchHereError         reading the data takes more than it may here; it is done elsewhere
    ├── QueryError               how data is read
    │   ├── InvalidQueryError    a path, intrinsic or template that does not parse
    │   ├── EffortError          a path, intrinsic, template or rule that does too much
    │   └── PathNotFoundError    a definite path that leads nowhere
    ├── DefinitionError          a state machine definition that is refused (carries diagnostics)
    ├── StatesError              an error of the States Language: Retry and Catch can match it (states_errors)
    ├── StoreError
    │   ├── StoreUnavailableError    Postgres is away; nothing was written or nobody knows; ask again
    │   ├── NotOwnerError            another node owns the shard now
    │   ├── InvalidPageTokenError    a position in a listing that this store did not give out for that listing
    │   └── BadBatchError            something in a batch cannot be written as it is
    ├── TargetUnavailableError   whoever carries tasks out is away; the task was not handed over; perform it again later
    ├── ExpressionsUnavailableError  no process that evaluates heavy expressions can be started; try again later
    └── ServiceError             a use-case refuses a request; `code` is AWS's name for the reason (engine.service)

A foreign exception is converted to one of these once, at the edge where it enters. The message of each is written for the
person who reads it: what is wrong, where, what to do. Never a secret, never a stack trace.
"""

from __future__ import annotations


class StepwellError(Exception):
    """Root of the tree. `str(error)` is the message shown to users."""


class JsonTextError(StepwellError):
    """Text that is not JSON, is nested too deeply or holds characters JSON documents may not carry.

    `line` and `column`, counted from 1, say where in the text the fault is, when that is known.
    """

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


class ConfigurationError(StepwellError):
    """A setting, key or server that cannot be used as it is given."""


class QueryError(StepwellError):
    """Data could not be read by a path, template or intrinsic function."""


class InvalidQueryError(QueryError):
    """A path, intrinsic function or payload template that does not parse."""


class EffortError(QueryError):
    """Reading the data takes more steps than it may."""


class TooMuchHereError(StepwellError):
    """Reading the data takes more steps than it may in this process. Never leaves the query layer."""


class PathNotFoundError(QueryError):
    """A definite path that leads to nothing in the document it was applied to."""


class StoreError(StepwellError):
    """The store could not do what was asked."""


class StoreUnavailableError(StoreError):
    """Postgres is away or cut the connection: nothing was written, or nobody knows. Asking again is safe."""


class NotOwnerError(StoreError):
    """Another engine node owns the shard now."""


class InvalidPageTokenError(StoreError):
    """The token is not one that was given out for this listing with this filter."""


class BadBatchError(StoreError):
    """An entry of a batch cannot be written as it is; nothing of the batch was."""


class TargetUnavailableError(StepwellError):
    """Whoever should carry a task out (a broker, a function host) is away: the task was not handed over. Perform it again later."""


class ExpressionsUnavailableError(StepwellError):
    """An expression that needs a process of its own could not be evaluated: none can be started, or too much waits. Try again later."""
