"""The HTTP target with loopback allowed, as a developer's machine has it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from stepwell.engine.secretbox import SecretBox
from stepwell.engine.targets.http import HttpSettings, HttpTarget, http_target
from tests.targets.servers import ConnectionShelf, StillClock


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def box() -> SecretBox:
    return SecretBox(bytes(range(32)))


@pytest.fixture
def shelf(box: SecretBox) -> ConnectionShelf:
    return ConnectionShelf(box)


@pytest.fixture
async def target(shelf: ConnectionShelf, box: SecretBox, clock: StillClock) -> AsyncIterator[HttpTarget]:
    target = http_target(HttpSettings(allow="loopback"), shelf, box, clock)
    yield target
    await target.close()
