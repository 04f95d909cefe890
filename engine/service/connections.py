"""Connections: how HTTP Tasks authenticate to an API. Secrets go in sealed and never come out here. Knows no HTTP."""

from __future__ import annotations

from stepwell.engine import auth_parameters
from stepwell.engine.clock import Clock, Entropy, SeedSource
from stepwell.engine.errors import ConfigurationError
from stepwell.engine.ports import ConnectionRecord, ConnectionStore, Page
from stepwell.engine.secretbox import SecretBox
from stepwell.engine.service import checks, paging, refusals
from stepwell.engine.service.context import RequestContext


class Connections:
    """The use-cases of connections."""

    def __init__(self, store: ConnectionStore, clock: Clock, seeds: SeedSource, box: SecretBox) -> None:
        self._store = store
        self._clock = clock
        self._seeds = seeds
        self._box = box

    async def put(
        self, context: RequestContext, name: str, auth: str | None, parameters: bytes
    ) -> tuple[ConnectionRecord, bool]:
        """Make a connection, or change one (its ARN stays); whether it is new.

        `parameters` is the text of EventBridge's AuthParameters, `auth` its AuthorizationType (None: as they say).
        """
        checks.name_of(name)
        try:
            parsed = auth_parameters.parse(parameters, auth)
        except ConfigurationError as error:
            raise refusals.invalid(str(error), pointer="/authParameters") from None
        existing = await self._store.get(name)
        if existing is None:
            uuid = Entropy(self._seeds.seed()).uuid4()
            arn = f"arn:{context.partition}:events:{context.region}:{context.account}:connection/{name}/{uuid}"
            created_at = self._clock.now_ms()
        else:
            arn, created_at = existing.arn, existing.created_at
        secret = parsed.seal(self._box, name)
        record = ConnectionRecord(arn, name, parsed.type.value, parsed.public(), secret, created_at)
        await self._store.put(record)
        return record, existing is None

    async def get(self, name_or_arn: str) -> ConnectionRecord:
        """The connection of this name or ARN."""
        record = None if "\x00" in name_or_arn else await self._store.get(name_or_arn)
        if record is None:
            raise refusals.not_found("Connection", name_or_arn)
        return record

    async def list(self, max_results: int | None = None, token: str | None = None) -> Page[ConnectionRecord]:
        """Connections; the page's `next` is a token."""
        now = self._clock.now_ms()
        page = await self._store.list(paging.page_size(max_results), paging.read_token("connections", token, now))
        return Page(page.items, paging.make_token("connections", page.next, now))

    async def delete(self, name: str) -> None:
        """Remove a connection and its secret."""
        if "\x00" in name or not await self._store.delete(name):
            raise refusals.not_found("Connection", name)
