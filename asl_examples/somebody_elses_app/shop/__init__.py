"""A web shop that has used Celery for years."""
