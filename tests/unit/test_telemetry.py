"""Logs, metrics and trace context."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from stepwell.engine import telemetry
from stepwell.engine.telemetry import JsonFormatter, LogField, MetricKind, Metrics, TraceContext, parse_traceparent

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def line(**extra: object) -> dict[str, object]:
    record = logging.LogRecord("stepwell.x", logging.INFO, "f", 1, "took %d", (3,), None)
    record.__dict__.update(extra)
    shown: dict[str, object] = json.loads(JsonFormatter().format(record))
    return shown


def test_a_log_line_is_one_json_object_with_known_fields() -> None:
    shown = line(execution="abc", unknown="dropped", **{LogField.COUNT: 4})
    assert set(shown) <= set(LogField)
    assert (shown["message"], shown["count"], shown["execution"]) == ("took 3", 4, "abc")
    assert str(shown["time"]).endswith("Z")


def test_a_log_line_carries_what_the_task_is_about() -> None:
    token = telemetry.request_id.set("r-1")
    try:
        assert line()["request_id"] == "r-1"
    finally:
        telemetry.request_id.reset(token)
    assert "request_id" not in line()


def test_every_metric_is_registered_and_rendered() -> None:
    metrics = Metrics()
    for metric in telemetry.METRICS:
        labels = tuple("x" for _ in metric.labels)
        match metric.kind:
            case MetricKind.COUNTER:
                metrics.count(metric, *labels)
            case MetricKind.GAUGE:
                metrics.set(metric, 2, *labels)
            case MetricKind.HISTOGRAM:
                metrics.observe(metric, 0.1, *labels)
    text = metrics.render()[0].decode()
    assert all(metric.name in text for metric in telemetry.METRICS)
    defined = [value for value in vars(telemetry).values() if isinstance(value, telemetry.Metric)]
    assert sorted(defined) == sorted(telemetry.METRICS)


@pytest.mark.parametrize("text", (GOOD, f" {GOOD} ", GOOD.replace("00-", "01-", 1) + "-later"))
def test_a_traceparent_is_read(text: str) -> None:
    assert parse_traceparent(text) == TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "01")


@pytest.mark.parametrize(
    "text",
    (
        None,
        "",
        "ff" + GOOD[2:],
        GOOD + "-x",
        GOOD.upper(),
        GOOD[:-1],
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{'a' * 32}-{'0' * 16}-01",
    ),
)
def test_an_invalid_traceparent_is_as_none(text: str | None) -> None:
    assert parse_traceparent(text) is None


def test_a_span_continues_the_trace_it_is_given() -> None:
    with telemetry.span(telemetry.SpanName.START, GOOD, execution="x"):
        current = telemetry.current_traceparent()
    assert current is not None
    assert current.split("-")[1] == GOOD.split("-")[1]


def test_importing_telemetry_loads_neither_prometheus_nor_opentelemetry() -> None:
    code = "import sys, stepwell.engine.telemetry; print([m for m in ('prometheus_client', 'opentelemetry') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
