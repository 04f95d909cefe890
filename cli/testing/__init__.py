"""Testing state machines without a server: test files, expectations, coverage, reports, and a plugin for pytest.

Everything stands on `engine.runtime.mocks`. What tests in Python need is imported from here, when it is first asked for: pytest
loads the plugin in projects that may not use it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from stepwell.cli.testing.machines import LiveExecution, LocalMachine, LocalMachineFactory, Result, TestingError
    from stepwell.engine.runtime.mock_config import Return, Throw

__all__ = ["LiveExecution", "LocalMachine", "LocalMachineFactory", "Result", "Return", "TestingError", "Throw"]

_PLACES: Final = {
    "LiveExecution": "stepwell.cli.testing.machines",
    "LocalMachine": "stepwell.cli.testing.machines",
    "LocalMachineFactory": "stepwell.cli.testing.machines",
    "Result": "stepwell.cli.testing.machines",
    "Return": "stepwell.engine.runtime.mock_config",
    "TestingError": "stepwell.cli.testing.machines",
    "Throw": "stepwell.engine.runtime.mock_config",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
