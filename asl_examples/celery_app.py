"""The Celery app of the examples: Stepwell's own, with the examples' tasks. `stepwell worker` runs it, or `celery -A asl_examples.celery_app worker`."""

from __future__ import annotations

from stepwell.workers.app import app

app.conf.imports = (
    "asl_examples.order_processing.tasks",
    "asl_examples.parallel_enrichment.tasks",
    "asl_examples.somebody_elses_app.with_our_worker",
)
