"""What the tests of pure code share."""

from __future__ import annotations

import pytest

from stepwell.engine.query import effort


@pytest.fixture(autouse=True)
def _nothing_read_yet() -> None:
    """Tests evaluate outside of a state; what one of them has read is not to count in the next one."""
    effort.begin()
