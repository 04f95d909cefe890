"""The module Celery's command line loads: `celery -A bench.celery_worker worker`."""

from __future__ import annotations

from bench.noops import celery_app

app = celery_app()
