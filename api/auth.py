"""Who may ask: the Host and Origin check of an open server, bearer keys, SigV4 signatures, and what may be bound to.

An open server (no key configured) answers everybody who reaches it under a name that is its own, so that a web page cannot
reach it by way of a rebound DNS name. As soon as a key is configured, every request must show one. It must not know what is asked.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

from stepwell.engine.clock import Clock
from stepwell.engine.errors import ConfigurationError
from stepwell.engine.service.api_keys import ApiKeys
from stepwell.engine.service.refusals import ErrorCode, ServiceError

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
SYNC_PREFIX: Final = "sync-"
"""boto3 puts this before the host for StartSyncExecution and TestState."""
ALGORITHM: Final = "AWS4-HMAC-SHA256"
_MAX_SKEW_SECONDS: Final = 900
_KEY_CACHE_MS: Final = 5_000
_KEY_CACHE_SIZE: Final = 10_000

_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=(?P<key>[^/,\s]{1,128})/(?P<date>\d{8})/(?P<region>[A-Za-z0-9-]{1,64})"
    r"/(?P<service>[a-z0-9-]{1,64})/aws4_request,\s*SignedHeaders=(?P<headers>[a-z0-9;._-]+),\s*Signature=(?P<signature>[0-9a-f]{64})"
)


def check_bind(host: str, has_keys: bool) -> None:
    """Refuse to serve other machines without asking for a key. Raises `ConfigurationError`."""
    if has_keys or is_loopback(host):
        return
    raise ConfigurationError(
        f"Refusing to listen on {host!r}: other machines could reach the server, and no API key is configured."
        " Make one with `stepwell keys create`, or listen on 127.0.0.1."
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what is bound to `host`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Credential(NamedTuple):
    """The parts of a SigV4 `Authorization` header."""

    key: str
    date: str
    region: str
    service: str
    headers: str
    signature: str


def parse_credential(authorization: str | None) -> Credential | None:
    """Read a SigV4 header; None if it is none."""
    match = _AUTHORIZATION.fullmatch(authorization.strip()) if authorization else None
    return Credential(*match.groups()) if match else None


class HostGuard:
    """Which Host and Origin an open server answers to."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = LOOPBACK_NAMES | {name.lower() for name in names}
        self._known: set[tuple[bytes | None, bytes | None]] = set()

    def check(self, headers: dict[bytes, bytes]) -> None:
        """Raise AccessDenied for a request that a foreign web page may have sent."""
        host, origin = headers.get(b"host"), headers.get(b"origin")
        if (host, origin) in self._known:
            return
        if host is None or not self._ours(host.decode("latin-1")):
            shown = "absent" if host is None else repr(host.decode("latin-1")[:128])
            raise _denied(f"The Host header is {shown}; add the name to STEPWELL_ALLOWED_HOSTS to serve it")
        if origin is not None and not self._ours(urlsplit(origin.decode("latin-1")).netloc):
            raise _denied("Requests of web pages from another origin are refused")
        if len(self._known) < 1_000:
            self._known.add((host, origin))

    def _ours(self, host: str) -> bool:
        name = host.lower()
        bare = name if name.endswith("]") else name.rsplit(":", 1)[0] if ":" in name else name
        return bare in self._names or bare.removeprefix(SYNC_PREFIX) in self._names


