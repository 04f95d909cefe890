"""Stepwell's own Celery app, for tasks that have no app yet: `celery -A stepwell.workers.app worker`, `stepwell worker`."""

from __future__ import annotations

from celery import Celery

from stepwell.workers.hook import install
from stepwell.workers.settings import broker_url, default_queue

app = Celery("stepwell", broker=broker_url())
app.conf.update(
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
    task_acks_late=False,
    task_default_queue=default_queue(),
    task_ignore_result=True,
    task_serializer="json",
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
)
install(app)
