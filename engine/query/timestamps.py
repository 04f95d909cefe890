"""Timestamps as the States Language takes them: RFC 3339 with an upper-case T and a zone, Z or an offset.

Inside the engine time is an integer of milliseconds since the epoch; comparisons of users' timestamps use nanoseconds,
because they may be written that finely. It must not know what time it is.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

_TIMESTAMP: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_timestamp_ns(text: str) -> int | None:
    """Nanoseconds since the epoch, or None for text that is no timestamp. Digits beyond nanoseconds are dropped."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    sign, hours, minutes = match[8], int(match[9] or 0), int(match[10] or 0)
    if hours > 18 or minutes > 59:
        return None
    offset = timedelta(hours=hours, minutes=minutes) * (-1 if sign == "-" else 1)
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone(offset))
    except ValueError:
        return None
    elapsed = moment - _EPOCH
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000_000 + int((match[7] or "").ljust(9, "0"))


def parse_timestamp(text: str) -> int | None:
    """Milliseconds since the epoch, finer digits dropped, or None for text that is no timestamp."""
    nanoseconds = parse_timestamp_ns(text)
    return None if nanoseconds is None else nanoseconds // 1_000_000


def format_timestamp(milliseconds: int) -> str:
    """`2026-01-02T03:04:05.678Z`, always with three digits of a second."""
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z".rjust(24, "0")
