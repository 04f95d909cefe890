from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwell.engine.query.timestamps import format_timestamp, parse_timestamp, parse_timestamp_ns


@pytest.mark.parametrize(
    ("text", "expected"),
    (
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.001Z", 1),
        ("1970-01-01T00:00:00.0019Z", 1),
        ("1969-12-31T23:59:59.999Z", -1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00-05:30", 19_800_000),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
    ),
)
def test_milliseconds(text: str, expected: int) -> None:
    assert parse_timestamp(text) == expected


def test_nanoseconds_are_kept_for_comparison() -> None:
    assert parse_timestamp_ns("1970-01-01T00:00:00.123456789Z") == 123_456_789


@pytest.mark.parametrize(
    "text",
    (
        "", "2016-12-05", "2016-12-05T21:29:29", "2016-12-05 21:29:29Z", "2016-12-05T25:29:29Z", "05-12-2016T21:29:29Z",
        "2016-12-05t21:29:29Z", "2016-12-05T21:29:29z", "2023-02-29T00:00:00Z", "2016-12-05T21:29Z", "2016-12-05T21:29:60Z",
        "2016-12-05T21:29:29.Z", "2016-12-05T21:29:29+0100", "2016-12-05T21:29:29+25:00", " 2016-12-05T21:29:29Z",
        "2016-12-05T21:29:29Z\n", "٢٠١٦-12-05T21:29:29Z", "0001-01-01T00:00:00+99:00",
    ),
)  # fmt: skip
def test_refused(text: str) -> None:
    assert parse_timestamp(text) is None


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_there_and_back(milliseconds: int) -> None:
    text = format_timestamp(milliseconds)
    assert len(text) == 24
    assert parse_timestamp(text) == milliseconds


def test_format() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    assert format_timestamp(int(moment.timestamp() * 1000)) == "2026-01-02T03:04:05.678Z"
