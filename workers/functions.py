"""A user's Python functions: the optional `@function` decorator, finding a function by name, and running it.

It must not know how calls travel, nor which thread or loop runs them.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar, overload

import msgspec

from stepwell.engine.messages import Call
from stepwell.workers.results import UnusableResultError

F = TypeVar("F", bound=Callable[..., Any])

ANY_MODULE: Final = "*"
"""In the list of modules: any module may be called by `module:callable`."""

_NAME_MARK: Final = "__stepwell_function__"
_log: Final = logging.getLogger(__name__)


@overload
def function(name: F) -> F: ...


@overload
def function(name: str | None = None) -> Callable[[F], F]: ...


def function(name: F | str | None = None) -> F | Callable[[F], F]:
    """Give a callable a name by which state machines call it: `@function("charge-card")`, or `@function` for its own.

    The callable itself is not changed. It takes `event`, or `event` and `context` (`FunctionContext`); it may be async.
    """
    if callable(name):
        return function(None)(name)

    def mark(callable_: F) -> F:
        setattr(callable_, _NAME_MARK, name or callable_.__name__)
        return callable_

    return mark


class FunctionContext:
    """What a function may know of its call: the attributes of Lambda's context object, and Stepwell's own.

    `idempotency_key` is the same if this very attempt is delivered twice; `step_id` over all attempts at the state.
    """

    def __init__(self, call: Call) -> None:
        self.aws_request_id = call.request_id
        self.function_name = call.name or call.function
        self.function_version = "$LATEST"
        self.invoked_function_arn = call.arn or self.function_name
        self.memory_limit_in_mb = "128"
        self.log_group_name = ""
        self.log_stream_name = ""
        self.identity = None
        self.client_context = None
        self.execution_arn = call.execution
        self.state_name = call.state
        self.attempt = call.attempt
        self.idempotency_key = call.idempotency_key
        self.step_id = call.step_id
        self.traceparent = call.traceparent
        self._deadline = time.monotonic() + (call.timeout_seconds or 900)

    def get_remaining_time_in_millis(self) -> int:
        """Until the state's TimeoutSeconds, or 15 minutes where it has none."""
        return max(0, int((self._deadline - time.monotonic()) * 1000))


class Function:
    """A callable ready to be run."""

    __slots__ = ("callable", "is_async", "takes_context")

    def __init__(self, callable_: Callable[..., Any]) -> None:
        self.callable = callable_
        self.is_async = inspect.iscoroutinefunction(callable_) or inspect.iscoroutinefunction(
            getattr(callable_, "__call__", None)  # noqa: B004 - an object whose __call__ is async
        )
        self.takes_context = _takes_context(callable_)

    def start(self, call: Call) -> Any:
        """Call it: the result, or for an async function the coroutine to await."""
        try:
            event = msgspec.json.decode(call.payload)
        except msgspec.DecodeError as error:
            raise UnusableResultError("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from None
        if self.takes_context:
            return self.callable(event, FunctionContext(call))
        return self.callable(event)


def _takes_context(callable_: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(callable_).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = sum(p.default is p.empty for p in positional)
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return True
    return needed >= 2 or (len(positional) >= 2 and positional[1].name == "context")


class FunctionTable:
    """The functions of a host: those its modules name with `@function`, and `module:callable` within these modules.

    A module of the list stands for its submodules too. Nothing outside the list can be called: whoever may write the
    registry of functions must not thereby run any code there is.
    """

    def __init__(self, modules: Iterable[str]) -> None:
        self._modules = tuple(modules)
        self._named: dict[str, Function] = {}
        self._found: dict[str, Function] = {}
        self.broken: dict[str, str] = {}
        """Modules of the list that could not be imported, and why."""
        for module in self._modules:
            if module != ANY_MODULE:
                self._discover(module)

    @property
    def names(self) -> list[str]:
        """Names given by `@function`."""
        return sorted(self._named)

    def loaded(self, target: str) -> Function | None:
        """The function if it is at hand; None if it must be imported first, which `find` does and which may take long."""
        return self._named.get(target) or self._found.get(target)

    def find(self, target: str) -> Function:
        """The function of a name or `module:callable`. Raises `UnusableResultError`, with Lambda's names for the reason."""
        found = self.loaded(target)
        if found is None:
            found = self._found[target] = Function(self._load(target))
        return found

    def _load(self, target: str) -> Callable[..., Any]:
        module_name, _, path = target.partition(":")
        if not path:
            raise UnusableResultError("Runtime.HandlerNotFound", f"This host has no function named '{target}'.")
        if not self._allowed(module_name):
            raise UnusableResultError(
                "Runtime.ImportModuleError",
                f"Module '{module_name}' is not among the modules this function host was started with.",
            )
        try:
            place: Any = importlib.import_module(module_name)
        except Exception as error:  # noqa: BLE001 - anything may happen while a user's module is imported
            raise UnusableResultError(
                "Runtime.ImportModuleError", f"Unable to import module '{module_name}': {error}"
            ) from None
        for part in path.split("."):
            place = getattr(place, part, None)
        if not callable(place):
            raise UnusableResultError("Runtime.HandlerNotFound", f"Handler '{path}' missing on module '{module_name}'.")
        return place  # type: ignore[no-any-return]

    def _allowed(self, module: str) -> bool:
        return any(one in (ANY_MODULE, module) or module.startswith(f"{one}.") for one in self._modules)

    def _discover(self, name: str) -> None:
        try:
            module = importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - one broken module must not take the others' functions down
            self.broken[name] = f"{type(error).__name__}: {error}"
            _log.exception("Cannot import %s; calls of its functions will fail.", name)
            return
        for candidate in list(vars(sys.modules[module.__name__]).values()):
            mark = getattr(candidate, _NAME_MARK, None) if callable(candidate) else None
            if isinstance(mark, str):
                self._named[mark] = Function(candidate)
