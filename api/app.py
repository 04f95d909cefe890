"""The application that is served, put together: use-cases in, one ASGI callable out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stepwell.api.auth import Authenticator, HostGuard
from stepwell.api.front import Front
from stepwell.api.rest.application import create_rest
from stepwell.engine import limits
from stepwell.engine.service.services import Services
from stepwell.engine.telemetry import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """What the API can be told. `allowed_hosts`: names an open server answers to beside those of the loopback.

    `never_open`: a key is asked for even when the last one was revoked, because other machines reach the server.
    """

    allowed_hosts: Sequence[str] = ()
    never_open: bool = False
    max_body_bytes: int = 2 * limits.MAX_REQUEST_BYTES
    """Above AWS's megabyte for a request: its JSON may escape every character of a definition."""


def create_app(services: Services, settings: ApiSettings | None = None, *, metrics: Metrics | None = None) -> Front:
    """The ASGI application over these use-cases. `metrics` is what the process counts with, shown at /metrics."""
    settings = settings or ApiSettings()
    metrics = metrics or Metrics()
    return Front(
        services,
        create_rest(services, metrics),
        guard=HostGuard(settings.allowed_hosts),
        authenticator=Authenticator(services.api_keys, services.clock, never_open=settings.never_open),
        metrics=metrics,
        max_body_bytes=settings.max_body_bytes,
    )
