"""API keys: bearer keys and SigV4 key pairs. A secret is shown once, when it is made. It must not know HTTP."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from stepwell.engine.clock import Clock
from stepwell.engine.ports import ApiKeyRecord, ApiKeyStore
from stepwell.engine.secretbox import SecretBox
from stepwell.engine.service import refusals

BEARER_PREFIX = "swk_"


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key that was just made. `secret` is shown to its owner now and never again."""

    record: ApiKeyRecord
    secret: str = field(repr=False)


class ApiKeys:
    """The use-cases of API keys. `random_bytes` is a source of true chance."""

    def __init__(self, store: ApiKeyStore, clock: Clock, box: SecretBox, random_bytes: Callable[[int], bytes]) -> None:
        self._store = store
        self._clock = clock
        self._box = box
        self._random_bytes = random_bytes
        self._own: NewApiKey | None = None

    def own_bearer(self) -> str:
        """A bearer key for what this process starts itself. It is kept nowhere and opens this process alone."""
        if self._own is None:
            self._own = self._new_bearer("own")
        return self._own.secret

    async def create_bearer(self, name: str) -> NewApiKey:
        """Make a bearer key. Only its hash is kept."""
        key = self._new_bearer(_key_name(name))
        await self._store.put(key.record)
        return key

    def _new_bearer(self, name: str) -> NewApiKey:
        secret = BEARER_PREFIX + base64.urlsafe_b64encode(self._random_bytes(30)).decode()
        id = self._random_bytes(8).hex()
        return NewApiKey(ApiKeyRecord(id, name, hash=hash_of(secret), created_at=self._clock.now_ms()), secret)

    async def create_pair(self, name: str) -> NewApiKey:
        """Make an access key id and secret access key for AWS clients. The secret is kept encrypted."""
        id = "SWAK" + base64.b32encode(self._random_bytes(10)).decode()
        secret = base64.b64encode(self._random_bytes(30)).decode()
        encrypted = self._box.encrypt(secret.encode(), key_context(id))
        record = ApiKeyRecord(id, _key_name(name), secret=encrypted, created_at=self._clock.now_ms())
        await self._store.put(record)
        return NewApiKey(record, secret)

    async def bearer(self, secret: str) -> ApiKeyRecord | None:
        """The record of a bearer key that was shown; None if there is none. Looked up by hash, so timing tells nothing."""
        hashed = hash_of(secret)
        if self._own is not None and self._own.record.hash == hashed:
            return self._own.record
        return await self._store.by_hash(hashed)

    async def pair_secret(self, id: str) -> str | None:
        """The secret access key of an access key id, to verify a signature with."""
        record = None if "\x00" in id else await self._store.by_id(id)
        if record is None or not record.secret:
            return None
        return self._box.decrypt(record.secret, key_context(record.id)).decode()

    async def list(self) -> Sequence[ApiKeyRecord]:
        """All keys, without secrets."""
        return await self._store.list()

    async def any(self) -> bool:
        """Whether any key is configured: then requests must show one."""
        return bool(await self._store.list())

    async def delete(self, id: str) -> None:
        """Revoke a key."""
        if "\x00" in id or not await self._store.delete(id):
            raise refusals.not_found("API Key", id)


def hash_of(secret: str) -> bytes:
    """What is kept of a bearer key. It has 240 random bits, so a plain hash is enough."""
    return hashlib.sha256(secret.encode()).digest()


def key_context(id: str) -> str:
    """What the secret of a key pair is bound to."""
    return f"api-key/{id}"


def _key_name(name: str) -> str:
    if not 1 <= len(name) <= 80 or "\x00" in name:
        raise refusals.invalid("The name of a key has 1 to 80 characters", pointer="/name")
    return name
