"""The Celery side: the `@task` decorator, claiming and reporting. Knows the engine's messages alone."""
