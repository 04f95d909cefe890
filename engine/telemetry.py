"""What Stepwell tells about itself: names of log fields, metrics and spans, each listed once; the JSON log; trace context.

Loads nothing but the standard library: Prometheus and OpenTelemetry are imported when they are first asked for, and do
without being installed. It must not know what it is told about, and never logs payloads or secrets.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# ------------------------------------------------------------------------------------------------------------ log lines


class LogField(StrEnum):
    """The members of a log line. `extra={...}` may hold the ones from `REQUEST_ID` on; others are dropped."""

    TIME = "time"
    LEVEL = "level"
    LOGGER = "logger"
    MESSAGE = "message"
    EXCEPTION = "exception"
    REQUEST_ID = "request_id"
    EXECUTION = "execution"
    TRACE_ID = "trace_id"
    MACHINE = "machine"
    STATE = "state"
    TASK = "task"
    ATTEMPT = "attempt"
    SHARD = "shard"
    NODE = "node"
    WORKER = "worker"
    OPERATION = "operation"
    METHOD = "method"
    PATH = "path"
    STATUS = "status"
    DURATION_MS = "duration_ms"
    ERROR = "error"
    CAUSE = "cause"
    COUNT = "count"


_EXTRA_FIELDS: Final = tuple(
    field.value
    for field in LogField
    if field not in (LogField.TIME, LogField.LEVEL, LogField.LOGGER, LogField.MESSAGE, LogField.EXCEPTION)
)

request_id: ContextVar[str | None] = ContextVar("stepwell_request_id", default=None)
execution: ContextVar[str | None] = ContextVar("stepwell_execution", default=None)
trace_id: ContextVar[str | None] = ContextVar("stepwell_trace_id", default=None)
"""What the current task of the event loop is about; each log line carries them."""

_CONTEXT: Final = (
    (LogField.REQUEST_ID.value, request_id),
    (LogField.EXECUTION.value, execution),
    (LogField.TRACE_ID.value, trace_id),
)


class JsonFormatter(logging.Formatter):
    """One JSON object a line, UTF-8, with the fields of `LogField`."""

    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            LogField.TIME.value: f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03d}Z",
            LogField.LEVEL.value: record.levelname,
            LogField.LOGGER.value: record.name,
            LogField.MESSAGE.value: record.getMessage(),
        }
        for name, variable in _CONTEXT:
            value = variable.get()
            if value is not None:
                line[name] = value
        for name in _EXTRA_FIELDS:
            if name in record.__dict__:
                line[name] = record.__dict__[name]
        if record.exc_info:
            line[LogField.EXCEPTION.value] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)

    @staticmethod
    def converter(seconds: float | None) -> Any:
        """Log lines tell time in UTC."""
        from time import gmtime

        return gmtime(seconds)


# -------------------------------------------------------------------------------------------------------------- metrics


class MetricKind(StrEnum):
    """What a metric counts like."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(NamedTuple):
    """A metric as Prometheus shows it."""

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()


API_REQUESTS: Final = Metric(
    "stepwell_api_requests_total", MetricKind.COUNTER, "Requests answered.", ("operation", "code")
)
API_SECONDS: Final = Metric(
    "stepwell_api_request_seconds", MetricKind.HISTOGRAM, "Time to answer a request.", ("operation",)
)
API_OPEN: Final = Metric("stepwell_api_requests_open", MetricKind.GAUGE, "Requests being answered.")
EXECUTIONS_STARTED: Final = Metric("stepwell_executions_started_total", MetricKind.COUNTER, "Executions started.")
EXECUTIONS_ENDED: Final = Metric(
    "stepwell_executions_ended_total", MetricKind.COUNTER, "Executions ended, by status.", ("status",)
)
COMMITS: Final = Metric("stepwell_commits_total", MetricKind.COUNTER, "Group commits, by outcome.", ("outcome",))
COMMIT_SECONDS: Final = Metric("stepwell_commit_seconds", MetricKind.HISTOGRAM, "Time of a group commit.")
COMMIT_ENTRIES: Final = Metric("stepwell_commit_entries_total", MetricKind.COUNTER, "Steps written by group commits.")
TASKS_SENT: Final = Metric("stepwell_tasks_sent_total", MetricKind.COUNTER, "Tasks sent to targets.", ("target",))
TASK_OUTCOMES: Final = Metric(
    "stepwell_task_outcomes_total", MetricKind.COUNTER, "Outcomes of tasks received, by answer.", ("answer",)
)
SHARDS_OWNED: Final = Metric("stepwell_shards_owned", MetricKind.GAUGE, "Shards this node owns.")
TIMERS_LATE_SECONDS: Final = Metric(
    "stepwell_timer_lag_seconds", MetricKind.HISTOGRAM, "How late timers fire after they are due."
)
DEAD_LETTERS: Final = Metric("stepwell_dead_letters_total", MetricKind.COUNTER, "Dead letters written.")
EXPRESS_STARTED: Final = Metric(
    "stepwell_express_started_total",
    MetricKind.COUNTER,
    "Express executions started, by how they are called.",
    ("call",),
)
EXPRESS_ENDED: Final = Metric(
    "stepwell_express_ended_total", MetricKind.COUNTER, "Express executions ended, by status.", ("status",)
)
EXPRESS_RERUNS: Final = Metric(
    "stepwell_express_reruns_total", MetricKind.COUNTER, "Express executions run again after their node was lost."
)
EXPRESS_REFUSED: Final = Metric(
    "stepwell_express_refused_total",
    MetricKind.COUNTER,
    "Express executions refused because there was no room for them.",
)
EXPRESS_RUNNING: Final = Metric(
    "stepwell_express_running", MetricKind.GAUGE, "Express executions that run on this node."
)
EXPRESS_BYTES: Final = Metric(
    "stepwell_express_bytes", MetricKind.GAUGE, "Memory that the Express executions on this node hold, about."
)

