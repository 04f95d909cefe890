"""Failpoints: named places where a test makes the process die, so that recovery from there is proved and not assumed.

`STEPWELL_FAILPOINT=after_commit` kills the process (SIGKILL) the first time it comes to that place; `after_commit:3` the third
time. Off, a failpoint costs one dictionary look-up.
"""

from __future__ import annotations

import os
import signal
from typing import Final

NAMES: Final = frozenset(
    {
        "before_commit",
        "after_commit",
        "before_dispatch",
        "after_dispatch",
        "after_takeover",
        "before_express_begin",
        "after_express_begin",
        "before_express_end",
        "before_map_run_commit",
        "after_map_run_commit",
        "before_result_commit",
    }
)
"""The one list of failpoints."""


def _parse(text: str | None) -> dict[str, int]:
    counts: dict[str, int] = {}
    for part in (text or "").split(","):
        name, _, count = part.strip().partition(":")
        if name in NAMES:
            counts[name] = int(count or 1)
    return counts


_armed: Final = _parse(os.environ.get("STEPWELL_FAILPOINT"))


def reach(name: str) -> None:
    """Pass a failpoint; dies here if it is armed and its count is used up."""
    if not _armed:
        return
    left = _armed.get(name)
    if left is None:
        return
    if left <= 1:
        os.kill(os.getpid(), signal.SIGKILL)
    _armed[name] = left - 1
