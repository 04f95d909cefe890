"""Stepwell: durable Step Functions on your own Postgres."""

__version__ = "0.1.0"