METRICS: Final = (
    API_REQUESTS,
    API_SECONDS,
    API_OPEN,
    EXECUTIONS_STARTED,
    EXECUTIONS_ENDED,
    COMMITS,
    COMMIT_SECONDS,
    COMMIT_ENTRIES,
    TASKS_SENT,
    TASK_OUTCOMES,
    SHARDS_OWNED,
    TIMERS_LATE_SECONDS,
    DEAD_LETTERS,
    EXPRESS_STARTED,
    EXPRESS_ENDED,
    EXPRESS_RERUNS,
    EXPRESS_REFUSED,
    EXPRESS_RUNNING,
    EXPRESS_BYTES,
)
"""Every metric there is."""

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Counts(Protocol):
    """What counts: `Metrics`, or `NoMetrics` where nobody looks."""

    def count(self, metric: Metric, *labels: str, by: float = 1) -> None: ...

    def set(self, metric: Metric, value: float, *labels: str) -> None: ...

    def change(self, metric: Metric, by: float, *labels: str) -> None: ...

    def observe(self, metric: Metric, value: float, *labels: str) -> None: ...


class NoMetrics:
    """Counts nothing."""

    def count(self, metric: Metric, *labels: str, by: float = 1) -> None: ...

    def set(self, metric: Metric, value: float, *labels: str) -> None: ...

    def change(self, metric: Metric, by: float, *labels: str) -> None: ...

    def observe(self, metric: Metric, value: float, *labels: str) -> None: ...


class Metrics:
    """The metrics of one process, in a registry of their own. Needs prometheus_client (extra `server`)."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry

        self.registry: CollectorRegistry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        self._children: dict[tuple[str, ...], Any] = {}
        for metric in METRICS:
            self._register(metric)

    def _register(self, metric: Metric) -> None:
        from prometheus_client import Counter, Gauge, Histogram

        match metric.kind:
            case MetricKind.COUNTER:
                self._counters[metric.name] = Counter(metric.name, metric.help, metric.labels, registry=self.registry)
            case MetricKind.GAUGE:
                self._gauges[metric.name] = Gauge(metric.name, metric.help, metric.labels, registry=self.registry)
            case MetricKind.HISTOGRAM:
                self._histograms[metric.name] = Histogram(
                    metric.name, metric.help, metric.labels, registry=self.registry, buckets=_BUCKETS
                )

    def count(self, metric: Metric, *labels: str, by: float = 1) -> None:
        """Count something that happened."""
        self._child(self._counters[metric.name], metric, labels).inc(by)

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Say how much there is of something."""
        self._child(self._gauges[metric.name], metric, labels).set(value)

    def change(self, metric: Metric, by: float, *labels: str) -> None:
        """Say that there is more or less of something."""
        self._child(self._gauges[metric.name], metric, labels).inc(by)

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Note one duration in seconds."""
        self._child(self._histograms[metric.name], metric, labels).observe(value)

    def _child(self, parent: Any, metric: Metric, labels: tuple[str, ...]) -> Any:
        if not labels:
            return parent
        key = (metric.name, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = parent.labels(*labels)
        return child

    def render(self) -> tuple[bytes, str]:
        """The text of /metrics and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self.registry), CONTENT_TYPE_LATEST


# ---------------------------------------------------------------------------------------------------------------- traces


class SpanName(StrEnum):
    """The spans there are."""

    START = "stepwell.start"
    COMMIT = "stepwell.commit"
    TASK = "stepwell.task"
    HTTP_TASK = "stepwell.http_task"


class TraceContext(NamedTuple):
    """A W3C trace context: hexadecimal ids and the flags."""

    trace_id: str
    span_id: str
    flags: str = "01"

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


_TRACEPARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?"
)


def parse_traceparent(text: str | None) -> TraceContext | None:
    """Read a `traceparent` header (W3C Trace Context); None if it is not valid, which is to be treated as absent."""
    match = _TRACEPARENT.fullmatch(text.strip()) if text else None
    if match is None or match["version"] == "ff" or (match["version"] == "00" and match["rest"]):
        return None
    if match["trace"] == "0" * 32 or match["span"] == "0" * 16:
        return None
    return TraceContext(match["trace"], match["span"], match["flags"])


@lru_cache(maxsize=1)
def _opentelemetry() -> Any:
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    return trace


def current_traceparent() -> str | None:
    """The `traceparent` of the span that is open here; None without OpenTelemetry or a span."""
    trace = _opentelemetry()
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return str(TraceContext(f"{context.trace_id:032x}", f"{context.span_id:016x}", f"{int(context.trace_flags):02x}"))


@contextmanager
def span(name: SpanName, parent: str | None = None, **attributes: str | int) -> Iterator[None]:
    """A span around a block, below the `traceparent` given; nothing without OpenTelemetry."""
    trace = _opentelemetry()
    if trace is None:
        yield
        return
    context = None
    parsed = parse_traceparent(parent)
    if parsed is not None:
        remote = trace.SpanContext(
            int(parsed.trace_id, 16), int(parsed.span_id, 16), True, trace.TraceFlags(int(parsed.flags, 16))
        )
        context = trace.set_span_in_context(trace.NonRecordingSpan(remote))
    tracer = trace.get_tracer("stepwell")
    with tracer.start_as_current_span(str(name), context=context, attributes=attributes):
        yield