class Authenticator:
    """Finds out who asks. Answers of the key store are kept for a few seconds, so that a request costs no query."""

    def __init__(self, keys: ApiKeys, clock: Clock, *, never_open: bool = False) -> None:
        self._keys = keys
        self._clock = clock
        self._never_open = never_open
        self._required: tuple[int, bool] = (0, True)
        self._bearers: dict[bytes, tuple[int, str | None]] = {}
        self._pairs: dict[str, tuple[int, str | None]] = {}
        self._signing_keys: dict[tuple[str, Credential], bytes] = {}

    async def required(self) -> bool:
        """Whether each request must show a key: one is configured, or the server is never open."""
        if self._never_open:
            return True
        now = self._clock.now_ms()
        if self._required[0] <= now:
            self._required = (now + _KEY_CACHE_MS, await self._keys.any())
        return self._required[1]

    async def bearer(self, authorization: str | None) -> str | None:
        """The id of the bearer key that is shown; None if the header is none of that kind. Raises for a wrong key."""
        if authorization is None or authorization[:7].lower() != "bearer ":
            return None
        secret = authorization[7:].strip()
        digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
        now = self._clock.now_ms()
        cached = self._bearers.get(digest)
        if cached is None or cached[0] <= now:
            record = await self._keys.bearer(secret)
            good = record is not None and hmac.compare_digest(record.hash, digest)
            cached = (now + _KEY_CACHE_MS, record.id if good and record is not None else None)
            if len(self._bearers) >= _KEY_CACHE_SIZE:
                self._bearers.clear()
            self._bearers[digest] = cached
        if cached[1] is None:
            raise ServiceError(ErrorCode.UNRECOGNIZED_CLIENT, "The API key in the Authorization header is not valid")
        return cached[1]

    async def signature(
        self,
        credential: Credential,
        *,
        method: str,
        raw_path: str,
        query: str,
        headers: dict[bytes, bytes],
        body: bytes,
    ) -> str:
        """The access key id whose secret signed this request. Raises for a wrong, old or missing signature."""
        secret = await self._secret(credential.key)
        if secret is None:
            raise ServiceError(ErrorCode.UNRECOGNIZED_CLIENT, "The security token included in the request is invalid.")
        date = headers.get(b"x-amz-date", b"").decode("latin-1")
        self._check_date(date, credential)
        expected = sign(
            credential, secret, date, method=method, raw_path=raw_path, query=query, headers=headers, body=body
        )
        if not hmac.compare_digest(expected, credential.signature):
            raise ServiceError(
                ErrorCode.INVALID_SIGNATURE,
                "The request signature we calculated does not match the signature you provided."
                " Check your AWS Secret Access Key and signing method.",
            )
        return credential.key

    async def _secret(self, key: str) -> str | None:
        now = self._clock.now_ms()
        cached = self._pairs.get(key)
        if cached is None or cached[0] <= now:
            cached = (now + _KEY_CACHE_MS, await self._keys.pair_secret(key))
            if len(self._pairs) >= _KEY_CACHE_SIZE:
                self._pairs.clear()
            self._pairs[key] = cached
        return cached[1]

    def _check_date(self, text: str, credential: Credential) -> None:
        try:
            date = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            raise ServiceError(ErrorCode.INVALID_SIGNATURE, "The header X-Amz-Date is missing or malformed") from None
        skew = abs(self._clock.now_ms() / 1000 - date.timestamp())
        signed = credential.headers.split(";")
        if skew > _MAX_SKEW_SECONDS or not text.startswith(credential.date):
            raise ServiceError(
                ErrorCode.INVALID_SIGNATURE, f"Signature expired: {text} is too far from the server's time"
            )
        if "host" not in signed or "x-amz-date" not in signed:
            raise ServiceError(ErrorCode.INVALID_SIGNATURE, "'Host' and 'X-Amz-Date' must be signed headers")


def sign(
    credential: Credential,
    secret: str,
    date: str,
    *,
    method: str,
    raw_path: str,
    query: str,
    headers: dict[bytes, bytes],
    body: bytes,
) -> str:
    """The signature a request must have (AWS Signature Version 4)."""
    names = credential.headers.split(";")
    canonical_headers = "".join(
        f"{name}:{' '.join(headers.get(name.encode(), b'').decode('latin-1').split())}\n" for name in names
    )
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(query, keep_blank_values=True)
    )
    canonical = "\n".join(
        (
            method,
            quote(raw_path or "/", safe="/-_.~"),
            "&".join(f"{name}={value}" for name, value in pairs),
            canonical_headers,
            credential.headers,
            hashlib.sha256(body).hexdigest(),
        )
    )
    scope = f"{credential.date}/{credential.region}/{credential.service}/aws4_request"
    text = "\n".join((ALGORITHM, date, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = ("AWS4" + secret).encode()
    for part in (credential.date, credential.region, credential.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def _denied(message: str) -> ServiceError:
    return ServiceError(ErrorCode.ACCESS_DENIED, message)
