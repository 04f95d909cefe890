"""What the tasks of the workloads run: nothing. Loaded by function hosts and by Celery workers."""

from __future__ import annotations

import os

from celery import Celery

TASK = "bench.noop"


def noop(event: object) -> object:
    """The function of W1t and W2."""
    return event


def celery_app() -> Celery:
    """The Celery application of both sides: claimed by Stepwell's hook, or called with a result backend as plain Celery."""
    broker = os.environ["BENCH_BROKER_URL"]
    plain = os.environ.get("BENCH_PLAIN_CELERY") == "1"
    app = Celery("bench", broker=broker, backend=broker if plain else None)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        task_ignore_result=not plain,
        worker_prefetch_multiplier=16,
        worker_send_task_events=False,
        task_default_queue="plain" if plain else "claimed",
    )
    app.task(name=TASK)(noop)
    if not plain:
        from stepwell.workers.hook import install

        install(app)
    return app
