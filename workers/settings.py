"""What a worker reads of its environment: where the engine and the broker are. It must not know what for."""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import urlsplit

DEFAULT_URL: Final = "http://127.0.0.1:8083"
DEFAULT_BROKER: Final = "redis://127.0.0.1:6379/0"


class WorkerSettingsError(Exception):
    """A setting that cannot be used as it is given."""


def engine_url() -> str:
    """STEPWELL_URL: the API that claims are made to."""
    url = (os.environ.get("STEPWELL_URL") or DEFAULT_URL).rstrip("/")
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise WorkerSettingsError(f"STEPWELL_URL is {url!r}; it must be a URL like {DEFAULT_URL}.")
    return url


def api_key() -> str | None:
    """STEPWELL_API_KEY: the bearer key shown there."""
    return os.environ.get("STEPWELL_API_KEY") or None


def broker_url() -> str:
    """STEPWELL_BROKER_URL: the broker of `stepwell.workers.app`."""
    return os.environ.get("STEPWELL_BROKER_URL") or DEFAULT_BROKER


def default_queue() -> str:
    """STEPWELL_QUEUE: the queue of tasks whose Resource names none."""
    return os.environ.get("STEPWELL_QUEUE") or "celery"
