"""What every test shares: the guard of the import names and the place of the recorded conformance cases.

Fixtures of one topic live in the conftest.py of its folder, not here.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

pytest_plugins = ["tests.fixtures.postgres", "tests.fixtures.processes"]

ROOT = Path(__file__).resolve().parent.parent
BARE_NAMES = frozenset({"api", "cli", "engine", "workers"})


class BareNameGuard:
    """Refuses to import this project's folders by their bare names: a module would exist twice, with two sets of classes."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in BARE_NAMES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
        if any(place and Path(place).resolve().is_relative_to(ROOT) for place in places):
            raise ImportError(f"import stepwell.{name}, not {name}: the folder is part of the package stepwell")
        return None


def pytest_configure() -> None:
    sys.meta_path.insert(0, BareNameGuard)
    # How long an example takes, or is looked for, says how busy the machine is.
    slow = [*hypothesis.settings().suppress_health_check, hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=slow)
    hypothesis.settings.load_profile("patient")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job: what tests start would inherit that
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the group of a test into its id, where the scheduler looks for it.

    pytest-xdist 3.8 does so by an attribute that pytest 9.2 does not read any more: every group would be torn apart.
    """
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        groups = sorted({str(mark.args[0]) for mark in item.iter_markers("xdist_group")})
        suffix = f"@{'_'.join(groups)}"
        if groups and not item.nodeid.endswith(suffix):
            item._id = type(item.id).parse(item.nodeid + suffix)


@pytest.fixture(scope="session")
def conformance_cases() -> Path:
    """The folder of recorded results of AWS: STEPWELL_CONFORMANCE, or `shared/conformance` beside the checkout."""
    place = Path(os.environ.get("STEPWELL_CONFORMANCE") or ROOT.parent / "shared" / "conformance")
    if not place.is_dir():
        pytest.skip(f"no recorded cases at {place}; name their folder with STEPWELL_CONFORMANCE")
    return place
