"""The shop's own Celery app, with its own queue and settings. The last line is all that Stepwell needs."""

from __future__ import annotations

import os

from celery import Celery

from stepwell.workers import install

app = Celery("shop", broker=os.environ.get("STEPWELL_BROKER_URL", "redis://127.0.0.1:6379/0"), include=["shop.tasks"])
app.conf.task_default_queue = "shop"
app.conf.task_ignore_result = True

install(app)
